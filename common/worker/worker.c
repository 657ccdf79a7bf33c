#include "common/worker/worker_internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/program.h"

static struct {
    long prefetch;
} settings;

static const struct config_key worker_keys[] = {
    {"PREFETCH", CONFIG_INT, offsetof(__typeof__(settings), prefetch), "256", 1, 10000, NULL, NULL,
     false, "Messages of one queue that are under way in this process at once."},
};
static const struct config_section worker_section = {
    "Worker", worker_keys, sizeof(worker_keys) / sizeof(worker_keys[0]), &settings};

enum { SECTIONS_MAX = 16 }; /* of settings, those of the kind included */

static struct metric_family jobs_in_flight = {"worker_jobs_in_flight", METRIC_GAUGE,
                                              "Messages delivered and not settled", NULL, NULL};

static struct metric_family processes = {
    "worker_processes", METRIC_GAUGE,
    "Processes of this kind, as the broker counted of late (where that matters)", NULL, NULL};

/* ---- consuming ---- */

static void delivery_came(void *arg, const struct mq_delivery *d)
{
    struct subscription *s = arg;

    job_start(s->worker, s, d);
    metric_set(metric_get(&jobs_in_flight, ""), (double)s->worker->jobs_count);
}

static void consumer_cancelled(void *arg)
{
    struct subscription *s = arg;

    s->consumer = NULL;
    s->confirmed = false;
    s->worker->declared = false; /* the queue is gone: declare it again */
    worker_update(s->worker);
}

static const struct mq_consumer_events consumer_events = {delivery_came, consumer_cancelled};

static bool serving(const struct worker *w)
{
    size_t i;

    for (i = 0; i < w->subscriptions_count; i++)
        if (!w->subscriptions[i].confirmed)
            return false;
    return !w->control_channel || w->control_comes;
}

void worker_serves(struct worker *w)
{
    if (!serving(w) || w->state != WORKER_RUNNING)
        return;
    w->ever_served = true;
    process_ready(w->process);
}

static void consume_answered(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct subscription *s = arg;

    (void)reply;
    if (e || !s->consumer)
        return;
    s->confirmed = true;
    worker_serves(s->worker);
}

static void fail(struct worker *w, const struct err *e)
{
    log_event(LOG_ERROR, "start refused", LOG_STR("error", e->text));
    w->exit_code = EXIT_CONFIG;
    loop_stop(w->loop);
}

static void topology_answered(void *arg, const struct err *e)
{
    struct worker *w = arg;

    w->declaring = false;
    if (!e) {
        w->declared = true;
        worker_update(w);
    } else if (e->kind == ERR_FATAL && !w->ever_served) {
        fail(w, e);
    } else {
        log_event(LOG_ERROR, "topology not declared", LOG_STR("error", e->text));
    }
}

void worker_declare(struct worker *w)
{
    w->declared = false;
    if (w->declaring || !mq_channel_is_open(w->consume_channel))
        return;
    w->declaring = true;
    topology_declare(w->consume, w->consume_channel, w->kind->name, topology_answered, w);
}

static void start_consuming(struct worker *w)
{
    size_t i;

    if (!w->declared) {
        worker_declare(w);
        return;
    }
    for (i = 0; i < w->subscriptions_count; i++) {
        struct subscription *s = &w->subscriptions[i];

        if (!s->consumer)
            s->consumer =
                mq_consume(w->consume_channel, s->queue->name, (uint16_t)settings.prefetch,
                           &consumer_events, s, consume_answered);
    }
}

static void cancel_answered(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct worker *w = arg;

    (void)reply;
    (void)e;
    w->cancelling--;
    worker_update(w); /* things may have changed in between; a drain may be done */
}

