/* The HTTP server over real sockets, server and clients on one loop. Tests wait for conditions. */
#include "common/io/httpd.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "tests/unit/unit.h"

enum {
    GUARD_MS = 20000,
    CLIENTS = 4,
    BODY_MAX = 1000,
    HEADERS_MAX = 2000,
    TEXT_MAX = 65536,
    LARGE = 8000000,
    PIECE = 100000, /* bytes of a stream's piece, where many are sent */
    STREAM_OUTPUT_MAX = 200000,
    ROUND_TRIPS = 4000 /* in which LARGE bytes would be read, if nothing kept them back */
};

/* The clock of this program: --wrap puts it in the place of the real one. */
static int64_t now_us = 1000000000;

int64_t __wrap_clock_monotonic_us(void);

int64_t __wrap_clock_monotonic_us(void)
{
    return now_us;
}

struct client {
    struct bufferevent *bev;
    bool closed; /* by the server */
};

static struct {
    struct loop *loop;
    struct timer *guard;
    bool late;
    struct httpd_config config;
    struct httpd *httpd;
    int port;
    struct client clients[CLIENTS];
    bool keep;                 /* requests are not answered at once, */
    struct http_request *kept; /* but the last one kept */
    size_t seen;               /* requests that the handler got */
    bool stream_at_once;       /* requests are answered by a whole stream in the handler */
    int closed;                /* streams of which it was told that the client is gone */
    bool slow;
} w;

/* ---- the world of a test ---- */

static void guard(void *arg)
{
    (void)arg;
    w.late = true;
}

/* Run the loop until it is so; a test that waits in vain ends there. */
#define WAIT(condition)                                                                            \
    do {                                                                                           \
        w.late = false;                                                                            \
        timer_set(w.guard, GUARD_MS);                                                              \
        while (!(condition) && !w.late)                                                            \
            event_base_loop(loop_base(w.loop), EVLOOP_ONCE);                                       \
        timer_stop(w.guard);                                                                       \
        CU_ASSERT_FATAL(condition);                                                                \
    } while (0)

/* What the handler made of the request is the answer's body. */
static void answer(struct http_request *r)
{
    const char *defect = http_defect(r), *body;
    struct buf text;
    size_t n;

    buf_init(&text, 4096);
    body = http_body(r, &n);
    if (defect)
        buf_puts(&text, defect);
    else
        buf_printf(&text, "%s %s 1.%d %.*s", http_method(r), http_path(r), http_version_minor(r),
                   (int)n, body);
    if (defect)
        http_close_after(r);
    http_reply(r, defect ? 400 : 200, "text/plain", text.data, text.len);
    buf_free(&text);
}

static void stream_closed(void *arg, bool slow)
{
    CU_ASSERT_PTR_EQUAL(arg, &w);
    w.closed++;
    w.slow = slow;
}

static void start_stream(struct http_request *r)
{
    http_add_header(r, "X-Stream", "yes");
    http_stream_start(r, 200, "text/event-stream", stream_closed, &w);
}

static void handle(void *arg, struct http_request *r)
{
    CU_ASSERT_PTR_EQUAL(arg, &w);
    w.seen++;
    if (w.keep) {
        w.kept = r;
    } else if (w.stream_at_once) {
        start_stream(r);
        http_stream_write(r, "all", 3);
        http_stream_end(r);
    } else
        answer(r);
}

static const char *page(int status, const char *detail, struct buf *out)
{
    buf_printf(out, "page %d", status);
    CU_ASSERT_NOT_EQUAL(strlen(detail), 0);
    return "text/x-page";
}

static void end(void)
{
    size_t i;

    for (i = 0; i < CLIENTS; i++)
        if (w.clients[i].bev)
            bufferevent_free(w.clients[i].bev);
    if (w.kept)
        answer(w.kept);
    httpd_free(w.httpd);
    timer_free(w.guard);
    loop_free(w.loop);
    memset(&w, 0, sizeof(w));
}

