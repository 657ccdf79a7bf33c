/*
 * Which models are asked for one answer, in which order: those that are configured, or the tenant's own,
 * by what the user pays for and what his question is about.
 */
#ifndef INFERENCE_CHAIN_H
#define INFERENCE_CHAIN_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "common/base/err.h"

struct model;

enum { CHAIN_MAX = 32 };

struct chain {
    struct model *models[CHAIN_MAX];
    size_t count;
    bool crowded; /* one of them had no room in the table */
};

/* Borrowed texts and arrays of texts; NULL: not said. */
struct wish {
    const char *model;        /* that was asked for by name */
    const char *task;         /* "complex_analysis" */
    const char *context_type; /* the conversation's kind */
    bool pays;                /* the user's tier is one that is paid for */
    json_t *models;           /* the tenant's, in the place of those that are configured */
    json_t *providers;        /* that may be asked for this tenant */
};

/* Read a wish out of a turn's "selection" (NULL: there is none). */
int chain_wish(struct wish *w, json_t *selection, const char *context_type, struct err *e);

/* The settings hold for all: USE_FREE_MODELS_ONLY leaves out what costs, but for DEFAULT_MODEL. Never
 * empty; -1 when nobody may be asked, or not the model that was asked for. Its models stay until
 * chain_end(). */
int chain_make(struct chain *c, const struct wish *w, struct err *e);
void chain_end(struct chain *c);

/* The next behind this one, of which NULL is before the first; NULL: there is none. */
struct model *chain_next(const struct chain *c, const struct model *behind);

#endif
