/* The settings of tenants, and what they have spent. */
#include <stdlib.h>
#include <string.h>

#include "common/chat/body.h"
#include "common/chat/identity.h"
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/rows.h"

enum { NAME_MAX_BYTES = 255, PAGE_TENANTS = 100 };

/* ---- who may ---- */

/* A program may see and change all tenants; an administrator sees his own. */
static bool is_service(const struct job *job)
{
    return identity_has_role(job_envelope(job)->roles, ROLE_NAME_SERVICE);
}

static const char *scope_of(const struct job *job)
{
    return is_service(job) ? "system" : "tenant";
}

static const char *tenant_of(const struct job *job)
{
    return json_string_value(json_object_get(job_body(job), "tenant_id"));
}

/* ---- rows ---- */

/* Of chat.tenants AS t and chat.tenant_spending AS s: a period that is over counts as none. */
#define TODAY            "(now() AT TIME ZONE 'UTC')::date"
#define THIS_MONTH       "date_trunc('month', now() AT TIME ZONE 'UTC')::date"
#define IN_DAY(column)   "CASE WHEN s.day >= " TODAY " THEN s." column " ELSE 0 END"
#define IN_MONTH(column) "CASE WHEN s.month >= " THIS_MONTH " THEN s." column " ELSE 0 END"
/* clang-format off */
#define TENANT_SELECT \
    "SELECT t.tenant_id, " \
    "to_jsonb(t.models), " \
    "to_jsonb(t.providers), " \
    "t.day_budget, " \
    "t.month_budget, " \
    "t.day_token_budget, " \
    "t.month_token_budget, " \
    "t.reserve, " \
    "t.token_reserve, " \
    ROW_MS("t.created_at") ", " \
    ROW_MS("t.updated_at") ", " \
    ROW_MS("s.since") ", " \
    "greatest(s.day, " TODAY "), " \
    IN_DAY("day_cost") ", " \
    IN_DAY("day_tokens") ", " \
    "greatest(s.month, " THIS_MONTH "), " \
    IN_MONTH("month_cost") ", " \
    IN_MONTH("month_tokens") ", " \
    "s.reserved_cost, " \
    "s.reserved_tokens " \
    "FROM chat.tenants t " \
    "LEFT JOIN chat.tenant_spending s ON s.tenant_id = t.tenant_id "
/* clang-format on */
enum {
    TENANT,
    MODELS,
    PROVIDERS,
    DAY_BUDGET,
    MONTH_BUDGET,
    DAY_TOKENS,
    MONTH_TOKENS,
    RESERVE,
    TOKEN_RESERVE,
    CREATED,
    UPDATED,
    SINCE,
    DAY,
    IN_DAY_COST,
    IN_DAY_TOKENS,
    MONTH,
    IN_MONTH_COST,
    IN_MONTH_TOKENS,
    RESERVED,
    RESERVED_TOKENS,
    TENANT_WIDTH
};

static json_t *credits(const struct pg_segment *s, int statement, int row, int column)
{
    return pg_text(s, statement, row, column) ? row_number(s, statement, row, column) : json_null();
}

static json_t *tokens(const struct pg_segment *s, int statement, int row, int column)
{
    return pg_text(s, statement, row, column) ? row_integer(s, statement, row, column)
                                              : json_null();
}

/* null for a tenant that never had a budget. */
static json_t *spent(const struct pg_segment *s, int at, int row)
{
    if (!pg_text(s, at, row, SINCE))
        return json_null();
    return json_pack(
        "{s:o, s:{s:o, s:o, s:o}, s:{s:o, s:o, s:o}, s:{s:o, s:o}}", "since",
        row_time(s, at, row, SINCE), "day", "from", row_text(s, at, row, DAY), "cost",
        row_number(s, at, row, IN_DAY_COST), "tokens", row_integer(s, at, row, IN_DAY_TOKENS),
        "month", "from", row_text(s, at, row, MONTH), "cost", row_number(s, at, row, IN_MONTH_COST),
        "tokens", row_integer(s, at, row, IN_MONTH_TOKENS), "reserved", "cost",
        row_number(s, at, row, RESERVED), "tokens", row_integer(s, at, row, RESERVED_TOKENS));
}

