#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/io/pg_script.h"
#include "ctl/ctl.h"
#include "ctl/schema_files.h"

enum {
    CONNECT_TIMEOUT_S = 10,
    SERVER_VERSION_MIN = 150000,
    MIGRATIONS_MAX = 1000, /* their numbers have three digits */
    TEXT_MAX = 256,
};

static struct settings {
    char *admin_url, *worker_url;
    long lock_timeout_ms;
} settings;

#define SETTING(member) offsetof(struct settings, member)

static const struct config_key keys[] = {
    {"DATABASE_ADMIN_URL", CONFIG_STRING, SETTING(admin_url), "", 0, 2048, NULL, NULL, true,
     "PostgreSQL as a role that owns the schema (a superuser, or one with BYPASSRLS), "
     "postgresql://user:password@host:port/database."},
    {"DATABASE_URL", CONFIG_STRING, SETTING(worker_url), "", 0, 2048, NULL, NULL, true,
     "PostgreSQL as the workers' role: schema apply makes it a member of chat_worker."},
    {"SCHEMA_LOCK_TIMEOUT_MS", CONFIG_INT, SETTING(lock_timeout_ms), "10000", 1, 3600000, NULL,
     NULL, false,
     "How long a migration waits for a lock, in milliseconds: everybody else waits behind it."},
};
const struct config_section ctl_schema_section = {"Database", keys, sizeof(keys) / sizeof(keys[0]),
                                                  &settings};

const char *ctl_admin_url(void)
{
    return settings.admin_url;
}

/* A migration of this build, of the ledger, or of both. */
struct migration {
    int version;
    const struct schema_file *file; /* NULL: a newer build's */
    char name[TEXT_MAX];
    char applied_at[TEXT_MAX]; /* empty: pending */
    bool changed;              /* the file is not the one that was applied */
};

struct schema {
    struct pg_script *db;
    struct migration migrations[MIGRATIONS_MAX];
    size_t count;
    size_t pending, changed;
};

/* ---- the connection ---- */

static int complain(const char *what, const struct err *e)
{
    fprintf(stderr, "chatfleet: %s: %s\n", what, e->text);
    return EXIT_REFUSED;
}

static int open_database(struct schema *s, const char *url, const char *setting)
{
    struct err e;

    if (!*url) {
        fprintf(stderr, "chatfleet: %s is not set\n", setting);
        return EXIT_CONFIG;
    }
    s->db = pg_script_open(url, "chatfleet schema", CONNECT_TIMEOUT_S, &e);
    if (!s->db) {
        complain(setting, &e);
        return e.kind == ERR_RETRY ? EXIT_UNAVAILABLE : EXIT_CONFIG;
    }
    if (pg_script_server_version(s->db) < SERVER_VERSION_MIN) {
        fprintf(stderr, "chatfleet: PostgreSQL %d is wanted, %s is a server of version %d\n",
                SERVER_VERSION_MIN / 10000, setting, pg_script_server_version(s->db) / 10000);
        return EXIT_REFUSED;
    }
    return EXIT_DONE;
}

/* The first value of a query with at most one parameter into text; empty for NULL or no row. */
static int ask(struct schema *s, const char *sql, const char *param, char text[TEXT_MAX],
               struct err *e)
{
    struct pg_script_result *r = pg_script_query(s->db, sql, param ? 1 : 0, &param, e);
    const char *value;

    if (!r)
        return -1;
    value = pg_script_rows(r) > 0 ? pg_script_text(r, 0, 0) : NULL;
    snprintf(text, TEXT_MAX, "%s", value ? value : "");
    pg_script_result_free(r);
    return 0;
}

static int tell(struct schema *s, const char *sql, struct err *e)
{
    char text[TEXT_MAX];

    return ask(s, sql, NULL, text, e);
}

/* ---- what is applied ---- */

static const char sql_ledger_exists[] =
    "SELECT 'yes' FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "
    "c.relnamespace"
    " WHERE n.nspname = 'chat' AND c.relname = 'schema_migrations'";

static const char sql_ledger[] =
    "SELECT version, name, checksum,"
    " to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    " FROM chat.schema_migrations ORDER BY version";

