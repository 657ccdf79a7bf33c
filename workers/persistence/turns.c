/* The first step of a turn: the question is saved, the history read, and the slip followed. */
#include <string.h>

#include "common/base/text.h"
#include "common/base/uuid.h"
#include "workers/persistence/bounds.h"
#include "workers/persistence/budget.h"
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/history.h"
#include "workers/persistence/idempotency.h"
#include "workers/persistence/outcome.h"
#include "workers/persistence/rows.h"
#include "workers/persistence/selection.h"

struct turn {
    const char *kind; /* "send" or "regenerate" */
    const char *id, *conversation_id, *question_id, *answer_id;
    const char *key, *hash; /* NULL without an idempotency key */
    const char *reference;  /* the parent of a question, or what is to be answered anew; or NULL */
    int conversation, saved, key_row, reference_row; /* statements */
    struct history history;
    struct outcome outcome; /* of this turn, or of the one that the key stands for */
};

/* A statement of its own: the next one then sees what the one before us has committed. */
static const char sql_lock[] =
    "SELECT c.id, c.title, c.context_type, c.context_data, c.status FROM chat.conversations c "
    "WHERE c.id = $1::uuid FOR NO KEY UPDATE";

/* A turn of another conversation is not the one that was begun: inserting it again is an error. */
#define TURN_IS_NEW                                                                                \
    "NOT EXISTS (SELECT 1 FROM chat.turns t WHERE t.id = $2::uuid AND t.conversation_id = "        \
    "$1::uuid)"
#define KEY_IS_FREE(key, operation, hash)                                                          \
    "k AS (INSERT INTO chat.idempotency_keys "                                                     \
    "(tenant_id, user_id, key, operation, payload_hash, message_id) "                              \
    "SELECT $5, $6::uuid, " key "::text, " operation "::text, " hash "::uuid, $2::uuid FROM ok "   \
    "WHERE " key "::text IS NOT NULL ON CONFLICT DO NOTHING RETURNING 1), "                        \
    "go AS (SELECT 1 FROM ok WHERE " key "::text IS NULL UNION ALL SELECT 1 FROM k), "
#define INSERT_TURN                                                                                \
    "INSERT INTO chat.turns (id, tenant_id, user_id, conversation_id, kind, question_id, "         \
    "answer_id, idempotency_key, payload_hash) "

/* $1 conversation, $2 turn, $3 question, $4 answer, $5 tenant, $6 user, $7 content, $8 content type.
 * Changes nothing if the conversation is not active or the turn there already. */
#define SEND(condition, free, go, parent, key, hash)                                               \
    "WITH ok AS (SELECT 1 FROM chat.conversations c "                                              \
    "WHERE c.id = $1::uuid AND c.status = 'active' AND " TURN_IS_NEW condition "), " free          \
    "c AS (UPDATE chat.conversations SET next_seq = next_seq + 1, updated_at = now() "             \
    "WHERE id = $1::uuid AND EXISTS (SELECT 1 FROM " go ") RETURNING next_seq - 1 AS seq), "       \
    "t AS (" INSERT_TURN                                                                           \
    "SELECT $2::uuid, $5, $6::uuid, $1::uuid, 'send', $3::uuid, $4::uuid, " key ", " hash          \
    " FROM c) "                                                                                    \
    "INSERT INTO chat.messages AS m (id, tenant_id, user_id, conversation_id, seq, sender_type, "  \
    "sender_id, content, content_type, parent_message_id, turn_id) "                               \
    "SELECT $3::uuid, $5, $6::uuid, $1::uuid, c.seq, 'user', $6::uuid, $7::text, "                 \
    "$8::text, " parent ", $2::uuid FROM c RETURNING m.seq, " ROW_MS("m.created_at")
static const char sql_send[] = SEND("", "", "ok", "NULL", "NULL", "NULL::uuid");
/* $9 parent, $10 key, $11 operation, $12 hash. Nor if the key is taken or the parent elsewhere. What is
 * not asked for would still be set up, and its tables locked: so there are two. */
static const char sql_send_with[] =
    SEND(" AND ($9::uuid IS NULL OR EXISTS (SELECT 1 FROM chat.messages p WHERE p.id = $9::uuid "
         "AND p.conversation_id = $1::uuid))",
         KEY_IS_FREE("$10", "$11", "$12"), "go", "$9::uuid", "$10::text", "$12::uuid");

/* $1 conversation, $2 turn, $3 the message to be answered anew, $4 answer, $5 tenant, $6 user, $7 key,
 * $8 operation, $9 hash. The answer's seq comes with its commit. */
