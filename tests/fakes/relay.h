/*
 * A TCP relay for tests: it stands between a client and a real server on 127.0.0.1, passes on what
 * they say, and spoils it as it is told. It lives on the event loop of the client.
 */
#ifndef FAKES_RELAY_H
#define FAKES_RELAY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/io/loop.h"

struct relay;
struct relay_pair;
struct evconnlistener;

struct relay {
    /* What it does; may be changed at any time. */
    bool dribble; /* 1 to 7 bytes at a time reach the client, each in a turn of its own */
    bool hold;    /* what the server says is kept back */
    bool hang_up; /* a client is let go as soon as it has connected */
    bool mute;    /* a client is never answered, nor connected to the server */

    int port; /* where clients connect */
    int accepted;

    struct loop *loop;
    int fd;
    struct evconnlistener *listener;
    const char *host;
    int server_port;
    struct relay_pair *pairs;
};

/* It has its port, but refuses connections until relay_listen(). host is borrowed. */
struct relay *relay_new(struct loop *l, const char *host, int server_port);
void relay_free(struct relay *r); /* NULL is allowed */
void relay_listen(struct relay *r);
void relay_cut(struct relay *r); /* every connection, without a word */
/* Bytes of the server that are held back. */
size_t relay_held(const struct relay *r);

#endif
