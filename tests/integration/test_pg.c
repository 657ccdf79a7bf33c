/* The pool against a real PostgreSQL, whose role may create a schema: DATABASE_ADMIN_URL, on TCP.
 * Tests wait for conditions, never for a time. */
#include "common/io/pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <libpq-fe.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "tests/fakes/relay.h"
#include "tests/unit/unit.h"

enum { GUARD_MS = 30000, WORKS_MAX = 4000, BIG = 1000000 };

static const char sql_tables[] =
    "CREATE TABLE counter (n bigint NOT NULL);"
    "INSERT INTO counter VALUES (0);"
    "CREATE TABLE ledger (id bigint PRIMARY KEY, note text, at bigserial);"
    "CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES ledger (id)"
    "    DEFERRABLE INITIALLY DEFERRED);"
    "CREATE TABLE shape (a int);"
    "INSERT INTO shape VALUES (1);"
    "CREATE SEQUENCE tries;"
    /* Fails the first n times; a sequence is not rolled back. */
    "CREATE FUNCTION flaky(n bigint, state text) RETURNS bigint LANGUAGE plpgsql AS $$"
    "DECLARE try bigint := nextval('tries');"
    "BEGIN"
    "    IF try <= n THEN RAISE EXCEPTION 'not yet' USING ERRCODE = state; END IF;"
    "    RETURN try;"
    "END $$;"
    "CREATE FUNCTION chatty() RETURNS int LANGUAGE plpgsql AS $$"
    "BEGIN RAISE WARNING 'a warning'; RAISE NOTICE 'a notice'; RETURN 7; END $$;";

/* A segment, and what became of it. */
struct work {
    int calls;
    bool ok;
    struct err error;
    char sqlstate[6];
    int turn;   /* the how-manieth that was done */
    long first; /* the integer in the first row of its first statement */
    long changed;
    int rows;
    void (*then)(const struct pg_segment *s);
};

static struct {
    char *url, *schema; /* the schema's name is that of the connections, too */
    char *user, *password, *database;
    char *host;
    int port;
    PGconn *admin;
} db;

static struct {
    struct loop *loop;
    struct timer *guard;
    bool late;
    struct relay *relay;
    struct pg_config config;
    struct pg *pg;
    int up, down, done;
    struct err why;
    struct work works[WORKS_MAX];
    void (*on_up)(void), (*on_down)(void);
} w;

/* ---- the database of the tests ---- */

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

/* Percent-encoded, as a part of a URL; the caller's. */
static char *encoded(const char *s)
{
    char *out = mem_alloc(strlen(s) * 3 + 1), *end = out;

    for (; *s; s++)
        end += sprintf(end, "%%%02X", (unsigned char)*s);
    return out;
}

/* host is as it stands in a URL: with its port, and possibly several. */
static char *url_of(const char *hosts, const char *more)
{
    char *user = encoded(db.user), *password = encoded(db.password), *name = encoded(db.database);
    char *url = mem_printf("postgresql://%s:%s@%s/%s?options=-csearch_path%%3D%s%s", user, password,
                           hosts, name, db.schema, more);

    free(user);
    free(password);
    free(name);
    return url;
}

static char *url_at(int port)
{
    char *host = mem_printf("127.0.0.1:%d", port);
    char *url = url_of(host, "");

    free(host);
    return url;
}

static void admin_do(const char *sql)
{
    PGresult *r = PQexec(db.admin, sql);

    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        give_up(sql, PQresultErrorMessage(r));
    PQclear(r);
}

static long admin_long(const char *sql)
{
    PGresult *r = PQexec(db.admin, sql);
    long n;

    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        give_up(sql, PQresultErrorMessage(r));
    n = atol(PQgetvalue(r, 0, 0));
    PQclear(r);
    return n;
}

static void read_url(const char *url)
{
    PQconninfoOption *options = PQconninfoParse(url, NULL), *o;

    if (!options)
        give_up("DATABASE_ADMIN_URL", "is no URL");
    for (o = options; o->keyword; o++) {
        const char *value = o->val ? o->val : "";

        if (strcmp(o->keyword, "host") == 0)
            db.host = mem_strdup(strcmp(value, "localhost") == 0 ? "127.0.0.1" : value);
        else if (strcmp(o->keyword, "port") == 0)
            db.port = *value ? atoi(value) : 5432;
        else if (strcmp(o->keyword, "user") == 0)
            db.user = mem_strdup(value);
        else if (strcmp(o->keyword, "password") == 0)
            db.password = mem_strdup(value);
        else if (strcmp(o->keyword, "dbname") == 0)
            db.database = mem_strdup(value);
    }
    PQconninfoFree(options);
    if (!*db.host || *db.host == '/')
        give_up("DATABASE_ADMIN_URL", "names no TCP host");
}

