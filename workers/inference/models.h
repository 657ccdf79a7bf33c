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
#include "common/io/loop.h"
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
int models_start(struct loop *l, struct err *e);
void models_stop(void);

/*
 * The first to be asked, or the next behind one; without those of a provider that does not take us
 * (NULL: with all). Its breaker allows it, and is to be told how it ended. NULL: there is none.
 */
struct model *models_first(void);
struct model *models_next(const struct model *behind, const struct provider *without);

void models_succeeded(struct model *m);
void models_failed(struct model *m, int64_t retry_after_ms); /* by its service's fault */
void models_unknown(struct model *m);                        /* by something else */

/* When the first breaker lets a request through again, in milliseconds; 0: now. */
int64_t models_wait_ms(void);

/* By provider: {"status", "model", "models": [{"model", "status", "breaker"}]}. */
void models_health(json_t *dependencies);

#endif
