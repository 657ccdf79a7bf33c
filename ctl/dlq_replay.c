/*
 * chatfleet dlq replay: each letter is claimed in the ledger, published, confirmed, marked as done in
 * the ledger, and only then acked. Whatever ends this at whatever moment, no letter is lost, and none
 * is published twice without somebody saying --resume; then with the same message_id, which makes it
 * harmless.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/chat/envelope.h"
#include "common/chat/topology.h"
#include "ctl/dlq.h"
#include "ctl/dlq_again.h"
#include "ctl/dlq_browse.h"
#include "ctl/dlq_ledger.h"
#include "ctl/dlq_rehearse.h"
#include "ctl/dlq_report.h"

enum {
    WINDOW = 200, /* letters under way, and about as many waiting for it */
    HOLD_S = 300,
    TICK_MS = 100,
    PROGRESS_US = 1000000,
    BURST_US = 100000, /* what a held-up rate may make up for */
};

struct replay;

/* A letter from its arrival to its outcome. */
struct item {
    TAILQ_ENTRY(item) link; /* in ready or under_way */
    struct replay *replay;
    struct arena *arena;
    struct mq_message message, again;
    struct letter letter;
    uint64_t tag;
    unsigned epoch;
    char claim[UUID_TEXT];
    int64_t published_us;
    bool resumed;          /* somebody's claim was taken over */
    bool waits_for_broker; /* which takes no messages at the moment */
    bool settled;          /* acked */
    bool answered;         /* its outcome is known */
    enum result result;
    int status;
    const char *detail; /* in the arena, or a constant */
};

TAILQ_HEAD(items, item);

struct replay {
    struct ctl_session session; /* the first member: a session is its replay */
    const struct dlq_options *o;
    struct ledger *ledger;
    struct browse *browse;
    struct report report;
    char *reply_queue;
    char run[UUID_TEXT];
    int64_t began_ms;
    struct items ready, under_way;
    long under_way_count;
    struct map *waiting; /* for their outcomes: items by correlation_id */
    struct timer *tick;
    int64_t next_us;  /* when the rate allows the next one */
    int64_t shown_us; /* the last progress */
    size_t batch;     /* of the canary */
    long batch_started, batch_ended;
    bool consuming, ledger_ready, browsed, stopping, broken, began;
    bool over; /* only what stays has to go back */
};

static void pump(struct replay *r);

/* ---- the end of a letter, and of all ---- */

static bool was_interrupted(const struct replay *r)
{
    return r->stopping && r->report.stopped && strcmp(r->report.stopped, "interrupted") == 0;
}

static void stop(struct replay *r, const char *why)
{
    if (r->stopping)
        return;
    r->stopping = true;
    r->report.stopped = why;
    if (r->browse)
        browse_stop(r->browse);
}

static void item_free(struct item *it)
{
    arena_free(it->arena); /* it lives there */
}

static void forget_answer(struct item *it)
{
    const char *id = it->again.correlation_id;

    if (id && map_get(it->replay->waiting, id, strlen(id)) == it)
        map_remove(it->replay->waiting, id, strlen(id));
}

static bool was_published(enum result result)
{
    return result == RESULT_SUCCEEDED || result == RESULT_FAILED || result == RESULT_OPEN ||
           result == RESULT_SENT;
}

/* The next batch comes when all of this one went well. */
static void count_canary(struct replay *r, enum result result)
{
    if (r->batch == r->o->canary_count)
        return;
    if (!was_published(result) && result != RESULT_REFUSED) {
        r->batch_started--; /* it was no try */
        return;
    }
    r->batch_ended++;
    if (result != RESULT_SUCCEEDED) {
        stop(r, "a letter of the canary did not succeed");
    } else if (r->batch_ended == r->o->canary[r->batch]) {
        r->batch++;
        r->batch_started = r->batch_ended = 0;
    }
}

/* Ends one that is under way. */
static void end(struct item *it, enum result result, int status, const char *detail)
{
    struct replay *r = it->replay;

    forget_answer(it);
    report_add(&r->report, &it->letter, result, status, detail);
    TAILQ_REMOVE(&r->under_way, it, link);
    r->under_way_count--;
    count_canary(r, result);
    item_free(it);
    if (!r->session.ended)
        timer_set(r->tick, 0);
}

