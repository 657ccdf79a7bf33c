#include "common/io/pg_script.h"

#include <ctype.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

/* Its only content is libpq's; the types keep libpq out of the header. */
struct pg_script {
    PGconn *conn;
};
struct pg_script_result {
    PGresult *result;
};

/* ---- URLs ---- */

static char *plain_url(const char *url)
{
    static const char alchemy[] = "postgresql+asyncpg://";

    if (strncmp(url, alchemy, sizeof(alchemy) - 1) == 0)
        return mem_printf("postgresql://%s", url + sizeof(alchemy) - 1);
    return mem_strdup(url);
}

/* libpq's own message would show the password. */
static PQconninfoOption *parse_url(const char *url, struct err *e)
{
    PQconninfoOption *options = NULL;
    bool known = strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0;

    if (known)
        options = PQconninfoParse(url, NULL);
    if (!options)
        err_set(e, ERR_FATAL, 500, "not of the form postgresql://user:password@host:port/database");
    return options;
}

char *pg_script_url_user(const char *url)
{
    char *plain = plain_url(url), *user = NULL;
    PQconninfoOption *options = parse_url(plain, NULL), *o;

    for (o = options; o && o->keyword; o++)
        if (strcmp(o->keyword, "user") == 0)
            user = mem_strdup(o->val);
    PQconninfoFree(options);
    free(plain);
    return user;
}

/* ---- errors ---- */

/* libpq's messages end in a line break and may have several lines. */
static int set_error(struct err *e, enum err_kind kind, const char *where, const char *message)
{
    char *text = mem_strdup(message), *p = text + strlen(text);

    while (p > text && p[-1] == '\n')
        *--p = '\0';
    for (p = text; (p = strchr(p, '\n'));)
        *p = ' ';
    err_set(e, kind, 500, "%s%s", where, text);
    free(text);
    return -1;
}

static enum err_kind kind_of(const PGconn *conn)
{
    return PQstatus(conn) == CONNECTION_BAD ? ERR_RETRY : ERR_FATAL;
}

/* ---- connection ---- */

struct pg_script *pg_script_open(const char *url, const char *purpose, int timeout_s, struct err *e)
{
    char *plain = plain_url(url), timeout[16];
    PQconninfoOption *options = parse_url(plain, e);
    struct pg_script *s = NULL;

    if (options) {
        const char *const words[] = {"connect_timeout", "dbname", "client_encoding",
                                     "application_name", NULL};
        const char *const values[] = {timeout, plain, "UTF8", purpose, NULL};

        snprintf(timeout, sizeof(timeout), "%d", timeout_s);
        s = mem_alloc(sizeof(*s));
        s->conn = PQconnectdbParams(words, values, 1);
        if (PQstatus(s->conn) != CONNECTION_OK) {
            set_error(e, ERR_RETRY, "", PQerrorMessage(s->conn));
            pg_script_close(s);
            s = NULL;
        }
    }
    PQconninfoFree(options);
    free(plain);
    return s;
}

void pg_script_close(struct pg_script *s)
{
    if (!s)
        return;
    PQfinish(s->conn);
    free(s);
}

int pg_script_server_version(const struct pg_script *s)
{
    return PQserverVersion(s->conn);
}

/* ---- statements of a script ---- */

/* Past the end of a quoted text that begins at p; to the end of all where none comes. */
static const char *skip_quoted(const char *p)
{
    const char *end = strchr(p + 1, *p); /* a doubled quote is two texts without a gap */

    return end ? end + 1 : p + strlen(p);
}

