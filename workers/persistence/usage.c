/* What answers took and cost: of a user by time, of a conversation, and both by model. */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/rows.h"

enum { MODELS_MAX = 100 }; /* in an answer: servers name their models as they like */

/* What a row sums up: bits for what it is not grouped by, as grouping() has them, of the time, the
 * model, and whether it was free. */
enum kind { OF_ALL = 7, OF_MODEL = 5, OF_PRICE = 4, OF_TIME = 3 };
#define KIND_OF_TIME "3"

/* What is summed up are answers; what other requests took stands beside. */
#define ANSWERS "FILTER (WHERE u.turn_id IS NULL)"
#define OTHERS  "FILTER (WHERE u.turn_id IS NOT NULL)"

/* Of chat.usage_tracking AS u, and under these names of what comes of it AS s. */
#define SUMS                                                                                       \
    "u.model_used AS model, u.is_free_model AS free, count(*) " ANSWERS " AS messages, "           \
    "count(*) FILTER (WHERE u.turn_id IS NULL AND u.is_free_model) AS free_messages, "             \
    "sum(u.prompt_tokens) " ANSWERS " AS prompt_tokens, "                                          \
    "sum(u.completion_tokens) " ANSWERS " AS completion_tokens, "                                  \
    "sum(u.total_tokens) " ANSWERS " AS total_tokens, sum(u.cost_credits) " ANSWERS " AS cost, "   \
    "count(*) FILTER (WHERE u.turn_id IS NULL AND NOT u.cost_known) AS unknown, "                  \
    "count(*) " OTHERS " AS others, sum(u.prompt_tokens) " OTHERS " AS other_prompt, "             \
    "sum(u.completion_tokens) " OTHERS " AS other_completion, "                                    \
    "sum(u.total_tokens) " OTHERS " AS other_total, sum(u.cost_credits) " OTHERS                   \
    " AS other_cost, "                                                                             \
    "count(*) FILTER (WHERE u.turn_id IS NOT NULL AND NOT u.cost_known) AS other_unknown "
#define SUM_COLUMNS                                                                                \
    "s.model, s.free, s.messages, s.free_messages, s.prompt_tokens, s.completion_tokens, "         \
    "s.total_tokens, s.cost, s.unknown, s.others, s.other_prompt, s.other_completion, "            \
    "s.other_total, s.other_cost, s.other_unknown"
/* Of others alone there is no group; there is always one of all. */
#define WITH_ANSWERS                                                                               \
    " HAVING count(*) " ANSWERS " > 0 OR grouping(u.model_used, u.is_free_model) = 3 "
#define DEAREST_FIRST "cost DESC, total_tokens DESC, model"
enum { KIND, MODEL, FREE, MESSAGES, FREE_MESSAGES, PROMPT, COMPLETION, TOTAL, COST, UNKNOWN };
enum { OTHERS_FIRST = UNKNOWN + 1, OTHERS_COST = OTHERS_FIRST + 4, OTHERS_UNKNOWN };

/* ---- rows as JSON ---- */

static bool is_of(const struct pg_segment *s, int statement, int row, enum kind kind)
{
    return pg_integer(s, statement, row, KIND) == (int)kind;
}

/* Into an object; cost: what its cost is called there. */
static void put_sum(json_t *into, const struct pg_segment *s, int statement, int row,
                    const char *cost)
{
    json_object_set_new(into, "messages_count", row_integer(s, statement, row, MESSAGES));
    if (!is_of(s, statement, row, OF_PRICE)) /* of which all messages are free, or none */
        json_object_set_new(into, "free_messages_count",
                            row_integer(s, statement, row, FREE_MESSAGES));
    json_object_set_new(into, "prompt_tokens", row_integer(s, statement, row, PROMPT));
    json_object_set_new(into, "completion_tokens", row_integer(s, statement, row, COMPLETION));
    json_object_set_new(into, "total_tokens", row_integer(s, statement, row, TOTAL));
    json_object_set_new(into, cost, row_number(s, statement, row, COST));
    json_object_set_new(into, "unknown_cost_count", row_integer(s, statement, row, UNKNOWN));
}

/* What was asked of providers and came to no saved answer. */
static json_t *others(const struct pg_segment *s, int statement, int row)
{
    static const char *const names[] = {"requests_count", "prompt_tokens", "completion_tokens",
                                        "total_tokens"};
    json_t *sum = json_object();
    size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        json_object_set_new(sum, names[i], row_integer(s, statement, row, OTHERS_FIRST + (int)i));
    json_object_set_new(sum, "cost", row_number(s, statement, row, OTHERS_COST));
    json_object_set_new(sum, "unknown_cost_count", row_integer(s, statement, row, OTHERS_UNKNOWN));
    return sum;
}

