#include "workers/inference/completion.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/base/text.h"

enum {
    TOKENS_MAX = 1000000000,
    COST_MAX = 1000000, /* for one request: what asks more is no price */
};

static const char replacement[] = "\xef\xbf\xbd";

/* ---- JSON that is not quite right ---- */

/* The code unit of a \u escape at s, of which n bytes are there; -1 if it is none. */
static long escape_at(const char *s, size_t n)
{
    char digits[5] = "";
    char *end;
    long unit;

    if (n < 6 || s[0] != '\\' || s[1] != 'u')
        return -1;
    memcpy(digits, s + 2, 4);
    unit = strtol(digits, &end, 16);
    return end == digits + 4 ? unit : -1;
}

/* Bytes of the escape at s: 2 for \n and the like, 6 or 12 for \u; 0 for half of a pair. */
static size_t escape_length(const char *s, size_t n)
{
    long first = escape_at(s, n), second;

    if (first < 0)
        return n < 2 ? n : 2;
    if (first < 0xd800 || first > 0xdfff)
        return 6;
    second = escape_at(s + 6, n - 6);
    return first < 0xdc00 && second >= 0xdc00 && second <= 0xdfff ? 12 : 0;
}

/* Bytes of the number or word at s; 0: there is none. */
static size_t token_length(const char *s, size_t n)
{
    size_t len = 0;

    while (len < n &&
           (isalnum((unsigned char)s[len]) || s[len] == '+' || s[len] == '-' || s[len] == '.'))
        len++;
    return len;
}

static bool is_value(const char *token, size_t n)
{
    json_t *value = json_loadb(token, n, JSON_DECODE_ANY, NULL);

    json_decref(value);
    return value != NULL;
}

/* Put U+FFFD for what no reader of JSON takes in texts, and null for numbers that are none. */
static void mend(const char *s, size_t n, struct buf *out)
{
    size_t at = 0, step;
    bool quoted = false;

    while (at < n) {
        if (!quoted && (step = token_length(s + at, n - at)) > 0) {
            bool is_good = is_value(s + at, step);

            buf_add(out, is_good ? s + at : "null", is_good ? step : 4);
            at += step;
            continue;
        }
        quoted ^= s[at] == '"';
        if (s[at] == '\\') {
            step = escape_length(s + at, n - at);
            buf_add(out, step ? s + at : replacement, step ? step : 3);
            at += step ? step : 6;
            continue;
        }
        step = text_utf8_char(s + at, n - at);
        buf_add(out, step ? s + at : replacement, step ? step : 3);
        at += step ? step : 1;
    }
}

static json_t *parse(const char *bytes, size_t n)
{
    json_t *json = json_loadb(bytes, n, JSON_ALLOW_NUL, NULL);
    struct buf mended;

    if (json || n == 0)
        return json;
    buf_init(&mended, n * 4);
    mend(bytes, n, &mended);
    json = json_loadb(mended.data, mended.len, JSON_ALLOW_NUL, NULL);
    buf_free(&mended);
    return json;
}

/* ---- its fields ---- */

/* Each of these takes NULL for a value that is not there. */

static const char *text_or_null(const json_t *value)
{
    const char *s = json_string_value(value);

    return s && *s ? s : NULL;
}

static long count_of(const json_t *value)
{
    double n = json_number_value(value); /* 0 for what is no number */

    if (n > TOKENS_MAX)
        return TOKENS_MAX;
    return n > 0 ? (long)n : 0;
}

static void set_text(struct completion *c, const json_t *string)
{
    if (!json_string_length(string))
        return;
    c->text = json_string_value(string);
    c->text_len = json_string_length(string);
}

/* Some servers give a list of parts. */
static void join_parts(struct completion *c, const json_t *parts)
{
    const json_t *part, *text;
    size_t i, n = 0;

    json_array_foreach (parts, i, part)
        n += json_string_length(json_object_get(part, "text"));
    if (n == 0)
        return;
    c->owned = mem_alloc(n + 1);
    c->text = c->owned;
    json_array_foreach (parts, i, part) {
        text = json_object_get(part, "text");
        if (!json_is_string(text))
            continue;
        memcpy(c->owned + c->text_len, json_string_value(text), json_string_length(text));
        c->text_len += json_string_length(text);
    }
}

/* The message of a whole completion, the delta of a chunk. */
static void read_message(struct completion *c, json_t *message)
{
    json_t *content = NULL, *refusal = NULL, *reasoning = NULL, *reasoning_content = NULL;

    json_unpack(message, "{s?o, s?o, s?o, s?o}", "content", &content, "refusal", &refusal,
                "reasoning", &reasoning, "reasoning_content", &reasoning_content);
    set_text(c, content);
    if (json_is_array(content))
        join_parts(c, content);
    if (!c->text)
        set_text(c, refusal); /* the model's words, too */
    c->thinks = json_string_length(reasoning) > 0 || json_string_length(reasoning_content) > 0;
}

