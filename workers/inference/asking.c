#include "workers/inference/asking.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "workers/inference/charges.h"
#include "workers/inference/free_quota.h"
#include "workers/inference/models.h"
#include "workers/inference/privacy.h"
#include "workers/inference/provider.h"
#include "workers/inference/settings.h"

/* Not this one; the next. */
static void pass_over(struct generation *g, struct model *m)
{
    g->wanted = NULL;
    g->passed = m;
    g->passed_over = true;
    asking_next(g);
}

/* May end it. */
static void ask(struct generation *g, struct model *m)
{
    if (!models_allow(m, &g->ticket)) {
        if (g->wanted)
            free_quota_give_back(&g->place);
        pass_over(g, m);
        return;
    }
    if (g->model)
        log_event(LOG_WARN, "next model asked",
                  LOG_STR("correlation_id", job_envelope(g->job)->correlation_id),
                  LOG_STR("failed", g->model->name), LOG_STR("model", m->name),
                  LOG_STR("provider", m->provider->name), LOG_STR("error", g->why.text));
    g->model = m;
    g->wanted = g->passed = NULL;
    g->may_pass |= g->passed_over;
    g->passed_over = false;
    g->asking = true;
    g->answer = (struct answer){.model = NULL};
    g->asked_us = clock_monotonic_us();
    g->first_us = 0;
    g->work = NULL;
    privacy_free(g->privacy); /* the next server may be one that sees all */
    g->privacy = NULL;
    memset(&g->counts, 0, sizeof(g->counts));
    buf_clear(&g->text);
    buf_add(&g->text, "", 0);
    charges_begin(g);
    m->provider->begin(g);
}

/* What was waited for may have come: a place in a quota, or any model. */
static void go_on(void *arg)
{
    struct generation *g = arg;

    if (g->wanted)
        ask(g, g->wanted);
    else
        asking_next(g);
}

static void pause_for(struct generation *g, int64_t ms)
{
    if (!g->pause)
        g->pause = timer_new(generation_loop(), go_on, g);
    timer_set(g->pause, ms);
}

/* Whether there is a place for the one that is wanted is known now. */
static void place_told(void *arg)
{
    struct generation *g = arg;

    if (g->place.wait_ms < 0) {
        pass_over(g, g->wanted);
    } else if (g->place.wait_ms == 0) {
        ask(g, g->wanted);
    } else {
        g->quota_waited_ms += g->place.wait_ms;
        pause_for(g, g->place.wait_ms);
    }
}

/* Where all models are left alone, how long to wait for one: 0 when it would take too long. */
static int64_t worth_waiting_ms(const struct generation *g)
{
    const struct envelope *env = job_envelope(g->job);
    int64_t wait_ms = models_wait_ms(&g->chain) + 1;
    int64_t waited_ms = (clock_monotonic_us() - g->begun_us) / 1000;
    bool in_time =
        !env->reply_to || env->deadline_ms == 0 || clock_wall_ms() + wait_ms < env->deadline_ms;

    return in_time && waited_ms + wait_ms <= inference_settings.wait_s * 1000 ? wait_ms : 0;
}

/* No model is left to be asked now. */
static void wait_or_give_up(struct generation *g)
{
    int64_t wait_ms = g->model ? 0 : worth_waiting_ms(g);

    g->passed = NULL;
    if (wait_ms > 0) {
        g->passed_over = false;
        pause_for(g, wait_ms);
        return;
    }
    g->may_pass |= g->passed_over;
    if (!g->model) {
        log_event(LOG_WARN, "no model takes requests",
                  LOG_STR("correlation_id", job_envelope(g->job)->correlation_id),
                  LOG_NUM("ms", (long)models_wait_ms(&g->chain)));
        err_set(&g->why, ERR_RETRY, 503, "no model takes requests for now");
    }
    generation_give_up(g);
}

/* For how long a place for the model may be waited for: a little if another could be asked instead, else
 * as long as for any model. */
static int64_t place_wait_max_ms(const struct generation *g, const struct model *m)
{
    const struct envelope *env = job_envelope(g->job);
    int64_t waited_ms = (clock_monotonic_us() - g->begun_us) / 1000, max_ms, left_ms;
    bool ignored = false;

    do
        m = models_choose(&g->chain, m, g->without, &ignored);
    while (m && models_need_place(m));
    max_ms = inference_settings.free_wait_ms - g->quota_waited_ms;
    if (!m && !g->model && inference_settings.wait_s * 1000 - waited_ms > max_ms)
        max_ms = inference_settings.wait_s * 1000 - waited_ms;
    if (env->reply_to && env->deadline_ms != 0) {
        left_ms = env->deadline_ms - clock_wall_ms();
        max_ms = left_ms < max_ms ? left_ms : max_ms;
    }
    return max_ms > 0 ? max_ms : 0;
}

void asking_next(struct generation *g)
{
    struct model *m =
        models_choose(&g->chain, g->passed ? g->passed : g->model, g->without, &g->passed_over);

    if (!m) {
        wait_or_give_up(g);
    } else if (!models_need_place(m)) {
        ask(g, m);
    } else {
        g->wanted = m;
        if (free_quota_take(&g->place, place_wait_max_ms(g, m), place_told, g))
            place_told(g);
    }
}

void asking_end(struct generation *g)
{
    if (g->wanted)
        free_quota_give_back(&g->place);
    timer_free(g->pause);
}
