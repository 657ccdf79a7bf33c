#include "gateway-shim/rpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/uuid.h"
#include "common/chat/topology.h"
#include "gateway-shim/notices.h"

enum {
    SWEEP_MS = 50,             /* how late a deadline may be noticed */
    GRACE_MS = 1000,           /* how long calls wait for a lost broker to come back */
    WATCH_MS = 1000,           /* how often the queues' consumers are counted */
    WATCH_SOON_MS = 100,       /* while one of them has none, */
    WATCH_SOON_ROUNDS = 300,   /* but not for ever: its kind may not run here */
    REPLY_EXPIRES_MS = 600000, /* a reply queue that nobody consumes is deleted by the broker */
    REPLY_PREFETCH = 0,        /* no acks: a lost answer is noticed by its deadline */
    PIECES_TIMES = 10, /* how many time-outs a call may last while pieces of its answer come */
};

static struct metric_family calls_pending = {
    "rpc_calls_pending", METRIC_GAUGE, "Calls that wait for an answer, and turns that are followed",
    NULL, NULL};
static struct metric_family replies_late = {
    "rpc_replies_late_total", METRIC_COUNTER,
    "Answers that came when nobody waited for them any more", NULL, NULL};

static struct metric_family replies_oversized = {
    "rpc_replies_oversized_total", METRIC_COUNTER,
    "Messages from workers over MAX_MESSAGE_BYTES, whose bodies were dropped", NULL, NULL};

struct rpc_call {
    TAILQ_ENTRY(rpc_call) link;
    struct rpc *rpc;
    const struct operation *operation;
    char id[UUID_TEXT];             /* the correlation id */
    int64_t deadline_us, latest_us; /* latest: however many pieces come */
    int64_t publish;                /* while its confirm is awaited, else 0 */
    enum rpc_mode mode;
    rpc_done *done;
    void *arg;
};

/* How many consumers the first queue of some operations has. */
struct watched {
    const char *queue;
    bool known;
    uint32_t consumers;
};

enum { WATCHED_MAX = 16 };

struct rpc {
    struct loop *loop;
    struct process *process;
    struct mq *publish, *consume;
    struct mq_channel *publish_channel, *consume_channel, *watch_channel;
    char *reply_queue;
    int watched_soon;  /* rounds in a row */
    bool replies_come; /* the reply queue is consumed */
    bool exchanges_declared;
    struct map *calls; /* correlation id -> call */
    TAILQ_HEAD(, rpc_call) list, followed;
    struct timer *sweep, *grace, *watch;
    struct watched watched[WATCHED_MAX];
    size_t watched_count, watch_at;
    bool counting; /* the broker was asked about watched[watch_at] */
    loop_cb *ready;
    void *ready_arg;
    int open_connections;
    loop_cb *closed;
    void *closed_arg;
};

/* ---- calls ---- */

size_t rpc_pending(const struct rpc *rpc)
{
    return map_count(rpc->calls);
}

bool rpc_is_ready(const struct rpc *rpc)
{
    return rpc->replies_come && rpc->exchanges_declared && mq_can_publish(rpc->publish) &&
           mq_channel_is_open(rpc->publish_channel);
}

static void tell_ready(struct rpc *rpc)
{
    if (rpc_is_ready(rpc))
        rpc->ready(rpc->ready_arg);
}

void rpc_end(struct rpc_call *call)
{
    struct rpc *rpc = call->rpc;

    if (call->publish)
        mq_forget(rpc->publish_channel, call->publish);
    map_remove(rpc->calls, call->id, UUID_TEXT - 1);
    if (call->mode == RPC_FOLLOW)
        TAILQ_REMOVE(&rpc->followed, call, link);
    else
        TAILQ_REMOVE(&rpc->list, call, link);
    metric_set(metric_get(&calls_pending, ""), (double)rpc_pending(rpc));
    free(call);
}

static void finish(struct rpc_call *call, const struct rpc_result *result)
{
    rpc_done *done = call->done;
    void *arg = call->arg;

    rpc_end(call);
    done(arg, result, true);
}

/* open: the message may have been taken. */
static void fail(struct rpc_call *call, int status, bool open, const char *why)
{
    struct rpc_result result = {.status = status, .open = open, .why = why};

    finish(call, &result);
}

static void outcome_known(void *arg, enum mq_outcome outcome)
{
    struct rpc_call *call = arg;

    call->publish = 0;
    if (outcome == MQ_CONFIRMED)
        FAULT("rpc.confirm");
    switch (outcome) {
    case MQ_CONFIRMED:
        return;
    case MQ_RETURNED:
        fail(call, 501, false, "no worker of this fleet serves the operation");
        return;
    case MQ_REFUSED:
        fail(call, 503, false, "the operation's queue is full");
        return;
    case MQ_LOST:
        fail(call, 503, true, "the message broker was lost while it took the request");
    }
}

