/*
 * Room for requests to the free models of OpenRouter's account, which all processes share.
 *
 * With Redis the count is kept there, by one log of all requests in the server's time; without it, and
 * while it is away, each process takes its part of the limits. What a process takes it remembers in any
 * case: it tells a Redis that has forgotten, and knows how little may be left when Redis goes. Once a
 * second it asks how many requests there were, so that it knows that also while it makes none.
 *
 * A request over the limit that may wait gets its place at once, to be used when its time has come.
 */
#ifndef INFERENCE_FREE_QUOTA_H
#define INFERENCE_FREE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/err.h"
#include "common/worker/worker.h"

/* begun is called once, from the loop or from within the call: now it is known whether there is a Redis. */
int free_quota_start(struct worker *w, void (*begun)(struct worker *w), struct err *e);
void free_quota_stop(void);

/* The place of one request, in the storage of whoever makes it. */
struct place {
    int64_t wait_ms; /* the result: how long until it may go; -1: there is no room in time */
    uint64_t number;
    int64_t wait_max_ms;
    struct redis_call *call; /* it is being asked for; NULL: not, or not any more */
    void (*done)(void *arg);
    void *arg;
};

/* Ask for one that may be waited for so long. True: the result is there; else done is called with it. */
bool free_quota_take(struct place *p, int64_t wait_max_ms, void (*done)(void *arg), void *arg);
/* It is not used, or not wanted any more; one that was refused may be given back, too. */
void free_quota_give_back(struct place *p);

/* How long until there may be room, as far as is known here; 0: now. */
int64_t free_quota_wait_ms(void);

/* The provider says that so many requests are left for so long. It only ever lowers the count's room. */
void free_quota_correct(long left, int64_t reset_ms);

/* Adds "redis" if one is configured: {"status", "shared"}. */
void free_quota_health(json_t *dependencies);

#endif
