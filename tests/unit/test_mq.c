/* The connection against a broker that misbehaves. Tests wait for conditions, never for a time. */
#include "common/io/mq.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/base/log.h"
#include "tests/fakes/fake_broker.h"
#include "tests/fakes/wire.h"
#include "tests/unit/unit.h"

enum { GUARD_MS = 20000, PREFETCH = 20 };

/* A channel of the client, and what it was told. */
struct chan {
    struct mq_channel *ch;
    bool consume; /* on opening, */
    uint16_t prefetch;
    struct mq_consumer *consumer;
    int opened, closed, cancelled, deliveries;
    struct err why;
    struct mq_delivery last; /* its message is not kept, but */
    char body[100];
    void (*on_closed)(struct chan *c);
};

/* A publish, and what became of it. */
struct sent {
    int64_t id;
    int calls;
    enum mq_outcome outcome;
    void (*then)(struct sent *s);
};

struct answers {
    int done, failed;
    uint32_t messages, consumers;
    char order[100];
};

static struct {
    struct loop *loop;
    struct timer *guard;
    bool late;
    struct fake_broker *fake;
    struct mq_config config;
    struct mq *mq;
    struct chan a, b;
    int up, down, blocked, unblocked, closed;
    struct err why;
} w;

/* ---- the world of a test ---- */

static void guard(void *arg)
{
    (void)arg;
    w.late = true;
}

static void end(void)
{
    mq_free(w.mq);
    if (w.fake)
        fake_broker_free(w.fake);
    timer_free(w.guard);
    loop_free(w.loop);
    memset(&w, 0, sizeof(w));
}

static void begin(void)
{
    end(); /* of a test that failed */
    w.loop = loop_new();
    w.guard = timer_new(w.loop, guard, NULL);
    w.fake = fake_broker_new(w.loop);
    w.config = (struct mq_config){.name = "chatfleet unit@here:1 publish",
                                  .ca_file = "",
                                  .heartbeat = 30,
                                  .connect_timeout_ms = 10000,
                                  .backoff_max_ms = 20,
                                  .output_max = 1000000,
                                  .message_max = 10000};
}

/* Run the loop until it is so; a test that waits in vain ends there. */
#define WAIT(condition)                                                                            \
    do {                                                                                           \
        w.late = false;                                                                            \
        timer_set(w.guard, GUARD_MS);                                                              \
        while (!(condition) && !w.late)                                                            \
            event_base_loop(loop_base(w.loop), EVLOOP_ONCE);                                       \
        timer_stop(w.guard);                                                                       \
        CU_ASSERT_FATAL(condition);                                                                \
    } while (0)

static void up(void *arg)
{
    (void)arg;
    w.up++;
}

static void down(void *arg, const struct err *why)
{
    (void)arg;
    w.down++;
    w.why = *why;
}

static void blocked(void *arg, bool is_blocked, const char *why)
{
    (void)arg;
    w.blocked += is_blocked;
    w.unblocked += !is_blocked;
    if (is_blocked)
        CU_ASSERT_STRING_EQUAL(why, "low on memory");
}

static void connect_to_fake(void)
{
    static const struct mq_events events = {.up = up, .down = down, .blocked = blocked};
    char url[100];
    struct err e;

    snprintf(url, sizeof(url), "amqp://unit:sesame@127.0.0.1:%d/my%%2fhost", w.fake->port);
    w.config.url = url;
    w.mq = mq_open(w.loop, &w.config, &events, NULL, &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w.mq);
}

static void delivery(void *arg, const struct mq_delivery *d)
{
    struct chan *c = arg;

    c->deliveries++;
    c->last = *d;
    c->last.message = NULL;
    snprintf(c->body, sizeof(c->body), "%.*s", (int)d->message->body_len, d->message->body);
    CU_ASSERT_STRING_EQUAL(d->message->routing_key, "message.send");
}

static void cancelled(void *arg)
{
    struct chan *c = arg;

    c->cancelled++;
    c->consumer = NULL;
}

static void opened(void *arg, struct mq_channel *ch)
{
    static const struct mq_consumer_events events = {.delivery = delivery, .cancelled = cancelled};
    struct chan *c = arg;

    c->opened++;
    CU_ASSERT_TRUE(mq_channel_is_open(ch));
    if (c->consume)
        c->consumer = mq_consume(ch, "persistence", c->prefetch, &events, c, NULL);
}

static void closed(void *arg, struct mq_channel *ch, const struct err *why)
{
    struct chan *c = arg;

    c->closed++;
    c->why = *why;
    c->consumer = NULL;
    CU_ASSERT_FALSE(mq_channel_is_open(ch));
    if (c->on_closed)
        c->on_closed(c);
}

static void channel(struct chan *c, enum mq_confirms confirms)
{
    static const struct mq_channel_events events = {.opened = opened, .closed = closed};

    c->ch = mq_channel_new(w.mq, confirms, &events, c);
}

/* Connected, with one channel that is open. */
static void begin_open(enum mq_confirms confirms)
{
    begin();
    connect_to_fake();
    channel(&w.a, confirms);
    WAIT(mq_channel_is_open(w.a.ch));
}

static void begin_consuming(uint16_t prefetch)
{
    begin();
    connect_to_fake();
    w.a.consume = true;
    w.a.prefetch = prefetch;
    channel(&w.a, MQ_CONFIRMS_NONE);
    WAIT(mq_channel_is_open(w.a.ch) && fake_count(w.fake, "consume 1"));
}

static void answered(void *arg, const struct mq_reply *r, const struct err *e)
{
    struct answers *a = arg;

    a->done += e == NULL;
    a->failed += e != NULL;
    if (r) {
        a->messages = r->messages;
        a->consumers = r->consumers;
    }
}

/* All that was said before, by either side, has been heard when this returns. Twice, because acks
 * leave at the end of a turn, behind what else was said in it. */
static void fence(struct chan *c)
{
    struct answers a = {0};

    mq_queue_declare(c->ch, "fence", true, false, NULL, answered, &a);
    WAIT(a.done + a.failed == 1);
    mq_queue_declare(c->ch, "fence", true, false, NULL, answered, &a);
    WAIT(a.done + a.failed == 2);
    CU_ASSERT_EQUAL(a.failed, 0);
}

static void outcome(void *arg, enum mq_outcome what)
{
    struct sent *s = arg;

    s->calls++;
    s->outcome = what;
    if (s->then)
        s->then(s);
}

static int publish(struct chan *c, const char *id, bool mandatory, struct sent *s, struct err *e)
{
    struct mq_message m = {.exchange = "chat.rpc",
                           .routing_key = "message.send",
                           .message_id = id,
                           .body = "{}",
                           .body_len = 2};

    s->id = mq_publish(c->ch, &m, mandatory, outcome, s, e);
    return s->id < 0 ? -1 : 0;
}

static void publish_some(struct sent *sent, unsigned n)
{
    struct err e;
    unsigned i;

    for (i = 0; i < n; i++)
        CU_ASSERT_EQUAL_FATAL(publish(&w.a, "m", false, &sent[i], &e), 0);
    fence(&w.a);
    CU_ASSERT_EQUAL(w.fake->published, n);
}

static int calls(const struct sent *sent, int n)
{
    int total = 0;

    while (n-- > 0)
        total += sent[n].calls;
    return total;
}

/* It works: a message leaves and is confirmed. */
static void check_it_works(void)
{
    struct sent s = {0};
    struct err e;

    CU_ASSERT_EQUAL_FATAL(publish(&w.a, "works", false, &s, &e), 0);
    fence(&w.a);
    fake_ack(w.fake, 1, 1, false);
    WAIT(s.calls == 1);
    CU_ASSERT_EQUAL(s.outcome, MQ_CONFIRMED);
    CU_ASSERT_EQUAL(w.fake->bad, 0);
}

/* ---- connecting ---- */

static bool told(const char *bytes, size_t n)
{
    return memmem(w.fake->start_ok.data, w.fake->start_ok.len, bytes, n) != NULL;
}

#define TOLD(literal) told((literal), sizeof(literal) - 1)

