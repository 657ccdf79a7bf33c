/*
 * The end of a message. The one place that decides between ack, retry and dead letter: outputs
 * are published and confirmed first, and only then is the input acked.
 */
#include "common/worker/worker_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/text.h"
#include "common/base/uuid.h"
#include "common/chat/body.h"
#include "common/chat/problem.h"

enum {
    STALLED_RETRY_MS = 500,
    REPLY_LOSSES_MAX = 3, /* a direct reply that the connection does not survive is given up */
    /* A message of an unknown version waits for its worker in the delays of 5 s for a minute, in those
     * of 5 min for a day, and then for a person. */
    HOLDS_SHORT = 12,
    HOLDS_MAX = HOLDS_SHORT + 288,
};

static struct metric_family job_duration = {"worker_job_duration_seconds", METRIC_HISTOGRAM,
                                            "From delivery to ack, by how the message ended", NULL,
                                            NULL};
static struct metric_family replies_unwanted = {
    "worker_replies_undelivered_total", METRIC_COUNTER,
    "Answers that nobody waits for any more, or that the broker did not take", NULL, NULL};

/* ---- the input's end ---- */

static void count(const struct job *job, double seconds)
{
    static struct { /* most messages end as the one before; the texts are constants */
        const char *operation, *outcome;
        struct metric *series;
    } last;
    const char *operation = job->operation ? job->operation->name : "unknown";
    char labels[192];

    if (last.operation != operation || last.outcome != job->outcome) {
        snprintf(labels, sizeof(labels), "operation=\"%s\",outcome=\"%s\"", operation,
                 job->outcome);
        last.operation = operation;
        last.outcome = job->outcome;
        last.series = metric_get(&job_duration, labels);
    }
    metric_observe(last.series, seconds);
}

/* A read that went well is in the log of whoever asked; two lines for each cost a busy fleet a
 * twentieth of its rate. */
static enum log_level level_of(const struct job *job)
{
    if (job->failed)
        return job->why.kind == ERR_REJECT ? LOG_INFO : LOG_WARN;
    return job->operation && !job->operation->write ? LOG_DEBUG : LOG_INFO;
}

static void end(struct job *job)
{
    struct worker *w = job->worker;
    const struct envelope *env = &job->envelope;
    int64_t us = clock_monotonic_us() - job->started_us;

    FAULT("settle.ack");
    if (job->refused)
        mq_nack(w->consume_channel, job->tag, job->epoch, false);
    else
        mq_ack(w->consume_channel, job->tag, job->epoch);
    count(job, (double)us / 1e6);
    log_event(level_of(job), "job done", LOG_STR("outcome", job->outcome),
              LOG_STR("operation", env->type), LOG_STR("correlation_id", env->correlation_id),
              LOG_STR("message_id", env->message_id), LOG_STR("user_id", env->user_id),
              LOG_STR("tenant_id", env->tenant_id), LOG_NUM("attempt", env->attempt),
              LOG_NUM("duration_us", (long)us),
              LOG_STR("error_kind", job->failed ? err_kind_name(job->why.kind) : NULL),
              LOG_STR("error", job->failed ? job->why.text : NULL));
    job_free(job);
    worker_job_done(w);
}

static void failed(struct job *job, const char *outcome, const struct err *e)
{
    job->failed = true;
    job->why = *e;
    job->outcome = outcome;
}

/* Only the broker can pass the input on to the dead letters; it does so with all but reads. */
static void refuse(struct job *job, const struct err *e)
{
    job->refused = true;
    failed(job, job->from->queue->reads ? "rejected" : "dead-lettered", e);
}

/* ---- outputs ---- */

/* A message derived from the input has the same id however often the input is delivered. */
static char *derived_id(struct job *job, const char *what)
{
    char id[UUID_TEXT];

    if (job->envelope.message_id)
        uuid_v5(job->envelope.message_id, what, id);
    else
        uuid_v7(id);
    return arena_strdup(job->arena, id);
}

static struct mq_message *add_output(struct job *job, enum output_class class)
{
    struct output *o = &job->outputs[job->outputs_count++];

    *o = (struct output){.class = class, .job = job};
    return &o->message;
}

