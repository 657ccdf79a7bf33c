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
#include "common/worker/worker.h"
#include "workers/inference/breaker.h"

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
    struct breaker breaker;
    const char *outcome; /* of its last request: "healthy" or "unhealthy"; NULL: none yet */
    char label[300];     /* model="…", for metrics */
};

/* Starts the providers of the models that are configured. */
int models_start(struct worker *w, struct err *e);
void models_stop(void);

/* Whether any of them does, unless they are all free. */
bool models_may_cost(void);

/* One of those that are asked; NULL: not among them. */
const struct provider *models_provider(const char *name);

struct chain;

/* The i-th of the table, in the order of the settings; NULL: there are no more. */
struct model *models_at(size_t i);

/* The one of that name. One that is not there yet is OpenRouter's, or the OpenAI-compatible server's,
 * and joins the table; NULL when neither is configured, or the table is full. */
struct model *models_named(const char *name);

/* Whom to ask, now or after a while. */
struct choice {
    struct model *model; /* NULL: none */
    uint32_t ticket;     /* by which the request's end is told */
    int64_t wait_ms;  /* 0: it is to be asked now; else choose again then: its quota has no room */
    bool passed_over; /* one that might be asked later was */
};

/* The first of the chain, or the next behind one (NULL: none yet); without those of a provider that does not take us
 * (NULL: with all). A free one whose quota has room within wait_max_ms is waited for, others are passed
 * over. */
struct choice models_choose(const struct chain *chain, const struct model *behind,
                            const struct provider *without, int64_t wait_max_ms);

/* How a request ended, or goes: heard is its first word. */
void models_heard(struct model *m, uint32_t ticket);
void models_succeeded(struct model *m, uint32_t ticket);
void models_failed(struct model *m, uint32_t ticket, int64_t retry_after_ms); /* by the service */
void models_unknown(struct model *m, uint32_t ticket); /* by something else */

/* The account has no room for free ones until then, says the provider. */
void models_no_free_ones(const struct model *m, int64_t for_ms);

/* When one of the chain can be asked again, in milliseconds; 0: now. */
int64_t models_wait_ms(const struct chain *chain);

/* By provider: {"status", "model", "models": [{"model", "status", "breaker"}]}. */
void models_health(json_t *dependencies);

#endif