static void connects(void)
{
    begin();
    connect_to_fake();
    CU_ASSERT_FALSE(mq_is_up(w.mq));
    CU_ASSERT_STRING_EQUAL(mq_broker_version(w.mq), "");
    channel(&w.a, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.a.ch));
    CU_ASSERT_TRUE(mq_is_up(w.mq));
    CU_ASSERT_TRUE(mq_can_publish(w.mq));
    CU_ASSERT_EQUAL(w.up, 1);
    CU_ASSERT_EQUAL(w.down, 0);
    CU_ASSERT_EQUAL(w.a.opened, 1);
    CU_ASSERT_EQUAL(mq_channel_epoch(w.a.ch), 1);
    CU_ASSERT_EQUAL(mq_connections(w.mq), 1);
    CU_ASSERT_STRING_EQUAL(mq_broker_version(w.mq), "3.10.8");
    CU_ASSERT_STRING_EQUAL(w.fake->vhost, "my/host");
    CU_ASSERT_TRUE(TOLD("\x05PLAIN\0\0\0\x0c\0unit\0sesame"));
    CU_ASSERT_TRUE(TOLD("\x0f"
                        "connection_nameS\0\0\0\x1d"
                        "chatfleet unit@here:1 publish"));
    CU_ASSERT_TRUE(TOLD("\x0c"
                        "capabilitiesF"));
    CU_ASSERT_TRUE(TOLD("\x16"
                        "consumer_cancel_notifyt\1"));
    CU_ASSERT_TRUE(TOLD("\x12"
                        "connection.blockedt\1"));
    CU_ASSERT_TRUE(TOLD("\x12publisher_confirmst\1"));
    CU_ASSERT_TRUE(TOLD("\x0a"
                        "basic.nackt\1"));
    CU_ASSERT_TRUE(TOLD("\x1c"
                        "authentication_failure_closet\1"));
    check_it_works();
    CU_ASSERT_EQUAL(fake_count(w.fake, "confirm.select 1"), 1);
    end();
}

static void bytes_that_dribble_in(void)
{
    begin();
    w.fake->dribble = true;
    connect_to_fake();
    w.a.consume = true;
    w.a.prefetch = PREFETCH;
    channel(&w.a, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.a.ch) && fake_count(w.fake, "consume 1"));
    fake_deliver(w.fake, 1, w.fake->consumer, 1, "slowly");
    WAIT(w.a.deliveries == 1);
    CU_ASSERT_STRING_EQUAL(w.a.body, "slowly");
    check_it_works();
    CU_ASSERT_EQUAL(mq_connections(w.mq), 1);
    end();
}

static void recovers_from(enum fake_step step, enum fake_act act)
{
    begin();
    w.fake->step = step;
    w.fake->act = act;
    w.fake->times = act == FAKE_SILENCE ? 1 : 2;
    if (act == FAKE_SILENCE) /* in the handshake a time-out ends it, then the heartbeat */
        w.config.connect_timeout_ms = 200;
    if (act == FAKE_SILENCE && step == FAKE_CHANNEL_OPEN)
        w.config.heartbeat = 1;
    connect_to_fake();
    channel(&w.a, MQ_CONFIRMS_EACH);
    WAIT(w.fake->times == 0 && mq_channel_is_open(w.a.ch));
    CU_ASSERT_EQUAL(w.a.opened, 1);
    CU_ASSERT_EQUAL(w.fake->struck, act == FAKE_SILENCE ? 1 : 2);
    CU_ASSERT(w.fake->connections > w.fake->struck);
    if (step < FAKE_OPEN) /* it never was up before; OPEN and later may have been */
        CU_ASSERT_EQUAL(mq_connections(w.mq), 1);
    check_it_works();
    end();
}

static void misbehaviour(enum fake_act act)
{
    int step;

    for (step = FAKE_ACCEPT; step <= FAKE_CHANNEL_OPEN; step++)
        recovers_from((enum fake_step)step, act);
}

static void broker_closes(void)
{
    misbehaviour(FAKE_CLOSE);
}

static void broker_is_silent(void)
{
    misbehaviour(FAKE_SILENCE);
}

static void broker_speaks_http(void)
{
    misbehaviour(FAKE_GARBAGE);
}

static void broker_is_of_another_version(void)
{
    misbehaviour(FAKE_OTHER_VERSION);
}

static void broker_sends_broken_frames(void)
{
    misbehaviour(FAKE_UNKNOWN_METHOD);
    misbehaviour(FAKE_BAD_END);
    misbehaviour(FAKE_HALF_A_FRAME);
}

static void broker_refuses(void)
{
    misbehaviour(FAKE_REFUSE);
}

static void broker_sends_methods_out_of_place(void)
{
    misbehaviour(FAKE_OUT_OF_PLACE);
}

static void broker_without_plain(void)
{
    begin();
    w.fake->no_plain = true;
    connect_to_fake();
    channel(&w.a, MQ_CONFIRMS_EACH);
    WAIT(w.fake->connections == 3);
    CU_ASSERT_EQUAL(mq_connections(w.mq), 0);
    CU_ASSERT_EQUAL(w.fake->start_ok.len, 0); /* the password was not shown to it */
    w.fake->no_plain = false;
    WAIT(mq_channel_is_open(w.a.ch));
    check_it_works();
    end();
}

static void broker_that_is_not_there(void)
{
    struct sent s = {0};
    struct err e;

    begin();
    fake_unlisten(w.fake);
    connect_to_fake();
    channel(&w.a, MQ_CONFIRMS_EACH);
    CU_ASSERT_EQUAL(publish(&w.a, "m", false, &s, &e), -1);
    CU_ASSERT_EQUAL_FATAL(fake_listen(w.fake), 0);
    WAIT(mq_channel_is_open(w.a.ch));
    fake_unlisten(w.fake);
    fake_drop(w.fake);
    WAIT(w.down == 1);
    CU_ASSERT_FALSE(mq_is_up(w.mq));
    CU_ASSERT_FALSE(mq_can_publish(w.mq));
    CU_ASSERT_EQUAL(w.a.closed, 1);
    CU_ASSERT_EQUAL_FATAL(fake_listen(w.fake), 0);
    WAIT(mq_channel_is_open(w.a.ch));
    CU_ASSERT_EQUAL(w.up, 2);
    CU_ASSERT_EQUAL(mq_connections(w.mq), 2);
    CU_ASSERT_EQUAL(mq_channel_epoch(w.a.ch), 2);
    check_it_works();
    end();
}

static void close_politely(void)
{
    fake_unlisten(w.fake); /* so that the next connection does not clear the journal */
    fake_say(w.fake, 0, WIRE(10, 50), "hshh", 320, "CONNECTION_FORCED - \nbye", 0, 0);
}

/* While it runs: each of these ends the connection, and another is made. */
static void misbehaviour_later(void)
{
    int i;

    for (i = 0; i < 8; i++) {
        begin_open(MQ_CONFIRMS_EACH);
        if (i == 0)
            fake_drop(w.fake);
        else if (i == 1)
            fake_raw(w.fake, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
        else if (i == 2)
            fake_say(w.fake, 0, WIRE(99, 99), "");
        else if (i == 3)
            close_politely();
        else if (i == 4)
            fake_say(w.fake, 0, WIRE(10, 41), "s", ""); /* a second handshake */
        else if (i == 5)
            fake_say(w.fake, 7, WIRE(60, 80), "qo", (uint64_t)1, 0); /* no such channel */
        else if (i == 6)
            fake_ack(w.fake, 1, 1, false); /* nothing was published */
        else
            fake_say(w.fake, 1, WIRE(50, 21), ""); /* nothing was asked */
        WAIT(w.down == 1);
        CU_ASSERT_EQUAL(w.why.kind, ERR_RETRY);
        CU_ASSERT_EQUAL(w.why.status, 503);
        CU_ASSERT_EQUAL(w.a.closed, 1);
        if (i == 3) {
            CU_ASSERT_PTR_NOT_NULL(strstr(w.why.text, "320 CONNECTION_FORCED"));
            CU_ASSERT_PTR_NULL(strchr(w.why.text, '\n'));
            WAIT(!fake_connected(w.fake));
            CU_ASSERT_EQUAL(fake_count(w.fake, "connection.close-ok"), 1);
            CU_ASSERT_EQUAL_FATAL(fake_listen(w.fake), 0);
        }
        WAIT(mq_channel_is_open(w.a.ch));
        CU_ASSERT_EQUAL(w.a.opened, 2);
        check_it_works();
        end();
    }
}

static void heartbeats_are_sent(void)
{
    begin();
    w.config.heartbeat = 1;
    w.fake->heartbeat = 60; /* the lower one counts */
    connect_to_fake();
    channel(&w.a, MQ_CONFIRMS_EACH);
    WAIT(w.fake->heartbeats >= 5); /* two and a half periods, in which the broker beats too */
    CU_ASSERT_EQUAL(w.fake->connections, 1);
    CU_ASSERT_EQUAL(w.down, 0);
    check_it_works();
    end();
}

static void missing_heartbeats_are_seen(void)
{
    begin();
    w.config.heartbeat = 60;
    w.fake->heartbeat = 1;
    w.fake->beats = false;
    connect_to_fake();
    channel(&w.a, MQ_CONFIRMS_EACH);
    WAIT(w.down == 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.why.text, "heartbeat"));
    w.fake->beats = true;
    WAIT(mq_channel_is_open(w.a.ch));
    check_it_works();
    end();
}

