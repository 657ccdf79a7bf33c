/*
 * Remote procedure calls over AMQP: publish a message with reply_to and correlation_id, wait for
 * the answer until the deadline. Every call ends by exactly one last result, whatever happens.
 */
#ifndef GATEWAY_RPC_H
#define GATEWAY_RPC_H

#include "common/chat/envelope.h"
#include "common/chat/operations.h"
#include "common/worker/process.h"

struct rpc;
struct rpc_call;

struct rpc_result {
    int status;
    bool problem;     /* the body is problem details */
    const char *body; /* of the answer; NULL: there is none, and why says what happened */
    size_t body_len;
    const char *why;
};

/* Gets the result; last is false only for calls that want several answers. */
typedef void rpc_done(void *arg, const struct rpc_result *result, bool last);

/* ready is called whenever calls can be made again, after the start and after each loss. */
struct rpc *rpc_new(struct loop *l, struct process *p, loop_cb *ready, void *arg, struct err *e);
void rpc_free(struct rpc *rpc); /* calls under way end without a result */

/* Can messages go out and answers come in? */
bool rpc_is_ready(const struct rpc *rpc);
size_t rpc_pending(const struct rpc *rpc);

/*
 * Call an operation. env gives the identity, the correlation id (unique, a UUID), the trace; the
 * rest is filled in here. many: several answers may come, until rpc_end() or the deadline. done
 * is called from the loop, never from within. NULL with e when the call cannot be made now (503,
 * or 501 where nobody serves it).
 */
struct rpc_call *rpc_call(struct rpc *rpc, const struct operation *op, struct arena *a,
                          const struct envelope *env, const char *body, size_t n, bool many,
                          rpc_done *done, void *arg, struct err *e);
void rpc_end(struct rpc_call *call); /* no result is wanted any more */

/* End all calls with a 503. */
void rpc_abandon(struct rpc *rpc, const char *why);

/* Delete the reply queue, close the connections, then call done. */
void rpc_close(struct rpc *rpc, loop_cb *done, void *arg);

#endif
