/*
 * By which models a turn is to be answered, as far as persistence knows: what its caller asked for, what
 * he pays for, and his tenant's settings. It travels with the turn to the inference worker.
 */
#ifndef PERSISTENCE_SELECTION_H
#define PERSISTENCE_SELECTION_H

#include <jansson.h>

#include "common/base/err.h"
#include "common/worker/worker.h"

/* May the caller have the model that he asks for? -1 with a 422 if not. */
int selection_check(struct job *job, struct err *e);

/* {model, task, pays, models, providers}, without what there is nothing to say about; NULL: nothing at
 * all. The caller owns it. */
json_t *selection_json(struct job *job);

#endif