/* Takes the body. */
static void set_body(struct job *job, struct mq_message *m, json_t *body)
{
    m->body = body_text(job->arena, body, &m->body_len);
    json_decref(body);
}

static void stall(struct job *job)
{
    struct worker *w = job->worker;

    if (!job->stalled)
        TAILQ_INSERT_TAIL(&w->stalled, job, stalled_link);
    job->stalled = true;
    timer_set(w->unstall, STALLED_RETRY_MS);
    worker_update(w); /* stop consuming until it is through */
}

/* All outputs, the one aside as the last; NULL behind it. */
static struct output *output_at(struct job *job, size_t i)
{
    if (i < job->outputs_count)
        return &job->outputs[i];
    return i == job->outputs_count && job->has_aside ? &job->aside : NULL;
}

static void dead_letter(struct job *job, const struct err *e, json_t *errors);

/* Others take the place of the outputs; of those under way nothing is to be heard any more. */
static void drop_outputs(struct job *job)
{
    struct worker *w = job->worker;
    size_t i;

    for (i = 0; i < job->outputs_count; i++) {
        struct output *o = &job->outputs[i];

        if (o->publish)
            mq_forget(o->class == OUTPUT_REPLY ? w->reply_channel : w->publish_channel, o->publish);
    }
    job->outputs_count = 0;
    job->ends_by = NULL; /* which has not been able to end it */
}

/* The answer does not reach the caller, whose deadline will tell him. */
static void give_up_reply(struct output *o, const char *reason)
{
    metric_add(metric_get(&replies_unwanted, reason), 1);
    o->done = true;
}

static void end_when_done(struct job *job)
{
    struct output *o;
    size_t i;

    for (i = 0; (o = output_at(job, i)); i++)
        if (!o->done)
            return;
    end(job);
}

/* Nobody is bound where the message was to go. May end the job. */
static void returned(struct output *o)
{
    struct job *job = o->job;
    struct err e;

    if (o->class == OUTPUT_STEP && strcmp(o->message.type, OPERATION_TURN_FAIL) == 0) {
        log_event(LOG_ERROR, "no queue takes the end of a turn",
                  LOG_STR("message_id", job->envelope.message_id));
        o->done = true;
        end_when_done(job);
        return;
    }
    switch (o->class) {
    case OUTPUT_REPLY:
        give_up_reply(o, "reason=\"caller gone\"");
        end_when_done(job);
        return;
    case OUTPUT_ASIDE:
        log_event(LOG_ERROR, "no queue takes what goes aside",
                  LOG_STR("operation", o->message.type),
                  LOG_STR("message_id", job->envelope.message_id));
        o->done = true;
        end_when_done(job);
        return;
    case OUTPUT_EVENT: /* nobody listens */
        o->done = true;
        end_when_done(job);
        return;
    case OUTPUT_STEP:
    case OUTPUT_RETRY:
        err_set(&e, ERR_FATAL, 501, "no queue takes %.60s at %.60s", o->message.type,
                *o->message.exchange ? o->message.exchange : o->message.routing_key);
        drop_outputs(job);
        dead_letter(job, &e, NULL);
        return;
    case OUTPUT_DEAD_LETTER:
        log_event(LOG_ERROR, "dead-letter queue missing, message held",
                  LOG_STR("queue", job->from->queue->name),
                  LOG_STR("message_id", job->envelope.message_id));
        stall(job);
        worker_declare(job->worker);
    }
}

/* The broker's word on one output. A refused or lost one is published again, the input held. */
static void outcome_known(void *arg, enum mq_outcome outcome)
{
    struct output *o = arg;
    struct job *job = o->job;
    bool is_reply = o->class == OUTPUT_REPLY;
    /* Only such an address, when forged, ends the connection; others are innocent beside it. */
    bool direct = is_reply && text_starts_with(o->message.routing_key, "amq.rabbitmq.reply-to");

    if (outcome == MQ_CONFIRMED)
        FAULT("settle.confirm");
    o->publish = 0;
    o->losses += outcome == MQ_LOST;
    if (outcome == MQ_RETURNED) {
        returned(o);
        return;
    }
    if (outcome == MQ_CONFIRMED)
        o->done = true;
    else if (outcome == MQ_REFUSED && is_reply)
        give_up_reply(o, "reason=\"refused\"");
    else if (outcome == MQ_LOST && direct && o->losses >= REPLY_LOSSES_MAX)
        give_up_reply(o, "reason=\"lost\"");
    else
        stall(job);
    end_when_done(job);
}

