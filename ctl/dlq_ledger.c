#include "ctl/dlq_ledger.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/text.h"
#include "common/io/pg.h"
#include "common/io/pg_script.h"
#include "ctl/ctl.h"

enum {
    CONNECTIONS = 4,
    CONNECT_TIMEOUT_MS = 10000,
    STATEMENT_TIMEOUT_MS = 60000,
    BACKOFF_MAX_MS = 2000,
};

#define COLUMNS                                                                                    \
    "state, claim, run, claimed_by, "                                                              \
    "to_char(claimed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), "                \
    "to_char(done_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), "                   \
    "floor(extract(epoch FROM claimed_at) * 1000)::bigint, "                                       \
    "floor(extract(epoch FROM failed_at) * 1000)::bigint"

/* $1 dead letter, $2 fingerprint, as in all that follow. */
static const char sql_look[] = "SELECT " COLUMNS " FROM chat.replay_ledger "
                               "WHERE dead_letter_id = $1::uuid AND fingerprint = $2::uuid";

/* $3 queue, $4 operation, $5 message, $6 tenant, $7 failed, in ms, $8 state, $9 target, $10 edited, $11
 * claim, $12 run, $13 who */
static const char sql_put[] =
    "INSERT INTO chat.replay_ledger (dead_letter_id, fingerprint, queue, operation, message_id, "
    "tenant_id, failed_at, state, target, edited, claim, run, claimed_by, done_at) "
    "VALUES ($1::uuid, $2::uuid, $3, $4, $5, $6, to_timestamp($7::bigint / 1000.0), $8::text, $9, "
    "$10::boolean, $11::uuid, $12::uuid, $13, CASE $8::text WHEN 'dropped' THEN now() END) "
    "ON CONFLICT DO NOTHING";

/* $3 failed, $4 state, $5 target, $6 edited, $7 claim, $8 run, $9 who, $10 the claim in whose place */
static const char sql_take_over[] =
    "UPDATE chat.replay_ledger SET failed_at = to_timestamp($3::bigint / 1000.0), "
    "state = $4::text, target = $5, edited = $6::boolean, claim = $7::uuid, run = $8::uuid, "
    "claimed_by = $9, claimed_at = now(), done_at = NULL "
    "WHERE dead_letter_id = $1::uuid AND fingerprint = $2::uuid AND claim = $10::uuid";

static const char sql_done[] =
    "UPDATE chat.replay_ledger SET state = 'replayed', done_at = now() "
    "WHERE dead_letter_id = $1::uuid AND fingerprint = $2::uuid AND claim = $3::uuid";
static const char sql_release[] =
    "DELETE FROM chat.replay_ledger WHERE dead_letter_id = $1::uuid AND fingerprint = $2::uuid "
    "AND claim = $3::uuid AND state = 'claimed'";
static const char sql_undrop[] =
    "DELETE FROM chat.replay_ledger WHERE dead_letter_id = $1::uuid AND fingerprint = $2::uuid "
    "AND state = 'dropped'";
static const char sql_check[] = "SELECT 1 FROM chat.replay_ledger LIMIT 1";

static const char *const state_names[] = {"", "claimed", "replayed", "dropped"};

const char *ledger_state_name(enum ledger_state state)
{
    return state_names[state];
}

bool ledger_same_failure(const struct ledger_row *row, const struct letter *l)
{
    return (row->state == LEDGER_REPLAYED || row->state == LEDGER_DROPPED) &&
           (row->failed_ms == l->failed_ms || l->failed_ms <= row->claimed_ms);
}

static enum ledger_state state_of(const char *name)
{
    int i;

    for (i = LEDGER_CLAIMED; i <= LEDGER_DROPPED; i++)
        if (name && strcmp(name, state_names[i]) == 0)
            return (enum ledger_state)i;
    return LEDGER_NOTHING;
}

/* A row of COLUMNS, by whatever reads them. */
static void read_row(const char *(*text)(const void *from, int column), const void *from,
                     struct ledger_row *row)
{
    const char *value;
    int i;
    const struct {
        char *into;
        size_t size;
    } texts[] = {{row->claim, sizeof(row->claim)},
                 {row->run, sizeof(row->run)},
                 {row->claimed_by, sizeof(row->claimed_by)},
                 {row->claimed_at, sizeof(row->claimed_at)},
                 {row->done_at, sizeof(row->done_at)}};

    row->state = state_of(text(from, 0));
    for (i = 0; i < 5; i++) {
        value = text(from, i + 1);
        snprintf(texts[i].into, texts[i].size, "%s", value ? value : "");
    }
    value = text(from, 6);
    row->claimed_ms = value ? strtoll(value, NULL, 10) : 0;
    value = text(from, 7);
    row->failed_ms = value ? strtoll(value, NULL, 10) : 0;
}

/* ---- on the loop ---- */

struct ledger {
    struct ctl_session *session;
    struct pg *pg;
    struct timer *late;
    loop_cb *ready; /* until it is told */
    void *arg;
    char run[UUID_TEXT];
    char who[LEDGER_WHO];
    LIST_HEAD(, asked) asked;
    struct err last;
};