/* A list, the dearest first. */
static json_t *breakdown(const struct pg_segment *s, int statement)
{
    json_t *list = json_array(), *one;
    int n = pg_rows(s, statement), i;

    for (i = 0; i < n && json_array_size(list) < MODELS_MAX; i++) {
        if (!is_of(s, statement, i, OF_PRICE))
            continue;
        one = json_pack("{s:o, s:o}", "model", row_text(s, statement, i, MODEL), "is_free_model",
                        row_boolean(s, statement, i, FREE));
        put_sum(one, s, statement, i, "cost");
        json_array_append_new(list, one);
    }
    return list;
}

/* An object, by the models' names. */
static json_t *by_model(const struct pg_segment *s, int statement)
{
    json_t *models = json_object(), *one;
    int n = pg_rows(s, statement), i;

    for (i = 0; i < n && json_object_size(models) < MODELS_MAX; i++) {
        if (!is_of(s, statement, i, OF_MODEL))
            continue;
        one = json_pack("{s:b}", "is_free_model",
                        pg_integer(s, statement, i, FREE_MESSAGES) ==
                            pg_integer(s, statement, i, MESSAGES));
        put_sum(one, s, statement, i, "cost");
        json_object_set_new(models, pg_text(s, statement, i, MODEL), one);
    }
    return models;
}

static void put_total(json_t *into, const struct pg_segment *s, int statement, int row)
{
    put_sum(into, s, statement, row, "total_cost");
    json_object_set_new(into, "other_requests", others(s, statement, row));
    json_object_set_new(into, "cost_breakdown", breakdown(s, statement));
    json_object_set_new(into, "model_usage", by_model(s, statement));
}

/* The row that sums up everything: there is one always, behind the others. */
static int row_of_all(const struct pg_segment *s, int statement)
{
    return pg_rows(s, statement) - 1;
}

/* ---- usage.summary ---- */

/* Of periods AS p and the whole AS r. */
#define SPAN_COLUMNS                                                                               \
    ", s.conversations, " ROW_MS("coalesce(p.low, r.low)") ", " ROW_MS(                            \
        "coalesce(p.high, r.high)") ", p.name "
enum { CONVERSATIONS = OTHERS_UNKNOWN + 1, FROM, TO, NAME };

/* $1 tenant, $2 user, $3 period, $4 and $5 the times between which, in UTC ($4 may be NULL: from the
 * year of the first answer on), $6 how to write a period. One statement, so that all sums are of the same
 * moment. The column is compared as it is, and with sub-selects: else it would be compared behind the
 * policy and not by the index. */
static const char sql_summary[] =
    "WITH r AS (SELECT coalesce($4::timestamp, (SELECT date_trunc('year', min(f.created_at) "
    "AT TIME ZONE 'UTC') FROM chat.usage_tracking f WHERE f.tenant_id = $1 "
    "AND f.user_id = $2::uuid), $5::timestamp - interval '1 year') AS low, $5::timestamp AS high), "
    "s AS (SELECT grouping(t.start, u.model_used, u.is_free_model) AS kind, t.start, "
    "count(DISTINCT u.conversation_id) " ANSWERS " AS conversations, " SUMS
    "FROM chat.usage_tracking u, "
    "date_trunc($3::text, u.created_at AT TIME ZONE 'UTC') AS t (start) WHERE u.tenant_id = $1 AND "
    "u.user_id = $2::uuid "
    "AND u.created_at >= (SELECT r.low AT TIME ZONE 'UTC' FROM r) "
    "AND u.created_at < (SELECT r.high AT TIME ZONE 'UTC' FROM r) "
    "GROUP BY GROUPING SETS ((), (t.start), (u.model_used), (u.model_used, "
    "u.is_free_model))" WITH_ANSWERS "), "
    "p AS (SELECT g.start, greatest(g.start, r.low) AS low, "
    "least(g.start + ('1 ' || $3)::interval, r.high) AS high, to_char(g.start, $6) AS name "
    "FROM r, generate_series(date_trunc($3, r.low), r.high - interval '1 microsecond', "
    "('1 ' || $3)::interval) AS g (start)) "
    "SELECT coalesce(s.kind, " KIND_OF_TIME ") AS kind, " SUM_COLUMNS SPAN_COLUMNS
    "FROM s FULL JOIN p ON p.start = s.start CROSS JOIN r "
    "ORDER BY kind, p.start, " DEAREST_FIRST;

static const struct period {
    const char *name, *form; /* as to_char() writes it */
} periods[] = {
    {"month", "YYYY-MM"}, {"day", "YYYY-MM-DD"}, {"week", "IYYY-\"W\"IW"}, {"year", "YYYY"}};