/* What has been delivered is held, not handed back: that would count as a delivery. */
static void stop_consuming(struct worker *w)
{
    size_t i;

    for (i = 0; i < w->subscriptions_count; i++) {
        struct subscription *s = &w->subscriptions[i];
        struct mq_consumer *consumer = s->consumer;

        s->consumer = NULL;
        s->confirmed = false;
        if (!consumer)
            continue;
        w->cancelling++;
        mq_cancel(consumer, cancel_answered, w);
    }
}

/* What was held in a pause is not bounded by the prefetch of the next consumer: let it shrink. */
static bool has_room(const struct worker *w)
{
    return w->jobs_count <= (size_t)settings.prefetch * w->subscriptions_count / 2;
}

static bool consuming(const struct worker *w)
{
    return w->subscriptions[0].consumer != NULL;
}

void worker_update(struct worker *w)
{
    bool can_settle = !w->cannot_serve && mq_channel_is_open(w->publish_channel) &&
                      mq_channel_is_open(w->reply_channel) && mq_can_publish(w->publish) &&
                      TAILQ_EMPTY(&w->stalled);

    if (w->state == WORKER_RUNNING && !mq_channel_is_open(w->consume_channel))
        return;
    if (w->state == WORKER_RUNNING && can_settle && (consuming(w) || has_room(w)))
        start_consuming(w);
    else if (w->state != WORKER_RUNNING || !can_settle)
        stop_consuming(w);
    if (w->state == WORKER_DRAINING && w->jobs_count == 0 && w->cancelling == 0)
        timer_set(w->finish, 0); /* behind the acks of this turn */
}

/* ---- connections ---- */

static void publish_opened(void *arg, struct mq_channel *ch)
{
    struct worker *w = arg;

    (void)ch;
    settle_stalled(w);
    worker_update(w);
}

/* By the broker, for something that was wrong on it; a lost connection is told by itself. */
static void log_closed(const struct mq *mq, const char *channel, const struct err *why)
{
    if (mq_is_up(mq))
        log_event(LOG_WARN, "channel closed by the broker", LOG_STR("channel", channel),
                  LOG_STR("error", why->text));
}

static void publish_closed(void *arg, struct mq_channel *ch, const struct err *why)
{
    struct worker *w = arg;

    (void)ch;
    log_closed(w->publish, "publish", why);
    if (why->status == 404) /* an exchange is gone */
        worker_declare(w);
    worker_update(w);
}

static void reply_closed(void *arg, struct mq_channel *ch, const struct err *why)
{
    struct worker *w = arg;

    (void)ch;
    log_closed(w->publish, "reply", why);
    worker_update(w);
}

static void consume_opened(void *arg, struct mq_channel *ch)
{
    (void)ch;
    worker_update(arg);
}

static void consume_closed(void *arg, struct mq_channel *ch, const struct err *why)
{
    struct worker *w = arg;
    size_t i;

    (void)ch;
    log_closed(w->consume, "consume", why);
    w->declared = false;
    for (i = 0; i < w->subscriptions_count; i++) {
        w->subscriptions[i].consumer = NULL;
        w->subscriptions[i].confirmed = false;
    }
}

static void blocked(void *arg, bool is_blocked, const char *why)
{
    struct worker *w = arg;

    (void)why;
    if (!is_blocked)
        settle_stalled(w);
    worker_update(w);
}

static void unstall(void *arg)
{
    struct worker *w = arg;

    settle_stalled(w);
    if (!TAILQ_EMPTY(&w->stalled))
        timer_set(w->unstall, 500);
}

void worker_job_done(struct worker *w)
{
    metric_set(metric_get(&jobs_in_flight, ""), (double)w->jobs_count);
    if ((w->state == WORKER_DRAINING && w->jobs_count == 0) ||
        (w->state == WORKER_RUNNING && !consuming(w)))
        worker_update(w);
}

static const struct mq_channel_events publish_events = {publish_opened, publish_closed};
static const struct mq_channel_events reply_events = {publish_opened, reply_closed};
static const struct mq_channel_events consume_events = {consume_opened, consume_closed};
static const struct mq_events publisher_events = {NULL, NULL, blocked};