/* An output that no frames can carry (the input's headers fill theirs already, say). */
static void does_not_fit(struct output *o, const struct err *e)
{
    struct job *job = o->job;

    log_event(LOG_ERROR, "message cannot be published", LOG_STR("error", e->text),
              LOG_STR("message_id", job->envelope.message_id));
    if (o->class == OUTPUT_REPLY) {
        give_up_reply(o, "reason=\"too large\"");
        return;
    }
    o->done = true;
    if (o->class != OUTPUT_ASIDE)
        refuse(job, e);
}

/* Publishes what is not under way yet; stalls the job when the broker takes no more for now. */
static void publish_outputs(struct job *job)
{
    struct worker *w = job->worker;
    struct output *o;
    struct err e;
    size_t i;

    gather_flush(w);
    for (i = 0; (o = output_at(job, i)); i++) {
        int64_t n;

        if (o->done || o->publish)
            continue;
        FAULT("settle.publish");
        n = mq_publish(o->class == OUTPUT_REPLY ? w->reply_channel : w->publish_channel,
                       &o->message, o->class != OUTPUT_EVENT, outcome_known, o, &e);
        if (n > 0) {
            o->publish = n;
        } else if (e.kind == ERR_RETRY) {
            stall(job);
            return;
        } else {
            does_not_fit(o, &e);
        }
    }
    end_when_done(job);
}

void settle_stalled(struct worker *w)
{
    struct job *job;
    size_t n = 0;

    TAILQ_FOREACH (job, &w->stalled, stalled_link)
        n++;
    /* Whose turn comes again goes to the end of the list. */
    for (; n > 0 && mq_can_publish(w->publish) && mq_channel_is_open(w->publish_channel) &&
           mq_channel_is_open(w->reply_channel);
         n--) {
        job = TAILQ_FIRST(&w->stalled);
        TAILQ_REMOVE(&w->stalled, job, stalled_link);
        job->stalled = false;
        publish_outputs(job); /* may end it */
    }
    worker_update(w);
}

/* ---- what becomes of a job ---- */

/* A message to the caller or a follower, whose body is still to be set. */
static void address_to(const struct follower *to, struct job *job, struct arena *a,
                       struct mq_message *m, const char *type)
{
    const struct envelope *in = &job->envelope;

    m->exchange = "";
    m->routing_key = to->reply_to;
    m->type = type;
    m->content_type = "application/json";
    m->delivery_mode = MESSAGE_TRANSIENT;
    m->correlation_id = to->correlation_id;
    m->app_id = process_instance(job->worker->process);
    mq_table_put_int(a, &m->headers, HEADER_VERSION, ENVELOPE_VERSION);
    if (in->traceparent)
        mq_table_put_string(a, &m->headers, HEADER_TRACE, in->traceparent);
}

/* Not confirmed, and not tried again: the final answer holds all of it. */
void settle_notice(struct job *job, const struct follower *to, const char *type, json_t *body,
                   int epoch, int64_t offset)
{
    struct mq_message m = {0};
    struct arena *a = arena_new(); /* there may be many in a job's life */
    struct err e;

    if (to->reply_to && body) {
        address_to(to, job, a, &m, type);
        if (epoch) {
            mq_table_put_int(a, &m.headers, HEADER_EPOCH, epoch);
            mq_table_put_int(a, &m.headers, HEADER_OFFSET, offset);
        }
        m.body = body_text(a, body, &m.body_len);
        if (!reply_takes_many(m.routing_key) || !uuid_valid(m.correlation_id) ||
            !gather_notice(job->worker, &m, epoch, offset))
            mq_publish(job->worker->reply_channel, &m, false, NULL, NULL, &e);
    }
    json_decref(body);
    arena_free(a);
}

