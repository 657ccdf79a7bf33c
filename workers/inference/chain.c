#include "workers/inference/chain.h"

#include <string.h>

#include "common/base/text.h"
#include "workers/inference/models.h"
#include "workers/inference/provider.h"
#include "workers/inference/settings.h"

static const char task_complex[] = "complex_analysis";

/* ---- what is wished for ---- */

static bool are_texts(const json_t *list)
{
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item)
        if (!json_is_string(item))
            return false;
    return !list || json_is_array(list);
}

int chain_wish(struct wish *w, json_t *selection, const char *context_type, struct err *e)
{
    json_error_t wrong;
    int pays = 0;

    *w = (struct wish){.context_type = context_type};
    if (selection && (json_unpack_ex(selection, &wrong, 0, "{s?s, s?s, s?b, s?o, s?o}", "model",
                                     &w->model, "task", &w->task, "pays", &pays, "models",
                                     &w->models, "providers", &w->providers) ||
                      !are_texts(w->models) || !are_texts(w->providers)))
        return err_set(e, ERR_FATAL, 500, "the turn's selection of models cannot be used");
    w->pays = pays != 0;
    return 0;
}

static bool is_complex(const struct wish *w)
{
    return (w->task && strcmp(w->task, task_complex) == 0) ||
           (w->context_type &&
            text_is_listed(inference_settings.complex_context_types, w->context_type));
}

/* ---- who may be asked ---- */

static bool is_provider_allowed(const struct wish *w, const struct model *m)
{
    const json_t *name;
    size_t i;

    if (!w->providers || m->provider == &provider_offline)
        return true;
    json_array_foreach (w->providers, i, name)
        if (strcmp(json_string_value(name), m->provider->name) == 0)
            return true;
    return false;
}

/* A local one may have a price by MODEL_PRICES, but no bill. */
static bool costs(const struct model *m)
{
    return !m->free && m->provider != &provider_llamacpp;
}

static bool may_be_asked(const struct wish *w, const struct model *m)
{
    const struct inference_settings *s = &inference_settings;

    if (!is_provider_allowed(w, m))
        return false;
    if (!costs(m))
        return true;
    if (s->paid_tiers_only && !w->pays)
        return false;
    return !s->free_only || m->is_default;
}

static void add(struct chain *c, const struct wish *w, struct model *m)
{
    size_t i;

    for (i = 0; i < c->count; i++)
        if (c->models[i] == m)
            return;
    if (c->count == CHAIN_MAX || !may_be_asked(w, m))
        return;
    models_hold(m);
    c->models[c->count++] = m;
}

/* It does not join the table if it may not be asked. */
static void add_named(struct chain *c, const struct wish *w, const char *name)
{
    struct model like, *m;

    if (c->count == CHAIN_MAX || !models_describe(name, &like) || !may_be_asked(w, &like))
        return;
    m = models_named(name);
    if (m)
        add(c, w, m);
    else
        c->crowded = true;
}

/* ---- the order ---- */

/* Those that stand in the chain by configuration; for a tenant that says whose it wants, all of these. */
static void add_configured(struct chain *c, const struct wish *w, bool paid_only)
{
    struct model *m;
    size_t i;

    for (i = 0; (m = models_at(i)); i++)
        if ((m->in_chain || (w->providers && m->is_configured)) && !(paid_only && !costs(m)))
            add(c, w, m);
}

static void add_listed(struct chain *c, const struct wish *w, json_t *names)
{
    const json_t *name;
    size_t i;

    json_array_foreach (names, i, name)
        add_named(c, w, json_string_value(name));
}

/* For what is complex those that cost come first, where the user pays for them. */
static void add_paid(struct chain *c, const struct wish *w)
{
    struct model *m;
    size_t i;

    for (i = 0; (m = models_at(i)); i++)
        if (m->is_for_complex)
            add(c, w, m);
    add_configured(c, w, true);
}

static int is_crowded(struct err *e)
{
    return err_set(e, ERR_RETRY, 503, "too many other models are being asked at the moment");
}

int chain_make(struct chain *c, const struct wish *w, struct err *e)
{
    c->count = 0;
    c->crowded = false;
    if (w->model) {
        add_named(c, w, w->model);
        if (c->crowded)
            return is_crowded(e);
        if (c->count == 0)
            return err_set(e, ERR_REJECT, 422, "the model %.100s cannot be asked here", w->model);
    }
    if (w->models) {
        add_listed(c, w, w->models);
    } else {
        if (w->pays && is_complex(w))
            add_paid(c, w);
        add_configured(c, w, false);
    }
    if (c->count == 0 && c->crowded)
        return is_crowded(e);
    if (c->count == 0)
        return err_set(e, ERR_FATAL, 503, "no model is configured that may answer %s",
                       w->models || w->providers ? "this tenant" : "this user's tier");
    return 0;
}

void chain_end(struct chain *c)
{
    size_t i;

    for (i = 0; i < c->count; i++)
        models_release(c->models[i]);
    c->count = 0;
}

struct model *chain_next(const struct chain *c, const struct model *behind)
{
    size_t i = 0;

    while (behind && i < c->count && c->models[i++] != behind)
        ;
    return i < c->count ? c->models[i] : NULL;
}