/* Deadlines, in the order of the calls; timeouts differ, so all are looked at. */
static void sweep(void *arg)
{
    struct rpc *rpc = arg;
    int64_t now = clock_monotonic_us();
    struct rpc_call *call, *next;

    for (call = TAILQ_FIRST(&rpc->list); call; call = next) {
        next = TAILQ_NEXT(call, link);
        if (call->deadline_us <= now)
            fail(call, 504, true, "no answer came in time");
    }
    if (!TAILQ_EMPTY(&rpc->list))
        timer_set(rpc->sweep, SWEEP_MS);
}

/* The first queue of an operation, or NULL for one that each kind answers. */
static const struct watched *find_watched(const struct rpc *rpc, const struct operation *op)
{
    size_t i;

    for (i = 0; op->queue && i < rpc->watched_count; i++)
        if (strcmp(rpc->watched[i].queue, op->queue) == 0)
            return &rpc->watched[i];
    return NULL;
}

static int check_served(struct rpc *rpc, const struct operation *op, struct err *e)
{
    const struct watched *w = find_watched(rpc, op);

    if (!rpc_is_ready(rpc))
        return err_set(e, ERR_RETRY, 503, "the message broker is not available at the moment");
    if (w && w->known && w->consumers == 0)
        return err_set(e, ERR_RETRY, 503, "no worker serves %s at the moment", op->name);
    return 0;
}

/* Losing one with the broker harms nobody: the client asks again. */
static bool is_read(const struct operation *op)
{
    const struct work_queue *q = op->queue ? work_queue_find(op->queue) : NULL;

    return q && q->reads;
}

struct rpc_call *rpc_call(struct rpc *rpc, const struct operation *op, struct arena *a,
                          const struct envelope *env, const char *body, size_t n,
                          enum rpc_mode mode, rpc_done *done, void *arg, struct err *e)
{
    struct envelope out = *env;
    struct mq_message m;
    struct rpc_call *call;
    int64_t publish;

    if (check_served(rpc, op, e))
        return NULL;
    out.type = op->name;
    out.message_id = env->correlation_id;
    out.reply_to = rpc->reply_queue;
    out.deadline_ms = clock_wall_ms() + op->timeout_ms;
    envelope_encode(a, &out, process_instance(rpc->process), &m);
    m.exchange = exchange_name(EXCHANGE_RPC);
    m.routing_key = op->name;
    m.body = body;
    m.body_len = n;
    if (is_read(op)) {
        m.delivery_mode = MESSAGE_TRANSIENT;
        m.expiration = arena_printf(a, "%ld", op->timeout_ms);
    }
    FAULT("rpc.publish");
    call = mem_alloc(sizeof(*call));
    publish = mq_publish(rpc->publish_channel, &m, true, outcome_known, call, e);
    if (publish < 0) {
        free(call);
        return NULL;
    }
    call->rpc = rpc;
    call->operation = op;
    call->publish = publish;
    call->mode = mode;
    call->done = done;
    call->arg = arg;
    call->deadline_us = clock_monotonic_us() + op->timeout_ms * 1000;
    call->latest_us = call->deadline_us + (PIECES_TIMES - 1) * op->timeout_ms * 1000;
    snprintf(call->id, sizeof(call->id), "%s", env->correlation_id);
    if (TAILQ_EMPTY(&rpc->list))
        timer_set(rpc->sweep, SWEEP_MS);
    map_put(rpc->calls, call->id, UUID_TEXT - 1, call);
    TAILQ_INSERT_TAIL(&rpc->list, call, link);
    metric_set(metric_get(&calls_pending, ""), (double)rpc_pending(rpc));
    return call;
}

struct rpc_call *rpc_follow(struct rpc *rpc, const char *id, rpc_done *done, void *arg)
{
    struct rpc_call *call = mem_alloc(sizeof(*call));

    call->rpc = rpc;
    call->mode = RPC_FOLLOW;
    call->done = done;
    call->arg = arg;
    snprintf(call->id, sizeof(call->id), "%s", id);
    map_put(rpc->calls, call->id, UUID_TEXT - 1, call);
    TAILQ_INSERT_TAIL(&rpc->followed, call, link);
    metric_set(metric_get(&calls_pending, ""), (double)rpc_pending(rpc));
    return call;
}

