/*
 * A connection to an AMQP 0-9-1 broker that keeps itself alive: it connects, authenticates, keeps
 * heartbeats, and after a loss connects again with jittered back-off. Nothing here ever blocks.
 *
 * A channel is opened anew on every connection, and again when the broker closes it; each time its
 * opened() callback declares what is needed and starts the consumers. So topology, prefetch and
 * consumers are the same after a reconnect as at the start.
 *
 * Publishing never waits: a message is written into the connection's output, whose size is
 * bounded, or refused at once with an honest "not now" (connection down, broker blocked, output
 * full, all ERR_RETRY with status 503).
 */
#ifndef IO_MQ_H
#define IO_MQ_H

#include "common/io/amqp.h"
#include "common/io/loop.h"

struct mq;
struct mq_channel;

struct mq_config {
    const char *url;         /* amqp[s]://user:password@host:port/vhost */
    const char *name;        /* shown in the management UI */
    const char *ca_file;     /* amqps: whose signature the broker's certificate must bear; "" means
                            the system's authorities */
    int heartbeat;           /* seconds; the lower of ours and the broker's counts */
    long connect_timeout_ms; /* for the address, the TCP and TLS connection and the handshake */
    long backoff_max_ms;
    size_t output_max;  /* bytes waiting to be written before publishing is refused */
    size_t message_max; /* bytes of a delivered body; larger ones come marked oversized */
};

struct mq_events {
    void (*up)(void *arg); /* may be NULL */
    /* Lost, or not reached at all; it is tried again. The kind is ERR_FATAL when the broker refuses
     * the login or the virtual host. May be NULL. */
    void (*down)(void *arg, const struct err *why);
    /* The broker stopped (or again accepts) taking messages: memory or disk is short there. */
    void (*blocked)(void *arg, bool blocked, const char *why); /* may be NULL */
};

/* Never fails later than here: only a malformed URL or an unreadable ca_file is an error. The
 * strings of the config are copied. Connecting starts in the next turn of the loop. */
struct mq *mq_open(struct loop *l, const struct mq_config *config, const struct mq_events *events,
                   void *arg, struct err *e);

/* Say goodbye to the broker, then call done (once, from the loop; may be NULL). What is in the
 * output is written first, acks too. When called again, the last done counts. mq_free() is still to
 * be called. */
void mq_close(struct mq *m, loop_cb *done, void *arg);
void mq_free(struct mq *m); /* at once; calls no callback any more; frees the channels too */

bool mq_is_up(const struct mq *m);                 /* connected and authenticated */
bool mq_can_publish(const struct mq *m);           /* up, not blocked, output below its bound */
size_t mq_output(const struct mq *m);              /* bytes waiting to be written */
const char *mq_broker_version(const struct mq *m); /* "3.10.8", or "" before the first connection */
unsigned long mq_connections(const struct mq *m);  /* how often it came up */

/* ---- channels ---- */

struct mq_channel_events {
    /* Open: declare, then consume. Called again after every loss. */
    void (*opened)(void *arg, struct mq_channel *ch);
    /* The channel is gone, with its consumers and unacknowledged deliveries; it will be opened
     * again. May be NULL. */
    void (*closed)(void *arg, struct mq_channel *ch, const struct err *why);
};

/* How the outcome of a publish becomes known. */
enum mq_confirms {
    MQ_CONFIRMS_NONE,
    MQ_CONFIRMS_EACH, /* the broker confirms each message when its queues have it safe */
    /* A synchronous method follows the messages, one at a time; its answer says that the broker
     * has routed all before it. As good as a confirm for transient messages to a classic queue, and
     * much cheaper. MQ_REFUSED does not occur: a full queue drops the message. */
    MQ_CONFIRMS_BARRIER,
};

struct mq_channel *mq_channel_new(struct mq *m, enum mq_confirms confirms,
                                  const struct mq_channel_events *ev, void *arg);
bool mq_channel_is_open(const struct mq_channel *ch);

/* Counts how often the channel was opened: a delivery can only be acked on the same count. */
unsigned mq_channel_epoch(const struct mq_channel *ch);

