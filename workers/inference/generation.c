#include "workers/inference/generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "workers/inference/asking.h"
#include "workers/inference/charges.h"
#include "workers/inference/control.h"
#include "workers/inference/followers.h"
#include "workers/inference/free_quota.h"
#include "workers/inference/interim.h"
#include "workers/inference/lookup.h"
#include "workers/inference/measure.h"
#include "workers/inference/models.h"
#include "workers/inference/prices.h"
#include "workers/inference/privacy.h"
#include "workers/inference/provider.h"
#include "workers/inference/settings.h"

enum {
    DELTA_MS = 50, /* pieces of a text that come faster go together */
    LABELS_MAX = 400,
};

TAILQ_HEAD(generations, generation);

static struct {
    struct loop *loop;
    struct generations under_way, waiting;
    long under_way_count, waiting_count;
    bool beginning;  /* begin_waiting() runs */
    double usual_ms; /* of the answers so far, the latest weighing most; 0: none yet */
    bool started;
} state;

static struct metric_family requests_total = {
    "openrouter_requests_total", METRIC_COUNTER,
    "Requests to the provider of models, by the status they ended with", NULL, NULL};
static struct metric_family tokens_total = {"token_usage_total", METRIC_COUNTER, "Tokens used",
                                            NULL, NULL};
static struct metric_family in_flight = {"inference_generations_in_flight", METRIC_GAUGE,
                                         "Answers that are being made", NULL, NULL};
static struct metric_family in_queue = {"inference_generations_waiting", METRIC_GAUGE,
                                        "Prompts that wait for their turn", NULL, NULL};
static struct metric_family answer_seconds = {"inference_answer_duration_seconds", METRIC_HISTOGRAM,
                                              "From request to whole answer", NULL, NULL};

/* ---- metrics ---- */

static void show_load(void)
{
    metric_set(metric_get(&in_flight, ""), (double)state.under_way_count);
    metric_set(metric_get(&in_queue, ""), (double)state.waiting_count);
}

static void count_request(const struct model *m, const char *status)
{
    char labels[LABELS_MAX];

    snprintf(labels, sizeof(labels), "%s,status=\"%s\"", m->label, status);
    metric_add(metric_get(&requests_total, labels), 1);
}

static void count_tokens(const struct model *m, const char *type, const json_t *n)
{
    char labels[LABELS_MAX];

    snprintf(labels, sizeof(labels), "%s,type=\"%s\"", m->label, type);
    metric_add(metric_get(&tokens_total, labels), json_number_value(n));
}

static void count_usage(const struct generation *g, const json_t *usage)
{
    count_tokens(g->model, "prompt", json_object_get(usage, "prompt_tokens"));
    count_tokens(g->model, "completion", json_object_get(usage, "completion_tokens"));
}

/* ---- deltas ---- */

/* Pieces come as whole characters, so what is told never cuts one. */
static void tell(void *arg)
{
    struct generation *g = arg;
    size_t from = g->told;

    g->teller_set = false;
    if (from == g->text.len)
        return;
    if (g->caller_streams)
        job_delta(g->job, g->epoch, from, g->text.data + from, g->text.len - from);
    g->told = g->text.len;
    g->told_us = clock_monotonic_us();
    followers_text(g, from);
}

/* Is there anybody to tell, and anything? White space alone is nothing yet: another model may still be
 * asked. */
static bool may_tell(const struct generation *g)
{
    return g->stream && (g->caller_streams || followers_any(g)) &&
           strspn(g->text.data, " \t\r\n") < g->text.len;
}

void generation_tell(struct generation *g)
{
    if (may_tell(g))
        tell(g);
}

/* The first piece goes at once, the others together at most every DELTA_MS. */
static void tell_soon(struct generation *g)
{
    int64_t passed_ms;

    if (g->teller_set || !may_tell(g))
        return;
    passed_ms = (clock_monotonic_us() - g->told_us) / 1000;
    if (g->told == 0 || passed_ms >= DELTA_MS) {
        tell(g);
        return;
    }
    if (!g->teller)
        g->teller = timer_new(state.loop, tell, g);
    g->teller_set = true;
    timer_set(g->teller, DELTA_MS - passed_ms);
}

