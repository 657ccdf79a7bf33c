/*
 * PostgreSQL: a pool of connections in pipeline mode under the event loop. The only place that
 * calls libpq. Nothing here ever blocks.
 *
 * A segment is done whole or not at all: its statements are sent together, ended by a Sync, and
 * nothing is waited for in between. Success is told only when the Sync came back without an error, so
 * also what is checked at the commit (a deferred constraint) has been checked.
 *
 * While one transaction is under way on a connection, the segments behind it gather, and share the
 * next one. When something of it fails, all of it is rolled
 * back and each of its segments is tried in a transaction of its own, so that an error is told to the
 * segment it belongs to and to no other. What a segment sets for its transaction (SET LOCAL,
 * set_config(..., true)) may so be seen by the next one, which must set it anew if it matters.
 *
 * Segments with the same affinity (those of one conversation, say) use the same connection and run
 * in the order in which they were sent. The one exception: a segment that another transaction made
 * fail (a deadlock, a serialization failure) is tried again behind those that are already waiting,
 * at most PG_CONFLICTS_MAX times; after that it fails with ERR_RETRY.
 *
 * When a connection is lost, its segments are sent again on the next one, also those whose outcome
 * is not known: so all statements must be made such that doing them twice is doing them once. A
 * segment that loses its connection PG_LOSSES_MAX times fails with ERR_RETRY. While the database is
 * away the segments wait; how many there may be is for the caller to bound (pg_under_way()).
 */
#ifndef IO_PG_H
#define IO_PG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/io/loop.h"

enum {
    PG_LOSSES_MAX = 5,
    PG_CONFLICTS_MAX = 3,
    PG_STATEMENTS_MAX = 80, /* of a segment */
};

struct pg;
struct pg_segment;

struct pg_config {
    /* postgresql://user:password@host:port/database?parameters, with all that libpq knows: several
     * hosts, local sockets, sslmode, …; or libpq's other form, keyword='value' … */
    const char *url;
    const char *name; /* application_name: shown in pg_stat_activity */
    int connections;  /* at least 1 */
    /* Statements are prepared once per connection. To be false behind a pooler that gives each
     * transaction another connection and does not know prepared statements (PgBouncer before
     * 1.21). */
    bool prepare;
    long connect_timeout_ms;   /* for the address, the connection and the login */
    long statement_timeout_ms; /* the server ends one that takes longer; 0: it does not */
    long backoff_max_ms;       /* between attempts; the waits grow up to it and are jittered */
};

struct pg_events {
    void (*up)(void *arg); /* all connections are there (again); may be NULL */
    /* Not all connections are there any more, or the first attempt failed: send nothing new. Told
     * once until it is up again; it is tried again meanwhile. When all connections are lost the
     * first may be back before the last is known to be gone: then up comes in between. May be
     * NULL. */
    void (*down)(void *arg, const struct err *why);
};

/* Fails only when the URL cannot be read. The strings of the config are copied. Connecting starts
 * in the next turn of the loop. All callbacks come from the loop, never from within a call. */
struct pg *pg_open(struct loop *l, const struct pg_config *config, const struct pg_events *events,
                   void *arg, struct err *e);
/* At once; no callback is called any more. Allowed in every callback. NULL is allowed. */
void pg_free(struct pg *pg);
bool pg_is_up(const struct pg *pg);       /* all connections are there */
size_t pg_under_way(const struct pg *pg); /* segments sent or waiting */

/* Gets the results; e is NULL when the transaction is committed. The kind of e is ERR_RETRY when
 * it may work later and else ERR_FATAL; a caller who expects a certain error (a constraint, say)
 * looks at pg_sqlstate(). The segment is freed after it. */
typedef void pg_done(void *arg, const struct pg_segment *s, const struct err *e);

/* An empty segment, the caller's until pg_send(). */
struct pg_segment *pg_segment_new(struct pg *pg, uint64_t affinity);
void pg_segment_free(struct pg_segment *s); /* one that was not sent; NULL is allowed */

/* Add a statement. sql is a constant whose address stands for it; the n parameters are texts (NULL:
 * SQL's NULL) and are copied. Returns its number within the segment: 0, 1, … */
int pg_add(struct pg_segment *s, const char *sql, int n, const char *const *params);

/* It is not to share a transaction: for one that locks what others wait for. */
void pg_alone(struct pg_segment *s);

/* Send it; done is called once, from the loop. The segment belongs to the pool from here on. */
void pg_send(struct pg_segment *s, pg_done *done, void *arg);
/* Before done: it will not be called; the statements run all the same. */
void pg_forget(struct pg_segment *s);

/* ---- results, within done; what is not there reads as no rows, 0 and NULL ---- */

int pg_rows(const struct pg_segment *s, int statement);     /* of a SELECT or RETURNING */
long pg_changed(const struct pg_segment *s, int statement); /* by INSERT, UPDATE, DELETE */
const char *pg_text(const struct pg_segment *s, int statement, int row, int column); /* or NULL */
int64_t pg_integer(const struct pg_segment *s, int statement, int row, int column);  /* NULL: 0 */
/* The SQLSTATE of the error: five characters, or "" when there is none or the server told none. */
const char *pg_sqlstate(const struct pg_segment *s);
const char *pg_detail(const struct pg_segment *s); /* that the server added to it, or "" */

#endif
