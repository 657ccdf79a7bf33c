#include "workers/inference/charges.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/worker/worker.h"
#include "workers/inference/measure.h"
#include "workers/inference/models.h"
#include "workers/inference/prices.h"
#include "workers/inference/settings.h"

enum { AGAIN_MS = 1000 };

static const char operation[] = "usage.record";

static struct loop *loop;

void charges_start(struct loop *l)
{
    loop = l;
}

/* ---- what it cost ---- */

/* None of a generation that ends between two requests, or before the first. */
static bool has_request(const struct generation *g)
{
    return *g->request_id != '\0';
}

static bool is_free(const struct generation *g)
{
    return !has_request(g) || g->model->free ||
           (g->answer.model && strstr(g->answer.model, ":free"));
}

/* What the provider did not say is estimated, where there are tokens, and unknown where there is a price. */
static json_t *usage_json(const struct generation *g)
{
    static const struct answer nothing = {.has_usage = true};
    const struct answer *a = has_request(g) ? &g->answer : &nothing;
    long prompt = a->has_usage ? a->prompt_tokens : measure_prompt(g);
    long completion = a->has_usage ? a->completion_tokens : measure_answer(g);
    long total = a->total_tokens > prompt + completion ? a->total_tokens : prompt + completion;
    double cost = 0;
    bool known = true;
    json_t *usage;

    if (a->has_cost && !is_free(g))
        cost = a->cost;
    else if (!is_free(g))
        known = a->has_usage && prices_of(g->model->name, prompt, completion, &cost);
    usage = json_pack("{s:I, s:I, s:I, s:f}", "prompt_tokens", (json_int_t)prompt,
                      "completion_tokens", (json_int_t)completion, "total_tokens",
                      (json_int_t)total, "cost", known ? cost : 0.0);
    if (!known)
        json_object_set_new(usage, "cost_known", json_false());
    if (!a->has_usage)
        json_object_set_new(usage, "tokens_estimated", json_true());
    return usage;
}

json_t *charges_json(const struct generation *g)
{
    const struct provider *p = g->model ? g->model->provider : NULL;
    bool asked = has_request(g);
    const char *model = g->answer.model ? g->answer.model : g->model ? g->model->name : "none";
    const char *generation_id = asked ? g->answer.generation_id : NULL;
    int64_t us = g->begun ? clock_monotonic_us() - g->begun_us : 0;
    json_t *usage = usage_json(g);
    json_t *request = json_pack(
        "{s:s*, s:s, s:s, s:s*, s:b, s:I, s:o}", "request_id", asked ? g->request_id : NULL,
        "model", model, "provider", p ? p->name : "none", "generation_id", generation_id,
        "is_free_model", is_free(g), "processing_time_ms", (json_int_t)us / 1000, "usage", usage);

    if (asked && g->noted)
        json_object_set_new(request, "noted", json_true());
    if (p && p->look_up && generation_id && json_object_get(usage, "cost_known"))
        json_object_set_new(request, "look_up", json_true());
    return request;
}

/* ---- to persistence ---- */

static json_t *item(const struct generation *g, const char *status)
{
    json_t *request = charges_json(g);

    json_object_set_new(request, "status", json_string(status));
    json_object_set_new(request, "epoch", json_integer(g->epoch));
    return request;
}

/* For a turn's usage.record; NULL when the job is of no turn. The caller owns it. */
static json_t *body_of(const struct generation *g)
{
    const char *turn, *conversation, *answer;

    if (json_unpack(job_body(g->job), "{s:{s:s, s:s, s:s}}", "turn", "id", &turn, "conversation_id",
                    &conversation, "answer_id", &answer))
        return NULL;
    return json_pack("{s:s, s:s, s:s}", "turn_id", turn, "conversation_id", conversation,
                     "answer_id", answer);
}

/* It goes on, and has lasted for a while. */
static void note(void *arg)
{
    struct generation *g = arg;
    json_t *body;

    g->note_due = true;
    if (!g->asking || g->noted || !g->answer.generation_id || !(body = body_of(g)))
        return;
    json_object_set_new(body, "requests", json_pack("[o]", item(g, "begun")));
    g->noted = job_aside_now(g->job, operation, body);
    if (!g->noted)
        timer_set(g->noter, AGAIN_MS);
}

void charges_begin(struct generation *g)
{
    uuid_v7(g->request_id);
    g->noted = g->note_due = false;
    if (g->noter)
        timer_stop(g->noter);
    if (g->model->free || !g->model->provider->look_up)
        return;
    if (!g->noter)
        g->noter = timer_new(loop, note, g);
    timer_set(g->noter, inference_settings.usage_note_s * 1000);
}

void generation_named(struct generation *g)
{
    if (g->note_due)
        note(g);
}

static void add(struct generation *g, const char *status)
{
    if (!g->charges)
        g->charges = json_array();
    json_array_append_new(g->charges, item(g, status));
}

void charges_failed(struct generation *g, bool in_doubt)
{
    if (g->noted || (!is_free(g) && (in_doubt || g->first_us || g->answer.has_usage)))
        add(g, "failed");
    *g->request_id = '\0';
}

void charges_broken(struct generation *g)
{
    add(g, "broken");
}

/* An earlier delivery asked none but these. */
static bool may_have_cost(const struct chain *c)
{
    const struct model *m = NULL;

    while ((m = chain_next(c, m)))
        if (!m->free)
            return true;
    return false;
}

/* Of those that the broker delivered before and that came to no end. */
static json_t *lost_epochs(const struct generation *g)
{
    int64_t lost = job_envelope(g->job)->deliveries;
    json_t *list = json_array();

    if (may_have_cost(&g->chain))
        for (; lost > 0; lost--)
            json_array_append_new(list, json_integer(g->epoch - lost));
    return list;
}

void charges_tell(struct generation *g)
{
    json_t *lost = lost_epochs(g), *body = NULL;

    if (json_array_size(g->charges) + json_array_size(lost) > 0)
        body = body_of(g);
    if (body) {
        json_object_set(body, "requests", g->charges);
        json_object_set(body, "lost", lost);
        job_aside(g->job, operation, body);
    }
    json_decref(lost);
}

void charges_free(struct generation *g)
{
    timer_free(g->noter);
    json_decref(g->charges);
}
