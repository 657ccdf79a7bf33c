/*
 * A model that speaks at a pace: POST …/chat/completions is answered by a stream of RATE pieces a second,
 * for any number of requests at once. The prompt says how many ("tokens=") and which ("seed="), so that
 * stream_load knows each byte; the first piece bears two times of the machine's monotonic clock in
 * microseconds: when the request came, and when that piece was written.
 *
 *   T<came>,<written> 0017 0018 0019 …
 *
 * Prints {"port": N} when it listens, on 127.0.0.1 only; at its end, to standard error, how late it was itself.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

enum { BODY_MAX = 16 << 20, BACKLOG = 4096, SPAN = 10000, SLOTS_MAX = 1000 };

#define HEAD                                                                                       \
    "data: {\"id\":\"gen-paced\",\"object\":\"chat.completion.chunk\",\"created\":1,"              \
    "\"model\":\"paced\",\"choices\":["

struct stream {
    LIST_ENTRY(stream) link;
    struct evhttp_request *request;
    int64_t came_us;
    long seed, tokens, said;
};

/* A piece of each stream is due once in each round of the slots, one of which is a millisecond. */
static struct {
    struct event_base *base;
    LIST_HEAD(, stream) slots[SLOTS_MAX];
    long count;
    int64_t begun_us, ticks, late_max_us;
    struct evbuffer *out;
} model;

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static void stream_free(struct stream *s)
{
    LIST_REMOVE(s, link);
    free(s);
}

static void client_gone(struct evhttp_connection *connection, void *arg)
{
    struct stream *s = arg;

    (void)connection;
    evhttp_send_reply_end(s->request); /* without a connection that only frees it */
    stream_free(s);
}

static void end(struct stream *s)
{
    evbuffer_add_printf(model.out,
                        HEAD "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" HEAD
                             "],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":%ld,"
                             "\"total_tokens\":%ld,\"cost\":0}}\n\ndata: [DONE]\n\n",
                        s->tokens, s->tokens + 20);
    evhttp_connection_set_closecb(evhttp_request_get_connection(s->request), NULL, NULL);
    evhttp_send_reply_chunk(s->request, model.out);
    evhttp_send_reply_end(s->request);
    stream_free(s);
}

static void say(struct stream *s)
{
    static const char head[] = HEAD "{\"index\":0,\"delta\":{\"content\":\"";
    static const char tail[] = "\"},\"finish_reason\":null}]}\n\n";
    char piece[64];

    if (s->said == 0)
        snprintf(piece, sizeof(piece), "T%" PRId64 ",%" PRId64 " ", s->came_us, now_us());
    else
        snprintf(piece, sizeof(piece), "%04ld ", (s->seed + s->said) % SPAN);
    evbuffer_add(model.out, head, sizeof(head) - 1);
    evbuffer_add(model.out, piece, strlen(piece));
    evbuffer_add(model.out, tail, sizeof(tail) - 1);
    evhttp_send_reply_chunk(s->request, model.out);
    if (++s->said == s->tokens)
        end(s);
}

/* All that is due by now, also what a late tick has missed. */
static void tick(evutil_socket_t fd, short what, void *arg)
{
    int64_t now = now_us(), due = (now - model.begun_us) / 1000;
    struct stream *s, *next;

    (void)fd;
    (void)what;
    (void)arg;
    for (; model.ticks <= due; model.ticks++) {
        int64_t late_us = now_us() - model.begun_us - model.ticks * 1000;

        if (late_us > model.late_max_us)
            model.late_max_us = late_us;
        for (s = LIST_FIRST(&model.slots[model.ticks % model.count]); s; s = next) {
            next = LIST_NEXT(s, link);
            say(s);
        }
    }
}

/* The number behind the last `name` in the prompt; -1 when there is none. */
static long number_of(struct evbuffer *body, const char *name)
{
    const char *at = (const char *)evbuffer_pullup(body, -1), *end, *found = NULL;

    for (end = at + evbuffer_get_length(body);
         at < end && (at = memmem(at, (size_t)(end - at), name, strlen(name))); at++)
        found = at + strlen(name);
    return found ? strtol(found, NULL, 10) : -1; /* a quote follows it at the latest */
}

static void answer(struct evhttp_request *request, void *arg)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct evbuffer *body = evhttp_request_get_input_buffer(request);
    long seed = number_of(body, "seed="), tokens = number_of(body, "tokens=");
    struct stream *s;

    (void)arg;
    if (seed < 0 || tokens < 1) {
        evhttp_send_reply(request, 400, "Bad Request", NULL);
        return;
    }
    s = calloc(1, sizeof(*s));
    s->request = request;
    s->seed = seed;
    s->tokens = tokens;
    s->came_us = now_us();
    evhttp_add_header(headers, "Content-Type", "text/event-stream");
    evhttp_send_reply_start(request, 200, "OK");
    evhttp_connection_set_closecb(evhttp_request_get_connection(request), client_gone, s);
    /* The first piece one period after the request. */
    LIST_INSERT_HEAD(&model.slots[(model.ticks + model.count - 1) % model.count], s, link);
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "paced_model: %s\n", what);
    exit(1);
}

static int listen_on(struct evhttp *http)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    struct evconnlistener *listener =
        evconnlistener_new_bind(model.base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE, BACKLOG,
                                (struct sockaddr *)&address, sizeof(address));
    int yes = 1, fd;

    if (!listener || !evhttp_bind_listener(http, listener))
        die("cannot listen");
    fd = evconnlistener_get_fd(listener); /* its connections inherit the option */
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) ||
        getsockname(fd, (struct sockaddr *)&address, &n))
        die("cannot listen");
    return ntohs(address.sin_port);
}

static void stop(evutil_socket_t signal, short what, void *arg)
{
    (void)signal;
    (void)what;
    (void)arg;
    event_base_loopbreak(model.base);
}

int main(int argc, char **argv)
{
    const struct timeval millisecond = {.tv_sec = 0, .tv_usec = 1000};
    struct event *term, *clock;
    struct evhttp *http;

    model.count = argc == 2 && atol(argv[1]) > 0 ? 1000 / atol(argv[1]) : 0;
    if (model.count < 1 || model.count > SLOTS_MAX)
        die("usage: paced_model RATE");
    model.base = event_base_new();
    model.out = evbuffer_new();
    http = evhttp_new(model.base);
    term = evsignal_new(model.base, SIGTERM, stop, NULL);
    clock = event_new(model.base, -1, EV_PERSIST, tick, NULL);
    if (!http || !term || !clock)
        die("no event loop");
    signal(SIGPIPE, SIG_IGN);
    model.begun_us = now_us();
    event_add(term, NULL);
    event_add(clock, &millisecond);
    evhttp_set_max_body_size(http, BODY_MAX);
    evhttp_set_cb(http, "/v1/chat/completions", answer, NULL);
    printf("{\"port\":%d}\n", listen_on(http));
    fflush(stdout);
    event_base_dispatch(model.base);
    fprintf(stderr, "  the model was at most %.1f ms late\n", (double)model.late_max_us / 1000);
    event_free(clock);
    event_free(term);
    evhttp_free(http); /* of streams under way nothing is freed: the process ends */
    evbuffer_free(model.out);
    event_base_free(model.base);
    return 0;
}
