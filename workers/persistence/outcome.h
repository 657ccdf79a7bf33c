/* What became of a turn, out of its rows. */
#ifndef PERSISTENCE_OUTCOME_H
#define PERSISTENCE_OUTCOME_H

#include <jansson.h>

#include "workers/persistence/database.h"

/* The statements of a turn. */
struct outcome {
    int turn, question, answer, usage;
};

void outcome_add(struct outcome *o, struct transaction *t, const char *turn_id);

/* "accepted", "completed", "failed" or "stopped"; NULL: there is no such turn. */
const char *outcome_state(const struct outcome *o, const struct pg_segment *s);

/* How an answer ended that is not whole: in message.commit, and in its metadata. */
#define ENDING_STOPPED "stopped" /* by the user, who has what came until then */
#define ENDING_BROKEN  "broken"  /* by the model; the turn failed */

/* The body of the answer of a completed or stopped turn; NULL of others. The caller owns it. */
json_t *outcome_result(const struct outcome *o, const struct pg_segment *s);
json_t *outcome_problem(const struct outcome *o, const struct pg_segment *s); /* of a failed one */

/* The conversation of a turn that there is. */
const char *outcome_conversation(const struct outcome *o, const struct pg_segment *s);

/* The turn's question. The caller owns it. */
json_t *outcome_question(const struct outcome *o, const struct pg_segment *s);

/* The whole turn, as turn.get answers it. */
json_t *outcome_turn(const struct outcome *o, const struct pg_segment *s);

/* Answer the job with what the turn came to: its result, its problem, or a 409 while it is under
 * way. */
void outcome_answer(const struct outcome *o, const struct pg_segment *s, struct job *job);

#endif
