#include "common/io/http.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <curl/curl.h>
#include <event2/event.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

enum {
    RECEIVE_BUFFER = 8192,  /* bytes, of each call under way */
    UPLOAD_BUFFER = 16384,  /* the least that libcurl takes */
    DNS_CACHE_SECONDS = 60, /* a service that moved is found after this */
};

struct http_client {
    struct loop *loop;
    CURLM *multi;
    CURLSH *share;       /* TLS sessions, so that a new connection needs half a handshake */
    struct timer *timer; /* libcurl's */
    struct timer *later; /* tells what is known without libcurl */
    char *ca_file;
    const char *user_agent;
    TAILQ_HEAD(, http_call) calls;
    size_t calls_count;
    TAILQ_HEAD(, http_call) ready; /* have something to tell */
    struct http_call *telling;     /* whose callback runs; NULL once it was cancelled there */
};

struct http_call {
    TAILQ_ENTRY(http_call) link, ready_link;
    struct http_client *client;
    const struct http_call_events *events;
    void *arg;
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    size_t received, response_max;
    long connect_timeout_ms, total_timeout_ms, first_timeout_ms, idle_timeout_ms;
    struct timer *silence; /* NULL: silence is not limited */
    int64_t heard_us;      /* when the last byte came, or the call started; monotonic */
    struct buf data;       /* came, and is not told yet */
    bool ready;
    bool answered, answered_told;
    bool added; /* the multi handle has it */
    bool done, failed;
    struct err why; /* of a failure */
};

/* ---- what libcurl wants watched ---- */

struct watch {
    struct http_client *client;
    struct event *event;
};

static void act(struct http_client *c, curl_socket_t fd, int what);

static void socket_ready(evutil_socket_t fd, short what, void *arg)
{
    struct watch *w = arg;
    int mask = 0;

    if (what & EV_READ)
        mask |= CURL_CSELECT_IN;
    if (what & EV_WRITE)
        mask |= CURL_CSELECT_OUT;
    act(w->client, fd, mask); /* may free w */
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct http_client *c = arg;
    struct watch *w = socket_arg;
    short events = EV_PERSIST;

    (void)easy;
    if (w)
        event_free(w->event);
    if (what == CURL_POLL_REMOVE) {
        free(w);
        curl_multi_assign(c->multi, fd, NULL);
        return 0;
    }
    if (!w) {
        w = mem_alloc(sizeof(*w));
        w->client = c;
        curl_multi_assign(c->multi, fd, w);
    }
    if (what & CURL_POLL_IN)
        events |= EV_READ;
    if (what & CURL_POLL_OUT)
        events |= EV_WRITE;
    w->event = event_new(loop_base(c->loop), fd, events, socket_ready, w);
    event_add(w->event, NULL);
    return 0;
}

/* libcurl may not be called from here, only later from the loop. */
static int set_timer(CURLM *multi, long ms, void *arg)
{
    struct http_client *c = arg;

    (void)multi;
    if (ms < 0)
        timer_stop(c->timer);
    else
        timer_set(c->timer, ms);
    return 0;
}

static void timer_came(void *arg)
{
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* ---- what came; told when libcurl has returned ---- */

static void make_ready(struct http_call *call)
{
    if (!call->ready)
        TAILQ_INSERT_TAIL(&call->client->ready, call, ready_link);
    call->ready = true;
}

static size_t header_came(char *line, size_t one, size_t n, void *arg)
{
    struct http_call *call = arg;

    (void)one;
    /* An empty line ends the headers, also those of an interim answer. */
    if (n <= 2 && (*line == '\r' || *line == '\n') && http_call_status(call) >= 200) {
        call->answered = true;
        make_ready(call);
    }
    return n;
}

static size_t body_came(char *bytes, size_t one, size_t n, void *arg)
{
    struct http_call *call = arg;

    (void)one;
    if (n > call->response_max - call->received)
        return CURL_WRITEFUNC_ERROR;
    call->received += n;
    call->heard_us = clock_monotonic_us();
    buf_add(&call->data, bytes, n);
    make_ready(call);
    return n;
}

/* ---- the end of a call ---- */

static void take_from_curl(struct http_call *call)
{
    if (call->added)
        curl_multi_remove_handle(call->client->multi, call->easy);
    call->added = false;
    if (call->silence)
        timer_stop(call->silence);
}

static void call_free(struct http_call *call)
{
    struct http_client *c = call->client;

    take_from_curl(call);
    if (call->ready)
        TAILQ_REMOVE(&c->ready, call, ready_link);
    TAILQ_REMOVE(&c->calls, call, link);
    c->calls_count--;
    if (c->telling == call)
        c->telling = NULL;
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    timer_free(call->silence);
    buf_free(&call->data);
    free(call->body);
    free(call);
}

void http_call_cancel(struct http_call *call)
{
    call_free(call);
}

static void finish(struct http_call *call)
{
    take_from_curl(call);
    call->done = true;
    make_ready(call);
}

static bool was_connected(const struct http_call *call)
{
    curl_off_t us = 0;

    curl_easy_getinfo(call->easy, CURLINFO_PRETRANSFER_TIME_T, &us);
    return us > 0;
}

static void unusable(struct http_call *call, CURLcode code)
{
    if (was_connected(call)) /* this version's word for an answer without a status line */
        err_set(&call->why, ERR_RETRY, 502, "the server speaks no HTTP");
    else
        err_set(&call->why, ERR_FATAL, 500, "the request cannot be made: %s",
                curl_easy_strerror(code));
}

static void timed_out(struct http_call *call)
{
    if (was_connected(call))
        err_set(&call->why, ERR_RETRY, 504, "no complete answer within %ld ms",
                call->total_timeout_ms);
    else
        err_set(&call->why, ERR_RETRY, 502, "no connection within %ld ms",
                call->connect_timeout_ms);
}

static void explain(struct http_call *call, CURLcode code)
{
    struct err *e = &call->why;

    call->failed = true;
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        timed_out(call);
        return;
    case CURLE_WRITE_ERROR:
        err_set(e, ERR_FATAL, 502, "the answer is larger than %zu bytes", call->response_max);
        return;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        unusable(call, code);
        return;
    case CURLE_COULDNT_RESOLVE_HOST:
        err_set(e, ERR_RETRY, 502, "the server's name is not known");
        return;
    case CURLE_COULDNT_CONNECT:
        err_set(e, ERR_RETRY, 502, "the connection is refused");
        return;
    case CURLE_PEER_FAILED_VERIFICATION:
        err_set(e, ERR_RETRY, 502, "the server's certificate is not accepted");
        return;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
        err_set(e, ERR_RETRY, 502, "the connection was lost before the answer's end");
        return;
    default:
        err_set(e, ERR_RETRY, 502, "%s", curl_easy_strerror(code));
    }
}