/* A CloudEvent in binary mode (the AMQP binding's headers, which RabbitMQ hands on as they are). */
void settle_event(struct job *job, const char *type, const char *subject, json_t *data)
{
    struct mq_message *m;
    char *time = arena_alloc(job->arena, CLOCK_ISO_SIZE);

    if (job->outputs_count == EVENTS_MAX) {
        json_decref(data);
        return;
    }
    m = add_output(job, OUTPUT_EVENT);
    m->exchange = exchange_name(EXCHANGE_EVENTS);
    m->routing_key = m->type = type;
    m->content_type = "application/json";
    m->delivery_mode = MESSAGE_PERSISTENT;
    m->message_id = derived_id(job, type);
    m->correlation_id = job->envelope.correlation_id;
    m->app_id = process_instance(job->worker->process);
    m->timestamp = (uint64_t)(clock_wall_ms() / 1000);
    mq_table_put_string(job->arena, &m->headers, "cloudEvents:specversion", "1.0");
    mq_table_put_string(job->arena, &m->headers, "cloudEvents:id", m->message_id);
    mq_table_put_string(job->arena, &m->headers, "cloudEvents:source", "/chatfleet");
    mq_table_put_string(job->arena, &m->headers, "cloudEvents:type", type);
    mq_table_put_string(job->arena, &m->headers, "cloudEvents:subject", subject);
    mq_table_put_string(job->arena, &m->headers, "cloudEvents:time",
                        clock_iso(clock_wall_ms(), time));
    if (job->envelope.tenant_id)
        mq_table_put_string(job->arena, &m->headers, HEADER_TENANT, job->envelope.tenant_id);
    if (job->envelope.user_id)
        mq_table_put_string(job->arena, &m->headers, HEADER_USER, job->envelope.user_id);
    set_body(job, m, data);
}

/* Nobody who listens is no failure: it is for whoever is there. */
void settle_control(struct job *job, const char *type, json_t *body)
{
    const struct envelope env = {.type = type,
                                 .message_id = derived_id(job, type),
                                 .correlation_id = job->envelope.correlation_id,
                                 .user_id = job->envelope.user_id,
                                 .tenant_id = job->envelope.tenant_id,
                                 .traceparent = job->envelope.traceparent};
    struct mq_message *m;

    if (job->outputs_count == EVENTS_MAX) {
        json_decref(body);
        return;
    }
    m = add_output(job, OUTPUT_EVENT);
    envelope_encode(job->arena, &env, process_instance(job->worker->process), m);
    m->exchange = exchange_name(EXCHANGE_CONTROL);
    m->routing_key = "";
    m->delivery_mode = MESSAGE_TRANSIENT;
    set_body(job, m, body);
}

/* An answer with the caller's correlation id. Nothing when nobody asked for one. */
static void add_answer(struct job *job, const char *type, int status, json_t *body)
{
    const struct envelope *in = &job->envelope;
    struct mq_message *m;

    if (!in->reply_to) {
        json_decref(body);
        return;
    }
    m = add_output(job, OUTPUT_REPLY);
    address_to(&(struct follower){in->reply_to, in->correlation_id}, job, job->arena, m, type);
    m->message_id = derived_id(job, type);
    m->timestamp = (uint64_t)(clock_wall_ms() / 1000);
    mq_table_put_int(job->arena, &m->headers, HEADER_STATUS, status);
    set_body(job, m, body);
}

/* Address a message to the queue of an operation, with the input's identity. */
static void address_step(struct job *job, struct arena *a, struct mq_message *m,
                         const char *operation, const char *slip, const char *reply_to,
                         const char *id)
{
    struct envelope out = job->envelope;

    out.type = operation;
    out.slip = slip;
    out.attempt = 1;
    out.epoch = 0;
    out.reply_to = reply_to;
    out.idempotency_key = out.subject = out.tier = NULL; /* for the first step only */
    out.message_id = id;
    envelope_encode(a, &out, process_instance(job->worker->process), m);
    m->exchange = exchange_name(EXCHANGE_RPC);
    m->routing_key = operation;
}