static void database_open(void)
{
    const char *url = getenv("DATABASE_ADMIN_URL");
    char *sql, *at;

    if (!url || !*url)
        give_up("DATABASE_ADMIN_URL", "is not set: these tests need a PostgreSQL (./fleet test)");
    read_url(url);
    db.schema = mem_printf("test_pg_%ld_%ld", (long)time(NULL), (long)getpid());
    at = mem_printf("%s:%d", db.host, db.port);
    db.url = url_of(at, "");
    free(at);
    db.admin = PQconnectdb(db.url);
    if (PQstatus(db.admin) != CONNECTION_OK)
        give_up("DATABASE_ADMIN_URL", PQerrorMessage(db.admin));
    sql = mem_printf("CREATE SCHEMA %s", db.schema);
    admin_do(sql);
    free(sql);
    admin_do(sql_tables);
}

static void database_close(void)
{
    char *sql = mem_printf("SET client_min_messages = error; DROP SCHEMA %s CASCADE", db.schema);

    admin_do(sql);
    free(sql);
    PQfinish(db.admin);
    free(db.url);
    free(db.schema);
    free(db.user);
    free(db.password);
    free(db.database);
    free(db.host);
}

/* ---- the world of a test ---- */

static void guard(void *arg)
{
    (void)arg;
    w.late = true;
}

static void end(void)
{
    pg_free(w.pg);
    relay_free(w.relay);
    timer_free(w.guard);
    loop_free(w.loop);
    memset(&w, 0, sizeof(w));
}

static void begin(void)
{
    end(); /* of a test that failed */
    admin_do("TRUNCATE ledger, child; UPDATE counter SET n = 0;"
             "ALTER SEQUENCE tries RESTART");
    w.loop = loop_new();
    w.guard = timer_new(w.loop, guard, NULL);
    w.config = (struct pg_config){.name = db.schema,
                                  .connections = 1,
                                  .prepare = true,
                                  .connect_timeout_ms = 10000,
                                  .backoff_max_ms = 20};
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
    CU_ASSERT_TRUE(pg_is_up(w.pg));
    if (w.on_up)
        w.on_up();
}

static void down(void *arg, const struct err *why)
{
    (void)arg;
    w.down++;
    w.why = *why;
    CU_ASSERT_EQUAL(why->kind, ERR_RETRY);
    if (w.on_down)
        w.on_down();
}

static void connect_to(const char *url)
{
    static const struct pg_events events = {.up = up, .down = down};
    struct err e;

    w.config.url = url;
    w.pg = pg_open(w.loop, &w.config, &events, NULL, &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w.pg);
}

static void begin_up(int connections)
{
    begin();
    w.config.connections = connections;
    connect_to(db.url);
    WAIT(w.up == 1);
}

static void free_pool(void)
{
    pg_free(w.pg);
    w.pg = NULL;
}

/* Through the relay, which does not listen yet. */
static void begin_relayed(int connections)
{
    char *url;

    begin();
    w.config.connections = connections;
    w.relay = relay_new(w.loop, db.host, db.port);
    url = url_at(w.relay->port);
    connect_to(url);
    free(url);
}

static void begin_relayed_up(int connections)
{
    begin_relayed(connections);
    relay_listen(w.relay);
    WAIT(w.up == 1);
}

static void done(void *arg, const struct pg_segment *s, const struct err *e)
{
    struct work *work = arg;

    work->calls++;
    work->turn = ++w.done;
    work->ok = e == NULL;
    if (e)
        work->error = *e;
    snprintf(work->sqlstate, sizeof(work->sqlstate), "%s", pg_sqlstate(s));
    CU_ASSERT_EQUAL(e == NULL, *pg_sqlstate(s) == '\0' && work->error.kind == 0);
    work->rows = pg_rows(s, 0);
    work->changed = pg_changed(s, 0);
    work->first = (long)pg_integer(s, 0, 0, 0);
    if (work->then)
        work->then(s);
}

/* ---- segments ---- */

static const char sql_enter[] = "INSERT INTO ledger (id, note) VALUES ($1, $2)";
static const char sql_pid[] = "SELECT pg_backend_pid()";
static const char sql_divide[] = "SELECT 1 / $1::bigint";

static struct pg_segment *segment(uint64_t affinity, const char *sql, int n,
                                  const char *const *params)
{
    struct pg_segment *s = pg_segment_new(w.pg, affinity);

    CU_ASSERT_EQUAL(pg_add(s, sql, n, params), 0);
    return s;
}

/* A segment of one statement that has a number for its parameter, or none. */
static struct work *send_one(int i, const char *sql, const long *number)
{
    char text[24];
    const char *params[] = {text};

