#include "common/io/mq_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"

enum { REOPEN_MS = 500 };

/* A synchronous method that waits for its answer. */
struct request {
    struct request *next;
    int64_t asked_us; /* or answered the one before it; monotonic */
    mq_reply_cb *cb;
    void *arg;
};

/* A message that waits for its confirm. */
struct pending {
    mq_outcome_cb *cb;
    void *arg;
    uint64_t mark; /* of a mandatory message, to know it again when it comes back; else 0 */
    bool returned;
    bool done; /* confirmed before an older one */
};

struct mq_consumer {
    struct mq_consumer *next;
    struct mq_channel *channel;
    struct mq_consumer_events events;
    void *arg;
    bool no_ack;
    bool cancelling; /* by us */
    mq_reply_cb *cancelled;
    void *cancelled_arg;
    char tag[16];
};

enum channel_state {
    CHANNEL_SHUT,
    CHANNEL_OPENING,
    CHANNEL_OPEN,
    CHANNEL_CLOSING, /* by us; it is freed at the end */
};

/* What confirms cost is measured by a build that asks for none and takes all as said (tests/bench). */
#ifdef CHATFLEET_NO_CONFIRMS
static const bool without_confirms = true;
#else
static const bool without_confirms = false;
#endif

struct mq_channel {
    struct mq_channel *next;
    struct mq *mq;
    uint16_t number;
    enum mq_confirms confirms;
    struct mq_channel_events events;
    void *arg;
    enum channel_state state;
    bool stopped; /* by channel.flow */
    unsigned epoch;
    struct timer *reopen;
    struct timer *gone; /* ends a closing of which the broker need not hear; else NULL */
    mq_reply_cb *closed;
    void *closed_arg;

    struct request *requests, **requests_end;
    struct mq_consumer *consumers;
    unsigned last_consumer;

    /* Confirms: a ring of the publishes first..last, by their tag. */
    struct pending *pending;
    size_t pending_room; /* a power of two */
    uint64_t first, last;
    int64_t base;     /* what mq_publish() returned before this epoch */
    uint64_t barrier; /* the last publish before the barrier under way; 0: there is none */

    /* Acks: which of the deliveries floor+1..delivered may be told as "all up to here". */
    char *settled; /* ring of: 0 open, 'a' ack to be sent, '-' nothing to send */
    size_t settled_room;
    uint64_t floor, delivered;
    bool flush_set;
    struct timer *ack_timer;
};

/* When the connection goes, all of its channels do, before the first of them is told. */
bool mq_channel_is_open(const struct mq_channel *ch)
{
    return ch->state == CHANNEL_OPEN && ch->mq->state == MQ_UP;
}

unsigned mq_channel_epoch(const struct mq_channel *ch)
{
    return ch->epoch;
}

size_t mq_unconfirmed(const struct mq_channel *ch)
{
    return (size_t)(ch->last - ch->first + 1);
}

/* ---- synchronous methods ---- */

static void expect(struct mq_channel *ch, mq_reply_cb *cb, void *arg)
{
    struct request *r = mem_alloc(sizeof(*r));

    r->asked_us = clock_monotonic_us();
    r->cb = cb;
    r->arg = arg;
    *ch->requests_end = r;
    ch->requests_end = &r->next;
    mq_flush_later(ch->mq);
}

bool mq_channels_overdue(const struct mq *m, long ms)
{
    int64_t since = clock_monotonic_us() - (int64_t)ms * 1000;
    const struct mq_channel *ch;

    if (m->unblocked_us >= since) /* it could not answer before */
        return false;
    for (ch = m->channels; ch; ch = ch->next)
        if (ch->requests && ch->requests->asked_us < since)
            return true;
    return false;
}

/* Is the channel open? If not, the caller is answered with an error. */
static bool usable(struct mq_channel *ch, mq_reply_cb *cb, void *arg)
{
    struct err e;

    if (mq_channel_is_open(ch))
        return true;
    err_set(&e, ERR_RETRY, 503, "the channel to the broker is not open");
    if (cb)
        cb(arg, NULL, &e);
    return false;
}

