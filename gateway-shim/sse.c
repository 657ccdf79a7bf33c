#include "gateway-shim/sse.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "gateway-shim/respond.h"

static struct metric_family streams_open = {"http_streams", METRIC_GAUGE,
                                            "Streams that clients are reading now", NULL, NULL};
static struct metric_family streams_ended = {"http_streams_total", METRIC_COUNTER,
                                             "Streams, by how they ended", NULL, NULL};
static struct metric_family first_text = {
    "http_stream_first_text_seconds", METRIC_HISTOGRAM,
    "From a complete request to the first piece of its answer's text", NULL, NULL};

void sse_init(struct sse *s, struct request *r, struct events *events)
{
    *s = (struct sse){.request = r, .events = events};
}

void sse_fini(struct sse *s)
{
    timer_free(s->ping);
    events_free(s->events);
}

bool sse_started(const struct sse *s)
{
    return s->ping != NULL;
}

static void ping(void *arg)
{
    struct sse *s = arg;

    http_stream_write(s->request->http, EVENTS_PING, strlen(EVENTS_PING));
    timer_set(s->ping, gateway_settings.stream_ping_s * 1000);
}

void sse_start(struct sse *s, http_closed *left, void *arg)
{
    respond_stream_start(s->request, "text/event-stream", left, arg);
    metric_add(metric_get(&streams_open, ""), 1);
    s->ping = timer_new(s->request->gateway->loop, ping, s);
    timer_set(s->ping, gateway_settings.stream_ping_s * 1000);
}

/* The text is told as deltas, and all of it as it is. */
void sse_buffer(struct buf *out)
{
    buf_init(out, 2 * (size_t)process_settings.message_max + 65536);
}

void sse_send(struct sse *s, struct buf *out)
{
    if (out->len)
        http_stream_write(s->request->http, out->data, out->len);
    buf_free(out);
}

void sse_delta(struct sse *s, const struct rpc_result *result, struct buf *out)
{
    int64_t us = clock_monotonic_us() - s->request->started_us;

    events_delta(s->events, result->epoch, result->offset, result->body, result->body_len, out);
    if (!s->spoke && out->len)
        metric_observe(metric_get(&first_text, ""), (double)us / 1e6);
    s->spoke = s->spoke || out->len;
}

const char *sse_problem(struct sse *s, json_t *problem, struct buf *out)
{
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    char *text = json_dumps(problem, JSON_COMPACT);

    events_failed(s->events, text, strlen(text), out);
    free(text);
    detail = arena_strdup(s->request->arena, detail);
    json_decref(problem);
    return detail;
}

static void end(struct sse *s, const char *how, const char *error)
{
    sse_fini(s);
    metric_add(metric_get(&streams_open, ""), -1);
    metric_add(metric_get(&streams_ended, how), 1);
    respond_stream_end(s->request, error);
}

void sse_end(struct sse *s, const char *error)
{
    end(s, error ? "outcome=\"failed\"" : "outcome=\"completed\"", error);
}

void sse_end_left(struct sse *s, bool slow)
{
    end(s, slow ? "outcome=\"slow\"" : "outcome=\"left\"",
        slow ? "the client read too slowly" : "the client left");
}
