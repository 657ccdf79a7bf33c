/*
 * The runtime of every worker. A worker is a table of operations and their handlers; everything
 * else (consuming, decoding, validating, settling, retrying, draining, health, metrics) is here.
 *
 * A handler gets a job and ends it, now or later, by exactly one of job_reply(), job_forward() and
 * job_fail(). It never acks, sleeps, exits or reads the environment.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <jansson.h>

#include "common/base/config.h"
#include "common/base/err.h"
#include "common/chat/envelope.h"
#include "common/io/loop.h"

struct job;

typedef void job_handler(struct job *job);

struct worker_operation {
    const char *name; /* in the table of common/chat/operations.c */
    job_handler *handle;
};

struct worker_kind {
    const char *name;    /* "context-builder"; its queues stand in common/chat/topology.c */
    const char *purpose; /* one sentence, for --help */
    const struct worker_operation *operations;
    size_t operations_count;
    const struct config_section *settings; /* of its own; may be NULL */
    size_t settings_count;
};

/* Run until SIGTERM; returns the exit code. */
int worker_main(const struct worker_kind *kind, int argc, char **argv);

/* ---- a job ---- */

const struct envelope *job_envelope(const struct job *job);
json_t *job_body(const struct job *job);  /* an object, valid by the operation's table; borrowed */
struct arena *job_arena(struct job *job); /* lives as long as the job */

/* Answer the caller; status is the HTTP status. Takes the body. */
void job_reply(struct job *job, int status, json_t *body);
/* Hand on to the next step of the slip (with no step left: a reply with 200). Takes the body. */
void job_forward(struct job *job, json_t *body);
/* e->kind decides: retried with a delay, answered, or dead-lettered. */
void job_fail(struct job *job, const struct err *e);

#endif
