/*
 * Notices to one shim, gathered into one message. At thousands of streams the broker would else spend
 * most of the machine on messages of a few bytes. A notice goes at once when the last message is
 * GATHER_MS ago, and waits for the others until then if it is not: it comes late by that at most. What
 * an answer begins with does not wait, and takes along what does. No message is larger than a shim takes.
 */
#include "common/worker/worker_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

enum {
    GATHER_MS = 5,
    GATHER_BYTES = 65536, /* that go at once */
    HEAD_MAX = 128,       /* a type, a UUID and two numbers */
};

struct gathered {
    LIST_ENTRY(gathered) link;
    char *reply_to;
    struct buf lines;
};

struct gather {
    struct worker *worker;
    struct timer *timer;
    bool timer_set;
    int64_t sent_us;
    LIST_HEAD(, gathered) shims; /* of which something waits */
};

static void publish(struct worker *w, const struct gathered *g)
{
    struct mq_message m = {.exchange = "",
                           .routing_key = g->reply_to,
                           .type = TYPE_NOTICES,
                           .content_type = "text/plain",
                           .delivery_mode = MESSAGE_TRANSIENT,
                           .app_id = process_instance(w->process),
                           .body = g->lines.data,
                           .body_len = g->lines.len};
    struct arena *a = arena_new();
    struct err e;

    mq_table_put_int(a, &m.headers, HEADER_VERSION, ENVELOPE_VERSION);
    mq_publish(w->reply_channel, &m, false, NULL, NULL, &e); /* lost, if it cannot be sent now */
    arena_free(a);
}

void gather_flush(struct worker *w)
{
    struct gather *all = w->gather;
    struct gathered *g;

    if (!all || LIST_EMPTY(&all->shims))
        return;
    while ((g = LIST_FIRST(&all->shims))) {
        publish(w, g);
        LIST_REMOVE(g, link);
        buf_free(&g->lines);
        free(g->reply_to);
        free(g);
    }
    all->sent_us = clock_monotonic_us();
}

static void timer_came(void *arg)
{
    struct gather *all = arg;

    all->timer_set = false;
    gather_flush(all->worker);
}

static struct gathered *of(struct gather *all, const char *reply_to)
{
    struct gathered *g;

    LIST_FOREACH (g, &all->shims, link)
        if (strcmp(g->reply_to, reply_to) == 0)
            return g;
    g = mem_alloc(sizeof(*g));
    g->reply_to = mem_strdup(reply_to);
    buf_init(&g->lines, SIZE_MAX / 2); /* bounded by what one notice and GATHER_BYTES are */
    LIST_INSERT_HEAD(&all->shims, g, link);
    return g;
}

static struct gather *gather_of(struct worker *w)
{
    if (!w->gather) {
        w->gather = mem_alloc(sizeof(*w->gather));
        w->gather->worker = w;
        w->gather->timer = timer_new(w->loop, timer_came, w->gather);
        LIST_INIT(&w->gather->shims);
    }
    return w->gather;
}

/* The lines for a notice of n bytes; NULL when it is too large for a message of its own. */
static struct gathered *with_room(struct worker *w, const char *reply_to, size_t n)
{
    size_t max = (size_t)process_settings.message_max;
    struct gather *all = gather_of(w);
    struct gathered *g = n <= max ? of(all, reply_to) : NULL;

    if (g && g->lines.len + n <= max)
        return g;
    gather_flush(w);
    return g ? of(all, reply_to) : NULL;
}

bool gather_notice(struct worker *w, const struct mq_message *m, int epoch, int64_t offset)
{
    char head[HEAD_MAX];
    size_t head_len = (size_t)snprintf(head, sizeof(head), "%s %s %d %" PRId64 "\n", m->type,
                                       m->correlation_id, epoch, offset);
    struct gathered *g = with_room(w, m->routing_key, head_len + m->body_len + 1);
    struct gather *all = w->gather;
    int64_t passed_ms = (clock_monotonic_us() - all->sent_us) / 1000;

    if (!g)
        return false;
    buf_add(&g->lines, head, head_len);
    buf_add(&g->lines, m->body, m->body_len); /* compact JSON has no line end in it */
    buf_add(&g->lines, "\n", 1);
    if (offset == 0 || passed_ms >= GATHER_MS || g->lines.len >= GATHER_BYTES) {
        gather_flush(w);
    } else if (!all->timer_set) {
        all->timer_set = true;
        timer_set(all->timer, GATHER_MS - passed_ms);
    }
    return true;
}

void gather_free(struct worker *w)
{
    if (!w->gather)
        return;
    gather_flush(w); /* to nobody, where the connection is gone */
    timer_free(w->gather->timer);
    free(w->gather);
    w->gather = NULL;
}
