#include "workers/inference/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/mem.h"
#include "common/base/text.h"
#include "common/base/uuid.h"
#include "workers/inference/chain.h"
#include "workers/inference/free_quota.h"
#include "workers/inference/limits.h"
#include "workers/inference/prices.h"
#include "workers/inference/provider.h"
#include "workers/inference/settings.h"

enum { MODELS_MAX = 256 };

static struct {
    struct model all[MODELS_MAX];
    size_t count;
} state;

static struct metric_family breaker_state = {
    "model_breaker_state", METRIC_GAUGE,
    "0 closed, 1 half open, 2 open: no requests go to the model for a while", NULL, NULL};

static int64_t now_ms(void)
{
    return clock_monotonic_us() / 1000;
}

/* OpenRouter counts the free ones of an account together. */
bool models_need_place(const struct model *m)
{
    return m->free && m->provider == &provider_openrouter;
}

/* ---- what is configured ---- */

/* The name as it may stand in a label. */
static void set_label(struct model *m)
{
    char *c;

    snprintf(m->label, sizeof(m->label), "model=\"%s", m->name);
    for (c = m->label + strlen("model=\""); *c; c++)
        if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
            *c = '_';
    m->label[sizeof(m->label) - 2] = '\0';
    strcat(m->label, "\"");
}

static void show(const struct model *m)
{
    char labels[sizeof(m->label) + 64];

    snprintf(labels, sizeof(labels), "provider=\"%s\",%s", m->provider->name, m->label);
    metric_set(metric_get(&breaker_state, labels), m->breaker.state);
}

static bool is_free(const char *name)
{
    return strstr(name, ":free") != NULL;
}

/* The place of the one that nobody has asked for longest, of those that were but named; NULL: all others are
 * in use. */
static struct model *make_room(void)
{
    struct model *oldest = NULL, *m;

    for (m = state.all; m < state.all + state.count; m++)
        if (!m->is_configured && !m->is_for_complex && m->users == 0 &&
            (!oldest || m->used_us < oldest->used_us))
            oldest = m;
    if (!oldest)
        return NULL;
    metrics_forget(oldest->label);
    free(oldest->own_name);
    return oldest;
}

/* The one that is there already, or a new one; NULL when there is no room. */
static struct model *add(const struct provider *provider, const char *name, bool free)
{
    struct model *m;
    size_t i;

    for (i = 0; i < state.count; i++)
        if (state.all[i].provider == provider && strcmp(state.all[i].name, name) == 0)
            return &state.all[i]; /* asking it twice would help nobody */
    m = state.count < MODELS_MAX ? &state.all[state.count++] : make_room();
    if (!m)
        return NULL;
    *m = (struct model){.provider = provider, .name = name, .free = free};
    set_label(m);
    calibration_init(&m->calibration);
    show(m);
    return m;
}

static struct model *add_configured(const struct provider *provider, const char *name, bool free)
{
    struct model *m = add(provider, name, free);

    m->is_configured = true; /* there is room for what the settings can name */
    return m;
}

static void add_to_chain(const struct provider *provider, const char *name, bool free)
{
    add_configured(provider, name, free)->in_chain = true;
}

static void add_openrouter(const struct inference_settings *s)
{
    const char *names[] = {s->default_model, s->fallback_model, s->emergency_model};
    size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        bool free = is_free(names[i]);
        bool wanted = i == 0 || (strcmp(names[i], "none") != 0 && (free || !s->free_only));

        if (wanted) /* the default one is, free or not */
            add_to_chain(&provider_openrouter, names[i], free);
        else if (i == 1 && strcmp(names[i], "none") != 0)
            log_event(LOG_WARN, "FALLBACK_MODEL left out", LOG_STR("model", names[i]),
                      LOG_STR("detail", "it costs, and USE_FREE_MODELS_ONLY is on"));
    }
}

/* Whose models those are that nobody's settings place elsewhere; NULL: nobody's. */
static const struct provider *external(void)
{
    const struct inference_settings *s = &inference_settings;

    if (*s->openrouter_key)
        return &provider_openrouter;
    return *s->openai_url || *s->openai_key ? &provider_openai : NULL;
}