/* A NUL is legal in JSON and in UTF-8, but no database and no terminal takes one. */
static int add_text(struct buf *out, const char *text, size_t n)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const char *nul;

    if (n == 0) /* then there may be no text, either */
        return 0;
    while (n > 0 && (nul = memchr(text, '\0', n))) {
        size_t before = (size_t)(nul - text);

        if (buf_add(out, text, before) || buf_puts(out, replacement))
            return -1;
        text += before + 1;
        n -= before + 1;
    }
    return buf_add(out, text, n);
}

/* The same with the personal data that the server did not see. */
static int add_restored(struct generation *g, const char *text, size_t n)
{
    const struct buf *restored;

    if (!g->privacy)
        return add_text(&g->text, text, n);
    restored = privacy_restore(g->privacy, text, n, g->text.max);
    return restored ? add_text(&g->text, restored->data, restored->len) : -1;
}

void generation_heard(struct generation *g)
{
    if (g->first_us != 0)
        return;
    g->first_us = clock_monotonic_us();
    models_heard(g->model, g->ticket);
}

int generation_text(struct generation *g, const char *text, size_t n, struct err *e)
{
    if (n == 0)
        return 0;
    generation_heard(g);
    if (add_restored(g, text, n))
        return err_set(e, ERR_FATAL, 502, "the model's answer is longer than %ld bytes",
                       inference_settings.answer_max);
    tell_soon(g);
    return 0;
}

/* What does not fit is the beginning of a placeholder that never ended: not missed. */
void generation_text_ended(struct generation *g)
{
    const struct buf *rest = g->privacy ? privacy_rest(g->privacy) : NULL;

    if (rest)
        add_text(&g->text, rest->data, rest->len);
}

/* ---- waiting for its turn ---- */

static void begin(struct generation *g)
{
    TAILQ_REMOVE(&state.waiting, g, link);
    state.waiting_count--;
    TAILQ_INSERT_TAIL(&state.under_way, g, link);
    state.under_way_count++;
    g->begun = true;
    g->begun_us = clock_monotonic_us();
    asking_next(g);
}

static void begin_waiting(void)
{
    if (state.beginning) /* an answer that was there at once; the loop below goes on */
        return;
    state.beginning = true;
    while (!TAILQ_EMPTY(&state.waiting) && state.under_way_count < inference_settings.concurrency)
        begin(TAILQ_FIRST(&state.waiting));
    state.beginning = false;
    show_load();
}

static void generation_free(struct generation *g)
{
    TAILQ_REMOVE(g->begun ? &state.under_way : &state.waiting, g, link);
    state.under_way_count -= g->begun;
    state.waiting_count -= !g->begun;
    followers_end(g);
    control_remove(g);
    timer_free(g->interim);
    asking_end(g);
    timer_free(g->teller);
    chain_end(&g->chain);
    charges_free(g);
    privacy_free(g->privacy);
    buf_free(&g->text);
    free(g);
}

/* ---- the end ---- */

static long passed_ms(const struct generation *g)
{
    return g->begun ? (long)((clock_monotonic_us() - g->begun_us) / 1000) : 0;
}

/* ending: how it ended if it is not whole; or NULL */
static json_t *answer_json(const struct generation *g, const char *ending)
{
    const char *reason = g->answer.finish_reason;
    double usual_ms = state.usual_ms > 0 ? state.usual_ms : (double)passed_ms(g);
    json_t *answer = charges_json(g);

    json_object_set_new(answer, "content", json_stringn(g->text.data, g->text.len));
    json_object_set_new(answer, "estimated_response_time", json_integer((json_int_t)usual_ms));
    if (ending)
        json_object_set_new(answer, "ending", json_string(ending));
    else if (!reason)
        reason = "stop";
    if (reason)
        json_object_set_new(answer, "finish_reason", json_string(reason));
    return answer;
}

/* How long answers take, as a forecast for the next. */
static void learn(long ms)
{
    state.usual_ms = state.usual_ms > 0 ? state.usual_ms * 0.9 + (double)ms * 0.1 : (double)ms;
}