    snprintf(text, sizeof(text), "%ld", number ? *number : 0L);
    pg_send(segment(0, sql, number ? 1 : 0, params), done, &w.works[i]);
    return &w.works[i];
}

/* Enter a row, twice the same if it is sent twice, and count each row once. */
static void send_once(int i)
{
    static const char sql[] = "WITH entered AS (INSERT INTO ledger (id, note) VALUES ($1, $2)"
                              "    ON CONFLICT DO NOTHING RETURNING 1)"
                              "UPDATE counter SET n = n + 1 WHERE EXISTS (SELECT 1 FROM entered)";
    char text[24];
    const char *params[] = {text, "once"};

    snprintf(text, sizeof(text), "%d", i);
    pg_send(segment((uint64_t)i, sql, 2, params), done, &w.works[i]);
}

static void check_once(int n)
{
    int i;

    for (i = 0; i < n; i++) {
        CU_ASSERT_EQUAL(w.works[i].calls, 1);
        CU_ASSERT_TRUE(w.works[i].ok);
    }
    CU_ASSERT_EQUAL(admin_long("SELECT n FROM counter"), n);
    CU_ASSERT_EQUAL(admin_long("SELECT count(*) FROM ledger"), n);
}

static int failures_among(int n)
{
    int i, failures = 0;

    for (i = 0; i < n; i++)
        failures += w.works[i].calls > 0 && !w.works[i].ok;
    return failures;
}

/* ---- what comes back ---- */

static long sums[WORKS_MAX], pids[WORKS_MAX];

static void check_sum(const struct pg_segment *s)
{
    int i = (int)pg_integer(s, 1, 0, 1);

    sums[i] = (long)pg_integer(s, 1, 0, 0);
    pids[i] = (long)pg_integer(s, 2, 0, 0);
    CU_ASSERT_EQUAL(pg_rows(s, 1), 1);
    CU_ASSERT_PTR_NULL(pg_text(s, 1, 0, 2));
    CU_ASSERT_PTR_NULL(pg_text(s, 1, 1, 0));
}

static void send_sum(int i, int affinity)
{
    static const char sql[] = "SELECT $1::bigint * 3, $1::bigint, NULL::text";
    char text[24];
    const char *params[] = {text, "many"};
    struct pg_segment *s;

    snprintf(text, sizeof(text), "%d", i);
    s = segment((uint64_t)affinity, sql_enter, 2, params);
    CU_ASSERT_EQUAL(pg_add(s, sql, 1, params), 1);
    CU_ASSERT_EQUAL(pg_add(s, sql_pid, 0, NULL), 2);
    w.works[i].then = check_sum;
    pg_send(s, done, &w.works[i]);
}

static void many(void)
{
    enum { N = 2000, CONNECTIONS = 4 };
    int i;

    begin_up(CONNECTIONS);
    for (i = 0; i < N; i++)
        send_sum(i, i);
    CU_ASSERT_EQUAL(pg_under_way(w.pg), N);
    CU_ASSERT_EQUAL(w.done, 0); /* nothing is told from within pg_send() */
    WAIT(w.done == N);
    CU_ASSERT_EQUAL(pg_under_way(w.pg), 0);
    for (i = 0; i < N; i++) {
        CU_ASSERT_EQUAL(w.works[i].calls, 1);
        CU_ASSERT_TRUE(w.works[i].ok);
        CU_ASSERT_EQUAL(w.works[i].changed, 1);
        CU_ASSERT_EQUAL(sums[i], i * 3);
        CU_ASSERT_EQUAL(pids[i], pids[i % CONNECTIONS]);
        CU_ASSERT_TRUE(i == 0 || i >= CONNECTIONS || pids[i] != pids[i - 1]);
    }
    CU_ASSERT_EQUAL(admin_long("SELECT count(*) FROM ledger WHERE note = 'many'"), N);
    CU_ASSERT_EQUAL(w.up, 1);
    CU_ASSERT_EQUAL(w.down, 0);
    end();
}

/* Those of one affinity are done in their order, on one connection. */
static void affinity(void)
{
    enum { N = 900, AFFINITIES = 10 };
    int i;

    begin_up(3);
    for (i = 0; i < N; i++)
        send_sum(i, i % AFFINITIES);
    WAIT(w.done == N);
    for (i = AFFINITIES; i < N; i++) {
        CU_ASSERT_TRUE(w.works[i].turn > w.works[i - AFFINITIES].turn);
        CU_ASSERT_EQUAL(pids[i], pids[i - AFFINITIES]);
    }
    CU_ASSERT_EQUAL(admin_long("SELECT count(*) FROM (SELECT at < lag(at) OVER"
                               "    (PARTITION BY id % 10 ORDER BY id) AS bad FROM ledger) x"
                               "    WHERE bad"),
                    0);
    end();
}

