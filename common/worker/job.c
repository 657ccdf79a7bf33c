#include "common/worker/worker_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/base/uuid.h"
#include "common/chat/identity.h"
#include "common/chat/validate.h"

enum {
    WRITE_AHEAD_MS = 5 * 60 * 1000, /* how far the caller's clock may be ahead */
    DAY_MS = 24 * 60 * 60 * 1000,
    TENANT_MAX_BYTES = 64,
};

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

int job_epoch(const struct job *job)
{
    int64_t begun = job->envelope.epoch ? job->envelope.epoch : 1;

    begun += job->envelope.deliveries;
    return begun < INT32_MAX ? (int)begun : INT32_MAX - 1; /* one may be added */
}

void job_notice(struct job *job, const char *type, json_t *body)
{
    job_notice_to(job, &(struct follower){job->envelope.reply_to, job->envelope.correlation_id},
                  type, body);
}

void job_notice_to(struct job *job, const struct follower *to, const char *type, json_t *body)
{
    settle_notice(job, to, type, body, 0, 0);
}

void job_delta(struct job *job, int epoch, size_t offset, const char *text, size_t n)
{
    job_delta_to(job, &(struct follower){job->envelope.reply_to, job->envelope.correlation_id},
                 epoch, offset, text, n);
}

/* Bytes of whole characters that fit into a message as JSON, where one of them may take six. */
static size_t piece_of(const char *text, size_t n)
{
    size_t max = (size_t)process_settings.message_max / 8;

    if (n <= max)
        return n;
    while (max > 1 && ((unsigned char)text[max] & 0xc0) == 0x80)
        max--;
    return max;
}

void job_delta_to(struct job *job, const struct follower *to, int epoch, size_t offset,
                  const char *text, size_t n)
{
    size_t piece;

    for (; n > 0; text += piece, offset += piece, n -= piece) {
        piece = piece_of(text, n);
        settle_notice(job, to, TYPE_DELTA, json_pack("{s:s%}", "text", text, piece), epoch,
                      (int64_t)offset);
    }
}

void job_control(struct job *job, const char *type, json_t *body)
{
    settle_control(job, type, body);
}

void job_event(struct job *job, const char *type, const char *subject, json_t *data)
{
    settle_event(job, type, subject, data);
}

void job_aside(struct job *job, const char *operation, json_t *body)
{
    settle_aside(job, operation, body);
}

bool job_aside_now(struct job *job, const char *operation, json_t *body)
{
    return settle_aside_now(job, operation, body);
}

void job_refuse(struct job *job, int status, json_t *problem)
{
    settle_problem(job, status, problem);
}

/* The steps left. Those of an operation that callers begin are its own, whatever they say. */
static const char *steps_left(const struct job *job)
{
    if (job->operation->step)
        return job->envelope.slip;
    return *job->operation->slip ? job->operation->slip : NULL;
}

static void forward(struct job *job, json_t *body, json_t *answer)
{
    const char *slip = steps_left(job), *space;

    if (!slip) {
        json_decref(answer);
        settle_reply(job, 200, body);
        return;
    }
    space = strchr(slip, ' ');
    if (space)
        settle_forward(job, arena_strndup(job->arena, slip, (size_t)(space - slip)), space + 1,
                       body, answer);
    else
        settle_forward(job, slip, NULL, body, answer);
}

void job_forward(struct job *job, json_t *body)
{
    forward(job, body, NULL);
}

void job_accept(struct job *job, json_t *answer, json_t *body)
{
    forward(job, body, answer);
}

void job_fail_partly(struct job *job, const struct err *e, json_t *body)
{
    const char *slip = steps_left(job);
    struct err why = *e;

    why.kind = ERR_FATAL;
    job->partly = body;
    if (slip)
        job->ends_by = arena_strndup(job->arena, slip, strcspn(slip, " "));
    settle_failure(job, &why, NULL);
}

void job_reject(struct job *job, int status, const char *fmt, ...)
{
    struct err e = {.kind = ERR_REJECT, .status = status};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(e.text, sizeof(e.text), fmt, ap);
    va_end(ap);
    job_fail(job, &e);
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

/* A turn whose step nobody serves (an older worker, say) ends all the same, so its body is read. */
static int not_served(struct job *job, struct err *e)
{
    struct err ignored;

    if (job->operation && job->operation->step)
        job->body = validate_parse_step(job->message.body, job->message.body_len, &ignored);
    return err_set(e, ERR_FATAL, 404, "no operation %.100s is served at queue %s",
                   job->envelope.type, job->from->queue->name);
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
        return not_served(job, e);
    if (encoding && *encoding && strcasecmp(encoding, "utf-8") != 0 &&
        strcasecmp(encoding, "identity") != 0)
        return err_set(e, ERR_FATAL, 415, "the body's encoding %.60s is not known", encoding);
    return 0;
}

/* Whose it is, and that doing it twice can be told from doing two things. */
static int check_identity(struct job *job, struct err *e)
{
    const struct operation *op = job->operation;
    struct envelope *env = &job->envelope;
    int64_t now = clock_wall_ms(), made;

    if (!env->tenant_id)
        env->tenant_id = TENANT_DEFAULT;
    if (op->personal && !uuid_valid(env->user_id))
        return err_set(e, ERR_REJECT, 401, "x-user-id must be the UUID of a user");
    if (text_utf8_length(env->tenant_id, strlen(env->tenant_id)) < 0 ||
        strlen(env->tenant_id) > TENANT_MAX_BYTES)
        return err_set(e, ERR_REJECT, 400, "x-tenant-id must be text of at most %d bytes",
                       TENANT_MAX_BYTES);
    if (op->role == ROLE_ADMIN && !identity_has_role(env->roles, ROLE_NAME_ADMIN) &&
        !identity_has_role(env->roles, ROLE_NAME_SERVICE))
        return err_set(e, ERR_REJECT, 403, "%s wants the role %s or %s", op->name, ROLE_NAME_ADMIN,
                       ROLE_NAME_SERVICE);
    if (env->idempotency_key && validate_idempotency_key(env->idempotency_key, e))
        return -1;
    if (!op->write || op->step)
        return 0;
    made = uuid_time_ms(env->message_id);
    if (made < 0)
        return err_set(e, ERR_REJECT, 400, "the message_id of a write must be a UUID of version 7");
    if (made > now + WRITE_AHEAD_MS ||
        (!env->replay_of && made < now - chat_limits.write_age_days * DAY_MS))
        return err_set(e, ERR_REJECT, 400,
                       "the message_id's time must be at most %ld days ago and 5 minutes ahead",
                       chat_limits.write_age_days);
    return 0;
}

static int read_body(struct job *job, json_t **errors, struct err *e)
{
    job->body = job->operation->step
                    ? validate_parse_step(job->message.body, job->message.body_len, e)
                    : validate_parse(job->message.body, job->message.body_len, e);
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
    FAULT_BODY(message.body, message.body_len);
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
    if (misdirected || check_envelope(job, &e) || read_body(job, &errors, &e) ||
        check_identity(job, &e)) {
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
    json_decref(job->handed_on);
    json_decref(job->partly);
    arena_free(job->arena);
}
