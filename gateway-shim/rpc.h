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

/* What came, by its type property; RPC_NONE: no answer, and why says what happened. */
enum rpc_type {
    RPC_NONE,
    RPC_REPLY,
    RPC_ERROR,
    RPC_ACCEPTED,
    RPC_DELTA,
    RPC_INTERIM,
    RPC_GENERATED,
};

struct rpc_result {
    enum rpc_type type;
    int status;       /* of RPC_NONE, RPC_REPLY, RPC_ERROR */
    const char *body; /* RPC_ERROR: problem details; NULL with RPC_NONE */
    size_t body_len;
    int64_t epoch;  /* of a turn's generation; 0: not said */
    int64_t offset; /* RPC_DELTA: bytes of the epoch's text before it; -1: not said */
    const char *why;
    bool open; /* RPC_NONE: the message may have been taken, and what it asks for be done */
};

/* Which answers a call wants, and which of them is the last one. */
enum rpc_mode {
    RPC_ONE,    /* the first reply or error */
    RPC_STREAM, /* accepted, deltas and interim too; a reply or an error is the last one */
    RPC_MANY,   /* replies and errors, none of them the last one */
    RPC_FOLLOW, /* deltas, interim and generated, of something that another began */
};

/* Gets the result; last is false only for calls that want several answers. The result lives as long
 * as the call of this function; after the last one the rpc_call is gone. */
typedef void rpc_done(void *arg, const struct rpc_result *result, bool last);

/* ready is called whenever calls can be made again, after the start and after each loss. */
struct rpc *rpc_new(struct loop *l, struct process *p, loop_cb *ready, void *arg, struct err *e);
void rpc_free(struct rpc *rpc); /* calls under way end without a result */

/* Can messages go out and answers come in? */
bool rpc_is_ready(const struct rpc *rpc);
size_t rpc_pending(const struct rpc *rpc);

/*
 * Call an operation. env gives the identity, the correlation id (unique, a UUID), the trace; the
 * rest is filled in here. RPC_MANY goes on until rpc_end() or the deadline; with RPC_STREAM each
 * piece puts the deadline off. done is called from
 * the loop, never from within. NULL with e when the call cannot be made now (503,
 * or 501 where nobody serves it).
 */
struct rpc_call *rpc_call(struct rpc *rpc, const struct operation *op, struct arena *a,
                          const struct envelope *env, const char *body, size_t n,
                          enum rpc_mode mode, rpc_done *done, void *arg, struct err *e);
void rpc_end(struct rpc_call *call); /* no result is wanted any more */

/* Wait for what comes with this correlation id (a UUID), without calling anything: RPC_FOLLOW, until
 * rpc_end(). The last result comes only with rpc_abandon(). */
struct rpc_call *rpc_follow(struct rpc *rpc, const char *id, rpc_done *done, void *arg);

/* Tell all who listen on chat.control. env gives type, identity and correlation id, to which pieces may
 * come to rpc_follow(). Nobody answers; false: it could not be sent now. */
bool rpc_control(struct rpc *rpc, struct arena *a, const struct envelope *env, const char *body,
                 size_t n);

/* End all calls with a 503. */
void rpc_abandon(struct rpc *rpc, const char *why);

/* Delete the reply queue, close the connections, then call done. */
void rpc_close(struct rpc *rpc, loop_cb *done, void *arg);

#endif
