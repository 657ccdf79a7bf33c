#include "tests/fakes/relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <event2/util.h>

#include "common/base/mem.h"

enum { BITE_MAX = 7 };

struct relay_pair {
    struct relay *relay;
    struct relay_pair *next;
    struct bufferevent *client, *server; /* server: NULL when the relay is mute */
    size_t bite;
};

static void pair_end(struct relay_pair *p)
{
    struct relay_pair **at = &p->relay->pairs;

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    bufferevent_free(p->client);
    if (p->server)
        bufferevent_free(p->server);
    free(p);
}

/* When the client has taken the last bite it gets the next. */
static void to_client(struct relay_pair *p)
{
    struct evbuffer *in = bufferevent_get_input(p->server);
    struct evbuffer *out = bufferevent_get_output(p->client);

    if (p->relay->hold)
        return;
    if (!p->relay->dribble) {
        evbuffer_add_buffer(out, in);
    } else if (evbuffer_get_length(out) == 0 && evbuffer_get_length(in) > 0) {
        p->bite = p->bite % BITE_MAX + 1;
        evbuffer_remove_buffer(in, out, p->bite);
    }
}

static void server_said(struct bufferevent *bev, void *arg)
{
    (void)bev;
    to_client(arg);
}

static void client_took(struct bufferevent *bev, void *arg)
{
    struct relay_pair *p = arg;

    (void)bev;
    if (p->server)
        to_client(p);
}

static void client_said(struct bufferevent *bev, void *arg)
{
    struct relay_pair *p = arg;

    if (p->server)
        evbuffer_add_buffer(bufferevent_get_output(p->server), bufferevent_get_input(bev));
}

/* What the one side said before it closed is still passed on. */
static void closed(struct bufferevent *bev, short what, void *arg)
{
    struct relay_pair *p = arg;

    if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
        return;
    if (bev == p->server && !p->relay->hold && !p->relay->dribble &&
        evbuffer_get_length(bufferevent_get_output(p->client)) > 0) {
        struct evbuffer *out = bufferevent_get_output(p->client);

        evbuffer_write(out, bufferevent_getfd(p->client));
    }
    pair_end(p);
}

static struct bufferevent *side_new(struct relay_pair *p, int fd, bufferevent_data_cb said,
                                    bufferevent_data_cb took)
{
    struct bufferevent *bev =
        bufferevent_socket_new(loop_base(p->relay->loop), fd, BEV_OPT_CLOSE_ON_FREE);

    if (!bev)
        abort();
    bufferevent_setcb(bev, said, took, closed, p);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
    return bev;
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
                     int n, void *arg)
{
    struct relay *r = arg;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)r->server_port)};
    struct relay_pair *p;
    int on = 1;

    (void)listener;
    (void)from;
    (void)n;
    r->accepted++;
    if (r->hang_up) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    p = mem_alloc(sizeof(*p));
    p->relay = r;
    p->next = r->pairs;
    r->pairs = p;
    p->client = side_new(p, fd, client_said, client_took);
    if (r->mute)
        return;
    inet_pton(AF_INET, r->host, &to.sin_addr);
    p->server = side_new(p, -1, server_said, NULL);
    bufferevent_socket_connect(p->server, (struct sockaddr *)&to, sizeof(to));
}

struct relay *relay_new(struct loop *l, const char *host, int server_port)
{
    struct relay *r = mem_alloc(sizeof(*r));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);

    r->loop = l;
    r->host = host;
    r->server_port = server_port;
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (r->fd < 0 || bind(r->fd, (struct sockaddr *)&at, sizeof(at)) ||
        getsockname(r->fd, (struct sockaddr *)&at, &n)) {
        perror("relay");
        abort();
    }
    r->port = ntohs(at.sin_port);
    return r;
}

void relay_listen(struct relay *r)
{
    r->listener =
        evconnlistener_new(loop_base(r->loop), accepted, r, LEV_OPT_CLOSE_ON_FREE, 64, r->fd);
    if (!r->listener)
        abort();
}

void relay_cut(struct relay *r)
{
    while (r->pairs)
        pair_end(r->pairs);
}

size_t relay_held(const struct relay *r)
{
    const struct relay_pair *p;
    size_t n = 0;

    for (p = r->pairs; p; p = p->next)
        if (p->server)
            n += evbuffer_get_length(bufferevent_get_input(p->server));
    return n;
}

void relay_free(struct relay *r)
{
    if (!r)
        return;
    relay_cut(r);
    if (r->listener)
        evconnlistener_free(r->listener);
    else
        close(r->fd);
    free(r);
}