/* With its caller, too. */
static struct mq_message *add_step(struct job *job, const char *operation, const char *slip,
                                   const char *reply_to, json_t *body)
{
    struct mq_message *m = add_output(job, OUTPUT_STEP);

    address_step(job, job->arena, m, operation, slip, reply_to, derived_id(job, operation));
    set_body(job, m, body);
    return m;
}

void settle_aside(struct job *job, const char *operation, json_t *body)
{
    const char *what = arena_printf(job->arena, "%s %d", operation, job_epoch(job));

    job->has_aside = true;
    job->aside = (struct output){.class = OUTPUT_ASIDE, .job = job};
    address_step(job, job->arena, &job->aside.message, operation, NULL, NULL,
                 derived_id(job, what));
    set_body(job, &job->aside.message, body);
}

bool settle_aside_now(struct job *job, const char *operation, json_t *body)
{
    struct arena *a = arena_new(); /* there may be several in a job's life */
    struct mq_message m = {0};
    char id[UUID_TEXT];
    struct err e;
    bool sent;

    address_step(job, a, &m, operation, NULL, NULL, uuid_v7(id));
    m.body = body_text(a, body, &m.body_len);
    sent = mq_publish(job->worker->publish_channel, &m, false, NULL, NULL, &e) > 0;
    json_decref(body);
    arena_free(a);
    return sent;
}

/* What a turn's step was given, or what it hands on, if the turn is to end because it fails. */
static json_t *failed_step(const struct job *job)
{
    if (!job->operation || strcmp(job->operation->name, OPERATION_TURN_FAIL) == 0)
        return NULL;
    if (job->handed_on)
        return job->handed_on;
    return job->operation->step && json_object_get(job->body, "turn") ? job->body : NULL;
}

/* The turn's epoch goes with its answer, so that a later one's wins. */
static void put_epoch(struct job *job, struct mq_message *m)
{
    if (job->envelope.epoch || job->envelope.deliveries)
        mq_table_put_int(job->arena, &m->headers, HEADER_EPOCH, job_epoch(job));
}

/* The turn ends with what the step came to. Returns false when that cannot be told. */
static bool add_partly(struct job *job, json_t *problem)
{
    struct mq_message *m;

    if (!job->ends_by)
        return false;
    json_object_set(job->partly, "problem", problem);
    m = add_step(job, job->ends_by, NULL, job->envelope.reply_to, json_incref(job->partly));
    put_epoch(job, m);
    if (m->body_len <= (size_t)process_settings.message_max)
        return true;
    job->outputs_count--;
    return false;
}

/* The caller is told of the failure: by an answer, or by the end of the turn. */
static void add_problem(struct job *job, const struct err *e, json_t *errors)
{
    json_t *problem = problem_new(e->status, e->text, job->envelope.correlation_id, errors);
    json_t *step = failed_step(job), *turn, *body;

    if (!step) {
        add_answer(job, TYPE_ERROR, e->status, problem);
        return;
    }
    turn = json_object_get(step, "turn");
    json_object_set(problem, "turn_id", json_object_get(turn, "id"));
    json_object_set(problem, "user_message_id", json_object_get(turn, "question_id"));
    if (add_partly(job, problem)) {
        json_decref(problem);
        return;
    }
    body = json_pack("{s:O, s:o}", "turn", turn, "problem", problem);
    json_object_set(body, "user_message", json_object_get(step, "user_message"));
    add_step(job, OPERATION_TURN_FAIL, NULL, job->envelope.reply_to, body);
}

/* A copy of the input as it came, for a delay queue or the dead letters; without the headers by
 * which the broker keeps its books, or would route further copies (CC, BCC) in our name. */
static struct mq_message *add_input_again(struct job *job, enum output_class class)
{
    static const char *const of_broker[] = {
        "x-death",
        "x-delivery-count",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-last-death-exchange",
        "x-last-death-queue",
        "x-last-death-reason",
        "CC",
        "BCC",
    };
    struct mq_message *m = add_output(job, class);
    size_t i;