/* Collect what libcurl has finished. */
static void drain(struct http_client *c)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(c->multi, &left))) {
        CURLcode code = message->data.result;
        void *arg = NULL;
        struct http_call *call;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&arg);
        call = arg;
        if (code != CURLE_OK)
            explain(call, code);
        finish(call);
    }
}

/* Tell one call's news. The call may be cancelled in each callback, and is freed at its end. */
static void tell(struct http_client *c, struct http_call *call)
{
    const struct http_call_events *events = call->events;
    struct buf data;

    c->telling = call;
    if (call->answered && !call->answered_told) {
        call->answered_told = true;
        if (events->answered)
            events->answered(call->arg, call);
    }
    if (c->telling == call && call->data.len) {
        data = call->data; /* outlives the call */
        buf_init(&call->data, call->response_max);
        if (events->data)
            events->data(call->arg, call, data.data, data.len);
        buf_free(&data);
    }
    if (c->telling == call && call->done) {
        events->done(call->arg, call, call->failed ? &call->why : NULL);
        if (c->telling == call)
            call_free(call);
    }
    c->telling = NULL;
}

static void tell_all(void *arg)
{
    struct http_client *c = arg;
    struct http_call *call;

    while ((call = TAILQ_FIRST(&c->ready))) {
        TAILQ_REMOVE(&c->ready, call, ready_link);
        call->ready = false;
        tell(c, call);
    }
}

static void act(struct http_client *c, curl_socket_t fd, int what)
{
    int running;

    curl_multi_socket_action(c->multi, fd, what, &running);
    drain(c);
    tell_all(c);
}

/* ---- silence ---- */

/* What is left of the patience, in us; the timer is not set anew for every byte. */
static int64_t patience_left(const struct http_call *call)
{
    long ms = call->received ? call->idle_timeout_ms : call->first_timeout_ms;

    if (!ms)
        return INT64_MAX;
    return call->heard_us + (int64_t)ms * 1000 - clock_monotonic_us();
}

static void wait_on(struct http_call *call)
{
    int64_t left = patience_left(call);

    /* Before the first byte it is not known when the pauses between bytes begin to count. */
    if (!call->received && call->idle_timeout_ms && left > (int64_t)call->idle_timeout_ms * 1000)
        left = (int64_t)call->idle_timeout_ms * 1000;
    if (left != INT64_MAX)
        timer_set(call->silence, left / 1000 + 1);
}

static void silent(void *arg)
{
    struct http_call *call = arg;
    struct http_client *c = call->client;

    if (patience_left(call) > 0) {
        wait_on(call);
        return;
    }
    call->failed = true;
    if (call->received)
        err_set(&call->why, ERR_RETRY, 504, "nothing more came for %ld ms", call->idle_timeout_ms);
    else
        err_set(&call->why, ERR_RETRY, 504, "nothing came within %ld ms", call->first_timeout_ms);
    finish(call);
    tell_all(c);
}

/* ---- the start of a call ---- */

static void set_limits(struct http_call *call)
{
    CURL *easy = call->easy;

    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* else a cancel waits for the resolver */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)RECEIVE_BUFFER);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BUFFER);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long)DNS_CACHE_SECONDS);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, call->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, call->total_timeout_ms);
}

