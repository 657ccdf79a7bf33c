/*
 * How the tokens of one model differ from the estimate, learnt from what the model's server counted.
 *
 * The estimate takes each class of a text (tokens.h) as the dearest of the models that it was made with.
 * A model has a weight for each class, 1 at first. A prompt that was counted moves those of the classes
 * that it has, in proportion to their share: up at once if the estimate was below the count and a
 * margin, down slowly if it was above. So what a model was never seen to read cheaply stays dear.
 *
 * Weights that are a mean of others estimate the mean of what those do. So what several processes have
 * learnt goes together without losing what each knows to be too low.
 */
#ifndef CHAT_CALIBRATION_H
#define CHAT_CALIBRATION_H

#include <jansson.h>

#include "common/base/err.h"
#include "common/chat/tokens.h"

struct calibration {
    double weights[TOKEN_CLASSES]; /* from 0.25 to 1.25 */
    long prompts;                  /* that it was learnt from */
};

void calibration_init(struct calibration *c);

/* How many tokens the model will see, rounded up. c may be NULL: nothing was learnt. */
size_t calibration_estimate(const struct calibration *c, const struct token_counts *counts);

/* A prompt of these costs had so many tokens, frame included. One that is tiny, or so far from the estimate
 * that something else must have been counted, teaches nothing. */
void calibration_learn(struct calibration *c, const struct token_counts *counts, long tokens);

/* What several processes have learnt of one model. Start with zeros. */
enum { CALIBRATION_SOURCES = 64, CALIBRATION_SOURCE_MAX = 128 };
struct calibration_pool {
    struct {
        char source[CALIBRATION_SOURCE_MAX];
        struct calibration learnt;
        int64_t heard_ms;
    } all[CALIBRATION_SOURCES];
    size_t count;
};

/* Take what one of them says in place of what it said before, and make *mean of all, by their prompts.
 * Those that were silent for an hour are forgotten, and of too many the one that was silent for longest. */
void calibration_hear(struct calibration_pool *pool, const char *source,
                      const struct calibration *heard, int64_t now_ms, struct calibration *mean);

/* {"source", "model", "prompts", "weights": {"words": 0.97, …}}, and back; the names are the body's. */
json_t *calibration_tell(const struct calibration *c, const char *source, const char *model);
int calibration_read(struct calibration *c, const char **source, const char **model,
                     const json_t *body, struct err *e);

#endif
