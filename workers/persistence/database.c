#include "workers/persistence/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/fault.h"
#include "common/base/log.h"

enum { SCHEMA_VERSION_NEEDED = 12, CHECK_AGAIN_MS = 1000 };

struct transaction {
    struct job *job;
    struct pg_segment *segment;
    const char *refused_state, *refusal; /* a SQLSTATE, and what it says to the caller */
    int refusal_status;
    const char *caught_state;
    transaction_caught *caught;
    transaction_done *done;
    void *state;
};

static struct {
    char *url, *host, *name, *user, *password;
    long port, connections, connect_timeout_ms, statement_timeout_ms;
    bool prepare;
} settings;

#define SETTING(member) offsetof(__typeof__(settings), member)

static const struct config_key keys[] = {
    {"DATABASE_URL", CONFIG_STRING, SETTING(url), "", 0, 1024, NULL, NULL, true,
     "postgresql://user:password@host:port/database, of a role that owns no tables and bypasses no "
     "policies. Else DB_HOST and so on."},
    {"DB_HOST", CONFIG_STRING, SETTING(host), "127.0.0.1", 1, 255, NULL, NULL, false,
     "The database's host, when there is no DATABASE_URL."},
    {"DB_PORT", CONFIG_INT, SETTING(port), "5432", 1, 65535, NULL, NULL, false, "Its port."},
    {"DB_NAME", CONFIG_STRING, SETTING(name), "chatfleet", 1, 63, NULL, NULL, false, "Its name."},
    {"DB_USER", CONFIG_STRING, SETTING(user), "chatfleet", 1, 63, NULL, NULL, false, "The role."},
    {"DB_PASSWORD", CONFIG_STRING, SETTING(password), "", 0, 1024, NULL, NULL, true,
     "The role's password."},
    {"DB_POOL_MAX", CONFIG_INT, SETTING(connections), "6", 1, 64, NULL, NULL, false,
     "Connections of this process; commits of one connection are one after the other."},
    {"DB_CONNECT_TIMEOUT_MS", CONFIG_INT, SETTING(connect_timeout_ms), "5000", 100, 600000, NULL,
     NULL, false, "How long connecting may take, in ms."},
    {"DB_STATEMENT_TIMEOUT_MS", CONFIG_INT, SETTING(statement_timeout_ms), "30000", 0, 3600000,
     NULL, NULL, false,
     "When the server gives a statement up; its message is tried again. 0: never, where a pooler "
     "refuses it."},
    {"DB_PREPARE", CONFIG_BOOL, SETTING(prepare), "true", 0, 0, NULL, NULL, false,
     "Whether statements are prepared; false behind a pooler that cannot keep them."},
};
const struct config_section database_section = {"Database", keys, sizeof(keys) / sizeof(keys[0]),
                                                &settings};

static struct worker *worker;
static struct pg *pool;
static bool checked; /* the role and the schema */
static bool serving; /* what else there is to be known is known */
static void (*ready)(void);
static struct timer *check_again;

/* ---- transactions ---- */

