/*
 * When to leave a model alone for a while: a circuit breaker, one for each model.
 *
 * Closed, all requests go through. It opens when enough of the last BREAKER_OUTCOMES requests have
 * failed, or when the server says when to come again. Open, none does, for a time that by chance may
 * grow threefold with each opening in a row. Then it is half open: one request goes through and decides.
 * What was begun before says nothing any more: each request has a ticket, and is told by it.
 *
 * It knows no clock: each call is told the time, in monotonic milliseconds.
 */
#ifndef INFERENCE_BREAKER_H
#define INFERENCE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum {
    BREAKER_OUTCOMES = 20,
    BREAKER_TRIAL_MS = 500, /* when to look again while the one request is under way */
};

struct breaker_rules {
    int64_t open_ms;     /* for so long at first; 0: it never opens */
    int64_t open_max_ms; /* and at most, also when the server asks for more */
    long failed_percent; /* of the last outcomes, for it to open */
    long least;          /* outcomes that are needed to judge by */
};

enum breaker_state { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN };

struct breaker {
    enum breaker_state state;
    uint32_t failed; /* a bit for each of the last outcomes, the latest lowest */
    int outcomes;    /* of which these are there */
    int64_t open_ms; /* the present opening's length, */
    int64_t until_ms;
    bool trying;     /* half open: the one request is under way */
    uint32_t ticket; /* of the requests that count */
};

/* May a request go out? The caller then tells how it ended, by one of the three below. */
bool breaker_allows(struct breaker *b, int64_t now_ms, uint32_t *ticket);

/* May be told as soon as it is clear, and again at the end. */
void breaker_succeeded(struct breaker *b, uint32_t ticket);

/* retry_after_ms: what the server asked for, 0 if nothing. chance: any number, so that not all
 * processes come back at once. */
void breaker_failed(struct breaker *b, uint32_t ticket, const struct breaker_rules *rules,
                    int64_t now_ms, int64_t retry_after_ms, uint32_t chance);

/* It ended in a way that says nothing about the model. */
void breaker_unknown(struct breaker *b, uint32_t ticket);

/* How long it takes until a request may go out, at least; 0: now. */
int64_t breaker_wait_ms(const struct breaker *b, int64_t now_ms);

const char *breaker_state_name(enum breaker_state state);

#endif