static struct migration *add_migration(struct schema *s, int version, const char *name)
{
    struct migration *m;
    size_t i;

    for (i = 0; i < s->count; i++)
        if (s->migrations[i].version == version)
            return &s->migrations[i];
    if (s->count == MIGRATIONS_MAX)
        return NULL;
    m = &s->migrations[s->count++];
    m->version = version;
    snprintf(m->name, sizeof(m->name), "%s", name);
    return m;
}

static void add_files(struct schema *s)
{
    size_t i;

    for (i = 0; i < schema_files_count; i++)
        if (schema_files[i].version > 0)
            add_migration(s, schema_files[i].version, schema_files[i].name)->file =
                &schema_files[i];
}

static void add_ledger_row(struct schema *s, const struct pg_script_result *r, int row)
{
    int version = (int)strtol(pg_script_text(r, row, 0), NULL, 10);
    struct migration *m = add_migration(s, version, pg_script_text(r, row, 1));

    if (!m)
        return;
    snprintf(m->applied_at, sizeof(m->applied_at), "%s", pg_script_text(r, row, 3));
    m->changed = m->file && strcmp(m->file->checksum, pg_script_text(r, row, 2)) != 0;
}

/* Join the files of this build with the ledger of the database. */
static int load(struct schema *s, struct err *e)
{
    struct pg_script_result *r;
    char exists[TEXT_MAX];
    size_t i;
    int row;

    add_files(s);
    if (ask(s, sql_ledger_exists, NULL, exists, e))
        return -1;
    if (*exists) {
        r = pg_script_query(s->db, sql_ledger, 0, NULL, e);
        if (!r)
            return -1;
        for (row = 0; row < pg_script_rows(r); row++)
            add_ledger_row(s, r, row);
        pg_script_result_free(r);
    }
    for (i = 0; i < s->count; i++) {
        s->pending += !*s->migrations[i].applied_at;
        s->changed += s->migrations[i].changed;
    }
    return 0;
}

/* ---- status ---- */

static const char *state_of(const struct migration *m)
{
    if (!*m->applied_at)
        return "pending";
    if (m->changed)
        return "changed";
    return m->file ? "applied" : "newer";
}