/* Whatever is done within done() of one segment. */
static void send_another(const struct pg_segment *s)
{
    long n = (long)pg_integer(s, 0, 0, 0) - 1;

    if (n > 0)
        send_one((int)n, "SELECT $1::bigint", &n)->then = send_another;
}

static void send_from_callback(void)
{
    long n = 100;

    begin_up(1);
    send_one((int)n, "SELECT $1::bigint", &n)->then = send_another;
    WAIT(w.done == 100);
    CU_ASSERT_EQUAL(failures_among(WORKS_MAX), 0);
    CU_ASSERT_EQUAL(w.works[1].first, 1);
    end();
}

static void forget(void)
{
    struct pg_segment *s;
    const char *params[] = {"1", "forgotten"};

    begin_up(1);
    s = segment(0, sql_enter, 2, params);
    pg_send(s, done, &w.works[0]);
    pg_forget(s);
    send_one(1, sql_pid, NULL);
    WAIT(w.done == 1);
    CU_ASSERT_EQUAL(w.works[0].calls, 0);
    CU_ASSERT_EQUAL(admin_long("SELECT count(*) FROM ledger"), 1);
    pg_segment_free(segment(0, sql_enter, 2, params)); /* never sent */
    pg_segment_free(NULL);
    end();
}

static void notices(void)
{
    begin_up(1);
    send_one(0, "SELECT chatty()", NULL);
    WAIT(w.done == 1);
    CU_ASSERT_TRUE(w.works[0].ok);
    CU_ASSERT_EQUAL(w.works[0].first, 7);
    end();
}

/* ---- parameters ---- */

static const char sql_echo[] = "SELECT $1::text";
static char *echoed;

static void keep_echo(const struct pg_segment *s)
{
    const char *text = pg_text(s, 0, 0, 0);

    free(echoed);
    echoed = mem_strdup(text);
}

static void check_echo(const char *text)
{
    const char *params[] = {text};

    w.works[0] = (struct work){.then = keep_echo};
    pg_send(segment(0, sql_echo, 1, params), done, &w.works[0]);
    WAIT(w.works[0].calls == 1);
    CU_ASSERT_TRUE_FATAL(w.works[0].ok);
    CU_ASSERT_EQUAL_FATAL(echoed == NULL, text == NULL);
    CU_ASSERT_TRUE(!text || strcmp(echoed, text) == 0);
}

static char *big_text(int n)
{
    char *text = mem_alloc((size_t)n + 1);
    int i;

    for (i = 0; i < n; i++)
        text[i] = (char)('a' + i % 23);
    return text;
}

static void check_parameters(bool prepare)
{
    const char *not_utf8 = "\xff\xfe";
    char *big = big_text(BIG);

    begin();
    w.config.prepare = prepare;
    connect_to(db.url);
    WAIT(w.up == 1);
    check_echo("");
    check_echo(NULL);
    check_echo("it's \"quoted\" \\ $1 \n\t");
    check_echo("Größe, 大学, 🎓, e\xcc\x81");
    check_echo(big);
    CU_ASSERT_EQUAL(failures_among(1), 0);
    pg_send(segment(0, sql_echo, 1, &not_utf8), done, &w.works[1]);
    WAIT(w.works[1].calls == 1);
    CU_ASSERT_STRING_EQUAL(w.works[1].sqlstate, "22021");
    CU_ASSERT_EQUAL(w.works[1].error.kind, ERR_FATAL);
    check_echo("after it");
    end();
    free(big);
    free(echoed);
    echoed = NULL;
}

static void parameters(void)
{
    check_parameters(true);
}

static void parameters_unprepared(void)
{
    check_parameters(false);
}

static void check_big(const struct pg_segment *s)
{
    const char *text = pg_text(s, 0, 0, 0);

    CU_ASSERT_EQUAL(text ? strlen(text) : 0, BIG);
}

/* More than the sockets hold in both directions at once: neither side may wait for the other. */
static void much_both_ways(void)
{
    enum { N = 30 };
    char *big = big_text(BIG);
    const char *params[] = {big};
    int i;

    begin_up(1);
    for (i = 0; i < N; i++) {
        w.works[i].then = check_big;
        pg_send(segment(0, sql_echo, 1, params), done, &w.works[i]);
    }
    WAIT(w.done == N);
    CU_ASSERT_EQUAL(failures_among(N), 0);
    end();
    free(big);
}

/* More than the sockets hold, and nothing to read before all of it is written. */
static void much_one_way(void)
{
    char *huge = big_text(24 * BIG);
    const char *params[] = {huge};

    begin_up(1);
    pg_send(segment(0, "SELECT length($1::text)", 1, params), done, &w.works[0]);
    WAIT(w.done == 1);
    CU_ASSERT_EQUAL(w.works[0].first, 24 * BIG);
    end();
    free(huge);
}

