#include "common/io/pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/event.h>
#include <event2/util.h>
#include <libpq-fe.h>
#include <openssl/ssl.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/text.h"
#include "common/io/backoff.h"
#include "common/io/hosts.h"

enum {
    GROUP_MAX = 16,       /* segments that share a transaction */
    SYNCS_MAX = 1,        /* transactions under way on a connection; meanwhile the next gathers */
    LASTING_US = 1000000, /* after this a connection counts as a good one */
    WORDS_MAX = 80,       /* parameters of a connection; libpq 15 knows 42 */
};

struct statement {
    const char *sql;
    const char *name; /* prepared as, on the connection that it is being written to */
    PGresult *result;
    int n;
    const char *params[];
};

struct pg_segment {
    TAILQ_ENTRY(pg_segment) link; /* in one of its connection's lists */
    struct connection *connection;
    struct arena *arena; /* holds the segment too */
    uint64_t affinity;
    struct statement *statements[PG_STATEMENTS_MAX];
    int count;
    /* How far its answers have come. What is expected next follows from it: see stage_of(). */
    bool preparing[PG_STATEMENTS_MAX]; /* their prepare went before, and is not synced yet */
    bool prepared;                     /* that of the first of them is answered */
    int answered;                      /* statements */
    bool null_follows;                 /* an error came instead of a Sync */
    bool joined; /* its transaction is also that of the segment sent after it */
    bool alone;  /* it is not to share one: its sender says so, or it did, and something failed */
    bool failed;
    struct err error;
    char sqlstate[6];
    const char *detail; /* NULL: none */
    int losses, conflicts;
    pg_done *done;
    void *arg;
};

TAILQ_HEAD(segments, pg_segment);

enum connection_state { CONNECTION_DOWN, CONNECTION_LOOKUP, CONNECTION_CONNECTING, CONNECTION_UP };

struct connection {
    struct pg *pg;
    int number;
    enum connection_state state;
    PGconn *conn;
    struct hosts *hosts;
    struct event *read, *write;  /* while connecting one of them waits, then read always does */
    bool writing;                /* there is more to write than the socket took */
    bool reading;                /* results are being taken: who sends need not look for them */
    bool broken;                 /* seen while sending; the loop does the rest */
    struct timer *retry;         /* until the next attempt */
    struct timer *deadline;      /* of this attempt */
    unsigned attempts, failures; /* failures: in a row */
    int64_t up_since_us;
    struct segments waiting;  /* to be sent */
    struct segments sent;     /* in the order in which their answers come */
    struct segments given_up; /* to be told */
    int syncs;                /* under way: transactions */
    bool group_failed;        /* a segment did, of those before the next Sync */
    struct map *prepared;     /* the address of a statement's text -> its name */
    unsigned names;
};

enum told { TOLD_NOTHING, TOLD_UP, TOLD_DOWN };

struct pg {
    struct loop *loop;
    struct pg_config config;
    struct pg_events events;
    void *arg;
    char *name, timeout[48];
    PQconninfoOption *options; /* of the URL */
    struct connection *connections;
    int up; /* connections */
    size_t under_way;
    enum told told;
    /* pg_free() is allowed in every callback: what the code around it still looks at is freed when
     * the last of it has returned. */
    int depth;
    bool closing;
};

static void lost(struct connection *c, const char *why);

/* ---- segments ---- */

struct pg_segment *pg_segment_new(struct pg *pg, uint64_t affinity)
{
    struct arena *a = arena_new();
    struct pg_segment *s = arena_alloc(a, sizeof(*s));

    s->arena = a;
    s->affinity = affinity;
    s->connection = &pg->connections[affinity % (uint64_t)pg->config.connections];
    return s;
}

int pg_add(struct pg_segment *s, const char *sql, int n, const char *const *params)
{
    struct statement *t;
    int i;

    if (s->count == PG_STATEMENTS_MAX)
        abort(); /* a bug of the caller: how many there are is a constant */
    t = arena_alloc(s->arena, sizeof(*t) + (size_t)n * sizeof(t->params[0]));
    t->sql = sql;
    t->n = n;
    for (i = 0; i < n; i++)
        t->params[i] = arena_strdup(s->arena, params[i]);
    s->statements[s->count] = t;
    return s->count++;
}

