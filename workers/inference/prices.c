#include "workers/inference/prices.h"

#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/base/mem.h"

static const double price_max = 1e6, million = 1e6;

struct price {
    char *pattern;
    double prompt, completion; /* of a million tokens */
};

static struct price *prices;
static size_t count;

static bool is_price(double price)
{
    return price >= 0 && price <= price_max && isfinite(price);
}

static int take(const char *pattern, json_t *value, struct err *e)
{
    struct price *p = &prices[count];
    json_error_t at;

    if (!*pattern)
        return err_set(e, ERR_FATAL, 500, "MODEL_PRICES has a price for no model");
    if (json_unpack_ex(value, &at, 0, "{s:F, s:F!}", "prompt", &p->prompt, "completion",
                       &p->completion))
        return err_set(e, ERR_FATAL, 500, "MODEL_PRICES: the price of %.60s: %.100s", pattern,
                       at.text);
    if (!is_price(p->prompt) || !is_price(p->completion))
        return err_set(e, ERR_FATAL, 500,
                       "MODEL_PRICES: the price of %.60s must be between 0 and %.0f", pattern,
                       price_max);
    p->pattern = mem_strdup(pattern);
    count++;
    return 0;
}

static int take_all(json_t *table, struct err *e)
{
    const char *pattern;
    json_t *value;

    if (!json_is_object(table))
        return err_set(e, ERR_FATAL, 500, "MODEL_PRICES must be a JSON object");
    prices = mem_alloc((json_object_size(table) + 1) * sizeof(*prices));
    json_object_foreach (table, pattern, value)
        if (take(pattern, value, e))
            return -1;
    return 0;
}

int prices_start(const char *text, struct err *e)
{
    json_error_t at;
    json_t *table;
    int failed;

    if (!*text)
        return 0;
    table = json_loads(text, JSON_REJECT_DUPLICATES, &at);
    if (!table)
        return err_set(e, ERR_FATAL, 500, "MODEL_PRICES cannot be read: %.150s (line %d)", at.text,
                       at.line);
    failed = take_all(table, e);
    json_decref(table);
    if (failed)
        prices_stop();
    return failed;
}

void prices_stop(void)
{
    while (count > 0)
        free(prices[--count].pattern);
    free(prices);
    prices = NULL;
}

static const struct price *find(const char *name)
{
    const struct price *best = NULL;
    size_t i;

    for (i = 0; i < count; i++)
        if (fnmatch(prices[i].pattern, name, 0) == 0 &&
            (!best || strlen(prices[i].pattern) > strlen(best->pattern)))
            best = &prices[i];
    return best;
}

bool prices_know(const char *name)
{
    return find(name) != NULL;
}

bool prices_of(const char *name, long prompt_tokens, long completion_tokens, double *cost)
{
    const struct price *p = find(name);

    if (!p)
        return false;
    *cost =
        ((double)prompt_tokens * p->prompt + (double)completion_tokens * p->completion) / million;
    return true;
}
