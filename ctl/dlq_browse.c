#include "ctl/dlq_browse.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/chat/topology.h"

enum {
    TICK_MS = 300,
    FIRST_MS = 10000, /* how long a busy broker may take for a consumer's first letter, */
    NEXT_MS = 3000,   /* and for another, before those that are missing are somebody else's */
};

struct browse {
    struct ctl_session *session;
    const struct filter *filter;
    const struct browse_events *events;
    void *arg;
    uint16_t window;

    struct mq_channel
        *probe; /* asks about queues; a missing one closes it, and there is a new one */
    bool probing, reopening;
    size_t next; /* of work_queues */

    const char *queue; /* the current one, */
    char *dlq;         /* NULL: none */
    long ready, seen;  /* of those that were there at the start */
    bool over;
    struct mq_consumer *consumer;
    bool cancelling;
    uint64_t first_tag, last_tag; /* of the consumer */
    long held;                    /* by this consumer: they use up its window */
    bool quiet;                   /* nothing came since the last tick, */
    int64_t came_us;              /* nor since then; monotonic */
    bool any;                     /* something came to this consumer */

    long taken, matched;
    bool stopped, ended;
    struct timer *tick, *finish;
};

static void proceed(struct browse *b);

/* ---- the end ---- */

static void finish(void *arg)
{
    struct browse *b = arg;

    b->events->ended(b->arg);
}

static void end(struct browse *b)
{
    if (b->ended)
        return;
    b->ended = true;
    timer_stop(b->tick);
    timer_set(b->finish, 0);
}

/* ---- one queue's consumers, one after the other ---- */

static void consumer_gone(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct browse *b = arg;

    (void)reply;
    b->cancelling = false;
    b->consumer = NULL;
    if (!e) /* else the session ends */
        proceed(b);
}

static void close_consumer(struct browse *b)
{
    if (b->cancelling)
        return;
    b->cancelling = true;
    mq_cancel(b->consumer, consumer_gone, b);
}

/* What is held uses up the window: a further consumer has one of its own. It comes when enough of the
 * taken are settled, so that never much more than a window of them is here. */
static void update(struct browse *b)
{
    bool room = b->taken <= b->window / 2;

    if (!b->consumer)
        proceed(b);
    else if (b->stopped || b->over)
        close_consumer(b);
    else if (b->held >= b->window / 2 && room)
        close_consumer(b);
}

static void delivered(void *arg, const struct mq_delivery *d)
{
    struct browse *b = arg;
    enum browse_fate fate = BROWSE_HOLD;
    struct letter letter;

    b->quiet = false;
    b->any = true;
    b->came_us = clock_monotonic_us();
    b->last_tag = d->tag;
    if (!b->stopped && !b->over) {
        b->over = ++b->seen >= b->ready;
        letter_read(&letter, b->queue, d->message);
        FAULT("browse.letter");
        if (filter_matches(b->filter, &letter)) {
            b->matched++;
            b->stopped = b->filter->limit && b->matched >= b->filter->limit;
            fate = b->events->letter(b->arg, d, &letter);
        }
    }
    if (fate == BROWSE_TAKE)
        b->taken++;
    else
        b->held++;
    update(b);
}

static void deleted(void *arg)
{
    struct browse *b = arg;

    b->consumer = NULL;
    b->over = true;
    if (!b->cancelling)
        update(b);
}

static void consume(struct browse *b)
{
    static const struct mq_consumer_events events = {delivered, deleted};

    b->held = 0;
    b->first_tag = b->last_tag + 1;
    b->quiet = b->any = false;
    b->came_us = clock_monotonic_us();
    b->consumer = mq_consume(b->session->channel, b->dlq, b->window, &events, b, NULL);
    timer_set(b->tick, TICK_MS);
}

void browse_settle(struct browse *b, uint64_t tag, unsigned epoch, bool remove)
{
    if (remove)
        mq_ack(b->session->channel, tag, epoch);
    else if (tag >= b->first_tag)
        b->held++;
    b->taken--;
    if (!b->ended)
        update(b);
}

/* ---- from queue to queue ---- */

