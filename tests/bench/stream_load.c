/*
 * Streams of paced_model's answers, thousands at once, each byte of which is checked: every piece begins where
 * the one before ended, and says what its stream's seed asks for; the answer at the end is the same text.
 * Through the fleet (the plan's lines are "PATH TOKEN", one conversation each), or from the model itself.
 *
 * Prints one line of JSON: how many came to their end, and latencies in milliseconds, seen by the model's own
 * times: `there` from request to model, `back` from the model's first piece to the client, `lag` of each later
 * piece behind the time it was due to be written. Ends with 1 and a line on standard error when a byte is wrong.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sys/resource.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

enum { SPAN = 10000, PIECE = 5, PATH_MAX_BYTES = 200, TOKEN_MAX = 2000, PATIENCE_S = 300 };

struct stream {
    struct evhttp_connection *connection;
    struct evbuffer *in;   /* what came and is no whole event yet */
    struct evbuffer *text; /* what was told */
    int64_t asked_us, begun_us;
    long seed, pieces;
    char path[PATH_MAX_BYTES + 1], token[TOKEN_MAX + 1];
    bool completed;
};

static struct {
    struct event_base *base;
    struct event *opener;
    const char *host;
    int port;
    bool direct;
    long count, tokens, period_us, open_each_us, at_once;
    long begun, ended, deltas, resets;
    uint64_t bytes;
    struct stream *streams;
    double *there, *back, *lag; /* milliseconds */
    long lags;
    int64_t first_us, last_us;
} load;

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static _Noreturn void die(const char *what, const struct stream *s, const char *detail)
{
    fprintf(stderr, "stream_load: %s", what);
    if (s)
        fprintf(stderr, " (stream %ld)", s->seed);
    fprintf(stderr, "%s%s\n", detail ? ": " : "", detail ? detail : "");
    exit(1);
}

/* ---- the text ---- */

static void piece_came(struct stream *s, const char *piece, int64_t now)
{
    char wanted[PIECE + 1];

    snprintf(wanted, sizeof(wanted), "%04ld ", (s->seed + s->pieces) % SPAN);
    if (memcmp(piece, wanted, PIECE) != 0)
        die("another piece than was due", s, wanted);
    if (load.lags < load.count * load.tokens) /* more come after a reset */
        load.lag[load.lags++] = (double)(now - s->begun_us - s->pieces * load.period_us) / 1000;
    s->pieces++;
}

/* The first piece: T<came>,<written>. Returns its length; 0 while it is not all there. */
static size_t begin(struct stream *s, const char *text, int64_t now)
{
    const char *end = strchr(text, ' ');
    int64_t came_us;

    if (!end)
        return 0;
    if (sscanf(text, "T%" SCNd64 ",%" SCNd64, &came_us, &s->begun_us) != 2)
        die("not the first piece", s, text);
    load.there[s->seed] = (double)(came_us - s->asked_us) / 1000;
    load.back[s->seed] = (double)(now - s->begun_us) / 1000;
    s->pieces = 1;
    return (size_t)(end + 1 - text);
}

/* What the text says from where it was read so far: all pieces are whole. */
static void text_came(struct stream *s, const char *text, size_t n)
{
    int64_t now = now_us();
    size_t at = 0;

    evbuffer_add(s->text, text, n);
    load.bytes += n;
    load.deltas++;
    load.last_us = now;
    if (s->pieces == 0) {
        at = begin(s, text, now);
        if (at == 0)
            die("the first piece is cut", s, text);
        if (load.first_us == 0)
            load.first_us = now;
    }
    for (; at + PIECE <= n; at += PIECE) {
        if (s->pieces == load.tokens)
            die("more pieces than there are", s, text + at);
        piece_came(s, text + at, now);
    }
    if (at != n)
        die("a piece is cut", s, text + at);
}

/* ---- events ---- */

/* The JSON string behind `name`, which has no escapes in it; ended by a NUL in the place of its quote. */
static char *string_of(struct stream *s, char *json, const char *name)
{
    char *at = strstr(json, name), *end;

    end = at ? strchr(at + strlen(name), '"') : NULL;
    if (!end)
        die("an event without what it should have", s, json);
    *end = '\0';
    return at + strlen(name);
}

