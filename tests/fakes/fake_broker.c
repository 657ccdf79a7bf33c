#include "tests/fakes/fake_broker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "common/base/mem.h"
#include "tests/fakes/wire.h"

enum { BEAT_MS = 200, JOURNAL_MAX = 1 << 20, DELIVERIES_MAX = 1 << 24 };

struct fake_conn {
    struct fake_broker *fake;
    struct bufferevent *bev;
    struct evbuffer *slow; /* what is still to dribble out */
    struct event *trickle;
    bool greeted; /* the protocol header came */
    bool silent;
    int closed_channel; /* whose methods are passed over until channel.close-ok */
    bool closing;       /* close once everything is written */
    bool in_body;       /* a publish whose content is not complete */
    uint64_t left;      /* of it */
};

/* ---- output ---- */

static void end_conn(struct fake_conn *c)
{
    if (c->fake->conn == c)
        c->fake->conn = NULL;
    bufferevent_free(c->bev);
    event_free(c->trickle);
    evbuffer_free(c->slow);
    free(c);
}

static void trickle(evutil_socket_t fd, short what, void *arg)
{
    struct fake_conn *c = arg;
    struct timeval soon = {0, 0};
    char octet;

    (void)fd;
    (void)what;
    if (evbuffer_remove(c->slow, &octet, 1) == 1)
        bufferevent_write(c->bev, &octet, 1);
    if (evbuffer_get_length(c->slow) > 0)
        evtimer_add(c->trickle, &soon); /* the next turn, so that the client reads in between */
}

static void put(struct fake_conn *c, const void *data, size_t n)
{
    struct timeval soon = {0, 0};

    if (c->silent || c->closing)
        return;
    if (!c->fake->dribble) {
        bufferevent_write(c->bev, data, n);
        return;
    }
    evbuffer_add(c->slow, data, n);
    evtimer_add(c->trickle, &soon);
}

static void put_buf(struct fake_conn *c, struct buf *b)
{
    put(c, b->data, b->len);
    buf_free(b);
}

static void say(struct fake_conn *c, int channel, unsigned method, const char *layout, ...)
{
    struct buf b;
    va_list ap;

    buf_init(&b, JOURNAL_MAX);
    va_start(ap, layout);
    wire_vmethod(&b, channel, method, layout, ap);
    va_end(ap);
    put_buf(c, &b);
}

static void written(struct bufferevent *bev, void *arg)
{
    struct fake_conn *c = arg;

    (void)bev;
    if (c->closing)
        end_conn(c);
}

