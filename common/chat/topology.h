/*
 * The fleet's exchanges, queues and bindings (docs/PROTOCOL.md), declared by every process that
 * uses them. What safety depends on stands in the queues' arguments, so that no worker can run on
 * an unsafe queue; lengths and the like are for policies.
 */
#ifndef CHAT_TOPOLOGY_H
#define CHAT_TOPOLOGY_H

#include <stdbool.h>

#include "common/base/config.h"
#include "common/io/mq.h"

/* Set by configuration; a section of every process. */
struct chat_names {
    char *prefix; /* of the exchanges and reply queues: "chat" */
};
extern struct chat_names chat_names;
extern const struct config_section chat_names_section;

enum exchange {
    EXCHANGE_RPC,
    EXCHANGE_EVENTS,
    EXCHANGE_PUSH,
    EXCHANGE_CONTROL,
    EXCHANGE_DLX,
    EXCHANGES,
};

const char *exchange_name(enum exchange x); /* "chat.rpc" */
const char *exchange_type(enum exchange x); /* "direct" */

/* Between prefix and UUID in the name of a shim's reply queue: it says that notices may come gathered
 * (TYPE_NOTICES), to whichever process answers. */
#define REPLY_MANY ".reply.many."
bool reply_takes_many(const char *reply_to);

/* A queue of work, with its delay queues and its dead letters. */
struct work_queue {
    const char *name;
    const char *kind; /* of the workers that consume it */
    bool first;       /* of its kind: answers system.health */
    bool reads;       /* classic, its messages transient: losing one harms nobody */
};

extern const struct work_queue work_queues[];
extern const size_t work_queues_count;

const struct work_queue *work_queue_find(const char *name); /* NULL: there is none */

/* Delays of a retry, the shortest first. */
struct retry_delay {
    const char *suffix; /* of the queue's name: ".retry.1s" */
    long ms;
};
enum { RETRY_DELAYS = 4 };
extern const struct retry_delay retry_delays[RETRY_DELAYS];

enum { WORK_DELIVERY_LIMIT = 20, DLQ_DELIVERY_LIMIT = 1000000 };

/* Is this a queue of ours, to which nobody may have replies sent? */
bool topology_owns_queue(const char *name);

/*
 * Declare the exchanges, and the queues of one kind (NULL: of every kind, "": none) with their
 * bindings. done is called once, with e NULL when everything is there, from the loop or from
 * within the call. A queue that exists with other arguments is an error that names it; so is a
 * broker that cannot dead-letter at least once (older than 3.10, or its feature flag stream_queue
 * is off).
 */
typedef void topology_cb(void *arg, const struct err *e);
void topology_declare(struct mq *m, struct mq_channel *ch, const char *kind, topology_cb *done,
                      void *arg);

/* Every declaration in order, for people and machines: what topology_declare() would do. */
struct topology_line {
    const char *what; /* "exchange", "queue" or "binding" */
    const char *name;
    const char *detail; /* "direct, durable", "durable, x-…=…", "from chat.rpc by …" */
};
typedef void topology_line_cb(void *arg, const struct topology_line *line);
void topology_list(const char *kind, topology_line_cb *cb, void *arg);

#endif
