/* The stream of one client: its head, what is sent, the pings between, and its end. */
#ifndef GATEWAY_SSE_H
#define GATEWAY_SSE_H

#include "common/base/buf.h"
#include "gateway-shim/events.h"
#include "gateway-shim/gateway.h"
#include "gateway-shim/rpc.h"

struct sse {
    struct request *request;
    struct events *events;
    struct timer *ping; /* NULL: nothing was sent yet */
    bool spoke;         /* text was sent */
};

/* Takes the events. Nothing is sent yet. */
void sse_init(struct sse *s, struct request *r, struct events *events);
/* Give it up before its head was sent: the request is still to be answered. */
void sse_fini(struct sse *s);

bool sse_started(const struct sse *s);
/* Send the head. left is called with arg when the client is gone; sse_end() is still to be called. */
void sse_start(struct sse *s, http_closed *left, void *arg);

/* A buffer for what one message of the fleet can become. */
void sse_buffer(struct buf *out);
/* Send what is in it, which may be nothing, and free it. */
void sse_send(struct sse *s, struct buf *out);

/* Append the deltas of one message. */
void sse_delta(struct sse *s, const struct rpc_result *result, struct buf *out);
/* Append an error. Takes the problem; returns its detail, which lives as long as the request. */
const char *sse_problem(struct sse *s, json_t *problem, struct buf *out);

/* error: for the log; NULL: it was completed. Frees the request, and what the stream has. */
void sse_end(struct sse *s, const char *error);
/* The same, since the client is gone; slow: it was cut off. */
void sse_end_left(struct sse *s, bool slow);

#endif