/* Shut it once what was said has left. */
static void close_conn(struct fake_conn *c)
{
    c->closing = true;
    if (c->fake->conn == c)
        c->fake->conn = NULL;
    bufferevent_disable(c->bev, EV_READ);
    if (evbuffer_get_length(bufferevent_get_output(c->bev)) == 0)
        bufferevent_trigger(c->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
}

/* ---- the script ---- */

static void act(struct fake_conn *c)
{
    switch (c->fake->act) {
    case FAKE_CLOSE:
        close_conn(c);
        break;
    case FAKE_SILENCE:
        c->silent = true;
        break;
    case FAKE_GARBAGE:
        put(c, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
        break;
    case FAKE_OTHER_VERSION:
        put(c, "AMQP\0\1\0\0", 8);
        break;
    case FAKE_UNKNOWN_METHOD:
        say(c, 0, WIRE(99, 99), "");
        break;
    case FAKE_BAD_END:
        put(c, "\x08\0\0\0\0\0\0\xcd", 8);
        break;
    case FAKE_HALF_A_FRAME:
        put(c, "\x01\0\0\0\0\1\0\0\x0a", 9);
        close_conn(c);
        break;
    case FAKE_REFUSE:
        say(c, 0, WIRE(10, 50), "hshh", 403, "ACCESS_REFUSED - go away", 0, 0);
        break;
    case FAKE_OUT_OF_PLACE:
        say(c, 1, WIRE(60, 80), "qo", (uint64_t)77, 0);
        break;
    }
}

/* Does the script strike at this step? */
static bool struck(struct fake_conn *c, enum fake_step step)
{
    struct fake_broker *f = c->fake;

    if (f->step != step || f->times <= 0)
        return false;
    f->times--;
    f->struck++;
    act(c);
    return true;
}

/* ---- what the client says ---- */

static void note(struct fake_broker *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void note(struct fake_broker *f, const char *fmt, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    buf_printf(&f->journal, "%s\n", line);
}

static void start(struct fake_conn *c)
{
    /* server properties: {"version": "3.10.8"} */
    static const char properties[] = "\0\0\0\x13\x07versionS\0\0\0\x06"
                                     "3.10.8";
    const char *mechanisms = c->fake->no_plain ? "EXTERNAL PLAINER" : "AMQPLAIN PLAIN";
    struct buf b, args;
    unsigned char length = (unsigned char)strlen(mechanisms);

    buf_init(&b, 1000);
    buf_init(&args, 1000);
    buf_add(&args, "\0\x0a\0\x0a\0\x09", 6);
    buf_add(&args, properties, sizeof(properties) - 1);
    buf_add(&args, "\0\0\0", 3);
    buf_add(&args, &length, 1);
    buf_puts(&args, mechanisms);
    buf_add(&args,
            "\0\0\0\x05"
            "en_US",
            9);
    wire_frame(&b, WIRE_METHOD, 0, args.data, args.len);
    buf_free(&args);
    put_buf(c, &b);
}

static void connection_method(struct fake_conn *c, const struct wire_in *in)
{
    struct fake_broker *f = c->fake;
    int code = 0;

    switch (in->method) {
    case WIRE(10, 11):
        buf_clear(&f->start_ok);
        buf_add(&f->start_ok, in->args, in->n);
        if (!struck(c, FAKE_START_OK))
            say(c, 0, WIRE(10, 30), "hlh", 2047, 131072u, f->heartbeat);
        break;
    case WIRE(10, 31):
        struck(c, FAKE_TUNE_OK);
        break;
    case WIRE(10, 40):
        f->bad += wire_args(in, "s", f->vhost) != 0;
        if (!struck(c, FAKE_OPEN))
            say(c, 0, WIRE(10, 41), "s", "");
        break;
    case WIRE(10, 50):
        f->bad += wire_args(in, "h", &code) != 0;
        note(f, "connection.close %d", code);
        say(c, 0, WIRE(10, 51), "");
        break;
    case WIRE(10, 51):
        note(f, "connection.close-ok");
        break;
    default:
        f->bad++;
    }
}

static void basic_method(struct fake_conn *c, const struct wire_in *in)
{
    char queue[WIRE_SHORT], tag[WIRE_SHORT];
    struct fake_broker *f = c->fake;
    int failed = 0, ch = in->channel, zero, bits = 0;
    unsigned size;
    uint64_t number = 0;

    switch (in->method) {
    case WIRE(60, 10):
        failed = wire_args(in, "lho", &size, &zero, &bits);
        note(f, "qos %d %d %d", ch, zero, bits);
        if (!f->withholds)
            say(c, ch, WIRE(60, 11), "");
        break;
    case WIRE(60, 20):
        failed = wire_args(in, "hsso", &zero, queue, tag, &bits);
        note(f, "consume %d %s %s %d", ch, queue, tag, bits);
        memcpy(f->consumer, tag, sizeof(tag));
        say(c, ch, WIRE(60, 21), "s", tag);
        break;
    case WIRE(60, 30):
        failed = wire_args(in, "so", tag, &bits);
        note(f, "cancel %d %s", ch, tag);
        say(c, ch, WIRE(60, 31), "s", tag);
        break;
    case WIRE(60, 40):
        failed = wire_args(in, "hsso", &zero, queue, tag, &bits);
        note(f, "publish %d %s %s %d", ch, queue, tag, bits);
        c->in_body = true;
        break;
    case WIRE(60, 80):
        failed = wire_args(in, "qo", &number, &bits);
        note(f, "ack %d %llu %s", ch, (unsigned long long)number, bits ? "multiple" : "single");
        break;
    case WIRE(60, 120):
        failed = wire_args(in, "qo", &number, &bits);
        note(f, "nack %d %llu %d", ch, (unsigned long long)number, bits);
        break;
    default:
        failed = 1;
    }
    f->bad += failed != 0;
}

static void declare(struct fake_conn *c, const struct wire_in *in)
{
    struct fake_broker *f = c->fake;
    char name[WIRE_SHORT] = "";
    int zero, bits = 0;

    f->bad += wire_args(in, "hso", &zero, name, &bits) != 0;
    note(f, "declare %d %s %d", in->channel, name, bits);
    if (f->closes_404 > 0) {
        f->closes_404--;
        c->closed_channel = in->channel;
        say(c, in->channel, WIRE(20, 40), "hshh", 404, "NOT_FOUND - no queue", 50, 10);
    } else {
        say(c, in->channel, WIRE(50, 11), "sll", name, f->ready, 2u);
    }
}

static void other_method(struct fake_conn *c, const struct wire_in *in)
{
    static const struct {
        unsigned method;
        const char *name;
        unsigned answer; /* 0: none */
        const char *layout;
    } rows[] = {
        {WIRE(20, 10), "channel.open", WIRE(20, 11), "t"},
        {WIRE(20, 21), "flow-ok", 0, ""},
        {WIRE(20, 40), "channel.close", WIRE(20, 41), ""},
        {WIRE(20, 41), "channel.close-ok", 0, ""},
        {WIRE(40, 10), "exchange.declare", WIRE(40, 11), ""},
        {WIRE(50, 20), "bind", WIRE(50, 21), ""},
        {WIRE(50, 40), "delete", WIRE(50, 41), "t"}, /* a count of 0 looks like an empty table */
        {WIRE(85, 10), "confirm.select", WIRE(85, 11), ""},
    };
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].method != in->method)
            continue;
        note(c->fake, "%s %d", rows[i].name, in->channel);
        if (rows[i].method == WIRE(20, 10) && struck(c, FAKE_CHANNEL_OPEN))
            return;
        if (rows[i].answer)
            say(c, in->channel, rows[i].answer, rows[i].layout);
        return;
    }
    c->fake->bad++;
}