static void begin(void)
{
    struct err e;

    end(); /* of a test that failed */
    w.loop = loop_new();
    w.guard = timer_new(w.loop, guard, NULL);
    w.config = (struct httpd_config){.body_max = BODY_MAX,
                                     .headers_max = HEADERS_MAX,
                                     .connections_max = 100,
                                     .idle_timeout_s = 60,
                                     .request_timeout_s = 15,
                                     .stream_output_max = STREAM_OUTPUT_MAX};
    w.httpd = httpd_new(w.loop, &w.config, handle, &w, page);
    w.port = httpd_listen(w.httpd, "127.0.0.1", 0, &e);
    CU_ASSERT_FATAL(w.port > 0);
    httpd_accept(w.httpd);
}

/* A server with the configuration as it is now. */
static void serve_anew(void)
{
    httpd_free(w.httpd);
    w.httpd = httpd_new(w.loop, &w.config, handle, &w, page);
    w.port = httpd_listen(w.httpd, "127.0.0.1", 0, NULL);
    httpd_accept(w.httpd);
}

/* ---- clients ---- */

static void event_came(struct bufferevent *bev, short what, void *arg)
{
    struct client *c = arg;

    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        c->closed = true;
}

static struct client *dial(size_t i)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w.port)};
    struct client *c = &w.clients[i];

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (c->bev)
        bufferevent_free(c->bev);
    c->closed = false;
    c->bev = bufferevent_socket_new(loop_base(w.loop), -1, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(c->bev, NULL, NULL, event_came, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    bufferevent_socket_connect(c->bev, (struct sockaddr *)&to, sizeof(to));
    return c;
}

static void say_n(struct client *c, const char *text, size_t n)
{
    bufferevent_write(c->bev, text, n);
}

static void say(struct client *c, const char *text)
{
    say_n(c, text, strlen(text));
}

static size_t received(const struct client *c)
{
    return evbuffer_get_length(bufferevent_get_input(c->bev));
}

/* What came so far, until the next call. */
static const char *text_of(const struct client *c)
{
    static char text[TEXT_MAX];
    ev_ssize_t n = evbuffer_copyout(bufferevent_get_input(c->bev), text, sizeof(text) - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* Send bytes on a new connection and wait until the server closes it. */
static const char *talk_n(const char *text, size_t n)
{
    struct client *c = dial(0);

    say_n(c, text, n);
    WAIT(c->closed);
    return text_of(c);
}

#define TALK(text) talk_n(text, sizeof(text) - 1)

static bool has(const char *answer_text, const char *what)
{
    bool as_wanted = strstr(answer_text, what);

    if (!as_wanted)
        fprintf(stderr, "\n%s\n(wanted: %s)", answer_text, what);
    return as_wanted;
}

/* Some shapes are refused by libevent before we see them, which of them depends on its version. */
#define REFUSED(request, why)                                                                      \
    do {                                                                                           \
        const char *got_ = TALK(request);                                                          \
        CU_ASSERT_TRUE(has(got_, " 400 "));                                                        \
        CU_ASSERT_TRUE(strstr(got_, "page 400") || has(got_, why));                                \
        CU_ASSERT_PTR_NULL(strstr(got_, " 200 "));                                                 \
    } while (0)

/* ---- requests ---- */

static void serves_requests(void)
{
    struct client *c;

    begin();
    c = dial(0);
    say(c, "POST /a%20b?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
           "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
           "PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
           "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    WAIT(c->closed);
    CU_ASSERT_TRUE(has(text_of(c), "\r\n\r\nPOST /a b 1.1 abc"));
    CU_ASSERT_TRUE(has(text_of(c), "GET / 1.1 "));
    CU_ASSERT_TRUE(has(text_of(c), "PUT /c 1.1 abcde"));
    CU_ASSERT_EQUAL(w.seen, 3);
    CU_ASSERT_EQUAL(httpd_requests(w.httpd), 0);
    WAIT(httpd_connections(w.httpd) == 0);
    CU_ASSERT_TRUE(has(TALK("GET /old HTTP/1.0\r\n\r\n"), "GET /old 1.0"));
    end();
}

/* What two servers in a row could read differently. */
static void smuggling_shapes(void)
{
    begin();
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "more than once");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\ncontent-length: 30\r\n\r\nabc",
            "more than once");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            "3\r\nabc\r\n0\r\n\r\n",
            "more than once");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "more than once");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "something else than chunked");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n"
            "\r\nabc",
            "something else than chunked");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            "something else than chunked");
    REFUSED("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.0 has no");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", "not a number");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc", "page 400");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc", "page 400");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3,3\r\n\r\nabc", "page 400");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", "page 400");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc", "not allowed there");
    REFUSED("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "not allowed there");
    REFUSED("GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", "not allowed there");
    REFUSED("GET / HTTP/1.1\r\nHost: x\r\nX\x01Y: y\r\n\r\n", "not allowed there");
    REFUSED("GET / HTTP/1.1\r\nHost: x\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n", "folded");
    REFUSED("GET / HTTP/1.1\r\n\r\n", "exactly one Host");
    REFUSED("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "exactly one Host");
    REFUSED("GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", "exactly one Host");
    end();
}

static void paths(void)
{
    begin();
    REFUSED("GET /a%00b HTTP/1.1\r\nHost: x\r\n\r\n", "path is not valid");
    REFUSED("GET /%0a HTTP/1.1\r\nHost: x\r\n\r\n", "control character");
    REFUSED("GET /%7f HTTP/1.1\r\nHost: x\r\n\r\n", "control character");
    end();
}

/* Send bytes on a new connection and wait for the answer's head; the server may read on for a while,
 * so that a client that still sends finds it. */
static const char *ask_n(const char *text, size_t n)
{
    struct client *c = dial(0);

    say_n(c, text, n);
    WAIT(strstr(text_of(c), "\r\n\r\n") != NULL);
    return text_of(c);
}

#define ASK(text) ask_n(text, sizeof(text) - 1)

/* Not even a request: the page of the process answers, and the handler never sees it. */
static void unreadable_requests(void)
{
    const char *got;

    begin();
    got = ASK("nonsense\r\n\r\n");
    CU_ASSERT_TRUE(has(got, "HTTP/1.1 400 "));
    CU_ASSERT_TRUE(has(got, "Content-Type: text/x-page"));
    CU_ASSERT_TRUE(has(got, "Connection: close"));
    CU_ASSERT_TRUE(has(got, "\r\n\r\npage 400"));
    CU_ASSERT_TRUE(has(ASK("GET / HTTP/1.1\r\nno colon\r\n\r\n"), "page 400"));
    CU_ASSERT_TRUE(has(ASK("BREW / HTTP/1.1\r\nHost: x\r\n\r\n"), "page 501"));
    CU_ASSERT_EQUAL(w.seen, 0);
    end();
}

/* A request whose body has n bytes, by its length or as one chunk. */
static const char *post(size_t n, bool chunked)
{
    static char request[BODY_MAX + 200];
    int at = snprintf(request, sizeof(request), "POST / HTTP/1.1\r\nHost: x\r\n");

    if (chunked)
        at += sprintf(request + at, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", n);
    else
        at += sprintf(request + at, "Content-Length: %zu\r\n\r\n", n);
    memset(request + at, 'x', n);
    at += (int)n;
    at += sprintf(request + at, "%s", chunked ? "\r\n0\r\n\r\n" : "");
    return ask_n(request, (size_t)at);
}

static const char *header_of(size_t n)
{
    static char request[2 * HEADERS_MAX];
    int at = sprintf(request, "GET / HTTP/1.1\r\nHost: x\r\nX: ");

    memset(request + at, 'x', n);
    at += (int)n;
    at += sprintf(request + at, "\r\n\r\n");
    return ask_n(request, (size_t)at);
}

static void sizes_are_limited(void)
{
    begin();
    CU_ASSERT_TRUE(has(post(BODY_MAX, false), " 200 "));
    CU_ASSERT_TRUE(has(post(BODY_MAX, true), " 200 "));
    CU_ASSERT_EQUAL(w.seen, 2);
    CU_ASSERT_TRUE(has(post(BODY_MAX + 1, false), "page 413"));
    CU_ASSERT_TRUE(has(post(BODY_MAX + 1, true), "page 413"));
    CU_ASSERT_TRUE(has(header_of(HEADERS_MAX - 100), " 200 "));
    CU_ASSERT_TRUE(has(header_of(HEADERS_MAX), "page 4"));
    CU_ASSERT_EQUAL(w.seen, 3);
    end();
}

static void head_has_a_length_without_a_body(void)
{
    const char *got;

    begin();
    got = TALK("HEAD /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    CU_ASSERT_TRUE(has(got, "HTTP/1.1 200 "));
    CU_ASSERT_TRUE(has(got, "Content-Length: 12\r\n")); /* of "HEAD /x 1.1 " */
    CU_ASSERT_STRING_EQUAL(strstr(got, "\r\n\r\n"), "\r\n\r\n");
    end();
}

/* ---- connections ---- */

static void connections_are_capped(void)
{
    struct client *first, *second, *third;

    begin();
    w.config.connections_max = 2;
    serve_anew();
    first = dial(0);
    second = dial(1);
    WAIT(httpd_connections(w.httpd) == 2);
    third = dial(2);
    say(third, "GET /third HTTP/1.1\r\nHost: x\r\n\r\n");
    say(second, "GET /second HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(received(second) > 0);
    CU_ASSERT_EQUAL(httpd_connections(w.httpd), 2);
    CU_ASSERT_EQUAL(received(third), 0);
    CU_ASSERT_EQUAL(w.seen, 1);

    bufferevent_free(first->bev); /* one leaves, the next one is let in */
    first->bev = NULL;
    WAIT(received(third) > 0);
    CU_ASSERT_EQUAL(httpd_connections(w.httpd), 2);
    CU_ASSERT_TRUE(has(text_of(third), "GET /third"));
    end();
}

static void slow_requests_are_dropped(void)
{
    struct client *slow, *idle, *busy;

    begin();
    slow = dial(0);
    idle = dial(1);
    busy = dial(2);
    w.keep = true;
    say(slow, "POST / HTTP/1.1\r\nHost: x\r\nContent-Le");
    say(busy, "GET /busy HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(w.kept != NULL && httpd_connections(w.httpd) == 3);
    now_us += 14 * 1000000;
    say(slow, "ngth: 3\r\n\r\nab"); /* that something comes does not help */
    WAIT(evbuffer_get_length(bufferevent_get_output(slow->bev)) == 0);
    CU_ASSERT_FALSE(slow->closed);
    now_us += 1000000;
    WAIT(slow->closed);
    CU_ASSERT_EQUAL(received(slow), 0);
    CU_ASSERT_EQUAL(httpd_connections(w.httpd), 2);
    CU_ASSERT_FALSE(idle->closed);

    /* One with the handler may take its time, one that sends nothing is not slow. */
    answer(w.kept);
    w.kept = NULL;
    WAIT(received(busy) > 0);
    CU_ASSERT_TRUE(has(text_of(busy), "GET /busy"));
    w.keep = false;
    say(idle, "GET /idle HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(received(idle) > 0);
    CU_ASSERT_TRUE(has(text_of(idle), "GET /idle"));
    end();
}

static void a_drain_closes_after_the_answer(void)
{
    struct client *c, *late;

    begin();
    c = dial(0);
    say(c, "GET /one HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(received(c) > 0);
    CU_ASSERT_PTR_NULL(strstr(text_of(c), "Connection: close"));
    httpd_drain(w.httpd);
    late = dial(1); /* waits in the kernel's queue, for others that share the socket */
    say(late, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n");
    say(c, "GET /two HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(c->closed);
    CU_ASSERT_TRUE(has(text_of(c), "Connection: close"));
    CU_ASSERT_TRUE(has(text_of(c), "GET /two"));
    WAIT(httpd_connections(w.httpd) == 0);
    CU_ASSERT_EQUAL(w.seen, 2);
    CU_ASSERT_EQUAL(received(late), 0);
    end();
}

static void close_idle_keeps_the_busy(void)
{
    struct client *idle, *reading, *busy;

    begin();
    idle = dial(0);
    reading = dial(1);
    busy = dial(2);
    w.keep = true;
    say(busy, "GET /busy HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(w.kept != NULL && httpd_connections(w.httpd) == 3);
    w.keep = false;
    say(reading, "GET /reading HT");
    WAIT(evbuffer_get_length(bufferevent_get_output(reading->bev)) == 0);
    say(idle, "GET /first HTTP/1.1\r\nHost: x\r\n\r\n"); /* so that the bytes before are read */
    WAIT(received(idle) > 0);

    httpd_close_idle(w.httpd, 0);
    CU_ASSERT_EQUAL(httpd_connections(w.httpd), 2);
    WAIT(idle->closed);
    say(reading, "TP/1.1\r\nHost: x\r\n\r\n");
    answer(w.kept);
    w.kept = NULL;
    WAIT(received(reading) > 0 && received(busy) > 0);
    CU_ASSERT_TRUE(has(text_of(reading), "GET /reading"));
    CU_ASSERT_TRUE(has(text_of(busy), "GET /busy"));
    end();
}

/* An answer that the client has not taken yet is under way as well. */
static void close_idle_keeps_answers_that_are_being_sent(void)
{
    struct client *c;
    char *large = mem_alloc(LARGE);

    begin();
    c = dial(0);
    w.keep = true;
    say(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(w.kept != NULL);
    bufferevent_disable(c->bev, EV_READ);
    httpd_drain(w.httpd);
    http_reply(w.kept, 200, "text/plain", large, LARGE);
    w.kept = NULL;
    free(large);
    httpd_close_idle(w.httpd, 0);
    CU_ASSERT_EQUAL(httpd_connections(w.httpd), 1);
    bufferevent_enable(c->bev, EV_READ);
    WAIT(c->closed);
    CU_ASSERT(received(c) > LARGE);
    end();
}

/* ---- streams ---- */

/* A client whose request has become a stream. */
static struct client *open_stream(size_t i, const char *request)
{
    struct client *c = dial(i);

    w.keep = true;
    w.kept = NULL;
    say(c, request);
    WAIT(w.kept != NULL);
    w.keep = false;
    start_stream(w.kept);
    return c;
}

static void write_piece(const char *text)
{
    http_stream_write(w.kept, text, strlen(text));
}

static void end_stream(void)
{
    http_stream_end(w.kept);
    w.kept = NULL;
}

static void streams_to_http_1_1(void)
{
    struct client *c;

    begin();
    c = open_stream(0, "POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    WAIT(strstr(text_of(c), "\r\n\r\n") != NULL); /* the head comes before any piece */
    CU_ASSERT_TRUE(has(text_of(c), "HTTP/1.1 200 "));
    CU_ASSERT_TRUE(has(text_of(c), "Transfer-Encoding: chunked"));
    CU_ASSERT_TRUE(has(text_of(c), "Content-Type: text/event-stream"));
    CU_ASSERT_TRUE(has(text_of(c), "X-Stream: yes"));
    CU_ASSERT_PTR_NULL(strstr(text_of(c), "Content-Length"));
    CU_ASSERT_PTR_NULL(strstr(text_of(c), "Connection: close"));
    CU_ASSERT_EQUAL(httpd_requests(w.httpd), 1);
    write_piece("one");
    write_piece(""); /* an empty chunk would be the end */
    WAIT(strstr(text_of(c), "\r\n\r\n3\r\none\r\n") != NULL);
    write_piece("second");
    WAIT(strstr(text_of(c), "6\r\nsecond\r\n") != NULL);
    CU_ASSERT_EQUAL(http_stream_waiting(w.kept), 0);
    end_stream();
    WAIT(strstr(text_of(c), "second\r\n0\r\n\r\n") != NULL);
    CU_ASSERT_EQUAL(httpd_requests(w.httpd), 0);

    say(c, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(strstr(text_of(c), "GET /next") != NULL);
    CU_ASSERT_FALSE(c->closed);
    CU_ASSERT_EQUAL(w.closed, 0);
    end();
}

/* It has no chunks: the end of the connection is the end, also for a client that would keep it. */
static void streams_to_http_1_0(void)
{
    struct client *c;

    begin();
    c = open_stream(0, "GET /s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    write_piece("one");
    write_piece("two");
    WAIT(strstr(text_of(c), "onetwo") != NULL);
    CU_ASSERT_FALSE(c->closed);
    end_stream();
    WAIT(c->closed);
    CU_ASSERT_TRUE(has(text_of(c), "\r\n\r\nonetwo"));
    CU_ASSERT_PTR_NULL(strstr(text_of(c), "Content-Length"));
    CU_ASSERT_PTR_NULL(strstr(text_of(c), "chunked"));
    CU_ASSERT_PTR_NULL(strstr(text_of(c), "keep-alive"));
    CU_ASSERT_EQUAL(w.closed, 0);
    WAIT(httpd_connections(w.httpd) == 0);
    end();
}

static void a_stream_without_a_body(void)
{
    struct client *c;

    begin();
    c = open_stream(0, "HEAD /s HTTP/1.1\r\nHost: x\r\n\r\n");
    write_piece("one");
    end_stream();
    say(c, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(strstr(text_of(c), "GET /next") != NULL);
    CU_ASSERT_PTR_NULL(strstr(text_of(c), "one"));
    end();
}

static void a_stream_within_the_handler(void)
{
    struct client *c;

    begin();
    w.stream_at_once = true;
    c = dial(0);
    say(c, "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
           "HEAD /c HTTP/1.1\r\nHost: x\r\n\r\nGET /d HTTP/1.0\r\n\r\n");
    WAIT(c->closed);
    CU_ASSERT_EQUAL(w.seen, 4);
    CU_ASSERT_EQUAL(httpd_requests(w.httpd), 0);
    CU_ASSERT_TRUE(has(text_of(c), "3\r\nall\r\n0\r\n\r\nHTTP/1.1 200"));
    CU_ASSERT_TRUE(has(text_of(c), "\r\n\r\nall")); /* the last one has no chunks */
    end();
}

/* What comes behind a stream waits for its end, is not lost, and is bounded. */
static void requests_behind_a_stream(void)
{
    struct client *c;
    char *large = mem_alloc(LARGE);
    size_t i;

    begin();
    c = open_stream(0, "GET /s HTTP/1.1\r\nHost: x\r\n\r\nGET /with HTTP/1.1\r\nHost: x\r\n\r\n");
    say(c, "GET /behind HTTP/1.1\r\nHost: x\r\n\r\n");
    write_piece("one");
    WAIT(strstr(text_of(c), "one") != NULL);
    CU_ASSERT_EQUAL(w.seen, 1);
    end_stream();
    WAIT(strstr(text_of(c), "GET /behind") != NULL);
    CU_ASSERT_TRUE(has(text_of(c), "GET /with"));

    c = open_stream(1, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
    memset(large, 'x', LARGE);
    say_n(c, large, LARGE);
    for (i = 0; i < ROUND_TRIPS; i++) {
        size_t before = received(c);

        write_piece("one");
        WAIT(received(c) > before);
    }
    CU_ASSERT(evbuffer_get_length(bufferevent_get_output(c->bev)) > 0); /* nobody takes it all */
    end_stream();
    WAIT(c->closed); /* it was no request */
    CU_ASSERT_EQUAL(w.closed, 0);
    free(large);
    end();
}

/* The bound on what waits behind a stream is gone with the stream. */
static void a_large_request_after_a_stream(void)
{
    struct client *c;
    char *body = mem_alloc(PIECE);
    char length[24];

    begin();
    w.config.body_max = PIECE;
    serve_anew();
    c = open_stream(0, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
    end_stream();
    memset(body, 'x', PIECE);
    snprintf(length, sizeof(length), "%d\r\n\r\n", PIECE);
    say(c, "POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: ");
    say(c, length);
    say_n(c, body, PIECE);
    WAIT(w.seen == 2);
    free(body);
    end();
}

static void a_client_that_leaves_is_told(void)
{
    struct client *c;

    begin();
    c = open_stream(0, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
    write_piece("one");
    WAIT(received(c) > 0);
    bufferevent_free(c->bev);
    c->bev = NULL;
    WAIT(w.closed == 1);
    CU_ASSERT_FALSE(w.slow);
    CU_ASSERT_EQUAL(httpd_connections(w.httpd), 0);
    CU_ASSERT_EQUAL(httpd_requests(w.httpd), 1); /* it is the handler's still */
    CU_ASSERT_EQUAL(http_stream_waiting(w.kept), 0);
    write_piece("nobody hears it");
    end_stream();
    CU_ASSERT_EQUAL(httpd_requests(w.httpd), 0);
    CU_ASSERT_EQUAL(w.closed, 1);
    end();
}

/* Write until more waits than may. */
static void write_too_much(void)
{
    char *piece = mem_alloc(PIECE);
    size_t waiting = 0;

    memset(piece, 'x', PIECE);
    while (http_stream_waiting(w.kept) <= STREAM_OUTPUT_MAX) {
        http_stream_write(w.kept, piece, PIECE);
        CU_ASSERT_FATAL((waiting += PIECE) < 100000000);
    }
    http_stream_write(w.kept, piece, PIECE);
    CU_ASSERT(http_stream_waiting(w.kept) <= STREAM_OUTPUT_MAX + PIECE + 20);
    free(piece);
}

static bool ends_like_a_whole(struct client *c)
{
    struct evbuffer *input = bufferevent_get_input(c->bev);
    size_t n = evbuffer_get_length(input);

    return n >= 5 && memcmp(evbuffer_pullup(input, -1) + n - 5, "0\r\n\r\n", 5) == 0;
}

static void a_slow_client_is_cut_off(void)
{
    struct client *c;

    begin();
    c = open_stream(0, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
    bufferevent_disable(c->bev, EV_READ);
    write_too_much();
    CU_ASSERT_EQUAL(w.closed, 0); /* not from within a call */
    WAIT(w.closed == 1);
    CU_ASSERT_TRUE(w.slow);
    CU_ASSERT_EQUAL(httpd_connections(w.httpd), 0);
    end_stream();
    bufferevent_enable(c->bev, EV_READ);
    WAIT(c->closed);
    CU_ASSERT_FALSE(ends_like_a_whole(c));
    end();
}

/* The end comes before the turn of the loop in which it would have been cut off. */
static void an_end_does_not_save_a_slow_client(void)
{
    struct client *c;

    begin();
    c = open_stream(0, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
    bufferevent_disable(c->bev, EV_READ);
    write_too_much();
    end_stream();
    CU_ASSERT_EQUAL(httpd_requests(w.httpd), 0);
    WAIT(httpd_connections(w.httpd) == 0);
    CU_ASSERT_EQUAL(w.closed, 0);
    bufferevent_enable(c->bev, EV_READ);
    WAIT(c->closed);
    CU_ASSERT_FALSE(ends_like_a_whole(c));
    end();
}

/* The server ends before the turn of the loop in which the client would have been cut off. */
static void a_slow_client_at_the_servers_end(void)
{
    begin();
    bufferevent_disable(open_stream(0, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n")->bev, EV_READ);
    write_too_much();
    end_stream();
    end();
}

/* A client that reads in time gets all, however much. */
static void a_large_stream(void)
{
    struct client *c;
    char *large = mem_alloc(LARGE);

    begin();
    c = open_stream(0, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
    memset(large, 'x', LARGE);
    http_stream_write(w.kept, large, LARGE);
    CU_ASSERT(http_stream_waiting(w.kept) > 0);
    WAIT(http_stream_waiting(w.kept) == 0);
    write_piece("more");
    end_stream();
    WAIT(received(c) > LARGE && ends_like_a_whole(c));
    CU_ASSERT_EQUAL(w.closed, 0);
    free(large);
    end();
}

/* Silent for longer than idle connections may be. */
static void a_silent_stream_stays(void)
{
    struct client *c, *idle;

    begin();
    w.config.idle_timeout_s = 1;
    serve_anew();
    c = open_stream(0, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT(received(c) > 0);
    idle = dial(1);
    WAIT(idle->closed);
    idle = dial(1);
    WAIT(idle->closed);
    CU_ASSERT_EQUAL(w.closed, 0);
    CU_ASSERT_FALSE(c->closed);
    now_us += 1000 * 1000000ll; /* nor is it a request that trickles in */
    write_piece("there");
    WAIT(strstr(text_of(c), "there") != NULL);
    end_stream();
    WAIT(c->closed); /* idle again */
    CU_ASSERT_TRUE(ends_like_a_whole(c));
    end();
}

static void a_drain_waits_for_streams(void)
{
    struct client *before, *c;

    begin();
    c = open_stream(0, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
    write_piece("one");
    before = dial(1);
    WAIT(received(c) > 0 && httpd_connections(w.httpd) == 2);
    httpd_drain(w.httpd);
    httpd_close_idle(w.httpd, 0);
    WAIT(before->closed);
    CU_ASSERT_EQUAL(httpd_connections(w.httpd), 1);
    CU_ASSERT_EQUAL(httpd_requests(w.httpd), 1);
    write_piece("two");
    end_stream();
    WAIT(has(text_of(c), "two\r\n0\r\n\r\n"));
    httpd_close_idle(w.httpd, 1); /* not at once: its head did not say so */
    CU_ASSERT_EQUAL(httpd_connections(w.httpd), 1);
    now_us += 1;
    httpd_close_idle(w.httpd, 1);
    WAIT(c->closed);
    WAIT(httpd_connections(w.httpd) == 0);
    CU_ASSERT_EQUAL(w.closed, 0);
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"serves requests", serves_requests},
        {"smuggling shapes", smuggling_shapes},
        {"paths", paths},
        {"unreadable requests", unreadable_requests},
        {"sizes are limited", sizes_are_limited},
        {"HEAD", head_has_a_length_without_a_body},
        {"connections are capped", connections_are_capped},
        {"slow requests are dropped", slow_requests_are_dropped},
        {"a drain closes after the answer", a_drain_closes_after_the_answer},
        {"close idle: keeps the busy", close_idle_keeps_the_busy},
        {"close idle: keeps answers", close_idle_keeps_answers_that_are_being_sent},
        {"streams: HTTP/1.1", streams_to_http_1_1},
        {"streams: HTTP/1.0", streams_to_http_1_0},
        {"streams: HEAD", a_stream_without_a_body},
        {"streams: within the handler", a_stream_within_the_handler},
        {"streams: requests behind", requests_behind_a_stream},
        {"streams: a large request after", a_large_request_after_a_stream},
        {"streams: a client leaves", a_client_that_leaves_is_told},
        {"streams: a slow client", a_slow_client_is_cut_off},
        {"streams: a slow client, ended", an_end_does_not_save_a_slow_client},
        {"streams: a slow client, freed", a_slow_client_at_the_servers_end},
        {"streams: large", a_large_stream},
        {"streams: silent", a_silent_stream_stays},
        {"streams: drain", a_drain_waits_for_streams},
        CU_TEST_INFO_NULL,
    };
    int failed = unit_main("httpd", tests);

    end();
    return failed;
}
