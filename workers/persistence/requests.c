#include "workers/persistence/requests.h"

#include <string.h>

#include "common/base/uuid.h"
#include "common/chat/body.h"
#include "workers/persistence/budget.h"
#include "workers/persistence/handlers.h"

/* Of one message. A turn asks up to 32 models, each of which may want its costs looked up, and what was
 * lost before as well. */
enum { REQUESTS_MAX = 64, EPOCHS_MAX = 64 };
_Static_assert(REQUESTS_MAX + 8 <= PG_STATEMENTS_MAX, "each is a statement of one transaction");

static const double cost_max = 999999.999999; /* more is no price */

/* A price that nobody asks is not worth losing the answer. */
static double price_of(double cost)
{
    return cost > cost_max ? cost_max : cost > 0 ? cost : 0;
}

int request_read(json_t *from, struct request *r, struct err *e)
{
    json_t *generation_id = NULL; /* null in the messages of earlier versions */
    json_error_t at;

    r->cost_known = true;
    if (json_unpack_ex(from, &at, 0,
                       "{s?s, s:s, s?s, s?o, s:b, s:I, s?b, s?b, s:{s:I, s:I, s:I, s:F, s?b, s?b}}",
                       "request_id", &r->id, "model", &r->model, "provider", &r->provider,
                       "generation_id", &generation_id, "is_free_model", &r->free_model,
                       "processing_time_ms", &r->ms, "noted", &r->noted, "look_up", &r->look_up,
                       "usage", "prompt_tokens", &r->prompt_tokens, "completion_tokens",
                       &r->completion_tokens, "total_tokens", &r->total_tokens, "cost", &r->cost,
                       "cost_known", &r->cost_known, "tokens_estimated", &r->tokens_estimated))
        return err_set(e, ERR_FATAL, 400, "%s", at.text);
    if (r->id && !uuid_valid(r->id))
        return err_set(e, ERR_FATAL, 400, "request_id is no UUID");
    r->generation_id = json_string_value(generation_id);
    r->cost = r->cost_known ? price_of(r->cost) : 0;
    return 0;
}

int request_epoch(const struct job *job)
{
    int epoch = job_envelope(job)->epoch;

    return epoch > 0 ? epoch : 1;
}

const char *request_of_epoch(struct job *job, const char *turn_id)
{
    char id[UUID_TEXT];

    uuid_v5(turn_id, arena_printf(job_arena(job), "request %d", request_epoch(job)), id);
    return arena_strdup(job_arena(job), id);
}

json_t *request_usage(const struct request *r)
{
    json_t *usage =
        json_pack("{s:I, s:I, s:I, s:f, s:s, s:b}", "prompt_tokens", r->prompt_tokens,
                  "completion_tokens", r->completion_tokens, "total_tokens", r->total_tokens,
                  "cost", r->cost, "model", r->model, "is_free_model", r->free_model);

    if (!r->cost_known)
        json_object_set_new(usage, "cost_known", json_false());
    if (r->tokens_estimated)
        json_object_set_new(usage, "tokens_estimated", json_true());
    return usage;
}

const char *number_text(struct job *job, json_int_t n)
{
    return arena_printf(job_arena(job), "%lld", (long long)n);
}

/* The shortest that is read as the same. */
const char *cost_text(struct job *job, const struct request *r)
{
    return arena_printf(job_arena(job), "%.15g", r->cost);
}

/* ---- rows ---- */

/* $1 request, $2 turn, $3 tenant, $4 user, $5 conversation, $6 answer, $7 epoch, $8 provider, $9 generation,
 * $10 status, $11 model, $12 prompt, $13 completion and $14 total tokens, $15 cost, $16 free, $17 ms, $18
 * cost known, $19 tokens estimated */