/* ---- publishing ---- */

static void confirms_of_every_kind(void)
{
    struct sent s[10] = {{0}};
    int i;

    begin_open(MQ_CONFIRMS_EACH);
    publish_some(s, 10);
    CU_ASSERT_EQUAL(mq_unconfirmed(w.a.ch), 10);
    CU_ASSERT_EQUAL(calls(s, 10), 0);
    for (i = 1; i < 10; i++)
        CU_ASSERT(s[i].id > s[i - 1].id && s[0].id > 0);
    fake_ack(w.fake, 1, 3, false); /* out of order */
    fake_nack(w.fake, 1, 5, false);
    fence(&w.a);
    CU_ASSERT_EQUAL(calls(s, 10), 2);
    CU_ASSERT_EQUAL(s[2].outcome, MQ_CONFIRMED);
    CU_ASSERT_EQUAL(s[4].outcome, MQ_REFUSED);
    fake_ack(w.fake, 1, 4, true); /* 1, 2, 4, and not 3 again */
    fake_ack(w.fake, 1, 3, false);
    fence(&w.a);
    CU_ASSERT_EQUAL(calls(s, 10), 5);
    CU_ASSERT_EQUAL(calls(s, 5), 5);
    CU_ASSERT_EQUAL(mq_unconfirmed(w.a.ch), 5);
    fake_nack(w.fake, 1, 7, true);
    fence(&w.a);
    CU_ASSERT_EQUAL(s[5].outcome, MQ_REFUSED);
    CU_ASSERT_EQUAL(s[6].outcome, MQ_REFUSED);
    CU_ASSERT_EQUAL(calls(s, 10), 7);
    fake_ack(w.fake, 1, 0, true); /* all there are */
    fence(&w.a);
    for (i = 0; i < 10; i++)
        CU_ASSERT_EQUAL(s[i].calls, 1);
    CU_ASSERT_EQUAL(s[9].outcome, MQ_CONFIRMED);
    CU_ASSERT_EQUAL(mq_unconfirmed(w.a.ch), 0);
    CU_ASSERT_EQUAL(w.down, 0);
    end();
}

/* More than the ring holds at first, twice round. */
static void many_confirms(void)
{
    enum { N = 500 };
    static struct sent s[N];
    int i, round;

    begin_open(MQ_CONFIRMS_EACH);
    for (round = 0; round < 2; round++) {
        memset(s, 0, sizeof(s));
        for (i = 0; i < N; i++) {
            struct err e;

            CU_ASSERT_EQUAL_FATAL(publish(&w.a, "m", false, &s[i], &e), 0);
        }
        fence(&w.a);
        for (i = N; i > 0; i -= 3) /* backwards, some left out */
            fake_ack(w.fake, 1, (uint64_t)(round * N + i), false);
        fake_ack(w.fake, 1, (uint64_t)(round * N + N), true);
        WAIT(mq_unconfirmed(w.a.ch) == 0);
        for (i = 0; i < N; i++)
            CU_ASSERT_EQUAL(s[i].calls, 1);
    }
    end();
}

static void publish_again(struct sent *s)
{
    static struct sent next[200];
    struct err e;
    int i;

    s->then = NULL;
    for (i = 0; i < 200; i++) /* so that the ring moves while it is walked */
        CU_ASSERT_EQUAL(publish(&w.a, "again", false, &next[i], &e), 0);
}

static void callbacks_may_publish(void)
{
    struct sent s[3] = {{.then = publish_again}};

    begin_open(MQ_CONFIRMS_EACH);
    publish_some(s, 3);
    fake_ack(w.fake, 1, 3, true);
    WAIT(calls(s, 3) == 3);
    fence(&w.a);
    CU_ASSERT_EQUAL(calls(s, 3), 3);
    CU_ASSERT_EQUAL(mq_unconfirmed(w.a.ch), 200);
    CU_ASSERT_EQUAL(w.fake->published, 203);
    end();
}

static void returns_find_their_publish(void)
{
    struct sent s[4] = {{0}};
    struct err e;

    begin_open(MQ_CONFIRMS_EACH);
    publish(&w.a, "one", true, &s[0], &e);
    publish(&w.a, "two", true, &s[1], &e);
    publish(&w.a, "three", true, &s[2], &e);
    publish(&w.a, "two", false, &s[3], &e); /* the same, but it cannot come back */
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "publish 1 chat.rpc message.send 1"), 3);
    CU_ASSERT_EQUAL(fake_count(w.fake, "publish 1 chat.rpc message.send 0"), 1);
    fake_return(w.fake, 1, "chat.rpc", "message.send", "nobody's");
    fake_return(w.fake, 1, "chat.rpc", "message.send", "two");
    fence(&w.a);
    CU_ASSERT_EQUAL(calls(s, 4), 0); /* the confirm is still to come */
    fake_ack(w.fake, 1, 4, true);
    WAIT(calls(s, 4) == 4);
    CU_ASSERT_EQUAL(s[0].outcome, MQ_CONFIRMED);
    CU_ASSERT_EQUAL(s[1].outcome, MQ_RETURNED);
    CU_ASSERT_EQUAL(s[2].outcome, MQ_CONFIRMED);
    CU_ASSERT_EQUAL(s[3].outcome, MQ_CONFIRMED);
    publish(&w.a, "one", true, &s[0], &e);
    publish(&w.a, "two", true, &s[1], &e);
    fence(&w.a);
    fake_return(w.fake, 1, "chat.rpc", "message.send", "one");
    fence(&w.a);
    fake_drop(w.fake);
    WAIT(calls(s, 2) == 4);
    CU_ASSERT_EQUAL(s[0].outcome, MQ_RETURNED); /* that much was known */
    CU_ASSERT_EQUAL(s[1].outcome, MQ_LOST);
    end();
}

static void loss_is_told_once(void)
{
    enum { N = 100 };
    struct sent s[N] = {{0}};
    int64_t last;
    int i;

    begin_open(MQ_CONFIRMS_EACH);
    publish_some(s, N);
    fake_ack(w.fake, 1, 10, true);
    fake_ack(w.fake, 1, 50, false);
    fence(&w.a);
    fake_drop(w.fake);
    WAIT(w.down == 1);
    for (i = 0; i < N; i++) {
        CU_ASSERT_EQUAL(s[i].calls, 1);
        CU_ASSERT_EQUAL(s[i].outcome, i < 10 || i == 49 ? MQ_CONFIRMED : MQ_LOST);
    }
    CU_ASSERT_EQUAL(mq_unconfirmed(w.a.ch), 0);
    WAIT(mq_channel_is_open(w.a.ch));
    last = s[N - 1].id;
    memset(s, 0, sizeof(s));
    publish_some(s, 2); /* tags start at 1 again, numbers go on */
    CU_ASSERT(s[0].id > last);
    fake_ack(w.fake, 1, 2, true);
    WAIT(calls(s, 2) == 2);
    CU_ASSERT_EQUAL(s[1].outcome, MQ_CONFIRMED);
    end();
}

static struct sent pair[2];

static void forget_the_other(struct sent *s)
{
    mq_forget(w.a.ch, pair[s == &pair[0]].id);
}

