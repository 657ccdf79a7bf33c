/*
 * The worker's PostgreSQL: its settings, its pool, and transactions under a job's identity, which
 * is what row level security goes by.
 */
#ifndef PERSISTENCE_DATABASE_H
#define PERSISTENCE_DATABASE_H

#include "common/base/config.h"
#include "common/io/pg.h"
#include "common/worker/worker.h"

extern const struct config_section database_section;

/* For struct worker_kind. The worker serves while the database is there, and is ended when it would
 * see through the policies, or when the schema is not there. */
int database_start(struct worker *w, struct err *e);
void database_stop(void);
bool database_healthy(json_t *dependencies);
bool database_is_up(void);

struct transaction;

/* Gets the results of the statements; it was committed. */
typedef void transaction_done(struct job *job, const struct pg_segment *result, void *state);

/* affinity: transactions with the same text (a conversation's id) never wait for each other. */
struct transaction *transaction_new(struct job *job, const char *affinity);

/* Add a statement with n parameters; returns its number for the results. */
int transaction_add(struct transaction *t, const char *sql, int n, const char *const params[]);

/* An error with this SQLSTATE is the caller's: a reject with this status and text. One a
 * transaction. */
void transaction_refuse(struct transaction *t, const char *sqlstate, int status, const char *text);

/* Of no message: for what the worker does by itself, and sees all tenants. */
struct pg_segment *database_system_segment(void);

/* Run it. On an error the job fails, else done is called; state is the caller's. */
void transaction_run(struct transaction *t, transaction_done *done, void *state);

#endif
