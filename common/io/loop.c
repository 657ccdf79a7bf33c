#include "common/io/loop.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <event2/dns.h>
#include <event2/event.h>

#include "common/base/log.h"
#include "common/base/mem.h"

struct handler {
    struct handler *next;
    struct event *event;
    loop_cb *cb;
    void *arg;
};

struct loop {
    struct event_base *base;
    struct evdns_base *dns; /* made on first use */
    struct handler *handlers;
};

struct timer {
    struct event *event;
    loop_cb *cb;
    void *arg;
};

static void from_libevent(int severity, const char *text)
{
    log_event(severity >= EVENT_LOG_ERR ? LOG_ERROR : LOG_WARN, "libevent",
              LOG_STR("detail", text));
}

struct loop *loop_new(void)
{
    struct event_config *config = event_config_new();
    struct loop *l = mem_alloc(sizeof(*l));

    signal(SIGPIPE, SIG_IGN); /* a closed socket is told by write() */
    event_set_log_callback(from_libevent);
    /* Tell the kernel once a turn what to watch: evhttp changes its mind often. Safe as long as no
     * descriptor is duplicated while it is watched. */
    if (config)
        event_config_set_flag(config,
                              EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST | EVENT_BASE_FLAG_NOLOCK);
    l->base = config ? event_base_new_with_config(config) : NULL;
    if (config)
        event_config_free(config);
    if (!l->base) {
        fputs("the kernel offers no event mechanism\n", stderr);
        abort();
    }
    return l;
}

void loop_run(struct loop *l)
{
    log_background(true);
    event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY);
    log_background(false);
}

void loop_stop(struct loop *l)
{
    event_base_loopexit(l->base, NULL);
}

void loop_free(struct loop *l)
{
    struct handler *h, *next;

    if (!l)
        return;
    for (h = l->handlers; h; h = next) {
        next = h->next;
        event_free(h->event);
        free(h);
    }
    if (l->dns)
        evdns_base_free(l->dns, 0);
    event_base_free(l->base);
    free(l);
}

static void signal_came(evutil_socket_t fd, short what, void *arg)
{
    struct handler *h = arg;

    (void)fd;
    (void)what;
    h->cb(h->arg);
}

void loop_on_signal(struct loop *l, int signo, loop_cb *cb, void *arg)
{
    struct handler *h = mem_alloc(sizeof(*h));

    h->cb = cb;
    h->arg = arg;
    /* libevent puts back what it finds here when the loop ends: a second SIGTERM must not kill the
     * process in its last steps. */
    signal(signo, SIG_IGN);
    h->event = evsignal_new(l->base, signo, signal_came, h);
    event_add(h->event, NULL);
    h->next = l->handlers;
    l->handlers = h;
}

static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
    struct timer *t = arg;

    (void)fd;
    (void)what;
    t->cb(t->arg); /* may free the timer */
}

struct timer *timer_new(struct loop *l, loop_cb *cb, void *arg)
{
    struct timer *t = mem_alloc(sizeof(*t));

    t->cb = cb;
    t->arg = arg;
    t->event = evtimer_new(l->base, timer_fired, t);
    return t;
}

void timer_free(struct timer *t)
{
    if (!t)
        return;
    event_free(t->event);
    free(t);
}

void timer_set(struct timer *t, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

    if (ms <= 0)
        event_active(t->event, EV_TIMEOUT, 0);
    else
        evtimer_add(t->event, &tv);
}

void timer_stop(struct timer *t)
{
    event_del(t->event);
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

struct evdns_base *loop_dns(struct loop *l)
{
    if (!l->dns) {
        l->dns = evdns_base_new(l->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
        /* Without a resolv.conf it still knows /etc/hosts and numeric addresses. */
        if (l->dns && evdns_base_resolv_conf_parse(l->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf"))
            log_event(LOG_DEBUG, "no name server found", LOG_STR("file", "/etc/resolv.conf"));
    }
    return l->dns;
}