static const char sql_add[] =
    "INSERT INTO chat.usage_tracking AS u (id, request_id, turn_id, tenant_id, user_id, "
    "conversation_id, message_id, epoch, provider, generation_id, status, model_used, "
    "prompt_tokens, completion_tokens, total_tokens, cost_credits, is_free_model, "
    "processing_time_ms, cost_known, tokens_estimated) "
    "SELECT $1::uuid, $1::uuid, $2::uuid, $3, $4::uuid, $5::uuid, $6::uuid, $7::int, $8::text, "
    "$9::text, $10::text, left($11::text, 100), $12::int, $13::int, $14::int, $15::numeric, "
    "$16::boolean, $17::int, $18::boolean, $19::boolean WHERE NOT EXISTS (SELECT 1 "
    "FROM chat.usage_tracking a WHERE a.id = $2::uuid AND a.request_id = $1::uuid) "
    "AND EXISTS (SELECT 1 FROM chat.turns t WHERE t.id = $2::uuid "
    "AND t.conversation_id = $5::uuid) "
    "ON CONFLICT (id) DO UPDATE SET epoch = EXCLUDED.epoch, status = EXCLUDED.status, "
    "generation_id = EXCLUDED.generation_id, model_used = EXCLUDED.model_used, "
    "prompt_tokens = EXCLUDED.prompt_tokens, completion_tokens = EXCLUDED.completion_tokens, "
    "total_tokens = EXCLUDED.total_tokens, cost_credits = EXCLUDED.cost_credits, "
    "is_free_model = EXCLUDED.is_free_model, processing_time_ms = EXCLUDED.processing_time_ms, "
    "cost_known = EXCLUDED.cost_known, tokens_estimated = EXCLUDED.tokens_estimated "
    "WHERE u.status IN ('begun', 'lost') AND EXCLUDED.status <> 'begun' "
    "AND (EXCLUDED.cost_known OR NOT u.cost_known)";

/* $1 turn, $2 request */
static const char sql_drop_note[] =
    "DELETE FROM chat.usage_tracking n USING chat.usage_tracking a WHERE n.id = $2::uuid "
    "AND n.turn_id = $1::uuid AND a.id = $1::uuid AND a.request_id = $2::uuid";

/* $1 turn, $2 conversation */
static const char sql_drop_lost[] =
    "DELETE FROM chat.usage_tracking l WHERE l.conversation_id = $2::uuid AND l.turn_id = $1::uuid "
    "AND l.status = 'lost' AND l.request_id IS NULL AND EXISTS (SELECT 1 "
    "FROM chat.usage_tracking r WHERE r.conversation_id = $2::uuid "
    "AND (r.id = $1::uuid OR r.turn_id = $1::uuid) AND r.epoch = l.epoch AND r.id <> l.id)";

static const char *flag(int yes)
{
    return yes ? "t" : "f";
}

void requests_add(struct job *job, struct transaction *t, const struct turn_ids *of,
                  const struct request *r, const char *status, int epoch)
{
    const struct envelope *env = job_envelope(job);

    transaction_add(t, sql_add, 19,
                    (const char *const[]){
                        r->id, of->turn, env->tenant_id, env->user_id, of->conversation, of->answer,
                        number_text(job, epoch), r->provider, r->generation_id, status, r->model,
                        number_text(job, r->prompt_tokens), number_text(job, r->completion_tokens),
                        number_text(job, r->total_tokens), cost_text(job, r), flag(r->free_model),
                        number_text(job, r->ms), flag(r->cost_known), flag(r->tokens_estimated)});
}

void requests_drop_note(struct transaction *t, const struct turn_ids *of, const struct request *r)
{
    transaction_add(t, sql_drop_note, 2, (const char *const[]){of->turn, r->id});
}

void requests_drop_lost(struct transaction *t, const struct turn_ids *of)
{
    transaction_add(t, sql_drop_lost, 2, (const char *const[]){of->turn, of->conversation});
}

/* ---- what they cost, later ---- */

void requests_put_unknown(json_t *list, const struct request *r)
{
    if (!r->cost_known && r->look_up && r->provider && r->generation_id)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "request_id", r->id, "provider",
                                              r->provider, "generation_id", r->generation_id));
}

void requests_look_up(struct job *job, const struct turn_ids *of, json_t *list)
{
    if (json_array_size(list) == 0)
        json_decref(list);
    else
        job_aside(job, "usage.lookup",
                  json_pack("{s:s, s:s, s:s, s:o}", "turn_id", of->turn, "conversation_id",
                            of->conversation, "answer_id", of->answer, "requests", list));
}

/* ---- usage.record ---- */

/* Deliveries that have come to no end: what they had begun is lost, and where nothing is known of one,
 * that is said. $1 turn, $2 conversation, $3 epochs, then $4 tenant, $5 user, $6 answer */
