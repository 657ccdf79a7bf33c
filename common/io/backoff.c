#include "common/io/backoff.h"

#include <event2/util.h>

enum { DOUBLINGS_MAX = 16 };

int64_t backoff_ms(unsigned failures, int64_t max_ms)
{
    int64_t top = (int64_t)BACKOFF_MIN_MS << (failures < DOUBLINGS_MAX ? failures : DOUBLINGS_MAX);
    uint32_t chance;

    if (top > max_ms)
        top = max_ms;
    /* random() without a seed gives all processes the same numbers. */
    evutil_secure_rng_get_bytes(&chance, sizeof(chance));
    return top / 2 + chance % (top / 2 + 1);
}
