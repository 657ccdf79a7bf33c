#include "common/io/httpd.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <event2/util.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"

enum {
    SWEEP_MS = 1000,
    ACCEPT_PAUSE_MS = 100,
    BACKLOG = 4096,
    ERROR_PAGE_MAX = 4096,
    STREAM_READ_TIMEOUT_S = 315360000, /* ten years: for libevent "none" is not none (see below) */
    STREAM_INPUT_MAX = 65536,          /* bytes of further requests taken in behind a stream */
};

/* A client's connection, as far as evhttp does not know it: evhttp has no hook for a new one. */
struct connection {
    struct httpd *httpd;
    struct evhttp_connection *evcon;
    bool busy;                   /* a request is with the handler */
    int64_t reading_since;       /* monotonic us of a request's first byte; 0: none came */
    int64_t idle_since;          /* monotonic us of its last stream's end; 0: none was */
    struct http_request *stream; /* its answer is being sent piece by piece */
};

struct httpd {
    struct loop *loop;
    struct evhttp *evhttp;
    struct httpd_config config;
    httpd_handler *handler;
    void *arg;
    struct evconnlistener *listener;
    bool accepting, draining, paused;
    bool handling; /* the handler runs */
    size_t requests;
    struct map *connections;    /* struct evhttp_connection * -> struct connection */
    struct bufferevent **fresh; /* accepted in this turn, not yet in connections */
    size_t fresh_count, fresh_room;
    struct evbuffer *piece; /* of a stream, on its way to evhttp */
    TAILQ_HEAD(, http_request) doomed;
    struct timer *adopt, *sweep, *resume, *cut;
};

struct http_request {
    struct httpd *httpd;
    struct evhttp_request *req;
    char *path;
    struct evkeyvalq query;
    http_closed *closed; /* of a stream, until it is called */
    void *closed_arg;
    bool gone;   /* the connection is, or is going */
    bool doomed; /* in httpd.doomed: to be cut off, nothing more is sent */
    bool ended;  /* by the handler, while doomed */
    TAILQ_ENTRY(http_request) doomed_link;
};

static httpd_error_page *error_page;

/* ---- connections ---- */

static struct connection *find_connection(struct httpd *h, struct evhttp_connection *evcon)
{
    return map_get(h->connections, &evcon, sizeof(struct evhttp_connection *));
}

size_t httpd_connections(const struct httpd *h)
{
    return map_count(h->connections) + h->fresh_count;
}

size_t httpd_requests(const struct httpd *h)
{
    return h->requests;
}

static void resume_accepting(void *arg)
{
    struct httpd *h = arg;

    h->paused = false;
    if (h->listener && h->accepting && !h->draining)
        evconnlistener_enable(h->listener);
}

void httpd_accept(struct httpd *h)
{
    h->accepting = true;
    if (!h->paused)
        resume_accepting(h);
}

static void pause_accepting(struct httpd *h)
{
    if (h->paused || !h->listener)
        return;
    h->paused = true;
    evconnlistener_disable(h->listener);
}

static void stream_closed(struct http_request *r, bool slow)
{
    http_closed *closed = r->closed;

    r->gone = true;
    r->closed = NULL;
    if (closed)
        closed(r->closed_arg, slow); /* ends the stream: r may be freed */
}

static void connection_closed(struct evhttp_connection *evcon, void *arg)
{
    struct connection *c = arg;
    struct httpd *h = c->httpd;
    struct http_request *stream = c->stream;

    map_remove(h->connections, &evcon, sizeof(struct evhttp_connection *));
    free(c);
    if (h->paused && httpd_connections(h) < (size_t)h->config.connections_max)
        timer_set(h->resume, 0);
    if (stream)
        stream_closed(stream, false);
}

/* Bytes came in: when the connection was idle they start a request. */
static void input_grew(struct evbuffer *input, const struct evbuffer_cb_info *info, void *arg)
{
    struct connection *c = arg;

    (void)input;
    if (info->n_added && !c->busy && !c->reading_since)
        c->reading_since = clock_monotonic_us();
}