static void forgotten_ones_are_not_told(void)
{
    struct sent s[6] = {{0}};
    int i;

    begin_open(MQ_CONFIRMS_EACH);
    publish_some(s, 4);
    mq_forget(w.a.ch, s[0].id);
    mq_forget(w.a.ch, s[3].id);
    mq_forget(w.a.ch, 0); /* and what there is not */
    mq_forget(w.a.ch, 99);
    fake_ack(w.fake, 1, 2, true);
    fence(&w.a);
    mq_forget(w.a.ch, s[1].id); /* told already */
    CU_ASSERT_EQUAL(s[0].calls, 0);
    CU_ASSERT_EQUAL(s[1].calls, 1);
    fake_drop(w.fake);
    WAIT(w.down == 1);
    CU_ASSERT_EQUAL(s[2].calls, 1);
    CU_ASSERT_EQUAL(s[3].calls, 0);
    WAIT(mq_channel_is_open(w.a.ch));
    publish_some(s + 4, 2);
    for (i = 0; i < 4; i++)
        mq_forget(w.a.ch, s[i].id); /* of the connection before */
    fake_ack(w.fake, 1, 2, true);
    WAIT(calls(s + 4, 2) == 2);

    /* One that is told takes back the other of its job. */
    memset(pair, 0, sizeof(pair));
    pair[0].then = pair[1].then = forget_the_other;
    for (i = 0; i < 2; i++) {
        struct err e;

        CU_ASSERT_EQUAL(publish(&w.a, "pair", false, &pair[i], &e), 0);
    }
    fence(&w.a);
    fake_drop(w.fake);
    WAIT(w.down == 2);
    CU_ASSERT_EQUAL(pair[0].calls + pair[1].calls, 1);
    end();
}

static void refused_for_now(struct sent *s)
{
    struct err e = {0};

    CU_ASSERT_EQUAL(publish(&w.a, "m", true, s, &e), -1);
    CU_ASSERT_EQUAL(e.kind, ERR_RETRY);
    CU_ASSERT_EQUAL(e.status, 503);
    CU_ASSERT(strlen(e.text) > 10);
    CU_ASSERT_EQUAL(s->calls, 0);
}

static void not_while_the_broker_is_blocked(void)
{
    struct sent s = {0};
    struct err e;

    begin_open(MQ_CONFIRMS_EACH);
    fake_say(w.fake, 0, WIRE(10, 60), "s", "low on memory");
    WAIT(w.blocked == 1);
    CU_ASSERT_TRUE(mq_is_up(w.mq));
    CU_ASSERT_FALSE(mq_can_publish(w.mq));
    refused_for_now(&s);
    fake_say(w.fake, 0, WIRE(10, 61), "");
    WAIT(w.unblocked == 1);
    CU_ASSERT_TRUE(mq_can_publish(w.mq));
    CU_ASSERT_EQUAL(publish(&w.a, "m", true, &s, &e), 0);
    fence(&w.a);
    CU_ASSERT_EQUAL(w.fake->published, 1);
    fake_say(w.fake, 0, WIRE(10, 60), "s", "low on memory");
    WAIT(w.blocked == 2);
    fake_drop(w.fake); /* the next connection is not blocked */
    WAIT(w.down == 1 && mq_channel_is_open(w.a.ch));
    CU_ASSERT_TRUE(mq_can_publish(w.mq));
    check_it_works();
    end();
}

static void not_while_the_channel_is_stopped(void)
{
    struct sent s = {0};

    begin_open(MQ_CONFIRMS_EACH);
    fake_say(w.fake, 1, WIRE(20, 20), "o", 0);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "flow-ok 1"), 1);
    refused_for_now(&s);
    fake_say(w.fake, 1, WIRE(20, 20), "o", 1);
    fence(&w.a);
    check_it_works();
    fake_say(w.fake, 1, WIRE(20, 20), "o", 0);
    fence(&w.a);
    refused_for_now(&s);
    fake_drop(w.fake); /* the next one is not stopped */
    WAIT(w.down == 1 && mq_channel_is_open(w.a.ch));
    check_it_works();
    end();
}

static void not_when_the_output_is_full(void)
{
    struct sent s[100] = {{0}}, refused = {0};
    struct err e;
    unsigned n = 0;

    begin();
    w.config.output_max = 2000;
    connect_to_fake();
    channel(&w.a, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.a.ch));
    fence(&w.a);
    CU_ASSERT_EQUAL(mq_output(w.mq), 0);
    while (n < 100 && mq_can_publish(w.mq)) /* the loop does not turn */
        CU_ASSERT_EQUAL(publish(&w.a, "m", false, &s[n++], &e), 0);
    CU_ASSERT(n > 5 && n < 100);
    CU_ASSERT(mq_output(w.mq) > 2000);
    CU_ASSERT(mq_output(w.mq) < 2200);
    refused_for_now(&refused);
    fence(&w.a);
    CU_ASSERT_EQUAL(w.fake->published, n); /* not one was cut */
    CU_ASSERT_TRUE(mq_can_publish(w.mq));
    CU_ASSERT_EQUAL(mq_output(w.mq), 0);
    end();
}

static void not_what_does_not_fit(void)
{
    struct mq_message m = {.exchange = "x", .routing_key = "k", .body = "", .body_len = 0};
    struct arena *a = arena_new();
    char *text = arena_alloc(a, 200001);
    struct err e = {0};

    begin_open(MQ_CONFIRMS_EACH);
    memset(text, 'x', 200000);
    mq_table_put_string(a, &m.headers, "x", text);
    CU_ASSERT_EQUAL(mq_publish(w.a.ch, &m, false, NULL, NULL, &e), -1);
    CU_ASSERT_EQUAL(e.kind, ERR_REJECT);
    CU_ASSERT_EQUAL(e.status, 413);
    CU_ASSERT_EQUAL(mq_unconfirmed(w.a.ch), 0);
    check_it_works(); /* and its tag was not used up */
    arena_free(a);
    end();
}

/* The answer of the fake to each qos is the barrier's end. */
static void barriers(void)
{
    struct sent s[4] = {{0}};
    struct err e;

    begin_open(MQ_CONFIRMS_BARRIER);
    publish(&w.a, "one", true, &s[0], &e);
    publish(&w.a, "two", true, &s[1], &e);
    CU_ASSERT_EQUAL(calls(s, 2), 0);
    WAIT(calls(s, 2) == 2);
    CU_ASSERT_EQUAL(s[0].outcome, MQ_CONFIRMED);
    CU_ASSERT_EQUAL(s[1].outcome, MQ_CONFIRMED);
    CU_ASSERT_EQUAL(mq_unconfirmed(w.a.ch), 0);
    CU_ASSERT_EQUAL(fake_count(w.fake, "confirm.select"), 0);
    CU_ASSERT_EQUAL(fake_count(w.fake, "qos 1 0"), 1);

    w.fake->withholds = true;
    publish(&w.a, "three", true, &s[2], &e);
    WAIT(fake_count(w.fake, "qos 1 0") == 2);
    publish(&w.a, "four", true, &s[3], &e);
    WAIT(w.fake->published == 4);
    fake_return(w.fake, 1, "chat.rpc", "message.send", "three");
    w.fake->withholds = false;
    fake_say(w.fake, 1, WIRE(60, 11), ""); /* of the second barrier, which did not cover the last */
    WAIT(s[2].calls == 1);
    CU_ASSERT_EQUAL(s[2].outcome, MQ_RETURNED);
    CU_ASSERT_EQUAL(s[3].calls, 0);
    WAIT(s[3].calls == 1);
    CU_ASSERT_EQUAL(s[3].outcome, MQ_CONFIRMED);
    CU_ASSERT_EQUAL(fake_count(w.fake, "qos 1 0"), 3);
    CU_ASSERT_EQUAL(s[2].calls, 1);
    end();
}

static void barriers_lost(void)
{
    struct sent s[2] = {{0}}, after = {0};
    struct err e;

    begin_open(MQ_CONFIRMS_BARRIER);
    w.fake->withholds = true;
    publish(&w.a, "one", true, &s[0], &e);
    WAIT(fake_count(w.fake, "qos 1 0") == 1);
    publish(&w.a, "two", true, &s[1], &e);
    w.fake->withholds = false;
    fake_drop(w.fake);
    WAIT(calls(s, 2) == 2);
    CU_ASSERT_EQUAL(s[0].outcome, MQ_LOST);
    CU_ASSERT_EQUAL(s[1].outcome, MQ_LOST);
    WAIT(mq_channel_is_open(w.a.ch));
    publish(&w.a, "one", true, &after, &e);
    WAIT(after.calls == 1);
    CU_ASSERT_EQUAL(after.outcome, MQ_CONFIRMED);
    end();
}

