/* The messages before a turn's question, for its prompt. */
#ifndef PERSISTENCE_HISTORY_H
#define PERSISTENCE_HISTORY_H

#include <jansson.h>

#include "workers/persistence/database.h"

struct history {
    int rows, later; /* statements; later: -1 without one */
};

/* Of a question that was sent just now, in this transaction: all messages but that. */
void history_add_newest(struct history *h, struct transaction *t, const char *conversation_id,
                        const char *question_id);
/* Of any turn's question. */
void history_add(struct history *h, struct transaction *t, const char *conversation_id,
                 const char *turn_id);

/* [{"role", "content", "content_type"}], the oldest first. Answers stand behind their questions,
 * wherever they came in the conversation: others may have been asked in between, and answers be
 * given anew. Those whose questions are not there are left out. The caller owns it. */
json_t *history_list(const struct history *h, const struct pg_segment *s);

#endif