static void answer(struct mq_channel *ch, const struct mq_reply *reply, const struct err *e)
{
    struct request *r = ch->requests;

    ch->requests = r->next;
    if (!ch->requests)
        ch->requests_end = &ch->requests;
    else /* a long list of declarations is slow, not dead, while each is answered */
        ch->requests->asked_us = clock_monotonic_us();
    if (r->cb)
        r->cb(r->arg, reply, e);
    free(r);
}

void mq_exchange_declare(struct mq_channel *ch, const char *name, const char *type, bool passive,
                         mq_reply_cb *cb, void *arg)
{
    if (!usable(ch, cb, arg))
        return;
    codec_put_exchange_declare(ch->mq->codec, &ch->mq->out, ch->number, name, type, passive, true);
    expect(ch, cb, arg);
}

void mq_queue_declare(struct mq_channel *ch, const char *name, bool passive, bool exclusive,
                      const struct mq_table *arguments, mq_reply_cb *cb, void *arg)
{
    if (!usable(ch, cb, arg))
        return;
    codec_put_queue_declare(ch->mq->codec, &ch->mq->out, ch->number, name, passive, !exclusive,
                            exclusive, arguments);
    expect(ch, cb, arg);
}

void mq_queue_bind(struct mq_channel *ch, const char *queue, const char *exchange, const char *key,
                   mq_reply_cb *cb, void *arg)
{
    if (!usable(ch, cb, arg))
        return;
    codec_put_queue_bind(ch->mq->codec, &ch->mq->out, ch->number, queue, exchange, key);
    expect(ch, cb, arg);
}

void mq_queue_delete(struct mq_channel *ch, const char *name, mq_reply_cb *cb, void *arg)
{
    if (!usable(ch, cb, arg))
        return;
    codec_put_queue_delete(ch->mq->codec, &ch->mq->out, ch->number, name);
    expect(ch, cb, arg);
}

/* ---- consumers ---- */

struct mq_consumer *mq_consume(struct mq_channel *ch, const char *queue, uint16_t prefetch,
                               const struct mq_consumer_events *ev, void *arg, mq_reply_cb *cb)
{
    struct mq_consumer *c;

    if (!usable(ch, cb, arg))
        return NULL;
    c = mem_alloc(sizeof(*c));
    c->channel = ch;
    c->events = *ev;
    c->arg = arg;
    c->no_ack = prefetch == 0;
    /* When a channel ends, a quorum queue takes back what was unacked in the order of the tags. */
    snprintf(c->tag, sizeof(c->tag), "c%06u", ++ch->last_consumer);
    c->next = ch->consumers;
    ch->consumers = c;
    if (prefetch) { /* holds for the consumers that come after it */
        codec_put_qos(ch->mq->codec, &ch->mq->out, ch->number, prefetch);
        expect(ch, NULL, NULL);
    }
    codec_put_consume(ch->mq->codec, &ch->mq->out, ch->number, queue, c->tag, c->no_ack);
    expect(ch, cb, arg);
    return c;
}

static struct mq_consumer *find_consumer(struct mq_channel *ch, const char *tag)
{
    struct mq_consumer *c;

    for (c = ch->consumers; c; c = c->next)
        if (strcmp(c->tag, tag) == 0)
            return c;
    return NULL;
}

static void free_consumer(struct mq_consumer *c)
{
    struct mq_consumer **p;

    for (p = &c->channel->consumers; *p != c; p = &(*p)->next)
        ;
    *p = c->next;
    free(c);
}

static void cancel_done(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct mq_consumer *c = arg;
    mq_reply_cb *cb = c->cancelled;
    void *cb_arg = c->cancelled_arg;

    free_consumer(c);
    if (cb)
        cb(cb_arg, reply, e);
}

