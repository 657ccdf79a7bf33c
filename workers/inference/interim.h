/* A word to who waits, while there is none of the model's yet. It is told, and stored nowhere. */
#ifndef INFERENCE_INTERIM_H
#define INFERENCE_INTERIM_H

#include "common/worker/worker.h"

struct generation;

/* Somebody waits for the answer's text: its caller (who is NULL), or one who follows it. He is told
 * INTERIM_SECONDS after the prompt came, or now, if nothing was told by then. */
void interim_watch(struct generation *g, const struct follower *who);

#endif
