#include "ctl/dlq_browse.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/chat/topology.h"
#include "ctl/dlq_tools.h"

enum {
    TICK_MS = 300,
    BACK_TICK_MS = 25, /* between two looks whether the letters are back, */
    BACK_MS = 15000,   /* which are waited for so long */
    FIRST_MS = 10000,  /* how long a busy broker may take for a consumer's first letter, */
    NEXT_MS = 3000,    /* and for another, before those that are missing are somebody else's */
};

/* The letters of one DLQ that are here, unacked. */
struct lot {
    char *dlq;
    uint64_t first_tag; /* theirs are from here to the next lot's */
    long held;          /* at the end: of these, how many are not back yet */
    long wanted;        /* ready, for all to be back */
};

struct browse {
    struct ctl_session *session;
    const struct filter *filter;
    const struct browse_events *events;
    void *arg;
    uint16_t window;

    struct mq_channel *channel; /* consumes */
    struct mq_channel
        *probe; /* asks about queues; a missing one closes it, and there is a new one */
    bool probing, reopening;
    struct tools *tools;
    bool joined; /* we are one of them */
    size_t next; /* of work_queues */

    const char *queue; /* the current one, */
    const char *dlq;   /* NULL: none */
    bool missing;      /* there is no such queue */
    long ready, seen;  /* of those that were there at the start */
    bool over;
    struct mq_consumer *consumer;
    bool cancelling;
    uint64_t first_tag, last_tag; /* of the consumer */
    long held;                    /* by this consumer: they use up its window */
    struct lot *lots;             /* of the queues so far */
    size_t lots_count;
    bool quiet;      /* nothing came since the last tick, */
    int64_t came_us; /* nor since then; monotonic */
    bool any;        /* something came to this consumer */

    long taken, matched;
    bool stopped, ended;
    bool closing, given_back; /* the channel is closed, and all is the broker's again */
    size_t asked;             /* of lots, in this round */
    struct timer *tick, *finish, *late;
};

static void proceed(struct browse *b);
static void put_back(struct browse *b);

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
    b->lots[b->lots_count - 1].held++;
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
    b->consumer = mq_consume(b->channel, b->dlq, b->window, &events, b, NULL);
    timer_set(b->tick, TICK_MS);
}

void browse_remove(struct browse *b, uint64_t tag, unsigned epoch)
{
    size_t i = b->lots_count;

    while (i > 1 && b->lots[i - 1].first_tag > tag)
        i--;
    b->lots[i - 1].held--;
    mq_ack(b->channel, tag, epoch);
}

void browse_settle(struct browse *b, uint64_t tag, unsigned epoch, bool remove)
{
    if (remove)
        browse_remove(b, tag, epoch);
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

    (void)ch;
    b->reopening = false;
    if (b->closing)
        put_back(b);
    else
        proceed(b);
}

static void new_probe(struct browse *b)
{
    static const struct mq_channel_events events = {probe_opened, NULL};

    if (b->probe)
        mq_channel_close(b->probe, NULL, NULL);
    b->reopening = true;
    b->probe = mq_channel_new(b->session->mq, MQ_CONFIRMS_NONE, &events, b);
}

/* After the letters: whoever held some when they were counted is a tool still. */
static void tools_counted(void *arg)
{
    struct browse *b = arg;

    b->probing = false;
    if (b->events->queue)
        b->events->queue(b->arg, b->queue, b->missing ? -1 : b->ready, tools_others(b->tools));
    if (!b->reopening)
        proceed(b);
}

/* Whether there is a queue of dead letters, and how many wait in it. */
static void counted(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct browse *b = arg;

    if (b->session->ended)
        return;
    if (e && e->status != 404) {
        complain(b, e);
        return;
    }
    if (e)
        new_probe(b);
    b->missing = e != NULL;
    b->ready = e ? 0 : (long)reply->messages;
    b->over = b->ready == 0;
    tools_count(b->tools, tools_counted, b);
}

static void next_queue(struct browse *b)
{
    struct lot *lot;

    b->dlq = NULL;
    while (b->next < work_queues_count && !filter_wants_queue(b->filter, work_queues[b->next].name))
        b->next++;
    if (b->next == work_queues_count) {
        end(b);
        return;
    }
    b->queue = work_queues[b->next++].name;
    lot = &b->lots[b->lots_count++];
    lot->first_tag = b->last_tag + 1;
    b->dlq = lot->dlq = mem_printf("%s.dlq", b->queue);
    b->seen = b->ready = 0;
    b->over = false;
    b->probing = true;
    mq_queue_declare(b->probe, b->dlq, true, false, NULL, counted, b);
}

/* With no consumer: the next thing that is to be done. */
static void proceed(struct browse *b)
{
    if (b->ended || b->consumer || b->cancelling || b->probing || b->session->ended || !b->joined)
        return;
    if (b->stopped)
        end(b);
    else if (b->reopening || !mq_channel_is_open(b->channel) || b->taken > b->window / 2)
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
        fprintf(stderr,
                "chatfleet: %ld of the letters of %s were not seen: somebody else has them\n",
                b->ready - b->seen, b->dlq);
    }
    update(b);
}

static void tick(void *arg)
{
    struct browse *b = arg;

    if (b->closing) { /* another round */
        b->asked = 0;
        put_back(b);
        return;
    }
    if (b->ended || b->session->ended)
        return;
    if (b->quiet && b->consumer && !b->cancelling && !b->probing && !b->reopening) {
        b->probing = true;
        mq_queue_declare(b->probe, b->dlq, true, false, NULL, counted_again, b);
    }
    b->quiet = true;
    timer_set(b->tick, TICK_MS);
}