/* As if it had never been sent. */
static void reset(struct pg_segment *s)
{
    int i;

    for (i = 0; i < s->count; i++) {
        PQclear(s->statements[i]->result);
        s->statements[i]->result = NULL;
    }
    memset(s->preparing, 0, sizeof(s->preparing));
    s->prepared = s->null_follows = s->joined = s->failed = false;
    s->answered = 0;
    s->sqlstate[0] = '\0';
    s->detail = NULL;
}

void pg_segment_free(struct pg_segment *s)
{
    if (!s)
        return;
    reset(s);
    arena_free(s->arena);
}

/* The segment has left its connection's lists. The pool may be gone after this. */
static void finish(struct pg_segment *s)
{
    s->connection->pg->under_way--;
    if (s->done)
        s->done(s->arg, s, s->failed ? &s->error : NULL);
    pg_segment_free(s);
}

void pg_forget(struct pg_segment *s)
{
    s->done = NULL;
}

int pg_rows(const struct pg_segment *s, int statement)
{
    return PQntuples(s->statements[statement]->result);
}

long pg_changed(const struct pg_segment *s, int statement)
{
    return atol(PQcmdTuples(s->statements[statement]->result));
}

const char *pg_text(const struct pg_segment *s, int statement, int row, int column)
{
    const PGresult *r = s->statements[statement]->result;

    return PQgetisnull(r, row, column) ? NULL : PQgetvalue(r, row, column);
}

int64_t pg_integer(const struct pg_segment *s, int statement, int row, int column)
{
    const char *text = pg_text(s, statement, row, column);

    return text ? strtoll(text, NULL, 10) : 0;
}

const char *pg_sqlstate(const struct pg_segment *s)
{
    return s->sqlstate;
}

const char *pg_detail(const struct pg_segment *s)
{
    return s->detail ? s->detail : "";
}

size_t pg_under_way(const struct pg *pg)
{
    return pg->under_way;
}

bool pg_is_up(const struct pg *pg)
{
    return pg->up == pg->config.connections;
}

/* ---- errors ---- */

static bool one_of(const char *state, const char *const *codes)
{
    for (; *codes; codes++)
        if (strncmp(state, *codes, strlen(*codes)) == 0)
            return true;
    return false;
}

/* What may work later, by the class or the code of the SQLSTATE: connections, resources, locks, a
 * server that only reads (in a failover), the operator, the disk. */
static const char *const transient[] = {"08", "53", "55P03", "25006", "57", "58", NULL};
/* Another transaction was in the way: it is likely to work at once. */
static const char *const conflict[] = {"40001", "40P01", NULL};
/* The prepared statement is gone, or a migration changed its result: it must be prepared again. */
static const char *const stale[] = {"26000", "0A000", NULL};

static void forget_prepared(struct connection *c, const char *sql)
{
    free(map_remove(c->prepared, &sql, sizeof(sql)));
}

static void take_error(struct pg_segment *s, const PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);

    if (s->failed)
        return; /* the first one counts */
    s->failed = true;
    s->detail = arena_strdup(s->arena, PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL));
    snprintf(s->sqlstate, sizeof(s->sqlstate), "%s", state ? state : "");
    if (!text) /* libpq itself made it */
        text = PQresultErrorMessage(r);
    if (one_of(s->sqlstate, transient) || one_of(s->sqlstate, conflict))
        err_set(&s->error, ERR_RETRY, 503, "the database cannot do it now: %s (%s)", text,
                s->sqlstate);
    else
        err_set(&s->error, ERR_FATAL, 500, "the database refuses: %s (%s)", text, s->sqlstate);
}

/* ---- sending ---- */

/* The connection fails while something is sent. Callbacks come from the loop only, so the rest is
 * done there. */
