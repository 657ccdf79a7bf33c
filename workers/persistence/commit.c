/* The end of a turn: its answer is saved with what it cost, or it failed; and what became of it. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/chat/body.h"
#include "workers/persistence/budget.h"
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/outcome.h"
#include "workers/persistence/requests.h"
#include "workers/persistence/rows.h"

/* What message.commit and turn.fail bring. The texts live as long as the job's body. */
struct ending {
    const char *turn_id, *conversation_id, *kind, *question_id, *answer_id;
    json_t *user_message, *answer, *problem; /* borrowed */
    const char *content, *finish_reason;
    const char *how; /* it ended: NULL (whole), ENDING_STOPPED or ENDING_BROKEN */
    json_int_t estimated_ms;
    struct request request; /* that the answer came of */
    struct turn_ids of;
    int row;          /* statement */
    bool tried_again; /* to commit it although it failed */
    struct outcome outcome;
};

static bool is_error(json_int_t status)
{
    return status >= 400 && status <= 599;
}

static bool is_broken(const struct ending *x)
{
    return x->how && strcmp(x->how, ENDING_BROKEN) == 0;
}

static int unpack_turn(struct job *job, struct ending *x, struct err *e)
{
    json_error_t at;

    if (json_unpack_ex(job_body(job), &at, 0, "{s:{s:s, s:s, s:s, s:s, s:s}, s?o, s?o, s?o}",
                       "turn", "id", &x->turn_id, "conversation_id", &x->conversation_id, "kind",
                       &x->kind, "question_id", &x->question_id, "answer_id", &x->answer_id,
                       "user_message", &x->user_message, "answer", &x->answer, "problem",
                       &x->problem))
        return err_set(e, ERR_FATAL, 400, "the turn cannot be read: %s", at.text);
    x->of = (struct turn_ids){x->turn_id, x->conversation_id, x->answer_id};
    return 0;
}

static int check_problem(const struct ending *x, struct err *e)
{
    if (is_error(json_integer_value(json_object_get(x->problem, "status"))))
        return 0;
    return err_set(e, ERR_FATAL, 400, "the turn's problem cannot be read");
}

static int check_how(const struct ending *x, struct err *e)
{
    if (!x->how || strcmp(x->how, ENDING_STOPPED) == 0)
        return 0;
    if (is_broken(x))
        return check_problem(x, e);
    return err_set(e, ERR_FATAL, 400, "the answer's ending %.40s is not known", x->how);
}

static int unpack_answer(struct job *job, struct ending *x, struct err *e)
{
    json_error_t at;

    if (!x->answer ||
        json_unpack_ex(x->answer, &at, 0, "{s:s, s?s, s?s, s?I}", "content", &x->content, "ending",
                       &x->how, "finish_reason", &x->finish_reason, "estimated_response_time",
                       &x->estimated_ms))
        return err_set(e, ERR_FATAL, 400, "the answer cannot be read: %s",
                       x->answer ? at.text : "there is none");
    if (request_read(x->answer, &x->request, e)) {
        err_context(e, "the answer cannot be read");
        return -1;
    }
    if (!x->request.id)
        x->request.id = request_of_epoch(job, x->turn_id);
    return check_how(x, e);
}

/* ---- commit ---- */

/* $1 turn, $2 conversation, $3 answer, $4 tenant, $5 user, $6 content, $7 metadata, $8 question,
 * $9 model, $10 prompt, $11 completion and $12 total tokens, $13 cost, $14 free, $15 ms, $16 epoch, $17
 * the turn's state, $18 request, $19 provider, $20 generation, $21 cost known, $22 tokens estimated. Of a turn
 * that has its answer nothing is changed. An answer that was given anew meanwhile stays the chosen one;
 * one that was stopped before its first word is none to be chosen. A turn that is to be stopped is, also
 * if who made the answer never heard of it. */
#define TAKE_TURN(condition)                                                                       \
    "t AS (UPDATE chat.turns SET state = CASE WHEN stop_requested_at IS NULL THEN $17::text "      \
    "ELSE 'stopped' END, problem = NULL, epoch = $16::int, "                                       \
    "finished_at = now() WHERE id = $1::uuid AND conversation_id = $2::uuid "                      \
    "AND epoch <= $16::int AND " condition " RETURNING id, created_at, state), "
#define TAKE_SEQ(condition)                                                                        \
    "c AS (UPDATE chat.conversations SET next_seq = next_seq + 1 WHERE id = $2::uuid "             \
    "AND EXISTS (SELECT 1 FROM t)" condition " RETURNING next_seq - 1 AS seq), "
