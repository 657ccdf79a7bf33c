/*
 * What others want of an answer that is being made: that it stops, or to follow it. They say so on
 * chat.control, to all inference processes at once; the one that has it does what they want.
 */
#ifndef INFERENCE_CONTROL_H
#define INFERENCE_CONTROL_H

#include <jansson.h>

#include "common/chat/envelope.h"

struct generation;

void control_start(void);
void control_stop(void);

/* A message came. */
void control_came(const struct envelope *env, const json_t *body);

/* A generation that others may mean from now on. False: its turn was stopped before it came. */
bool control_add(struct generation *g);
void control_remove(struct generation *g);

#endif