static void add_for_complex(const struct inference_settings *s)
{
    char *list = mem_strdup(s->paid_models), *rest = list, *name;
    struct model *m;

    while (external() && (name = text_next_item(&rest))) {
        m = models_named(name);
        if (!m) {
            log_event(LOG_WARN, "PAID_MODELS has too many", LOG_STR("model", name));
            continue;
        }
        m->is_for_complex = true;
        if (s->free_only && !m->free)
            log_event(LOG_WARN, "PAID_MODELS left out", LOG_STR("model", name),
                      LOG_STR("detail", "it costs, and USE_FREE_MODELS_ONLY is on"));
    }
    free(list);
}

/* Beside OpenRouter the OpenAI-compatible server is there for tenants that want it. */
static void choose(const struct inference_settings *s)
{
    const char *of_openai = *s->openai_model ? s->openai_model : s->default_model;
    bool openai = *s->openai_url || *s->openai_key;

    if (*s->llamacpp_url)
        add_to_chain(&provider_llamacpp, s->llamacpp_model, !prices_know(s->llamacpp_model));
    if (*s->openrouter_key) {
        add_openrouter(s);
        add(&provider_openrouter, s->default_model, false)->is_default = true;
    }
    if (openai) {
        struct model *m = add_configured(&provider_openai, of_openai, is_free(of_openai));

        m->is_default = true;
        m->in_chain = !*s->openrouter_key;
    }
    if (state.count == 0)
        add_to_chain(&provider_offline, "offline", true);
    add_for_complex(s);
}

struct model *models_at(size_t i)
{
    return i < state.count ? &state.all[i] : NULL;
}

static struct model *find(const char *name)
{
    size_t i;

    for (i = 0; i < state.count; i++)
        if (strcmp(state.all[i].name, name) == 0)
            return &state.all[i];
    return NULL;
}

bool models_describe(const char *name, struct model *m)
{
    const struct model *there = find(name);

    if (there)
        *m = *there;
    else
        *m = (struct model){.provider = external(), .name = name, .free = is_free(name)};
    return m->provider != NULL;
}

struct model *models_named(const char *name)
{
    const struct provider *provider = external();
    struct model *m = find(name);

    if (m || !provider)
        return m;
    m = add(provider, name, is_free(name));
    if (m)
        m->name = m->own_name = mem_strdup(name);
    else
        log_event(LOG_WARN, "too many models were named", LOG_STR("model", name));
    return m;
}

void models_hold(struct model *m)
{
    m->users++;
    m->used_us = clock_monotonic_us();
}

void models_release(struct model *m)
{
    m->users--;
    m->used_us = clock_monotonic_us();
}

static void say(void)
{
    const struct model *m = state.all;
    size_t i;

    if (m->provider == &provider_offline) {
        log_event(LOG_WARN, "no model configured",
                  LOG_STR("detail", "the built-in offline provider answers; set "
                                    "OPENROUTER_API_KEY, OPENAI_BASE_URL or LLAMACPP_BASE_URL"));
        return;
    }
    for (i = 0; i < state.count; i++, m++)
        log_event(LOG_INFO, m->in_chain ? "model chosen" : "model at hand",
                  LOG_NUM("place", (long)i + 1), LOG_STR("provider", m->provider->name),
                  LOG_STR("model", m->name));
}

static bool is_first_of_provider(size_t i)
{
    size_t j;

    for (j = 0; j < i && state.all[j].provider != state.all[i].provider; j++)
        ;
    return j == i;
}

int models_start(struct worker *w, struct err *e)
{
    size_t i;

    choose(&inference_settings);
    for (i = 0; i < state.count; i++) {
        if (!is_first_of_provider(i) || state.all[i].provider->start(worker_loop(w), e) == 0)
            continue;
        state.count = i;
        models_stop();
        return -1;
    }
    say();
    return 0;
}