static void complain(struct browse *b, const struct err *e)
{
    fprintf(stderr, "chatfleet: %s: %s\n", b->dlq, e->text);
    ctl_session_end(b->session, EXIT_UNAVAILABLE);
}

static void probe_opened(void *arg, struct mq_channel *ch)
{
    struct browse *b = arg;

    if (ch != b->probe) /* an earlier one, opened again */
        return;
    b->reopening = false;
    proceed(b);
}

static void new_probe(struct browse *b)
{
    static const struct mq_channel_events events = {probe_opened, NULL};

    b->reopening = true;
    b->probe = mq_channel_new(b->session->mq, MQ_CONFIRMS_NONE, &events, b);
}

/* Whether there is a queue of dead letters, and how many wait in it. */
static void counted(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct browse *b = arg;

    b->probing = false;
    if (b->session->ended)
        return;
    if (e && e->status != 404) {
        complain(b, e);
        return;
    }
    if (e)
        new_probe(b);
    b->ready = e ? 0 : (long)reply->messages;
    b->over = b->ready == 0;
    if (b->events->queue)
        b->events->queue(b->arg, b->queue, e ? -1 : b->ready);
    if (!b->reopening)
        proceed(b);
}

static void next_queue(struct browse *b)
{
    free(b->dlq);
    b->dlq = NULL;
    while (b->next < work_queues_count && !filter_wants_queue(b->filter, work_queues[b->next].name))
        b->next++;
    if (b->next == work_queues_count) {
        end(b);
        return;
    }
    b->queue = work_queues[b->next++].name;
    b->dlq = mem_printf("%s.dlq", b->queue);
    b->seen = b->ready = 0;
    b->over = false;
    b->probing = true;
    mq_queue_declare(b->probe, b->dlq, true, false, NULL, counted, b);
}

/* With no consumer: the next thing that is to be done. */
static void proceed(struct browse *b)
{
    if (b->ended || b->consumer || b->cancelling || b->probing || b->session->ended)
        return;
    if (b->stopped)
        end(b);
    else if (b->reopening || b->taken > b->window / 2)
        return; /* called again when that has changed */
    else if (!b->dlq || b->over)
        next_queue(b);
    else
        consume(b);
}

/* ---- letters that somebody else took away ---- */

/* What the broker does not count as ready may be on its way to us, or held by somebody else. */
static bool waited_enough(const struct browse *b)
{
    return b->quiet && clock_monotonic_us() - b->came_us >= (b->any ? NEXT_MS : FIRST_MS) * 1000;
}

static void counted_again(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct browse *b = arg;

    b->probing = false;
    if (b->session->ended || b->ended)
        return;
    if (e)
        new_probe(b);
    if (!b->over && ((e && e->status == 404) || (!e && reply->messages == 0 && waited_enough(b)))) {
        b->over = true;
        fprintf(stderr, "chatfleet: %ld letters of %s were not seen: somebody else has them\n",
                b->ready - b->seen, b->dlq);
    }
    update(b);
}

static void tick(void *arg)
{
    struct browse *b = arg;

    if (b->ended || b->session->ended)
        return;
    if (b->quiet && b->consumer && !b->cancelling && !b->probing && !b->reopening) {
        b->probing = true;
        mq_queue_declare(b->probe, b->dlq, true, false, NULL, counted_again, b);
    }
    b->quiet = true;
    timer_set(b->tick, TICK_MS);
}

/* ---- life ---- */

struct browse *browse_new(struct ctl_session *s, const struct filter *f, uint16_t window,
                          const struct browse_events *events, void *arg)
{
    struct browse *b = mem_alloc(sizeof(*b));

    b->session = s;
    b->filter = f;
    b->events = events;
    b->arg = arg;
    b->window = window;
    b->tick = timer_new(s->loop, tick, b);
    b->finish = timer_new(s->loop, finish, b);
    new_probe(b);
    return b;
}

void browse_stop(struct browse *b)
{
    b->stopped = true;
    if (!b->ended)
        update(b);
}

void browse_free(struct browse *b)
{
    if (!b)
        return;
    timer_free(b->tick);
    timer_free(b->finish);
    free(b->dlq);
    free(b);
}