void mq_cancel(struct mq_consumer *c, mq_reply_cb *cb, void *arg)
{
    struct mq_channel *ch = c->channel;

    if (!usable(ch, cb, arg))
        return;
    c->cancelling = true;
    c->cancelled = cb;
    c->cancelled_arg = arg;
    codec_put_cancel(ch->mq->codec, &ch->mq->out, ch->number, c->tag);
    expect(ch, cancel_done, c);
}

static void cancelled_by_broker(struct mq_channel *ch, const char *tag)
{
    struct mq_consumer *c = find_consumer(ch, tag);

    if (!c || c->cancelling) /* if we cancel as well, that answer is still to come */
        return;
    log_event(LOG_WARN, "consumer cancelled by the broker", LOG_STR("consumer", tag));
    if (c->events.cancelled)
        c->events.cancelled(c->arg);
    free_consumer(c);
}

/* ---- acks ---- */

static char *settled_at(struct mq_channel *ch, uint64_t tag)
{
    return &ch->settled[tag & (ch->settled_room - 1)];
}

static void grow_settled(struct mq_channel *ch)
{
    size_t room = ch->settled_room ? ch->settled_room * 2 : 256;
    char *ring = mem_alloc(room);
    uint64_t tag;

    for (tag = ch->floor + 1; tag <= ch->delivered; tag++)
        ring[tag & (room - 1)] = *settled_at(ch, tag);
    free(ch->settled);
    ch->settled = ring;
    ch->settled_room = room;
}

/* Deliveries of which nothing is to be told need no ack to move on. */
static void skip_settled(struct mq_channel *ch)
{
    while (ch->floor < ch->delivered && *settled_at(ch, ch->floor + 1) == '-')
        ch->floor++;
}

/* Tell the broker with one "all up to here" what can be told so, and the rest one by one. */
static void send_acks(void *arg)
{
    struct mq_channel *ch = arg;
    struct mq *m = ch->mq;
    uint64_t tag, highest = 0;

    ch->flush_set = false;
    if (!mq_channel_is_open(ch))
        return;
    for (tag = ch->floor + 1; tag <= ch->delivered && *settled_at(ch, tag); tag++) {
        if (*settled_at(ch, tag) == 'a')
            highest = tag;
        ch->floor = tag;
    }
    if (highest)
        codec_put_ack(m->codec, &m->out, ch->number, highest, true);
    for (; tag <= ch->delivered; tag++) {
        if (*settled_at(ch, tag) != 'a')
            continue;
        codec_put_ack(m->codec, &m->out, ch->number, tag, false);
        *settled_at(ch, tag) = '-';
    }
    mq_flush_later(m);
}

static void delivered(struct mq_channel *ch, const struct codec_in *in)
{
    struct mq_delivery d = {.tag = in->tag,
                            .epoch = ch->epoch,
                            .redelivered = in->flag,
                            .oversized = in->oversized,
                            .message = &in->message,
                            .mq = ch->mq};
    struct mq_consumer *c = find_consumer(ch, in->text);

    if (in->tag - ch->floor >= ch->settled_room)
        skip_settled(ch);
    if (in->tag - ch->floor >= ch->settled_room)
        grow_settled(ch);
    ch->delivered = in->tag;
    *settled_at(ch, in->tag) = !c || c->no_ack ? '-' : 0;
    if (c)
        c->events.delivery(c->arg, &d);
}

struct arena *mq_take(const struct mq_delivery *d, struct mq_message *to)
{
    struct arena *a = codec_take(d->mq->codec);

    *to = *d->message;
    to->body = arena_strndup(a, to->body, to->body_len);
    return a;
}

/* Is it still to be settled, on this epoch? */
static bool unsettled(struct mq_channel *ch, uint64_t tag, unsigned epoch)
{
    return mq_channel_is_open(ch) && epoch == ch->epoch && tag > ch->floor &&
           tag <= ch->delivered && *settled_at(ch, tag) == 0;
}

