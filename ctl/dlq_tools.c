#include "ctl/dlq_tools.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/chat/topology.h"

enum { EXPIRES_MS = 60000 }; /* the queue, after its last consumer */

struct tools {
    struct ctl_session *session;
    struct mq_channel *channel; /* of its own: an error closes nothing else */
    char *queue;
    tools_cb *cb; /* what waits for an answer, or NULL */
    void *arg;
    bool refused, told;
    long others;
};

static void answer(struct tools *t)
{
    tools_cb *cb = t->cb;

    t->cb = NULL;
    if (cb && !t->session->ended)
        cb(t->arg);
}

static void refuse(struct tools *t, const struct err *e)
{
    if (!t->refused && !t->session->ended && mq_is_up(t->session->mq))
        fprintf(stderr, "chatfleet: whether others are at work is not known: %s\n", e->text);
    t->refused = true;
    t->others = -1;
}

static void consumed(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct tools *t = arg;

    (void)reply;
    if (e)
        refuse(t, e);
    answer(t);
}

static void ignored(void *arg, const struct mq_delivery *d)
{
    (void)arg;
    (void)d;
}

static void declared(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct tools *t = arg;

    (void)reply;
    if (e)
        refuse(t, e); /* the consumer's answer follows */
}

static void opened(void *arg, struct mq_channel *ch)
{
    static const struct mq_consumer_events events = {ignored, NULL};
    struct tools *t = arg;
    struct mq_table arguments = {0};
    struct arena *a;

    if (t->refused)
        return;
    a = arena_new();
    mq_table_put_string(a, &arguments, "x-queue-type", "classic");
    mq_table_put_int(a, &arguments, "x-expires", EXPIRES_MS);
    mq_queue_declare(ch, t->queue, false, false, &arguments, declared, t);
    mq_consume(ch, t->queue, 0, &events, t, consumed);
    arena_free(a);
}

struct tools *tools_join(struct ctl_session *s, tools_cb *joined, void *arg)
{
    static const struct mq_channel_events events = {opened, NULL};
    struct tools *t = mem_alloc(sizeof(*t));

    t->session = s;
    t->queue = mem_printf("%s.dlq.tools", chat_names.prefix);
    t->cb = joined;
    t->arg = arg;
    t->channel = mq_channel_new(s->mq, MQ_CONFIRMS_NONE, &events, t);
    return t;
}

void tools_free(struct tools *t)
{
    if (!t)
        return;
    free(t->queue);
    free(t);
}

static void tell(struct tools *t)
{
    if (t->told)
        return;
    t->told = true;
    if (t->others == 1)
        fputs("chatfleet: another `chatfleet dlq` is at work: letters that it holds are not seen "
              "here\n",
              stderr);
    else
        fprintf(stderr,
                "chatfleet: %ld other `chatfleet dlq` are at work: letters that they hold are not "
                "seen here\n",
                t->others);
}

static void counted(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct tools *t = arg;

    if (e)
        refuse(t, e);
    else if ((long)reply->consumers - 1 > t->others)
        t->others = (long)reply->consumers - 1;
    if (t->others > 0)
        tell(t);
    answer(t);
}

void tools_count(struct tools *t, tools_cb *cb, void *arg)
{
    t->cb = cb;
    t->arg = arg;
    if (t->refused)
        answer(t);
    else
        mq_queue_declare(t->channel, t->queue, true, false, NULL, counted, t);
}

long tools_others(const struct tools *t)
{
    return t->others;
}
