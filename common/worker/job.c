#include "common/worker/worker_internal.h"

#include <stdlib.h>
#include <string.h>

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

/* What must be right before the body is looked at. */
static int check_envelope(struct job *job, struct err *e)
{
    struct envelope *env = &job->envelope;
    struct subscription *from = job->from;

    if (!env->type)
        return err_set(e, ERR_FATAL, 400, "the message has no type, which names its operation");
    job->operation = operation_find(env->type);
    job->handler = find_handler(from->worker->kind, env->type);
    if (!job->operation || !job->handler)
        return err_set(e, ERR_FATAL, 404, "no operation %.100s is served at queue %s", env->type,
                       from->queue->name);
    if (env->reply_to && topology_owns_queue(env->reply_to)) {
        env->reply_to = NULL;
        return err_set(e, ERR_REJECT, 400, "reply_to names a queue of the fleet");
    }
    if (job->message.content_encoding && *job->message.content_encoding)
        return err_set(e, ERR_FATAL, 415, "the body's encoding %.60s is not known",
                       job->message.content_encoding);
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

/* The broker delivers a message again, whose job is still under way here: the connection was lost
 * in between. The job goes on, and acks the new delivery. */
static bool adopt_delivery(struct worker *w, const struct mq_delivery *d)
{
    const char *id = d->message->message_id;
    struct job *job;

    if (!d->redelivered || !id)
        return false;
    TAILQ_FOREACH(job, &w->jobs, link)
    {
        if (job->epoch == d->epoch || !job->envelope.message_id ||
            strcmp(job->envelope.message_id, id) != 0)
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
    struct arena *arena;
    struct job *job;
    struct err e;

    if (d->oversized) { /* the broker has it whole and dead-letters it */
        log_event(LOG_WARN, "message over MAX_MESSAGE_BYTES dead-lettered",
                  LOG_STR("queue", from->queue->name), LOG_STR("operation", d->message->type),
                  LOG_STR("correlation_id", d->message->correlation_id),
                  LOG_STR("message_id", d->message->message_id));
        mq_nack(w->consume_channel, d->tag, d->epoch, false);
        return;
    }
    if (adopt_delivery(w, d))
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

    if (job->envelope.version < ENVELOPE_VERSION_OLDEST ||
        job->envelope.version > ENVELOPE_VERSION) {
        settle_hold(job);
        return;
    }
    if (check_envelope(job, &e) || read_body(job, &errors, &e)) {
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