/* ---- errors ---- */

static void enter(int i, long id, const char *also, long number)
{
    char a[24], b[24];
    const char *params[] = {a, "entered"}, *more[] = {b};
    struct pg_segment *s;

    snprintf(a, sizeof(a), "%ld", id);
    snprintf(b, sizeof(b), "%ld", number);
    s = segment(0, sql_enter, 2, params);
    if (also)
        pg_add(s, also, 1, more);
    pg_send(s, done, &w.works[i]);
}

static void check_error(int i, const char *sqlstate)
{
    CU_ASSERT_EQUAL(w.works[i].calls, 1);
    CU_ASSERT_FALSE(w.works[i].ok);
    CU_ASSERT_STRING_EQUAL(w.works[i].sqlstate, sqlstate);
    CU_ASSERT_EQUAL(w.works[i].error.kind, ERR_FATAL);
    CU_ASSERT_EQUAL(w.works[i].error.status, 500);
}

static void check_isolation(bool prepare)
{
    begin();
    w.config.prepare = prepare;
    connect_to(db.url);
    enter(0, 10, NULL, 0);
    enter(1, 11, sql_divide, 0); /* its row goes, too */
    enter(2, 12, sql_divide, 1);
    enter(3, 10, sql_divide, 1); /* a duplicate: the first statement of two fails */
    enter(4, 14, NULL, 0);
    enter(5, 15, sql_divide, 0);
    enter(6, 16, sql_divide, 1);
    WAIT(w.done == 7);
    CU_ASSERT_EQUAL(failures_among(7), 3);
    check_error(1, "22012");
    check_error(3, "23505");
    check_error(5, "22012");
    CU_ASSERT_EQUAL(w.works[3].rows + w.works[3].changed, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.works[3].error.text, "duplicate key"));
    CU_ASSERT_EQUAL(admin_long("SELECT sum(id) FROM ledger"), 10 + 12 + 14 + 16);
    CU_ASSERT_EQUAL(w.down, 0);
    end();
}

static void isolation(void)
{
    check_isolation(true);
}

static void isolation_unprepared(void)
{
    check_isolation(false);
}

/* What is checked at the commit fails there, after all statements went well. */
static void deferred(void)
{
    static const char sql_child[] = "INSERT INTO child (id, parent) VALUES ($1, 1)";
    static const char sql_orphan[] = "INSERT INTO child (id, parent) VALUES ($1, 999)";
    int round;

    begin_up(1);
    for (round = 0; round < 3; round++) {
        int at = round * 10;

        enter(at, round + 1, sql_child, at);
        enter(at + 1, round + 100, sql_orphan, at + 1);
        enter(at + 2, round + 200, sql_child, at + 2);
        enter(at + 3, round + 300, sql_orphan, at + 3);
        enter(at + 4, round + 400, sql_orphan, at + 4);
        WAIT(w.done == 5 * (round + 1));
        CU_ASSERT_TRUE(w.works[at].ok);
        check_error(at + 1, "23503");
        CU_ASSERT_TRUE(w.works[at + 2].ok);
        check_error(at + 3, "23503");
        check_error(at + 4, "23503");
    }
    CU_ASSERT_EQUAL(admin_long("SELECT count(*) FROM child"), 6);
    CU_ASSERT_EQUAL(admin_long("SELECT count(*) FROM ledger"), 6);
    CU_ASSERT_EQUAL(w.down, 0);
    end();
}

static void bad_statements(void)
{
    static const char sql_bad[] = "SELEC $1::bigint", sql_later[] = "SELECT a FROM comes_later";
    long one = 1;

    begin_up(1);
    send_one(0, sql_bad, &one);
    send_one(1, sql_divide, &one);
    send_one(2, sql_bad, &one); /* sent before the server has refused the first */
    enter(3, 30, sql_bad, 1);
    send_one(4, sql_later, NULL);
    send_one(5, sql_pid, NULL);
    WAIT(w.done == 6);
    check_error(0, "42601");
    CU_ASSERT_TRUE(w.works[1].ok);
    check_error(2, "42601");
    check_error(3, "42601");
    check_error(4, "42P01");
    CU_ASSERT_TRUE(w.works[5].ok);
    CU_ASSERT_EQUAL(admin_long("SELECT count(*) FROM ledger"), 0);
    admin_do("CREATE TABLE comes_later (a int)");
    send_one(6, sql_later, NULL);
    WAIT(w.done == 7);
    CU_ASSERT_TRUE(w.works[6].ok);
    admin_do("DROP TABLE comes_later");
    end();
}

