/*
 * What was asked of providers and may have cost something. The request that an answer came of is told with
 * the answer. Others go aside to persistence (usage.record) with the end of their job, and so does what an
 * earlier delivery of the message may have begun. One that lasts is told of before its end, where its
 * provider can be asked later what it has cost, should this process be gone then.
 */
#ifndef INFERENCE_CHARGES_H
#define INFERENCE_CHARGES_H

#include <stdbool.h>

#include <jansson.h>

#include "workers/inference/provider.h"

void charges_start(struct loop *l);

/* A request begins. */
void charges_begin(struct generation *g);
/* It came to no answer; in_doubt: it was sent, and nothing says that it was refused. */
void charges_failed(struct generation *g, bool in_doubt);
/* It came to a part of one. */
void charges_broken(struct generation *g);

/* The request as an answer has it: its ids, its model, "usage". The caller owns it. */
json_t *charges_json(const struct generation *g);

/* Before the job's end, whichever it is. */
void charges_tell(struct generation *g);
void charges_free(struct generation *g);

#endif
