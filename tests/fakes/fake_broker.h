/*
 * A broker for tests that keeps to the protocol or breaks it, as its script says. It lives on the
 * event loop of what it tests, on a free port of 127.0.0.1, and writes down what it is told.
 *
 * Left alone it answers every synchronous method with its -ok, confirms nothing and delivers
 * nothing: the test says when. All orders go to the connection that came last.
 */
#ifndef FAKES_FAKE_BROKER_H
#define FAKES_FAKE_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/io/loop.h"

/* Where a script strikes: when the client ... */
enum fake_step {
    FAKE_NEVER,
    FAKE_ACCEPT,       /* has connected */
    FAKE_HEADER,       /* has sent its protocol header */
    FAKE_START_OK,     /* has authenticated */
    FAKE_TUNE_OK,      /* has agreed to the limits */
    FAKE_OPEN,         /* opens its virtual host */
    FAKE_CHANNEL_OPEN, /* opens a channel */
};

/* What it does then, in place of the answer. */
enum fake_act {
    FAKE_CLOSE,          /* shuts the connection without a word */
    FAKE_SILENCE,        /* says nothing ever again */
    FAKE_GARBAGE,        /* speaks HTTP */
    FAKE_OTHER_VERSION,  /* offers AMQP 1.0 */
    FAKE_UNKNOWN_METHOD, /* of a class that there is not */
    FAKE_BAD_END,        /* a frame whose end byte is wrong */
    FAKE_HALF_A_FRAME,   /* and shuts the connection */
    FAKE_REFUSE,         /* connection.close with 403 */
    FAKE_OUT_OF_PLACE,   /* a method that has no business here */
};

struct evconnlistener;
struct fake_conn;

struct fake_broker {
    /* The script. */
    enum fake_step step;
    enum fake_act act;
    int times;      /* how many connections it strikes */
    int heartbeat;  /* seconds, offered in tune; 0: none */
    bool beats;     /* send heartbeats */
    bool dribble;   /* every byte leaves alone, in a turn of the loop of its own */
    bool deaf;      /* answer nothing any more */
    bool withholds; /* the answers to basic.qos */
    bool no_plain;  /* offer another mechanism than PLAIN */
    int closes_404; /* close the channel on this many of the next queue.declare */
    unsigned ready; /* messages that queue.declare tells */

    /* What happened. */
    unsigned connections;
    unsigned struck;     /* how often the script did */
    unsigned published;  /* whole messages, on this connection */
    unsigned heartbeats; /* received, in all */
    unsigned bad;        /* frames of the client that made no sense */
    struct buf journal;  /* a line for every method of this connection but the handshake's */
    struct buf start_ok; /* its arguments, raw */
    char vhost[256];
    char consumer[256]; /* the tag that the last basic.consume brought */

    /* Internal. */
    struct loop *loop;
    struct evconnlistener *listener;
    struct fake_conn *conn; /* the latest; NULL: none */
    struct timer *beat;
    int port;
};

struct fake_broker *fake_broker_new(struct loop *l);
void fake_broker_free(struct fake_broker *f);

void fake_drop(struct fake_broker *f);     /* shut the connection without a word */
void fake_unlisten(struct fake_broker *f); /* refuse new connections ... */
int fake_listen(struct fake_broker *f);    /* ... until this, on the same port */

/* Say something; a layout as in wire.h. */
void fake_say(struct fake_broker *f, int channel, unsigned method, const char *layout, ...);
void fake_raw(struct fake_broker *f, const void *data, size_t n);

void fake_ack(struct fake_broker *f, int channel, uint64_t tag, bool multiple);
void fake_nack(struct fake_broker *f, int channel, uint64_t tag, bool multiple);
void fake_deliver(struct fake_broker *f, int channel, const char *consumer, uint64_t tag,
                  const char *body);
/* Give a message back that had only a message id. */
void fake_return(struct fake_broker *f, int channel, const char *exchange, const char *key,
                 const char *message_id);

/* How often the text stands in the journal. */
int fake_count(const struct fake_broker *f, const char *text);
bool fake_connected(const struct fake_broker *f);

#endif
