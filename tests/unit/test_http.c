/* The HTTP client over real sockets: the client and a server that misbehaves as told are on one
 * loop. Tests wait for conditions. */
#include "common/io/http.h"

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
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "tests/unit/unit.h"

enum {
    GUARD_MS = 20000,
    CROWD = 400,
    RESPONSE_MAX = 100000,
    PATIENCE_MS = 15000, /* longer than any test takes */
    SHORT_MS = 60,       /* what tests of time-outs wait for */
};

struct peer;
typedef void script(struct peer *p);

/* A connection that the server has. */
struct peer {
    struct peer *next;
    struct bufferevent *bev;
    struct timer *timer; /* for what is written step by step */
    char path[64];
    struct buf request;
    const char *rest; /* of what is written step by step */
    size_t rest_len;
    bool held, gone;
};

enum { NOWHERE, IN_ANSWERED, IN_DATA, IN_DONE };

/* What became of a call. */
struct result {
    struct http_call *call; /* NULL: ended or cancelled */
    struct buf body;
    int answered, pieces, done;
    int status; /* at the end */
    bool failed, sent;
    struct err e;
    char *content_type;
    /* where to cancel it; where to start another */
    int cancel, follow;
    struct result *next; /* the other */
};

static struct {
    struct loop *loop;
    struct timer *guard;
    bool late;
    struct evconnlistener *listener;
    int port;
    SSL_CTX *tls; /* the server's; NULL: plain */
    char *folder, *ca_file;
    struct peer *peers;
    int accepted, requests, held, most_held;
    struct http_client *client;
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

/* ---- the server ---- */

static void say(struct peer *p, const char *text)
{
    bufferevent_write(p->bev, text, strlen(text));
}

static void hang_up(struct peer *p)
{
    bufferevent_free(p->bev);
    p->bev = NULL;
    p->gone = true;
}

static void written(struct bufferevent *bev, void *arg)
{
    (void)bev;
    hang_up(arg);
}

/* Close when all is written. */
static void hang_up_after(struct peer *p)
{
    bufferevent_setcb(p->bev, NULL, written, NULL, p);
}

static void reset(void *arg)
{
    struct peer *p = arg;
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    int fd = bufferevent_getfd(p->bev);

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    hang_up(p);
}

/* One byte at a time, each in a packet of its own. */
static void trickle(void *arg)
{
    struct peer *p = arg;

    if (!p->bev || !p->rest_len)
        return;
    bufferevent_write(p->bev, p->rest, 1);
    p->rest++;
    p->rest_len--;
    timer_set(p->timer, 1);
}

static void step(struct peer *p, loop_cb *cb, const char *text)
{
    timer_free(p->timer);
    p->timer = timer_new(w.loop, cb, p);
    p->rest = text;
    p->rest_len = strlen(text);
    timer_set(p->timer, 1);
}

static void serve_ok(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello");
}

static void serve_request(struct peer *p)
{
    struct buf out;

    buf_init(&out, RESPONSE_MAX);
    buf_printf(&out, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", p->request.len,
               p->request.data);
    bufferevent_write(p->bev, out.data, out.len);
    buf_free(&out);
}

static void serve_error(struct peer *p)
{
    say(p, "HTTP/1.1 500 Oh\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\noops");
}

static void serve_empty(struct peer *p)
{
    say(p, "HTTP/1.1 204 No Content\r\n\r\n");
}

static void serve_interim(struct peer *p)
{
    say(p, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Type: x/y\r\n\r\n");
    serve_ok(p);
}

static void serve_redirect(struct peer *p)
{
    say(p, "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n");
}

static const char chunked[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    "6;x=y\r\none tw\r\n3\r\no \xe2\r\n2\r\n\x82\xac\r\n0\r\nX-Trailer: yes\r\n\r\n";
static const char chunked_body[] = "one two \xe2\x82\xac";

static const char packed_body[] = "packed, although nobody asked for it";

static void serve_packed(struct peer *p)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
                               "Content-Length: 55\r\n\r\n";
    static const char packed[] =
        "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x2b\x48\x4c\xce\x4e\x4d\xd1\x51\x48\xcc\x29"
        "\xc9\xc8\x2f\x4d\xcf\x50\xc8\xcb\x4f\xca\x4f\xa9\x54\x48\x2c\x06\x0a\x2b\xa4\xe5\x17"
        "\x29\x64\x96\x00\x00\x36\xfb\xcf\x91\x24\x00\x00\x00";

    say(p, head);
    bufferevent_write(p->bev, packed, sizeof(packed) - 1);
}

static void serve_badly_packed(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello");
}

static void serve_chunked(struct peer *p)
{
    say(p, chunked);
}

static void serve_split(struct peer *p)
{
    step(p, trickle, chunked);
}

static void serve_half_chunked(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    hang_up_after(p);
}

static void serve_truncated(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    hang_up_after(p);
}

static void serve_reset(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    step(p, reset, "");
}

static void serve_nothing(struct peer *p)
{
    hang_up(p);
}

static void serve_nonsense(struct peer *p)
{
    say(p, "SSH-2.0-OpenSSH_9.2\r\n\r\n");
    hang_up_after(p);
}

static void serve_headers(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void serve_half(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
}

static void serve_and_close(struct peer *p)
{
    serve_ok(p);
    hang_up_after(p); /* without having said so */
}

static void hold(struct peer *p)
{
    p->held = true;
    if (++w.held > w.most_held)
        w.most_held = w.held;
}

static void huge_piece(struct bufferevent *bev, void *arg)
{
    char piece[16384];

    (void)arg;
    memset(piece, 'x', sizeof(piece));
    bufferevent_write(bev, piece, sizeof(piece));
}

static void peer_event(struct bufferevent *bev, short what, void *arg);

static void serve_huge(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\n\r\n");
    bufferevent_setcb(p->bev, NULL, huge_piece, peer_event, p); /* without end */
}

static const struct {
    const char *path;
    script *run;
} scripts[] = {
    {"/ok", serve_ok},
    {"/request", serve_request},
    {"/error", serve_error},
    {"/empty", serve_empty},
    {"/interim", serve_interim},
    {"/redirect", serve_redirect},
    {"/packed", serve_packed},
    {"/badly-packed", serve_badly_packed},
    {"/chunked", serve_chunked},
    {"/split", serve_split},
    {"/half-chunked", serve_half_chunked},
    {"/truncated", serve_truncated},
    {"/reset", serve_reset},
    {"/nothing", serve_nothing},
    {"/nonsense", serve_nonsense},
    {"/headers", serve_headers},
    {"/half", serve_half},
    {"/and-close", serve_and_close},
    {"/held", hold},
    {"/huge", serve_huge},
};

/* A whole request is there: its body's length, or -1. */
static long whole(const struct buf *request)
{
    const char *end = request->data ? strstr(request->data, "\r\n\r\n") : NULL;
    const char *length = request->data ? strcasestr(request->data, "Content-Length:") : NULL;
    long n = length && end && length < end ? strtol(length + 15, NULL, 10) : 0;

    if (!end || (long)(request->data + request->len - end - 4) < n)
        return -1;
    return n;
}

static void peer_read(struct bufferevent *bev, void *arg)
{
    struct evbuffer *in = bufferevent_get_input(bev);
    struct peer *p = arg;
    size_t i;

    buf_add(&p->request, evbuffer_pullup(in, -1), evbuffer_get_length(in));
    evbuffer_drain(in, evbuffer_get_length(in));
    if (whole(&p->request) < 0)
        return;
    w.requests++;
    sscanf(p->request.data, "%*s %63s", p->path);
    for (i = 0; i < COUNT(scripts); i++)
        if (strcmp(p->path, scripts[i].path) == 0)
            scripts[i].run(p);
    buf_clear(&p->request);
}

static void peer_event(struct bufferevent *bev, short what, void *arg)
{
    struct peer *p = arg;

    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        hang_up(p);
}

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *a, int n,
                     void *arg)
{
    struct peer *p = mem_alloc(sizeof(*p));
    int yes = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    (void)l;
    (void)a;
    (void)n;
    (void)arg;
    w.accepted++;
    p->next = w.peers;
    w.peers = p;
    buf_init(&p->request, RESPONSE_MAX);
    if (w.tls)
        p->bev = bufferevent_openssl_socket_new(loop_base(w.loop), fd, SSL_new(w.tls),
                                                BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    else
        p->bev = bufferevent_socket_new(loop_base(w.loop), fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(p->bev, peer_read, NULL, peer_event, p);
    bufferevent_enable(p->bev, EV_READ | EV_WRITE);
}

/* Answer those that are held. */
static void release(void)
{
    struct peer *p;

    for (p = w.peers; p; p = p->next) {
        if (!p->held)
            continue;
        p->held = false;
        w.held--;
        if (p->bev)
            serve_ok(p);
    }
}

static bool all_gone(void)
{
    const struct peer *p;

    for (p = w.peers; p; p = p->next)
        if (!p->gone)
            return false;
    return true;
}

/* ---- begin and end ---- */

static void end(void)
{
    struct peer *p;

    http_client_free(w.client);
    while ((p = w.peers)) {
        w.peers = p->next;
        if (p->bev)
            bufferevent_free(p->bev);
        timer_free(p->timer);
        buf_free(&p->request);
        free(p);
    }
    if (w.listener)
        evconnlistener_free(w.listener);
    timer_free(w.guard);
    loop_free(w.loop);
    SSL_CTX_free(w.tls);
    if (w.folder)
        unit_remove_directory(w.folder);
    free(w.folder);
    free(w.ca_file);
    memset(&w, 0, sizeof(w));
}

static void begin_with(const char *ca_file)
{
    struct http_client_config config = {
        .ca_file = ca_file, .connections_max = CROWD, .user_agent = "unit/1"};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    struct err e;

    w.loop = loop_new();
    w.guard = timer_new(w.loop, guard, NULL);
    w.listener = evconnlistener_new_bind(loop_base(w.loop), accepted, NULL,
                                         LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 1024,
                                         (struct sockaddr *)&a, sizeof(a));
    getsockname(evconnlistener_get_fd(w.listener), (struct sockaddr *)&a, &n);
    w.port = ntohs(a.sin_port);
    w.client = http_client_new(w.loop, &config, &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w.client);
}

static void begin(void)
{
    end(); /* of a test that failed */
    begin_with(NULL);
}

/* ---- calls ---- */

static struct http_call *start(struct result *r, const char *path);

/* Do what the test wants done here. Returns whether the call is gone. */
static bool interfere(struct result *r, int where)
{
    if (r->follow == where)
        r->next->call = start(r->next, "/ok");
    if (r->cancel != where)
        return false;
    http_call_cancel(r->call);
    r->call = NULL;
    return true;
}

static void on_answered(void *arg, struct http_call *call)
{
    const char *type = http_call_header(call, "content-type");
    struct result *r = arg;

    CU_ASSERT_EQUAL(r->pieces + r->done, 0);
    r->answered++;
    r->status = http_call_status(call);
    r->content_type = mem_strdup(type);
    interfere(r, IN_ANSWERED);
}

static void on_data(void *arg, struct http_call *call, const char *bytes, size_t n)
{
    struct result *r = arg;

    CU_ASSERT_PTR_EQUAL(call, r->call);
    CU_ASSERT_EQUAL(r->answered, 1);
    r->pieces++;
    interfere(r, IN_DATA);
    buf_add(&r->body, bytes, n); /* they outlive the call */
}

static void on_done(void *arg, struct http_call *call, const struct err *e)
{
    struct result *r = arg;

    r->done++;
    r->status = http_call_status(call);
    r->failed = e != NULL;
    r->sent = http_call_sent(call);
    if (e)
        r->e = *e;
    if (!interfere(r, IN_DONE))
        r->call = NULL;
}

static const struct http_call_events events = {on_answered, on_data, on_done};

static char url[128];

static struct http_call_request request_of(const char *path)
{
    snprintf(url, sizeof(url), "%s://127.0.0.1:%d%s", w.tls ? "https" : "http", w.port, path);
    return (struct http_call_request){
        .url = url,
        .response_max = RESPONSE_MAX,
        .connect_timeout_ms = PATIENCE_MS,
        .total_timeout_ms = PATIENCE_MS,
        .first_timeout_ms = PATIENCE_MS,
        .idle_timeout_ms = PATIENCE_MS,
    };
}

static struct http_call *start_request(struct result *r, const struct http_call_request *request)
{
    buf_init(&r->body, RESPONSE_MAX);
    r->call = http_call_start(w.client, request, &events, r);
    CU_ASSERT_EQUAL(r->done, 0); /* nobody is called before this returns */
    return r->call;
}

static struct http_call *start(struct result *r, const char *path)
{
    struct http_call_request request = request_of(path);

    return start_request(r, &request);
}

static void forget(struct result *r)
{
    buf_free(&r->body);
    free(r->content_type);
    *r = (struct result){0};
}

/* A call from start to end. */
static void call(struct result *r, const char *path)
{
    start(r, path);
    WAIT(r->done);
    CU_ASSERT_EQUAL(http_client_calls(w.client), 0);
}

static void succeeded(struct result *r, int status, const char *body)
{
    CU_ASSERT_EQUAL(r->done, 1);
    CU_ASSERT_EQUAL(r->answered, 1);
    CU_ASSERT_FALSE(r->failed);
    CU_ASSERT_EQUAL(r->status, status);
    CU_ASSERT_STRING_EQUAL(r->body.data ? r->body.data : "", body);
    forget(r);
}

static void did_fail(struct result *r, enum err_kind kind, int status, const char *says)
{
    CU_ASSERT_EQUAL(r->done, 1);
    CU_ASSERT_TRUE_FATAL(r->failed);
    CU_ASSERT_EQUAL(r->e.kind, kind);
    CU_ASSERT_EQUAL(r->e.status, status);
    CU_ASSERT_PTR_NOT_NULL(strstr(r->e.text, says));
    if (!strstr(r->e.text, says))
        printf("\n      it says: %s\n", r->e.text);
    forget(r);
}

/* ---- tests ---- */

static void answers(void)
{
    struct result r = {0};

    begin();
    start(&r, "/ok");
    WAIT(r.done);
    CU_ASSERT_STRING_EQUAL(r.content_type, "text/plain");
    succeeded(&r, 200, "hello");
    call(&r, "/error");
    succeeded(&r, 500, "oops");
    call(&r, "/empty");
    succeeded(&r, 204, "");
    call(&r, "/interim");
    CU_ASSERT_STRING_EQUAL(r.content_type, "text/plain");
    succeeded(&r, 200, "hello");
    call(&r, "/chunked");
    succeeded(&r, 200, chunked_body);
    call(&r, "/split");
    CU_ASSERT_TRUE(r.pieces > 1);
    succeeded(&r, 200, chunked_body);
    CU_ASSERT_EQUAL(w.accepted, 1); /* one connection carried them all */
    end();
}

static void sends(void)
{
    static const char *const headers[] = {"Authorization: Bearer abc", "X-Title: a title", NULL};
    struct http_call_request request;
    struct result r = {0};
    size_t i;

    begin();
    request = request_of("/request");
    request.headers = headers;
    request.body_len = 70000; /* more than one write takes */
    request.body = mem_alloc(request.body_len + 1);
    for (i = 0; i < request.body_len; i++)
        request.body[i] = (char)('a' + i % 26);
    start_request(&r, &request);
    WAIT(r.done);
    CU_ASSERT_TRUE(strncmp(r.body.data, "POST /request HTTP/1.1\r\n", 24) == 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(r.body.data, "\r\nAuthorization: Bearer abc\r\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(r.body.data, "\r\nX-Title: a title\r\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(r.body.data, "\r\nUser-Agent: unit/1\r\n"));
    CU_ASSERT_PTR_NULL(strstr(r.body.data, "\r\nExpect:"));
    CU_ASSERT_PTR_NOT_NULL(strstr(r.body.data, "\r\n\r\nabcdefghijklmnopqrstuvwxyzab"));
    CU_ASSERT_TRUE(r.body.len > 70000);
    forget(&r);
    call(&r, "/request");
    CU_ASSERT_TRUE(strncmp(r.body.data, "GET /request HTTP/1.1\r\n", 23) == 0);
    forget(&r);
    end();
}

static void packed_answers(void)
{
    struct http_call_request request;
    struct result r = {0};

    begin();
    call(&r, "/request");
    CU_ASSERT_PTR_NOT_NULL(strstr(r.body.data, "\r\nAccept-Encoding: identity\r\n"));
    forget(&r);
    call(&r, "/packed");
    succeeded(&r, 200, packed_body);
    request = request_of("/packed");
    request.response_max = sizeof(packed_body) - 2; /* counted as it is unpacked */
    start_request(&r, &request);
    WAIT(r.done);
    did_fail(&r, ERR_FATAL, 502, "larger than 35 bytes");
    call(&r, "/badly-packed");
    did_fail(&r, ERR_RETRY, 502, "Encoding");
    end();
}

static void redirects_are_not_followed(void)
{
    struct result r = {0};

    begin();
    call(&r, "/redirect");
    succeeded(&r, 302, "");
    CU_ASSERT_EQUAL(w.requests, 1);
    end();
}

static void broken_answers(void)
{
    static const char lost[] = "connection was lost";
    struct result r = {0};

    begin();
    call(&r, "/truncated");
    CU_ASSERT_STRING_EQUAL(r.body.data, "half"); /* what came is told, and then the failure */
    did_fail(&r, ERR_RETRY, 502, lost);
    call(&r, "/half-chunked");
    did_fail(&r, ERR_RETRY, 502, lost);
    call(&r, "/reset");
    did_fail(&r, ERR_RETRY, 502, lost);
    call(&r, "/nothing");
    CU_ASSERT_EQUAL(r.status, 0);
    CU_ASSERT_TRUE(r.sent); /* it may have been carried out */
    did_fail(&r, ERR_RETRY, 502, lost);
    call(&r, "/nonsense");
    did_fail(&r, ERR_RETRY, 502, "no HTTP");
    end();
}

static void not_reached(void)
{
    struct http_call_request request;
    struct result r = {0};

    begin();
    evconnlistener_free(w.listener);
    w.listener = NULL;
    call(&r, "/ok");
    CU_ASSERT_FALSE(r.sent);
    did_fail(&r, ERR_RETRY, 502, "refused");
    request = request_of("/ok");
    /* a label that no name server is asked for */
    request.url =
        "http://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.invalid/";
    start_request(&r, &request);
    WAIT(r.done);
    did_fail(&r, ERR_RETRY, 502, "name is not known");
    end();
}

static void requests_that_cannot_be_made(void)
{
    static const char *const two_lines[] = {"Authorization: a\r\nX-Other: b", NULL};
    static const char *const urls[] = {"file:///etc/passwd", "gopher://127.0.0.1/", "http://",
                                       "http://[::1", ""};
    struct http_call_request request;
    struct result r = {0};
    size_t i;

    begin();
    for (i = 0; i < COUNT(urls); i++) {
        request = request_of("/ok");
        request.url = urls[i];
        start_request(&r, &request);
        WAIT(r.done);
        did_fail(&r, ERR_FATAL, 500, "cannot be made");
    }
    request = request_of("/ok");
    request.headers = two_lines;
    request.body = mem_strdup("taken");
    request.body_len = 5;
    start_request(&r, &request);
    WAIT(r.done);
    did_fail(&r, ERR_FATAL, 500, "line end");
    CU_ASSERT_EQUAL(w.accepted, 0);
    end();
}

static void too_large(void)
{
    struct http_call_request request;
    struct result r = {0};

    begin();
    call(&r, "/huge");
    CU_ASSERT_TRUE(r.body.len <= RESPONSE_MAX);
    did_fail(&r, ERR_FATAL, 502, "larger than 100000 bytes");
    WAIT(all_gone()); /* the server was hung up on */
    request = request_of("/ok");
    request.response_max = 5;
    start_request(&r, &request);
    WAIT(r.done);
    succeeded(&r, 200, "hello");
    request.response_max = 4;
    start_request(&r, &request);
    WAIT(r.done);
    did_fail(&r, ERR_FATAL, 502, "larger than 4 bytes");
    end();
}

static void silence(void)
{
    struct http_call_request request;
    struct result r = {0};

    begin();
    request = request_of("/held"); /* not even headers */
    request.first_timeout_ms = SHORT_MS;
    start_request(&r, &request);
    WAIT(r.done);
    CU_ASSERT_EQUAL(r.answered, 0);
    did_fail(&r, ERR_RETRY, 504, "nothing came within 60 ms");
    request = request_of("/headers");
    request.first_timeout_ms = SHORT_MS;
    start_request(&r, &request);
    WAIT(r.done);
    CU_ASSERT_EQUAL(r.answered, 1);
    did_fail(&r, ERR_RETRY, 504, "nothing came within 60 ms");
    request = request_of("/half");
    request.idle_timeout_ms = SHORT_MS;
    start_request(&r, &request);
    WAIT(r.done);
    CU_ASSERT_STRING_EQUAL(r.body.data, "half");
    did_fail(&r, ERR_RETRY, 504, "nothing more came for 60 ms");
    request = request_of("/half");
    request.total_timeout_ms = SHORT_MS;
    start_request(&r, &request);
    WAIT(r.done);
    did_fail(&r, ERR_RETRY, 504, "no complete answer within 60 ms");
    WAIT(all_gone());
    end();
}

/* Slow, but never silent for long: the limits count from byte to byte. */
static void slow_is_not_silent(void)
{
    struct http_call_request request;
    struct result r = {0};

    begin();
    request = request_of("/split");
    request.idle_timeout_ms = 5000;
    start_request(&r, &request);
    WAIT(r.done);
    succeeded(&r, 200, chunked_body);
    request.first_timeout_ms = 0; /* no limits at all */
    request.idle_timeout_ms = 0;
    request.total_timeout_ms = 0;
    start_request(&r, &request);
    WAIT(r.done);
    succeeded(&r, 200, chunked_body);
    end();
}

static void no_connection_in_time(void)
{
    /* A listener whose queue is full: nobody accepts, and what fits into it is taken. */
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), fillers[8], i;
    struct http_call_request request;
    socklen_t n = sizeof(a);
    struct result r = {0};

    begin();
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    CU_ASSERT_EQUAL_FATAL(listen(fd, 0), 0);
    getsockname(fd, (struct sockaddr *)&a, &n);
    for (i = 0; i < (int)COUNT(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fillers[i], (struct sockaddr *)&a, sizeof(a));
    }
    request = request_of("/ok");
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", ntohs(a.sin_port));
    request.connect_timeout_ms = SHORT_MS;
    start_request(&r, &request);
    WAIT(r.done);
    CU_ASSERT_FALSE(r.sent);
    did_fail(&r, ERR_RETRY, 502, "no connection within 60 ms");
    for (i = 0; i < (int)COUNT(fillers); i++)
        close(fillers[i]);
    close(fd);
    end();
}

static void cancelled(void)
{
    struct result r = {0}, other = {0};
    int where;

    begin();
    start(&r, "/ok"); /* before anything happened */
    http_call_cancel(r.call);
    forget(&r);
    start(&r, "/held"); /* in the middle */
    WAIT(w.held == 1);
    http_call_cancel(r.call);
    WAIT(all_gone());
    CU_ASSERT_EQUAL(r.done, 0);
    forget(&r);
    for (where = IN_ANSWERED; where <= IN_DONE; where++) {
        r.cancel = where;
        start(&r, "/chunked");
        WAIT(!r.call);
        CU_ASSERT_EQUAL(http_client_calls(w.client), 0);
        call(&other, "/ok"); /* whatever would still have come has come by now */
        succeeded(&other, 200, "hello");
        CU_ASSERT_EQUAL(r.pieces, where >= IN_DATA);
        CU_ASSERT_EQUAL(r.done, where == IN_DONE);
        if (where >= IN_DATA)
            CU_ASSERT_STRING_EQUAL(r.body.data, chunked_body);
        forget(&r);
    }
    end();
}

static void started_in_callbacks(void)
{
    struct result r = {0}, other = {0};
    int where;

    begin();
    for (where = IN_ANSWERED; where <= IN_DONE; where++) {
        r.follow = where;
        r.next = &other;
        start(&r, "/chunked");
        WAIT(r.done && other.done);
        succeeded(&r, 200, chunked_body);
        succeeded(&other, 200, "hello");
        /* and the first cancelled in the same callback, so that its memory is free again */
        r.follow = r.cancel = where;
        r.next = &other;
        start(&r, "/chunked");
        WAIT(!r.call && other.done);
        succeeded(&other, 200, "hello");
        forget(&r);
    }
    end();
}

static void freed_in_mid_transfer(void)
{
    static const char *const paths[] = {"/held", "/half", "/huge", "/split", "/headers"};
    struct result r[COUNT(paths)] = {{0}}, never = {0};
    size_t i;

    begin();
    for (i = 0; i < COUNT(paths); i++)
        start(&r[i], paths[i]);
    WAIT(r[1].pieces && r[2].pieces && r[3].pieces && r[4].answered && w.held);
    start(&never, "/ok");
    http_client_free(w.client);
    w.client = NULL;
    WAIT(all_gone());
    for (i = 0; i < COUNT(paths); i++)
        forget(&r[i]);
    forget(&never);
    end();
}

static void a_crowd(void)
{
    static struct result crowd[CROWD];
    int i, round, connections = 0;

    begin();
    for (round = 0; round < 2; round++) {
        for (i = 0; i < CROWD; i++)
            start(&crowd[i], "/held");
        CU_ASSERT_EQUAL(http_client_calls(w.client), CROWD);
        WAIT(w.held == CROWD); /* all at once */
        release();
        for (i = 0; i < CROWD; i++) {
            WAIT(crowd[i].done);
            succeeded(&crowd[i], 200, "hello");
        }
        if (round == 0)
            connections = w.accepted;
    }
    CU_ASSERT_EQUAL(connections, CROWD);
    CU_ASSERT_EQUAL(w.accepted, connections); /* the second round found them all open */
    end();
}

static void a_kept_connection_that_died(void)
{
    struct result r = {0};

    begin();
    call(&r, "/and-close");
    succeeded(&r, 200, "hello");
    WAIT(all_gone());
    call(&r, "/ok");
    succeeded(&r, 200, "hello");
    CU_ASSERT_EQUAL(w.accepted, 2);
    end();
}

/* ---- TLS ---- */

static void add_name(X509 *x, const char *names)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);

    X509_add_ext(x, extension, -1);
    X509_EXTENSION_free(extension);
}

/* A server whose certificate, signed by itself, has these names; its file is w.ca_file. */
static void begin_tls(const char *names, bool trusted)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    FILE *f;

    end();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)"unit", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    add_name(x, names);
    X509_sign(x, key, EVP_sha256());
    w.tls = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(w.tls, x);
    SSL_CTX_use_PrivateKey(w.tls, key);
    w.folder = unit_directory();
    w.ca_file = unit_file(w.folder, "ca.pem", "", 0);
    f = fopen(w.ca_file, "we");
    PEM_write_X509(f, x);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
    begin_with(trusted ? w.ca_file : NULL);
}