void mq_ack(struct mq_channel *ch, uint64_t tag, unsigned epoch)
{
    if (!unsettled(ch, tag, epoch))
        return;
    *settled_at(ch, tag) = 'a';
    if (!ch->flush_set)
        timer_set(ch->ack_timer, 0);
    ch->flush_set = true;
}

void mq_nack(struct mq_channel *ch, uint64_t tag, unsigned epoch, bool requeue)
{
    if (!unsettled(ch, tag, epoch))
        return;
    *settled_at(ch, tag) = '-';
    codec_put_nack(ch->mq->codec, &ch->mq->out, ch->number, tag, requeue);
    mq_flush_later(ch->mq);
}

/* ---- publishing ---- */

static struct pending *pending_at(struct mq_channel *ch, uint64_t tag)
{
    return &ch->pending[tag & (ch->pending_room - 1)];
}

static void grow_pending(struct mq_channel *ch)
{
    size_t room = ch->pending_room ? ch->pending_room * 2 : 64;
    struct pending *ring = mem_alloc(room * sizeof(*ring));
    uint64_t tag;

    for (tag = ch->first; tag <= ch->last; tag++)
        ring[tag & (room - 1)] = *pending_at(ch, tag);
    free(ch->pending);
    ch->pending = ring;
    ch->pending_room = room;
}

/* FNV-1a over what a returned message still has of the published one; never 0. */
static uint64_t mark_of(const struct mq_message *m)
{
    const char *const parts[] = {m->exchange, m->routing_key, m->message_id, m->correlation_id};
    uint64_t h = 0xcbf29ce484222325u;
    const char *p;
    size_t i;

    for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        for (p = parts[i] ? parts[i] : ""; *p; p++)
            h = (h ^ (unsigned char)*p) * 0x100000001b3u;
        h = (h ^ 0xff) * 0x100000001b3u;
    }
    return h ? h : 1;
}

int64_t mq_publish(struct mq_channel *ch, const struct mq_message *msg, bool mandatory,
                   mq_outcome_cb *cb, void *arg, struct err *e)
{
    struct mq *m = ch->mq;

    if (!mq_channel_is_open(ch))
        return err_set(e, ERR_RETRY, 503, "the message broker is not reachable");
    if (m->blocked || ch->stopped)
        return err_set(e, ERR_RETRY, 503, "the message broker takes no messages at the moment");
    if (mq_output(m) > m->config.output_max)
        return err_set(e, ERR_RETRY, 503, "too many messages wait for the message broker");
    if (codec_put_publish(m->codec, &m->out, ch->number, msg, mandatory, e))
        return -1;
    mq_flush_later(m);
    if (ch->confirms == MQ_CONFIRMS_NONE) {
        ch->first = ++ch->last + 1;
        return ch->base + (int64_t)ch->last;
    }
    if (mq_unconfirmed(ch) == ch->pending_room)
        grow_pending(ch);
    *pending_at(ch, ++ch->last) =
        (struct pending){.cb = cb, .arg = arg, .mark = mandatory && cb ? mark_of(msg) : 0};
    return ch->base + (int64_t)ch->last;
}

void mq_forget(struct mq_channel *ch, int64_t publish)
{
    int64_t tag = publish - ch->base;

    if (tag >= (int64_t)ch->first && tag <= (int64_t)ch->last)
        pending_at(ch, (uint64_t)tag)->cb = NULL;
}

/* One publish has its answer. The callback may publish, and so move the ring. */
static void settle(struct mq_channel *ch, uint64_t tag, enum mq_outcome outcome)
{
    struct pending *p = pending_at(ch, tag);
    mq_outcome_cb *cb = p->cb;

    if (p->done)
        return;
    p->done = true;
    p->cb = NULL;
    if (cb)
        cb(p->arg, p->returned ? MQ_RETURNED : outcome);
}

