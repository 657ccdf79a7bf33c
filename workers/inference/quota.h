/*
 * How many requests a span of time has room for: a sliding log of the last ones.
 *
 * The limit is an account's, and all processes share it: each takes its part, so that the sum is not more
 * as long as their number stays the same. Where there are more processes than the limit has room for, each
 * waits longer instead.
 *
 * It knows no clock: each call is told the time, in monotonic milliseconds.
 */
#ifndef INFERENCE_QUOTA_H
#define INFERENCE_QUOTA_H

#include <stdint.h>

enum { QUOTA_MAX = 1000 }; /* requests that can be kept apart; a higher limit counts as this */

struct quota {
    int64_t span_ms;
    int64_t times_ms[QUOTA_MAX]; /* of the last requests, as a ring */
    int64_t taken;               /* in all */
    int64_t until_ms;            /* nothing goes before, by the server's word */
};

/* How long a request has to wait; 0: it may go. limit: of all processes together, 0 for none. */
int64_t quota_wait_ms(const struct quota *q, long limit, long processes, int64_t now_ms);

void quota_take(struct quota *q, int64_t now_ms);

/* The server says that there is no room until then. */
void quota_close(struct quota *q, int64_t until_ms);

#endif
