/*
 * Idempotency keys: the same key and payload give the first outcome. The key is written in the
 * transaction of what it stands for; its row names the id of the first request, by which the outcome
 * is found.
 */
#ifndef PERSISTENCE_IDEMPOTENCY_H
#define PERSISTENCE_IDEMPOTENCY_H

#include "common/io/pg.h"
#include "common/worker/worker.h"

/* The columns of a key's row for idempotency_judge(), and where it is: $1 tenant, $2 user, $3 key,
 * $4 operation, $5 hash of the payload. */
#define IDEMPOTENCY_SELECT                                                                         \
    "SELECT k.message_id, k.operation = $4::text AND k.payload_hash = $5::uuid "                   \
    "FROM chat.idempotency_keys k "                                                                \
    "WHERE k.tenant_id = $1 AND k.user_id = $2::uuid AND k.key = $3::text"

/* What the arguments come to, whatever their order: a UUID, in the job's arena. How the answer is
 * to come (stream, async) is left out. */
const char *idempotency_hash(struct job *job);

/* The id of the request that the key stands for; NULL when there is no such key. -1 with a 422 when
 * it stands for another payload. */
int idempotency_judge(const struct pg_segment *s, int statement, const char **first, struct err *e);

#endif