static void settle_range(struct mq_channel *ch, uint64_t from, uint64_t upto,
                         enum mq_outcome outcome)
{
    uint64_t tag;

    for (tag = from; tag >= ch->first && tag <= upto; tag++)
        settle(ch, tag, outcome);
    while (ch->first <= ch->last && pending_at(ch, ch->first)->done)
        ch->first++;
}

static int confirmed(struct mq_channel *ch, const struct codec_in *in, struct err *e)
{
    enum mq_outcome outcome = in->kind == CODEC_ACK ? MQ_CONFIRMED : MQ_REFUSED;
    uint64_t upto = in->tag ? in->tag : ch->last;

    if (ch->confirms != MQ_CONFIRMS_EACH || upto > ch->last)
        return err_set(e, ERR_RETRY, 503, "the broker confirmed what was never published");
    settle_range(ch, in->flag ? ch->first : upto, upto, outcome);
    return 0;
}

/* ---- barriers ---- */

static void put_barrier(struct mq_channel *ch);

static void barrier_answered(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct mq_channel *ch = arg;
    uint64_t upto = ch->barrier;

    (void)reply;
    ch->barrier = 0;
    if (e) /* the channel is gone, and tells its publishes so */
        return;
    settle_range(ch, ch->first, upto, MQ_CONFIRMED);
    if (mq_unconfirmed(ch) > 0 && !ch->barrier && mq_channel_is_open(ch))
        put_barrier(ch);
}

/* Any synchronous method would do; the prefetch of a channel that consumes nothing harms nobody. */
static void put_barrier(struct mq_channel *ch)
{
    ch->barrier = ch->last;
    codec_put_qos(ch->mq->codec, &ch->mq->out, ch->number, 0);
    expect(ch, barrier_answered, ch);
}

/* One at a time: those who come meanwhile share the next. */
void mq_channels_put_barriers(struct mq *m)
{
    struct mq_channel *ch;

    for (ch = m->channels; ch; ch = ch->next)
        if (ch->confirms == MQ_CONFIRMS_NONE || ch->barrier || mq_unconfirmed(ch) == 0 ||
            !mq_channel_is_open(ch))
            continue;
        else if (without_confirms)
            settle_range(ch, ch->first, ch->last, MQ_CONFIRMED);
        else if (ch->confirms == MQ_CONFIRMS_BARRIER)
            put_barrier(ch);
}

static void came_back(struct mq_channel *ch, const struct codec_in *in)
{
    uint64_t mark = mark_of(&in->message), tag;

    for (tag = ch->first; tag <= ch->last; tag++) {
        struct pending *p = pending_at(ch, tag);

        if (p->mark == mark && !p->returned && !p->done) {
            p->returned = true;
            return;
        }
    }
}

/* ---- life ---- */

static void opened(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct mq_channel *ch = arg;

    (void)reply;
    if (e || ch->state != CHANNEL_OPENING) /* the loss of the channel is told elsewhere */
        return;
    ch->state = CHANNEL_OPEN;
    ch->epoch++;
    if (ch->confirms == MQ_CONFIRMS_EACH && !without_confirms) {
        codec_put_confirm_select(ch->mq->codec, &ch->mq->out, ch->number);
        expect(ch, NULL, NULL);
    }
    if (ch->events.opened)
        ch->events.opened(ch->arg, ch);
}

static void open_channel(void *arg)
{
    struct mq_channel *ch = arg;

    if (ch->mq->state != MQ_UP || ch->state != CHANNEL_SHUT)
        return;
    ch->state = CHANNEL_OPENING;
    codec_put_channel_open(ch->mq->codec, &ch->mq->out, ch->number);
    expect(ch, opened, ch);
}

