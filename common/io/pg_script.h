/*
 * PostgreSQL for tools: one connection that blocks, to run scripts and single queries. What runs on
 * an event loop uses pg.h.
 */
#ifndef IO_PG_SCRIPT_H
#define IO_PG_SCRIPT_H

#include <stddef.h>

#include "common/base/err.h"

struct pg_script;
struct pg_script_result;

/* Connect within so many seconds; purpose is shown in pg_stat_activity. The URL may be one of
 * SQLAlchemy's (postgresql+asyncpg://). On failure NULL: ERR_FATAL when it cannot be read, ERR_RETRY when
 * the server was not reached or refused the login. */
struct pg_script *pg_script_open(const char *url, const char *purpose, int timeout_s,
                                 struct err *e);
void pg_script_close(struct pg_script *s); /* NULL is allowed; what is not committed is undone */

int pg_script_server_version(const struct pg_script *s); /* as in 150004 for 15.4 */

/* The user that an URL names; the caller frees it. NULL when there is none or no URL. */
char *pg_script_url_user(const char *url);

/* Run a script's statements one by one. Stops at the first that fails: the error's text begins with
 * its line ("line 12: …"). A script that runs within a transaction may not end it. */
int pg_script_run(struct pg_script *s, const char *sql, struct err *e);

/* Run one statement with n parameters as texts (NULL: SQL's NULL). Its result is the caller's. */
struct pg_script_result *pg_script_query(struct pg_script *s, const char *sql, int n,
                                         const char *const *params, struct err *e);
int pg_script_rows(const struct pg_script_result *r);
/* A value, or NULL for SQL's NULL; it lives with the result. */
const char *pg_script_text(const struct pg_script_result *r, int row, int column);
void pg_script_result_free(struct pg_script_result *r); /* NULL is allowed */

/* Move *sql over spaces and comments to the next statement, and return its length with the semicolon;
 * 0 at the end. Knows quotes, dollar quotes and comments; neither backslashes in E'' texts nor psql's
 * commands. */
size_t pg_script_statement(const char **sql);

#endif
