#include "common/chat/calibration.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    LEAST_TOKENS = 20,     /* below, a model's own frame weighs too much */
    PROMPTS_MAX = 1000000, /* that are counted */
    MATURE_PROMPTS = 1000, /* more do not count for more */
    SILENT_MS = 3600000,
};

static const double weight_least = 0.25, weight_most = 1.25;
static const double symbol_least = 0.75; /* since one emoji takes one token, another four */
static const double margin = 1.05;       /* over the count: prompts of one kind differ */
static const double down = 0.03;         /* of the way; up it goes all of it */
static const double ratio_most = 3;      /* of count and estimate, either way */

static const char *const names[TOKEN_CLASSES] = {
    [TOKENS_WORDS] = "words",     [TOKENS_PIECES] = "pieces",         [TOKENS_NUMBERS] = "numbers",
    [TOKENS_DIGITS] = "digits",   [TOKENS_MARKS] = "marks",           [TOKENS_BLANKS] = "blanks",
    [TOKENS_LETTERS] = "letters", [TOKENS_IDEOGRAPHS] = "ideographs", [TOKENS_SYMBOLS] = "symbols",
    [TOKENS_FRAME] = "frame",
};

void calibration_init(struct calibration *c)
{
    int i;

    c->prompts = 0;
    for (i = 0; i < TOKEN_CLASSES; i++)
        c->weights[i] = 1;
}

/* In tokens. A class may be a little below nothing, where marks join the words behind them. */
static double weigh(const struct calibration *c, const struct token_counts *counts)
{
    double sum = 0;
    int i;

    for (i = 0; i < TOKEN_CLASSES; i++)
        sum += (c ? c->weights[i] : 1) * (double)counts->cost[i] / TOKEN_COST;
    return sum > 0 ? sum : 0;
}

size_t calibration_estimate(const struct calibration *c, const struct token_counts *counts)
{
    return (size_t)ceil(weigh(c, counts) - 1e-9);
}

static double bounded(int kind, double weight)
{
    double least = kind == TOKENS_SYMBOLS ? symbol_least : weight_least;

    return weight < least ? least : weight > weight_most ? weight_most : weight;
}

void calibration_learn(struct calibration *c, const struct token_counts *counts, long tokens)
{
    double estimate = weigh(c, counts), missing = (double)tokens * margin - estimate;
    double squares = 0, step;
    int i;

    if (tokens < LEAST_TOKENS || estimate > (double)tokens * ratio_most ||
        (double)tokens > estimate * ratio_most)
        return;
    for (i = 0; i < TOKEN_CLASSES; i++)
        squares += (double)counts->cost[i] / TOKEN_COST * ((double)counts->cost[i] / TOKEN_COST);
    step = (missing > 0 ? 1 : down) * missing / squares;
    for (i = 0; i < TOKEN_CLASSES; i++)
        c->weights[i] = bounded(i, c->weights[i] + step * (double)counts->cost[i] / TOKEN_COST);
    if (c->prompts < PROMPTS_MAX)
        c->prompts++;
}

/* The place of a source: its own, a new one, or that of the one that was silent for longest. */
static size_t place_of(struct calibration_pool *pool, const char *source)
{
    size_t i, oldest = 0;

    for (i = 0; i < pool->count; i++) {
        if (strcmp(pool->all[i].source, source) == 0)
            return i;
        if (pool->all[i].heard_ms < pool->all[oldest].heard_ms)
            oldest = i;
    }
    return pool->count < CALIBRATION_SOURCES ? pool->count++ : oldest;
}

static void forget_silent(struct calibration_pool *pool, int64_t now_ms)
{
    size_t i;

    for (i = pool->count; i > 0; i--)
        if (now_ms - pool->all[i - 1].heard_ms > SILENT_MS)
            pool->all[i - 1] = pool->all[--pool->count];
}

static long weight_of(const struct calibration *c)
{
    return c->prompts < MATURE_PROMPTS ? c->prompts : MATURE_PROMPTS;
}

void calibration_hear(struct calibration_pool *pool, const char *source,
                      const struct calibration *heard, int64_t now_ms, struct calibration *mean)
{
    size_t at, i;
    long sum = 0;
    int kind;

    forget_silent(pool, now_ms);
    at = place_of(pool, source);
    snprintf(pool->all[at].source, CALIBRATION_SOURCE_MAX, "%s", source);
    pool->all[at].learnt = *heard;
    pool->all[at].heard_ms = now_ms;
    *mean = (struct calibration){.prompts = 0};
    for (i = 0; i < pool->count; i++) {
        const struct calibration *one = &pool->all[i].learnt;

        sum += weight_of(one);
        mean->prompts += one->prompts;
        for (kind = 0; kind < TOKEN_CLASSES; kind++)
            mean->weights[kind] += (double)weight_of(one) * one->weights[kind];
    }
    for (kind = 0; kind < TOKEN_CLASSES; kind++)
        mean->weights[kind] /= (double)sum;
}

json_t *calibration_tell(const struct calibration *c, const char *source, const char *model)
{
    json_t *weights = json_object();
    int i;

    for (i = 0; i < TOKEN_CLASSES; i++)
        json_object_set_new(weights, names[i], json_real(c->weights[i]));
    return json_pack("{s:s, s:s, s:I, s:o}", "source", source, "model", model, "prompts",
                     (json_int_t)c->prompts, "weights", weights);
}

int calibration_read(struct calibration *c, const char **source, const char **model,
                     const json_t *body, struct err *e)
{
    const json_t *weights = json_object_get(body, "weights");
    json_int_t prompts = json_integer_value(json_object_get(body, "prompts"));
    int i;

    *source = json_string_value(json_object_get(body, "source"));
    *model = json_string_value(json_object_get(body, "model"));
    if (!*source || !*model || prompts < 1 || prompts > PROMPTS_MAX)
        return err_set(e, ERR_REJECT, 400, "a calibration without source, model or prompts");
    for (i = 0; i < TOKEN_CLASSES; i++) {
        const json_t *weight = json_object_get(weights, names[i]);
        double w = json_number_value(weight);

        if (!json_is_number(weight) || !(w >= weight_least && w <= weight_most))
            return err_set(e, ERR_REJECT, 400, "a calibration whose weight of %s is out of bounds",
                           names[i]);
        c->weights[i] = w;
    }
    c->prompts = (long)prompts;
    return 0;
}
