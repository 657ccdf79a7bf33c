/*
 * Reading dead letters without harming them: they are consumed with acks, and what is not to be
 * removed is held, unacked, until their channel is closed and the broker puts it back where it was.
 * Only what was there at the start is read, so a letter that comes back is not met again. What
 * another tool holds at the same time is not seen; that there is one is said on standard error.
 */
#ifndef CTL_DLQ_BROWSE_H
#define CTL_DLQ_BROWSE_H

#include "ctl/ctl.h"
#include "ctl/dlq_filter.h"

/* What becomes of a letter: held till the end, or the caller's, who calls browse_settle(). */
enum browse_fate { BROWSE_HOLD, BROWSE_TAKE };

struct browse_events {
    /* How many letters wait in a queue's DLQ, before any of them comes; -1: there is no such DLQ.
     * others: tools that were at work, at the most so far; -1: not known. May be NULL. */
    void (*queue)(void *arg, const char *queue, long ready, long others);
    /* One that matches; good for the time of the call. */
    enum browse_fate (*letter)(void *arg, const struct mq_delivery *d, const struct letter *l);
    /* No more will come, from the loop. The taken ones may still be settled. Not for browse_read(). */
    void (*ended)(void *arg);
};

enum {
    BROWSE_WINDOW_MAX = 60000,      /* when bodies are not kept */
    BROWSE_MESSAGE_MAX = 128 << 20, /* bytes: what the broker takes at most */
};

struct browse;

/* On an open session. window: letters the broker may send ahead, and about how many are taken at a
 * time. Filter and events stay the caller's. */
struct browse *browse_new(struct ctl_session *s, const struct filter *f, uint16_t window,
                          const struct browse_events *events, void *arg);
void browse_free(struct browse *b);

/* A taken letter's end: acked, or held after all. */
void browse_settle(struct browse *b, uint64_t tag, unsigned epoch, bool remove);
/* One that was held is to go after all. */
void browse_remove(struct browse *b, uint64_t tag, unsigned epoch);
void browse_stop(struct browse *b); /* ended() follows */

/* After ended(), when nothing is taken any more: end the session, as soon as the broker has put back
 * what is held, so that a tool which is started next sees it. That takes seconds when it is much. */
void browse_close(struct browse *b, int exit_code);

/* A session that does nothing but read; letter() holds all. Returns its exit code. */
int browse_read(const struct filter *f, const struct browse_events *events, void *arg);

#endif
