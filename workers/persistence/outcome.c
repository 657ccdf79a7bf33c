#include "workers/persistence/outcome.h"

#include <string.h>

#include "workers/persistence/rows.h"

static const char sql_turn[] =
    "SELECT t.id, t.conversation_id, t.kind, t.state, " ROW_MS("t.created_at") ", " ROW_MS(
        "t.finished_at") ", t.problem, t.question_id, t.answer_id FROM chat.turns t "
                         "WHERE t.id = $1::uuid AND EXISTS (SELECT 1 FROM chat.conversations c "
                         "WHERE c.id = t.conversation_id AND c.status <> 'deleted')";
static const char sql_question[] =
    "SELECT " MESSAGE_COLUMNS " FROM chat.messages m "
    "WHERE m.id = (SELECT t.question_id FROM chat.turns t WHERE t.id = $1::uuid)";
static const char sql_answer[] =
    "SELECT " MESSAGE_COLUMNS " FROM chat.messages m "
    "WHERE m.id = (SELECT t.answer_id FROM chat.turns t WHERE t.id = $1::uuid)";
static const char sql_usage[] =
    "SELECT " USAGE_COLUMNS " FROM chat.usage_tracking u WHERE u.id = $1::uuid";

enum { KIND = 2, STATE, CREATED, FINISHED, PROBLEM, QUESTION_ID, ANSWER_ID };

void outcome_add(struct outcome *o, struct transaction *t, const char *turn_id)
{
    const char *const params[] = {turn_id};

    o->turn = transaction_add(t, sql_turn, 1, params);
    o->question = transaction_add(t, sql_question, 1, params);
    o->answer = transaction_add(t, sql_answer, 1, params);
    o->usage = transaction_add(t, sql_usage, 1, params);
}

const char *outcome_state(const struct outcome *o, const struct pg_segment *s)
{
    return pg_rows(s, o->turn) ? pg_text(s, o->turn, 0, STATE) : NULL;
}

json_t *outcome_result(const struct outcome *o, const struct pg_segment *s)
{
    const char *state = outcome_state(o, s);
    json_t *usage, *answer;

    if (!state || (strcmp(state, "completed") != 0 && strcmp(state, "stopped") != 0) ||
        pg_rows(s, o->answer) == 0)
        return NULL;
    answer = row_message(s, o->answer, 0, 0);
    usage = pg_rows(s, o->usage) ? row_usage(s, o->usage, 0, 0) : json_null();
    if (strcmp(pg_text(s, o->turn, 0, KIND), "regenerate") == 0)
        return json_pack("{s:o, s:o, s:o}", "new_message", answer, "usage", usage, "turn_id",
                         row_text(s, o->turn, 0, 0));
    return json_pack("{s:o, s:o, s:o, s:o}", "user_message", outcome_question(o, s),
                     "assistant_message", answer, "usage", usage, "turn_id",
                     row_text(s, o->turn, 0, 0));
}

const char *outcome_conversation(const struct outcome *o, const struct pg_segment *s)
{
    return pg_text(s, o->turn, 0, 1);
}

json_t *outcome_question(const struct outcome *o, const struct pg_segment *s)
{
    return pg_rows(s, o->question) ? row_message(s, o->question, 0, 0) : json_null();
}

json_t *outcome_problem(const struct outcome *o, const struct pg_segment *s)
{
    return row_json(s, o->turn, 0, PROBLEM);
}

json_t *outcome_turn(const struct outcome *o, const struct pg_segment *s)
{
    json_t *result = outcome_result(o, s);

    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
                     row_text(s, o->turn, 0, 0), "conversation_id", row_text(s, o->turn, 0, 1),
                     "kind", row_text(s, o->turn, 0, KIND), "state", row_text(s, o->turn, 0, STATE),
                     "created_at", row_time(s, o->turn, 0, CREATED), "finished_at",
                     row_time(s, o->turn, 0, FINISHED), "user_message_id",
                     row_text(s, o->turn, 0, QUESTION_ID), "assistant_message_id",
                     row_text(s, o->turn, 0, ANSWER_ID), "result", result ? result : json_null(),
                     "problem", outcome_problem(o, s));
}

void outcome_answer(const struct outcome *o, const struct pg_segment *s, struct job *job)
{
    const char *state = outcome_state(o, s);
    json_t *result = outcome_result(o, s), *problem;

    if (result) {
        job_reply(job, 200, result);
        return;
    }
    if (state && strcmp(state, "failed") == 0) {
        problem = outcome_problem(o, s);
        job_refuse(job, (int)json_integer_value(json_object_get(problem, "status")), problem);
        return;
    }
    if (state)
        job_reject(job, 409, "the turn %s is %s", pg_text(s, o->turn, 0, 0),
                   strcmp(state, "accepted") == 0 ? "still under way" : state);
    else
        job_reject(job, 404, "there is no such turn");
}