bool rpc_control(struct rpc *rpc, struct arena *a, const struct envelope *env, const char *body,
                 size_t n)
{
    struct envelope out = *env;
    struct mq_message m;
    char id[UUID_TEXT];
    struct err e;

    if (!rpc_is_ready(rpc))
        return false;
    out.message_id = uuid_v7(id);
    out.reply_to = rpc->reply_queue;
    envelope_encode(a, &out, process_instance(rpc->process), &m);
    m.exchange = exchange_name(EXCHANGE_CONTROL);
    m.routing_key = "";
    m.delivery_mode = MESSAGE_TRANSIENT;
    m.body = body;
    m.body_len = n;
    return mq_publish(rpc->publish_channel, &m, false, NULL, NULL, &e) >= 0;
}

/* ---- answers ---- */

static enum rpc_type type_of(const char *name)
{
    static const struct {
        const char *name;
        enum rpc_type type;
    } types[] = {{TYPE_DELTA, RPC_DELTA},
                 {TYPE_ACCEPTED, RPC_ACCEPTED},
                 {TYPE_INTERIM, RPC_INTERIM},
                 {TYPE_GENERATED, RPC_GENERATED},
                 {TYPE_ERROR, RPC_ERROR}};
    size_t i;

    for (i = 0; name && i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(name, types[i].name) == 0)
            return types[i].type;
    return RPC_REPLY;
}

/* It comes before the answer, and may be lost. */
static bool is_notice(enum rpc_type type)
{
    return type == RPC_DELTA || type == RPC_ACCEPTED || type == RPC_INTERIM ||
           type == RPC_GENERATED;
}

static struct rpc_result result_of(const struct mq_message *m)
{
    struct rpc_result result = {.type = type_of(m->type),
                                .body = m->body,
                                .body_len = m->body_len,
                                .epoch = mq_table_int(&m->headers, HEADER_EPOCH, 0),
                                .offset = mq_table_int(&m->headers, HEADER_OFFSET, -1)};

    result.status =
        (int)mq_table_int(&m->headers, HEADER_STATUS, result.type == RPC_ERROR ? 500 : 200);
    return result;
}

/* What comes before the answer may be lost: the answer has it all. Who gets pieces is not kept
 * waiting in vain, so his time begins anew. */
static void piece_came(struct rpc_call *call, const struct rpc_result *result, bool oversized)
{
    if (call->mode != RPC_STREAM && call->mode != RPC_FOLLOW)
        return;
    if (call->mode == RPC_STREAM) {
        int64_t deadline = clock_monotonic_us() + call->operation->timeout_ms * 1000;

        call->deadline_us = deadline < call->latest_us ? deadline : call->latest_us;
    }
    if (!oversized)
        call->done(call->arg, result, false);
}

static void result_came(struct rpc *rpc, const char *id, const struct rpc_result *result,
                        bool oversized)
{
    struct rpc_call *call = NULL;

    if (id && strlen(id) == UUID_TEXT - 1)
        call = map_get(rpc->calls, id, UUID_TEXT - 1);
    if (!call) {
        metric_add(metric_get(&replies_late, ""), 1);
        return;
    }
    FAULT("rpc.reply");
    if (is_notice(result->type))
        piece_came(call, result, oversized);
    else if (call->mode == RPC_FOLLOW)
        return; /* the answer is its caller's */
    else if (result->status < 200 || result->status > 599 || oversized)
        fail(call, 502, true, "a worker's answer cannot be passed on");
    else if (call->mode == RPC_MANY)
        call->done(call->arg, result, false);
    else
        finish(call, result);
}

static void notice_came(void *arg, const struct notice *n)
{
    const struct rpc_result result = {.type = type_of(n->type),
                                      .status = 200,
                                      .body = n->body,
                                      .body_len = n->body_len,
                                      .epoch = n->epoch,
                                      .offset = n->offset};

    if (is_notice(result.type)) /* answers come by themselves */
        result_came(arg, n->correlation_id, &result, false);
}

static void reply_came(void *arg, const struct mq_delivery *d)
{
    const struct mq_message *m = d->message;
    struct rpc_result result;

    if (d->oversized)
        metric_add(metric_get(&replies_oversized, ""), 1);
    if (m->type && strcmp(m->type, TYPE_NOTICES) == 0) {
        if (!d->oversized)
            notices_read(m->body, m->body_len, notice_came, arg);
        return;
    }
    result = result_of(m);
    result_came(arg, m->correlation_id, &result, d->oversized);
}

/* ---- the reply queue ---- */

static void set_up_replies(struct rpc *rpc);