static const char sql_regenerate[] =
    "WITH target AS (SELECT CASE m.sender_type WHEN 'user' THEN m.id ELSE m.parent_message_id END "
    "AS question_id FROM chat.messages m WHERE m.id = $3::uuid "
    "AND m.conversation_id = $1::uuid AND m.sender_type IN ('user', 'assistant')), "
    "ok AS (SELECT 1 FROM chat.conversations c, target WHERE c.id = $1::uuid "
    "AND c.status = 'active' AND target.question_id IS NOT NULL AND " TURN_IS_NEW "), " KEY_IS_FREE(
        "$7", "$8",
        "$9") "c AS (UPDATE chat.conversations SET updated_at = now() "
              "WHERE id = $1::uuid AND EXISTS (SELECT 1 FROM go) RETURNING 1) " INSERT_TURN
              "SELECT $2::uuid, $5, $6::uuid, $1::uuid, 'regenerate', target.question_id, "
              "$4::uuid, "
              "$7::text, $9::uuid FROM c, target";

static const char sql_key[] = IDEMPOTENCY_SELECT;
static const char sql_reference[] =
    "SELECT m.sender_type = 'user' OR m.parent_message_id IS NOT NULL FROM chat.messages m "
    "WHERE m.id = $1::uuid AND m.conversation_id = $2::uuid";

/* ---- the next step ---- */

/* Takes the question. */
static void go_on(struct job *job, const struct turn *turn, const struct pg_segment *s,
                  json_t *question)
{
    const json_t *args = job_body(job);
    bool stream = json_is_true(json_object_get(args, "stream"));
    json_t *accepted, *body;

    body = json_pack("{s:{s:s, s:s, s:s, s:O, s:s}, s:b, s:{s:o, s:o, s:o, s:o}, s:O, s:o, s:o*}",
                     "turn", "id", turn->id, "conversation_id", turn->conversation_id, "kind",
                     turn->kind, "question_id", json_object_get(question, "id"), "answer_id",
                     turn->answer_id, "stream", stream, "conversation", "id",
                     row_text(s, turn->conversation, 0, 0), "title",
                     row_text(s, turn->conversation, 0, 1), "context_type",
                     row_text(s, turn->conversation, 0, 2), "context_data",
                     row_json(s, turn->conversation, 0, 3), "user_message", question, "history",
                     history_list(&turn->history, s), "selection", selection_json(job));
    accepted = json_pack("{s:s, s:s, s:o, s:s}", "turn_id", turn->id, "conversation_id",
                         turn->conversation_id, "user_message", question, "state", "accepted");
    if (json_is_true(json_object_get(args, "async"))) {
        job_accept(job, accepted, body);
        return;
    }
    if (stream)
        job_notice(job, TYPE_ACCEPTED, accepted);
    else
        json_decref(accepted);
    job_forward(job, body);
}

/* ---- a turn that was begun before, or could not be ---- */

static void earlier_known(struct job *job, const struct pg_segment *s, void *state)
{
    struct turn *turn = state;

    outcome_answer(&turn->outcome, s, job);
}

static void answer_earlier(struct job *job, struct turn *turn, const char *id)
{
    struct transaction *t = transaction_new(job, turn->conversation_id);

    outcome_add(&turn->outcome, t, id);
    transaction_run(t, earlier_known, turn);
}

/* Why it was not begun. */
static void explain(struct job *job, struct turn *turn, const struct pg_segment *s)
{
    const char *status = pg_text(s, turn->conversation, 0, 4), *first,
               *answerable = pg_text(s, turn->reference_row, 0, 0);
    bool send = strcmp(turn->kind, "send") == 0;
    struct err e;

    if (idempotency_judge(s, turn->key_row, &first, &e)) {
        job_fail(job, &e);
        return;
    }
    if (first)
        answer_earlier(job, turn, arena_strdup(job_arena(job), first));
    else if (!status || strcmp(status, "deleted") == 0)
        job_reject(job, 404, "there is no such conversation");
    else if (strcmp(status, "active") != 0)
        job_reject(job, 409, "the conversation is archived; it takes no messages");
    else if (turn->reference && !answerable)
        job_reject(job, send ? 400 : 404, "%s",
                   send ? "parent_message_id is no message of this conversation"
                        : "there is no such message in this conversation");
    else if (!send && strcmp(answerable, "t") != 0)
        job_reject(job, 409, "the message answers no question");
    else { /* the key was released in between */
        err_set(&e, ERR_RETRY, 503, "the earlier request with this key has just ended");
        job_fail(job, &e);
    }
}

static void looked(struct job *job, const struct pg_segment *s, void *state)
{
    struct turn *turn = state;
    const char *known = outcome_state(&turn->outcome, s);

    if (!known)
        explain(job, turn, s);
    else if (strcmp(outcome_conversation(&turn->outcome, s), turn->conversation_id) != 0)
        job_reject(job, 409, "the message_id is the id of something else already");
    else if (strcmp(known, "accepted") == 0)
        go_on(job, turn, s, outcome_question(&turn->outcome, s));
    else
        outcome_answer(&turn->outcome, s, job); /* delivered again after its end */
}

