#include "common/io/mq_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/program.h"
#include "common/io/backoff.h"
#include "common/io/tls.h"

enum {
    CLOSE_TIMEOUT_MS = 2000,
    LASTING_US = 1000000, /* after this a connection counts as a good one */
    CHANNEL_MAX = 15,
    ACCESS_REFUSED = 403,        /* reply codes of AMQP: the login, */
    NOT_ALLOWED = 530,           /* and the virtual host */
    OUT_SLACK = 4 * 1024 * 1024, /* acks and declares may pass the publisher's bound */
};

static void connect_now(void *arg);

/* ---- output ---- */

size_t mq_output(const struct mq *m)
{
    size_t n = m->out.len;

    if (m->bev)
        n += evbuffer_get_length(bufferevent_get_output(m->bev));
    return n;
}

/* The frames of this turn leave in one write. Without TLS it is tried at once, which saves telling
 * the kernel to watch for writability and then to stop it. */
static void flush(void *arg)
{
    struct mq *m = arg;
    struct evbuffer *output;
    size_t sent = 0;
    ssize_t n;

    if (!m->bev || m->out.len == 0)
        return;
    mq_channels_put_barriers(m);
    m->wrote_since_beat = true;
    output = bufferevent_get_output(m->bev);
    if (!m->ssl && evbuffer_get_length(output) == 0) {
        n = send(bufferevent_getfd(m->bev), m->out.data, m->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            sent = (size_t)n;
    }
    if (sent < m->out.len)
        bufferevent_write(m->bev, m->out.data + sent, m->out.len - sent);
    buf_clear(&m->out);
}

void mq_flush_later(struct mq *m)
{
    timer_set(m->flush, 0);
}

bool mq_is_up(const struct mq *m)
{
    return m->state == MQ_UP;
}

bool mq_can_publish(const struct mq *m)
{
    return m->state == MQ_UP && !m->blocked && mq_output(m) <= m->config.output_max;
}

const char *mq_broker_version(const struct mq *m)
{
    return m->version;
}

unsigned long mq_connections(const struct mq *m)
{
    return m->connections;
}

/* ---- the end of a connection, and the next attempt ---- */

/* Let go of the socket and of everything that belongs to it. */
static void drop(struct mq *m)
{
    if (m->resolving)
        evdns_getaddrinfo_cancel(m->resolving);
    m->resolving = NULL;
    if (m->addresses)
        evutil_freeaddrinfo(m->addresses);
    m->addresses = m->next_address = NULL;
    if (m->bev)
        bufferevent_free(m->bev);
    m->bev = NULL;
    m->ssl = NULL;
    codec_free(m->codec);
    m->codec = NULL;
    buf_clear(&m->out);
    timer_stop(m->flush);
    timer_stop(m->deadline);
    timer_stop(m->heartbeat);
    timer_stop(m->retry);
}

static void end_closing(struct mq *m)
{
    drop(m);
    m->state = MQ_CLOSED;
    if (m->closed)
        m->closed(m->closed_arg);
}

static void lost(struct mq *m, const struct err *why)
{
    bool was_up = m->state == MQ_UP;
    bool closing = m->state == MQ_CLOSING;
    int64_t wait;

    /* A broker that takes connections and drops them at once is not come back to at once. */
    if (was_up && clock_monotonic_us() - m->up_since_us > LASTING_US)
        m->failures = 0;
    drop(m);
    m->blocked = false;
    if (closing) {
        mq_channels_down(m, why);
        end_closing(m);
        return;
    }
    m->state = MQ_DOWN;
    wait = backoff_ms(m->failures, m->config.backoff_max_ms);
    log_event(LOG_WARN, was_up ? "broker connection lost" : "broker not reached",
              LOG_STR("connection", m->name), LOG_STR("host", m->address.host),
              LOG_NUM("port", m->address.port), LOG_STR("error", why->text),
              LOG_NUM("retry_ms", (long)wait));
    m->failures++;
    timer_set(m->retry, wait);
    if (was_up)
        mq_channels_down(m, why);
    if (m->events.down)
        m->events.down(m->arg, why);
}

static void too_late(void *arg)
{
    struct mq *m = arg;
    struct err e;

    if (m->state == MQ_UP)
        err_set(&e, ERR_RETRY, 503, "no heartbeat for %d s", m->heartbeat_s * 2);
    else
        err_set(&e, ERR_RETRY, 503, "no answer within %ld ms", m->config.connect_timeout_ms);
    lost(m, &e);
}

/* ---- heartbeats ---- */

/* Twice a period: send something if nothing was sent; after two silent periods the deadline comes
 * and the broker is taken for dead. So is one that beats but does not answer. */
static void beat(void *arg)
{
    struct mq *m = arg;
    struct err e;

    if (!m->wrote_since_beat) {
        codec_put_heartbeat(m->codec, &m->out);
        flush(m);
    }
    m->wrote_since_beat = false;
    timer_set(m->heartbeat, m->heartbeat_s * 500);
    if (m->read_since_beat) {
        m->read_since_beat = false;
        timer_set(m->deadline, m->heartbeat_s * 2000);
    }
    if (!m->blocked && mq_channels_overdue(m, m->config.connect_timeout_ms)) {
        err_set(&e, ERR_RETRY, 503, "a request was not answered within %ld ms",
                m->config.connect_timeout_ms);
        lost(m, &e);
    }
}

/* ---- the handshake ---- */

static int lower(int ours, int theirs)
{
    if (ours == 0 || theirs == 0)
        return ours > theirs ? ours : theirs;
    return ours < theirs ? ours : theirs;
}

static void tuned(struct mq *m, const struct codec_in *in)
{
    int frame_max = in->frame_max >= 4096 ? in->frame_max : 131072; /* 0: no limit */

    m->heartbeat_s = lower(m->config.heartbeat, in->heartbeat);
    codec_put_tune_ok(m->codec, &m->out, lower(CHANNEL_MAX, in->channel_max), frame_max,
                      m->heartbeat_s);
    codec_set_frame_max(m->codec, frame_max);
    codec_put_open(m->codec, &m->out, m->address.vhost);
    mq_flush_later(m);
}

static void came_up(struct mq *m)
{
    m->state = MQ_UP;
    m->up_since_us = clock_monotonic_us();
    m->connections++;
    timer_stop(m->deadline);
    if (m->heartbeat_s > 0) {
        m->read_since_beat = true;
        timer_set(m->heartbeat, m->heartbeat_s * 500);
        timer_set(m->deadline, m->heartbeat_s * 2000);
    }
    log_event(LOG_INFO, "broker connected", LOG_STR("connection", m->name),
              LOG_STR("host", m->address.host), LOG_NUM("port", m->address.port),
              LOG_STR("version", m->version));
    mq_channels_up(m);
    if (m->events.up)
        m->events.up(m->arg);
}

/* start, tune and open-ok, each once and in this order. */
static int handshake(struct mq *m, const struct codec_in *in, struct err *e)
{
    if (in->kind == CODEC_HEARTBEAT)
        return 0;
    if (in->kind != m->awaited)
        return err_set(e, ERR_RETRY, 503, "the broker sent something else than a handshake");
    if (in->kind == CODEC_START) {
        if (!in->plain)
            return err_set(e, ERR_RETRY, 503, "the broker does not offer SASL PLAIN");
        snprintf(m->version, sizeof(m->version), "%s", in->version);
        codec_put_start_ok(m->codec, &m->out, &m->address, m->name, program_version());
        mq_flush_later(m);
        m->awaited = CODEC_TUNE;
    } else if (in->kind == CODEC_TUNE) {
        tuned(m, in);
        m->awaited = CODEC_OPEN_OK;
    } else {
        came_up(m);
    }
    return 0;
}

/* ---- input ---- */

static void set_blocked(struct mq *m, bool blocked, const char *why)
{
    m->blocked = blocked;
    if (!blocked)
        m->unblocked_us = clock_monotonic_us();
    log_event(LOG_WARN, blocked ? "broker blocked" : "broker unblocked",
              LOG_STR("connection", m->name), LOG_STR("reason", why));
    if (m->events.blocked)
        m->events.blocked(m->arg, blocked, why);
}

static int take(struct mq *m, const struct codec_in *in, struct err *e)
{
    switch (in->kind) {
    case CODEC_CLOSE:
        codec_put_close_ok(m->codec, &m->out);
        flush(m);
        return err_set(
            e, in->code == ACCESS_REFUSED || in->code == NOT_ALLOWED ? ERR_FATAL : ERR_RETRY, 503,
            "the broker closed the connection: %d %s", in->code, in->text);
    case CODEC_CLOSE_OK:
        return err_set(e, ERR_RETRY, 503, "closed");
    case CODEC_BLOCKED:
        set_blocked(m, true, in->text);
        return 0;
    case CODEC_UNBLOCKED:
        set_blocked(m, false, NULL);
        return 0;
    case CODEC_HEARTBEAT:
    case CODEC_NOTHING:
    case CODEC_OTHER:
        return 0;
    default:
        break;
    }
    if (m->state == MQ_HANDSHAKE)
        return handshake(m, in, e);
    if (in->kind == CODEC_START || in->kind == CODEC_TUNE || in->kind == CODEC_OPEN_OK)
        return err_set(e, ERR_RETRY, 503, "the broker started a second handshake");
    return mq_channel_input(m, in, e);
}

static void readable(struct bufferevent *bev, void *arg)
{
    struct mq *m = arg;
    struct evbuffer *input = bufferevent_get_input(bev);
    struct codec_in in;
    size_t used, n;
    const char *data;
    struct err e;

    m->read_since_beat = true;
    while (m->bev == bev && evbuffer_get_length(input) > 0) {
        n = evbuffer_get_contiguous_space(input);
        data = (const char *)evbuffer_pullup(input, (ev_ssize_t)n);
        if (codec_next(m->codec, data, n, &used, &in, &e)) {
            lost(m, &e);
            return;
        }
        /* What in points to is the codec's own; the input's bytes are not needed any more. */
        evbuffer_drain(input, used);
        if (take(m, &in, &e)) {
            lost(m, &e);
            return;
        }
    }
}

static void connect_next(struct mq *m, struct err *why);

static void connection_event(struct bufferevent *bev, short what, void *arg)
{
    struct mq *m = arg;
    int on = 1;
    struct err e;

    if (what & BEV_EVENT_CONNECTED) {
        setsockopt(bufferevent_getfd(bev), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        m->state = MQ_HANDSHAKE;
        m->awaited = CODEC_START;
        codec_put_protocol(&m->out);
        mq_flush_later(m);
        return;
    }
    if (m->ssl && m->state == MQ_CONNECTING && (what & BEV_EVENT_ERROR))
        tls_failure(m->ssl, bufferevent_get_openssl_error(bev), &e);
    else if (what & BEV_EVENT_ERROR)
        err_set(&e, ERR_RETRY, 503, "%s", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    else if (m->state == MQ_HANDSHAKE)
        err_set(&e, ERR_RETRY, 503,
                "the broker closed the connection in the handshake (wrong user, password or "
                "virtual host?)");
    else
        err_set(&e, ERR_RETRY, 503, "the broker closed the connection");
    if (m->state == MQ_CONNECTING)
        connect_next(m, &e);
    else
        lost(m, &e);
}

/* ---- connecting ---- */

/* Try the next address; when there is none left, why says what became of the last. */
static void connect_next(struct mq *m, struct err *why)
{
    struct event_base *base = loop_base(m->loop);
    struct evutil_addrinfo *to = m->next_address;

    if (m->bev)
        bufferevent_free(m->bev);
    m->bev = NULL;
    m->ssl = NULL;
    if (!to) {
        lost(m, why);
        return;
    }
    m->next_address = to->ai_next;
    if (m->tls) {
        m->ssl = tls_connection_new(m->tls, m->address.host);
        m->bev = bufferevent_openssl_socket_new(base, -1, m->ssl, BUFFEREVENT_SSL_CONNECTING,
                                                BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    } else {
        m->bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    }
    if (!m->bev)
        abort(); /* out of memory */
    bufferevent_setcb(m->bev, readable, NULL, connection_event, m);
    bufferevent_enable(m->bev, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect(m->bev, to->ai_addr, (int)to->ai_addrlen)) {
        err_set(why, ERR_RETRY, 503, "%s", strerror(errno));
        connect_next(m, why);
    }
}

static void resolved(int code, struct evutil_addrinfo *addresses, void *arg)
{
    struct mq *m = arg;
    struct err e;

    if (code == EVUTIL_EAI_CANCEL)
        return;
    m->resolving = NULL;
    if (code) {
        err_set(&e, ERR_RETRY, 503, "the host's address is not found: %s",
                evutil_gai_strerror(code));
        lost(m, &e);
        return;
    }
    m->addresses = m->next_address = addresses;
    m->state = MQ_CONNECTING;
    err_set(&e, ERR_RETRY, 503, "the host has no address");
    connect_next(m, &e);
}

static void connect_now(void *arg)
{
    struct mq *m = arg;
    struct evutil_addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    struct evdns_getaddrinfo_request *request;
    char port[8];

    m->state = MQ_RESOLVING;
    m->codec = codec_new(m->config.message_max);
    timer_set(m->deadline, m->config.connect_timeout_ms);
    snprintf(port, sizeof(port), "%d", m->address.port);
    request = evdns_getaddrinfo(loop_dns(m->loop), m->address.host, port, &hints, resolved, m);
    if (m->state == MQ_RESOLVING) /* else it was answered from within the call */
        m->resolving = request;
}

/* ---- life ---- */

struct mq *mq_open(struct loop *l, const struct mq_config *config, const struct mq_events *events,
                   void *arg, struct err *e)
{
    struct mq *m = mem_alloc(sizeof(*m));

    m->loop = l;
    m->config = *config;
    if (events)
        m->events = *events;
    m->arg = arg;
    if (mq_address_parse(config->url, &m->address, e))
        goto err0;
    if (m->address.tls) {
        m->tls = tls_context_new(config->ca_file, e);
        if (!m->tls)
            goto err1;
    }
    m->name = mem_strdup(config->name);
    m->config.url = m->config.ca_file = m->config.name = NULL;
    buf_init(&m->out, config->output_max + config->message_max + OUT_SLACK);
    m->flush = timer_new(l, flush, m);
    m->retry = timer_new(l, connect_now, m);
    m->deadline = timer_new(l, too_late, m);
    m->heartbeat = timer_new(l, beat, m);
    timer_set(m->retry, 0);
    return m;
err1:
    mq_address_free(&m->address);
err0:
    free(m);
    return NULL;
}

void mq_close(struct mq *m, loop_cb *done, void *arg)
{
    m->closed = done;
    m->closed_arg = arg;
    if (m->state == MQ_CLOSING)
        return;
    if (m->state == MQ_UP) {
        mq_channels_send_acks(m);
        m->state = MQ_CLOSING;
        codec_put_close(m->codec, &m->out, "goodbye");
        mq_flush_later(m);
        timer_stop(m->heartbeat);
        timer_set(m->deadline, CLOSE_TIMEOUT_MS);
        return;
    }
    drop(m);
    m->state = MQ_CLOSING;
    timer_set(m->deadline, 0); /* done is called from the loop, not from here */
}

void mq_free(struct mq *m)
{
    if (!m)
        return;
    drop(m);
    mq_channels_free(m);
    timer_free(m->flush);
    timer_free(m->retry);
    timer_free(m->deadline);
    timer_free(m->heartbeat);
    buf_free(&m->out);
    tls_context_free(m->tls);
    mq_address_free(&m->address);
    free(m->name);
    free(m);
}