/* ---- the letters go back ---- */

static long held(const struct browse *b)
{
    long total = 0;
    size_t i;

    for (i = 0; i < b->lots_count; i++)
        total += b->lots[i].held;
    return total;
}

static void late(void *arg)
{
    struct browse *b = arg;

    if (b->session->ended)
        return;
    fprintf(stderr,
            "chatfleet: letters that the broker is still putting back, or somebody else has: %ld\n",
            held(b));
    ctl_session_end(b->session, b->session->exit_code);
}

static void given_back(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct browse *b = arg;

    (void)reply;
    if (e || b->session->ended) /* with e the session is lost, which ends it */
        return;
    b->given_back = true;
    b->asked = 0;
    put_back(b);
}

/* Before the channel is closed this tells what is to be waited for, and then how far it is. */
static void counted_back(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct browse *b = arg;
    struct lot *lot = &b->lots[b->asked++];

    b->probing = false;
    if (b->session->ended)
        return;
    if (e)
        new_probe(b);
    if (e && e->status == 404)
        lot->held = 0; /* the queue is gone */
    else if (!e && !b->given_back)
        lot->wanted = (long)reply->messages + lot->held;
    else if (!e)
        lot->held = lot->wanted > (long)reply->messages ? lot->wanted - (long)reply->messages : 0;
    put_back(b);
}

/* The next thing that is to be done: one queue after the other is asked about, in rounds. */
static void put_back(struct browse *b)
{
    if (b->session->ended || b->probing || b->reopening)
        return;
    while (b->asked < b->lots_count && b->lots[b->asked].held == 0)
        b->asked++;
    if (b->asked < b->lots_count) {
        b->probing = true;
        mq_queue_declare(b->probe, b->lots[b->asked].dlq, true, false, NULL, counted_back, b);
    } else if (!b->given_back && b->channel) {
        mq_channel_close(b->channel, given_back, b);
        b->channel = NULL;
    } else if (b->given_back && held(b) == 0) {
        ctl_session_end(b->session, b->session->exit_code);
    } else if (b->given_back) {
        timer_set(b->tick, BACK_TICK_MS);
    }
}

void browse_close(struct browse *b, int exit_code)
{
    if (b->session->ended || b->closing)
        return;
    if (held(b) == 0) {
        ctl_session_end(b->session, exit_code);
        return;
    }
    b->session->finished = true;
    b->session->exit_code = exit_code;
    b->closing = true;
    timer_set(b->late, BACK_MS);
    put_back(b);
}

/* ---- life ---- */

static void channel_opened(void *arg, struct mq_channel *ch)
{
    (void)ch;
    proceed(arg);
}

static void channel_lost(void *arg, struct mq_channel *ch, const struct err *why)
{
    struct browse *b = arg;

    (void)ch;
    ctl_session_lost(b->session, why);
}

static void joined(void *arg)
{
    struct browse *b = arg;

    b->joined = true;
    if (!b->reopening)
        proceed(b);
}

struct browse *browse_new(struct ctl_session *s, const struct filter *f, uint16_t window,
                          const struct browse_events *events, void *arg)
{
    static const struct mq_channel_events channel_events = {channel_opened, channel_lost};
    struct browse *b = mem_alloc(sizeof(*b));

    b->session = s;
    b->filter = f;
    b->events = events;
    b->arg = arg;
    b->window = window;
    b->tick = timer_new(s->loop, tick, b);
    b->finish = timer_new(s->loop, finish, b);
    b->late = timer_new(s->loop, late, b);
    b->lots = mem_alloc(work_queues_count * sizeof(*b->lots));
    b->channel = mq_channel_new(s->mq, MQ_CONFIRMS_NONE, &channel_events, b);
    new_probe(b);
    b->tools = tools_join(s, joined, b);
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
    timer_free(b->late);
    tools_free(b->tools);
    while (b->lots_count)
        free(b->lots[--b->lots_count].dlq);
    free(b->lots);
    free(b);
}

/* ---- reading only ---- */

struct reading {
    struct ctl_session session; /* the first member: a session is its reading */
    const struct filter *filter;
    const struct browse_events *events;
    void *arg;
    struct browse *browse;
};

static enum browse_fate read_one(void *arg, const struct mq_delivery *d, const struct letter *l)
{
    const struct reading *r = arg;

    return r->events->letter(r->arg, d, l);
}

static void read_queue(void *arg, const char *queue, long ready, long others)
{
    const struct reading *r = arg;

    if (r->events->queue)
        r->events->queue(r->arg, queue, ready, others);
}

static void read_all(void *arg)
{
    browse_close(((struct reading *)arg)->browse, EXIT_DONE);
}

static void reading_opened(struct ctl_session *s)
{
    static const struct browse_events events = {read_queue, read_one, read_all};
    struct reading *r = (struct reading *)(void *)s;

    r->browse = browse_new(s, r->filter, BROWSE_WINDOW_MAX, &events, r);
}

static void reading_over(struct ctl_session *s)
{
    browse_free(((struct reading *)(void *)s)->browse);
}

int browse_read(const struct filter *f, const struct browse_events *events, void *arg)
{
    struct reading r = {.session = {.opened = reading_opened,
                                    .fini = reading_over,
                                    .message_max = BROWSE_MESSAGE_MAX},
                        .filter = f,
                        .events = events,
                        .arg = arg};

    return ctl_session_run(&r.session);
}
