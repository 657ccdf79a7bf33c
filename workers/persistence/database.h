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

/* For struct worker_kind. The worker is ended when it would see through the policies, or when the
 * schema is not there. Else ready is called, once; the worker serves from database_serve() on, while
 * the database is there. */
int database_start(struct worker *w, void (*ready)(void), struct err *e);
void database_serve(void);
void database_stop(void);
bool database_healthy(json_t *dependencies);
bool database_is_up(void);

struct transaction;

/* Gets the results of the statements; it was committed. */
typedef void transaction_done(struct job *job, const struct pg_segment *result, void *state);

/* affinity: transactions with the same text (a conversation's id) never wait for each other. */
struct transaction *transaction_new(struct job *job, const char *affinity);
/* The same with another scope than the user's: "tenant" or "system". */
struct transaction *transaction_new_as(struct job *job, const char *affinity, const char *scope);

/* Add a statement with n parameters; returns its number for the results. */
int transaction_add(struct transaction *t, const char *sql, int n, const char *const params[]);

/* Whoever ends a turn has locked its conversation so: the next statement sees the turn as it will be. */
void transaction_lock_conversation(struct transaction *t, const char *id);

/* An error with this SQLSTATE is the caller's: a reject with this status and text. One a
 * transaction. */
void transaction_refuse(struct transaction *t, const char *sqlstate, int status, const char *text);

/* An error with this SQLSTATE is for caught to answer, who gets the error's detail. One a
 * transaction. */
typedef void transaction_caught(struct job *job, const char *detail);
void transaction_catch(struct transaction *t, const char *sqlstate, transaction_caught *caught);

/* It shares no transaction with others: what it locks is free again as soon as it is done. */
void transaction_alone(struct transaction *t);

/* Of no message: for what the worker does by itself, and sees all tenants. */
struct pg_segment *database_system_segment(void);

/* Run it. On an error the job fails, else done is called; state is the caller's. */
void transaction_run(struct transaction *t, transaction_done *done, void *state);

#endif