#define BILL                                                                                       \
    "u AS (INSERT INTO chat.usage_tracking (id, tenant_id, user_id, conversation_id, message_id, " \
    "model_used, prompt_tokens, completion_tokens, total_tokens, cost_credits, is_free_model, "    \
    "processing_time_ms, epoch, status, request_id, provider, generation_id, cost_known, "         \
    "tokens_estimated) SELECT $1::uuid, $4, $5::uuid, $2::uuid, $3::uuid, left($9::text, 100), "   \
    "$10::int, $11::int, $12::int, $13::numeric, $14::boolean, $15::int, $16::int, $17::text, "    \
    "$18::uuid, $19::text, $20::text, $21::boolean, $22::boolean FROM p) "
#define SAVE                                                                                       \
    "INSERT INTO chat.messages AS m (id, tenant_id, user_id, conversation_id, seq, sender_type, "  \
    "content, metadata, parent_message_id, turn_id, chosen) "                                      \
    "SELECT $3::uuid, $4, $5::uuid, $2::uuid, p.seq, 'assistant', $6::text, $7::jsonb || "         \
    "CASE t.state WHEN 'stopped' THEN '{\"ending\": \"stopped\"}' ELSE '{}' END::jsonb, "          \
    "$8::uuid, "                                                                                   \
    "$1::uuid, $6::text <> '' AND NOT EXISTS (SELECT 1 FROM chat.turns l "                         \
    "WHERE l.conversation_id = $2::uuid AND l.question_id = $8::uuid "                             \
    "AND l.state IN ('completed', 'stopped') "                                                     \
    "AND (l.created_at, l.id) > (t.created_at, t.id)) FROM p, t "
#define SAVED "RETURNING m.seq, " ROW_MS("m.created_at") ", m.metadata ->> 'ending'"

#define NEW_PLACE "p AS (SELECT c.seq FROM c), "

static const char sql_commit[] =
    "WITH " TAKE_TURN("state = 'accepted'") TAKE_SEQ("") NEW_PLACE BILL SAVE SAVED;

/* One that failed may still be answered: by a step that was replayed, or by the second of two
 * deliveries. Not if its idempotency key, free since then, stands for a later request: that one has an
 * answer of its own. Else the key is taken back, so that a later request gets this answer. A turn
 * without a hash is one of before there were any. What it left of an answer that broke off is replaced,
 * in its place. */
#define FAILED_BEFORE                                                                              \
    "f AS (SELECT t.kind, t.idempotency_key AS key, t.payload_hash AS hash FROM chat.turns t "     \
    "WHERE t.id = $1::uuid AND t.conversation_id = $2::uuid AND t.epoch <= $16::int "              \
    "AND t.state = 'failed'), "                                                                    \
    "k AS (INSERT INTO chat.idempotency_keys (tenant_id, user_id, key, operation, payload_hash, "  \
    "message_id) SELECT $4, $5::uuid, f.key, 'message.' || f.kind, f.hash, $1::uuid FROM f "       \
    "WHERE f.key IS NOT NULL AND f.hash IS NOT NULL ON CONFLICT DO NOTHING RETURNING 1), "         \
    "go AS (SELECT 1 FROM f WHERE f.key IS NULL OR f.hash IS NULL UNION ALL SELECT 1 FROM k), "    \
    "o AS (SELECT m.seq FROM chat.messages m WHERE m.id = $3::uuid AND m.turn_id = $1::uuid), "
#define OLD_PLACE "p AS (SELECT c.seq FROM c UNION ALL SELECT o.seq FROM o, t), "
#define REPLACE                                                                                    \
    "ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content, metadata = EXCLUDED.metadata, "    \
    "chosen = EXCLUDED.chosen "
#define STILL_FAILED "state = 'failed' AND EXISTS (SELECT 1 FROM go)"
#define NOTHING_LEFT " AND NOT EXISTS (SELECT 1 FROM o)"

static const char sql_commit_failed[] = "WITH " FAILED_BEFORE TAKE_TURN(STILL_FAILED)
    TAKE_SEQ(NOTHING_LEFT) OLD_PLACE BILL SAVE REPLACE SAVED;

/* Of several answers the one is chosen that was asked for last, whichever came last: an earlier turn may
 * be slow, or be replayed. $1 conversation, $2 question */
static const char sql_choose[] =
    "WITH l AS (SELECT t.id FROM chat.turns t JOIN chat.messages a ON a.id = t.answer_id "
    "WHERE t.conversation_id = $1::uuid AND t.question_id = $2::uuid "
    "AND t.state IN ('completed', 'stopped') AND a.content <> '' "
    "ORDER BY t.created_at DESC, t.id DESC LIMIT 1) "
    "UPDATE chat.messages m SET chosen = (t.id = l.id) FROM chat.turns t, l "
    "WHERE t.conversation_id = $1::uuid AND t.question_id = $2::uuid AND m.id = t.answer_id "
    "AND m.chosen <> (t.id = l.id)";

