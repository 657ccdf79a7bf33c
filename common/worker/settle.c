/*
 * The end of a message. The one place that decides between ack, retry and dead letter: outputs
 * are published and confirmed first, and only then is the input acked.
 */
#include "common/worker/worker_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/uuid.h"
#include "common/chat/body.h"
#include "common/chat/problem.h"

enum {
    STALLED_RETRY_MS = 500,
    REPLY_LOSSES_MAX = 3, /* a reply that the broker's connection does not survive is given up */
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
        return LOG_WARN;
    return job->operation && !job->operation->write ? LOG_DEBUG : LOG_INFO;
}

static void end(struct job *job)
{
    struct worker *w = job->worker;
    const struct envelope *env = &job->envelope;
    int64_t us = clock_monotonic_us() - job->started_us;

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

static void dead_letter(struct job *job, const struct err *e);

/* The answer does not reach the caller, whose deadline will tell him. */
static void give_up_reply(struct output *o, const char *reason)
{
    metric_add(metric_get(&replies_unwanted, reason), 1);
    o->done = true;
}

static void end_when_done(struct job *job)
{
    size_t i;

    for (i = 0; i < job->outputs_count; i++)
        if (!job->outputs[i].done)
            return;
    end(job);
}

/* Nobody is bound where the message was to go. May end the job. */
static void returned(struct output *o)
{
    struct job *job = o->job;
    struct err e;

    switch (o->class) {
    case OUTPUT_REPLY:
        give_up_reply(o, "reason=\"caller gone\"");
        end_when_done(job);
        return;
    case OUTPUT_STEP:
    case OUTPUT_RETRY:
        err_set(&e, ERR_FATAL, 501, "no queue takes %.60s at %.60s", o->message.type,
                *o->message.exchange ? o->message.exchange : o->message.routing_key);
        job->outputs_count = 0;
        dead_letter(job, &e);
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
    bool direct = is_reply && strncmp(o->message.routing_key, "amq.rabbitmq.reply-to", 21) == 0;

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
    job->refused = true;
    failed(job, "dead-lettered", e);
    o->done = true;
}

/* Publishes what is not under way yet; stalls the job when the broker takes no more for now. */
static void publish_outputs(struct job *job)
{
    struct worker *w = job->worker;
    struct err e;
    size_t i;

    for (i = 0; i < job->outputs_count; i++) {
        struct output *o = &job->outputs[i];
        int64_t n;

        if (o->done || o->publish)
            continue;
        n = mq_publish(w->publish_channel, &o->message, true, outcome_known, o, &e);
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
    for (; n > 0 && mq_can_publish(w->publish) && mq_channel_is_open(w->publish_channel); n--) {
        job = TAILQ_FIRST(&w->stalled);
        TAILQ_REMOVE(&w->stalled, job, stalled_link);
        job->stalled = false;
        publish_outputs(job); /* may end it */
    }
    worker_update(w);
}

/* ---- what becomes of a job ---- */

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
    m->exchange = "";
    m->routing_key = in->reply_to;
    m->type = type;
    m->content_type = "application/json";
    m->delivery_mode = MESSAGE_TRANSIENT;
    m->message_id = derived_id(job, type);
    m->correlation_id = in->correlation_id;
    m->app_id = process_instance(job->worker->process);
    m->timestamp = (uint64_t)(clock_wall_ms() / 1000);
    mq_table_put_int(job->arena, &m->headers, HEADER_STATUS, status);
    mq_table_put_int(job->arena, &m->headers, HEADER_VERSION, ENVELOPE_VERSION);
    if (in->traceparent)
        mq_table_put_string(job->arena, &m->headers, HEADER_TRACE, in->traceparent);
    set_body(job, m, body);
}

static void add_problem(struct job *job, const struct err *e, json_t *errors)
{
    add_answer(job, TYPE_ERROR, e->status,
               problem_new(e->status, e->text, job->envelope.correlation_id, errors));
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
    char *what = arena_printf(job->arena, "dead letter of %s", job->from->queue->name);

    m->exchange = exchange_name(EXCHANGE_DLX);
    m->routing_key = job->from->queue->name;
    put_failure(job, m, e);
    mq_table_put_string(job->arena, &m->headers, HEADER_DEAD_LETTER, derived_id(job, what));
}

/* The input goes to the dead letters, and the caller is told. */
static void dead_letter(struct job *job, const struct err *e)
{
    failed(job, "dead-lettered", e);
    add_dead_letter(job, e);
    add_problem(job, e, NULL);
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
}

void settle_reply(struct job *job, int status, json_t *body)
{
    job->outcome = "replied";
    add_answer(job, TYPE_REPLY, status, body);
    publish_outputs(job);
}

void settle_forward(struct job *job, const char *operation, const char *slip, json_t *body)
{
    struct envelope out = job->envelope;
    struct mq_message *m = add_output(job, OUTPUT_STEP);

    job->outcome = "forwarded";
    out.type = operation;
    out.slip = slip;
    out.attempt = 1;
    out.message_id = derived_id(job, operation);
    envelope_encode(job->arena, &out, process_instance(job->worker->process), m);
    m->exchange = exchange_name(EXCHANGE_RPC);
    m->routing_key = operation;
    set_body(job, m, body);
    publish_outputs(job);
}

void settle_failure(struct job *job, const struct err *e, json_t *errors)
{
    int attempts = job->operation ? job->operation->max_attempts : 1;
    bool retried = e->kind == ERR_RETRY && job->envelope.attempt < attempts;

    /* Refused and nobody to tell: kept with its cause rather than gone without a trace. */
    if (e->kind != ERR_REJECT || !job->envelope.reply_to) {
        if (!retried) {
            dead_letter(job, e);
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
    job->refused = true;
    failed(job, "dead-lettered", e);
    add_problem(job, e, NULL);
    publish_outputs(job);
}

void settle_hold(struct job *job)
{
    struct mq_message *m = add_input_again(job, OUTPUT_RETRY);

    job->failed = true;
    job->outcome = "held";
    err_set(&job->why, ERR_RETRY, 503, "the message's format version %d is not known here",
            job->envelope.version);
    m->exchange = "";
    m->routing_key =
        arena_printf(job->arena, "%s%s", job->from->queue->name, retry_delays[1].suffix);
    publish_outputs(job);
}

void settle_drop(struct job *job, const char *outcome)
{
    job->outcome = outcome;
    end(job);
}