/* evhttp calls this for each connection that it accepts, before it knows its socket. */
static struct bufferevent *new_bufferevent(struct event_base *base, void *arg)
{
    struct httpd *h = arg;
    struct bufferevent *bev = bufferevent_socket_new(base, -1, 0);

    if (!bev)
        abort(); /* out of memory */
    if (h->fresh_count == h->fresh_room) {
        h->fresh_room = h->fresh_room ? h->fresh_room * 2 : 64;
        h->fresh = mem_resize(h->fresh, h->fresh_room * sizeof(*h->fresh));
    }
    h->fresh[h->fresh_count++] = bev;
    timer_set(h->adopt, 0); /* runs before the connection's first event can */
    if (httpd_connections(h) >= (size_t)h->config.connections_max)
        pause_accepting(h);
    return bev;
}

/* Take the new connections into our book. The bufferevent's callback argument is evhttp's
 * connection, the only way to it before the first request. */
static void adopt(void *arg)
{
    struct httpd *h = arg;
    size_t i;

    for (i = 0; i < h->fresh_count; i++) {
        struct connection *c = mem_alloc(sizeof(*c));
        void *evcon;

        bufferevent_getcb(h->fresh[i], NULL, NULL, NULL, &evcon);
        c->httpd = h;
        c->evcon = evcon;
        map_put(h->connections, &c->evcon, sizeof(c->evcon), c);
        evhttp_connection_set_closecb(c->evcon, connection_closed, c);
        evbuffer_add_cb(bufferevent_get_input(h->fresh[i]), input_grew, c);
    }
    h->fresh_count = 0;
}

static void close_if_slow(void *value, void *arg)
{
    struct connection *c = value;
    int64_t limit = (int64_t)c->httpd->config.request_timeout_s * 1000000;

    (void)arg;
    if (c->busy || !c->reading_since || clock_monotonic_us() - c->reading_since < limit)
        return;
    log_event(LOG_INFO, "slow request dropped",
              LOG_NUM("limit_s", c->httpd->config.request_timeout_s));
    evhttp_connection_free(c->evcon); /* calls connection_closed() */
}

static void sweep(void *arg)
{
    struct httpd *h = arg;

    map_each(h->connections, close_if_slow, NULL);
    timer_set(h->sweep, SWEEP_MS);
}

/* Has the kernel not taken all of an answer yet? */
static bool is_sending(const struct connection *c)
{
    struct bufferevent *bev = evhttp_connection_get_bufferevent(c->evcon);

    return evbuffer_get_length(bufferevent_get_output(bev)) > 0;
}

static void close_if_idle(void *value, void *arg)
{
    struct connection *c = value;
    const int64_t *before = arg;

    if (!c->busy && !c->reading_since && !is_sending(c) && c->idle_since <= *before)
        evhttp_connection_free(c->evcon);
}

void httpd_close_idle(struct httpd *h, int64_t idle_us)
{
    int64_t before = clock_monotonic_us() - idle_us;

    adopt(h);
    map_each(h->connections, close_if_idle, &before);
}

/* ---- requests ---- */

const char *http_method(const struct http_request *r)
{
    switch (evhttp_request_get_command(r->req)) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_HEAD:
        return "HEAD";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    case EVHTTP_REQ_OPTIONS:
        return "OPTIONS";
    case EVHTTP_REQ_PATCH:
        return "PATCH";
    case EVHTTP_REQ_TRACE:
    default: /* others are not let in */
        return "TRACE";
    }
}

const char *http_path(const struct http_request *r)
{
    return r->path;
}

const char *http_remote(const struct http_request *r)
{
    return r->req->remote_host;
}

const char *http_header(const struct http_request *r, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(r->req), name);
}

bool http_query(const struct http_request *r, size_t n, const char **name, const char **value)
{
    const struct evkeyval *pair;

    TAILQ_FOREACH (pair, &r->query, next) {
        if (n-- > 0)
            continue;
        *name = pair->key;
        *value = pair->value;
        return true;
    }
    return false;
}