/* It stays among the dead letters. */
static void leave(struct item *it, enum result result, const char *detail)
{
    browse_settle(it->replay->browse, it->tag, it->epoch, false);
    end(it, result, 0, detail);
}

static void end_when_both(struct item *it)
{
    if (it->settled && it->answered)
        end(it, it->result, it->status, it->detail);
}

static void answered(struct item *it, enum result result, int status, const char *detail)
{
    it->answered = true;
    it->result = result;
    it->status = status;
    it->detail = detail;
    forget_answer(it);
    end_when_both(it);
}

/* What is still under way when the session is over. */
static void count_unfinished(struct replay *r)
{
    struct item *it;

    while ((it = TAILQ_FIRST(&r->under_way)))
        end(it, it->settled ? RESULT_OPEN : RESULT_UNCERTAIN, 0,
            it->settled ? "published; nobody waited for its answer"
                        : "the session ended while it was under way");
    while ((it = TAILQ_FIRST(&r->ready))) {
        TAILQ_REMOVE(&r->ready, it, link);
        item_free(it);
    }
}

/* ---- done, and acked ---- */

/* The ledger is of no use any more, so nothing else is begun. */
static void ledger_broken(struct item *it, const struct err *e)
{
    const char *why = e ? arena_strdup(it->arena, e->text) : "somebody else took the claim";
    struct replay *r = it->replay;

    if (e && !r->broken)
        fprintf(stderr, "chatfleet: the ledger: %s\n", e->text);
    r->broken = true;
    stop(r, "the ledger could not be written");
    leave(it, RESULT_UNCERTAIN, why);
}

static void recorded(void *arg, const struct ledger_row *row, const struct err *e)
{
    struct item *it = arg;
    struct replay *r = it->replay;

    if (r->session.ended)
        return;
    if (e || row->state != LEDGER_REPLAYED || strcmp(row->claim, it->claim) != 0) {
        ledger_broken(it, e);
        return;
    }
    FAULT("replay.recorded");
    browse_settle(r->browse, it->tag, it->epoch, true);
    it->settled = true;
    if (r->o->no_wait)
        answered(it, RESULT_SENT, 0, NULL);
    else
        end_when_both(it);
}

static void released(void *arg, const struct ledger_row *row, const struct err *e)
{
    struct item *it = arg;

    (void)row;
    if (it->replay->session.ended)
        return;
    if (e)
        ledger_broken(it, e);
    else
        leave(it, RESULT_REFUSED, it->detail);
}

/* It was not published. */
static void release(struct item *it, const char *why)
{
    it->detail = why;
    it->waits_for_broker = false;
    ledger_release(it->replay->ledger, it->letter.id, it->letter.print, it->claim, released, it);
}

/* ---- published ---- */

static void outcome_known(void *arg, enum mq_outcome outcome)
{
    struct item *it = arg;
    struct replay *r = it->replay;

    if (r->session.ended || outcome == MQ_LOST)
        return; /* the session is over, and counts it */
    if (outcome == MQ_RETURNED) {
        release(it, arena_printf(it->arena, "no queue takes %s", it->again.routing_key));
    } else if (outcome == MQ_REFUSED) {
        release(it,
                arena_printf(it->arena, "the queue of %s takes no more", it->again.routing_key));
    } else {
        FAULT("replay.confirmed");
        ledger_done(r->ledger, it->letter.id, it->letter.print, it->claim, recorded, it);
    }
}

static void publish(struct item *it)
{
    struct replay *r = it->replay;
    struct err e;

    it->waits_for_broker = false;
    if (mq_publish(r->session.channel, &it->again, true, outcome_known, it, &e) > 0) {
        it->published_us = clock_monotonic_us();
        FAULT("replay.published");
    } else if (e.kind == ERR_RETRY) {
        it->waits_for_broker = true;
    } else {
        release(it, arena_strdup(it->arena, e.text));
    }
}