static json_t *metadata(const struct ending *x, int epoch)
{
    return json_pack("{s:s, s:s?, s:s?, s:b, s:I, s:I, s:i, s:s*}", "model", x->request.model,
                     "provider", x->request.provider, "finish_reason", x->finish_reason,
                     "is_free_model", x->request.free_model, "processing_time_ms", x->request.ms,
                     "estimated_response_time", x->estimated_ms, "epoch", epoch, "ending", x->how);
}

/* The texts are not in it. */
static void announce(struct job *job, const struct ending *x, json_t *cost)
{
    job_event(job, "chat.message.created", x->answer_id,
              json_pack("{s:s, s:s, s:s, s:s, s:s, s:O}", "message_id", x->answer_id,
                        "conversation_id", x->conversation_id, "turn_id", x->turn_id, "sender_type",
                        "assistant", "parent_message_id", x->question_id, "usage", cost));
}

/* Asks the provider what it cost, if it did not say so. */
static void look_up(struct job *job, const struct ending *x)
{
    json_t *unknown = json_array();

    requests_put_unknown(unknown, &x->request);
    requests_look_up(job, &x->of, unknown);
}

static void commit(struct job *job, struct ending *x, const char *sql);

/* Whoever committed it may have gone before the event was out: it has the same id each time. */
static void already_ended(struct job *job, const struct pg_segment *s, void *state)
{
    struct ending *x = state;
    const char *is = outcome_state(&x->outcome, s);
    json_t *result = outcome_result(&x->outcome, s);

    if (!x->tried_again && is && strcmp(is, "failed") == 0) {
        x->tried_again = true;
        commit(job, x, sql_commit_failed);
        return;
    }
    if (result)
        announce(job, x, json_object_get(result, "usage"));
    json_decref(result);
    look_up(job, x);
    outcome_answer(&x->outcome, s, job);
}

/* The request was paid all the same. */
static void answer_as_it_is(struct job *job, struct ending *x)
{
    struct transaction *t = transaction_new(job, x->conversation_id);

    transaction_lock_conversation(t, x->conversation_id);
    requests_add(job, t, &x->of, &x->request, x->how ? x->how : "completed", request_epoch(job));
    requests_drop_lost(t, &x->of);
    outcome_add(&x->outcome, t, x->turn_id);
    budget_settle(t, job, x->turn_id);
    transaction_run(t, already_ended, x);
}

static void committed(struct job *job, const struct pg_segment *s, void *state)
{
    struct ending *x = state;
    json_t *answer, *cost;

    if (pg_rows(s, x->row) == 0) {
        answer_as_it_is(job, x);
        return;
    }
    if (pg_text(s, x->row, 0, 2))
        x->how = ENDING_STOPPED;
    answer = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:I, s:o}", "id", x->answer_id, "conversation_id",
        x->conversation_id, "sender_type", "assistant", "content", x->content, "content_type",
        "text", "metadata", metadata(x, request_epoch(job)), "parent_message_id", x->question_id,
        "seq", (json_int_t)pg_integer(s, x->row, 0, 0), "created_at", row_time(s, x->row, 0, 1));
    cost = request_usage(&x->request);
    announce(job, x, cost);
    look_up(job, x);
    if (strcmp(x->kind, "regenerate") == 0)
        job_reply(job, 200,
                  json_pack("{s:o, s:o, s:s}", "new_message", answer, "usage", cost, "turn_id",
                            x->turn_id));
    else
        job_reply(job, 200,
                  json_pack("{s:O?, s:o, s:o, s:s}", "user_message", x->user_message,
                            "assistant_message", answer, "usage", cost, "turn_id", x->turn_id));
}

static const char *metadata_text(struct job *job, const struct ending *x)
{
    json_t *about = metadata(x, request_epoch(job));
    const char *text;
    size_t n;

    text = body_text(job_arena(job), about, &n);
    json_decref(about);
    return text;
}

static void commit(struct job *job, struct ending *x, const char *sql)
{
    const struct envelope *env = job_envelope(job);
    const struct request *r = &x->request;
    struct transaction *t = transaction_new(job, x->conversation_id);
    const char *const params[] = {x->turn_id,
                                  x->conversation_id,
                                  x->answer_id,
                                  env->tenant_id,
                                  env->user_id,
                                  x->content,
                                  metadata_text(job, x),
                                  x->question_id,
                                  r->model,
                                  number_text(job, r->prompt_tokens),
                                  number_text(job, r->completion_tokens),
                                  number_text(job, r->total_tokens),
                                  cost_text(job, r),
                                  r->free_model ? "t" : "f",
                                  number_text(job, r->ms),
                                  number_text(job, request_epoch(job)),
                                  x->how ? x->how : "completed",
                                  r->id,
                                  r->provider,
                                  r->generation_id,
                                  r->cost_known ? "t" : "f",
                                  r->tokens_estimated ? "t" : "f"};

    transaction_lock_conversation(t, x->conversation_id);
    x->row = transaction_add(t, sql, 22, params);
    if (r->noted || x->tried_again)
        requests_drop_note(t, &x->of, r);
    if (strcmp(x->kind, "regenerate") == 0)
        transaction_add(t, sql_choose, 2,
                        (const char *const[]){x->conversation_id, x->question_id});
    budget_settle(t, job, x->turn_id);
    transaction_run(t, committed, x);
}