/* Everything that was under way on the channel ends. */
static void shut(struct mq_channel *ch, const struct err *why)
{
    struct mq_consumer *c, *next;
    bool was_open = ch->state == CHANNEL_OPEN;

    if (ch->state == CHANNEL_SHUT)
        return;
    ch->state = CHANNEL_SHUT;
    ch->stopped = false;
    timer_stop(ch->reopen);
    ch->floor = ch->delivered = 0;
    while (ch->requests)
        answer(ch, NULL, why);
    for (c = ch->consumers; c; c = next) {
        next = c->next;
        free(c);
    }
    ch->consumers = NULL;
    while (ch->first <= ch->last) /* a callback may forget those that are still to come */
        settle(ch, ch->first++, MQ_LOST);
    free(ch->pending);
    ch->pending = NULL;
    ch->pending_room = 0;
    ch->base += (int64_t)ch->last;
    ch->first = 1;
    ch->last = 0;
    if (was_open && ch->events.closed)
        ch->events.closed(ch->arg, ch, why);
}

static uint16_t free_number(const struct mq *m)
{
    const struct mq_channel *ch = m->channels;
    uint16_t number = 1;

    while (ch) {
        if (ch->number != number) {
            ch = ch->next;
            continue;
        }
        number++;
        ch = m->channels;
    }
    return number;
}

struct mq_channel *mq_channel_new(struct mq *m, enum mq_confirms confirms,
                                  const struct mq_channel_events *ev, void *arg)
{
    struct mq_channel *ch = mem_alloc(sizeof(*ch));

    ch->mq = m;
    ch->number = free_number(m);
    ch->confirms = confirms;
    ch->events = *ev;
    ch->arg = arg;
    ch->first = 1;
    ch->requests_end = &ch->requests;
    ch->reopen = timer_new(m->loop, open_channel, ch);
    ch->ack_timer = timer_new(m->loop, send_acks, ch);
    ch->next = m->channels;
    m->channels = ch;
    open_channel(ch);
    return ch;
}

void mq_channels_up(struct mq *m)
{
    struct mq_channel *ch;

    for (ch = m->channels; ch; ch = ch->next)
        open_channel(ch);
}

void mq_channels_send_acks(struct mq *m)
{
    struct mq_channel *ch;

    for (ch = m->channels; ch; ch = ch->next)
        if (ch->flush_set)
            send_acks(ch);
}

/* What a channel has, but its place in the list. */
static void free_channel(struct mq_channel *ch)
{
    while (ch->requests) {
        struct request *r = ch->requests;

        ch->requests = r->next;
        free(r);
    }
    while (ch->consumers)
        free_consumer(ch->consumers);
    timer_free(ch->reopen);
    timer_free(ch->ack_timer);
    timer_free(ch->gone);
    free(ch->pending);
    free(ch->settled);
    free(ch);
}

/* The end of one that we close. */
static void finish_closing(struct mq_channel *ch, const struct err *why)
{
    mq_reply_cb *cb = ch->closed;
    void *arg = ch->closed_arg;
    struct mq_channel **p;

    for (p = &ch->mq->channels; *p != ch; p = &(*p)->next)
        ;
    *p = ch->next;
    free_channel(ch);
    if (cb)
        cb(arg, NULL, why);
}

static void gone(void *arg)
{
    finish_closing(arg, NULL);
}

void mq_channel_close(struct mq_channel *ch, mq_reply_cb *done, void *arg)
{
    struct mq *m = ch->mq;
    bool broker_has_it = ch->state != CHANNEL_SHUT;

    send_acks(ch);
    timer_stop(ch->reopen);
    ch->state = CHANNEL_CLOSING;
    ch->events = (struct mq_channel_events){0};
    ch->closed = done;
    ch->closed_arg = arg;
    if (!broker_has_it) {
        ch->gone = timer_new(m->loop, gone, ch);
        timer_set(ch->gone, 0);
    } else if (m->state == MQ_UP) { /* else the end of the connection, under way, is its end too */
        codec_put_channel_close(m->codec, &m->out, ch->number, "goodbye");
        expect(ch, NULL, NULL);
    }
}