static int connect_broker(struct worker *w, struct err *e)
{
    struct mq_config publish = process_mq_config(w->process, "publish");
    struct mq_config consume = process_mq_config(w->process, "consume");

    w->publish = mq_open(w->loop, &publish, &publisher_events, w, e);
    if (!w->publish)
        return -1;
    w->consume = mq_open(w->loop, &consume, NULL, w, e);
    if (!w->consume)
        return -1;
    process_watch_mq(w->process, "publish", w->publish);
    process_watch_mq(w->process, "consume", w->consume);
    w->publish_channel = mq_channel_new(w->publish, MQ_CONFIRMS_EACH, &publish_events, w);
    w->reply_channel = mq_channel_new(w->publish, MQ_CONFIRMS_BARRIER, &reply_events, w);
    w->consume_channel = mq_channel_new(w->consume, MQ_CONFIRMS_NONE, &consume_events, w);
    if (w->kind->control)
        control_listen(w);
    return 0;
}

/* ---- the end ---- */

static void connection_closed(void *arg)
{
    struct worker *w = arg;

    if (--w->open_connections == 0)
        loop_stop(w->loop);
}

/* Close the connections; what is not settled goes back to its queue. */
static void finish(void *arg)
{
    struct worker *w = arg;

    if (w->state == WORKER_CLOSING)
        return;
    if (w->jobs_count > 0)
        log_event(LOG_WARN, "jobs handed back unfinished", LOG_NUM("jobs", (long)w->jobs_count));
    w->state = WORKER_CLOSING;
    w->open_connections = 2;
    mq_close(w->publish, connection_closed, w);
    mq_close(w->consume, connection_closed, w);
}

static void drain(void *arg)
{
    struct worker *w = arg;

    if (w->state != WORKER_RUNNING)
        return;
    w->state = WORKER_DRAINING;
    process_stopping(w->process);
    timer_set(w->drain_deadline, process_settings.drain_timeout_s * 1000);
    worker_update(w);
}

/* ---- health ---- */

static bool health(void *arg, json_t *out)
{
    struct worker *w = arg;
    bool can_publish = mq_can_publish(w->publish), consumes = serving(w);
    json_t *dependencies = json_pack("{s:{s:s}}", "rabbitmq", "status",
                                     can_publish && mq_is_up(w->consume) ? "healthy" : "unhealthy");
    bool others = !w->kind->healthy || w->kind->healthy(dependencies);

    json_object_set_new(out, "dependencies", dependencies);
    json_object_set_new(out, "consuming", json_boolean(consumes));
    json_object_set_new(out, "jobs", json_integer((json_int_t)w->jobs_count));
    return can_publish && consumes && others;
}

/* system.health, which every kind answers */
static void answer_health(struct job *job)
{
    struct worker *w = job->worker;
    json_t *body = json_object();
    bool well = health(w, body);

    json_object_set_new(body, "kind", json_string(w->kind->name));
    json_object_set_new(body, "instance", json_string(process_instance(w->process)));
    json_object_set_new(body, "version", json_string(program_version()));
    json_object_set_new(body, "status", json_string(well ? "healthy" : "unhealthy"));
    job_reply(job, 200, body);
}

/* ---- for the kind ---- */

struct loop *worker_loop(struct worker *w)
{
    return w->loop;
}

const char *worker_instance(const struct worker *w)
{
    return process_instance(w->process);
}

void worker_can_serve(struct worker *w, bool yes)
{
    w->cannot_serve = !yes;
    worker_update(w);
}

void worker_fail(struct worker *w, const struct err *e)
{
    fail(w, e);
}

/* ---- how many there are ---- */

static void processes_counted(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct worker *w = arg;

    (void)e;
    w->counting = false;
    if (!reply)
        return;
    w->processes = reply->consumers;
    metric_set(metric_get(&processes, ""), (double)w->processes);
}