static const char sql_lose_begun[] =
    "UPDATE chat.usage_tracking u SET status = 'lost' WHERE u.conversation_id = $2::uuid "
    "AND u.turn_id = $1::uuid AND u.status = 'begun' AND u.epoch = ANY ($3::int[])";
static const char sql_lose[] =
    "INSERT INTO chat.usage_tracking (id, turn_id, tenant_id, user_id, conversation_id, "
    "message_id, epoch, status, model_used, cost_known) "
    "SELECT md5($1::text || ' lost ' || l.epoch)::uuid, t.id, $4, $5::uuid, $2::uuid, $6::uuid, "
    "l.epoch, 'lost', 'unknown', false FROM unnest($3::int[]) AS l (epoch), chat.turns t "
    "WHERE t.id = $1::uuid AND t.conversation_id = $2::uuid AND NOT EXISTS (SELECT 1 "
    "FROM chat.usage_tracking r WHERE r.conversation_id = $2::uuid "
    "AND (r.id = t.id OR r.turn_id = t.id) AND r.epoch = l.epoch) ON CONFLICT DO NOTHING";
static const char sql_lost[] =
    "SELECT u.request_id, u.provider, u.generation_id FROM chat.usage_tracking u "
    "WHERE u.conversation_id = $2::uuid AND u.turn_id = $1::uuid AND u.status = 'lost' "
    "AND u.epoch = ANY ($3::int[]) AND NOT u.cost_known AND u.generation_id IS NOT NULL";

/* $1 turn, $2 request, $3 prompt, $4 completion and $5 total tokens, $6 cost */
static const char sql_settle[] =
    "UPDATE chat.usage_tracking u SET prompt_tokens = $3::int, completion_tokens = $4::int, "
    "total_tokens = $5::int, cost_credits = CASE WHEN u.is_free_model THEN 0 ELSE $6::numeric END, "
    "cost_known = true, tokens_estimated = false WHERE u.id IN ($1::uuid, $2::uuid) "
    "AND u.request_id = $2::uuid AND NOT u.cost_known";

struct told {
    struct request request;
    const char *status;
    json_int_t epoch;
};

struct record {
    struct turn_ids of;
    json_t *requests, *found, *lost; /* borrowed; NULL: none */
    struct told *told;               /* the requests, and behind them what was found */
    int lost_rows;                   /* statement; -1: none */
};

static int read_ids(struct job *job, struct record *x, struct err *e)
{
    json_error_t at;

    if (json_unpack_ex(job_body(job), &at, 0, "{s:s, s:s, s:s, s?o, s?o, s?o}", "turn_id",
                       &x->of.turn, "conversation_id", &x->of.conversation, "answer_id",
                       &x->of.answer, "requests", &x->requests, "found", &x->found, "lost",
                       &x->lost))
        return err_set(e, ERR_FATAL, 400, "%s", at.text);
    if (!uuid_valid(x->of.turn) || !uuid_valid(x->of.conversation) || !uuid_valid(x->of.answer))
        return err_set(e, ERR_FATAL, 400, "an id is no UUID");
    if (json_array_size(x->requests) + json_array_size(x->found) > REQUESTS_MAX ||
        json_array_size(x->lost) > EPOCHS_MAX)
        return err_set(e, ERR_FATAL, 400, "more than %d requests or %d epochs", REQUESTS_MAX,
                       EPOCHS_MAX);
    return 0;
}

static bool is_status(const char *status)
{
    static const char *const all[] = {"completed", "stopped", "broken", "failed", "begun"};
    size_t i;

    for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (strcmp(status, all[i]) == 0)
            return true;
    return false;
}

static int read_told(json_t *item, struct told *told, struct err *e)
{
    json_error_t at;

    if (json_unpack_ex(item, &at, 0, "{s:s, s:I}", "status", &told->status, "epoch", &told->epoch))
        return err_set(e, ERR_FATAL, 400, "%s", at.text);
    if (request_read(item, &told->request, e))
        return -1;
    if (!told->request.id)
        return err_set(e, ERR_FATAL, 400, "a request has no request_id");
    if (!is_status(told->status))
        return err_set(e, ERR_FATAL, 400, "the status %.40s is not known", told->status);
    return 0;
}

