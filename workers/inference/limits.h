/* What a server says of how many requests an account has left: in the headers of an answer, in the body of
 * a refusal, or by its words alone. */
#ifndef INFERENCE_LIMITS_H
#define INFERENCE_LIMITS_H

#include <stdint.h>

struct limits {
    long left;        /* requests; -1: not said */
    int64_t reset_ms; /* until they are as many as ever, from now on; at least 1 if left is said */
};

/*
 * left and reset are the values of X-RateLimit-Remaining and X-RateLimit-Reset, words those of a refusal;
 * each may be NULL. A reset is a time in milliseconds or seconds since 1970, or a number of seconds. What
 * cannot be read, or lies in the past, is not said; what is more than a day ahead counts as a day. Without
 * figures OpenRouter's words free-models-per-day mean that nothing is left until the next day (UTC), and
 * free-models-per-min until a minute has passed.
 */
struct limits limits_read(const char *left, const char *reset, const char *words, int64_t now_ms);

#endif