/* A question on its way. */
struct asked {
    LIST_ENTRY(asked) link;
    ledger_cb *cb;
    void *arg;
    int row; /* statement */
};

static void tell_ready(struct ledger *l, const struct err *e)
{
    loop_cb *ready = l->ready;

    timer_stop(l->late);
    l->ready = NULL;
    if (!ready || l->session->ended)
        return;
    if (!e) {
        ready(l->arg);
        return;
    }
    fprintf(stderr, "chatfleet: DATABASE_ADMIN_URL: %s\n", e->text);
    ctl_session_end(l->session, e->kind == ERR_RETRY ? EXIT_UNAVAILABLE : EXIT_CONFIG);
}

static void explain_missing(const char *sqlstate, struct err *e)
{
    if (strcmp(sqlstate, "42P01") == 0 || strcmp(sqlstate, "3F000") == 0)
        err_set(e, ERR_FATAL, 500, "the database has no ledger of replays: chatfleet schema apply");
}

static void checked(void *arg, const struct pg_segment *s, const struct err *e)
{
    struct err why;

    if (!e) {
        tell_ready(arg, NULL);
        return;
    }
    why = *e;
    explain_missing(pg_sqlstate(s), &why);
    tell_ready(arg, &why);
}

static void up(void *arg)
{
    struct ledger *l = arg;
    struct pg_segment *s;

    if (!l->ready)
        return;
    s = pg_segment_new(l->pg, 0);
    pg_add(s, sql_check, 0, NULL);
    pg_send(s, checked, l);
}

static void down(void *arg, const struct err *why)
{
    struct ledger *l = arg;

    l->last = *why;
}

static void too_late(void *arg)
{
    struct ledger *l = arg;
    struct err e;

    err_set(&e, ERR_RETRY, 503, "not reached in time%s%.200s", *l->last.text ? ": " : "",
            l->last.text);
    tell_ready(l, &e);
}

static void name_us(char who[LEDGER_WHO])
{
    const struct passwd *user = getpwuid(getuid());
    char host[64] = "";

    gethostname(host, sizeof(host) - 1);
    snprintf(who, LEDGER_WHO, "%.40s@%.60s:%ld", user ? user->pw_name : "?", host, (long)getpid());
}

static int check_url(struct err *e)
{
    if (*ctl_admin_url())
        return 0;
    return err_set(e, ERR_FATAL, 500, "DATABASE_ADMIN_URL is not set");
}

static struct ledger *open_pool(struct ctl_session *s, loop_cb *ready, void *arg, struct err *e)
{
    static const struct pg_events events = {up, down};
    const struct pg_config config = {.url = ctl_admin_url(),
                                     .name = "chatfleet dlq",
                                     .connections = CONNECTIONS,
                                     .prepare = true,
                                     .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                     .statement_timeout_ms = STATEMENT_TIMEOUT_MS,
                                     .backoff_max_ms = BACKOFF_MAX_MS};
    struct ledger *l;

    if (check_url(e))
        return NULL;
    l = mem_alloc(sizeof(*l));
    l->session = s;
    l->ready = ready;
    l->arg = arg;
    uuid_v7(l->run);
    name_us(l->who);
    l->late = timer_new(s->loop, too_late, l);
    timer_set(l->late, CONNECT_TIMEOUT_MS);
    l->pg = pg_open(s->loop, &config, &events, l, e);
    if (!l->pg) {
        ledger_free(l);
        return NULL;
    }
    return l;
}

struct ledger *ledger_open(struct ctl_session *s, loop_cb *ready, void *arg)
{
    struct err e;
    struct ledger *l = open_pool(s, ready, arg, &e);

    if (!l) {
        fprintf(stderr, "chatfleet: %s\n", e.text);
        ctl_session_end(s, EXIT_CONFIG);
    }
    return l;
}

void ledger_free(struct ledger *l)
{
    struct asked *a;

    if (!l)
        return;
    pg_free(l->pg);
    while ((a = LIST_FIRST(&l->asked))) {
        LIST_REMOVE(a, link);
        free(a);
    }
    timer_free(l->late);
    free(l);
}

const char *ledger_run(const struct ledger *l)
{
    return l->run;
}

struct found {
    const struct pg_segment *segment;
    int statement;
};

static const char *found_text(const void *from, int column)
{
    const struct found *f = from;

    return pg_text(f->segment, f->statement, 0, column);
}

static void answered(void *arg, const struct pg_segment *s, const struct err *e)
{
    struct asked *a = arg;
    const struct found found = {s, a->row};
    struct ledger_row row = {0};

    if (!e && pg_rows(s, a->row) > 0)
        read_row(found_text, &found, &row);
    LIST_REMOVE(a, link);
    a->cb(a->arg, e ? NULL : &row, e);
    free(a);
}

static uint64_t affinity(const char *id)
{
    char tail[13];

    memcpy(tail, id + 24, sizeof(tail));
    return strtoull(tail, NULL, 16);
}

