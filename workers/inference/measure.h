/* How many tokens prompts and answers have: what is estimated, and what is learnt from those that a model's
 * server counted. */
#ifndef INFERENCE_MEASURE_H
#define INFERENCE_MEASURE_H

#include <jansson.h>

struct generation;

void measure_start(const char *instance); /* that is borrowed */

/* What the messages that go to a server are made of. */
void measure_messages(struct generation *g, const json_t *messages);

/* The server's count has come, if it has one: learn from it, and tell the context builders now and then. */
void measure_learn(struct generation *g);

/* Of an answer whose tokens were not counted: the prompt's, and those of the text. */
long measure_prompt(const struct generation *g);
long measure_answer(const struct generation *g);

#endif
