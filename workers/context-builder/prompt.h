/* The prompt of a turn, as a plain function: what context.build gets in, what it hands on. */
#ifndef CONTEXT_BUILDER_PROMPT_H
#define CONTEXT_BUILDER_PROMPT_H

#include <jansson.h>

#include "common/base/err.h"
#include "common/chat/calibration.h"

struct prompt_settings {
    long history_tokens; /* what the messages before the question may cost, as estimated */
    char *default_model;
    char *injection_filter;                /* off, flag, redact, block */
    const struct calibration *calibration; /* of the estimate, for that model; NULL: none */
};

/*
 * The body for the next step: that of context.build, with "prompt" instead of "conversation" and
 * "history". NULL if the body is not as persistence makes it; then e is a fatal 400.
 *
 * Unless the filter is off, "injection" of the prompt says what it finds in the question, if
 * anything. With redact and block, passages that it finds are left out of all the user's messages.
 *
 * The question always stays. Of the history stay the newest whole messages within the budget, from
 * the first one on that is not an answer: its question would be missing. Time and memory grow with
 * the budget and the body, not with their product.
 */
json_t *prompt_build(json_t *body, const struct prompt_settings *settings, struct err *e);

#endif