/* Send it with a look at what it led to. */
static void send(struct ledger *l, struct pg_segment *s, const char *id, const char *print,
                 ledger_cb *cb, void *arg)
{
    struct asked *a = mem_alloc(sizeof(*a));

    LIST_INSERT_HEAD(&l->asked, a, link);
    a->cb = cb;
    a->arg = arg;
    a->row = pg_add(s, sql_look, 2, (const char *const[]){id, print});
    pg_send(s, answered, a);
}

/* What PostgreSQL takes of a text that anybody may have written. */
static const char *clean(struct arena *a, const char *text)
{
    char *copy = arena_strdup(a, text);

    if (copy)
        text_utf8_mend(copy);
    return copy;
}

void ledger_put(struct ledger *l, const struct letter *letter, const struct ledger_claim *c,
                ledger_cb *cb, void *arg)
{
    struct pg_segment *s = pg_segment_new(l->pg, affinity(letter->id));
    const char *state = ledger_state_name(c->state), *edited = c->edited ? "t" : "f";
    struct arena *a = arena_new();
    char failed[24];

    snprintf(failed, sizeof(failed), "%lld", (long long)letter->failed_ms);
    if (c->in_place_of)
        pg_add(s, sql_take_over, 10,
               (const char *const[]){letter->id, letter->print, letter->failed_ms ? failed : NULL,
                                     state, c->target, edited, c->claim, l->run, l->who,
                                     c->in_place_of});
    else
        pg_add(s, sql_put, 13,
               (const char *const[]){letter->id, letter->print, letter->queue,
                                     clean(a, letter->operation),
                                     clean(a, letter->message->message_id),
                                     clean(a, letter->tenant), letter->failed_ms ? failed : NULL,
                                     state, c->target, edited, c->claim, l->run, l->who});
    arena_free(a); /* the segment has copies */
    send(l, s, letter->id, letter->print, cb, arg);
}

static void change(struct ledger *l, const char *sql, const char *id, const char *print,
                   const char *claim, ledger_cb *cb, void *arg)
{
    struct pg_segment *s = pg_segment_new(l->pg, affinity(id));

    pg_add(s, sql, 3, (const char *const[]){id, print, claim});
    send(l, s, id, print, cb, arg);
}

void ledger_done(struct ledger *l, const char *id, const char *print, const char *claim,
                 ledger_cb *cb, void *arg)
{
    change(l, sql_done, id, print, claim, cb, arg);
}

void ledger_release(struct ledger *l, const char *id, const char *print, const char *claim,
                    ledger_cb *cb, void *arg)
{
    change(l, sql_release, id, print, claim, cb, arg);
}

/* ---- looking, which blocks ---- */

struct ledger_view {
    struct pg_script *db;
    struct map *claimed; /* NULL: not asked yet */
};

enum { KEY = 2 * (UUID_TEXT - 1) };

static const char sql_claimed[] = "SELECT dead_letter_id || '' || fingerprint "
                                  "FROM chat.replay_ledger WHERE state = 'claimed'";

static void load_claimed(struct ledger_view *v)
{
    struct pg_script_result *r = pg_script_query(v->db, sql_claimed, 0, NULL, NULL);
    int i;

    v->claimed = map_new();
    for (i = 0; r && i < pg_script_rows(r); i++)
        map_put(v->claimed, pg_script_text(r, i, 0), KEY, v);
    pg_script_result_free(r);
}

bool ledger_is_claimed(struct ledger_view *v, const struct letter *l)
{
    char key[KEY + 1];

    if (!v->claimed)
        load_claimed(v);
    snprintf(key, sizeof(key), "%s%s", l->id, l->print);
    return map_get(v->claimed, key, KEY) != NULL;
}

struct ledger_view *ledger_view_open(struct err *why)
{
    struct pg_script_result *r = NULL;
    struct ledger_view *v;

    if (check_url(why))
        return NULL;
    v = mem_alloc(sizeof(*v));
    v->db = pg_script_open(ctl_admin_url(), "chatfleet dlq", CONNECT_TIMEOUT_MS / 1000, why);
    if (v->db)
        r = pg_script_query(v->db, sql_check, 0, NULL, why);
    if (!r) {
        ledger_view_free(v);
        return NULL;
    }
    pg_script_result_free(r);
    return v;
}

void ledger_view_free(struct ledger_view *v)
{
    if (!v)
        return;
    pg_script_close(v->db);
    map_free(v->claimed);
    free(v);
}

static const char *result_text(const void *from, int column)
{
    return pg_script_text(from, 0, column);
}

int ledger_look(struct ledger_view *v, const struct letter *l, struct ledger_row *row,
                struct err *e)
{
    const char *const params[] = {l->id, l->print};
    struct pg_script_result *r = pg_script_query(v->db, sql_look, 2, params, e);

    memset(row, 0, sizeof(*row));
    if (!r)
        return -1;
    if (pg_script_rows(r) > 0)
        read_row(result_text, r, row);
    pg_script_result_free(r);
    return 0;
}

int ledger_undrop(struct ledger_view *v, const struct letter *l, struct err *e)
{
    const char *const params[] = {l->id, l->print};
    struct pg_script_result *r = pg_script_query(v->db, sql_undrop, 2, params, e);

    if (!r)
        return -1;
    pg_script_result_free(r);
    return 0;
}
