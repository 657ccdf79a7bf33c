/* What mq.c (the connection) and mq_channel.c (what runs on it) share. For these two only. */
#ifndef IO_MQ_INTERNAL_H
#define IO_MQ_INTERNAL_H

#include <event2/util.h> /* evutil_addrinfo is a macro */

#include "common/io/mq.h"

enum mq_state {
    MQ_DOWN,       /* waiting for the next attempt */
    MQ_RESOLVING,  /* asking for the address */
    MQ_CONNECTING, /* TCP and TLS */
    MQ_HANDSHAKE,  /* start, tune, open */
    MQ_UP,
    MQ_CLOSING, /* we said close and wait for the answer */
    MQ_CLOSED,  /* for good */
};

struct mq {
    struct loop *loop;
    struct mq_address address;
    struct mq_config config; /* url and ca_file are not kept */
    char *name;
    struct mq_events events;
    void *arg;
    struct ssl_ctx_st *tls; /* NULL: plain TCP */

    enum mq_state state;
    enum codec_kind awaited; /* by the handshake */
    struct evdns_getaddrinfo_request *resolving;
    struct evutil_addrinfo *addresses, *next_address;
    struct bufferevent *bev;
    struct ssl_st *ssl; /* owned by bev */
    struct codec *codec;
    struct buf out;      /* frames of this turn of the loop */
    struct timer *flush; /* writes them at its end */
    struct timer *retry, *deadline, *heartbeat;
    int heartbeat_s;
    bool read_since_beat, wrote_since_beat;
    bool blocked;
    unsigned failures; /* attempts since it was last up for a while */
    int64_t up_since_us, unblocked_us;
    unsigned long connections;
    char version[32]; /* of the broker */
    loop_cb *closed;
    void *closed_arg;

    struct mq_channel *channels;
};

/* The connection, for mq_channel.c. */
void mq_flush_later(struct mq *m);

/* The channels, for mq.c. */
void mq_channels_up(struct mq *m);
void mq_channels_send_acks(struct mq *m);    /* those of this turn of the loop */
void mq_channels_put_barriers(struct mq *m); /* behind the publishes of this turn */
void mq_channels_down(struct mq *m, const struct err *why);
/* Has a synchronous method waited longer than this for its answer? */
bool mq_channels_overdue(const struct mq *m, long ms);
void mq_channels_free(struct mq *m);
int mq_channel_input(struct mq *m, const struct codec_in *in, struct err *e);

#endif