static void break_later(struct connection *c)
{
    c->broken = true;
    event_active(c->read, EV_READ, 1);
}

static void watch_output(struct connection *c)
{
    int rc = PQflush(c->conn);

    if (rc < 0) {
        break_later(c);
    } else if (c->writing != (rc == 1)) {
        c->writing = rc == 1;
        if (c->writing)
            event_add(c->write, NULL);
        else
            event_del(c->write);
    }
}

/* Are all its statements prepared? */
static bool is_prepared(struct connection *c, struct pg_segment *s)
{
    int i;

    for (i = 0; i < s->count; i++) {
        struct statement *t = s->statements[i];

        t->name = map_get(c->prepared, &t->sql, sizeof(t->sql));
        if (!t->name)
            return false;
    }
    return true;
}

/* The one whose prepare is answered next; -1: none. */
static int first_preparing(const struct pg_segment *s)
{
    int i;

    for (i = 0; i < s->count; i++)
        if (s->preparing[i])
            return i;
    return -1;
}

/* Statement i is prepared in a transaction of its own, if it is not yet, so that no other's error
 * can undo it. */
static int prepare(struct connection *c, struct pg_segment *s, int i)
{
    struct statement *t = s->statements[i];
    char *name = map_get(c->prepared, &t->sql, sizeof(t->sql));

    t->name = name;
    if (name)
        return 0;
    t->name = name = mem_printf("s%u", ++c->names);
    map_put(c->prepared, &t->sql, sizeof(t->sql), name);
    s->preparing[i] = true;
    return PQsendPrepare(c->conn, name, t->sql, 0, NULL) && PQpipelineSync(c->conn) ? 0 : -1;
}

static int send_statements(struct connection *c, struct pg_segment *s)
{
    bool named = c->pg->config.prepare;
    int i, ok = 1;

    for (i = 0; i < s->count && ok; i++) {
        const struct statement *t = s->statements[i];

        if (named)
            ok = PQsendQueryPrepared(c->conn, t->name, t->n, t->params, NULL, NULL, 0);
        else
            ok = PQsendQueryParams(c->conn, t->sql, t->n, NULL, t->params, NULL, NULL, 0);
    }
    return ok ? 0 : -1;
}

/* In the order of their affinities, so that two pools never lock each other out. */
static void join_group(struct segments *group, struct pg_segment *s)
{
    struct pg_segment *before = TAILQ_LAST(group, segments);

    while (before && before->affinity > s->affinity)
        before = TAILQ_PREV(before, segments, link);
    if (before)
        TAILQ_INSERT_AFTER(group, before, s, link);
    else
        TAILQ_INSERT_HEAD(group, s, link);
}

/* Take those that wait, as many as may share a transaction. One that brings new statements goes
 * alone. Returns whether it is such a one. */
static bool gather(struct connection *c, struct segments *group)
{
    struct pg_segment *s;
    int n;

    TAILQ_INIT(group);
    for (n = 0; n < GROUP_MAX && (s = TAILQ_FIRST(&c->waiting)); n++) {
        bool unprepared = c->pg->config.prepare && !is_prepared(c, s);

        if (n > 0 && (s->alone || unprepared))
            break;
        TAILQ_REMOVE(&c->waiting, s, link);
        join_group(group, s);
        if (s->alone || unprepared)
            return unprepared;
    }
    return false;
}

static int send_group(struct connection *c)
{
    struct pg_segment *s, *first, *last;
    struct segments group;
    bool unprepared = gather(c, &group);
    int i;

    first = TAILQ_FIRST(&group);
    last = TAILQ_LAST(&group, segments);
    TAILQ_CONCAT(&c->sent, &group, link);
    c->syncs++;
    for (i = 0; unprepared && i < first->count; i++)
        if (prepare(c, first, i))
            return -1;
    for (s = first; s; s = TAILQ_NEXT(s, link)) {
        s->joined = s != last;
        if (send_statements(c, s))
            return -1;
    }
    return PQpipelineSync(c->conn) ? 0 : -1;
}