static void without_confirms(void)
{
    struct sent s[2] = {{0}};

    begin_open(MQ_CONFIRMS_NONE);
    publish_some(s, 2);
    CU_ASSERT(s[0].id > 0 && s[1].id > s[0].id);
    CU_ASSERT_EQUAL(mq_unconfirmed(w.a.ch), 0);
    CU_ASSERT_EQUAL(fake_count(w.fake, "confirm.select"), 0);
    mq_forget(w.a.ch, s[1].id);
    fake_drop(w.fake);
    WAIT(w.down == 1);
    CU_ASSERT_EQUAL(calls(s, 2), 0);
    end();
}

/* On the loss of a connection each channel's callbacks find the others closed too. */
static struct sent across;

static void use_both(struct chan *c)
{
    struct answers a = {0};
    struct err e;

    (void)c;
    CU_ASSERT_EQUAL(publish(&w.a, "m", false, &across, &e), -1);
    CU_ASSERT_EQUAL(publish(&w.b, "m", false, &across, &e), -1);
    mq_ack(w.a.ch, 1, mq_channel_epoch(w.a.ch));
    mq_nack(w.b.ch, 1, mq_channel_epoch(w.b.ch), true);
    mq_queue_declare(w.b.ch, "q", true, false, NULL, answered, &a);
    mq_queue_declare(w.a.ch, "q", true, false, NULL, answered, &a);
    CU_ASSERT_EQUAL(a.failed, 2);
}

static void channels_go_down_together(void)
{
    struct sent s[2] = {{0}};
    struct err e;

    begin_open(MQ_CONFIRMS_EACH);
    channel(&w.b, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.b.ch));
    CU_ASSERT_EQUAL(publish(&w.a, "a", false, &s[0], &e), 0);
    CU_ASSERT_EQUAL(publish(&w.b, "b", false, &s[1], &e), 0);
    fence(&w.b);
    w.a.on_closed = w.b.on_closed = use_both;
    fake_drop(w.fake);
    WAIT(w.down == 1);
    CU_ASSERT_EQUAL(w.a.closed, 1);
    CU_ASSERT_EQUAL(w.b.closed, 1);
    CU_ASSERT_EQUAL(calls(s, 2), 2);
    WAIT(mq_channel_is_open(w.a.ch) && mq_channel_is_open(w.b.ch));
    CU_ASSERT_EQUAL(across.calls, 0);
    check_it_works();
    end();
}

/* ---- synchronous methods ---- */

static void letter(void *arg, const struct mq_reply *r, const struct err *e)
{
    static const char names[] = "ABCDE";
    struct answers *a = arg;

    (void)r;
    a->order[a->done + a->failed] = e ? '!' : names[a->done];
    a->done += !e;
    a->failed += e != NULL;
}

static void answers_come_in_order(void)
{
    struct answers a = {0}, declared = {0};
    struct mq_table arguments = {0};
    struct arena *arena = arena_new();

    begin_open(MQ_CONFIRMS_NONE);
    mq_table_put_string(arena, &arguments, "x-queue-type", "quorum");
    mq_exchange_declare(w.a.ch, "chat.rpc", "direct", false, letter, &a);
    mq_queue_declare(w.a.ch, "inference", false, false, &arguments, answered, &declared);
    mq_queue_declare(w.a.ch, "mine", false, true, NULL, NULL, NULL);
    mq_queue_bind(w.a.ch, "inference", "chat.rpc", "message.send", letter, &a);
    mq_queue_delete(w.a.ch, "mine", letter, &a);
    CU_ASSERT_EQUAL(a.done, 0); /* never from within the call */
    WAIT(a.done == 3);
    CU_ASSERT_STRING_EQUAL(a.order, "ABC");
    CU_ASSERT_EQUAL(declared.messages, 3);
    CU_ASSERT_EQUAL(declared.consumers, 2);
    CU_ASSERT_EQUAL(fake_count(w.fake, "declare 1 inference 2\n"), 1); /* durable */
    CU_ASSERT_EQUAL(fake_count(w.fake, "declare 1 mine 4\n"), 1);      /* exclusive */
    arena_free(arena);
    end();
}

static void a_closed_channel_opens_again(void)
{
    struct answers a = {0};
    struct sent s[2] = {{0}};
    struct err e;

    begin_open(MQ_CONFIRMS_EACH);
    channel(&w.b, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.b.ch));
    CU_ASSERT_EQUAL(publish(&w.a, "a", false, &s[0], &e), 0);
    CU_ASSERT_EQUAL(publish(&w.b, "b", false, &s[1], &e), 0);
    fence(&w.b);
    w.fake->closes_404 = 1;
    mq_queue_declare(w.a.ch, "nowhere", true, false, NULL, letter, &a);
    mq_queue_bind(w.a.ch, "nowhere", "x", "k", letter, &a);
    WAIT(w.a.closed == 1);
    CU_ASSERT_STRING_EQUAL(a.order, "!!");
    CU_ASSERT_EQUAL(w.a.why.status, 404);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.a.why.text, "NOT_FOUND"));
    CU_ASSERT_EQUAL(s[0].calls, 1);
    CU_ASSERT_EQUAL(s[0].outcome, MQ_LOST);
    CU_ASSERT_EQUAL(s[1].calls, 0); /* another channel, another matter */
    CU_ASSERT_FALSE(mq_channel_is_open(w.a.ch));
    s[0].calls = 0;
    refused_for_now(&s[0]);
    mq_queue_declare(w.a.ch, "nowhere", true, false, NULL, letter, &a);
    CU_ASSERT_STRING_EQUAL(a.order, "!!!"); /* at once */
    WAIT(mq_channel_is_open(w.a.ch));
    CU_ASSERT_EQUAL(w.a.opened, 2);
    CU_ASSERT_EQUAL(w.b.closed, 0);
    CU_ASSERT_EQUAL(w.down, 0);
    CU_ASSERT_EQUAL(fake_count(w.fake, "channel.close-ok 1"), 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "channel.open 1"), 2);
    check_it_works();
    end();
}

/* ---- consuming ---- */

/* On a connection (or channel) of its own each time; the journal starts anew with a connection. */
static void check_consuming(int consumers, int deliveries)
{
    unsigned epoch = mq_channel_epoch(w.a.ch);

    CU_ASSERT_EQUAL(fake_count(w.fake, "qos 1 20 0\nconsume 1 persistence "), consumers);
    fake_deliver(w.fake, 1, w.fake->consumer, 1, "hello");
    WAIT(w.a.deliveries == deliveries);
    CU_ASSERT_STRING_EQUAL(w.a.body, "hello");
    CU_ASSERT_EQUAL(w.a.last.tag, 1);
    CU_ASSERT_EQUAL(w.a.last.epoch, epoch);
    /* What came with this tag before is another message: nothing may be said of it here. */
    mq_ack(w.a.ch, 1, epoch - 1);
    mq_nack(w.a.ch, 1, epoch - 1, true);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "ack 1"), 0);
}

static void consumers_come_back(void)
{
    unsigned epoch;

    begin_consuming(PREFETCH);
    check_consuming(1, 1);
    epoch = mq_channel_epoch(w.a.ch);
    fake_drop(w.fake);
    WAIT(w.a.closed == 1);
    mq_ack(w.a.ch, 1, epoch); /* too late, and there is nobody to tell */
    WAIT(w.a.opened == 2 && fake_count(w.fake, "consume 1") == 1);
    check_consuming(1, 2);
    fake_say(w.fake, 1, WIRE(20, 40), "hshh", 406, "PRECONDITION_FAILED - timeout", 0, 0);
    WAIT(w.a.opened == 3 && fake_count(w.fake, "consume 1") == 2);
    CU_ASSERT_EQUAL(w.down, 1);
    check_consuming(2, 3);
    fake_drop(w.fake);
    WAIT(w.a.opened == 4 && fake_count(w.fake, "consume 1") == 1);
    check_consuming(1, 4);
    CU_ASSERT_EQUAL(w.a.closed, 3);
    end();
}

