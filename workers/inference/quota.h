/*
 * How many requests a span of time has room for: a sliding log of one process's own requests. One that
 * has to wait has its place in it from then on, so that nobody who comes later is before it.
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
    struct quota_slot {
        int64_t at_ms;   /* when the request goes */
        uint64_t number; /* by which it may be taken back */
    } slots[QUOTA_MAX];  /* the earliest first */
    int count;
    int64_t until_ms; /* nothing goes before, by the server's word */
    /* Until then only so many more, whatever the log says: */
    int64_t few_until_ms;
    long few;
};

/* How long a request has to wait; 0: it may go. limit: of all processes together, 0 for none. */
int64_t quota_wait_ms(const struct quota *q, long limit, long processes, int64_t now_ms);

void quota_take(struct quota *q, int64_t at_ms, uint64_t number);
void quota_give_back(struct quota *q, uint64_t number); /* it will not go */

/* The server says that there is no room until then. */
void quota_close(struct quota *q, int64_t until_ms);

/* There is room for this process only for so many until then. */
void quota_few(struct quota *q, long few, int64_t until_ms);

#endif