/* Not more than the socket takes, so that nothing piles up in libpq. */
static void send_waiting(struct connection *c)
{
    while (c->state == CONNECTION_UP && !c->broken && !c->writing && c->syncs < SYNCS_MAX &&
           !TAILQ_EMPTY(&c->waiting)) {
        if (send_group(c))
            break_later(c);
        else
            watch_output(c);
    }
    /* To make room libpq reads while it writes; no event will tell of what it has read. */
    if (c->state == CONNECTION_UP && c->syncs > 0 && !c->reading && !PQisBusy(c->conn))
        event_active(c->read, EV_READ, 1);
}

void pg_alone(struct pg_segment *s)
{
    s->alone = true;
}

void pg_send(struct pg_segment *s, pg_done *done, void *arg)
{
    struct connection *c = s->connection;

    s->done = done;
    s->arg = arg;
    c->pg->under_way++;
    TAILQ_INSERT_TAIL(&c->waiting, s, link);
    send_waiting(c);
}

/* ---- results ---- */

/* The segment that gets the next result: the first one whose answers are not complete, or that ends
 * its transaction. NULL when none is under way. */
static struct pg_segment *current(struct connection *c)
{
    struct pg_segment *s = TAILQ_FIRST(&c->sent);

    while (s && s->joined && s->answered == s->count)
        s = TAILQ_NEXT(s, link);
    return s;
}

/*
 * What the next result of a sent segment belongs to. For each statement prepared for it: a result,
 * a NULL, a Sync. Then for each statement a result and a NULL, then, unless the next segment shares
 * the transaction, the Sync, or instead of it an error (of the commit) and a NULL, and then the Sync.
 */
enum stage { STAGE_PREPARE, STAGE_PREPARE_SYNC, STAGE_STATEMENT, STAGE_SYNC };

static enum stage stage_of(const struct pg_segment *s)
{
    if (first_preparing(s) >= 0)
        return s->prepared ? STAGE_PREPARE_SYNC : STAGE_PREPARE;
    return s->answered < s->count ? STAGE_STATEMENT : STAGE_SYNC;
}

/* Answers that do not fit would tell a segment another one's outcome: rather ask again. */
static void out_of_step(struct connection *c)
{
    lost(c, "the answers are out of step");
}

/* A statement that cannot be prepared fails the segment that brought it; who uses it in the
 * meantime finds that it is not there and prepares it again. */
static void take_prepared(struct connection *c, struct pg_segment *s, const PGresult *r)
{
    int i = first_preparing(s);

    if (PQresultStatus(r) == PGRES_COMMAND_OK)
        return;
    take_error(s, r);
    forget_prepared(c, s->statements[i]->sql);
}

static void take_answer(struct connection *c, struct pg_segment *s, PGresult *r)
{
    struct statement *t = s->statements[s->answered];
    ExecStatusType status = PQresultStatus(r);

    PQclear(t->result);
    t->result = r;
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        return;
    if (status != PGRES_PIPELINE_ABORTED) {
        take_error(s, r);
        c->group_failed = true;
        if (one_of(s->sqlstate, stale))
            forget_prepared(c, t->sql);
    } else if (!s->failed && !c->group_failed) {
        out_of_step(c);
    }
}

/* A segment that had its transaction for itself. */
static void segment_synced(struct connection *c, struct pg_segment *s)
{
    TAILQ_REMOVE(&c->sent, s, link);
    if (s->failed && s->conflicts < PG_CONFLICTS_MAX &&
        (one_of(s->sqlstate, conflict) || (c->pg->config.prepare && one_of(s->sqlstate, stale)))) {
        s->conflicts++;
        reset(s);
        TAILQ_INSERT_TAIL(&c->waiting, s, link);
        return;
    }
    finish(s);
}

/* Nothing of the transaction was done, whoever's error it was: each is tried for itself, before all
 * else and in their order. */
