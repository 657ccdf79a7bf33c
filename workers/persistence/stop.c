/* A turn is to be stopped: that is kept in the turn, and then told to whoever makes its answer. */
#include <string.h>

#include "common/base/text.h"
#include "common/base/uuid.h"
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"

struct stop {
    const char *conversation_id, *message_id;
    char low[UUID_TEXT], high[UUID_TEXT]; /* between them are the ids of the message's time */
    int row;                              /* statement */
};

/* $1 conversation, $2 message, $3 and $4 bounds. Turn, question and answer have ids of the same time, so
 * that no index of answers is needed; a question may have been asked again since. Of several turns the
 * one that was begun last. */
static const char sql_stop[] =
    "WITH found AS ("
    "(SELECT t.id, t.state, t.created_at FROM chat.turns t WHERE t.id >= $3::uuid "
    "AND t.id < $4::uuid AND t.conversation_id = $1::uuid AND $2::uuid IN (t.id, t.answer_id)) "
    "UNION ALL (SELECT t.id, t.state, t.created_at FROM chat.turns t "
    "WHERE t.conversation_id = $1::uuid AND t.question_id = $2::uuid) "
    "ORDER BY created_at DESC, id DESC LIMIT 1), "
    "mine AS (SELECT f.id, f.state FROM found f WHERE EXISTS (SELECT 1 FROM chat.conversations c "
    "WHERE c.id = $1::uuid AND c.status <> 'deleted')), "
    "u AS (UPDATE chat.turns t SET stop_requested_at = coalesce(t.stop_requested_at, now()) "
    "FROM mine WHERE t.id = mine.id AND t.state = 'accepted' RETURNING t.id) "
    "SELECT mine.id, mine.state, u.id IS NOT NULL FROM mine LEFT JOIN u ON u.id = mine.id";

static void done(struct job *job, const struct pg_segment *s, void *state)
{
    struct stop *stop = state;
    const char *turn_id = pg_text(s, stop->row, 0, 0);
    bool stopping = turn_id && strcmp(pg_text(s, stop->row, 0, 2), "t") == 0;
    json_t *answer;

    if (!turn_id) {
        job_reject(job, 404, "there is no such turn in this conversation");
        return;
    }
    answer = json_pack("{s:s, s:s, s:s, s:b}", "turn_id", turn_id, "conversation_id",
                       stop->conversation_id, "state", pg_text(s, stop->row, 0, 1), "stopping",
                       stopping);
    if (stopping)
        job_control(job, CONTROL_STOP, json_pack("{s:s}", "turn_id", turn_id));
    job_reply(job, stopping ? 202 : 200, answer);
}

static const char *id_of(struct job *job, const char *name)
{
    char *id =
        arena_strdup(job_arena(job), json_string_value(json_object_get(job_body(job), name)));

    text_lower(id);
    return id;
}

void message_stop(struct job *job)
{
    struct stop *stop = arena_alloc(job_arena(job), sizeof(*stop));
    struct transaction *t;
    int64_t ms;

    stop->conversation_id = id_of(job, "conversation_id");
    stop->message_id = id_of(job, "message_id");
    ms = uuid_time_ms(stop->message_id);
    uuid_v7_floor(ms < 0 ? 0 : ms, stop->low);
    uuid_v7_floor(ms < 0 ? 0 : ms + 1, stop->high);
    t = transaction_new(job, stop->conversation_id);
    transaction_lock_conversation(t, stop->conversation_id);
    stop->row = transaction_add(
        t, sql_stop, 4,
        (const char *const[]){stop->conversation_id, stop->message_id, stop->low, stop->high});
    transaction_run(t, done, stop);
}
