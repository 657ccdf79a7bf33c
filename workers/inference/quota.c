#include "workers/inference/quota.h"

#include <string.h>

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
        if (q->count >= part && q->slots[q->count - part].at_ms + span_ms > free_ms)
            free_ms = q->slots[q->count - part].at_ms + span_ms;
    }
    if (q->few <= 0 && q->few_until_ms > free_ms)
        free_ms = q->few_until_ms;
    return free_ms > now_ms ? free_ms - now_ms : 0;
}

static void remove_slot(struct quota *q, int i)
{
    q->count--;
    memmove(&q->slots[i], &q->slots[i + 1], (size_t)(q->count - i) * sizeof(q->slots[0]));
}

void quota_take(struct quota *q, int64_t at_ms, uint64_t number)
{
    int i;

    if (q->count == QUOTA_MAX)
        remove_slot(q, 0);
    for (i = q->count; i > 0 && q->slots[i - 1].at_ms > at_ms; i--)
        ;
    memmove(&q->slots[i + 1], &q->slots[i], (size_t)(q->count - i) * sizeof(q->slots[0]));
    q->slots[i] = (struct quota_slot){.at_ms = at_ms, .number = number};
    q->count++;
    if (at_ms < q->few_until_ms)
        q->few--;
}

void quota_give_back(struct quota *q, uint64_t number)
{
    int i;

    for (i = q->count - 1; i >= 0 && q->slots[i].number != number; i--)
        ;
    if (i < 0)
        return;
    if (q->slots[i].at_ms < q->few_until_ms)
        q->few++;
    remove_slot(q, i);
}

void quota_close(struct quota *q, int64_t until_ms)
{
    if (until_ms > q->until_ms)
        q->until_ms = until_ms;
}

void quota_few(struct quota *q, long few, int64_t until_ms)
{
    q->few = few;
    q->few_until_ms = until_ms;
}