/* The names that servers give their errors, where they give no status. */
static int status_of_name(const char *name)
{
    static const struct {
        const char *name;
        int status;
    } names[] = {
        {"rate_limit_exceeded", 429},     {"insufficient_quota", 402},
        {"payment_required", 402},        {"provider_overloaded", 503},
        {"overloaded_error", 503},        {"unavailable_error", 503},
        {"provider_unavailable", 502},    {"timeout", 504},
        {"context_length_exceeded", 400}, {"exceed_context_size_error", 400},
        {"invalid_request_error", 400},   {"authentication_error", 401},
        {"permission_error", 403},        {"not_found_error", 404},
    };
    size_t i;

    for (i = 0; name && i < sizeof(names) / sizeof(names[0]); i++)
        if (strcasecmp(names[i].name, name) == 0)
            return names[i].status;
    return 0;
}

/* A status as number or as text, or one of the names. */
static int status_of(const json_t *code)
{
    const char *text = json_string_value(code);
    double n = text ? strtod(text, NULL) : json_number_value(code);

    if (n >= 100 && n < 600)
        return (int)n;
    return status_of_name(text);
}

/* OpenRouter tells an account's limits as headers within the error. */
static void read_limits(struct completion *c, json_t *metadata)
{
    json_t *left = NULL, *reset = NULL;

    json_unpack(metadata, "{s:{s?o, s?o}}", "headers", "X-RateLimit-Remaining", &left,
                "X-RateLimit-Reset", &reset);
    c->limit_left = text_or_null(left);
    c->limit_reset = text_or_null(reset);
}

static void read_error(struct completion *c, json_t *error)
{
    json_t *message = NULL, *code = NULL, *type = NULL, *metadata = NULL;

    if (!error || json_is_null(error))
        return;
    c->failed = true;
    if (json_is_string(error)) {
        c->error = text_or_null(error);
        return;
    }
    json_unpack(error, "{s?o, s?o, s?o, s?o}", "message", &message, "code", &code, "type", &type,
                "metadata", &metadata);
    c->error = text_or_null(message);
    read_limits(c, metadata);
    c->error_status = status_of(code);
    if (!c->error_status)
        c->error_status = status_of(json_object_get(metadata, "error_type"));
    if (!c->error_status)
        c->error_status = status_of(type);
}

static void read_choice(struct completion *c, json_t *choice)
{
    json_t *message = NULL, *delta = NULL, *finish_reason = NULL, *error = NULL;

    json_unpack(choice, "{s?o, s?o, s?o, s?o}", "message", &message, "delta", &delta,
                "finish_reason", &finish_reason, "error", &error);
    read_message(c, delta ? delta : message);
    c->finish_reason = text_or_null(finish_reason);
    read_error(c, error);
    if (c->finish_reason && strcmp(c->finish_reason, "error") == 0)
        c->failed = true;
}

static bool is_count(const json_t *value)
{
    return json_is_number(value) && json_number_value(value) >= 0;
}

static void read_usage(struct completion *c, json_t *usage)
{
    json_t *prompt = NULL, *completion = NULL, *total = NULL, *cost = NULL;
    double price;

    json_unpack(usage, "{s?o, s?o, s?o, s?o}", "prompt_tokens", &prompt, "completion_tokens",
                &completion, "total_tokens", &total, "cost", &cost);
    c->has_usage = is_count(prompt) && is_count(completion);
    c->prompt_tokens = count_of(prompt);
    c->completion_tokens = count_of(completion);
    c->total_tokens = count_of(total);
    price = json_number_value(cost);
    c->has_cost = json_is_number(cost) && price >= 0 && price < COST_MAX;
    c->cost = c->has_cost ? price : 0;
}

int completion_read(struct completion *c, const char *bytes, size_t n)
{
    json_t *id = NULL, *model = NULL, *choices = NULL, *usage = NULL, *error = NULL;
    json_t *message = NULL, *detail = NULL;

    memset(c, 0, sizeof(*c));
    c->json = parse(bytes, n);
    if (json_unpack(c->json, "{s?o, s?o, s?o, s?o, s?o, s?o, s?o}", "id", &id, "model", &model,
                    "choices", &choices, "usage", &usage, "error", &error, "message", &message,
                    "detail", &detail)) {
        completion_fini(c);
        return -1;
    }
    c->id = text_or_null(id);
    c->model = text_or_null(model);
    c->choices = json_array_size(choices);
    if (c->choices > 0)
        read_choice(c, json_array_get(choices, 0));
    read_usage(c, usage);
    read_error(c, error);
    if (!c->error) /* other servers' shapes */
        c->error = text_or_null(message) ? text_or_null(message) : text_or_null(detail);
    return 0;
}

void completion_fini(struct completion *c)
{
    json_decref(c->json);
    free(c->owned);
    memset(c, 0, sizeof(*c));
}
