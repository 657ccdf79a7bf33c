#include "workers/inference/quota.h"

int64_t quota_wait_ms(const struct quota *q, long limit, long processes, int64_t now_ms)
{
    int64_t span_ms = q->span_ms, part, free_ms = q->until_ms;

    if (limit > 0) {
        part = limit / processes;
        if (part == 0) {
            span_ms = span_ms * processes / limit;
            part = 1;
        }
        if (part > QUOTA_MAX)
            part = QUOTA_MAX;
        if (q->taken >= part && q->times_ms[(q->taken - part) % QUOTA_MAX] + span_ms > free_ms)
            free_ms = q->times_ms[(q->taken - part) % QUOTA_MAX] + span_ms;
    }
    return free_ms > now_ms ? free_ms - now_ms : 0;
}

void quota_take(struct quota *q, int64_t now_ms)
{
    q->times_ms[q->taken++ % QUOTA_MAX] = now_ms;
}

void quota_close(struct quota *q, int64_t until_ms)
{
    if (until_ms > q->until_ms)
        q->until_ms = until_ms;
}