    mq_message_copy(job->arena, m, &job->message);
    m->delivery_mode = MESSAGE_PERSISTENT;
    m->expiration = NULL;
    m->user_id = NULL; /* the broker takes only our own */
    for (i = 0; i < sizeof(of_broker) / sizeof(of_broker[0]); i++)
        mq_table_remove(&m->headers, of_broker[i]);
    return m;
}

static void put_failure(struct job *job, struct mq_message *m, const struct err *e)
{
    struct mq_table *h = &m->headers;
    char *now = arena_alloc(job->arena, CLOCK_ISO_SIZE), *text;

    clock_iso(clock_wall_ms(), now);
    text = arena_strdup(job->arena, e->text);
    mq_table_put_string(job->arena, h, HEADER_ERROR_KIND, err_kind_name(e->kind));
    mq_table_put_string(job->arena, h, HEADER_ERROR, text);
    mq_table_put_string(job->arena, h, HEADER_FAILED_AT, now);
    mq_table_put_string(job->arena, h, HEADER_FAILED_BY, process_instance(job->worker->process));
    mq_table_put_string(job->arena, h, HEADER_QUEUE, job->from->queue->name);
    if (!mq_table_get(h, HEADER_FIRST_FAIL))
        mq_table_put_string(job->arena, h, HEADER_FIRST_FAIL, now);
}

static void add_dead_letter(struct job *job, const struct err *e)
{
    struct mq_message *m = add_input_again(job, OUTPUT_DEAD_LETTER);
    const char *what = arena_printf(job->arena, "dead letter of %s", job->from->queue->name);

    if (job->envelope.replay_of) /* another failure than the one that was replayed */
        what = arena_printf(job->arena, "%s, replay of %s", what, job->envelope.replay_of);
    m->exchange = exchange_name(EXCHANGE_DLX);
    m->routing_key = job->from->queue->name;
    put_failure(job, m, e);
    mq_table_put_string(job->arena, &m->headers, HEADER_DEAD_LETTER, derived_id(job, what));
    if (job->operation && job->operation->step) /* a replay counts on from here */
        mq_table_put_int(job->arena, &m->headers, HEADER_EPOCH, job_epoch(job));
}

/* With the first of the errors of fields, which a dead letter has no other room for. */
static struct err name_field(struct job *job, const struct err *e, json_t *errors)
{
    const json_t *first = json_array_get(errors, 0);
    size_t others = json_array_size(errors) - (first != NULL);
    struct err out = *e;

    if (first)
        err_set(&out, e->kind, e->status, "%s: %s %s%s", e->text,
                json_string_value(json_object_get(first, "field")),
                json_string_value(json_object_get(first, "message")),
                others > 0 ? arena_printf(job->arena, " (and %zu more)", others) : "");
    return out;
}

/* The input goes to the dead letters, and the caller is told. */
static void dead_letter(struct job *job, const struct err *e, json_t *errors)
{
    struct err cause = name_field(job, e, errors);

    text_utf8_mend(cause.text); /* it may be cut in the middle of a field's name */
    failed(job, "dead-lettered", e);
    add_dead_letter(job, &cause);
    add_problem(job, e, errors);
    publish_outputs(job);
}

static void add_retry(struct job *job, const struct err *e)
{
    int attempt = job->envelope.attempt;
    const struct retry_delay *delay =
        &retry_delays[attempt < RETRY_DELAYS ? attempt - 1 : RETRY_DELAYS - 1];
    struct mq_message *m = add_input_again(job, OUTPUT_RETRY);

    m->exchange = "";
    m->routing_key = arena_printf(job->arena, "%s%s", job->from->queue->name, delay->suffix);
    put_failure(job, m, e);
    mq_table_put_int(job->arena, &m->headers, HEADER_ATTEMPT, attempt + 1);
    if (job->operation->step) /* what the next attempt generates is told from this one's */
        mq_table_put_int(job->arena, &m->headers, HEADER_EPOCH, job_epoch(job) + 1);
}

void settle_reply(struct job *job, int status, json_t *body)
{
    job->outcome = "replied";
    add_answer(job, TYPE_REPLY, status, body);
    publish_outputs(job);
}

