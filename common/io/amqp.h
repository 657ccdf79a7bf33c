/*
 * AMQP 0-9-1 as bytes: the only place that knows rabbitmq-c, which serves as the codec. No sockets
 * here; common/io/mq.h is the connection.
 */
#ifndef IO_AMQP_H
#define IO_AMQP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/io/message.h"

/* A broker's address out of amqp://user:password@host:port/vhost. */
struct mq_address {
    char *user, *password, *host, *vhost; /* owned */
    int port;
    bool tls; /* amqps:// */
};

int mq_address_parse(const char *url, struct mq_address *out, struct err *e);
void mq_address_free(struct mq_address *a);

/* ---- what comes in ---- */

enum codec_kind {
    CODEC_NOTHING, /* more bytes are needed */
    CODEC_HEARTBEAT,
    CODEC_START,
    CODEC_TUNE,
    CODEC_OPEN_OK,
    CODEC_CLOSE,
    CODEC_CLOSE_OK,
    CODEC_BLOCKED,
    CODEC_UNBLOCKED,
    CODEC_CHANNEL_CLOSE,
    CODEC_CHANNEL_CLOSE_OK,
    CODEC_CHANNEL_FLOW,
    CODEC_REPLY, /* any answer to a synchronous method of a channel */
    CODEC_CANCEL,
    CODEC_ACK,
    CODEC_NACK,
    CODEC_DELIVER, /* with its message, complete */
    CODEC_RETURN,  /* likewise */
    CODEC_OTHER,   /* known to the codec, of no use to us */
};

/* One thing that the broker said. Pointers are good until the next codec_next(). */
struct codec_in {
    enum codec_kind kind;
    uint16_t channel;
    uint16_t code;       /* close, return */
    const char *text;    /* close, return, blocked: why; deliver, cancel: the consumer's tag */
    uint64_t tag;        /* deliver, ack, nack */
    bool flag;           /* ack, nack: multiple; deliver: redelivered; flow: active */
    bool plain;          /* start: PLAIN is offered */
    const char *version; /* start: of the broker, "" if it does not say */
    int channel_max, frame_max, heartbeat; /* tune */
    uint32_t messages, consumers;          /* reply to a queue's declare */
    struct mq_message message;
    bool oversized; /* the message's body was over the limit and is not in message */
};

struct codec;

/* message_max bounds the bodies that are kept, in bytes; a larger one is read and thrown away. */
struct codec *codec_new(size_t message_max);
void codec_free(struct codec *c);

/* Take one thing out of the n bytes at data; *used says how many of them were taken. Returns -1
 * when the bytes are not AMQP or exceed a limit: the connection is of no use then. */
int codec_next(struct codec *c, const char *data, size_t n, size_t *used, struct codec_in *in,
               struct err *e);

/* Take over the arena in which the texts and tables of the last codec_in live; NULL: there are
 * none, or they were taken. */
struct arena *codec_take(struct codec *c);

/* ---- what goes out: each appends whole frames to out ---- */

void codec_set_frame_max(struct codec *c, int bytes);

int codec_put_protocol(struct buf *out);
int codec_put_heartbeat(struct codec *c, struct buf *out);
int codec_put_start_ok(struct codec *c, struct buf *out, const struct mq_address *who,
                       const char *connection_name, const char *version);
int codec_put_tune_ok(struct codec *c, struct buf *out, int channel_max, int frame_max,
                      int heartbeat);
int codec_put_open(struct codec *c, struct buf *out, const char *vhost);
int codec_put_close(struct codec *c, struct buf *out, const char *why);
int codec_put_close_ok(struct codec *c, struct buf *out);
int codec_put_channel_open(struct codec *c, struct buf *out, uint16_t channel);
int codec_put_channel_close(struct codec *c, struct buf *out, uint16_t channel, const char *why);
int codec_put_channel_close_ok(struct codec *c, struct buf *out, uint16_t channel);
int codec_put_flow_ok(struct codec *c, struct buf *out, uint16_t channel, bool active);
int codec_put_confirm_select(struct codec *c, struct buf *out, uint16_t channel);
int codec_put_exchange_declare(struct codec *c, struct buf *out, uint16_t channel, const char *name,
                               const char *type, bool passive, bool durable);
int codec_put_queue_declare(struct codec *c, struct buf *out, uint16_t channel, const char *name,
                            bool passive, bool durable, bool exclusive,
                            const struct mq_table *arguments);
int codec_put_queue_bind(struct codec *c, struct buf *out, uint16_t channel, const char *queue,
                         const char *exchange, const char *key);
int codec_put_queue_delete(struct codec *c, struct buf *out, uint16_t channel, const char *name);
int codec_put_qos(struct codec *c, struct buf *out, uint16_t channel, uint16_t prefetch);
int codec_put_consume(struct codec *c, struct buf *out, uint16_t channel, const char *queue,
                      const char *tag, bool no_ack);
int codec_put_cancel(struct codec *c, struct buf *out, uint16_t channel, const char *tag);
int codec_put_ack(struct codec *c, struct buf *out, uint16_t channel, uint64_t tag, bool multiple);
int codec_put_nack(struct codec *c, struct buf *out, uint16_t channel, uint64_t tag, bool requeue);
int codec_put_publish(struct codec *c, struct buf *out, uint16_t channel,
                      const struct mq_message *m, bool mandatory, struct err *e);

#endif