static uint64_t hash(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

/* Bitmaps: the bounds of a conversation's ids look selective to the planner, who does not know them
 * when it plans; it would gather all messages of the months between them. */
static const char sql_identity[] =
    "SELECT set_config('app.current_user_id', $1, true), "
    "set_config('app.current_tenant_id', $2, true), set_config('app.scope', $3, true), "
    "set_config('enable_bitmapscan', 'off', true)";

struct transaction *transaction_new_as(struct job *job, const char *affinity, const char *scope)
{
    struct transaction *t = arena_alloc(job_arena(job), sizeof(*t));
    const struct envelope *env = job_envelope(job);

    t->job = job;
    t->segment = pg_segment_new(pool, hash(affinity));
    pg_add(t->segment, sql_identity, 3, (const char *const[]){env->user_id, env->tenant_id, scope});
    return t;
}

struct transaction *transaction_new(struct job *job, const char *affinity)
{
    return transaction_new_as(job, affinity, "user");
}

struct pg_segment *database_system_segment(void)
{
    struct pg_segment *s = pg_segment_new(pool, 0);

    pg_add(s, sql_identity, 3, (const char *const[]){"", "", "system"});
    return s;
}

int transaction_add(struct transaction *t, const char *sql, int n, const char *const params[])
{
    return pg_add(t->segment, sql, n, params);
}

static const char sql_lock[] =
    "SELECT 1 FROM chat.conversations c WHERE c.id = $1::uuid FOR NO KEY UPDATE";

void transaction_lock_conversation(struct transaction *t, const char *id)
{
    transaction_add(t, sql_lock, 1, (const char *const[]){id});
}

void transaction_refuse(struct transaction *t, const char *sqlstate, int status, const char *text)
{
    t->refused_state = sqlstate;
    t->refusal = text;
    t->refusal_status = status;
}

void transaction_catch(struct transaction *t, const char *sqlstate, transaction_caught *caught)
{
    t->caught_state = sqlstate;
    t->caught = caught;
}

void transaction_alone(struct transaction *t)
{
    pg_alone(t->segment);
}

/* The database's own words name tables and constraints: they are for the log, not for callers. */
static void conceal(const struct job *job, const char *sqlstate, struct err *e)
{
    bool later = e->kind == ERR_RETRY;

    if (!*sqlstate)
        return;
    log_event(later ? LOG_WARN : LOG_ERROR, "transaction failed",
              LOG_STR("correlation_id", job_envelope(job)->correlation_id),
              LOG_STR("message_id", job_envelope(job)->message_id), LOG_STR("error", e->text));
    err_set(e, e->kind, e->status, "the database %s (%s)",
            later ? "cannot do it now" : "refuses it", sqlstate);
}

static void finished(void *arg, const struct pg_segment *s, const struct err *e)
{
    struct transaction *t = arg;
    struct err why;

    if (!e) {
        FAULT("database.committed");
        t->done(t->job, s, t->state);
        return;
    }
    if (t->caught_state && strcmp(t->caught_state, pg_sqlstate(s)) == 0) {
        t->caught(t->job, pg_detail(s));
        return;
    }
    why = *e;
    if (t->refused_state && strcmp(t->refused_state, pg_sqlstate(s)) == 0)
        err_set(&why, ERR_REJECT, t->refusal_status, "%s", t->refusal);
    else
        conceal(t->job, pg_sqlstate(s), &why);
    job_fail(t->job, &why);
}

void transaction_run(struct transaction *t, transaction_done *done, void *state)
{
    t->done = done;
    t->state = state;
    pg_send(t->segment, finished, t);
    FAULT("database.sent");
}

/* ---- the role and the schema ---- */

static const char sql_check[] =
    "SELECT chat.worker_role_fault(), (SELECT max(version) FROM chat.schema_migrations)";

static void check_answered(void *arg, const struct pg_segment *s, const struct err *e)
{
    const char *fault;
    struct err why;

    (void)arg;
    if (e && e->kind == ERR_RETRY) {
        timer_set(check_again, CHECK_AGAIN_MS);
        return;
    }
    fault = e ? NULL : pg_text(s, 0, 0, 0);
    if (e)
        err_set(&why, ERR_FATAL, 500, "the database has no schema for this role: %.150s; see %s",
                e->text, "chatfleet schema apply");
    else if (fault)
        err_set(&why, ERR_FATAL, 500, "the database role of DATABASE_URL: %.190s", fault);
    else if (pg_integer(s, 0, 0, 1) < SCHEMA_VERSION_NEEDED)
        err_set(&why, ERR_FATAL, 500,
                "the database's schema has version %d, and %d is needed: chatfleet schema apply",
                (int)pg_integer(s, 0, 0, 1), SCHEMA_VERSION_NEEDED);
    else
        checked = true;
    if (checked)
        ready();
    else
        worker_fail(worker, &why);
}

/* ---- life ---- */

static void check(void *arg)
{
    struct pg_segment *s = pg_segment_new(pool, 0);

    (void)arg;
    pg_add(s, sql_check, 0, NULL);
    pg_send(s, check_answered, NULL);
}

static void up(void *arg)
{
    static bool asked;

    (void)arg;
    if (serving)
        worker_can_serve(worker, true);
    else if (!asked) /* the answer comes, however often the database goes */
        check(NULL);
    asked = true;
}

static void down(void *arg, const struct err *why)
{
    (void)arg;
    (void)why;
    worker_can_serve(worker, false);
}

/* A value of a connection string: within quotes, which it may contain. */
static void put_value(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, "%s='", name);
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\')
            buf_puts(b, "\\");
        buf_add(b, value, 1);
    }
    buf_puts(b, "' ");
}

static char *connection_string(void)
{
    struct buf b;
    char port[16];

    if (*settings.url)
        return mem_strdup(settings.url);
    buf_init(&b, 16384);
    snprintf(port, sizeof(port), "%ld", settings.port);
    put_value(&b, "host", settings.host);
    put_value(&b, "port", port);
    put_value(&b, "dbname", settings.name);
    put_value(&b, "user", settings.user);
    if (*settings.password)
        put_value(&b, "password", settings.password);
    return b.data;
}

int database_start(struct worker *w, void (*then)(void), struct err *e)
{
    static const struct pg_events events = {up, down};
    char *url = connection_string();
    struct pg_config config = {.url = url,
                               .name = worker_instance(w),
                               .connections = (int)settings.connections,
                               .prepare = settings.prepare,
                               .connect_timeout_ms = settings.connect_timeout_ms,
                               .statement_timeout_ms = settings.statement_timeout_ms,
                               .backoff_max_ms = 5000};

    worker = w;
    ready = then;
    check_again = timer_new(worker_loop(w), check, NULL);
    pool = pg_open(worker_loop(w), &config, &events, NULL, e);
    free(url);
    return pool ? 0 : -1;
}

void database_stop(void)
{
    pg_free(pool);
    timer_free(check_again);
    pool = NULL;
    check_again = NULL;
}

void database_serve(void)
{
    serving = true;
    worker_can_serve(worker, pg_is_up(pool));
}

bool database_is_up(void)
{
    return serving && pg_is_up(pool);
}

bool database_healthy(json_t *dependencies)
{
    bool well = database_is_up();

    json_object_set_new(dependencies, "database",
                        json_pack("{s:s}", "status", well ? "healthy" : "unhealthy"));
    return well;
}
