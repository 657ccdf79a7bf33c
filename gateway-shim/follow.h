/* Streams of turns that were begun before: by another client, through another shim, in another life. */
#ifndef GATEWAY_FOLLOW_H
#define GATEWAY_FOLLOW_H

#include "common/chat/envelope.h"
#include "gateway-shim/gateway.h"

/*
 * Answer the request, whose operation is turn.get, with the turn's events: from what Last-Event-ID
 * says the client has, or all. A turn that ended is told from the database; of one under way the
 * worker that makes its answer is asked for the rest, and asked again when nothing is heard, since
 * there may be none yet, or another by now. A client that leaves changes nothing for the turn.
 */
void follow_call(struct request *r, const struct envelope *env, const char *turn_id);

#endif