/* ---- claimed ---- */

static void claim(struct item *it, const char *in_place_of);

static const char *why_uncertain(const struct item *it, const struct ledger_row *row)
{
    if (row->state == LEDGER_CLAIMED)
        return arena_printf(it->arena, "claimed by %s at %s, and not said to be done",
                            row->claimed_by, row->claimed_at);
    if (row->state == LEDGER_NOTHING)
        return "somebody else was at it";
    if (it->letter.indistinct)
        return arena_printf(it->arena, "has no id, and one that looks the same was %s",
                            ledger_state_name(row->state));
    return arena_printf(it->arena, "failed again after it was %s at %s",
                        ledger_state_name(row->state), row->claimed_at);
}

static void claim_answered(void *arg, const struct ledger_row *row, const struct err *e)
{
    struct item *it = arg;
    struct replay *r = it->replay;
    bool ours;

    if (r->session.ended)
        return;
    if (e) {
        ledger_broken(it, e);
        return;
    }
    ours = strcmp(row->run, r->run) == 0;
    if (strcmp(row->claim, it->claim) == 0) {
        FAULT("replay.claimed");
        publish(it);
    } else if (!it->letter.indistinct && ledger_same_failure(row, &it->letter)) {
        browse_settle(r->browse, it->tag, it->epoch, true); /* only its ack was missing */
        end(it, RESULT_ALREADY, 0, NULL);
    } else if (r->o->resume && !it->resumed && !ours && row->state != LEDGER_NOTHING) {
        it->resumed = true;
        claim(it, row->claim);
    } else {
        leave(it, RESULT_UNCERTAIN, why_uncertain(it, row));
    }
}

static void claim(struct item *it, const char *in_place_of)
{
    const struct dlq_options *o = it->replay->o;
    const struct ledger_claim c = {.claim = it->claim,
                                   .state = LEDGER_CLAIMED,
                                   .target = o->to ? o->to->name : NULL,
                                   .edited = o->edit != NULL,
                                   .in_place_of = in_place_of};

    ledger_put(it->replay->ledger, &it->letter, &c, claim_answered, it);
}

/* ---- what may be begun ---- */

/* Two of the same correlation_id at once, and the answers could not be told apart. */
static bool answer_is_free(struct replay *r, const struct item *it)
{
    const char *id = it->letter.message->correlation_id;

    if (!id || !*id)
        id = it->letter.id;
    return r->o->no_wait || !map_get(r->waiting, id, strlen(id));
}

static void begin(struct item *it)
{
    struct replay *r = it->replay;
    const char *id;
    struct err e;

    TAILQ_REMOVE(&r->ready, it, link);
    TAILQ_INSERT_TAIL(&r->under_way, it, link);
    r->under_way_count++;
    r->batch_started++;
    if (again_make(it->arena, &it->letter, r->o, r->o->no_wait ? NULL : r->reply_queue, &it->again,
                   &e)) {
        leave(it, RESULT_REFUSED, arena_strdup(it->arena, e.text));
        return;
    }
    id = it->again.correlation_id;
    if (!r->o->no_wait)
        map_put(r->waiting, id, strlen(id), it);
    uuid_v7(it->claim);
    claim(it, NULL);
}

static bool batch_is_full(const struct replay *r)
{
    return r->batch < r->o->canary_count && r->batch_started >= r->o->canary[r->batch];
}

/* May one more be begun by the rate? If so it counts as begun. */
static bool rate_allows(struct replay *r)
{
    int64_t now = clock_monotonic_us();

    if (r->o->rate <= 0)
        return true;
    if (r->next_us > now) {
        timer_set(r->tick, (r->next_us - now) / 1000 + 1);
        return false;
    }
    if (r->next_us < now - BURST_US)
        r->next_us = now - BURST_US;
    r->next_us += (int64_t)(1e6 / r->o->rate);
    return true;
}