static json_t *tenant_json(const struct pg_segment *s, int at, int row)
{
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "tenant_id",
        row_text(s, at, row, TENANT), "models", row_json(s, at, row, MODELS), "providers",
        row_json(s, at, row, PROVIDERS), "day_budget", credits(s, at, row, DAY_BUDGET),
        "month_budget", credits(s, at, row, MONTH_BUDGET), "day_token_budget",
        tokens(s, at, row, DAY_TOKENS), "month_token_budget", tokens(s, at, row, MONTH_TOKENS),
        "reserve", credits(s, at, row, RESERVE), "token_reserve", tokens(s, at, row, TOKEN_RESERVE),
        "spent", spent(s, at, row), "created_at", row_time(s, at, row, CREATED), "updated_at",
        row_time(s, at, row, UPDATED));
}

/* ---- get ---- */

static const char sql_get[] = TENANT_SELECT "WHERE t.tenant_id = $1";

static void got(struct job *job, const struct pg_segment *s, void *state)
{
    int *row = state;

    if (pg_rows(s, *row))
        job_reply(job, 200, tenant_json(s, *row, 0));
    else
        job_reject(job, 404, "the tenant has no settings");
}

void tenant_get(struct job *job)
{
    const char *tenant = tenant_of(job);
    int *row = arena_alloc(job_arena(job), sizeof(*row));
    struct transaction *t = transaction_new_as(job, tenant, scope_of(job));

    *row = transaction_add(t, sql_get, 1, (const char *const[]){tenant});
    transaction_run(t, got, row);
}

/* ---- set ---- */

/* $1 tenant, $2 the settings to change, $3 message. One that is not among them stays. */
/* clang-format off */
#define LIST(name) \
    name " = CASE WHEN $2::jsonb ? '" name "' " \
    "THEN CASE jsonb_typeof($2::jsonb -> '" name "') " \
    "WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text($2::jsonb -> '" name "')) END " \
    "ELSE t." name " END, "
#define NUMBER(name) \
    name " = CASE WHEN $2::jsonb ? '" name "' " \
    "THEN ($2::jsonb ->> '" name "')::numeric " \
    "ELSE t." name " END, "
static const char sql_set[] =
    "UPDATE chat.tenants t SET "
    LIST("models")
    LIST("providers")
    NUMBER("day_budget")
    NUMBER("month_budget")
    NUMBER("day_token_budget")
    NUMBER("month_token_budget")
    NUMBER("reserve")
    NUMBER("token_reserve")
    "updated_at = now(), "
    "changes = (ARRAY[$3::uuid] || t.changes)[1:8] "
    "WHERE t.tenant_id = $1 "
    "AND ($3::uuid = ANY (t.changes)) IS NOT TRUE";
/* clang-format on */
static const char sql_make[] =
    "INSERT INTO chat.tenants (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING";

/* From its first budget on what a tenant spends is counted: what it did in this month, here. */
#define OF_TODAY "FILTER (WHERE u.created_at >= " TODAY " AT TIME ZONE 'UTC')"
static const char sql_meter[] =
    "INSERT INTO chat.tenant_spending (tenant_id, since, day, day_cost, day_tokens, "
    "month, month_cost, month_tokens) "
    "SELECT t.tenant_id, now(), " TODAY ", d.day_cost, d.day_tokens, " THIS_MONTH
    ", d.month_cost, d.month_tokens "
    "FROM chat.tenants t, LATERAL (SELECT "
    "coalesce(sum(u.cost_credits), 0) AS month_cost, "
    "coalesce(sum(u.total_tokens), 0) AS month_tokens, "
    "coalesce(sum(u.cost_credits) " OF_TODAY ", 0) AS day_cost, "
    "coalesce(sum(u.total_tokens) " OF_TODAY ", 0) AS day_tokens "
    "FROM chat.usage_tracking u WHERE u.tenant_id = $1 "
    "AND u.created_at >= " THIS_MONTH " AT TIME ZONE 'UTC' AND u.created_at < now()) d "
    "WHERE t.tenant_id = $1 AND num_nonnulls(t.day_budget, t.month_budget, t.day_token_budget, "
    "t.month_token_budget) > 0 ON CONFLICT DO NOTHING";