static void part_group(struct connection *c, struct pg_segment *last)
{
    struct pg_segment *s = last, *before;

    for (; s; s = before) {
        before = TAILQ_PREV(s, segments, link);
        TAILQ_REMOVE(&c->sent, s, link);
        reset(s);
        s->alone = true;
        TAILQ_INSERT_HEAD(&c->waiting, s, link);
    }
}

/* The last segment of a transaction has its Sync; the first one sent belongs to the same. A callback
 * may free the pool: then no segment is left. */
static void group_synced(struct connection *c, struct pg_segment *last)
{
    struct pg_segment *s = TAILQ_FIRST(&c->sent);
    bool failed = c->group_failed || last->failed, more = s != last;

    c->group_failed = false;
    if (!more) {
        segment_synced(c, last);
    } else if (failed) {
        part_group(c, last);
    } else {
        while (more && (s = TAILQ_FIRST(&c->sent))) {
            more = s->joined;
            TAILQ_REMOVE(&c->sent, s, link);
            finish(s);
        }
    }
    c->syncs--;
}

static void take_sync(struct connection *c, struct pg_segment *s)
{
    switch (stage_of(s)) {
    case STAGE_PREPARE_SYNC:
        s->preparing[first_preparing(s)] = false;
        s->prepared = false;
        break;
    case STAGE_SYNC:
        group_synced(c, s);
        break;
    default:
        out_of_step(c);
    }
}

/* The end of one statement's results. */
static void take_null(struct connection *c, struct pg_segment *s)
{
    switch (stage_of(s)) {
    case STAGE_PREPARE:
        s->prepared = true;
        return;
    case STAGE_STATEMENT:
        if (!s->statements[s->answered]->result)
            break;
        s->answered++;
        return;
    default:
        if (!s->null_follows)
            break;
        s->null_follows = false;
        return;
    }
    out_of_step(c);
}

/* The connection's first segment gets the next result. False when there is none under way. */
static bool take_result(struct connection *c)
{
    struct pg_segment *s = current(c);
    PGresult *r;

    if (!s)
        return false;
    r = PQgetResult(c->conn);
    if (!r) {
        take_null(c, s);
        return true;
    }
    if (PQresultStatus(r) == PGRES_PIPELINE_SYNC) {
        PQclear(r);
        take_sync(c, s);
        return true;
    }
    switch (stage_of(s)) {
    case STAGE_STATEMENT:
        take_answer(c, s, r); /* keeps it */
        return true;
    case STAGE_PREPARE:
        take_prepared(c, s, r);
        break;
    default:
        s->null_follows = true;
        take_error(s, r);
    }
    PQclear(r);
    return true;
}

/* Decrypted bytes that libpq had no room for: no event will tell of them. */
static bool tls_has_more(PGconn *conn)
{
    SSL *ssl = PQsslInUse(conn) ? PQsslStruct(conn, "OpenSSL") : NULL;

    return ssl && SSL_pending(ssl) > 0;
}

static void readable(struct connection *c)
{
    PGconn *conn = c->conn;

    do {
        if (!PQconsumeInput(conn)) {
            lost(c, PQerrorMessage(conn));
            return;
        }
    } while (tls_has_more(conn));
    c->reading = true;
    while (c->state == CONNECTION_UP && !PQisBusy(conn) && PQstatus(conn) == CONNECTION_OK &&
           take_result(c))
        ;
    c->reading = false;
    if (c->state != CONNECTION_UP)
        return;
    if (PQstatus(conn) != CONNECTION_OK) {
        lost(c, PQerrorMessage(conn));
        return;
    }
    watch_output(c);
    send_waiting(c);
}

/* ---- the end of a connection, and the next attempt ---- */

static void free_value(void *value, void *arg)
{
    (void)arg;
    free(value);
}

static void forget_all_prepared(struct connection *c)
{
    map_each(c->prepared, free_value, NULL);
    map_free(c->prepared);
    c->prepared = NULL;
}

static void free_events(struct connection *c)
{
    if (c->read)
        event_free(c->read);
    if (c->write)
        event_free(c->write);
    c->read = c->write = NULL;
}

