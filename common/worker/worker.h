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
struct worker;

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

    /* What the kind needs beside the broker, a database, say; each may be NULL. */
    int (*start)(struct worker *w, struct err *e); /* once, before anything is consumed */
    void (*stop)(void);                            /* once, at the end */
    bool (*healthy)(json_t *dependencies); /* adds to the health's answer; returns if all is well */

    /* A message on chat.control, which every process of the kind gets (docs/PROTOCOL.md): its type
     * is env->type, body an object. What is sent while the broker is away is missed. NULL: they are
     * not for this kind. */
    void (*control)(const struct envelope *env, const json_t *body);
};

/* Run until SIGTERM; returns the exit code. */
int worker_main(const struct worker_kind *kind, int argc, char **argv);

struct loop *worker_loop(struct worker *w);
const char *worker_instance(const struct worker *w); /* "context-builder@HOST:PID" */

/* Say whether jobs can be done now. While not, nothing is consumed, and what came is held, so that
 * no attempt is used up. A worker with start() cannot serve until this is called. */
void worker_can_serve(struct worker *w, bool yes);

/* How many processes consume the kind's first queue, this one included, as the broker counted of late.
 * The first call begins the counting, every WORKER_COUNT_MS; 1 while it is not known. */
enum { WORKER_COUNT_MS = 2000 };
long worker_processes(struct worker *w);

/* The start was in vain (a wrong schema, say): ends the process with the error's line. */
void worker_fail(struct worker *w, const struct err *e);

/* ---- a job ---- */

const struct envelope *job_envelope(const struct job *job);
json_t *job_body(const struct job *job);  /* an object, valid by the operation's table; borrowed */
struct arena *job_arena(struct job *job); /* lives as long as the job */

/* How often the turn's generation was begun, this time included: 1, or more when the message was
 * delivered again or tried again. */
int job_epoch(const struct job *job);

/* ---- what comes before a job's end ---- */

/* Something for the caller to know before the answer; type is TYPE_ACCEPTED, say. Transient, and
 * lost when it cannot be sent at once. Takes the body. */
void job_notice(struct job *job, const char *type, json_t *body);
/* A piece of the answer's text: n bytes of UTF-8, of whole characters, with offset bytes of the
 * same epoch before it. Like a notice, or several where one would be too large. */
void job_delta(struct job *job, int epoch, size_t offset, const char *text, size_t n);

/* Somebody who follows a turn that another caller began: both by TYPE_GENERATED and by deltas. */
struct follower {
    const char *reply_to, *correlation_id;
};
/* The same two to a follower, who is told nothing else. */
void job_notice_to(struct job *job, const struct follower *to, const char *type, json_t *body);
void job_delta_to(struct job *job, const struct follower *to, int epoch, size_t offset,
                  const char *text, size_t n);

/* Tell every process that listens on chat.control; it is safe before the job's message is acked.
 * Counts as one of the EVENTS_MAX. Takes the body. */
void job_control(struct job *job, const char *type, json_t *body);

/* Tell all who listen what happened, as a CloudEvent on chat.events; it is safe before the job's
 * message is acked. Up to EVENTS_MAX a job. Takes the data. */
enum { EVENTS_MAX = 2 };
void job_event(struct job *job, const char *type, const char *subject, json_t *data);

/* Have another operation done beside it, for the same user: a message of its own, confirmed before the job's
 * is acked, however the job ends. Nobody gets its answer. One a job; a queue that is not there is logged and
 * stops nothing. Takes the body, which should not be large. */
void job_aside(struct job *job, const char *operation, json_t *body);
/* The same at once, of a job that goes on: false when it cannot be sent now. It is not waited for, so
 * that it is lost if the broker goes away at this moment. */
bool job_aside_now(struct job *job, const char *operation, json_t *body);

/* ---- a job's end ---- */

/* Answer the caller; status is the HTTP status. Takes the body. */
void job_reply(struct job *job, int status, json_t *body);
/* Hand on to the next step of the slip (with no step left: a reply with 200). Takes the body. */
void job_forward(struct job *job, json_t *body);
/* Answer the caller with 202, and hand on to the next step, whose answer nobody gets. Takes both. */
void job_accept(struct job *job, json_t *answer, json_t *body);
/* Answer the caller with an error whose problem details are known. Takes the problem. */
void job_refuse(struct job *job, int status, json_t *problem);
/* e->kind decides: retried with a delay, answered, or dead-lettered. A step of a turn that fails for
 * good hands the problem to turn.fail, which ends the turn and tells the caller. */
void job_fail(struct job *job, const struct err *e);
/* A step of a turn fails for good, but has come to something: the same with ERR_FATAL, only that the next step
 * of the slip ends the turn instead of turn.fail; it gets the body and, beside what is in it, the
 * problem. Where there is no such step, or that message would be too large, it is job_fail(). Takes the
 * body. */
void job_fail_partly(struct job *job, const struct err *e, json_t *body);
/* What the caller asked for cannot be done: job_fail() with a reject. */
void job_reject(struct job *job, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
