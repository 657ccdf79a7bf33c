/*
 * What an OpenAI-compatible server says: a chunk of a streamed chat completion, a whole one, or an
 * error. Servers differ in what they leave out, so that a missing or oddly typed field is taken as
 * not said.
 */
#ifndef INFERENCE_COMPLETION_H
#define INFERENCE_COMPLETION_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"

struct completion {
    /* Texts live as long as this; NULL: not said. */
    const char *id, *model;
    size_t choices;   /* how many there are; the first counts */
    const char *text; /* of text_len bytes of UTF-8, with a NUL behind and perhaps within */
    size_t text_len;
    bool thinks; /* text of the model's reasoning came, which is not the answer's */
    const char *finish_reason;
    bool has_usage;
    long prompt_tokens, completion_tokens, total_tokens; /* never negative */
    bool has_cost;
    double cost;
    bool failed;
    int error_status;  /* an HTTP status; 0: not said */
    const char *error; /* the server's words; NULL: none */

    void *json;  /* internal */
    char *owned; /* internal */
};

/* Read n bytes of JSON. Bytes that are no UTF-8, and halves of surrogate pairs, become U+FFFD.
 * Returns -1 when it is no JSON object. */
int completion_read(struct completion *c, const char *bytes, size_t n);
void completion_fini(struct completion *c);

#endif