/* Let go of the socket and of all that belongs to it. */
static void drop(struct connection *c)
{
    c->pg->up -= c->state == CONNECTION_UP;
    c->state = CONNECTION_DOWN;
    c->writing = c->reading = c->broken = false;
    hosts_free(c->hosts);
    c->hosts = NULL;
    free_events(c); /* before their socket is closed */
    PQfinish(c->conn);
    c->conn = NULL;
    if (c->prepared)
        forget_all_prepared(c);
    timer_stop(c->deadline);
    timer_stop(c->retry);
}

/* What was sent is to be sent again, before all else and in its order. */
static void take_back_sent(struct connection *c)
{
    struct pg_segment *s;

    while ((s = TAILQ_LAST(&c->sent, segments))) {
        TAILQ_REMOVE(&c->sent, s, link);
        reset(s);
        s->alone = true; /* one of them may be what the server does not survive */
        if (++s->losses < PG_LOSSES_MAX) {
            TAILQ_INSERT_HEAD(&c->waiting, s, link);
            continue;
        }
        s->failed = true;
        err_set(&s->error, ERR_RETRY, 503, "the database connection was lost %d times", s->losses);
        TAILQ_INSERT_HEAD(&c->given_up, s, link);
    }
    c->syncs = 0;
    c->group_failed = false;
}

static void tell_given_up(struct connection *c)
{
    struct pg_segment *s;

    while ((s = TAILQ_FIRST(&c->given_up))) {
        TAILQ_REMOVE(&c->given_up, s, link);
        finish(s);
    }
}

static void tell_down(struct pg *pg, const struct err *why)
{
    if (pg->told == TOLD_DOWN)
        return;
    pg->told = TOLD_DOWN;
    if (pg->events.down)
        pg->events.down(pg->arg, why);
}

/* All connections meet the same fate while the database is away: one of them says so. */
static enum log_level level_of_failure(const struct connection *c, bool was_up)
{
    const struct connection *first = c->pg->connections;

    if (was_up)
        return LOG_WARN;
    while (first->state == CONNECTION_UP)
        first++;
    return first == c ? LOG_WARN : LOG_DEBUG;
}

static void lost(struct connection *c, const char *why)
{
    bool was_up = c->state == CONNECTION_UP;
    int64_t wait;
    struct err e;

    if (!why || !*why)
        why = "the database closed the connection";
    err_set(&e, ERR_RETRY, 503, "%.*s", (int)strcspn(why, "\n"), why);
    /* A server that takes connections and drops them at once is not come back to at once. */
    if (was_up && clock_monotonic_us() - c->up_since_us > LASTING_US)
        c->failures = 0;
    wait = backoff_ms(c->failures, c->pg->config.backoff_max_ms);
    log_event(level_of_failure(c, was_up),
              was_up ? "database connection lost" : "database not reached",
              LOG_NUM("connection", c->number), LOG_STR("error", e.text),
              LOG_NUM("retry_ms", (long)wait));
    drop(c);
    c->failures++;
    timer_set(c->retry, wait);
    take_back_sent(c);
    tell_down(c->pg, &e);
    tell_given_up(c);
}

/* ---- connecting ---- */

static void socket_ready(evutil_socket_t fd, short what, void *arg);

/* libpq may have taken another socket. */
static void watch_socket(struct connection *c, short stay)
{
    struct event_base *base = loop_base(c->pg->loop);
    int fd = PQsocket(c->conn);

    free_events(c);
    c->read = event_new(base, fd, (short)(EV_READ | stay), socket_ready, c);
    c->write = event_new(base, fd, (short)(EV_WRITE | stay), socket_ready, c);
}