/* A migration changes what a prepared statement returns; another hand drops them all. */
static void stale_statements(void)
{
    static const char sql_shape[] = "SELECT * FROM shape";
    int i;

    begin_up(1);
    send_one(0, sql_shape, NULL);
    WAIT(w.done == 1);
    admin_do("ALTER TABLE shape ADD COLUMN b int");
    for (i = 1; i < 5; i++)
        send_one(i, sql_shape, NULL);
    WAIT(w.done == 5);
    send_one(5, "DEALLOCATE ALL", NULL);
    for (i = 6; i < 10; i++)
        send_one(i, sql_shape, NULL);
    WAIT(w.done == 10);
    CU_ASSERT_EQUAL(failures_among(10), 0);
    CU_ASSERT_EQUAL(w.works[9].first, 1);
    admin_do("ALTER TABLE shape DROP COLUMN b");
    end();
}

static void prepared_once(void)
{
    static const char sql_count[] = "SELECT count(*) FROM pg_prepared_statements";
    long one = 1;
    int i;

    begin_up(1);
    for (i = 0; i < 10; i++) {
        send_one(i, sql_divide, &one);
        send_one(i + 10, sql_pid, NULL);
    }
    send_one(20, sql_count, NULL);
    WAIT(w.done == 21);
    CU_ASSERT_EQUAL(w.works[20].first, 3);
    end();
    begin();
    w.config.prepare = false;
    connect_to(db.url);
    send_one(0, sql_divide, &one);
    send_one(1, sql_count, NULL);
    WAIT(w.done == 2);
    CU_ASSERT_EQUAL(w.works[1].first, 0);
    end();
}

static void send_flaky(int i, const char *times, const char *sqlstate)
{
    const char *params[] = {times, sqlstate};

    pg_send(segment(0, "SELECT flaky($1, $2)", 2, params), done, &w.works[i]);
}

static void conflicts(void)
{
    begin_up(1);
    send_flaky(0, "3", "40001");
    WAIT(w.done == 1);
    CU_ASSERT_TRUE(w.works[0].ok);
    CU_ASSERT_EQUAL(w.works[0].first, 4);
    admin_do("ALTER SEQUENCE tries RESTART");
    send_flaky(1, "99", "40P01");
    send_one(2, sql_pid, NULL);
    WAIT(w.done == 3);
    CU_ASSERT_EQUAL(w.works[2].turn, 2); /* the others do not wait for it */
    CU_ASSERT_FALSE(w.works[1].ok);
    CU_ASSERT_EQUAL(w.works[1].error.kind, ERR_RETRY);
    CU_ASSERT_STRING_EQUAL(w.works[1].sqlstate, "40P01");
    CU_ASSERT_EQUAL(admin_long("SELECT last_value FROM tries"), 1 + PG_CONFLICTS_MAX);
    send_flaky(3, "99", "57014"); /* a statement's time-out is not tried again here */
    WAIT(w.done == 4);
    CU_ASSERT_EQUAL(w.works[3].error.kind, ERR_RETRY);
    CU_ASSERT_EQUAL(admin_long("SELECT last_value FROM tries"), 2 + PG_CONFLICTS_MAX);
    end();
}

/* ---- connections lost ---- */

static void terminate_all(void)
{
    char *sql = mem_printf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                           "    WHERE application_name = '%s'",
                           db.schema);

    admin_do(sql);
    free(sql);
}

static void terminated(void)
{
    enum { N = 3000, KILLS = 3 };
    int i, kill, ups;

    begin_up(3);
    for (i = 0; i < N; i++)
        send_once(i);
    for (kill = 1; kill <= KILLS; kill++) {
        WAIT(w.done >= N * kill / (KILLS + 1));
        ups = w.up;
        terminate_all(); /* it may seem all up for a moment before the last loss is seen */
        WAIT(w.up > ups);
    }
    WAIT(w.done == N);
    check_once(N);
    CU_ASSERT_EQUAL(pg_under_way(w.pg), 0);
    end();
}

/* Committed, but the connection is lost before the client hears of it. */
static void outcome_unknown(void)
{
    enum { N = 20 };
    int i;

    begin_relayed_up(1);
    w.relay->hold = true;
    for (i = 0; i < N; i++)
        send_once(i);
    WAIT(admin_long("SELECT n FROM counter") > 0); /* the others gather behind it */
    CU_ASSERT_EQUAL(w.done, 0);
    relay_cut(w.relay);
    WAIT(w.down == 1);
    w.relay->hold = false;
    WAIT(w.done == N);
    check_once(N);
    for (i = 0; i < N; i++)
        CU_ASSERT_EQUAL(w.works[i].turn, i + 1); /* in their order still */
    end();
}