static void name_reply_queue(struct rpc *rpc)
{
    char id[UUID_TEXT];

    free(rpc->reply_queue);
    rpc->reply_queue = mem_printf("%s" REPLY_MANY "%s", chat_names.prefix, uuid_v7(id));
}

static void consumer_cancelled(void *arg)
{
    struct rpc *rpc = arg;

    rpc->replies_come = false;
    set_up_replies(rpc); /* somebody deleted the queue */
}

static const struct mq_consumer_events reply_events = {reply_came, consumer_cancelled};

static void replies_consumed(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct rpc *rpc = arg;

    (void)reply;
    rpc->replies_come = !e;
    tell_ready(rpc);
}

/* Refused: the name is taken with other arguments. The channel opens again and tries another. */
static void replies_declared(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct rpc *rpc = arg;

    (void)reply;
    if (e && e->kind == ERR_FATAL)
        name_reply_queue(rpc);
}

static long longest_timeout_ms(void)
{
    long longest = 0;
    size_t i;

    for (i = 0; i < operations_count; i++)
        if (operations[i].timeout_ms > longest)
            longest = operations[i].timeout_ms;
    return longest;
}

/* Classic, durable, not exclusive: it outlives a reconnect, and replies under way with it. */
static void set_up_replies(struct rpc *rpc)
{
    struct arena *a = arena_new();
    struct mq_table arguments = {0};

    mq_table_put_int(a, &arguments, "x-expires", REPLY_EXPIRES_MS);
    mq_table_put_int(a, &arguments, "x-message-ttl", longest_timeout_ms());
    mq_queue_declare(rpc->consume_channel, rpc->reply_queue, false, false, &arguments,
                     replies_declared, rpc);
    mq_consume(rpc->consume_channel, rpc->reply_queue, REPLY_PREFETCH, &reply_events, rpc,
               replies_consumed);
    arena_free(a);
}

/* ---- who is served ---- */

static void watch_next(struct rpc *rpc);

static void consumers_counted(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct rpc *rpc = arg;
    struct watched *w = &rpc->watched[rpc->watch_at++];

    rpc->counting = false;
    w->known = !e; /* a queue that is not there is not bound: the publish will tell */
    w->consumers = reply ? reply->consumers : 0;
    if (!e)
        watch_next(rpc);
}

static void watch_next(struct rpc *rpc)
{
    if (rpc->watch_at == rpc->watched_count || !mq_channel_is_open(rpc->watch_channel))
        return;
    rpc->counting = true;
    mq_queue_declare(rpc->watch_channel, rpc->watched[rpc->watch_at].queue, true, false, NULL,
                     consumers_counted, rpc);
}

/* Soon after a worker came its operations are to be served. Not so where a queue is missing: each look
 * costs a channel then, and a line in the broker's log. */
static int64_t next_round_ms(struct rpc *rpc)
{
    bool waiting = false;
    size_t i;

    for (i = 0; i < rpc->watched_count; i++) {
        if (!rpc->watched[i].known)
            return WATCH_MS;
        waiting |= rpc->watched[i].consumers == 0;
    }
    rpc->watched_soon = waiting ? rpc->watched_soon + 1 : 0;
    return waiting && rpc->watched_soon <= WATCH_SOON_ROUNDS ? WATCH_SOON_MS : WATCH_MS;
}

/* Round after round. A missing queue closes the channel, so that the next one goes on behind it. */
static void watch(void *arg)
{
    struct rpc *rpc = arg;

    timer_set(rpc->watch, next_round_ms(rpc));
    if (rpc->counting) /* the broker is slow: one question at a time */
        return;
    if (rpc->watch_at == rpc->watched_count)
        rpc->watch_at = 0;
    watch_next(rpc);
}

static void watch_opened(void *arg, struct mq_channel *ch)
{
    (void)ch;
    watch(arg);
}

/* ---- connections ---- */

/* Who follows goes on when the broker is back. */
static void abandon_calls(struct rpc *rpc, const char *why)
{
    struct rpc_call *call, *next;

    for (call = TAILQ_FIRST(&rpc->list); call; call = next) {
        next = TAILQ_NEXT(call, link);
        fail(call, 503, true, why);
    }
}

void rpc_abandon(struct rpc *rpc, const char *why)
{
    struct rpc_call *call;

    while ((call = TAILQ_FIRST(&rpc->followed)))
        fail(call, 503, true, why);
    abandon_calls(rpc, why);
}

static void grace_over(void *arg)
{
    struct rpc *rpc = arg;

    if (!rpc_is_ready(rpc))
        abandon_calls(rpc, "the message broker went away");
}