long generation_usual_ms(void)
{
    return (long)state.usual_ms;
}

/* An answer that took long to begin is none that the breaker wants more of. */
static void judge(const struct generation *g)
{
    int64_t slow_us = inference_settings.breaker_slow_s * 1000000;

    if (g->stream && slow_us > 0 && g->first_us - g->asked_us > slow_us)
        models_failed(g->model, g->ticket, 0);
    else
        models_succeeded(g->model, g->ticket);
}

/* For the step that ends the turn. The caller owns it. */
static json_t *step_json(const struct generation *g, const char *ending)
{
    const char *const handed_on[] = {"turn", "user_message"};
    json_t *body = json_object();
    size_t i;

    for (i = 0; i < sizeof(handed_on) / sizeof(handed_on[0]); i++)
        json_object_set(body, handed_on[i], json_object_get(job_body(g->job), handed_on[i]));
    json_object_set_new(body, "answer", answer_json(g, ending));
    return body;
}

void generation_done(struct generation *g)
{
    long ms = passed_ms(g);
    struct job *job = g->job;
    json_t *body;

    generation_text_ended(g);
    if (g->stream)
        tell(g);
    measure_learn(g);
    count_request(g->model, "success");
    judge(g);
    metric_observe(metric_get(&answer_seconds, ""), (double)ms / 1000);
    g->asking = false;
    body = step_json(g, NULL);
    count_usage(g, json_object_get(json_object_get(body, "answer"), "usage"));
    charges_tell(g);
    learn(ms);
    generation_free(g);
    job_forward(job, body);
    begin_waiting();
}

/* The request is given up, which closes its connection. What it has used up is not told any more. */
static void stop_asking(struct generation *g)
{
    g->model->provider->cancel(g);
    g->asking = false;
    generation_text_ended(g);
    if (g->stream)
        tell(g);
    count_request(g->model, "stopped");
    if (g->first_us)
        judge(g);
    else
        models_unknown(g->model, g->ticket);
}

void generation_interrupt(struct generation *g)
{
    struct job *job = g->job;
    json_t *body;

    if (g->asking) {
        stop_asking(g);
    } else { /* none that was asked before has begun to answer: there is no request */
        g->model = NULL;
        g->answer = (struct answer){.model = NULL};
        buf_clear(&g->text);
        buf_add(&g->text, "", 0);
    }
    body = step_json(g, "stopped");
    if (g->model)
        count_usage(g, json_object_get(json_object_get(body, "answer"), "usage"));
    charges_tell(g);
    generation_free(g);
    job_forward(job, body);
    begin_waiting();
}

static bool caller_waits(const struct generation *g)
{
    const struct envelope *env = job_envelope(g->job);

    return !env->reply_to || env->deadline_ms == 0 || clock_wall_ms() < env->deadline_ms;
}

static void take_note(struct generation *g, const struct failure *f)
{
    count_request(g->model, f->status);
    if (f->blame == BLAME_SERVICE)
        models_failed(g->model, g->ticket, f->retry_after_ms);
    else
        models_unknown(g->model, g->ticket);
    g->may_pass |= f->why.kind == ERR_RETRY;
}

/* A second text must not follow the first: what came is kept, and the turn fails. */
static void break_off(struct generation *g)
{
    struct err why = g->why;
    struct job *job = g->job;
    json_t *body;

    generation_text_ended(g);
    tell(g);
    charges_broken(g);
    body = step_json(g, "broken");
    json_object_del(json_object_get(body, "answer"), "look_up"); /* goes with what is told aside */
    charges_tell(g);
    generation_free(g);
    job_fail_partly(job, &why, body);
}

void generation_give_up(struct generation *g)
{
    struct err why = g->why;
    struct job *job = g->job;

    if (g->told > 0) {
        break_off(g);
    } else {
        if (g->may_pass)
            why.kind = ERR_RETRY;
        charges_tell(g);
        generation_free(g);
        job_fail(job, &why);
    }
    begin_waiting();
}