static void print_json(const struct schema *s)
{
    json_t *list = json_array(), *all;
    size_t i;

    for (i = 0; i < s->count; i++) {
        const struct migration *m = &s->migrations[i];

        json_array_append_new(list, json_pack("{s:i, s:s, s:s, s:s?}", "version", m->version,
                                              "name", m->name, "state", state_of(m), "applied_at",
                                              *m->applied_at ? m->applied_at : NULL));
    }
    all = json_pack("{s:b, s:o}", "applied", !s->pending && !s->changed, "migrations", list);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

static void print_table(const struct schema *s)
{
    size_t i;

    printf("%-8s %-28s %s\n", "VERSION", "NAME", "APPLIED AT");
    for (i = 0; i < s->count; i++) {
        const struct migration *m = &s->migrations[i];

        printf("%03d      %-28s %s%s\n", m->version, m->name,
               *m->applied_at ? m->applied_at : "pending",
               m->changed ? "  CHANGED since"
               : m->file  ? ""
                          : "  by a newer build");
    }
}

static int changed_code(const struct schema *s)
{
    size_t i;

    for (i = 0; i < s->count; i++)
        if (s->migrations[i].changed)
            fprintf(stderr,
                    "chatfleet: %s is not the file that was applied: an applied migration "
                    "never changes\n",
                    s->migrations[i].name);
    return EXIT_REFUSED;
}

static int status(struct schema *s, bool json)
{
    struct err e;
    bool admin = *settings.admin_url || !*settings.worker_url;
    int code = open_database(s, admin ? settings.admin_url : settings.worker_url,
                             admin ? "DATABASE_ADMIN_URL" : "DATABASE_URL");

    if (code)
        return code;
    if (load(s, &e))
        return complain("the ledger of migrations cannot be read", &e);
    if (json)
        print_json(s);
    else
        print_table(s);
    if (s->changed)
        return changed_code(s);
    return s->pending ? EXIT_PENDING : EXIT_DONE;
}

/* ---- apply: before the migrations ---- */

static const char sql_admin[] = "SELECT CASE WHEN rolsuper OR rolbypassrls THEN '' ELSE rolname END"
                                " FROM pg_catalog.pg_roles WHERE rolname = current_user";

/* Forced policies bind owners, too: a weaker role's updates would silently change nothing. */
static int check_admin(struct schema *s)
{
    char weak[TEXT_MAX];
    struct err e;

    if (ask(s, sql_admin, NULL, weak, &e))
        return complain("the role cannot be checked", &e);
    if (!*weak)
        return EXIT_DONE;
    fprintf(stderr,
            "chatfleet: the role %s of DATABASE_ADMIN_URL is neither a superuser nor has "
            "BYPASSRLS\n",
            weak);
    return EXIT_CONFIG;
}

static const char sql_lock_now[] =
    "SELECT 'locked' WHERE pg_try_advisory_lock(hashtextextended('chatfleet schema', 0))";
static const char sql_lock[] = "SELECT pg_advisory_lock(hashtextextended('chatfleet schema', 0))";

/* One apply at a time in a database. The lock ends with the connection. */
static int lock(struct schema *s, struct err *e)
{
    char locked[TEXT_MAX];

    if (ask(s, sql_lock_now, NULL, locked, e))
        return -1;
    if (*locked)
        return 0;
    fputs("chatfleet: another schema apply is at work; waiting for it\n", stderr);
    return tell(s, sql_lock, e);
}

static const char script_session[] = "SET search_path = pg_catalog;"
                                     "SET statement_timeout = 0;"
                                     "SET client_min_messages = warning;"
                                     "SET timezone = 'UTC';";
static const char sql_lock_timeout[] = "SELECT set_config('lock_timeout', $1, false)";

static int prepare(struct schema *s, struct err *e)
{
    char milliseconds[24], text[TEXT_MAX];
    size_t i;

    snprintf(milliseconds, sizeof(milliseconds), "%ld", settings.lock_timeout_ms);
    if (lock(s, e) || pg_script_run(s->db, script_session, e) ||
        ask(s, sql_lock_timeout, milliseconds, text, e) || tell(s, "BEGIN", e))
        return -1;
    for (i = 0; i < schema_files_count; i++)
        if (schema_files[i].version == 0 &&
            pg_script_run(s->db, (const char *)schema_files[i].text, e))
            return err_context(e, "%s", schema_files[i].name);
    return tell(s, "COMMIT", e);
}

/* ---- apply: the migrations ---- */

static const char sql_record[] = "INSERT INTO chat.schema_migrations (version, name, checksum)"
                                 " VALUES ($1::int, $2, $3)";

static int apply_statements(struct schema *s, const struct schema_file *file, struct err *e)
{
    char version[16];
    const char *params[] = {version, file->name, file->checksum};
    struct pg_script_result *r;

    snprintf(version, sizeof(version), "%d", file->version);
    if (tell(s, "BEGIN", e) || pg_script_run(s->db, (const char *)file->text, e))
        return -1;
    r = pg_script_query(s->db, sql_record, 3, params, e);
    if (!r)
        return -1;
    pg_script_result_free(r);
    return tell(s, "COMMIT", e);
}

static int apply_file(struct schema *s, const struct schema_file *file)
{
    int64_t began = clock_monotonic_us();
    struct err e;

    if (apply_statements(s, file, &e)) {
        tell(s, "ROLLBACK", NULL);
        fprintf(stderr, "chatfleet: %s, %s\n", file->name, e.text);
        fprintf(stderr, "chatfleet: nothing of %s was applied\n", file->name);
        return EXIT_REFUSED;
    }
    printf("applied %s (%lld ms)\n", file->name,
           (long long)((clock_monotonic_us() - began) / 1000));
    fflush(stdout);
    return EXIT_DONE;
}

static int apply_pending(struct schema *s)
{
    const struct migration *m, *last = NULL;
    size_t i;
    int code;

    for (i = 0; i < s->count; i++)
        if (*s->migrations[i].applied_at && (!last || s->migrations[i].version > last->version))
            last = &s->migrations[i];
    for (i = 0; i < s->count; i++) {
        m = &s->migrations[i];
        if (*m->applied_at)
            continue;
        if (last && m->version < last->version) {
            fprintf(stderr, "chatfleet: %s comes too late: %s was applied already\n", m->name,
                    last->name);
            return EXIT_REFUSED;
        }
        code = apply_file(s, m->file);
        if (code)
            return code;
    }
    if (!s->pending)
        printf("all %zu migrations were applied before\n", s->count);
    return EXIT_DONE;
}

/* ---- apply: what is looked after each time ---- */

enum { MONTHS_AHEAD = 3 }; /* each is locked by every statement that reads messages */

static int ensure_partitions(struct schema *s)
{
    char months[16], made[TEXT_MAX];
    struct err e;

    snprintf(months, sizeof(months), "%d", MONTHS_AHEAD);
    if (ask(s, "SELECT chat.messages_partitions_ensure($1::int)", months, made, &e))
        return complain("partitions of chat.messages", &e);
    if (strcmp(made, "0") != 0)
        printf("made %s monthly partitions of chat.messages\n", made);
    return EXIT_DONE;
}

static const char sql_is_missing[] =
    "SELECT 'missing' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
static const char sql_grant[] = "SELECT format('GRANT chat_worker TO %I', $1::text)"
                                " WHERE NOT pg_has_role($1::name, 'chat_worker', 'MEMBER')";
static const char sql_fault[] = "SELECT chat.worker_role_fault($1::name)";

/* Another database's apply may make the same grant at the same time: the fault tells. */
static int grant(struct schema *s, const char *user, char fault[TEXT_MAX], struct err *e)
{
    char text[TEXT_MAX];
    struct err refused = {0};

    if (ask(s, sql_grant, user, text, e))
        return -1;
    if (*text && tell(s, text, &refused) == 0)
        printf("granted chat_worker to %s\n", user);
    if (ask(s, sql_fault, user, fault, e))
        return -1;
    if (*fault && *refused.text)
        snprintf(fault, TEXT_MAX, "%.200s", refused.text);
    return 0;
}

/* Give the workers' role its rights, and see that it has no more than these. */
static int look_after_worker(struct schema *s)
{
    char *user, text[TEXT_MAX] = "";
    int code = EXIT_DONE;
    struct err e;

    if (!*settings.worker_url)
        return EXIT_DONE;
    user = pg_script_url_user(settings.worker_url);
    if (!user) {
        fputs("chatfleet: DATABASE_URL names no user\n", stderr);
        return EXIT_CONFIG;
    }
    if (ask(s, sql_is_missing, user, text, &e)) {
        code = complain(user, &e);
    } else if (*text) {
        fprintf(stderr, "chatfleet: there is no role %s, which DATABASE_URL names: create it\n",
                user);
        code = EXIT_CONFIG;
    } else if (grant(s, user, text, &e)) {
        code = complain(user, &e);
    } else if (*text) {
        fprintf(stderr, "chatfleet: DATABASE_URL: %s: workers will refuse it\n", text);
        code = EXIT_CONFIG;
    }
    free(user);
    return code;
}

static int apply(struct schema *s)
{
    struct err e;
    int code = open_database(s, settings.admin_url, "DATABASE_ADMIN_URL");

    if (!code)
        code = check_admin(s);
    if (code)
        return code;
    if (prepare(s, &e) || load(s, &e))
        return complain("schema apply", &e);
    if (s->changed)
        return changed_code(s);
    code = apply_pending(s);
    if (!code)
        code = ensure_partitions(s);
    if (!code)
        code = look_after_worker(s);
    return code;
}

int ctl_schema(int argc, char **argv)
{
    bool json = false;
    const struct option_value options[] = {{"--json", NULL, &json}, {0}};
    int n = ctl_options(options, argc, argv), code = EXIT_USAGE;
    struct schema *s = mem_alloc(sizeof(*s));

    if (n == 1 && strcmp(argv[0], "status") == 0)
        code = status(s, json);
    else if (n == 1 && strcmp(argv[0], "apply") == 0 && !json)
        code = apply(s);
    else if (n >= 0)
        fputs("usage: chatfleet schema status [--json] | schema apply\n", stderr);
    pg_script_close(s->db);
    free(s);
    return code;
}