static bool in_name(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* Names may contain dollars that quote nothing. */
static const char *skip_name(const char *p)
{
    while (in_name(*p) || *p == '$')
        p++;
    return p;
}

static const char *skip_dollar_quoted(const char *p)
{
    const char *end = p + 1;
    char *tag;

    while (in_name(*end))
        end++;
    if (*end != '$' || isdigit((unsigned char)p[1]))
        return p + 1; /* a parameter */
    tag = mem_strndup(p, (size_t)(end + 1 - p));
    p = strstr(end + 1, tag);
    p = p ? p + strlen(tag) : end + strlen(end);
    free(tag);
    return p;
}

static const char *skip_comment(const char *p)
{
    int depth = 0;

    if (*p == '-')
        return p + strcspn(p, "\n");
    do { /* block comments nest */
        if (strncmp(p, "/*", 2) == 0)
            depth++;
        else if (strncmp(p, "*/", 2) == 0)
            depth--;
        else
            p--;
        p += 2;
    } while (depth > 0 && *p);
    return p;
}

static bool comment_begins(const char *p)
{
    return strncmp(p, "--", 2) == 0 || strncmp(p, "/*", 2) == 0;
}

size_t pg_script_statement(const char **sql)
{
    const char *p = *sql;

    while (*p && (isspace((unsigned char)*p) || comment_begins(p)))
        p = comment_begins(p) ? skip_comment(p) : p + 1;
    *sql = p;
    while (*p) {
        if (*p == '\'' || *p == '"')
            p = skip_quoted(p);
        else if (*p == '$')
            p = skip_dollar_quoted(p);
        else if (comment_begins(p))
            p = skip_comment(p);
        else if (in_name(*p))
            p = skip_name(p);
        else if (*p++ == ';')
            break;
    }
    return (size_t)(p - *sql);
}

/* ---- running ---- */

/* The line of a statement's error in its script: where the server says, else where it begins. */
static int line_of(const char *script, const char *statement, const PGresult *result)
{
    const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION), *p;
    long characters = position ? strtol(position, NULL, 10) : 0;
    int line = 1;

    for (p = script; p < statement; p++)
        line += *p == '\n';
    for (; *p && characters > 1; p++) {
        line += *p == '\n';
        characters -= ((unsigned char)p[1] & 0xc0) != 0x80; /* up to the next one's first byte */
    }
    return line;
}

static int statement_failed(struct pg_script *s, const PGresult *result, int line, struct err *e)
{
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    char where[32] = "", *text;

    if (line > 0)
        snprintf(where, sizeof(where), "line %d: ", line);
    text = mem_printf("%s%s%s%s", primary ? primary : PQerrorMessage(s->conn), detail ? " (" : "",
                      detail ? detail : "", detail ? ")" : "");
    set_error(e, kind_of(s->conn), where, text);
    free(text);
    return -1;
}

static bool worked(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

static int run_one(struct pg_script *s, const char *script, const char *statement, size_t n,
                   struct err *e)
{
    char *text = mem_strndup(statement, n);
    PGresult *result = PQexec(s->conn, text);
    int failed = 0;

    if (!worked(result))
        failed = statement_failed(s, result, line_of(script, statement, result), e);
    PQclear(result);
    free(text);
    return failed;
}

int pg_script_run(struct pg_script *s, const char *sql, struct err *e)
{
    bool transaction = PQtransactionStatus(s->conn) == PQTRANS_INTRANS;
    const char *next = sql;
    size_t n;

    for (; (n = pg_script_statement(&next)) > 0; next += n) {
        if (run_one(s, sql, next, n, e))
            return -1;
        if (transaction && PQtransactionStatus(s->conn) != PQTRANS_INTRANS)
            return err_set(e, ERR_FATAL, 500, "line %d: a script may not end its transaction",
                           line_of(sql, next, NULL));
    }
    return 0;
}

struct pg_script_result *pg_script_query(struct pg_script *s, const char *sql, int n,
                                         const char *const *params, struct err *e)
{
    PGresult *result = PQexecParams(s->conn, sql, n, NULL, params, NULL, NULL, 0);
    struct pg_script_result *r;

    if (!worked(result)) {
        statement_failed(s, result, 0, e);
        PQclear(result);
        return NULL;
    }
    r = mem_alloc(sizeof(*r));
    r->result = result;
    return r;
}

int pg_script_rows(const struct pg_script_result *r)
{
    return PQntuples(r->result);
}

const char *pg_script_text(const struct pg_script_result *r, int row, int column)
{
    return PQgetisnull(r->result, row, column) ? NULL : PQgetvalue(r->result, row, column);
}

void pg_script_result_free(struct pg_script_result *r)
{
    if (!r)
        return;
    PQclear(r->result);
    free(r);
}