void generation_fail(struct generation *g, const struct failure *f)
{
    g->asking = false;
    g->why = f->why;
    take_note(g, f);
    if (g->told == 0)
        charges_failed(g, f->in_doubt);
    if (f->blame == BLAME_ACCOUNT)
        g->without = g->model->provider;
    if (g->told > 0 || !caller_waits(g))
        generation_give_up(g);
    else
        asking_next(g);
}

/* ---- the beginning ---- */

static int check_messages(const json_t *messages, struct err *e)
{
    const json_t *message;
    size_t i;

    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return err_set(e, ERR_FATAL, 500, "the prompt has no list of messages");
    json_array_foreach (messages, i, message) {
        const json_t *content = json_object_get(message, "content");

        if (!json_is_string(json_object_get(message, "role")) ||
            (!json_is_string(content) && !json_is_array(content)))
            return err_set(e, ERR_FATAL, 500, "message %zu of the prompt has no role or content",
                           i);
    }
    return 0;
}

static int read_prompt(struct generation *g, struct err *e)
{
    const struct envelope *env = job_envelope(g->job);
    json_t *selection = NULL;
    json_error_t wrong;
    struct wish wish;
    int stream = 0;

    if (json_unpack_ex(job_body(g->job), &wrong, 0, "{s?b, s?o, s:{s:o, s?I, s?I, s?s, s?o}}",
                       "stream", &stream, "selection", &selection, "prompt", "messages",
                       &g->messages, "tokens_estimated", &g->tokens_estimated, "history_dropped",
                       &g->history_dropped, "context_type", &g->context_type, "personal",
                       &g->personal))
        return err_set(e, ERR_FATAL, 500, "the prompt cannot be used: %s", wrong.text);
    g->caller_streams = stream && env->reply_to;
    g->stream = g->caller_streams || !env->reply_to; /* nobody waits for it whole */
    g->user_id = env->user_id;
    if (check_messages(g->messages, e) || chain_wish(&wish, selection, g->context_type, e))
        return -1;
    return chain_make(&g->chain, &wish, e);
}

void generation_handle(struct job *job)
{
    struct generation *g = mem_alloc(sizeof(*g));

    g->job = job;
    g->arena = job_arena(job);
    g->epoch = job_epoch(job);
    g->came_us = clock_monotonic_us();
    TAILQ_INIT(&g->followers);
    buf_init(&g->text, (size_t)inference_settings.answer_max);
    buf_add(&g->text, "", 0);
    TAILQ_INSERT_TAIL(&state.waiting, g, link);
    state.waiting_count++;
    if (read_prompt(g, &g->why)) {
        generation_give_up(g);
        return;
    }
    if (!control_add(g)) {
        generation_interrupt(g);
        return;
    }
    if (g->caller_streams)
        interim_watch(g, NULL);
    begin_waiting();
}

/* ---- life ---- */

static void serve(struct worker *w)
{
    worker_can_serve(w, true);
}

int generation_start(struct worker *w, struct err *e)
{
    TAILQ_INIT(&state.under_way);
    TAILQ_INIT(&state.waiting);
    state.loop = worker_loop(w);
    control_start();
    charges_start(state.loop);
    measure_start(worker_instance(w));
    if (prices_start(inference_settings.prices, e) || models_start(w, e)) {
        control_stop();
        return -1;
    }
    if (free_quota_start(w, serve, e)) {
        models_stop();
        control_stop();
        return -1;
    }
    state.started = true;
    return 0;
}

void generation_stop(void)
{
    struct generation *g;

    if (!state.started)
        return;
    while ((g = TAILQ_FIRST(&state.under_way))) {
        if (g->asking)
            g->model->provider->cancel(g);
        generation_free(g);
    }
    while ((g = TAILQ_FIRST(&state.waiting)))
        generation_free(g);
    models_stop();
    free_quota_stop();
    control_stop();
    lookup_stop();
    prices_stop();
    state.started = false;
}

struct loop *generation_loop(void)
{
    return state.loop;
}

/* A model that fails is for its callers to hear of, and Redis is done without: the worker itself is
 * well. */
bool generation_healthy(json_t *dependencies)
{
    models_health(dependencies);
    free_quota_health(dependencies);
    return true;
}