static void became_up(struct connection *c)
{
    struct pg *pg = c->pg;

    if (PQsetnonblocking(c->conn, 1) || !PQenterPipelineMode(c->conn)) {
        lost(c, PQerrorMessage(c->conn));
        return;
    }
    timer_stop(c->deadline);
    c->state = CONNECTION_UP;
    c->up_since_us = clock_monotonic_us();
    c->prepared = map_new();
    watch_socket(c, EV_PERSIST);
    event_add(c->read, NULL);
    pg->up++;
    send_waiting(c);
    if (!pg_is_up(pg))
        return;
    pg->told = TOLD_UP;
    log_event(LOG_INFO, "database connected", LOG_NUM("connections", pg->up));
    if (pg->events.up)
        pg->events.up(pg->arg);
}

static void go_on_connecting(struct connection *c)
{
    PostgresPollingStatusType what = PQconnectPoll(c->conn);

    if (what == PGRES_POLLING_OK) {
        became_up(c);
    } else if (what == PGRES_POLLING_FAILED) {
        lost(c, PQerrorMessage(c->conn));
    } else {
        watch_socket(c, 0);
        event_add(what == PGRES_POLLING_READING ? c->read : c->write, NULL);
    }
}

/* Every callback of the loop stands between these two: see struct pg. */
static void enter(struct pg *pg)
{
    pg->depth++;
}

static void end(struct pg *pg);

static void leave(struct pg *pg)
{
    pg->depth--;
    if (pg->depth == 0 && pg->closing)
        end(pg);
}

static void socket_ready(evutil_socket_t fd, short what, void *arg)
{
    struct connection *c = arg;
    struct pg *pg = c->pg;

    (void)fd;
    (void)what;
    enter(pg);
    if (c->state == CONNECTION_CONNECTING)
        go_on_connecting(c);
    else if (c->broken)
        lost(c, PQerrorMessage(c->conn));
    else
        readable(c); /* writes, too */
    leave(pg);
}

static void log_notice(void *arg, const PGresult *r)
{
    (void)arg;
    log_event(LOG_DEBUG, "database notice",
              LOG_STR("text", PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY)));
}

/* The parameters of a connection as libpq takes them: of two with the same name the last counts. */
struct words {
    const char *names[WORDS_MAX + 1], *values[WORDS_MAX + 1];
    int n;
};

static void put(struct words *w, const char *name, const char *value)
{
    if (w->n == WORDS_MAX)
        abort();
    w->names[w->n] = name;
    w->values[w->n++] = value;
}

/* found: the addresses, so that libpq need not ask for them (it would block); NULL when there is
 * nothing to ask. */
static void collect_words(struct pg *pg, const struct hosts_found *found, struct words *w)
{
    const PQconninfoOption *o;

    put(w, "gssencmode", "disable"); /* libpq would read a ticket cache for each connection */
    /* A server that is gone without a word is noticed after half a minute. */
    put(w, "keepalives_idle", "15");
    put(w, "keepalives_interval", "5");
    put(w, "keepalives_count", "3");
    put(w, "tcp_user_timeout", "30000");
    snprintf(pg->timeout, sizeof(pg->timeout), "-c statement_timeout=%ld",
             pg->config.statement_timeout_ms);
    if (pg->config.statement_timeout_ms > 0) /* not known to every pooler */
        put(w, "options", pg->timeout);
    for (o = pg->options; o->keyword; o++)
        if (o->val)
            put(w, o->keyword, o->val);
    put(w, "application_name", pg->name);
    put(w, "client_encoding", "UTF8");
    if (found) {
        put(w, "host", found->names);
        put(w, "hostaddr", found->addresses);
        put(w, "port", found->ports);
    }
}

static void start(struct connection *c, const struct hosts_found *found)
{
    struct words w = {.n = 0};

    collect_words(c->pg, found, &w);
    c->state = CONNECTION_CONNECTING;
    c->conn = PQconnectStartParams(w.names, w.values, 0);
    if (!c->conn)
        abort(); /* out of memory */
    if (PQstatus(c->conn) == CONNECTION_BAD) {
        lost(c, PQerrorMessage(c->conn));
        return;
    }
    PQsetNoticeReceiver(c->conn, log_notice, NULL);
    watch_socket(c, 0);
    event_add(c->write, NULL);
}