static int read_found(json_t *item, struct request *r, struct err *e)
{
    json_error_t at;

    if (json_unpack_ex(item, &at, 0, "{s:s, s:I, s:I, s:F}", "request_id", &r->id, "prompt_tokens",
                       &r->prompt_tokens, "completion_tokens", &r->completion_tokens, "cost",
                       &r->cost))
        return err_set(e, ERR_FATAL, 400, "%s", at.text);
    if (!uuid_valid(r->id))
        return err_set(e, ERR_FATAL, 400, "request_id is no UUID");
    r->cost = price_of(r->cost);
    r->total_tokens = r->prompt_tokens + r->completion_tokens;
    return 0;
}

static int read_record(struct job *job, struct record *x, struct err *e)
{
    size_t i, n;
    json_t *item;

    if (read_ids(job, x, e))
        return -1;
    n = json_array_size(x->requests);
    x->told = arena_alloc(job_arena(job), (REQUESTS_MAX + 1) * sizeof(*x->told));
    json_array_foreach (x->requests, i, item)
        if (read_told(item, &x->told[i], e))
            return -1;
    json_array_foreach (x->found, i, item)
        if (read_found(item, &x->told[n + i].request, e))
            return -1;
    json_array_foreach (x->lost, i, item)
        if (!json_is_integer(item))
            return err_set(e, ERR_FATAL, 400, "an epoch is no integer");
    return 0;
}

/* The list of epochs as PostgreSQL reads one. */
static const char *epochs_text(struct job *job, const json_t *lost)
{
    const char *text = "{";
    const json_t *epoch;
    size_t i;

    json_array_foreach (lost, i, epoch)
        text = arena_printf(job_arena(job), "%s%s%d", text, i ? "," : "",
                            (int)json_integer_value(epoch));
    return arena_printf(job_arena(job), "%s}", text);
}

static void lose(struct job *job, struct record *x, struct transaction *t)
{
    const struct envelope *env = job_envelope(job);
    const char *const params[] = {x->of.turn,     x->of.conversation, epochs_text(job, x->lost),
                                  env->tenant_id, env->user_id,       x->of.answer};

    transaction_add(t, sql_lose_begun, 3, params);
    transaction_add(t, sql_lose, 6, params);
    x->lost_rows = transaction_add(t, sql_lost, 3, params);
}

static void settle(struct job *job, struct record *x, struct transaction *t,
                   const struct request *r)
{
    transaction_add(t, sql_settle, 6,
                    (const char *const[]){x->of.turn, r->id, number_text(job, r->prompt_tokens),
                                          number_text(job, r->completion_tokens),
                                          number_text(job, r->total_tokens), cost_text(job, r)});
}

static void recorded(struct job *job, const struct pg_segment *s, void *state)
{
    struct record *x = state;
    json_t *unknown = json_array();
    size_t i;
    int row;

    for (i = 0; i < json_array_size(x->requests); i++)
        if (strcmp(x->told[i].status, "begun") != 0)
            requests_put_unknown(unknown, &x->told[i].request);
    for (row = 0; x->lost_rows >= 0 && row < pg_rows(s, x->lost_rows); row++)
        json_array_append_new(unknown, json_pack("{s:s, s:s?, s:s}", "request_id",
                                                 pg_text(s, x->lost_rows, row, 0), "provider",
                                                 pg_text(s, x->lost_rows, row, 1), "generation_id",
                                                 pg_text(s, x->lost_rows, row, 2)));
    requests_look_up(job, &x->of, unknown);
    job_reply(job, 200, json_object());
}

void usage_record(struct job *job)
{
    struct record *x = arena_alloc(job_arena(job), sizeof(*x));
    struct transaction *t;
    size_t i, n;
    struct err e;

    if (read_record(job, x, &e)) {
        err_context(&e, "usage.record");
        job_fail(job, &e);
        return;
    }
    t = transaction_new(job, x->of.conversation);
    transaction_lock_conversation(t, x->of.conversation);
    n = json_array_size(x->requests);
    for (i = 0; i < n; i++)
        requests_add(job, t, &x->of, &x->told[i].request, x->told[i].status, (int)x->told[i].epoch);
    for (i = 0; i < json_array_size(x->found); i++)
        settle(job, x, t, &x->told[n + i].request);
    x->lost_rows = -1;
    if (json_array_size(x->lost) > 0)
        lose(job, x, t);
    requests_drop_lost(t, &x->of);
    budget_settle(t, job, x->of.turn);
    transaction_run(t, recorded, x);
}
