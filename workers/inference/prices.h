/*
 * What models cost where their providers do not say: MODEL_PRICES, a JSON object of patterns of models'
 * names (as in a shell: gpt-4o*), each with the prices of a million tokens: {"prompt": 0.15,
 * "completion": 0.6}. The longest pattern that matches counts.
 */
#ifndef INFERENCE_PRICES_H
#define INFERENCE_PRICES_H

#include <stdbool.h>

#include "common/base/err.h"

int prices_start(const char *text, struct err *e); /* "": none */
void prices_stop(void);

/* False when there is no price for the model. */
bool prices_of(const char *name, long prompt_tokens, long completion_tokens, double *cost);
bool prices_know(const char *name);

#endif