static void begin_some(struct replay *r)
{
    struct item *it, *next;

    for (it = TAILQ_FIRST(&r->ready); it; it = next) {
        if (r->stopping || r->under_way_count >= WINDOW || batch_is_full(r))
            return;
        next = TAILQ_NEXT(it, link);
        if (!answer_is_free(r, it))
            continue;
        if (!rate_allows(r))
            return;
        begin(it);
    }
}

static void give_up_ready(struct replay *r)
{
    struct item *it;

    while ((it = TAILQ_FIRST(&r->ready))) {
        TAILQ_REMOVE(&r->ready, it, link);
        browse_settle(r->browse, it->tag, it->epoch, false);
        item_free(it);
    }
}

static void look_after(struct replay *r)
{
    int64_t late = clock_monotonic_us() - (int64_t)r->o->timeout_ms * 1000;
    struct item *it, *next;

    for (it = TAILQ_FIRST(&r->under_way); it; it = next) {
        next = TAILQ_NEXT(it, link);
        if (it->waits_for_broker)
            publish(it);
        else if (it->settled && !it->answered && it->published_us < late)
            answered(it, RESULT_OPEN, 0, "no answer in time");
    }
}

/* What stays goes back; who interrupts does not wait for that. */
static void finish(struct replay *r)
{
    r->over = true;
    if (was_interrupted(r))
        ctl_session_end(&r->session, EXIT_DONE);
    else
        browse_close(r->browse, EXIT_DONE);
}

static void pump(struct replay *r)
{
    if (r->session.ended || r->over)
        return;
    if (r->stopping)
        give_up_ready(r);
    begin_some(r);
    if (r->browsed && TAILQ_EMPTY(&r->ready) && TAILQ_EMPTY(&r->under_way))
        finish(r);
}

static void tick(void *arg)
{
    struct replay *r = arg;

    if (r->session.ended || r->over)
        return;
    timer_set(r->tick, TICK_MS);
    look_after(r);
    if (clock_monotonic_us() - r->shown_us >= PROGRESS_US) {
        r->shown_us = clock_monotonic_us();
        report_progress(&r->report, r->under_way_count);
    }
    pump(r);
}

/* ---- what comes ---- */

/* The outcome of one that is under way. Its answer may come before its confirm. */
static void reply_came(void *arg, const struct mq_delivery *d)
{
    struct replay *r = arg;
    const struct mq_message *m = d->message;
    const char *type = m->type ? m->type : "", *id = m->correlation_id ? m->correlation_id : "";
    struct item *it = map_get(r->waiting, id, strlen(id));
    int64_t status = mq_table_int(&m->headers, HEADER_STATUS, 200);
    json_t *problem;
    const char *detail;

    if (!it || envelope_is_notice(type))
        return;
    if (status < 400 && strcmp(type, TYPE_ERROR) != 0) {
        answered(it, RESULT_SUCCEEDED, (int)status, NULL);
        return;
    }
    problem = json_loadb(m->body, m->body_len, 0, NULL);
    detail = json_string_value(json_object_get(problem, "detail"));
    answered(it, RESULT_FAILED, (int)status, arena_strdup(it->arena, detail ? detail : "failed"));
    json_decref(problem);
}

static void queue_found(void *arg, const char *queue, long ready, long others)
{
    struct replay *r = arg;

    (void)queue;
    r->report.waiting += ready > 0 ? ready : 0;
    r->report.others = others;
}

/* A letter that came back in this run would be replayed for ever. */
static bool of_this_run(const struct replay *r, const struct letter *l)
{
    return l->replay_of && l->failed_ms >= r->began_ms;
}

static enum browse_fate letter_came(void *arg, const struct mq_delivery *d, const struct letter *l)
{
    struct replay *r = arg;
    struct mq_message message;
    struct arena *arena;
    struct item *it;

    if (d->oversized) {
        report_add(&r->report, l, RESULT_REFUSED, 0, "the body is too large to be read here");
        return BROWSE_HOLD;
    }
    if (r->stopping || of_this_run(r, l))
        return BROWSE_HOLD;
    arena = mq_take(d, &message);
    it = arena_alloc(arena, sizeof(*it));
    it->arena = arena;
    it->replay = r;
    it->message = message;
    it->letter = *l; /* its texts are the arena's now */
    it->letter.message = &it->message;
    it->tag = d->tag;
    it->epoch = d->epoch;
    TAILQ_INSERT_TAIL(&r->ready, it, link);
    timer_set(r->tick, 0);
    return BROWSE_TAKE;
}

