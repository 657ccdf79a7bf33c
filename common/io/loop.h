/*
 * The event loop: one per process, one thread. Timers, signals, and work put off to the end of the
 * turn. Everything here is for the thread that runs the loop.
 */
#ifndef IO_LOOP_H
#define IO_LOOP_H

#include <stdint.h>

struct event_base;
struct evdns_base;

struct loop;
struct timer;

typedef void loop_cb(void *arg);

struct loop *loop_new(void);
void loop_run(struct loop *l);  /* until loop_stop() */
void loop_stop(struct loop *l); /* after the callbacks under way */
void loop_free(struct loop *l);

/* Call cb in the loop (not in the signal handler) whenever the signal comes. */
void loop_on_signal(struct loop *l, int signal, loop_cb *cb, void *arg);

/* A timer that is not running yet; it fires once each time it is set. Owned by the caller. */
struct timer *timer_new(struct loop *l, loop_cb *cb, void *arg);
void timer_free(struct timer *t);            /* NULL is allowed */
void timer_set(struct timer *t, int64_t ms); /* 0: in this turn, after what is under way; once set
                                                it may be set again, the last one counts */
void timer_stop(struct timer *t);

/* For the other files of common/io only. */
struct event_base *loop_base(struct loop *l);
struct evdns_base *loop_dns(struct loop *l);

#endif