static void delta(struct stream *s, char *data)
{
    const char *offset = strstr(data, "\"offset\":");
    char *text;

    if (!offset || strtoul(offset + 9, NULL, 10) != evbuffer_get_length(s->text))
        die("a delta that does not go on where the text ended", s, data);
    text = string_of(s, data, "\"text\":\"");
    text_came(s, text, strlen(text));
}

static void completed(struct stream *s, char *data)
{
    char *answer = strstr(data, "\"assistant_message\""), *content;
    size_t n = evbuffer_get_length(s->text);

    if (!answer)
        die("no answer at the end", s, data);
    content = string_of(s, answer, "\"content\":\"");
    if (strlen(content) != n || memcmp(content, evbuffer_pullup(s->text, -1), n) != 0)
        die("the answer is another text than was told", s, content);
    s->completed = true;
}

static void event_came(struct stream *s, char *block)
{
    char *data = strstr(block, "data: ");

    if (*block == ':' || !data)
        return;
    data += 6;
    if (load.direct) {
        if (strcmp(data, "[DONE]") == 0)
            s->completed = true;
        else if (strstr(data, "\"content\""))
            data = string_of(s, data, "\"content\":\""), text_came(s, data, strlen(data));
    } else if (strncmp(block, "event: delta\n", 13) == 0) {
        delta(s, data);
    } else if (strncmp(block, "event: message.completed\n", 25) == 0) {
        completed(s, data);
    } else if (strncmp(block, "event: reset\n", 13) == 0) {
        load.resets++; /* what follows begins at 0 again, and is checked anew */
        evbuffer_drain(s->text, evbuffer_get_length(s->text));
        s->pieces = 0;
    } else if (strncmp(block, "event: message.accepted\n", 24) != 0) {
        die("an event that is none of a good answer", s, block);
    }
}

static void bytes_came(struct evhttp_request *request, void *arg)
{
    struct stream *s = arg;
    struct evbuffer_ptr end;
    char *block;

    if (evhttp_request_get_response_code(request) != 200)
        die("refused", s, evhttp_request_get_response_code_line(request));
    evbuffer_add_buffer(s->in, evhttp_request_get_input_buffer(request));
    while ((end = evbuffer_search(s->in, "\n\n", 2, NULL)).pos >= 0) {
        block = calloc(1, (size_t)end.pos + 1);
        evbuffer_remove(s->in, block, (size_t)end.pos);
        evbuffer_drain(s->in, 2);
        event_came(s, block);
        free(block);
    }
}

/* ---- streams ---- */

static void open_next(void);

static void ended(struct evhttp_request *request, void *arg)
{
    struct stream *s = arg;

    if (!request || !s->completed || s->pieces != load.tokens)
        die("broke off", s, NULL);
    evbuffer_free(s->in);
    evbuffer_free(s->text);
    if (++load.ended == load.count)
        event_base_loopbreak(load.base);
    else if (load.at_once > 0)
        open_next();
}

static void ask(struct stream *s)
{
    struct evhttp_request *request = evhttp_request_new(ended, s);
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct evbuffer *body = evhttp_request_get_output_buffer(request);
    char value[TOKEN_MAX + 20];

    s->in = evbuffer_new();
    s->text = evbuffer_new();
    s->connection =
        evhttp_connection_base_new(load.base, NULL, load.host, (unsigned short)load.port);
    evhttp_connection_set_timeout(s->connection, PATIENCE_S);
    evhttp_request_set_chunked_cb(request, bytes_came);
    snprintf(value, sizeof(value), "Bearer %s", s->token);
    evhttp_add_header(headers, "Host", load.host);
    evhttp_add_header(headers, "Authorization", value);
    evhttp_add_header(headers, "Content-Type", "application/json");
    evhttp_add_header(headers, "Accept", "text/event-stream");
    if (load.direct)
        evbuffer_add_printf(body,
                            "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":"
                            "\"seed=%ld tokens=%ld\"}]}",
                            s->seed, load.tokens);
    else
        evbuffer_add_printf(body, "{\"content\":\"seed=%ld tokens=%ld\"}", s->seed, load.tokens);
    s->asked_us = now_us();
    if (evhttp_make_request(s->connection, request, EVHTTP_REQ_POST, s->path))
        die("cannot ask", s, NULL);
}