static void deliver_up_to(uint64_t from, uint64_t to)
{
    int before = w.a.deliveries;

    for (; from <= to; from++, before++)
        fake_deliver(w.fake, 1, w.fake->consumer, from, "x");
    WAIT(w.a.deliveries == before);
}

static void acks_are_joined(void)
{
    unsigned epoch;

    begin_consuming(PREFETCH);
    epoch = mq_channel_epoch(w.a.ch);
    deliver_up_to(1, 7);
    mq_ack(w.a.ch, 3, epoch);
    mq_ack(w.a.ch, 1, epoch);
    mq_ack(w.a.ch, 5, epoch);
    mq_ack(w.a.ch, 2, epoch);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "ack 1 3 multiple\nack 1 5 single\n"), 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "ack 1"), 2);
    mq_nack(w.a.ch, 4, epoch, true); /* 6 is not settled: no "all up to" may reach over it */
    mq_ack(w.a.ch, 7, epoch);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nnack 1 4 2\n"), 1); /* requeue */
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1 7 single\n"), 1);
    mq_ack(w.a.ch, 6, epoch);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1 6 multiple\n"), 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1"), 4);
    deliver_up_to(8, 9);
    mq_nack(w.a.ch, 8, epoch, false);
    mq_ack(w.a.ch, 9, epoch);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nnack 1 8 0\n"), 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1 9 multiple\n"), 1);
    end();
}

/* More than the ring of open deliveries holds at first, with one that stays open for long. */
static void many_acks(void)
{
    unsigned epoch;
    uint64_t tag;

    begin_consuming(PREFETCH);
    epoch = mq_channel_epoch(w.a.ch);
    deliver_up_to(1, 200);
    for (tag = 2; tag <= 200; tag++)
        mq_ack(w.a.ch, tag, epoch);
    fence(&w.a);
    deliver_up_to(201, 1001);
    for (tag = 201; tag <= 1000; tag++)
        mq_ack(w.a.ch, tag, epoch);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "single\n"), 999);
    CU_ASSERT_EQUAL(fake_count(w.fake, "multiple\n"), 0);
    mq_ack(w.a.ch, 1, epoch);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1 1 multiple\n"), 1);
    mq_ack(w.a.ch, 1001, epoch); /* all before it are settled, and it knows */
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1 1001 multiple\n"), 1);
    end();
}

static void each_delivery_is_settled_once(void)
{
    unsigned epoch;
    uint64_t tag;

    begin_consuming(PREFETCH);
    epoch = mq_channel_epoch(w.a.ch);
    mq_ack(w.a.ch, 1, epoch); /* there is none yet */
    mq_nack(w.a.ch, 1, epoch, true);
    deliver_up_to(1, 200);
    for (tag = 1; tag <= 200; tag++)
        mq_ack(w.a.ch, tag, epoch);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "ack 1 200 multiple\n"), 1);
    deliver_up_to(201, 300);
    mq_ack(w.a.ch, 1, epoch); /* once more, and not another that shares its place */
    mq_ack(w.a.ch, 301, epoch);
    mq_nack(w.a.ch, 250, epoch, true);
    mq_nack(w.a.ch, 250, epoch, true);
    mq_ack(w.a.ch, 250, epoch);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1"), 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nnack 1"), 1);
    end();
}

static void no_acks_without_prefetch(void)
{
    begin_consuming(0);
    CU_ASSERT_EQUAL(fake_count(w.fake, "qos"), 0);
    CU_ASSERT_EQUAL(fake_count(w.fake, "consume 1 persistence c000001 2\n"), 1); /* no-ack */
    deliver_up_to(1, 1000);
    mq_ack(w.a.ch, 1000, mq_channel_epoch(w.a.ch)); /* the broker would close the channel */
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack"), 0);
    CU_ASSERT_EQUAL(w.a.last.tag, 1000);
    end();
}

static void tags_out_of_order(void)
{
    begin_consuming(PREFETCH);
    deliver_up_to(1, 1);
    fake_deliver(w.fake, 1, w.fake->consumer, 3, "two is missing");
    WAIT(w.down == 1);
    CU_ASSERT_EQUAL(w.a.deliveries, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.why.text, "out of order"));
    WAIT(mq_channel_is_open(w.a.ch));
    end();
}

static void bodies_that_are_too_large(void)
{
    char *body = mem_alloc(20001);

    begin_consuming(PREFETCH);
    memset(body, 'x', 20000);
    fake_deliver(w.fake, 1, w.fake->consumer, 1, body);
    WAIT(w.a.deliveries == 1);
    CU_ASSERT_TRUE(w.a.last.oversized);
    CU_ASSERT_STRING_EQUAL(w.a.body, "");
    fake_deliver(w.fake, 1, w.fake->consumer, 2, "small");
    WAIT(w.a.deliveries == 2);
    CU_ASSERT_FALSE(w.a.last.oversized);
    CU_ASSERT_STRING_EQUAL(w.a.body, "small");
    free(body);
    end();
}

static void cancelled_by_the_broker(void)
{
    begin_consuming(PREFETCH);
    deliver_up_to(1, 1);
    fake_say(w.fake, 1, WIRE(60, 30), "so", "another", 1);
    fake_say(w.fake, 1, WIRE(60, 30), "so", w.fake->consumer, 1);
    WAIT(w.a.cancelled == 1);
    mq_ack(w.a.ch, 1, mq_channel_epoch(w.a.ch)); /* what it brought can still be settled */
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1 1 multiple\n"), 1);
    opened(&w.a, w.a.ch); /* consume again on the same channel */
    fence(&w.a);
    deliver_up_to(2, 2);
    CU_ASSERT_EQUAL(w.a.cancelled, 1);
    end();
}

static void cancelled_by_us(void)
{
    struct answers a = {0};

    begin_consuming(PREFETCH);
    mq_cancel(w.a.consumer, answered, &a);
    fake_deliver(w.fake, 1, w.fake->consumer, 1, "on its way");
    WAIT(a.done == 1);
    CU_ASSERT_EQUAL(w.a.deliveries, 1);
    CU_ASSERT_EQUAL(w.a.cancelled, 0);
    CU_ASSERT_EQUAL(fake_count(w.fake, "cancel 1 c000001\n"), 1);
    fake_deliver(w.fake, 1, w.fake->consumer, 2, "nobody is there");
    fence(&w.a);
    CU_ASSERT_EQUAL(w.a.deliveries, 1);
    end();
}

/* Both at once: the consumer ends once, with or without a callback. */
static void cancelled_by_both(void)
{
    struct answers a = {0};

    begin_consuming(PREFETCH);
    fake_say(w.fake, 1, WIRE(60, 30), "so", w.fake->consumer, 1);
    mq_cancel(w.a.consumer, answered, &a);
    WAIT(a.done == 1);
    opened(&w.a, w.a.ch);
    fence(&w.a);
    fake_say(w.fake, 1, WIRE(60, 30), "so", w.fake->consumer, 1);
    mq_cancel(w.a.consumer, NULL, NULL);
    fence(&w.a);
    fence(&w.a);
    CU_ASSERT_EQUAL(fake_count(w.fake, "cancel 1"), 2);
    opened(&w.a, w.a.ch);
    mq_cancel(w.a.consumer, answered, &a); /* and the channel goes before the answer */
    fake_drop(w.fake);
    WAIT(w.down == 1);
    CU_ASSERT_EQUAL(a.failed, 1);
    end();
}

/* ---- closing ---- */

static void goodbye(void *arg)
{
    const struct sent *s = arg;

    w.closed++;
    if (s)
        CU_ASSERT_EQUAL(s->calls, 1); /* told before */
}