static void hosts_come(void *arg, const struct hosts_found *found, const struct err *e)
{
    struct connection *c = arg;
    struct pg *pg = c->pg;

    enter(pg);
    if (found)
        start(c, found);
    else
        lost(c, e->text);
    leave(pg);
}

static const char *option(const struct pg *pg, const char *name)
{
    const PQconninfoOption *o = pg->options;

    while (strcmp(o->keyword, name) != 0)
        o++;
    return o->val ? o->val : "";
}

static void connect_now(void *arg)
{
    struct connection *c = arg;
    struct pg *pg = c->pg;
    const char *host = option(pg, "host");

    enter(pg);
    timer_set(c->deadline, pg->config.connect_timeout_ms);
    if (*host && !*option(pg, "hostaddr")) {
        c->state = CONNECTION_LOOKUP;
        c->hosts = hosts_find(pg->loop, host, option(pg, "port"), c->attempts++, hosts_come, c);
    } else {
        start(c, NULL);
    }
    leave(pg);
}

static void too_late(void *arg)
{
    struct connection *c = arg;
    struct pg *pg = c->pg;
    struct err e;

    enter(pg);
    err_set(&e, ERR_RETRY, 503, "no answer within %ld ms", pg->config.connect_timeout_ms);
    lost(c, e.text);
    leave(pg);
}

/* ---- life ---- */

static void connection_init(struct connection *c, struct pg *pg, int number)
{
    c->pg = pg;
    c->number = number;
    TAILQ_INIT(&c->waiting);
    TAILQ_INIT(&c->sent);
    TAILQ_INIT(&c->given_up);
    c->retry = timer_new(pg->loop, connect_now, c);
    c->deadline = timer_new(pg->loop, too_late, c);
    timer_set(c->retry, 0);
}

/* NULL when it is none. What libpq says of it would show the password. */
static PQconninfoOption *parse_url(const char *url)
{
    static const char other[] = "postgresql+asyncpg://"; /* as Python services write it */
    PQconninfoOption *options;
    char *text;

    if (!*url) /* libpq would take what it finds in the environment */
        return NULL;
    if (!text_starts_with(url, other))
        return PQconninfoParse(url, NULL);
    text = mem_printf("postgresql://%s", url + strlen(other));
    options = PQconninfoParse(text, NULL);
    free(text);
    return options;
}

struct pg *pg_open(struct loop *l, const struct pg_config *config, const struct pg_events *events,
                   void *arg, struct err *e)
{
    PQconninfoOption *options = parse_url(config->url);
    struct pg *pg;
    int i;

    if (!options) {
        err_set(e, ERR_FATAL, 500,
                "the database's URL is not postgresql://user:password@host:port/database");
        return NULL;
    }
    pg = mem_alloc(sizeof(*pg));
    pg->loop = l;
    pg->config = *config;
    if (events)
        pg->events = *events;
    pg->arg = arg;
    pg->options = options;
    pg->name = mem_strdup(config->name);
    pg->config.url = pg->config.name = NULL;
    pg->connections = mem_alloc((size_t)config->connections * sizeof(*pg->connections));
    for (i = 0; i < config->connections; i++)
        connection_init(&pg->connections[i], pg, i);
    return pg;
}

static void free_segments(struct segments *list)
{
    struct pg_segment *s;

    while ((s = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, s, link);
        pg_segment_free(s);
    }
}

static void end(struct pg *pg)
{
    free(pg->connections);
    PQconninfoFree(pg->options);
    free(pg->name);
    free(pg);
}

void pg_free(struct pg *pg)
{
    int i;

    if (!pg)
        return;
    pg->closing = true;
    for (i = 0; i < pg->config.connections; i++) {
        struct connection *c = &pg->connections[i];

        drop(c);
        free_segments(&c->waiting);
        free_segments(&c->sent);
        free_segments(&c->given_up);
        timer_free(c->retry);
        timer_free(c->deadline);
    }
    if (pg->depth == 0)
        end(pg);
}
