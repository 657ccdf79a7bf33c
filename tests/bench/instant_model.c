/*
 * A model that answers at once: POST …/chat/completions as OpenAI-compatible servers have it, whole
 * or ("stream": true) as server-sent events, always with the same answer, over connections that
 * stay open. For the benches, where nothing but the fleet is to take time.
 *
 * Prints {"port": N} when it listens, on 127.0.0.1 only.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

enum { BODY_MAX = 16 << 20, BACKLOG = 1024 };

#define ANSWER_1 "The three strongest interests in your profile are investigative, artistic and "
#define ANSWER_2                                                                                   \
    "social. Roles that join analysis with people fit them well: user research, science "          \
    "communication, or teaching a subject that you love."
#define HEAD(object)                                                                               \
    "\"id\":\"gen-bench\",\"object\":\"" object "\",\"created\":1,\"model\":\"instant\""
#define USAGE                                                                                      \
    "\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":38,\"total_tokens\":158,\"cost\":0}"
#define CHUNK(choices)       "data: {" HEAD("chat.completion.chunk") ",\"choices\":[" choices "]"
#define DELTA(delta, reason) "{\"index\":0,\"delta\":{" delta "},\"finish_reason\":" reason "}"

static const char whole[] =
    "{" HEAD("chat.completion") ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                                "\"content\":\"" ANSWER_1 ANSWER_2
                                "\"},\"finish_reason\":\"stop\"}]," USAGE "}";

static const char *const pieces[] = {
    CHUNK(DELTA("\"role\":\"assistant\",\"content\":\"\"", "null")) "}\n\n",
    CHUNK(DELTA("\"content\":\"" ANSWER_1 "\"", "null")) "}\n\n",
    CHUNK(DELTA("\"content\":\"" ANSWER_2 "\"", "null")) "}\n\n",
    CHUNK(DELTA("", "\"stop\"")) "}\n\n",
    CHUNK("") "," USAGE "}\n\n",
    "data: [DONE]\n\n",
};

/* Within a JSON string a quote is escaped, so that an unescaped name can only be one. */
static bool wants_stream(struct evbuffer *body)
{
    static const char name[] = "\"stream\":";
    const char *text = (const char *)evbuffer_pullup(body, -1), *at;
    size_t n = evbuffer_get_length(body), rest;

    at = text ? memmem(text, n, name, sizeof(name) - 1) : NULL;
    if (!at)
        return false;
    at += sizeof(name) - 1;
    rest = n - (size_t)(at - text);
    while (rest > 0 && *at == ' ')
        at++, rest--;
    return rest >= 4 && memcmp(at, "true", 4) == 0;
}

static void answer(struct evhttp_request *request, void *arg)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct evbuffer *body = evbuffer_new();
    size_t i;

    (void)arg;
    if (evhttp_request_get_command(request) != EVHTTP_REQ_POST) {
        evhttp_send_reply(request, 405, "Method Not Allowed", NULL);
    } else if (wants_stream(evhttp_request_get_input_buffer(request))) {
        evhttp_add_header(headers, "Content-Type", "text/event-stream");
        evhttp_send_reply_start(request, 200, "OK");
        for (i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
            evbuffer_add_reference(body, pieces[i], strlen(pieces[i]), NULL, NULL);
            evhttp_send_reply_chunk(request, body);
        }
        evhttp_send_reply_end(request);
    } else {
        evhttp_add_header(headers, "Content-Type", "application/json");
        evbuffer_add_reference(body, whole, sizeof(whole) - 1, NULL, NULL);
        evhttp_send_reply(request, 200, "OK", body);
    }
    evbuffer_free(body);
}

static void refuse(struct evhttp_request *request, void *arg)
{
    (void)arg;
    evhttp_send_reply(request, 404, "Not Found", NULL);
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "instant_model: %s\n", what);
    exit(1);
}

static int listen_on(struct evhttp *http, struct event_base *base, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    struct evconnlistener *listener =
        evconnlistener_new_bind(base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE,
                                BACKLOG, (struct sockaddr *)&address, sizeof(address));
    int yes = 1, fd;

    if (!listener || !evhttp_bind_listener(http, listener))
        die("cannot listen");
    fd = evconnlistener_get_fd(listener); /* its connections inherit the option */
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) ||
        getsockname(fd, (struct sockaddr *)&address, &n))
        die("cannot listen");
    return ntohs(address.sin_port);
}

static void stop(evutil_socket_t signal, short what, void *base)
{
    (void)signal;
    (void)what;
    event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
    struct event_base *base = event_base_new();
    struct evhttp *http = evhttp_new(base);
    struct event *term = evsignal_new(base, SIGTERM, stop, base);

    if (!http || !term || argc > 2)
        die("usage: instant_model [PORT]");
    signal(SIGPIPE, SIG_IGN);
    event_add(term, NULL);
    evhttp_set_max_body_size(http, BODY_MAX);
    evhttp_set_cb(http, "/v1/chat/completions", answer, NULL);
    evhttp_set_cb(http, "/chat/completions", answer, NULL);
    evhttp_set_gencb(http, refuse, NULL);
    printf("{\"port\":%d}\n", listen_on(http, base, argc == 2 ? atoi(argv[1]) : 0));
    fflush(stdout);
    event_base_dispatch(base);
    event_free(term);
    evhttp_free(http);
    event_base_free(base);
    return 0;
}