static void count_processes(void *arg)
{
    struct worker *w = arg;

    timer_set(w->count, WORKER_COUNT_MS);
    if (w->counting || w->state != WORKER_RUNNING || !mq_channel_is_open(w->count_channel))
        return;
    w->counting = true;
    mq_queue_declare(w->count_channel, w->subscriptions[0].queue->name, true, false, NULL,
                     processes_counted, w);
}

long worker_processes(struct worker *w)
{
    static const struct mq_channel_events no_events;

    if (!w->count) {
        w->count = timer_new(w->loop, count_processes, w);
        w->count_channel = mq_channel_new(w->consume, MQ_CONFIRMS_NONE, &no_events, w);
        timer_set(w->count, 0);
    }
    return w->processes > 0 ? w->processes : 1;
}

/* ---- life ---- */

static void subscribe(struct worker *w)
{
    size_t i;

    for (i = 0; i < work_queues_count; i++) {
        if (strcmp(work_queues[i].kind, w->kind->name) != 0)
            continue;
        if (w->subscriptions_count == SUBSCRIPTIONS_MAX)
            abort();
        w->subscriptions[w->subscriptions_count++] =
            (struct subscription){.worker = w, .queue = &work_queues[i]};
    }
}

static void worker_free(struct worker *w)
{
    struct job *job;

    if (w->kind->stop)
        w->kind->stop();
    while ((job = TAILQ_FIRST(&w->jobs)))
        job_free(job);
    mq_free(w->publish);
    mq_free(w->consume);
    timer_free(w->count);
    timer_free(w->unstall);
    timer_free(w->finish);
    timer_free(w->drain_deadline);
    process_free(w->process);
    loop_free(w->loop);
}

static int run(struct worker *w)
{
    struct err e;

    TAILQ_INIT(&w->jobs);
    TAILQ_INIT(&w->stalled);
    w->loop = loop_new();
    w->unstall = timer_new(w->loop, unstall, w);
    w->finish = timer_new(w->loop, finish, w);
    w->drain_deadline = timer_new(w->loop, finish, w);
    subscribe(w);
    w->process = process_new(w->loop, w->kind->name, health, w, &e);
    w->cannot_serve = w->kind->start != NULL;
    if (!w->process || connect_broker(w, &e) || (w->kind->start && w->kind->start(w, &e))) {
        log_event(LOG_ERROR, "start refused", LOG_STR("error", e.text));
        w->exit_code = EXIT_CONFIG;
    } else {
        loop_on_signal(w->loop, SIGTERM, drain, w);
        loop_on_signal(w->loop, SIGINT, drain, w);
        loop_run(w->loop);
    }
    worker_free(w);
    return w->exit_code;
}

int worker_main(const struct worker_kind *kind, int argc, char **argv)
{
    static const struct worker_operation health_operation = {"system.health", answer_health};
    struct worker_operation *served;
    struct config_section sections[SECTIONS_MAX] = {process_broker_section, worker_section,
                                                    process_admin_section, chat_names_section,
                                                    chat_limits_section};
    char name[64];
    struct program program = {.name = name, .purpose = kind->purpose, .sections = sections};
    struct worker_kind all = *kind;
    struct worker w = {.kind = &all};
    int code;

    snprintf(name, sizeof(name), "chatfleet-%s", kind->name);
    program.count = 5;
    if (program.count + kind->settings_count > SECTIONS_MAX)
        abort(); /* a bug of the worker: its settings would have no values */
    for (size_t i = 0; i < kind->settings_count; i++)
        sections[program.count++] = kind->settings[i];
    served = mem_alloc((kind->operations_count + 1) * sizeof(*served));
    memcpy(served, kind->operations, kind->operations_count * sizeof(*served));
    served[all.operations_count++] = health_operation;
    all.operations = served;
    program_start(&program, argc, argv);
    code = run(&w);
    free(served);
    config_free(sections, program.count);
    return code;
}