/* Deliveries and the like were sent before the broker heard of it. */
static int closing_input(struct mq_channel *ch, const struct codec_in *in, struct err *e)
{
    const struct mq_reply reply = {.messages = in->messages, .consumers = in->consumers};
    struct err closed;

    switch (in->kind) {
    case CODEC_CHANNEL_CLOSE_OK:
        err_set(&closed, ERR_RETRY, 503, "the channel was closed");
        shut(ch, &closed);
        finish_closing(ch, NULL);
        return 0;
    case CODEC_CHANNEL_CLOSE: /* it closes the channel too, and answers our close all the same */
        codec_put_channel_close_ok(ch->mq->codec, &ch->mq->out, ch->number);
        mq_flush_later(ch->mq);
        return 0;
    case CODEC_REPLY:
        if (ch->requests)
            answer(ch, &reply, NULL);
        return 0;
    case CODEC_ACK:
    case CODEC_NACK:
        return confirmed(ch, in, e);
    case CODEC_RETURN:
        came_back(ch, in);
        return 0;
    default:
        return 0;
    }
}

void mq_channels_down(struct mq *m, const struct err *why)
{
    struct mq_channel *ch, *next;
    bool closing;

    for (ch = m->channels; ch; ch = next) {
        next = ch->next;
        closing = ch->state == CHANNEL_CLOSING;
        shut(ch, why);
        if (closing)
            finish_closing(ch, why);
    }
}

void mq_channels_free(struct mq *m)
{
    struct mq_channel *ch;

    while ((ch = m->channels)) {
        m->channels = ch->next;
        free_channel(ch);
    }
}

static void closed_by_broker(struct mq_channel *ch, const struct codec_in *in)
{
    struct mq *m = ch->mq;
    struct err e;

    codec_put_channel_close_ok(m->codec, &m->out, ch->number);
    mq_flush_later(m);
    /* A refused topology or right will not mend by itself; the caller decides by the status. */
    err_set(&e, in->code == 404 || in->code == 405 ? ERR_RETRY : ERR_FATAL, in->code, "%s",
            in->text);
    shut(ch, &e);
    timer_set(ch->reopen, REOPEN_MS);
}

int mq_channel_input(struct mq *m, const struct codec_in *in, struct err *e)
{
    struct mq_reply reply = {.messages = in->messages, .consumers = in->consumers};
    struct mq_channel *ch;

    for (ch = m->channels; ch && ch->number != in->channel; ch = ch->next)
        ;
    if (!ch || ch->state == CHANNEL_SHUT)
        return err_set(e, ERR_RETRY, 503, "the broker used channel %d, which is not open",
                       in->channel);
    if (ch->state == CHANNEL_CLOSING)
        return closing_input(ch, in, e);
    switch (in->kind) {
    case CODEC_REPLY:
        if (!ch->requests)
            return err_set(e, ERR_RETRY, 503, "the broker answered what was never asked");
        answer(ch, &reply, NULL);
        return 0;
    case CODEC_CHANNEL_CLOSE:
        closed_by_broker(ch, in);
        return 0;
    case CODEC_CHANNEL_FLOW:
        ch->stopped = !in->flag;
        codec_put_flow_ok(m->codec, &m->out, ch->number, in->flag);
        mq_flush_later(m);
        return 0;
    case CODEC_CANCEL:
        cancelled_by_broker(ch, in->text);
        return 0;
    case CODEC_ACK:
    case CODEC_NACK:
        return confirmed(ch, in, e);
    case CODEC_DELIVER:
        if (in->tag != ch->delivered + 1)
            return err_set(e, ERR_RETRY, 503, "the broker delivered a tag out of order");
        delivered(ch, in);
        return 0;
    case CODEC_RETURN:
        came_back(ch, in);
        return 0;
    default:
        return err_set(e, ERR_RETRY, 503, "the broker sent a method out of place");
    }
}