static void cut_again_and_again(void)
{
    enum { N = 500 };
    int i, cut, ups;

    begin_relayed_up(4);
    w.relay->dribble = true;
    for (i = 0; i < N; i++)
        send_once(i);
    for (cut = 1; cut < PG_LOSSES_MAX; cut++) {
        WAIT(w.done >= N / 10 * cut);
        ups = w.up;
        relay_cut(w.relay);
        WAIT(w.up > ups);
    }
    w.relay->dribble = false;
    WAIT(w.done == N);
    check_once(N);
    end();
}

/* A segment that kills whatever it runs on does not take the others with it for ever. */
static void poison(void)
{
    begin_up(2);
    send_one(0, "SELECT pg_terminate_backend(pg_backend_pid())", NULL);
    WAIT(w.done == 1);
    CU_ASSERT_EQUAL(w.works[0].calls, 1);
    CU_ASSERT_FALSE(w.works[0].ok);
    CU_ASSERT_EQUAL(w.works[0].error.kind, ERR_RETRY);
    CU_ASSERT_EQUAL(w.works[0].error.status, 503);
    CU_ASSERT_EQUAL(w.down, PG_LOSSES_MAX);
    send_one(1, sql_pid, NULL);
    WAIT(w.done == 2);
    CU_ASSERT_TRUE(w.works[1].ok);
    end();
}

static void up_when_all_are(void)
{
    char *sql;

    begin_up(3);
    send_one(0, sql_pid, NULL);
    WAIT(w.done == 1);
    sql = mem_printf("SELECT pg_terminate_backend(%ld)", w.works[0].first);
    admin_do(sql);
    free(sql);
    WAIT(w.down == 1);
    CU_ASSERT_FALSE(pg_is_up(w.pg));
    WAIT(w.up == 2);
    CU_ASSERT_EQUAL(w.down, 1);
    end();
}

/* ---- connecting ---- */

static void starts_late(void)
{
    int i;

    begin_relayed(2);
    for (i = 0; i < 10; i++)
        send_once(i);
    WAIT(w.down == 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.why.text, "refused"));
    relay_listen(w.relay);
    WAIT(w.done == 10);
    WAIT(w.up == 1);
    CU_ASSERT_EQUAL(w.down, 1); /* told once, however often it was tried */
    check_once(10);
    end();
}

static void hangs_up(void)
{
    begin_relayed(1);
    w.relay->hang_up = true;
    relay_listen(w.relay);
    WAIT(w.relay->accepted == 5);
    w.relay->hang_up = false;
    WAIT(w.up == 1);
    CU_ASSERT_EQUAL(w.down, 1);
    end();
}

static void never_answers(void)
{
    char *url;

    begin();
    w.config.connect_timeout_ms = 50;
    w.relay = relay_new(w.loop, db.host, db.port);
    w.relay->mute = true;
    relay_listen(w.relay);
    url = url_at(w.relay->port);
    connect_to(url);
    free(url);
    WAIT(w.relay->accepted == 3);
    CU_ASSERT_EQUAL(w.down, 1);
    CU_ASSERT_STRING_EQUAL(w.why.text, "no answer within 50 ms");
    end();
}

static void split_reads(void)
{
    enum { N = 200 };
    int i;

    begin_relayed(2);
    w.relay->dribble = true;
    relay_listen(w.relay);
    WAIT(w.up == 1);
    for (i = 0; i < N; i++)
        send_sum(i, i);
    enter(N, 0, NULL, 0); /* a duplicate, on the same connection */
    WAIT(w.done == N + 1);
    CU_ASSERT_EQUAL(failures_among(N), 0);
    check_error(N, "23505");
    for (i = 0; i < N; i++)
        CU_ASSERT_EQUAL(sums[i], i * 3);
    end();
}

/* Of several hosts the one that is there is found, by its name or its address. */
static void several_hosts(void)
{
    char *hosts, *url;

    begin();
    w.config.connections = 2;
    w.relay = relay_new(w.loop, db.host, db.port); /* refuses */
    hosts = mem_printf("127.0.0.1:%d,localhost:%d", w.relay->port, db.port);
    url = url_of(hosts, "");
    connect_to(url);
    free(hosts);
    free(url);
    WAIT(w.up == 1);
    CU_ASSERT_EQUAL(w.relay->accepted, 0);
    end();
}

static void unknown_host(void)
{
    char *url;

    begin();
    url = url_of("nowhere.invalid:5432", "");
    w.config.connect_timeout_ms = 300; /* without a name server nobody answers */
    connect_to(url);
    free(url);
    WAIT(w.down == 1);
    CU_ASSERT_TRUE(!*db.password || !strstr(w.why.text, db.password));
    end();
}