static void closes_in_order(void)
{
    struct sent s = {0}, late = {0};
    struct err e;

    begin_consuming(PREFETCH);
    channel(&w.b, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.b.ch));
    deliver_up_to(1, 2);
    CU_ASSERT_EQUAL(publish(&w.b, "last", false, &s, &e), 0);
    mq_ack(w.a.ch, 1, mq_channel_epoch(w.a.ch));
    mq_ack(w.a.ch, 2, mq_channel_epoch(w.a.ch));
    mq_close(w.mq, goodbye, &s);
    CU_ASSERT_EQUAL(w.closed, 0);
    CU_ASSERT_EQUAL(publish(&w.b, "too late", false, &late, &e), -1);
    WAIT(w.closed == 1);
    CU_ASSERT_EQUAL(w.fake->published, 1); /* what was in the output came before */
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1 2 multiple\nconnection.close 200\n"), 1);
    CU_ASSERT_EQUAL(s.outcome, MQ_LOST);
    CU_ASSERT_FALSE(mq_is_up(w.mq));
    CU_ASSERT_EQUAL(w.fake->connections, 1);
    end();
}

/* A channel alone: its acks leave before, and what is still under way to it is not told. */
static void a_channel_closes_in_order(void)
{
    struct answers asked = {0}, closed_well = {0};
    struct sent s[2] = {{0}};
    struct err e;

    begin();
    connect_to_fake();
    w.a.consume = true;
    w.a.prefetch = PREFETCH;
    channel(&w.a, MQ_CONFIRMS_EACH);
    channel(&w.b, MQ_CONFIRMS_NONE);
    WAIT(mq_channel_is_open(w.b.ch) && fake_count(w.fake, "consume 1"));
    deliver_up_to(1, 3);
    publish_some(s, 2);
    fake_ack(w.fake, 1, 1, false);
    mq_ack(w.a.ch, 1, mq_channel_epoch(w.a.ch));
    mq_queue_declare(w.a.ch, "q", true, false, NULL, answered, &asked);
    mq_channel_close(w.a.ch, answered, &closed_well);
    CU_ASSERT_FALSE(mq_channel_is_open(w.a.ch));
    CU_ASSERT_EQUAL(publish(&w.a, "too late", false, &s[1], &e), -1);
    fake_deliver(w.fake, 1, w.fake->consumer, 4, "on its way");
    fake_say(w.fake, 1, WIRE(60, 30), "so", w.fake->consumer, 1);
    CU_ASSERT_EQUAL(closed_well.done, 0); /* never from within the call */
    WAIT(closed_well.done == 1);
    CU_ASSERT_EQUAL(asked.done, 1);
    CU_ASSERT_EQUAL(asked.messages, 3);
    CU_ASSERT_EQUAL(s[0].outcome, MQ_CONFIRMED);
    CU_ASSERT_EQUAL(s[1].outcome, MQ_LOST);
    CU_ASSERT_EQUAL(calls(s, 2), 2);
    CU_ASSERT_EQUAL(w.a.deliveries, 3);
    CU_ASSERT_EQUAL(w.a.cancelled + w.a.closed + w.b.closed + w.down, 0);
    fence(&w.b); /* nobody else is concerned */
    CU_ASSERT_EQUAL(fake_count(w.fake, "ack 1 1 multiple\n"), 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "channel.close 1\n"), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(strstr(w.fake->journal.data, "ack 1 1"), "channel.close 1"));
    channel(&w.a, MQ_CONFIRMS_EACH); /* its number may be used again */
    WAIT(mq_channel_is_open(w.a.ch) && fake_count(w.fake, "consume 1") == 2);
    CU_ASSERT_EQUAL(fake_count(w.fake, "channel.open 1"), 2);
    deliver_up_to(1, 1);
    check_it_works();
    end();
}

/* The connection goes before the answer, with or without a new one. */
static void a_channel_closes_while_the_connection_goes(void)
{
    struct answers asked = {0}, closed_badly = {0};

    begin_consuming(PREFETCH);
    channel(&w.b, MQ_CONFIRMS_NONE);
    WAIT(mq_channel_is_open(w.b.ch));
    deliver_up_to(1, 1);
    w.fake->deaf = true;
    mq_queue_declare(w.a.ch, "q", true, false, NULL, answered, &asked);
    mq_channel_close(w.a.ch, answered, &closed_badly);
    fake_drop(w.fake);
    WAIT(w.down == 1);
    CU_ASSERT_EQUAL(closed_badly.failed, 1);
    CU_ASSERT_EQUAL(asked.failed, 1);
    CU_ASSERT_EQUAL(w.a.closed, 0);
    CU_ASSERT_EQUAL(w.b.closed, 1);
    w.fake->deaf = false;
    WAIT(mq_channel_is_open(w.b.ch));
    CU_ASSERT_EQUAL(w.a.opened, 1); /* it does not come back */
    CU_ASSERT_EQUAL(closed_badly.done + closed_badly.failed, 1);
    end();

    memset(&closed_badly, 0, sizeof(closed_badly));
    begin_consuming(PREFETCH);
    mq_channel_close(w.a.ch, answered, &closed_badly);
    mq_close(w.mq, goodbye, NULL); /* both in good order */
    WAIT(w.closed == 1);
    CU_ASSERT_EQUAL(closed_badly.done + closed_badly.failed, 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "channel.close 1\nconnection.close 200\n"), 1);
    end();

    memset(&closed_badly, 0, sizeof(closed_badly));
    begin_consuming(PREFETCH);
    mq_close(w.mq, goodbye, NULL);
    mq_channel_close(w.a.ch, answered, &closed_badly);
    WAIT(w.closed == 1);
    CU_ASSERT_EQUAL(closed_badly.failed, 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "channel.close"), 0);
    end();
}

/* A broker that beats and does not answer is taken for dead. */
static void a_channel_whose_close_nobody_answers(void)
{
    struct answers closed_badly = {0};

    begin();
    w.config.heartbeat = 1;
    w.config.connect_timeout_ms = 200;
    connect_to_fake();
    channel(&w.a, MQ_CONFIRMS_NONE);
    WAIT(mq_channel_is_open(w.a.ch));
    w.fake->deaf = true;
    mq_channel_close(w.a.ch, answered, &closed_badly);
    WAIT(closed_badly.failed == 1);
    CU_ASSERT_EQUAL(w.a.closed, 0);
    end();
}

/* The broker closes it at the same moment, and answers ours too. */
static void a_channel_closed_by_both(void)
{
    struct answers a = {0};

    begin_open(MQ_CONFIRMS_EACH);
    channel(&w.b, MQ_CONFIRMS_NONE);
    WAIT(mq_channel_is_open(w.b.ch));
    fake_say(w.fake, 1, WIRE(20, 40), "hshh", 406, "PRECONDITION_FAILED - timeout", 0, 0);
    mq_channel_close(w.a.ch, answered, &a);
    WAIT(a.done == 1);
    fence(&w.b);
    CU_ASSERT_EQUAL(fake_count(w.fake, "channel.close 1\n"), 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "channel.close-ok 1\n"), 1);
    CU_ASSERT_EQUAL(w.a.closed + w.down, 0);
    CU_ASSERT_EQUAL(w.fake->bad, 0);
    end();
}

/* Of one that is not open the broker hears nothing, and of one that is opening the end. */
static void a_channel_closes_that_is_not_open(void)
{
    struct answers a = {0}, b = {0};

    begin();
    connect_to_fake();
    channel(&w.a, MQ_CONFIRMS_EACH); /* there is no connection yet */
    mq_channel_close(w.a.ch, answered, &a);
    CU_ASSERT_EQUAL(a.done, 0);
    WAIT(a.done == 1);
    WAIT(mq_is_up(w.mq));
    channel(&w.b, MQ_CONFIRMS_EACH); /* it has asked, and has no answer */
    mq_channel_close(w.b.ch, answered, &b);
    WAIT(b.done == 1);
    CU_ASSERT_EQUAL(w.a.opened + w.b.opened, 0);
    CU_ASSERT_EQUAL(fake_count(w.fake, "channel.open"), 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "confirm.select"), 0);

    memset(&a, 0, sizeof(a));
    channel(&w.a, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.a.ch));
    w.fake->closes_404 = 1;
    mq_queue_declare(w.a.ch, "nowhere", true, false, NULL, NULL, NULL);
    WAIT(w.a.closed == 1);
    mq_channel_close(w.a.ch, answered, &a); /* before it opens again */
    WAIT(a.done == 1);
    channel(&w.b, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.b.ch));
    fence(&w.b);
    CU_ASSERT_EQUAL(w.a.opened, 1);
    CU_ASSERT_EQUAL(w.down, 0);
    end();
}