/* The answer to a synchronous method; e is NULL when it was done. */
struct mq_reply {
    uint32_t messages, consumers; /* of a queue's declare */
};
typedef void mq_reply_cb(void *arg, const struct mq_reply *r, const struct err *e);

/* Close a channel in good order, and free it: its acks leave before, and the broker puts back what is
 * unsettled. What was asked is still answered, and what was published has its outcome; deliveries
 * do not come any more, nor is closed() called. done (may be NULL) is called once, from the loop; e
 * is not NULL when the connection went before the broker's answer. ch is not to be used any more. */
void mq_channel_close(struct mq_channel *ch, mq_reply_cb *done, void *arg);

/* Each is sent at once, in order, and answered in order; cb may be NULL. On a channel that is not
 * open the answer is an error, from within the call. An error closes the channel (AMQP has it so),
 * so that those behind it fail too. */
void mq_exchange_declare(struct mq_channel *ch, const char *name, const char *type, bool passive,
                         mq_reply_cb *cb, void *arg);
void mq_queue_declare(struct mq_channel *ch, const char *name, bool passive, bool exclusive,
                      const struct mq_table *arguments, mq_reply_cb *cb, void *arg);
void mq_queue_bind(struct mq_channel *ch, const char *queue, const char *exchange, const char *key,
                   mq_reply_cb *cb, void *arg);
void mq_queue_delete(struct mq_channel *ch, const char *name, mq_reply_cb *cb, void *arg);

struct mq_delivery {
    uint64_t tag;
    unsigned epoch; /* of the channel */
    bool redelivered;
    bool oversized;                   /* the body was larger than message_max and is not here */
    const struct mq_message *message; /* for the time of the call; copy what must stay */
    struct mq *mq;                    /* internal */
};

/* Take the message out of a delivery, once, within the call: *to lives in the arena returned, which
 * the caller frees. */
struct arena *mq_take(const struct mq_delivery *d, struct mq_message *to);

struct mq_consumer;

struct mq_consumer_events {
    void (*delivery)(void *arg, const struct mq_delivery *d);
    /* The broker ended the consumer, the queue was deleted, say. It is freed after the call. May
     * be NULL. */
    void (*cancelled)(void *arg);
};

/* prefetch 0: no limit, and no acks. The consumer ends with its channel or by mq_cancel(). */
struct mq_consumer *mq_consume(struct mq_channel *ch, const char *queue, uint16_t prefetch,
                               const struct mq_consumer_events *ev, void *arg, mq_reply_cb *cb);
/* Deliveries that are under way still come, until cb is called. */
void mq_cancel(struct mq_consumer *c, mq_reply_cb *cb, void *arg);

/* Settle one delivery, with its epoch; those of an earlier one are silently left out, as the
 * broker delivers them again. Acks of one turn of the loop leave together. */
void mq_ack(struct mq_channel *ch, uint64_t tag, unsigned epoch);
void mq_nack(struct mq_channel *ch, uint64_t tag, unsigned epoch, bool requeue);

/* ---- publishing ---- */

enum mq_outcome {
    MQ_CONFIRMED, /* the broker has it safe */
    MQ_RETURNED,  /* mandatory, and no queue is bound */
    MQ_REFUSED,   /* nacked: a queue is full */
    MQ_LOST,      /* the connection or channel went before the answer: it may have arrived or not */
};
typedef void mq_outcome_cb(void *arg, enum mq_outcome outcome);

/*
 * Returns a number above 0, for mq_forget(), or -1 with e->kind ERR_RETRY ("not now", nothing was
 * sent) or ERR_REJECT (it does not fit into frames). On a channel with confirms cb (may be NULL)
 * is called exactly once, from the loop. On one without, never.
 */
int64_t mq_publish(struct mq_channel *ch, const struct mq_message *m, bool mandatory,
                   mq_outcome_cb *cb, void *arg, struct err *e);
void mq_forget(struct mq_channel *ch, int64_t publish); /* the outcome is not wanted any more */
size_t mq_unconfirmed(const struct mq_channel *ch);

#endif