static void look(struct job *job, struct turn *turn)
{
    const struct envelope *env = job_envelope(job);
    struct transaction *t = transaction_new(job, turn->conversation_id);

    turn->conversation =
        transaction_add(t, sql_lock, 1, (const char *const[]){turn->conversation_id});
    turn->key_row = transaction_add(
        t, sql_key, 5,
        (const char *const[]){env->tenant_id, env->user_id, turn->key, env->type, turn->hash});
    turn->reference_row = transaction_add(
        t, sql_reference, 2, (const char *const[]){turn->reference, turn->conversation_id});
    outcome_add(&turn->outcome, t, turn->id);
    history_add(&turn->history, t, turn->conversation_id, turn->id);
    transaction_run(t, looked, turn);
}

/* ---- begin ---- */

static void sent(struct job *job, const struct pg_segment *s, void *state)
{
    const char *type = json_string_value(json_object_get(job_body(job), "content_type"));
    struct turn *turn = state;
    json_t *question;

    if (pg_rows(s, turn->saved) == 0) {
        look(job, turn);
        return;
    }
    question = json_pack("{s:s, s:s, s:s, s:O, s:s, s:n, s:s?, s:I, s:o}", "id", turn->question_id,
                         "conversation_id", turn->conversation_id, "sender_type", "user", "content",
                         json_object_get(job_body(job), "content"), "content_type",
                         type ? type : "text", "metadata", "parent_message_id", turn->reference,
                         "seq", (json_int_t)pg_integer(s, turn->saved, 0, 0), "created_at",
                         row_time(s, turn->saved, 0, 1));
    go_on(job, turn, s, question);
}

/* The question is an old one, to be read. */
static void begun_anew(struct job *job, const struct pg_segment *s, void *state)
{
    (void)s;
    look(job, state);
}

/* A transaction that has locked the conversation; NULL when the job was refused. */
static struct transaction *begin(struct job *job, struct turn *turn)
{
    struct transaction *t;
    struct err e;

    if (json_is_true(json_object_get(job_body(job), "stream")) &&
        json_is_true(json_object_get(job_body(job), "async"))) {
        job_reject(job, 400, "stream and async exclude each other");
        return NULL;
    }
    if (!bounds_hold(turn->conversation_id, turn->id)) {
        job_reject(job, 400, "the message_id is older than its conversation");
        return NULL;
    }
    if (selection_check(job, &e)) {
        job_fail(job, &e);
        return NULL;
    }
    t = transaction_new(job, turn->conversation_id);
    transaction_refuse(t, "23505", 409, "the message_id is the id of something else already");
    turn->conversation =
        transaction_add(t, sql_lock, 1, (const char *const[]){turn->conversation_id});
    return t;
}

/* An argument that is an id, as PostgreSQL writes it; NULL when there is none. */
static const char *id_of(struct job *job, const char *name)
{
    char *id =
        arena_strdup(job_arena(job), json_string_value(json_object_get(job_body(job), name)));

    if (id)
        text_lower(id);
    return id;
}

static struct turn *turn_new(struct job *job, const char *kind)
{
    const struct envelope *env = job_envelope(job);
    struct arena *a = job_arena(job);
    struct turn *turn = arena_alloc(a, sizeof(*turn));
    char id[UUID_TEXT], *own;

    turn->kind = kind;
    own = arena_strdup(a, env->message_id);
    text_lower(own);
    turn->id = own;
    turn->conversation_id = id_of(job, "conversation_id");
    turn->question_id = arena_strdup(a, uuid_v7_derived(turn->id, "question", id));
    turn->answer_id = arena_strdup(a, uuid_v7_derived(turn->id, "answer", id));
    turn->key = env->idempotency_key;
    turn->hash = turn->key ? idempotency_hash(job) : NULL;
    return turn;
}

void message_send(struct job *job)
{
    const json_t *args = job_body(job);
    const struct envelope *env = job_envelope(job);
    const char *type = json_string_value(json_object_get(args, "content_type"));
    struct turn *turn = turn_new(job, "send");
    struct transaction *t = begin(job, turn);

    if (!t)
        return;
    turn->reference = id_of(job, "parent_message_id");
    turn->saved =
        transaction_add(t, turn->key || turn->reference ? sql_send_with : sql_send,
                        turn->key || turn->reference ? 12 : 8,
                        (const char *const[]){turn->conversation_id, turn->id, turn->question_id,
                                              turn->answer_id, env->tenant_id, env->user_id,
                                              json_string_value(json_object_get(args, "content")),
                                              type ? type : "text", turn->reference, turn->key,
                                              env->type, turn->hash});
    history_add_newest(&turn->history, t, turn->conversation_id, turn->question_id);
    budget_reserve(t, job, turn->id);
    transaction_run(t, sent, turn);
}

void message_regenerate(struct job *job)
{
    const struct envelope *env = job_envelope(job);
    struct turn *turn = turn_new(job, "regenerate");
    struct transaction *t = begin(job, turn);

    if (!t)
        return;
    turn->reference = id_of(job, "message_id");
    transaction_add(t, sql_regenerate, 9,
                    (const char *const[]){turn->conversation_id, turn->id, turn->reference,
                                          turn->answer_id, env->tenant_id, env->user_id, turn->key,
                                          env->type, turn->hash});
    budget_reserve(t, job, turn->id);
    transaction_run(t, begun_anew, turn);
}
