/*
 * The ids between which all messages of a conversation are: none is older than its conversation,
 * beyond what clocks differ. With them PostgreSQL looks only into the partitions of those months.
 */
#ifndef PERSISTENCE_BOUNDS_H
#define PERSISTENCE_BOUNDS_H

#include <stdbool.h>

#include "common/base/uuid.h"

struct bounds {
    char low[UUID_TEXT], high[UUID_TEXT]; /* low is within, high is not */
};

void bounds_of(const char *conversation_id, struct bounds *b);

/* Is the id of a message to come within them? */
bool bounds_hold(const char *conversation_id, const char *id);

/* The condition on chat.messages AS m, with the numbers of the two parameters. */
#define BOUNDS(low, high) "m.id >= $" #low "::uuid AND m.id < $" #high "::uuid"

#endif
