/*
 * What the yardsticks share: rabbitmq-c's own blocking calls over plain TCP (the library sets
 * TCP_NODELAY and reads up to 128 KB at once), and latencies. Whatever fails ends the program. It
 * uses nothing of the fleet.
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <amqp.h>

enum {
    BARE_CHANNEL = 1,
    BARE_PREFETCH = 256, /* as PREFETCH of a worker */
    BARE_IN_FLIGHT_MAX = 10000,
    BARE_BODY_MAX = 262144,
};

_Noreturn void bare_die(const char *what, const char *why);

double bare_now_s(void); /* of a clock that never goes back */

/* ---- the broker ---- */

amqp_connection_state_t bare_connect(const char *url);
void bare_close(amqp_connection_state_t c);
void bare_confirms(amqp_connection_state_t c); /* each publish is confirmed from here on */

/* A durable quorum queue with the arguments of common/chat/topology.c; tests/bench/run compares
 * them. */
void bare_declare_work_queue(amqp_connection_state_t c, const char *name);
/* A durable classic queue that is deleted when its consumer goes; the name is the caller's to free
 * (amqp_bytes_free). */
amqp_bytes_t bare_declare_replies(amqp_connection_state_t c);
void bare_consume(amqp_connection_state_t c, amqp_bytes_t queue, bool no_ack);

/* What the broker sends: a message, or the confirm of one. */
struct bare_event {
    bool confirm;
    uint64_t tag;
    bool multiple; /* a confirm of this and all before it */
    /* Of a message. These point into rabbitmq-c's pools, until the next event is read. */
    amqp_bytes_t correlation_id, reply_to;
    char body[BARE_BODY_MAX];
    size_t body_len;
};

void bare_next(amqp_connection_state_t c, struct bare_event *event);
bool bare_more_has_been_read(amqp_connection_state_t c);

/* To a queue, through the default exchange. */
struct bare_message {
    amqp_bytes_t queue, body, correlation_id;
    amqp_bytes_t reply_to, type, user; /* .len 0 for none; user: the header x-user-id */
    bool persistent;
};

void bare_publish(amqp_connection_state_t c, const struct bare_message *m);
void bare_ack(amqp_connection_state_t c, uint64_t tag, bool multiple);
/* The number below slots that a correlation id is. */
unsigned long bare_slot(amqp_bytes_t correlation_id, unsigned long slots);

/* ---- processes ---- */

/* Run serve(argument, ready) in a process of its own, which ends with this one; returns when it has
 * written a byte to ready. */
pid_t bare_fork(void (*serve)(int argument, int ready), int argument);

/* ---- latencies ---- */

struct bare_samples {
    float *ms;
    size_t count, room;
};

void bare_keep(struct bare_samples *s, double ms);
void bare_sort(struct bare_samples *s);
double bare_percentile(const struct bare_samples *s, double share); /* of sorted ones */
double bare_cpu_s(int who);                                         /* RUSAGE_… */

#endif
