/*
 * One dead letter understood: where it failed, why, what it was, and by what it is known again. Our
 * workers' have headers that say so, the broker's an x-death, and what others put there neither.
 */
#ifndef CTL_DLQ_LETTER_H
#define CTL_DLQ_LETTER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/uuid.h"
#include "common/io/message.h"

enum letter_origin { LETTER_WORKER, LETTER_BROKER, LETTER_FOREIGN };

/* Texts are borrowed of the message, and NULL where it has none. */
struct letter {
    const struct mq_message *message;
    enum letter_origin origin;
    const char *queue;     /* where it failed, and where a replay goes to */
    char id[UUID_TEXT];    /* x-dead-letter-id; else made of message_id, queue and time */
    char print[UUID_TEXT]; /* of type, correlation_id and body: callers may use ids twice */
    bool indistinct;       /* it has no id at all: another one may look the same */
    const char *operation, *tenant, *user, *error, *error_kind, *failed_by, *first_failed,
        *replay_of;
    int64_t failed_ms; /* since the epoch; 0: not known */
    int attempt;
};

/* queue: of whose dead letters it is. */
void letter_read(struct letter *l, const char *queue, const struct mq_message *m);

const char *letter_origin_name(enum letter_origin origin);

/* Its entry in x-death for this queue, or NULL. */
const struct mq_table *letter_death(const struct mq_message *m, const char *queue);

/* The headers by which broker and fleet keep their books on a dead letter. */
bool letter_header_of_failure(const char *name);

#endif
