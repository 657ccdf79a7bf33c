/*
 * Messages on chat.control: each process that listens gets every one of them, in a queue of its own
 * that ends with its connection. Nobody waits for them, and one that is missed is missed.
 */
#include "common/worker/worker_internal.h"

#include "common/base/log.h"
#include "common/base/uuid.h"
#include "common/chat/validate.h"

static struct metric_family messages_total = {"worker_control_messages_total", METRIC_COUNTER,
                                              "Messages that came on chat.control", NULL, NULL};

static void listen_again(struct worker *w);

static void message_came(void *arg, const struct mq_delivery *d)
{
    const struct mq_message *m = d->message;
    struct worker *w = arg;
    json_t *body = NULL;
    struct envelope env;
    struct err e;

    metric_add(metric_get(&messages_total, ""), 1);
    envelope_decode(m, &env);
    if (d->oversized)
        err_set(&e, ERR_REJECT, 413, "the body is larger than %ld bytes",
                process_settings.message_max);
    else if (!env.type || env.version < ENVELOPE_VERSION_OLDEST || env.version > ENVELOPE_VERSION)
        err_set(&e, ERR_REJECT, 400, "no type, or an unknown version");
    else
        body = validate_parse(m->body, m->body_len, &e);
    if (body)
        w->kind->control(&env, body);
    else
        log_event(LOG_WARN, "control message not read", LOG_STR("type", env.type),
                  LOG_STR("from", m->app_id), LOG_STR("error", e.text));
    json_decref(body);
}

static void cancelled(void *arg)
{
    struct worker *w = arg;

    w->control_comes = false;
    listen_again(w); /* somebody deleted the queue */
}

static const struct mq_consumer_events consumer_events = {message_came, cancelled};

static void consumed(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct worker *w = arg;

    (void)reply;
    w->control_comes = !e;
    if (!e)
        worker_serves(w);
}

/* A new name each time: the broker may not have noticed yet that the last connection is gone. The
 * exchange may not be there, since the topology is declared on another channel. */
static void listen_again(struct worker *w)
{
    struct mq_channel *ch = w->control_channel;
    const char *exchange = exchange_name(EXCHANGE_CONTROL);
    struct arena *a = arena_new();
    char id[UUID_TEXT];
    const char *queue = arena_printf(a, "%s.%s", exchange, uuid_v7(id));

    mq_exchange_declare(ch, exchange, exchange_type(EXCHANGE_CONTROL), false, NULL, NULL);
    mq_queue_declare(ch, queue, false, true, NULL, NULL, NULL);
    mq_queue_bind(ch, queue, exchange, "", NULL, NULL);
    mq_consume(ch, queue, 0, &consumer_events, w, consumed);
    arena_free(a);
}

static void opened(void *arg, struct mq_channel *ch)
{
    (void)ch;
    listen_again(arg);
}

static void closed(void *arg, struct mq_channel *ch, const struct err *why)
{
    struct worker *w = arg;

    (void)ch;
    w->control_comes = false;
    if (mq_is_up(w->consume))
        log_event(LOG_WARN, "channel closed by the broker", LOG_STR("channel", "control"),
                  LOG_STR("error", why->text));
}

void control_listen(struct worker *w)
{
    static const struct mq_channel_events events = {opened, closed};

    w->control_channel = mq_channel_new(w->consume, MQ_CONFIRMS_NONE, &events, w);
}