static void exchanges_declared(void *arg, const struct err *e)
{
    struct rpc *rpc = arg;

    rpc->exchanges_declared = !e;
    if (e)
        log_event(LOG_ERROR, "exchanges not declared", LOG_STR("error", e->text));
    tell_ready(rpc);
}

static void publish_opened(void *arg, struct mq_channel *ch)
{
    struct rpc *rpc = arg;

    topology_declare(rpc->publish, ch, "", exchanges_declared, rpc);
}

static void consume_opened(void *arg, struct mq_channel *ch)
{
    (void)ch;
    set_up_replies(arg);
}

static void publish_closed(void *arg, struct mq_channel *ch, const struct err *why)
{
    struct rpc *rpc = arg;

    (void)ch;
    (void)why;
    rpc->exchanges_declared = false;
    timer_set(rpc->grace, GRACE_MS);
}

static void consume_closed(void *arg, struct mq_channel *ch, const struct err *why)
{
    struct rpc *rpc = arg;

    (void)ch;
    (void)why;
    rpc->replies_come = false;
    timer_set(rpc->grace, GRACE_MS);
}

static void blocked(void *arg, bool is_blocked, const char *why)
{
    struct rpc *rpc = arg;

    (void)why;
    if (is_blocked)
        timer_set(rpc->grace, GRACE_MS);
}

static void find_queues(struct rpc *rpc)
{
    size_t i;

    for (i = 0; i < operations_count; i++) {
        if (!operations[i].queue || find_watched(rpc, &operations[i]))
            continue;
        if (rpc->watched_count == WATCHED_MAX)
            abort();
        rpc->watched[rpc->watched_count++].queue = operations[i].queue;
    }
}

struct rpc *rpc_new(struct loop *l, struct process *p, loop_cb *ready, void *arg, struct err *e)
{
    static const struct mq_events publisher_events = {NULL, NULL, blocked};
    static const struct mq_channel_events publish_events = {publish_opened, publish_closed};
    static const struct mq_channel_events consume_events = {consume_opened, consume_closed};
    static const struct mq_channel_events watch_events = {watch_opened, NULL};
    struct mq_config publish = process_mq_config(p, "publish");
    struct mq_config consume = process_mq_config(p, "consume");
    struct rpc *rpc = mem_alloc(sizeof(*rpc));

    rpc->loop = l;
    rpc->process = p;
    rpc->ready = ready;
    rpc->ready_arg = arg;
    rpc->calls = map_new();
    TAILQ_INIT(&rpc->list);
    TAILQ_INIT(&rpc->followed);
    rpc->sweep = timer_new(l, sweep, rpc);
    rpc->grace = timer_new(l, grace_over, rpc);
    rpc->watch = timer_new(l, watch, rpc);
    find_queues(rpc);
    name_reply_queue(rpc);
    rpc->publish = mq_open(l, &publish, &publisher_events, rpc, e);
    rpc->consume = rpc->publish ? mq_open(l, &consume, NULL, rpc, e) : NULL;
    if (!rpc->consume) {
        rpc_free(rpc);
        return NULL;
    }
    process_watch_mq(p, "publish", rpc->publish);
    process_watch_mq(p, "consume", rpc->consume);
    rpc->publish_channel = mq_channel_new(rpc->publish, MQ_CONFIRMS_EACH, &publish_events, rpc);
    rpc->consume_channel = mq_channel_new(rpc->consume, MQ_CONFIRMS_NONE, &consume_events, rpc);
    rpc->watch_channel = mq_channel_new(rpc->consume, MQ_CONFIRMS_NONE, &watch_events, rpc);
    return rpc;
}

void rpc_free(struct rpc *rpc)
{
    struct rpc_call *call;

    if (!rpc)
        return;
    while ((call = TAILQ_FIRST(&rpc->list)) || (call = TAILQ_FIRST(&rpc->followed)))
        rpc_end(call);
    mq_free(rpc->publish);
    mq_free(rpc->consume);
    timer_free(rpc->sweep);
    timer_free(rpc->grace);
    timer_free(rpc->watch);
    map_free(rpc->calls);
    free(rpc->reply_queue);
    free(rpc);
}

static void connection_closed(void *arg)
{
    struct rpc *rpc = arg;

    if (--rpc->open_connections == 0)
        rpc->closed(rpc->closed_arg);
}

void rpc_close(struct rpc *rpc, loop_cb *done, void *arg)
{
    rpc->closed = done;
    rpc->closed_arg = arg;
    rpc->open_connections = 2;
    mq_queue_delete(rpc->consume_channel, rpc->reply_queue, NULL, NULL);
    mq_close(rpc->publish, connection_closed, rpc);
    mq_close(rpc->consume, connection_closed, rpc);
}
