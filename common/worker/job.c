#include "common/worker/worker_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/chat/validate.h"

static const struct worker_operation *find_handler(const struct worker_kind *kind, const char *name)
{
    size_t i;

    for (i = 0; i < kind->operations_count; i++)
        if (strcmp(kind->operations[i].name, name) == 0)
            return &kind->operations[i];
    return NULL;
}

const struct envelope *job_envelope(const struct job *job)
{
    return &job->envelope;
}

json_t *job_body(const struct job *job)
{
    return job->body;
}

struct arena *job_arena(struct job *job)
{
    return job->arena;
}

void job_reply(struct job *job, int status, json_t *body)
{
    settle_reply(job, status, body);
}

void job_forward(struct job *job, json_t *body)
{
    const char *slip = job->envelope.slip, *space;

    if (!slip) {
        settle_reply(job, 200, body);
        return;
    }
    space = strchr(slip, ' ');
    if (space)
        settle_forward(job, arena_strndup(job->arena, slip, (size_t)(space - slip)), space + 1,
                       body);
    else
        settle_forward(job, slip, NULL, body);
}

void job_fail(struct job *job, const struct err *e)
{
    settle_failure(job, e, NULL);
}

/* Before anything else is found wrong, so that no complaint goes to a queue of ours. */
static int check_reply_to(struct envelope *env, struct err *e)
{
    if (!env->reply_to || !topology_owns_queue(env->reply_to))
        return 0;
    env->reply_to = NULL;
    return err_set(e, ERR_REJECT, 400, "reply_to names a queue of the fleet");
}

/* What must be right before the body is looked at. */
static int check_envelope(struct job *job, struct err *e)
{
    struct envelope *env = &job->envelope;
    struct subscription *from = job->from;
    const char *encoding = job->message.content_encoding;

    if (!env->type)
        return err_set(e, ERR_FATAL, 400, "the message has no type, which names its operation");
    job->operation = operation_find(env->type);
    job->handler = find_handler(from->worker->kind, env->type);
    if (!job->operation || !job->handler)
        return err_set(e, ERR_FATAL, 404, "no operation %.100s is served at queue %s", env->type,
                       from->queue->name);
    if (encoding && *encoding && strcasecmp(encoding, "utf-8") != 0 &&
        strcasecmp(encoding, "identity") != 0)
        return err_set(e, ERR_FATAL, 415, "the body's encoding %.60s is not known", encoding);
    return 0;
}

static int read_body(struct job *job, json_t **errors, struct err *e)
{
    job->body = validate_parse(job->message.body, job->message.body_len, e);
    if (!job->body) {
        e->kind = ERR_FATAL; /* not wrong arguments, but no message at all */
        return -1;
    }
    return validate_args(job->operation, job->body, errors, e);
}

static bool too_late(const struct job *job)
{
    return !job->operation->write && job->envelope.deadline_ms &&
           job->envelope.deadline_ms < clock_wall_ms();
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* An id alone does not make it the same: callers may use one for all of their messages. */
static bool same_message(const struct mq_message *a, const struct mq_message *b)
{
    return same_text(a->message_id, b->message_id) &&
           same_text(a->correlation_id, b->correlation_id) && same_text(a->type, b->type) &&
           same_text(a->reply_to, b->reply_to) && a->body_len == b->body_len &&
           memcmp(a->body, b->body, a->body_len) == 0;
}

/* The broker delivers a message again, whose job is still under way here: the connection was lost
 * in between. The job goes on, and acks the new delivery. */
static bool adopt_delivery(struct subscription *from, const struct mq_delivery *d)
{
    struct job *job;

    if (!d->redelivered || !d->message->message_id)
        return false;
    TAILQ_FOREACH (job, &from->worker->jobs, link) {
        if (job->epoch == d->epoch || job->from != from || !same_message(&job->message, d->message))
            continue;
        job->tag = d->tag;
        job->epoch = d->epoch;
        return true;
    }
    return false;
}

void job_start(struct worker *w, struct subscription *from, const struct mq_delivery *d)
{
    struct mq_message message;
    json_t *errors = NULL;
    bool misdirected;
    struct arena *arena;
    struct job *job;
    struct err e;

    if (adopt_delivery(from, d))
        return;
    arena = mq_take(d, &message);
    job = arena_alloc(arena, sizeof(*job));
    job->arena = arena;
    job->worker = w;
    job->from = from;
    job->tag = d->tag;
    job->epoch = d->epoch;
    job->started_us = clock_monotonic_us();
    job->message = message;
    envelope_decode(&job->message, &job->envelope);
    TAILQ_INSERT_TAIL(&w->jobs, job, link);
    w->jobs_count++;

    misdirected = check_reply_to(&job->envelope, &e) != 0;
    if (d->oversized) { /* the body is not here, only the broker can pass it on */
        err_set(&e, ERR_FATAL, 413, "the body is larger than %ld bytes",
                process_settings.message_max);
        settle_refusal(job, &e);
        return;
    }
    if (job->envelope.version < ENVELOPE_VERSION_OLDEST ||
        job->envelope.version > ENVELOPE_VERSION) {
        settle_hold(job);
        return;
    }
    if (misdirected || check_envelope(job, &e) || read_body(job, &errors, &e)) {
        settle_failure(job, &e, errors);
        json_decref(errors);
        return;
    }
    if (too_late(job)) {
        settle_drop(job, "late");
        return;
    }
    job->handler->handle(job);
}

void job_free(struct job *job)
{
    struct worker *w = job->worker;

    TAILQ_REMOVE(&w->jobs, job, link);
    w->jobs_count--;
    if (job->stalled)
        TAILQ_REMOVE(&w->stalled, job, stalled_link);
    json_decref(job->body);
    arena_free(job->arena);
}
