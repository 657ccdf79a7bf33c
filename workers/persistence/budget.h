/*
 * Budgets of tenants. A turn reserves what it may need in the transaction that begins it, and is settled
 * in the one that ends it: the reservation is released and the real cost counted, once, however often that
 * transaction is done. What is spent and reserved together never exceeds the budget, so parallel turns
 * cannot overspend it as long as no turn needs more than it reserves.
 *
 * The tenant's row is locked last, by transactions that share with no others (transaction_alone), so who
 * waits for it holds nothing that its holder could want. Tenants without a budget cost no statement.
 */
#ifndef PERSISTENCE_BUDGET_H
#define PERSISTENCE_BUDGET_H

#include "common/io/pg.h"
#include "workers/persistence/database.h"

/* To be added last, to a transaction that may begin the turn. Over budget nothing of it is written, and
 * the job is refused with 402. */
void budget_reserve(struct transaction *t, struct job *job, const char *turn_id);

/* To be added last, to a transaction that may end the turn or change what it cost. */
void budget_settle(struct transaction *t, struct job *job, const char *turn_id);

/* The same for the turns that a sweep ends, and for those that ended without it: to be added behind their
 * end, before the mark is moved. */
void budget_settle_swept(struct pg_segment *s);

#endif