/* ---- what ends without a whole answer ---- */

/* The key is released, so that the same request may be made again. */
static const char sql_release[] =
    "DELETE FROM chat.idempotency_keys k USING chat.turns t WHERE t.id = $1::uuid "
    "AND t.state = 'accepted' AND k.tenant_id = t.tenant_id AND k.user_id = t.user_id "
    "AND k.key = t.idempotency_key AND k.message_id = t.id";
static const char sql_fail[] = "UPDATE chat.turns SET state = 'failed', problem = $2::jsonb, "
                               "finished_at = now() WHERE id = $1::uuid AND state = 'accepted'";

/* What came of an answer that broke off is kept beside the failed turn, and stands in no history.
 * $1 turn, $2 conversation, $3 answer, $4 tenant, $5 user, $6 content, $7 metadata, $8 question */
static const char sql_keep_broken[] =
    "WITH c AS (UPDATE chat.conversations SET next_seq = next_seq + 1 WHERE id = $2::uuid "
    "AND EXISTS (SELECT 1 FROM chat.turns t WHERE t.id = $1::uuid AND t.conversation_id = $2::uuid "
    "AND t.state = 'accepted') RETURNING next_seq - 1 AS seq) "
    "INSERT INTO chat.messages (id, tenant_id, user_id, conversation_id, seq, sender_type, "
    "content, metadata, parent_message_id, turn_id, chosen) SELECT $3::uuid, $4, $5::uuid, "
    "$2::uuid, c.seq, "
    "'assistant', $6::text, $7::jsonb, $8::uuid, $1::uuid, false FROM c";

static void failed(struct job *job, const struct pg_segment *s, void *state)
{
    struct ending *x = state;

    if (x->answer)
        look_up(job, x);
    outcome_answer(&x->outcome, s, job); /* which is an answer, if that came first */
}

static void fail_turn(struct job *job, struct ending *x, struct transaction *t)
{
    size_t n;

    transaction_add(t, sql_release, 1, (const char *const[]){x->turn_id});
    transaction_add(t, sql_fail, 2,
                    (const char *const[]){x->turn_id, body_text(job_arena(job), x->problem, &n)});
    requests_drop_lost(t, &x->of);
    outcome_add(&x->outcome, t, x->turn_id);
    budget_settle(t, job, x->turn_id);
    transaction_run(t, failed, x);
}

static void break_off(struct job *job, struct ending *x)
{
    const struct envelope *env = job_envelope(job);
    struct transaction *t = transaction_new(job, x->conversation_id);

    transaction_lock_conversation(t, x->conversation_id);
    transaction_add(t, sql_keep_broken, 8,
                    (const char *const[]){x->turn_id, x->conversation_id, x->answer_id,
                                          env->tenant_id, env->user_id, x->content,
                                          metadata_text(job, x), x->question_id});
    requests_add(job, t, &x->of, &x->request, ENDING_BROKEN, request_epoch(job));
    fail_turn(job, x, t);
}

void message_commit(struct job *job)
{
    struct ending *x = arena_alloc(job_arena(job), sizeof(*x));
    struct err e;

    if (unpack_turn(job, x, &e) || unpack_answer(job, x, &e))
        job_fail(job, &e);
    else if (is_broken(x))
        break_off(job, x);
    else
        commit(job, x, sql_commit);
}

void turn_fail(struct job *job)
{
    struct ending *x = arena_alloc(job_arena(job), sizeof(*x));
    struct transaction *t;
    struct err e;

    if (unpack_turn(job, x, &e) || check_problem(x, &e)) {
        job_fail(job, &e);
        return;
    }
    t = transaction_new(job, x->conversation_id);
    transaction_lock_conversation(t, x->conversation_id);
    fail_turn(job, x, t);
}

/* ---- get ---- */

static void got(struct job *job, const struct pg_segment *s, void *state)
{
    struct outcome *o = state;

    if (outcome_state(o, s))
        job_reply(job, 200, outcome_turn(o, s));
    else
        job_reject(job, 404, "there is no such turn");
}

void turn_get(struct job *job)
{
    const char *id = json_string_value(json_object_get(job_body(job), "turn_id"));
    struct outcome *o = arena_alloc(job_arena(job), sizeof(*o));
    struct transaction *t = transaction_new(job, id);

    outcome_add(o, t, id);
    transaction_run(t, got, o);
}
