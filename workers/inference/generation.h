/* inference.generate: a prompt comes, and its answer goes on to the next step. */
#ifndef INFERENCE_GENERATION_H
#define INFERENCE_GENERATION_H

#include "common/worker/worker.h"

int generation_start(struct worker *w, struct err *e);
void generation_stop(void);
bool generation_healthy(json_t *dependencies);

void generation_handle(struct job *job);

#endif