static void certificates(void)
{
    struct result r = {0};

    begin_tls("IP:127.0.0.1", true);
    call(&r, "/split");
    succeeded(&r, 200, chunked_body);
    unlink(w.ca_file); /* it was read, once for all connections */
    call(&r, "/and-close");
    succeeded(&r, 200, "hello");
    WAIT(all_gone());
    call(&r, "/ok"); /* on a new connection */
    succeeded(&r, 200, "hello");
    call(&r, "/half-chunked");
    did_fail(&r, ERR_RETRY, 502, "");
    begin_tls("DNS:localhost", true);
    call(&r, "/ok");
    did_fail(&r, ERR_RETRY, 502, "certificate is not accepted");
    begin_tls("IP:127.0.0.1", false);
    call(&r, "/ok");
    did_fail(&r, ERR_RETRY, 502, "certificate is not accepted");
    CU_ASSERT_EQUAL(w.requests, 0);
    end();
}

static void authorities_that_cannot_be_read(void)
{
    struct http_client_config config = {.ca_file = "/does/not/exist", .user_agent = "unit"};
    struct loop *l = loop_new();
    struct err e;

    CU_ASSERT_PTR_NULL(http_client_new(l, &config, &e));
    CU_ASSERT_EQUAL(e.kind, ERR_FATAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "/does/not/exist"));
    loop_free(l);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"answers of all shapes", answers},
        {"what is sent", sends},
        {"packed answers", packed_answers},
        {"redirects are not followed", redirects_are_not_followed},
        {"broken answers", broken_answers},
        {"servers that are not reached", not_reached},
        {"requests that cannot be made", requests_that_cannot_be_made},
        {"answers that are too large", too_large},
        {"silence", silence},
        {"slow is not silent", slow_is_not_silent},
        {"no connection in time", no_connection_in_time},
        {"calls cancelled, also in callbacks", cancelled},
        {"calls started in callbacks", started_in_callbacks},
        {"the client freed in mid-transfer", freed_in_mid_transfer},
        {"hundreds in flight", a_crowd},
        {"a kept connection that died", a_kept_connection_that_died},
        {"certificates", certificates},
        {"authorities that cannot be read", authorities_that_cannot_be_read},
        CU_TEST_INFO_NULL,
    };
    int failed = unit_main("http", tests);

    end();
    return failed;
}
