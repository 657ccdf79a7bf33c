/*
 * The models that may be asked, in the order in which they are: what is configured, local ones first.
 * Each has a circuit breaker.
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
    bool free; /* costs nothing */
    struct breaker breaker;
    const char *outcome; /* of its last request: "healthy" or "unhealthy"; NULL: none yet */
    char label[300];     /* model="…", for metrics */
};

/* Starts the providers of the models that are configured. */
int models_start(struct worker *w, struct err *e);
void models_stop(void);

/*
 * The first to be asked, or the next behind one (NULL: none yet); without those of a provider that does
 * not take us (NULL: with all). NULL: there is none. With *wait_ms 0 it may be asked now, and how it ended
 * is to be told. Else it is a free one whose quota has room after that time, which is at most what
 * *wait_ms was at the call: ask again then.
 */
struct model *models_next(const struct model *behind, const struct provider *without,
                          int64_t *wait_ms);

void models_succeeded(struct model *m);
void models_failed(struct model *m, int64_t retry_after_ms); /* by its service's fault */
void models_unknown(struct model *m);                        /* by something else */

/* The account has no room for free ones until then, says the provider. */
void models_no_free_ones(const struct model *m, int64_t for_ms);

/* When the first of them can be asked again, in milliseconds; 0: now. */
int64_t models_wait_ms(void);

/* By provider: {"status", "model", "models": [{"model", "status", "breaker"}]}. */
void models_health(json_t *dependencies);

#endif