static void content(struct fake_conn *c, const struct wire_in *in)
{
    struct fake_broker *f = c->fake;
    unsigned weight, high = 0, low = 0;

    if (!c->in_body || (in->type == WIRE_BODY && in->n > c->left)) {
        f->bad++;
        return;
    }
    if (in->type == WIRE_HEADER) {
        f->bad += wire_args(in, "lll", &weight, &high, &low) != 0;
        c->left = (uint64_t)high << 32 | low;
    } else {
        c->left -= in->n;
    }
    if (c->left == 0) {
        c->in_body = false;
        f->published++;
    }
}

static void take(struct fake_conn *c, const struct wire_in *in)
{
    if (in->method == WIRE(20, 41))
        c->closed_channel = 0;
    if (c->fake->deaf || (in->channel > 0 && in->channel == c->closed_channel))
        return;
    if (in->type == WIRE_HEARTBEAT)
        c->fake->heartbeats++;
    else if (in->type == WIRE_HEADER || in->type == WIRE_BODY)
        content(c, in);
    else if (in->method >> 16 == 10)
        connection_method(c, in);
    else if (in->method >> 16 == 60)
        basic_method(c, in);
    else if (in->method == WIRE(50, 10))
        declare(c, in);
    else
        other_method(c, in);
}

static void readable(struct bufferevent *bev, void *arg)
{
    struct fake_conn *c = arg;
    struct evbuffer *input = bufferevent_get_input(bev);
    struct wire_in in;
    size_t used;

    if (!c->greeted && evbuffer_get_length(input) >= 8) {
        c->fake->bad += memcmp(evbuffer_pullup(input, 8), "AMQP\0\0\x09\x01", 8) != 0;
        evbuffer_drain(input, 8);
        c->greeted = true;
        if (!struck(c, FAKE_HEADER))
            start(c);
    }
    while (c->greeted && !c->closing) {
        used = wire_next((const char *)evbuffer_pullup(input, -1), evbuffer_get_length(input), &in);
        if (used == 0)
            return;
        if (!c->silent)
            take(c, &in);
        evbuffer_drain(input, used);
    }
}