static void browsed(void *arg)
{
    struct replay *r = arg;

    r->browsed = true;
    pump(r);
}

/* ---- the beginning ---- */

/* No more than go within minutes: the broker ends a channel that holds a message for half an hour. */
static uint16_t window(const struct dlq_options *o)
{
    double n = o->rate * HOLD_S;

    return n <= 0 || n > WINDOW ? WINDOW : n < 2 ? 2 : (uint16_t)n;
}

static void begin_browsing(struct replay *r)
{
    static const struct browse_events events = {queue_found, letter_came, browsed};

    if (!r->consuming || !r->ledger_ready || r->session.ended)
        return;
    r->began = true;
    r->began_ms = clock_wall_ms();
    r->shown_us = clock_monotonic_us();
    r->browse = browse_new(&r->session, &r->o->filter, window(r->o), &events, r);
    timer_set(r->tick, TICK_MS);
}

static void ledger_is_there(void *arg)
{
    struct replay *r = arg;

    r->ledger_ready = true;
    begin_browsing(r);
}

static void consumed(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct replay *r = arg;

    (void)reply;
    if (e)
        return; /* the session ends with its channel */
    r->consuming = true;
    begin_browsing(r);
}

static void interrupted(void *arg)
{
    struct replay *r = arg;

    if (r->over) {
        ctl_session_end(&r->session, EXIT_DONE);
        return;
    }
    if (was_interrupted(r)) {
        ctl_session_end(&r->session, EXIT_OPEN); /* asked twice: not waiting for outcomes */
        return;
    }
    r->stopping = false; /* whatever the reason was, now it is this */
    stop(r, "interrupted");
    if (r->began) {
        pump(r);
    } else {
        fputs("chatfleet: interrupted before anything was replayed\n", stderr);
        ctl_session_end(&r->session, EXIT_FAILED);
    }
}

static void opened(struct ctl_session *s)
{
    static const struct mq_consumer_events events = {reply_came, NULL};
    struct replay *r = (struct replay *)(void *)s;

    r->tick = timer_new(s->loop, tick, r);
    loop_on_signal(s->loop, SIGINT, interrupted, r);
    loop_on_signal(s->loop, SIGTERM, interrupted, r);
    r->ledger = ledger_open(s, ledger_is_there, r);
    if (!r->ledger)
        return;
    memcpy(r->run, ledger_run(r->ledger), sizeof(r->run));
    r->reply_queue = mem_printf("%s.replay.%s", chat_names.prefix, r->run);
    mq_queue_declare(s->channel, r->reply_queue, false, true, NULL, NULL, NULL);
    mq_consume(s->channel, r->reply_queue, 0, &events, r, consumed);
}

static void fini(struct ctl_session *s)
{
    struct replay *r = (struct replay *)(void *)s;

    s->ended = true;
    count_unfinished(r);
    browse_free(r->browse);
    ledger_free(r->ledger);
    timer_free(r->tick);
}

int dlq_replay(const struct dlq_options *o)
{
    struct replay r = {
        .session = {.opened = opened, .fini = fini, .message_max = BROWSE_MESSAGE_MAX}, .o = o};
    int code, outcome;

    if (o->dry_run)
        return dlq_rehearse(o);
    TAILQ_INIT(&r.ready);
    TAILQ_INIT(&r.under_way);
    r.waiting = map_new();
    report_init(&r.report);
    code = ctl_session_run(&r.session);
    if (r.began) {
        if (code && !r.report.stopped)
            r.report.stopped = "the session with the broker was lost";
        outcome = report_end(&r.report, r.run, o->json);
        code = outcome == EXIT_OPEN || !code ? outcome : code;
    }
    report_fini(&r.report);
    map_free(r.waiting);
    free(r.reply_queue);
    return code;
}