static void close_both(struct chan *c)
{
    (void)c;
    mq_channel_close(w.a.ch, NULL, NULL);
    mq_channel_close(w.b.ch, NULL, NULL);
    w.a.on_closed = w.b.on_closed = NULL;
}

static void channels_may_be_closed_when_they_are_lost(void)
{
    struct chan *const first[] = {&w.a, &w.b};
    int i;

    for (i = 0; i < 2; i++) {
        begin_open(MQ_CONFIRMS_EACH);
        channel(&w.b, MQ_CONFIRMS_EACH);
        WAIT(mq_channel_is_open(w.b.ch));
        first[i]->on_closed = close_both;
        fake_drop(w.fake);
        WAIT(w.down == 1);
        WAIT(mq_is_up(w.mq));
        CU_ASSERT_EQUAL(w.a.opened + w.b.opened, 2);
        end();
    }
}

static void freed(void *arg)
{
    (void)arg;
    w.closed++;
    mq_free(w.mq);
    w.mq = NULL;
}

static void may_be_freed_when_closed(void)
{
    begin_open(MQ_CONFIRMS_EACH);
    mq_close(w.mq, freed, NULL);
    WAIT(w.closed == 1);
    end();
}

/* Not even when the broker is alive enough to send heartbeats. */
static void a_close_that_nobody_answers(void)
{
    struct sent s = {0};
    struct err e;

    begin();
    w.config.heartbeat = 1;
    connect_to_fake();
    channel(&w.a, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.a.ch));
    CU_ASSERT_EQUAL(publish(&w.a, "m", false, &s, &e), 0);
    w.fake->deaf = true;
    mq_close(w.mq, goodbye, &s);
    WAIT(w.closed == 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "connection.close"), 0);
    end();
}

static void closes_twice(void)
{
    struct sent s = {0};
    struct err e;

    begin_open(MQ_CONFIRMS_EACH);
    CU_ASSERT_EQUAL(publish(&w.a, "m", false, &s, &e), 0);
    mq_close(w.mq, NULL, NULL);
    mq_close(w.mq, goodbye, &s); /* the last one counts */
    mq_ack(w.a.ch, 1, mq_channel_epoch(w.a.ch));
    WAIT(w.closed == 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "connection.close"), 1);
    end();
}

static void closes_while_down(void)
{
    begin();
    connect_to_fake();
    mq_close(w.mq, goodbye, NULL); /* before it began */
    CU_ASSERT_EQUAL(w.closed, 0);
    WAIT(w.closed == 1);
    end();

    begin();
    w.fake->step = FAKE_START_OK;
    w.fake->act = FAKE_SILENCE;
    w.fake->times = 1;
    connect_to_fake();
    WAIT(w.fake->struck == 1);
    mq_close(w.mq, goodbye, NULL); /* in the handshake */
    WAIT(w.closed == 1);
    end();

    begin_open(MQ_CONFIRMS_EACH);
    fake_unlisten(w.fake);
    fake_drop(w.fake);
    WAIT(w.down == 1);
    mq_close(w.mq, goodbye, NULL); /* between two attempts */
    WAIT(w.closed == 1);
    end();

    begin_open(MQ_CONFIRMS_EACH);
    mq_close(w.mq, goodbye, NULL); /* and the broker goes in the middle */
    fake_unlisten(w.fake);
    fake_drop(w.fake);
    WAIT(w.closed == 1);
    end();
}

static void freeing_calls_nobody(void)
{
    struct sent s = {0};
    struct answers a = {0};
    struct err e;

    begin_consuming(PREFETCH);
    channel(&w.b, MQ_CONFIRMS_EACH);
    WAIT(mq_channel_is_open(w.b.ch));
    CU_ASSERT_EQUAL(publish(&w.b, "m", false, &s, &e), 0);
    mq_queue_declare(w.a.ch, "q", true, false, NULL, answered, &a);
    mq_cancel(w.a.consumer, answered, &a);
    mq_channel_close(w.b.ch, answered, &a);
    mq_close(w.mq, goodbye, NULL);
    mq_free(w.mq);
    w.mq = NULL;
    WAIT(!fake_connected(w.fake));
    CU_ASSERT_EQUAL(s.calls + a.done + a.failed + w.closed + w.down + w.a.closed, 0);
    end();
}

static void what_cannot_be_opened(void)
{
    struct mq_config config = {.url = "http://u:sesame@h/", .name = "n", .ca_file = ""};
    struct err e = {0};

    begin();
    CU_ASSERT_PTR_NULL(mq_open(w.loop, &config, NULL, NULL, &e));
    CU_ASSERT_EQUAL(e.kind, ERR_FATAL);
    CU_ASSERT_PTR_NULL(strstr(e.text, "sesame"));
    config.url = "amqps://u:sesame@h/";
    config.ca_file = "/does/not/exist";
    CU_ASSERT_PTR_NULL(mq_open(w.loop, &config, NULL, NULL, &e));
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "/does/not/exist"));
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"connects, and says who it is", connects},
        {"bytes that dribble in", bytes_that_dribble_in},
        {"the broker closes at each step", broker_closes},
        {"the broker is silent at each step", broker_is_silent},
        {"the broker speaks HTTP", broker_speaks_http},
        {"the broker is of another version", broker_is_of_another_version},
        {"the broker sends broken frames", broker_sends_broken_frames},
        {"the broker refuses", broker_refuses},
        {"the broker sends methods out of place", broker_sends_methods_out_of_place},
        {"the broker does not offer PLAIN", broker_without_plain},
        {"the broker is not there", broker_that_is_not_there},
        {"misbehaviour when it is up", misbehaviour_later},
        {"heartbeats are sent", heartbeats_are_sent},
        {"missing heartbeats are seen", missing_heartbeats_are_seen},
        {"confirms of every kind", confirms_of_every_kind},
        {"many confirms", many_confirms},
        {"callbacks may publish", callbacks_may_publish},
        {"returns find their publish", returns_find_their_publish},
        {"a loss is told once", loss_is_told_once},
        {"forgotten publishes are not told", forgotten_ones_are_not_told},
        {"no publish while the broker is blocked", not_while_the_broker_is_blocked},
        {"no publish while the channel is stopped", not_while_the_channel_is_stopped},
        {"no publish when the output is full", not_when_the_output_is_full},
        {"no publish of what does not fit", not_what_does_not_fit},
        {"barriers in place of confirms", barriers},
        {"barriers lost with their connection", barriers_lost},
        {"publishing without confirms", without_confirms},
        {"channels go down together", channels_go_down_together},
        {"answers come in order", answers_come_in_order},
        {"a closed channel opens again", a_closed_channel_opens_again},
        {"consumers and prefetch come back", consumers_come_back},
        {"acks are joined", acks_are_joined},
        {"many acks", many_acks},
        {"each delivery is settled once", each_delivery_is_settled_once},
        {"no acks without prefetch", no_acks_without_prefetch},
        {"tags out of order", tags_out_of_order},
        {"bodies that are too large", bodies_that_are_too_large},
        {"cancelled by the broker", cancelled_by_the_broker},
        {"cancelled by us", cancelled_by_us},
        {"cancelled by both", cancelled_by_both},
        {"closes in order", closes_in_order},
        {"a channel closes in order", a_channel_closes_in_order},
        {"a channel closes while the connection goes", a_channel_closes_while_the_connection_goes},
        {"a channel whose close nobody answers", a_channel_whose_close_nobody_answers},
        {"a channel closed by both", a_channel_closed_by_both},
        {"a channel closes that is not open", a_channel_closes_that_is_not_open},
        {"channels may be closed when they are lost", channels_may_be_closed_when_they_are_lost},
        {"may be freed when closed", may_be_freed_when_closed},
        {"a close that nobody answers", a_close_that_nobody_answers},
        {"closes twice", closes_twice},
        {"closes while down", closes_while_down},
        {"freeing calls nobody", freeing_calls_nobody},
        {"what cannot be opened", what_cannot_be_opened},
        CU_TEST_INFO_NULL,
    };
    int failed;

    /* The connection tells its losses in the log; here they are wanted. */
    if (!getenv("UNIT_LOG"))
        log_open("chatfleet-unit", "error", "/dev/null", NULL);
    failed = unit_main("mq", tests);
    end();
    return failed;
}
