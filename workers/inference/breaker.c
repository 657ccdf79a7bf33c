#include "workers/inference/breaker.h"

bool breaker_allows(struct breaker *b, int64_t now_ms, uint32_t *ticket)
{
    if (b->state == BREAKER_OPEN && now_ms >= b->until_ms)
        b->state = BREAKER_HALF_OPEN;
    if (b->state == BREAKER_OPEN || (b->state == BREAKER_HALF_OPEN && b->trying))
        return false;
    if (b->state == BREAKER_HALF_OPEN) {
        b->trying = true;
        b->ticket++;
    }
    *ticket = b->ticket;
    return true;
}

static void remember(struct breaker *b, bool failed)
{
    b->failed = (b->failed << 1 | failed) & ((UINT32_C(1) << BREAKER_OUTCOMES) - 1);
    b->outcomes += b->outcomes < BREAKER_OUTCOMES;
}

void breaker_succeeded(struct breaker *b, uint32_t ticket)
{
    if (ticket != b->ticket)
        return;
    if (b->state == BREAKER_HALF_OPEN)
        *b = (struct breaker){.state = BREAKER_CLOSED, .ticket = ticket};
    else
        remember(b, false);
}

/* From the shortest to three times the last, by chance: openings of many processes drift apart. */
static void open(struct breaker *b, const struct breaker_rules *rules, int64_t now_ms,
                 int64_t retry_after_ms, uint32_t chance)
{
    int64_t top = b->open_ms > 0 ? b->open_ms * 3 : rules->open_ms * 3 / 2;

    b->open_ms = rules->open_ms;
    if (top > rules->open_ms)
        b->open_ms += chance % (uint64_t)(top - rules->open_ms + 1);
    if (b->open_ms < retry_after_ms)
        b->open_ms = retry_after_ms;
    if (b->open_ms > rules->open_max_ms)
        b->open_ms = rules->open_max_ms;
    b->until_ms = now_ms + b->open_ms;
    b->state = BREAKER_OPEN;
    b->trying = false;
    b->ticket++;
    b->failed = 0;
    b->outcomes = 0;
}

static bool too_many(const struct breaker *b, const struct breaker_rules *rules)
{
    return b->outcomes >= rules->least &&
           __builtin_popcount(b->failed) * 100 >= rules->failed_percent * b->outcomes;
}

void breaker_failed(struct breaker *b, uint32_t ticket, const struct breaker_rules *rules,
                    int64_t now_ms, int64_t retry_after_ms, uint32_t chance)
{
    if (rules->open_ms == 0 || ticket != b->ticket)
        return;
    remember(b, true);
    if (b->state == BREAKER_HALF_OPEN || retry_after_ms > 0 || too_many(b, rules))
        open(b, rules, now_ms, retry_after_ms, chance);
}

void breaker_unknown(struct breaker *b, uint32_t ticket)
{
    if (ticket == b->ticket)
        b->trying = false;
}

int64_t breaker_wait_ms(const struct breaker *b, int64_t now_ms)
{
    if (b->state == BREAKER_HALF_OPEN && b->trying)
        return BREAKER_TRIAL_MS;
    return b->state == BREAKER_OPEN && b->until_ms > now_ms ? b->until_ms - now_ms : 0;
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {
        [BREAKER_CLOSED] = "closed", [BREAKER_HALF_OPEN] = "half-open", [BREAKER_OPEN] = "open"};

    return names[state];
}