static void gone(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    (void)what;
    end_conn(arg);
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
                     int length, void *arg)
{
    struct fake_broker *f = arg;
    struct fake_conn *c = mem_alloc(sizeof(*c));
    struct event_base *base = evconnlistener_get_base(listener);
    int on = 1;

    (void)from;
    (void)length;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (f->conn)
        end_conn(f->conn);
    c->fake = f;
    c->bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    c->slow = evbuffer_new();
    c->trickle = evtimer_new(base, trickle, c);
    bufferevent_setcb(c->bev, readable, written, gone, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    f->conn = c;
    f->connections++;
    f->published = 0;
    buf_clear(&f->journal);
    struck(c, FAKE_ACCEPT);
}

/* ---- orders of the test ---- */

static void beat(void *arg)
{
    struct fake_broker *f = arg;

    timer_set(f->beat, BEAT_MS);
    if (f->conn && f->conn->greeted && f->beats)
        put(f->conn, "\x08\0\0\0\0\0\0\xce", 8);
}

int fake_listen(struct fake_broker *f)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)f->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(to);

    f->listener = evconnlistener_new_bind(loop_base(f->loop), accepted, f,
                                          LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, -1,
                                          (const struct sockaddr *)&to, sizeof(to));
    if (!f->listener)
        return -1;
    if (getsockname(evconnlistener_get_fd(f->listener), (struct sockaddr *)&to, &length))
        return -1;
    f->port = ntohs(to.sin_port);
    return 0;
}

struct fake_broker *fake_broker_new(struct loop *l)
{
    struct fake_broker *f = mem_alloc(sizeof(*f));

    f->loop = l;
    f->beats = true;
    f->ready = 3;
    buf_init(&f->journal, JOURNAL_MAX);
    buf_init(&f->start_ok, JOURNAL_MAX);
    buf_puts(&f->journal, "");
    if (fake_listen(f)) {
        perror("fake broker");
        exit(EXIT_FAILURE);
    }
    f->beat = timer_new(l, beat, f);
    timer_set(f->beat, BEAT_MS);
    return f;
}

void fake_broker_free(struct fake_broker *f)
{
    if (f->conn)
        end_conn(f->conn);
    if (f->listener)
        evconnlistener_free(f->listener);
    timer_free(f->beat);
    buf_free(&f->journal);
    buf_free(&f->start_ok);
    free(f);
}

void fake_drop(struct fake_broker *f)
{
    if (f->conn)
        end_conn(f->conn);
}

void fake_unlisten(struct fake_broker *f)
{
    if (f->listener)
        evconnlistener_free(f->listener);
    f->listener = NULL;
}

void fake_say(struct fake_broker *f, int channel, unsigned method, const char *layout, ...)
{
    struct buf b;
    va_list ap;

    if (!f->conn)
        return;
    buf_init(&b, JOURNAL_MAX);
    va_start(ap, layout);
    wire_vmethod(&b, channel, method, layout, ap);
    va_end(ap);
    put_buf(f->conn, &b);
}

void fake_raw(struct fake_broker *f, const void *data, size_t n)
{
    if (f->conn)
        put(f->conn, data, n);
}

void fake_ack(struct fake_broker *f, int channel, uint64_t tag, bool multiple)
{
    fake_say(f, channel, WIRE(60, 80), "qo", tag, (int)multiple);
}

void fake_nack(struct fake_broker *f, int channel, uint64_t tag, bool multiple)
{
    fake_say(f, channel, WIRE(60, 120), "qo", tag, (int)multiple);
}

void fake_deliver(struct fake_broker *f, int channel, const char *consumer, uint64_t tag,
                  const char *body)
{
    struct buf b;

    if (!f->conn)
        return;
    buf_init(&b, DELIVERIES_MAX);
    wire_deliver(&b, channel, consumer, tag, "chat.rpc", "message.send", body);
    put_buf(f->conn, &b);
}

void fake_return(struct fake_broker *f, int channel, const char *exchange, const char *key,
                 const char *message_id)
{
    unsigned char length = (unsigned char)strlen(message_id);
    struct buf b, header;

    if (!f->conn)
        return;
    buf_init(&b, JOURNAL_MAX);
    buf_init(&header, 1000);
    wire_method(&b, channel, WIRE(60, 50), "hsss", 312, "NO_ROUTE", exchange, key);
    buf_add(&header, "\0\x3c\0\0\0\0\0\0\0\0\0\0\0\x80", 14); /* only message-id */
    buf_add(&header, &length, 1);
    buf_puts(&header, message_id);
    wire_frame(&b, WIRE_HEADER, channel, header.data, header.len);
    buf_free(&header);
    put_buf(f->conn, &b);
}

int fake_count(const struct fake_broker *f, const char *text)
{
    const char *p = f->journal.data;
    int n = 0;

    while ((p = strstr(p, text))) {
        n++;
        p += strlen(text);
    }
    return n;
}

bool fake_connected(const struct fake_broker *f)
{
    return f->conn != NULL;
}