void models_stop(void)
{
    size_t i;

    for (i = 0; i < state.count; i++) {
        if (is_first_of_provider(i))
            state.all[i].provider->stop();
        free(state.all[i].own_name);
    }
    state.count = 0;
}

const struct provider *models_provider(const char *name)
{
    size_t i;

    for (i = 0; i < state.count; i++)
        if (strcmp(state.all[i].provider->name, name) == 0)
            return state.all[i].provider;
    return NULL;
}

/* ---- whom to ask ---- */

struct model *models_choose(const struct chain *chain, const struct model *behind,
                            const struct provider *without, bool *passed_over)
{
    struct model *m;

    for (m = chain_next(chain, behind); m; m = chain_next(chain, m)) {
        if (m->provider == without)
            continue;
        if (breaker_wait_ms(&m->breaker, now_ms()) == 0)
            return m;
        *passed_over = true;
    }
    return NULL;
}

bool models_allow(struct model *m, uint32_t *ticket)
{
    bool allowed = breaker_allows(&m->breaker, now_ms(), ticket);

    show(m);
    return allowed;
}

void models_limits(const struct model *m, const struct limits *l)
{
    if (models_need_place(m))
        free_quota_correct(l->left, l->reset_ms);
}

int64_t models_wait_ms(const struct chain *chain)
{
    int64_t least = INT64_MAX;
    size_t i;

    for (i = 0; i < chain->count; i++) {
        const struct model *m = chain->models[i];
        int64_t breaker = breaker_wait_ms(&m->breaker, now_ms());
        int64_t quota = models_need_place(m) ? free_quota_wait_ms() : 0;
        int64_t wait = breaker > quota ? breaker : quota;

        least = wait < least ? wait : least;
    }
    return least;
}

/* ---- how it ended ---- */

void models_heard(struct model *m, uint32_t ticket)
{
    if (m->breaker.state != BREAKER_HALF_OPEN)
        return;
    breaker_succeeded(&m->breaker, ticket); /* the others need not wait for the whole answer */
    show(m);
}

void models_succeeded(struct model *m, uint32_t ticket)
{
    breaker_succeeded(&m->breaker, ticket);
    m->outcome = "healthy";
    show(m);
}

void models_failed(struct model *m, uint32_t ticket, int64_t retry_after_ms)
{
    const struct inference_settings *s = &inference_settings;
    const struct breaker_rules rules = {.open_ms = s->breaker_open_s * 1000,
                                        .open_max_ms = s->breaker_open_max_s * 1000,
                                        .failed_percent = s->breaker_percent,
                                        .least = s->breaker_least};
    bool was_open = m->breaker.state == BREAKER_OPEN;
    char id[UUID_TEXT];

    breaker_failed(&m->breaker, ticket, &rules, now_ms(), retry_after_ms,
                   (uint32_t)strtoul(uuid_v7(id) + UUID_TEXT - 9, NULL, 16)); /* its last digits */
    m->outcome = "unhealthy";
    if (m->breaker.state == BREAKER_OPEN && !was_open)
        log_event(LOG_WARN, "model left alone", LOG_STR("provider", m->provider->name),
                  LOG_STR("model", m->name), LOG_NUM("ms", (long)m->breaker.open_ms));
    show(m);
}

void models_unknown(struct model *m, uint32_t ticket)
{
    breaker_unknown(&m->breaker, ticket);
    m->outcome = "unhealthy";
    show(m);
}

/* ---- health ---- */

void models_health(json_t *dependencies)
{
    json_t *provider = NULL;
    size_t i;

    for (i = 0; i < state.count; i++) {
        const struct model *m = &state.all[i];
        const char *status = m->outcome ? m->outcome : "unknown";

        provider = json_object_get(dependencies, m->provider->name);
        if (!provider) {
            provider = json_pack("{s:s, s:s, s:[]}", "status", status, "model", m->name, "models");
            json_object_set_new(dependencies, m->provider->name, provider);
        }
        json_array_append_new(json_object_get(provider, "models"),
                              json_pack("{s:s, s:s, s:s}", "model", m->name, "status", status,
                                        "breaker", breaker_state_name(m->breaker.state)));
    }
}
