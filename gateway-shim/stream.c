#include "gateway-shim/stream.h"

#include "common/chat/problem.h"
#include "gateway-shim/answer.h"
#include "gateway-shim/events.h"
#include "gateway-shim/respond.h"
#include "gateway-shim/rpc.h"
#include "gateway-shim/sse.h"

struct stream {
    struct sse sse;
    struct request *request;
    struct rpc_call *call;
};

static void client_left(void *arg, bool slow)
{
    struct stream *s = arg;

    rpc_end(s->call);
    sse_end_left(&s->sse, slow);
}

/* The last result. Returns what went wrong, NULL for nothing. */
static const char *tell_end(struct stream *s, const struct rpc_result *result, struct buf *out)
{
    static const struct rpc_result unreadable = {
        .status = 502, .open = true, .why = "a worker's answer cannot be read"};
    struct events *events = s->sse.events;

    if (result->type == RPC_NONE)
        return sse_problem(&s->sse, answer_problem(s->request, result), out);
    if (result->type == RPC_ERROR || result->status >= 400) {
        events_failed(events, result->body, result->body_len, out);
        return "the turn failed";
    }
    if (events_completed(events, result->epoch, result->body, result->body_len, out))
        return sse_problem(&s->sse, answer_problem(s->request, &unreadable), out);
    return NULL;
}

static void tell_piece(struct stream *s, const struct rpc_result *result, struct buf *out)
{
    if (result->type == RPC_ACCEPTED)
        events_accepted(s->sse.events, result->body, result->body_len, out);
    else if (result->type == RPC_INTERIM)
        events_interim(s->sse.events, result->body, result->body_len, out);
    else
        sse_delta(&s->sse, result, out);
}

static void came(void *arg, const struct rpc_result *result, bool last)
{
    struct stream *s = arg;
    const char *error = NULL;
    struct buf out;

    if (!sse_started(&s->sse) && last && (result->type != RPC_REPLY || result->status != 200)) {
        sse_fini(&s->sse);
        answer_result(s->request, result);
        return;
    }
    if (!sse_started(&s->sse))
        sse_start(&s->sse, client_left, s);
    sse_buffer(&out);
    if (last)
        error = tell_end(s, result, &out);
    else
        tell_piece(s, result, &out);
    sse_send(&s->sse, &out);
    if (last)
        sse_end(&s->sse, error);
}

void stream_call(struct request *r, const struct envelope *env, const char *body, size_t n)
{
    struct stream *s = arena_alloc(r->arena, sizeof(*s));
    struct err e;

    s->request = r;
    sse_init(&s->sse, r, events_new(r->correlation_id, (size_t)process_settings.message_max));
    s->call =
        rpc_call(r->gateway->rpc, r->operation, r->arena, env, body, n, RPC_STREAM, came, s, &e);
    if (!s->call) {
        sse_fini(&s->sse);
        respond_problem(r, e.status, e.text, NULL);
    }
}
