/* Calls whose answer is streamed to the client as server-sent events. */
#ifndef GATEWAY_STREAM_H
#define GATEWAY_STREAM_H

#include "common/chat/envelope.h"
#include "gateway-shim/gateway.h"

/* Call the request's operation and stream what comes. Until something comes nothing is sent, so
 * that an early failure is an ordinary answer. A client that leaves ends the stream, not the turn. */
void stream_call(struct request *r, const struct envelope *env, const char *body, size_t n);

#endif
