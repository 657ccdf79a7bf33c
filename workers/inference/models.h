/*
 * The models that may be asked: what is configured, local ones first, and what tenants and requests have
 * named since. Each has a circuit breaker. Which of them are asked for one answer says its chain.
 */
#ifndef INFERENCE_MODELS_H
#define INFERENCE_MODELS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/err.h"
#include "common/chat/calibration.h"
#include "common/worker/worker.h"
#include "workers/inference/breaker.h"

struct limits;
struct provider;

struct model {
    const struct provider *provider;
    const char *name;
    bool free;           /* costs nothing */
    bool is_configured;  /* for the chain, or as another provider's; else somebody named it */
    bool in_chain;       /* asked for whoever has no other wish */
    bool is_default;     /* asked also when only free ones are */
    bool is_for_complex; /* of PAID_MODELS */
    char *own_name;      /* of one that was named: name, to be freed */
    int users;           /* chains that it is in; while there are any it stays */
    int64_t used_us;     /* when it was last in one; monotonic */
    struct breaker breaker;
    struct calibration calibration; /* of the estimate of tokens */
    int64_t told_us;                /* when others were told of it; monotonic, 0: not yet */
    const char *outcome; /* of its last request: "healthy" or "unhealthy"; NULL: none yet */
    char label[300];     /* model="…", for metrics */
};

/* Starts the providers of the models that are configured. */
int models_start(struct worker *w, struct err *e);
void models_stop(void);

/* One of those that are asked; NULL: not among them. */
const struct provider *models_provider(const char *name);

struct chain;

/* The i-th of the table, in the order of the settings; NULL: there are no more. */
struct model *models_at(size_t i);

/* What the one of that name is, or would be: one that is not there yet is OpenRouter's, or the
 * OpenAI-compatible server's. False when neither is configured. Good for its provider, its price and
 * whether it is the default one. */
bool models_describe(const char *name, struct model *m);
/* That one. If it is not there yet it joins the table; one that somebody named before, and that is in no
 * chain, makes room for it if need be. NULL when there is none, or no room. */
struct model *models_named(const char *name);
/* It is in one more chain, or in one less. */
void models_hold(struct model *m);
void models_release(struct model *m);

/* The first of the chain to ask, or the next behind one (NULL: none yet); without those of a provider that
 * does not take us (NULL: with all). NULL: there is none. *passed_over is set if one that might be asked
 * later was left out. */
struct model *models_choose(const struct chain *chain, const struct model *behind,
                            const struct provider *without, bool *passed_over);
bool models_need_place(const struct model *m); /* in the quota of free ones */
/* May a request go to it now? Its end is then told by the ticket. */
bool models_allow(struct model *m, uint32_t *ticket);

/* How a request ended, or goes: heard is its first word. */
void models_heard(struct model *m, uint32_t ticket);
void models_succeeded(struct model *m, uint32_t ticket);
void models_failed(struct model *m, uint32_t ticket, int64_t retry_after_ms); /* by the service */
void models_unknown(struct model *m, uint32_t ticket); /* by something else */

/* The model's server says how many requests the account has left. */
void models_limits(const struct model *m, const struct limits *l);

/* When one of the chain can be asked again, in milliseconds; 0: now. */
int64_t models_wait_ms(const struct chain *chain);

/* By provider: {"status", "model", "models": [{"model", "status", "breaker"}]}. */
void models_health(json_t *dependencies);

#endif
