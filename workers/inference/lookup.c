#include "workers/inference/lookup.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/chat/operations.h"
#include "common/io/http.h"
#include "workers/inference/models.h"
#include "workers/inference/provider.h"

enum { ANSWER_MAX = 65536 };

struct lookup {
    TAILQ_ENTRY(lookup) link;
    struct job *job;
    const char *turn_id, *conversation_id, *answer_id;
    json_t *requests; /* borrowed from the job */
    size_t next;      /* of them */
    const char *request_id, *generation_id;
    struct buf body;
    json_t *found;
    bool missing;   /* one that the provider does not know, perhaps not yet */
    bool failed;    /* one that could not be asked for */
    struct err why; /* of that */
};

static TAILQ_HEAD(, lookup) under_way = TAILQ_HEAD_INITIALIZER(under_way);

static struct metric_family lookups = {"usage_lookups_total", METRIC_COUNTER,
                                       "Costs that providers were asked for, by what they said",
                                       NULL, NULL};

static void look_up_next(struct lookup *l);

static void lookup_free(struct lookup *l)
{
    TAILQ_REMOVE(&under_way, l, link);
    buf_free(&l->body);
    json_decref(l->found);
    free(l);
}

/* ---- the end ---- */

static bool is_last_attempt(const struct job *job)
{
    return job_envelope(job)->attempt >= operation_find("usage.lookup")->max_attempts;
}

static void finish(struct lookup *l)
{
    struct job *job = l->job;
    bool failed = l->failed, missing = l->missing;
    struct err why = l->why;

    if (json_array_size(l->found) > 0)
        job_aside(job, "usage.record",
                  json_pack("{s:s, s:s, s:s, s:O}", "turn_id", l->turn_id, "conversation_id",
                            l->conversation_id, "answer_id", l->answer_id, "found", l->found));
    lookup_free(l);
    if (!failed && missing && !is_last_attempt(job)) {
        failed = true;
        err_set(&why, ERR_RETRY, 404, "the provider does not know the generation yet");
    }
    if (failed)
        job_fail(job, &why);
    else
        job_reply(job, 200, json_object());
}

/* ---- what the provider says ---- */

static bool is_count(const json_t *value)
{
    return json_is_number(value) && json_number_value(value) >= 0 && json_number_value(value) < 1e9;
}

/* The model's own tokens, which are the ones that are paid, else those of a common measure. */
static const json_t *tokens(const json_t *data, const char *native, const char *common)
{
    const json_t *value = json_object_get(data, native);

    return is_count(value) ? value : json_object_get(data, common);
}

static int read_answer(struct lookup *l)
{
    json_t *body = json_loadb(l->body.data ? l->body.data : "", l->body.len, 0, NULL);
    const json_t *data = json_object_get(body, "data");
    const json_t *cost = json_object_get(data, "total_cost");
    const json_t *prompt = tokens(data, "native_tokens_prompt", "tokens_prompt");
    const json_t *completion = tokens(data, "native_tokens_completion", "tokens_completion");
    bool complete = json_is_number(cost) && json_number_value(cost) >= 0 && is_count(prompt) &&
                    is_count(completion);

    if (complete)
        json_array_append_new(
            l->found,
            json_pack("{s:s, s:I, s:I, s:f}", "request_id", l->request_id, "prompt_tokens",
                      (json_int_t)json_number_value(prompt), "completion_tokens",
                      (json_int_t)json_number_value(completion), "cost", json_number_value(cost)));
    json_decref(body);
    return complete ? 0 : -1;
}

static void came(void *arg, struct http_call *call, const char *bytes, size_t n)
{
    struct lookup *l = arg;

    (void)call;
    buf_add(&l->body, bytes, n);
}

static void fail(struct lookup *l, const struct err *why)
{
    metric_add(metric_get(&lookups, "outcome=\"failed\""), 1);
    if (!l->failed || l->why.kind == ERR_RETRY) /* what does not pass is told first */
        l->why = *why;
    l->failed = true;
    err_context(&l->why, "usage.lookup");
}

static void answered(struct lookup *l, int status)
{
    struct err why;

    if (status == 404) {
        l->missing = true;
        metric_add(metric_get(&lookups, "outcome=\"missing\""), 1);
        log_event(LOG_INFO, "cost not known to the provider",
                  LOG_STR("correlation_id", job_envelope(l->job)->correlation_id),
                  LOG_STR("generation_id", l->generation_id),
                  LOG_NUM("attempt", job_envelope(l->job)->attempt));
    } else if (status == 200 && read_answer(l) == 0) {
        metric_add(metric_get(&lookups, "outcome=\"found\""), 1);
    } else {
        bool passes = status == 200 || status == 408 || status == 429 || status >= 500;

        err_set(&why, passes ? ERR_RETRY : ERR_FATAL, 502,
                status == 200 ? "the provider's answer (%d) names no cost"
                              : "the provider does not tell the cost (%d)",
                status);
        fail(l, &why);
    }
}

static void done(void *arg, struct http_call *call, const struct err *e)
{
    struct lookup *l = arg;

    if (e)
        fail(l, e);
    else
        answered(l, http_call_status(call));
    look_up_next(l);
}

static const struct http_call_events events = {NULL, came, done};

/* ---- one after the other ---- */

/* It becomes a part of an address. */
static bool is_id(const char *text)
{
    return *text && text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789-_.")] == '\0';
}

static void look_up_next(struct lookup *l)
{
    const struct provider *p;
    const char *provider;

    while (l->next < json_array_size(l->requests)) {
        json_unpack(json_array_get(l->requests, l->next++), "{s:s, s:s, s:s}", "request_id",
                    &l->request_id, "provider", &provider, "generation_id", &l->generation_id);
        p = models_provider(provider);
        if (!p || !p->look_up || !is_id(l->generation_id)) {
            metric_add(metric_get(&lookups, "outcome=\"nobody asked\""), 1);
            continue;
        }
        buf_clear(&l->body);
        p->look_up(l->generation_id, &events, l);
        return;
    }
    finish(l);
}

static int read_requests(struct lookup *l, struct err *e)
{
    const char *ignored;
    json_error_t at;
    json_t *item;
    size_t i;

    if (json_unpack_ex(job_body(l->job), &at, 0, "{s:s, s:s, s:s, s:o}", "turn_id", &l->turn_id,
                       "conversation_id", &l->conversation_id, "answer_id", &l->answer_id,
                       "requests", &l->requests))
        return err_set(e, ERR_FATAL, 400, "usage.lookup: %s", at.text);
    json_array_foreach (l->requests, i, item)
        if (json_unpack_ex(item, &at, 0, "{s:s, s:s, s:s}", "request_id", &ignored, "provider",
                           &ignored, "generation_id", &ignored))
            return err_set(e, ERR_FATAL, 400, "usage.lookup: %s", at.text);
    return 0;
}

void lookup_handle(struct job *job)
{
    struct lookup *l = mem_alloc(sizeof(*l));
    struct err e;

    l->job = job;
    l->found = json_array();
    buf_init(&l->body, ANSWER_MAX);
    TAILQ_INSERT_TAIL(&under_way, l, link);
    if (read_requests(l, &e)) {
        lookup_free(l);
        job_fail(job, &e);
        return;
    }
    look_up_next(l);
}

void lookup_stop(void)
{
    while (!TAILQ_EMPTY(&under_way))
        lookup_free(TAILQ_FIRST(&under_way));
}