static void open_next(void)
{
    if (load.begun < load.count)
        ask(&load.streams[load.begun++]);
}

static void open_by_time(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    open_next();
    if (load.begun == load.count)
        event_del(load.opener);
}

static void read_plan(const char *name)
{
    FILE *plan = load.direct ? NULL : fopen(name, "r");
    long i;

    if (!load.direct && !plan)
        die("no plan", NULL, name);
    for (i = 0; i < load.count; i++) {
        struct stream *s = &load.streams[i];

        s->seed = i;
        if (load.direct)
            snprintf(s->path, sizeof(s->path), "/v1/chat/completions");
        else if (fscanf(plan, "%200s %2000s", s->path, s->token) != 2)
            die("too short a plan", NULL, name);
    }
    if (plan)
        fclose(plan);
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print(const char *name, double *figures, long n)
{
    qsort(figures, (size_t)n, sizeof(*figures), compare);
    printf(",\"%s_p50_ms\":%.3f,\"%s_p99_ms\":%.3f,\"%s_max_ms\":%.3f", name, figures[n / 2], name,
           figures[n * 99 / 100], name, figures[n - 1]);
}

static void report(void)
{
    double seconds = (double)(load.last_us - load.first_us) / 1000000;
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    printf("{\"streams\":%ld,\"tokens\":%ld,\"deltas\":%ld,\"bytes\":%" PRIu64 ",\"resets\":%ld,"
           "\"seconds\":%.3f,\"client_cpu_s\":%.3f",
           load.ended, load.ended * load.tokens, load.deltas, load.bytes, load.resets, seconds,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000000);
    print("there", load.there, load.count);
    print("back", load.back, load.count);
    if (load.lags > 0)
        print("lag", load.lag, load.lags);
    printf("}\n");
}

/* ---- life ---- */

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: stream_load PORT PLAN|direct STREAMS TOKENS RATE AT_ONCE|+PER_SECOND\n"
                    "  AT_ONCE       a stream begins when another has ended\n"
                    "  +PER_SECOND   so many begin each second\n");
    exit(64);
}

static void read_arguments(int argc, char **argv)
{
    if (argc != 7)
        usage();
    load.host = "127.0.0.1";
    load.port = atoi(argv[1]);
    load.direct = strcmp(argv[2], "direct") == 0;
    load.count = atol(argv[3]);
    load.tokens = atol(argv[4]);
    load.period_us = atof(argv[5]) > 0 ? (long)(1000000 / atof(argv[5])) : 0;
    if (*argv[6] == '+')
        load.open_each_us = atol(argv[6] + 1) > 0 ? 1000000 / atol(argv[6] + 1) : 0;
    else
        load.at_once = atol(argv[6]);
    if (load.port < 1 || load.count < 1 || load.tokens < 1 || load.period_us < 1 ||
        (load.open_each_us < 1 && load.at_once < 1))
        usage();
}

int main(int argc, char **argv)
{
    struct timeval each;
    size_t n;
    long i;

    read_arguments(argc, argv);
    n = (size_t)load.count;
    load.streams = calloc(n, sizeof(*load.streams));
    load.there = calloc(n, sizeof(*load.there));
    load.back = calloc(n, sizeof(*load.back));
    load.lag = calloc(n * (size_t)load.tokens, sizeof(*load.lag));
    read_plan(argv[2]);
    signal(SIGPIPE, SIG_IGN);
    load.base = event_base_new();
    load.opener = event_new(load.base, -1, EV_PERSIST, open_by_time, NULL);
    each = (struct timeval){.tv_sec = 0, .tv_usec = load.open_each_us};
    if (load.open_each_us > 0)
        event_add(load.opener, &each);
    for (i = 0; i < load.at_once; i++)
        open_next();
    event_base_dispatch(load.base);
    report();
    return 0; /* what is left is given back by the process's end */
}
