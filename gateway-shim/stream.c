#include "gateway-shim/stream.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/chat/problem.h"
#include "gateway-shim/answer.h"
#include "gateway-shim/respond.h"
#include "gateway-shim/rpc.h"
#include "gateway-shim/events.h"

static struct metric_family streams_open = {"http_streams", METRIC_GAUGE,
                                            "Streams that clients are reading now", NULL, NULL};
static struct metric_family streams_ended = {"http_streams_total", METRIC_COUNTER,
                                             "Streams, by how they ended", NULL, NULL};
static struct metric_family first_text = {
    "http_stream_first_text_seconds", METRIC_HISTOGRAM,
    "From a complete request to the first piece of its answer's text", NULL, NULL};

struct stream {
    struct request *request;
    struct rpc_call *call;
    struct events *events;
    struct timer *ping; /* NULL: nothing was sent yet */
    bool spoke;         /* text was sent */
};

/* What one message of the fleet can become: its text is told as a delta, and all of it as it is. */
static size_t output_max(void)
{
    return 2 * (size_t)process_settings.message_max + 65536;
}

static void free_stream(struct stream *s)
{
    timer_free(s->ping);
    events_free(s->events);
}

/* how: a label of the metric; error: for the log, or NULL. Frees the stream with its request. */
static void end(struct stream *s, const char *how, const char *error)
{
    free_stream(s);
    metric_add(metric_get(&streams_open, ""), -1);
    metric_add(metric_get(&streams_ended, how), 1);
    respond_stream_end(s->request, error);
}

static void client_left(void *arg, bool slow)
{
    struct stream *s = arg;

    rpc_end(s->call);
    end(s, slow ? "outcome=\"slow\"" : "outcome=\"left\"",
        slow ? "the client read too slowly" : "the client left");
}

static void ping(void *arg)
{
    struct stream *s = arg;

    http_stream_write(s->request->http, EVENTS_PING, strlen(EVENTS_PING));
    timer_set(s->ping, gateway_settings.stream_ping_s * 1000);
}

static void start(struct stream *s)
{
    respond_stream_start(s->request, "text/event-stream", client_left, s);
    metric_add(metric_get(&streams_open, ""), 1);
    s->ping = timer_new(s->request->gateway->loop, ping, s);
    timer_set(s->ping, gateway_settings.stream_ping_s * 1000);
}

static void tell_delta(struct stream *s, const struct rpc_result *result, struct buf *out)
{
    int64_t us = clock_monotonic_us() - s->request->started_us;

    events_delta(s->events, result->epoch, result->offset, result->body, result->body_len, out);
    if (!s->spoke && out->len)
        metric_observe(metric_get(&first_text, ""), (double)us / 1e6);
    s->spoke = s->spoke || out->len;
}

/* Takes the problem. Returns its detail, in the request's arena. */
static const char *tell_problem(struct stream *s, json_t *problem, struct buf *out)
{
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    char *text = json_dumps(problem, JSON_COMPACT);

    events_failed(s->events, text, strlen(text), out);
    free(text);
    detail = arena_strdup(s->request->arena, detail);
    json_decref(problem);
    return detail;
}

/* The last result. Returns what went wrong, NULL for nothing. */
static const char *tell_end(struct stream *s, const struct rpc_result *result, struct buf *out)
{
    static const struct rpc_result unreadable = {
        .status = 502, .open = true, .why = "a worker's answer cannot be read"};

    if (result->type == RPC_NONE)
        return tell_problem(s, answer_problem(s->request, result), out);
    if (result->type == RPC_ERROR || result->status >= 400) {
        events_failed(s->events, result->body, result->body_len, out);
        return "the turn failed";
    }
    if (events_completed(s->events, result->epoch, result->body, result->body_len, out))
        return tell_problem(s, answer_problem(s->request, &unreadable), out);
    return NULL;
}

static void came(void *arg, const struct rpc_result *result, bool last)
{
    struct stream *s = arg;
    const char *error = NULL;
    struct buf out;

    if (!s->ping && last && (result->type != RPC_REPLY || result->status != 200)) {
        free_stream(s);
        answer_result(s->request, result);
        return;
    }
    if (!s->ping)
        start(s);
    buf_init(&out, output_max());
    if (last)
        error = tell_end(s, result, &out);
    else if (result->type == RPC_ACCEPTED)
        events_accepted(s->events, result->body, result->body_len, &out);
    else
        tell_delta(s, result, &out);
    if (out.len)
        http_stream_write(s->request->http, out.data, out.len);
    buf_free(&out);
    if (last)
        end(s, error ? "outcome=\"failed\"" : "outcome=\"completed\"", error);
}

void stream_call(struct request *r, const struct envelope *env, const char *body, size_t n)
{
    struct stream *s = arena_alloc(r->arena, sizeof(*s));
    struct err e;

    s->request = r;
    s->events = events_new(r->correlation_id, (size_t)process_settings.message_max);
    s->call =
        rpc_call(r->gateway->rpc, r->operation, r->arena, env, body, n, RPC_STREAM, came, s, &e);
    if (!s->call) {
        free_stream(s);
        respond_problem(r, e.status, e.text, NULL);
    }
}