/* Each item of a list is a name. */
static int check_names(const json_t *args, const char *list, struct err *e)
{
    const json_t *name;
    size_t i;

    json_array_foreach (json_object_get(args, list), i, name)
        if (!json_is_string(name) || json_string_length(name) == 0 ||
            json_string_length(name) > NAME_MAX_BYTES)
            return err_set(e, ERR_REJECT, 400, "%s must be names of 1 to %d bytes", list,
                           NAME_MAX_BYTES);
    return 0;
}

static int check_providers(const json_t *args, struct err *e)
{
    const json_t *name;
    const char *text;
    size_t i;

    json_array_foreach (json_object_get(args, "providers"), i, name) {
        text = json_string_value(name);
        if (strcmp(text, "llamacpp") != 0 && strcmp(text, "openrouter") != 0 &&
            strcmp(text, "openai") != 0)
            return err_set(e, ERR_REJECT, 400,
                           "providers: %.40s is none of llamacpp, openrouter, openai", text);
    }
    return 0;
}

static int check_set(const struct job *job, struct err *e)
{
    const json_t *args = job_body(job);

    if (!is_service(job))
        return err_set(e, ERR_REJECT, 403,
                       "only the role " ROLE_NAME_SERVICE " may change tenants");
    if (json_object_size(args) < 2)
        return err_set(e, ERR_REJECT, 400, "a setting is needed beside tenant_id");
    return check_names(args, "models", e) || check_names(args, "providers", e) ||
           check_providers(args, e);
}

void tenant_set(struct job *job)
{
    const char *tenant = tenant_of(job), *message = job_envelope(job)->message_id;
    int *row = arena_alloc(job_arena(job), sizeof(*row));
    struct transaction *t;
    struct err e;
    size_t n;

    if (check_set(job, &e)) {
        job_fail(job, &e);
        return;
    }
    t = transaction_new_as(job, tenant, "system");
    transaction_alone(t);
    transaction_add(t, sql_make, 1, (const char *const[]){tenant});
    transaction_add(
        t, sql_set, 3,
        (const char *const[]){tenant, body_text(job_arena(job), job_body(job), &n), message});
    transaction_add(t, sql_meter, 1, (const char *const[]){tenant});
    *row = transaction_add(t, sql_get, 1, (const char *const[]){tenant});
    transaction_run(t, got, row);
}

/* ---- list ---- */

/* $1 limit, $2 the one before, or NULL */
static const char sql_list[] = TENANT_SELECT
    "WHERE $2::text IS NULL OR t.tenant_id > $2::text ORDER BY t.tenant_id LIMIT $1::int";

struct listing {
    int rows;
    long limit;
};

static void listed(struct job *job, const struct pg_segment *s, void *state)
{
    struct listing *l = state;
    int n = rows_that_fit(s, l->rows, l->limit, TENANT_WIDTH), i;
    json_t *list = json_array();

    for (i = 0; i < n; i++)
        json_array_append_new(list, tenant_json(s, l->rows, i));
    job_reply(job, 200,
              json_pack("{s:o, s:b}", "tenants", list, "has_more", pg_rows(s, l->rows) > n));
}

void tenant_list(struct job *job)
{
    const json_t *limit = json_object_get(job_body(job), "limit");
    struct listing *l = arena_alloc(job_arena(job), sizeof(*l));
    struct transaction *t = transaction_new_as(job, "", scope_of(job));

    l->limit = json_is_integer(limit) ? (long)json_integer_value(limit) : PAGE_TENANTS;
    l->rows = transaction_add(
        t, sql_list, 2,
        (const char *const[]){arena_printf(job_arena(job), "%ld", l->limit + 1),
                              json_string_value(json_object_get(job_body(job), "after"))});
    transaction_run(t, listed, l);
}