struct summary {
    const struct period *period;
    const char *low, *high;
    int rows; /* statement */
};

/* The caller owns it. */
static json_t *span(const struct pg_segment *s, int statement, int row, json_t *period)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "period", period, "from",
                     row_time(s, statement, row, FROM), "to", row_time(s, statement, row, TO),
                     "conversations_count", row_integer(s, statement, row, CONVERSATIONS));
}

/* The rows of the periods come first. */
static json_t *series(const struct pg_segment *s, int statement)
{
    json_t *list = json_array(), *one;
    int i;

    for (i = 0; is_of(s, statement, i, OF_TIME); i++) {
        one = span(s, statement, i, row_text(s, statement, i, NAME));
        put_sum(one, s, statement, i, "cost");
        json_array_append_new(list, one);
    }
    return list;
}

static void summed_up(struct job *job, const struct pg_segment *s, void *state)
{
    struct summary *x = state;
    int all = row_of_all(s, x->rows);
    json_t *body = span(s, x->rows, all, json_string(x->period->name));

    put_total(body, s, x->rows, all);
    json_object_set_new(body, "series", series(s, x->rows));
    job_reply(job, 200, body);
}

static long this_year(void)
{
    char now[CLOCK_ISO_SIZE];

    return atol(clock_iso(clock_wall_ms(), now));
}

/* The first when none is named. */
static const struct period *period_of(const json_t *args)
{
    const char *name = json_string_value(json_object_get(args, "period"));
    size_t i = sizeof(periods) / sizeof(periods[0]);

    while (--i > 0 && (!name || strcmp(periods[i].name, name) != 0))
        ;
    return &periods[i];
}

static int read_args(struct job *job, struct summary *x, struct err *e)
{
    const json_t *args = job_body(job);
    long year = (long)json_integer_value(json_object_get(args, "year"));
    long month = (long)json_integer_value(json_object_get(args, "month"));
    bool by_year, all_years;

    x->period = period_of(args);
    by_year = strcmp(x->period->name, "year") == 0;
    all_years = by_year && !year;
    if (by_year && month)
        return err_set(e, ERR_REJECT, 400, "month and a period of a year exclude each other");
    year = year ? year : this_year();
    x->low =
        all_years ? NULL : arena_printf(job_arena(job), "%ld-%02ld-01", year, month ? month : 1);
    if (month && month < 12)
        x->high = arena_printf(job_arena(job), "%ld-%02ld-01", year, month + 1);
    else
        x->high = arena_printf(job_arena(job), "%ld-01-01", year + 1);
    return 0;
}

void usage_summary(struct job *job)
{
    const struct envelope *env = job_envelope(job);
    struct summary *x = arena_alloc(job_arena(job), sizeof(*x));
    struct transaction *t;
    struct err e;

    if (read_args(job, x, &e)) {
        job_fail(job, &e);
        return;
    }
    t = transaction_new(job, env->user_id);
    x->rows = transaction_add(t, sql_summary, 6,
                              (const char *const[]){env->tenant_id, env->user_id, x->period->name,
                                                    x->low, x->high, x->period->form});
    transaction_run(t, summed_up, x);
}

/* ---- conversation.usage ---- */

static const char sql_conversation[] =
    "SELECT c.id FROM chat.conversations c WHERE c.id = $1::uuid AND c.status <> 'deleted'";
static const char sql_usage[] =
    "SELECT 4 + grouping(u.model_used, u.is_free_model) AS kind, " SUMS
    "FROM chat.usage_tracking u WHERE u.conversation_id = $1::uuid "
    "GROUP BY GROUPING SETS ((), (u.model_used), (u.model_used, u.is_free_model))" WITH_ANSWERS
    "ORDER BY kind, " DEAREST_FIRST;

struct spending {
    int conversation, rows; /* statements */
};

static void told(struct job *job, const struct pg_segment *s, void *state)
{
    struct spending *x = state;
    json_t *body;

    if (pg_rows(s, x->conversation) == 0) {
        job_reject(job, 404, "there is no such conversation");
        return;
    }
    body = json_pack("{s:o}", "conversation_id", row_text(s, x->conversation, 0, 0));
    put_total(body, s, x->rows, row_of_all(s, x->rows));
    job_reply(job, 200, body);
}

void conversation_usage(struct job *job)
{
    const char *id = json_string_value(json_object_get(job_body(job), "conversation_id"));
    struct spending *x = arena_alloc(job_arena(job), sizeof(*x));
    struct transaction *t = transaction_new(job, id);

    x->conversation = transaction_add(t, sql_conversation, 1, (const char *const[]){id});
    x->rows = transaction_add(t, sql_usage, 1, (const char *const[]){id});
    transaction_run(t, told, x);
}