static void urls(void)
{
    static const char *const bad[] = {"", "http://127.0.0.1/chat",
                                      "postgresql://u:sesame@[::1/chat",
                                      "postgresql://u:sesame@127.0.0.1/chat?nonsense=1"};
    struct pg_config config = {.name = "test", .connections = 1};
    struct err e;
    char *url;
    size_t i;

    begin();
    for (i = 0; i < COUNT(bad); i++) {
        config.url = bad[i];
        CU_ASSERT_PTR_NULL(pg_open(w.loop, &config, NULL, NULL, &e));
        CU_ASSERT_EQUAL(e.kind, ERR_FATAL);
        CU_ASSERT_PTR_NULL(strstr(e.text, "sesame"));
    }
    url = mem_printf("postgresql+asyncpg://%s", db.url + strlen("postgresql://"));
    connect_to(url);
    free(url);
    WAIT(w.up == 1);
    free_pool();
    url = mem_printf("host='%s' port='%d' dbname='%s' user='%s' password='%s'", db.host, db.port,
                     db.database, db.user, db.password);
    connect_to(url);
    free(url);
    WAIT(w.up == 2);
    end();
}

/* ---- the end ---- */

static void free_pool_in_done(const struct pg_segment *s)
{
    (void)s;
    free_pool();
}

static void freed_under_way(void)
{
    char *url;
    int i;

    begin();
    connect_to(db.url);
    free_pool(); /* before the first turn of the loop */
    connect_to(db.url);
    send_one(0, sql_pid, NULL);
    event_base_loop(loop_base(w.loop), EVLOOP_ONCE);
    free_pool(); /* while it connects */
    url = url_of("nowhere.invalid:5432", "");
    connect_to(url);
    free(url);
    event_base_loop(loop_base(w.loop), EVLOOP_ONCE);
    free_pool(); /* while it asks for the address */
    connect_to(db.url);
    WAIT(w.up == 1);
    for (i = 0; i < 1000; i++)
        send_once(i);
    event_base_loop(loop_base(w.loop), EVLOOP_ONCE | EVLOOP_NONBLOCK);
    free_pool();
    event_base_loop(loop_base(w.loop), EVLOOP_ONCE | EVLOOP_NONBLOCK);
    CU_ASSERT_TRUE(w.done < 1000);
    end();
}

static void freed_in_callbacks(void)
{
    int i;

    begin_up(2);
    for (i = 0; i < 100; i++)
        send_once(i);
    w.works[30].then = free_pool_in_done;
    WAIT(w.pg == NULL);
    begin();
    w.on_up = free_pool;
    w.config.connections = 2;
    connect_to(db.url);
    send_once(0);
    WAIT(w.pg == NULL);
    begin();
    w.on_down = free_pool;
    w.config.connections = 2;
    connect_to("postgresql://nobody@127.0.0.1:1/none");
    send_once(0);
    WAIT(w.pg == NULL);
    begin_up(1); /* in the done() of one that is given up, with another behind it */
    send_one(0, "SELECT pg_terminate_backend(pg_backend_pid())", NULL)->then = free_pool_in_done;
    send_one(1, sql_pid, NULL);
    WAIT(w.pg == NULL);
    CU_ASSERT_EQUAL(w.works[0].calls, 1);
    CU_ASSERT_EQUAL(w.works[1].calls, 0);
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {{"many segments over several connections", many},
                           {"the order of an affinity", affinity},
                           {"segments sent from callbacks", send_from_callback},
                           {"forgotten and unsent segments", forget},
                           {"notices", notices},
                           {"parameters: NULL, UTF-8, large", parameters},
                           {"parameters, unprepared", parameters_unprepared},
                           {"much both ways", much_both_ways},
                           {"much one way", much_one_way},
                           {"an error is its segment's alone", isolation},
                           {"the same, unprepared", isolation_unprepared},
                           {"deferred constraints fail at the commit", deferred},
                           {"statements that cannot be prepared", bad_statements},
                           {"prepared statements gone stale", stale_statements},
                           {"prepared once per connection", prepared_once},
                           {"conflicts are tried again", conflicts},
                           {"backends terminated under way", terminated},
                           {"the outcome is not known", outcome_unknown},
                           {"cut again and again", cut_again_and_again},
                           {"a segment that kills its connection", poison},
                           {"up when all are up", up_when_all_are},
                           {"the server starts late", starts_late},
                           {"the server hangs up", hangs_up},
                           {"the server never answers", never_answers},
                           {"split reads", split_reads},
                           {"several hosts", several_hosts},
                           {"an unknown host", unknown_host},
                           {"URLs", urls},
                           {"freed under way", freed_under_way},
                           {"freed in callbacks", freed_in_callbacks},
                           CU_TEST_INFO_NULL};
    struct err e;
    int rc;

    log_open("test_pg", "error", NULL, &e);
    database_open();
    rc = unit_main("pg", tests);
    end();
    database_close();
    return rc;
}