void settle_problem(struct job *job, int status, json_t *problem)
{
    const char *detail;
    struct err e;

    if (job->envelope.replay_of) {
        detail = json_string_value(json_object_get(problem, "detail"));
        err_set(&e, ERR_REJECT, status, "%s", detail ? detail : "refused");
        add_dead_letter(job, &e);
    }
    job->outcome = "refused";
    add_answer(job, TYPE_ERROR, status, problem);
    publish_outputs(job);
}

/* A step that no worker would read. It could not even be told whose turn it is: that ends here. */
static void refuse_step(struct job *job, const char *operation, size_t n, json_t *answer)
{
    struct err e;

    json_decref(answer);
    err_set(&e, ERR_FATAL, 500, "the step %s takes %zu bytes, and a message at most %ld", operation,
            n, process_settings.message_max);
    drop_outputs(job);
    dead_letter(job, &e, NULL);
}

void settle_forward(struct job *job, const char *operation, const char *slip, json_t *body,
                    json_t *answer)
{
    struct mq_message *m;

    job->outcome = "forwarded";
    if (json_object_get(body, "turn"))
        job->handed_on = json_incref(body);
    m = add_step(job, operation, slip, answer ? NULL : job->envelope.reply_to, body);
    if (m->body_len > (size_t)process_settings.message_max) {
        refuse_step(job, operation, m->body_len, answer);
        return;
    }
    put_epoch(job, m);
    if (answer)
        add_answer(job, TYPE_REPLY, 202, answer);
    publish_outputs(job);
}

/* The input's delivery went with its connection, so it is in its queue again. */
static bool delivery_lost(const struct job *job)
{
    const struct mq_channel *ch = job->worker->consume_channel;

    return !mq_channel_is_open(ch) || job->epoch != mq_channel_epoch(ch);
}

void settle_failure(struct job *job, const struct err *e, json_t *errors)
{
    int attempts = job->operation ? job->operation->max_attempts : 1;
    bool retried = e->kind == ERR_RETRY && job->envelope.attempt < attempts;
    bool replayed = job->envelope.replay_of != NULL;

    /* Its next delivery tells how it ends, and may be under way by now: a failure told beside it
     * would end a turn that goes on, a retry would do it a second time. */
    if (delivery_lost(job)) {
        drop_outputs(job);
        failed(job, "redelivered", e);
        publish_outputs(job); /* what goes aside */
        return;
    }
    if (e->kind == ERR_RETRY && job->from->queue->reads && job->envelope.reply_to && !replayed) {
        failed(job, "rejected", e); /* who asked may ask again */
        add_problem(job, e, errors);
        publish_outputs(job);
        return;
    }

    /* Refused and nobody to tell, or a replay, whose dead letter is gone: kept with its cause rather
     * than gone without a trace. */
    if (e->kind != ERR_REJECT || replayed || (!job->envelope.reply_to && !failed_step(job))) {
        if (!retried) {
            dead_letter(job, e, errors);
            return;
        }
        failed(job, "retried", e);
        add_retry(job, e);
    } else {
        failed(job, "rejected", e);
        add_problem(job, e, errors);
    }
    publish_outputs(job);
}

void settle_refusal(struct job *job, const struct err *e)
{
    refuse(job, e);
    add_problem(job, e, NULL);
    publish_outputs(job);
}

void settle_hold(struct job *job)
{
    int held = job->envelope.held;
    const struct retry_delay *delay = &retry_delays[held < HOLDS_SHORT ? 1 : RETRY_DELAYS - 1];
    struct mq_message *m;
    struct err e;

    err_set(&e, ERR_FATAL, 501, "the message's format version %d is not known here",
            job->envelope.version);
    if (held >= HOLDS_MAX) {
        dead_letter(job, &e, NULL);
        return;
    }
    failed(job, "held", &e);
    m = add_input_again(job, OUTPUT_RETRY);
    m->exchange = "";
    m->routing_key = arena_printf(job->arena, "%s%s", job->from->queue->name, delay->suffix);
    mq_table_put_int(job->arena, &m->headers, HEADER_HELD, held + 1);
    publish_outputs(job);
}

void settle_drop(struct job *job, const char *outcome)
{
    job->outcome = outcome;
    end(job);
}