const char *http_body(const struct http_request *r, size_t *n)
{
    struct evbuffer *input = evhttp_request_get_input_buffer(r->req);

    *n = evbuffer_get_length(input);
    return *n ? (const char *)evbuffer_pullup(input, -1) : "";
}

int http_version_minor(const struct http_request *r)
{
    return r->req->major == 1 ? r->req->minor : -1;
}

static bool is_token(const char *s)
{
    return *s && s[strspn(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

/* A request that a proxy before us and we could read differently is refused. */
static const char *ambiguity(const struct http_request *r)
{
    const struct evkeyval *header;
    int lengths = 0, encodings = 0, hosts = 0;

    TAILQ_FOREACH (header, evhttp_request_get_input_headers(r->req), next) {
        if (!is_token(header->key))
            return "a header's name has a character that is not allowed there";
        if (header->value[strcspn(header->value, "\r\n")])
            return "a header is folded over several lines";
        lengths += strcasecmp(header->key, "Content-Length") == 0;
        encodings += strcasecmp(header->key, "Transfer-Encoding") == 0;
        hosts += strcasecmp(header->key, "Host") == 0;
        if (strcasecmp(header->key, "Content-Length") == 0 &&
            (!*header->value || header->value[strspn(header->value, "0123456789")]))
            return "Content-Length is not a number";
        if (strcasecmp(header->key, "Transfer-Encoding") == 0 &&
            strcasecmp(header->value, "chunked") != 0)
            return "Transfer-Encoding is something else than chunked";
    }
    if (lengths > 1 || encodings > 1 || (lengths && encodings))
        return "the body's length is stated more than once";
    if (encodings && http_version_minor(r) == 0)
        return "HTTP/1.0 has no Transfer-Encoding";
    if (hosts > 1 || (hosts == 0 && http_version_minor(r) == 1))
        return "exactly one Host header is wanted";
    return NULL;
}

const char *http_defect(const struct http_request *r)
{
    const char *p;

    if (!r->path)
        return "the path is not valid";
    for (p = r->path; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return "the path has a control character";
    return ambiguity(r);
}

/* The decoded path without the query, NULL when it cannot be read (with an encoded NUL, say). */
static char *decode_path(struct evhttp_request *req)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    const char *target = evhttp_request_get_uri(req);
    size_t n = 0;
    char *raw, *path;

    /* evhttp would take the first segment of "//health" for a host. */
    if (target && *target == '/')
        raw = mem_strndup(target, strcspn(target, "?#"));
    else if (uri && evhttp_uri_get_path(uri))
        raw = mem_strdup(*evhttp_uri_get_path(uri) ? evhttp_uri_get_path(uri) : "/");
    else
        return NULL;
    path = evhttp_uridecode(raw, 0, &n);
    free(raw);
    if (path && strlen(path) != n) {
        free(path);
        return NULL;
    }
    return path;
}

/* Copies a pair; an encoded NUL, which would cut the text that is decoded, becomes U+FFFD. */
static char *copy_pair(char *end, const char *pair, size_t n)
{
    static const char replacement[] = "%EF%BF%BD";
    size_t i;

    for (i = 0; i < n; i++) {
        if (n - i >= 3 && memcmp(pair + i, "%00", 3) == 0) {
            end = stpcpy(end, replacement);
            i += 2;
        } else {
            *end++ = pair[i];
        }
    }
    return end;
}

/* The query's pairs: what has no "=" or no name is passed over, and does not take the others with it. */
static char *pairs_of(const char *query)
{
    char *pairs = mem_alloc(3 * strlen(query) + 2), *end = pairs;
    size_t n;

    for (; *query; query += n + (query[n] == '&')) {
        n = strcspn(query, "&");
        if (*query != '=' && memchr(query, '=', n)) {
            end = copy_pair(end, query, n);
            *end++ = '&';
        }
    }
    *end = '\0';
    return pairs;
}

static void read_query(struct http_request *r)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(r->req);
    const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
    char *pairs;

    TAILQ_INIT(&r->query);
    if (!query)
        return;
    pairs = pairs_of(query);
    if (evhttp_parse_query_str(pairs, &r->query))
        TAILQ_INIT(&r->query); /* it leaves none */
    free(pairs);
}

static void request_came(struct evhttp_request *req, void *arg)
{
    struct httpd *h = arg;
    struct connection *c = find_connection(h, evhttp_request_get_connection(req));
    struct http_request *r = mem_alloc(sizeof(*r));

    if (c) {
        c->busy = true;
        c->reading_since = 0;
    }
    r->httpd = h;
    r->req = req;
    r->path = decode_path(req);
    read_query(r);
    h->requests++;
    h->handling = true;
    h->handler(h->arg, r);
    h->handling = false;
}

void http_add_header(struct http_request *r, const char *name, const char *value)
{
    evhttp_add_header(evhttp_request_get_output_headers(r->req), name, value);
}

void http_close_after(struct http_request *r)
{
    http_add_header(r, "Connection", "close");
}

/* Write what the socket takes. Returns the bytes left; an error shows when the rest is written. */
static size_t write_out(struct bufferevent *bev)
{
    struct evbuffer *output = bufferevent_get_output(bev);

    evbuffer_unfreeze(output, 1); /* a bufferevent guards what it is about to write */
    evbuffer_write(output, bufferevent_getfd(bev));
    evbuffer_freeze(output, 1);
    return evbuffer_get_length(output);
}

/*
 * Try to write an answer at once. evhttp would first have the kernel watch for writability, which is
 * there nearly always: a turn of the loop and two system calls for nothing. What the socket does
 * not take stays with evhttp. Triggering the write callback is what libevent does after a write;
 * it ends the request and may free the connection.
 */
static void write_at_once(struct evhttp_connection *evcon)
{
    struct bufferevent *bev = evhttp_connection_get_bufferevent(evcon);

    if (write_out(bev) == 0)
        bufferevent_trigger(bev, EV_WRITE, 0);
}

static void free_request(struct http_request *r)
{
    evhttp_clear_headers(&r->query);
    free(r->path);
    free(r);
}

void http_reply(struct http_request *r, int status, const char *content_type, const void *body,
                size_t n)
{
    struct httpd *h = r->httpd;
    struct evhttp_connection *evcon = evhttp_request_get_connection(r->req);
    struct connection *c = evcon ? find_connection(h, evcon) : NULL;
    struct evbuffer *out = evhttp_request_get_output_buffer(r->req);
    bool later = !evcon || h->handling; /* evhttp is in the middle of reading the connection */
    char length[24];

    if (c)
        c->busy = false;
    h->requests--;
    if (h->draining)
        http_close_after(r);
    if (content_type)
        http_add_header(r, "Content-Type", content_type);
    if (evhttp_request_get_command(r->req) == EVHTTP_REQ_HEAD) {
        snprintf(length, sizeof(length), "%zu", n);
        http_add_header(r, "Content-Length", length);
    } else if (n) {
        evbuffer_add(out, body, n);
    }
    evhttp_send_reply(r->req, status, NULL, NULL); /* frees req, if the client is gone at once */
    if (!later)
        write_at_once(evcon);
    free_request(r);
}

/* ---- streams ---- */

static struct bufferevent *bufferevent_of(const struct http_request *r)
{
    return evhttp_connection_get_bufferevent(evhttp_request_get_connection(r->req));
}

static void doom(struct http_request *r)
{
    r->doomed = true;
    TAILQ_INSERT_TAIL(&r->httpd->doomed, r, doomed_link);
    timer_set(r->httpd->cut, 0);
}

/* End the connection as if it had failed, for evhttp_connection_free() would free the request under
 * the handler's hands; and by a reset, for what waits is not worth the kernel's memory. */
static void cut_connection(struct http_request *r)
{
    const struct linger reset = {.l_onoff = 1};
    struct bufferevent *bev = bufferevent_of(r);

    setsockopt(bufferevent_getfd(bev), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    bufferevent_trigger_event(bev, BEV_EVENT_WRITING | BEV_EVENT_ERROR, 0);
}

static void cut_doomed(void *arg)
{
    struct httpd *h = arg;
    struct http_request *r;

    while ((r = TAILQ_FIRST(&h->doomed))) {
        struct evhttp_connection *evcon = evhttp_request_get_connection(r->req);
        bool ended = r->ended;

        TAILQ_REMOVE(&h->doomed, r, doomed_link);
        r->doomed = false;
        if (evcon) {
            find_connection(h, evcon)->stream = NULL;
            cut_connection(r);
        }
        if (ended) {
            evhttp_send_reply_end(r->req); /* frees it */
            free_request(r);
        } else {
            stream_closed(r, evcon != NULL);
        }
    }
}

/* evhttp_write_buffer(), within evhttp_send_reply_…(), has the kernel watch for writability; as in
 * write_at_once() that is left out where the socket takes all. */
static void push(const struct http_request *r)
{
    struct bufferevent *bev = bufferevent_of(r);

    if (!r->httpd->handling && write_out(bev) == 0)
        bufferevent_disable(bev, EV_WRITE);
}

/*
 * While a stream lasts evhttp reads on to notice the client's leaving, and leaves in the buffer what
 * comes: so that is bounded. The read time-out of idle connections would end a silent stream; it
 * goes by a long one, since none (NULL) does not stop the timer that runs.
 */
static void set_stream_mode(const struct http_request *r)
{
    const struct timeval read = {.tv_sec = STREAM_READ_TIMEOUT_S};
    const struct timeval write = {.tv_sec = r->httpd->config.idle_timeout_s};
    struct bufferevent *bev = bufferevent_of(r);

    bufferevent_set_timeouts(bev, &read, &write);
    bufferevent_setwatermark(bev, EV_READ, 0, STREAM_INPUT_MAX);
}

static void end_stream_mode(const struct http_request *r)
{
    bufferevent_setwatermark(bufferevent_of(r), EV_READ, 0, 0);
    evhttp_connection_set_timeout(evhttp_request_get_connection(r->req),
                                  (int)r->httpd->config.idle_timeout_s);
}

void http_stream_start(struct http_request *r, int status, const char *content_type,
                       http_closed *closed, void *arg)
{
    struct evhttp_connection *evcon = evhttp_request_get_connection(r->req);

    r->closed = closed;
    r->closed_arg = arg;
    if (!evcon) {
        doom(r);
        return;
    }
    find_connection(r->httpd, evcon)->stream = r;
    if (r->httpd->draining)
        http_close_after(r);
    http_add_header(r, "Content-Type", content_type);
    /* To a client of 1.0 that wants to keep the connection evhttp would state a length of 0. */
    if (http_version_minor(r) == 0)
        evhttp_remove_header(evhttp_request_get_input_headers(r->req), "Connection");
    evhttp_send_reply_start(r->req, status, NULL);
    set_stream_mode(r);
    push(r);
}

size_t http_stream_waiting(const struct http_request *r)
{
    if (r->gone || !evhttp_request_get_connection(r->req))
        return 0;
    return evbuffer_get_length(bufferevent_get_output(bufferevent_of(r)));
}

void http_stream_write(struct http_request *r, const void *data, size_t n)
{
    struct httpd *h = r->httpd;

    if (r->gone || r->doomed)
        return;
    if (http_stream_waiting(r) > (size_t)h->config.stream_output_max) {
        log_event(LOG_INFO, "slow client cut off", LOG_STR("remote", http_remote(r)),
                  LOG_NUM("waiting", (long)http_stream_waiting(r)));
        doom(r);
        return;
    }
    evbuffer_add(h->piece, data, n);
    evhttp_send_reply_chunk(r->req, h->piece);
    evbuffer_drain(h->piece, evbuffer_get_length(h->piece)); /* HEAD takes none */
    push(r);
}

void http_stream_end(struct http_request *r)
{
    struct httpd *h = r->httpd;
    struct evhttp_connection *evcon = evhttp_request_get_connection(r->req);
    bool more;

    h->requests--;
    if (r->doomed) { /* incomplete: the client must not take it for the whole */
        r->ended = true;
        r->closed = NULL;
        return;
    }
    if (evcon && !r->gone) {
        struct connection *c = find_connection(h, evcon);

        c->busy = false;
        c->stream = NULL;
        end_stream_mode(r);
        c->idle_since = clock_monotonic_us(); /* its head did not say that it would be closed */
        more = r->req->chunked || http_stream_waiting(r) > 0;
        evhttp_send_reply_end(r->req); /* frees the connection, if nothing is to be written */
        if (more && !h->handling)
            write_at_once(evcon);
    } else if (!evcon) {
        evhttp_send_reply_end(r->req); /* only frees it */
    }                                  /* else the connection frees it */
    free_request(r);
}

static const char *unreadable(int status)
{
    switch (status) {
    case 413:
        return "the body is larger than is accepted here, or its chunks are malformed";
    case 417:
        return "the expectation cannot be met";
    case 501:
        return "the method is not known";
    default:
        return "the request cannot be read, or its headers are larger than is accepted here";
    }
}

/*
 * evhttp answers what it cannot read by its own evhttp_send_error(), with an HTML page, and 2.1 has
 * no hook for it. This definition takes the library's place: the dynamic linker prefers the
 * program's. Where it would not, the pages are HTML again and nothing else changes.
 */
void evhttp_send_error(struct evhttp_request *req, int status, const char *reason)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    struct evbuffer *out = evbuffer_new();
    struct buf body;

    (void)reason;
    if (status < 400)
        status = 501; /* a method that evhttp does not know */
    log_event(LOG_INFO, "unreadable request", LOG_NUM("status", status),
              LOG_STR("remote", req->remote_host), LOG_STR("error", unreadable(status)));
    buf_init(&body, ERROR_PAGE_MAX);
    evhttp_clear_headers(headers);
    evhttp_add_header(headers, "Connection", "close");
    if (error_page) {
        evhttp_add_header(headers, "Content-Type", error_page(status, unreadable(status), &body));
        evbuffer_add(out, body.data, body.len);
    }
    if (!req->major) { /* it failed before the version was read */
        req->major = 1;
        req->minor = 1;
    }
    evhttp_send_reply(req, status, NULL, out);
    evbuffer_free(out);
    buf_free(&body);
}

/*
 * evhttp reads Content-Length and the sizes of chunks by this function of the library, which takes
 * "+10", "0x10" and "10 10" for numbers: a proxy before us may read them otherwise, and the rest of
 * the body be taken for a request. This strict one takes its place in the same way. What follows a
 * chunk's size behind ";" is an extension, to be ignored (RFC 9112, 7.1.1).
 */
ev_int64_t evutil_strtoll(const char *s, char **end, int base)
{
    const char *digits = base == 16 ? "0123456789abcdefABCDEF" : "0123456789";
    size_t n = strspn(s, digits), rest = n + strspn(s + n, " \t");

    if (base == 16 && s[rest] == ';')
        rest += strlen(s + rest);
    if (n == 0 || n > 15 || s[rest]) {
        if (end)
            *end = (char *)(uintptr_t)s;
        return -1;
    }
    if (end)
        *end = (char *)(uintptr_t)(s + rest);
    return strtoll(s, NULL, base);
}

/* ---- life ---- */

struct httpd *httpd_new(struct loop *l, const struct httpd_config *config, httpd_handler *handler,
                        void *arg, httpd_error_page *page)
{
    struct httpd *h = mem_alloc(sizeof(*h));

    h->loop = l;
    h->config = *config;
    h->handler = handler;
    h->arg = arg;
    error_page = page;
    h->connections = map_new();
    h->adopt = timer_new(l, adopt, h);
    h->sweep = timer_new(l, sweep, h);
    h->resume = timer_new(l, resume_accepting, h);
    h->cut = timer_new(l, cut_doomed, h);
    h->piece = evbuffer_new();
    TAILQ_INIT(&h->doomed);
    h->evhttp = evhttp_new(loop_base(l));
    if (!h->evhttp || !h->piece)
        abort(); /* out of memory */
    evhttp_set_max_body_size(h->evhttp, config->body_max);
    evhttp_set_max_headers_size(h->evhttp, config->headers_max);
    evhttp_set_timeout(h->evhttp, (int)config->idle_timeout_s);
    evhttp_set_flags(h->evhttp, EVHTTP_SERVER_LINGERING_CLOSE);
    evhttp_set_allowed_methods(h->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                              EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
                                              EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH |
                                              EVHTTP_REQ_TRACE);
    evhttp_set_bevcb(h->evhttp, new_bufferevent, h);
    evhttp_set_gencb(h->evhttp, request_came, h);
    timer_set(h->sweep, SWEEP_MS);
    return h;
}

void httpd_free(struct httpd *h)
{
    if (!h)
        return;
    adopt(h);
    cut_doomed(h);
    h->paused = false; /* so that no close wants to accept again */
    evhttp_free(h->evhttp);
    timer_free(h->adopt);
    timer_free(h->sweep);
    timer_free(h->resume);
    timer_free(h->cut);
    evbuffer_free(h->piece);
    map_free(h->connections);
    free(h->fresh);
    free(h);
}

/* Out of descriptors, most likely: pause instead of spinning. */
static void accept_failed(struct evconnlistener *listener, void *arg)
{
    struct httpd *h = arg;

    (void)listener;
    log_event(LOG_ERROR, "connection not accepted", LOG_STR("error", strerror(errno)));
    pause_accepting(h);
    timer_set(h->resume, ACCEPT_PAUSE_MS);
}

static int listen_on(struct httpd *h, int fd, struct err *e)
{
    int on = 1;

    evutil_make_socket_nonblocking(fd);
    evutil_make_socket_closeonexec(fd);
    /* Accepted sockets inherit it. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    h->listener =
        evconnlistener_new(loop_base(h->loop), NULL, h, LEV_OPT_CLOSE_ON_FREE, BACKLOG, fd);
    if (!h->listener || !evhttp_bind_listener(h->evhttp, h->listener))
        return err_set(e, ERR_FATAL, 500, "cannot listen on the socket: %s", strerror(errno));
    evconnlistener_set_error_cb(h->listener, accept_failed);
    evconnlistener_disable(h->listener);
    return 0;
}

int httpd_listen_inherited(struct httpd *h, int fd, struct err *e)
{
    int listening = 0;
    socklen_t n = sizeof(listening);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) || !listening)
        return err_set(e, ERR_FATAL, 500, "descriptor %d is not a listening socket", fd);
    return listen_on(h, fd, e);
}

int httpd_listen(struct httpd *h, const char *address, int port, struct err *e)
{
    struct sockaddr_storage bound;
    struct sockaddr_storage want;
    int want_len = sizeof(want), fd, on = 1;
    socklen_t n = sizeof(bound);

    memset(&want, 0, sizeof(want));
    if (evutil_parse_sockaddr_port(address, (struct sockaddr *)&want, &want_len))
        return err_set(e, ERR_FATAL, 500, "%s is not a numeric address", address);
    if (want.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)&want)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)(void *)&want)->sin_port = htons((uint16_t)port);
    fd = socket(want.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(e, ERR_FATAL, 500, "no socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&want, (socklen_t)want_len) ||
        getsockname(fd, (struct sockaddr *)&bound, &n)) {
        err_set(e, ERR_FATAL, 500, "cannot listen on %s port %d: %s", address, port,
                strerror(errno));
        close(fd);
        return -1;
    }
    if (listen_on(h, fd, e)) {
        close(fd);
        return -1;
    }
    if (bound.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)(void *)&bound)->sin6_port);
    return ntohs(((struct sockaddr_in *)(void *)&bound)->sin_port);
}

void httpd_drain(struct httpd *h)
{
    h->draining = true;
    if (h->listener)
        evconnlistener_disable(h->listener);
}