static void set_tls(struct http_call *call)
{
    CURL *easy = call->easy;

    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* The authorities are read once and kept by the multi handle only if they all come from a
     * file: so no directory beside it. */
    curl_easy_setopt(easy, CURLOPT_CAINFO, call->client->ca_file);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_SHARE, call->client->share);
}

static void set_request(struct http_call *call, const struct http_call_request *request)
{
    const char *const *header;
    CURL *easy = call->easy;

    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, call->client->user_agent);
    /* Nothing packed is asked for, since it would come late; what comes so is unpacked. */
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "identity");
    for (header = request->headers; header && *header; header++)
        call->headers = curl_slist_append(call->headers, *header);
    if (call->body) {
        call->headers = curl_slist_append(call->headers, "Expect:"); /* send it at once */
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_came);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_came);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
}

/* A line end in a header would start another one. */
static bool headers_are_safe(const struct http_call_request *request)
{
    const char *const *header;

    for (header = request->headers; header && *header; header++)
        if ((*header)[strcspn(*header, "\r\n")])
            return false;
    return true;
}

static struct http_call *call_new(struct http_client *c, const struct http_call_request *request,
                                  const struct http_call_events *events, void *arg)
{
    struct http_call *call = mem_alloc(sizeof(*call));

    call->client = c;
    call->events = events;
    call->arg = arg;
    call->body = request->body;
    call->response_max = request->response_max;
    call->connect_timeout_ms = request->connect_timeout_ms;
    call->total_timeout_ms = request->total_timeout_ms;
    call->first_timeout_ms = request->first_timeout_ms;
    call->idle_timeout_ms = request->idle_timeout_ms;
    call->heard_us = clock_monotonic_us();
    buf_init(&call->data, call->response_max);
    call->easy = curl_easy_init();
    if (!call->easy)
        abort(); /* out of memory */
    TAILQ_INSERT_TAIL(&c->calls, call, link);
    c->calls_count++;
    return call;
}

struct http_call *http_call_start(struct http_client *c, const struct http_call_request *request,
                                  const struct http_call_events *events, void *arg)
{
    struct http_call *call = call_new(c, request, events, arg);

    if (!headers_are_safe(request)) {
        call->failed = true;
        err_set(&call->why, ERR_FATAL, 500, "a header of the request has a line end");
        finish(call);
        timer_set(c->later, 0);
        return call;
    }
    set_limits(call);
    set_tls(call);
    set_request(call, request);
    if (call->first_timeout_ms || call->idle_timeout_ms) {
        call->silence = timer_new(c->loop, silent, call);
        wait_on(call);
    }
    call->added = true;
    curl_multi_add_handle(c->multi, call->easy); /* sets the timer: all else comes from the loop */
    return call;
}

int http_call_status(const struct http_call *call)
{
    long status = 0;

    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

bool http_call_sent(const struct http_call *call)
{
    long bytes = 0;

    curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &bytes);
    return bytes > 0;
}

const char *http_call_header(const struct http_call *call, const char *name)
{
    struct curl_header *header;

    if (curl_easy_header(call->easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return NULL;
    return header->value;
}

/* ---- the client ---- */

static int setup(struct http_client *c, const struct http_client_config *config, struct err *e)
{
    const char *system = curl_version_info(CURLVERSION_NOW)->cainfo;
    bool given = config->ca_file && *config->ca_file;
    FILE *f;

    c->ca_file = mem_strdup(given ? config->ca_file : system);
    f = c->ca_file ? fopen(c->ca_file, "re") : NULL;
    if (f)
        fclose(f);
    else if (given) /* without the system's, http can still be used */
        return err_set(e, ERR_FATAL, 500, "the certificate authorities in %s cannot be read",
                       c->ca_file);
    c->multi = curl_multi_init();
    c->share = curl_share_init();
    if (!c->multi || !c->share)
        return err_set(e, ERR_FATAL, 500, "libcurl cannot be used");
    curl_share_setopt(c->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, config->connections_max);
    return 0;
}

struct http_client *http_client_new(struct loop *l, const struct http_client_config *config,
                                    struct err *e)
{
    struct http_client *c = mem_alloc(sizeof(*c));

    curl_global_init(CURL_GLOBAL_DEFAULT);
    TAILQ_INIT(&c->calls);
    TAILQ_INIT(&c->ready);
    c->loop = l;
    c->user_agent = config->user_agent;
    c->timer = timer_new(l, timer_came, c);
    c->later = timer_new(l, tell_all, c);
    if (setup(c, config, e)) {
        http_client_free(c);
        return NULL;
    }
    return c;
}

void http_client_free(struct http_client *c)
{
    struct http_call *call;

    if (!c)
        return;
    while ((call = TAILQ_FIRST(&c->calls)))
        call_free(call);
    curl_multi_cleanup(c->multi);
    curl_share_cleanup(c->share);
    timer_free(c->timer);
    timer_free(c->later);
    free(c->ca_file);
    free(c);
    curl_global_cleanup();
}

size_t http_client_calls(const struct http_client *c)
{
    return c->calls_count;
}
