/*
 * The yardstick of a turn's transactions: PostgreSQL through libpq's pipeline mode with nothing
 * around it. It runs the statements that the persistence worker itself sends for a turn, as
 * lib/wire.js saw them on the wire (standard input), each segment as one transaction ended by a
 * Sync, prepared once per connection. A turn's segments follow each other; many turns are under
 * way on each connection; all turns of a conversation use the same one.
 *
 *     {"segments": [[{"sql": "…", "params": ["a text", null, {"is": "turn"}, …]}, …], …],
 *      "conversations": [["its id", "its user's id"], …]}
 *
 * {"is": …} is what differs from turn to turn: conversation, user, turn, question, answer.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <libpq-fe.h>

#include "tests/bench/bare.h"

enum {
    CONNECTIONS_MAX = 64,
    SEGMENTS_MAX = 8,
    STATEMENTS_MAX = 64, /* of all segments */
    PARAMS_MAX = 32,
    UUID_TEXT = 37,
    SILENCE_MS = 10000, /* no answer for so long: something is broken */
};

/* What differs from turn to turn; TEXT is what does not. */
enum value { CONVERSATION, USER, TURN, QUESTION, ANSWER, VALUES, TEXT = VALUES };
static const char *const value_names[VALUES] = {"conversation", "user", "turn", "question",
                                                "answer"};

struct statement {
    char name[12];
    const char *sql;
    int n;
    enum value what[PARAMS_MAX];
    const char *text[PARAMS_MAX];
};

static struct {
    struct statement statements[STATEMENTS_MAX];
    int first[SEGMENTS_MAX + 1]; /* a segment's statements end where the next one's begin */
    int segments;
    json_t *conversations;
    json_t *json; /* owns the texts */
} script;

static struct {
    const char *url;
    int connections, in_flight, window, turns_each;
    double seconds, warmup;
} options = {
    .connections = 6, .in_flight = 64, .window = 512, .turns_each = 8, .seconds = 5, .warmup = 0.5};

struct turn {
    struct turn *next; /* behind it in its connection's queue */
    int segment;       /* under way */
    double began;
    const char *values[VALUES];
    char ids[3][UUID_TEXT];
};

struct connection {
    PGconn *conn;
    int number;
    bool writing;              /* there is more to write than the socket took */
    struct turn *first, *last; /* in the order in which their answers come */
    unsigned long begun;       /* turns */
};

static struct {
    double from, to;
    size_t answered;
    int open; /* turns under way */
    struct bare_samples latency;
} run;

/* ---- the script ---- */

static void read_param(struct statement *s, const json_t *param)
{
    const char *is = json_string_value(json_object_get(param, "is"));
    int i = s->n++;

    if (i == PARAMS_MAX)
        bare_die("script", "a statement with more parameters than expected");
    s->what[i] = TEXT;
    s->text[i] = json_string_value(param);
    if (!is)
        return;
    for (s->what[i] = 0; strcmp(is, value_names[s->what[i]]) != 0; s->what[i]++)
        if (s->what[i] == VALUES - 1)
            bare_die("script", is);
}

static void read_script(void)
{
    json_t *segments, *segment, *statement, *param, *params;
    size_t i, j, k;
    json_error_t at;
    int n = 0;

    script.json = json_loadf(stdin, 0, &at);
    if (!script.json || json_unpack_ex(script.json, &at, 0, "{s:o, s:o}", "segments", &segments,
                                       "conversations", &script.conversations))
        bare_die("script", at.text);
    json_array_foreach (segments, i, segment) {
        if (i == SEGMENTS_MAX)
            bare_die("script", "more segments than expected");
        script.first[i] = n;
        json_array_foreach (segment, j, statement) {
            struct statement *s = &script.statements[n];

            if (n == STATEMENTS_MAX ||
                json_unpack(statement, "{s:s, s:o}", "sql", &s->sql, "params", &params))
                bare_die("script", "statements that are not as expected");
            snprintf(s->name, sizeof(s->name), "s%d", n++);
            json_array_foreach (params, k, param)
                read_param(s, param);
        }
    }
    script.segments = (int)i;
    script.first[i] = n;
    if (n == 0 || json_array_size(script.conversations) < (size_t)options.connections)
        bare_die("script", "too few statements or conversations");
}

/* ---- turns ---- */

/* Of version 7: 48 bits of time, 62 random ones. */
static void new_id(char out[UUID_TEXT], uint64_t ms)
{
    uint64_t high = (uint64_t)random() & 0x7fffffff, low = (uint64_t)random() & 0x7fffffff;

    snprintf(out, UUID_TEXT, "%08x-%04x-7%03x-%04x-%04x%08x", (unsigned)(ms >> 16),
             (unsigned)(ms & 0xffff), (unsigned)(high & 0xfff),
             (unsigned)(0x8000 | (high >> 12 & 0x3fff)), (unsigned)(high >> 26), (unsigned)low);
}

static void watch_output(struct connection *c)
{
    int rc = PQflush(c->conn);

    if (rc < 0)
        bare_die("write", PQerrorMessage(c->conn));
    c->writing = rc == 1;
}

static void send_segment(struct connection *c, struct turn *t)
{
    int i, p, ok = 1;

    for (i = script.first[t->segment]; i < script.first[t->segment + 1] && ok; i++) {
        const struct statement *s = &script.statements[i];
        const char *params[PARAMS_MAX];

        for (p = 0; p < s->n; p++)
            params[p] = s->what[p] == TEXT ? s->text[p] : t->values[s->what[p]];
        ok = PQsendQueryPrepared(c->conn, s->name, s->n, params, NULL, NULL, 0);
    }
    if (!ok || !PQpipelineSync(c->conn))
        bare_die("send", PQerrorMessage(c->conn));
    t->next = NULL;
    if (c->first)
        c->last->next = t;
    else
        c->first = t;
    c->last = t;
    watch_output(c);
}

/* A connection's turns go round a window of its conversations; when each has had turns_each, the
 * window moves on. */
static const json_t *next_conversation(struct connection *c)
{
    unsigned long all = json_array_size(script.conversations), step = options.connections;
    unsigned long mine = (all - c->number + step - 1) / step;
    unsigned long window = options.window / step ? options.window / step : 1;
    unsigned long n = c->begun++, at = n / (window * options.turns_each) * window + n % window;

    return json_array_get(script.conversations, at % mine * step + c->number);
}

static void begin(struct connection *c, struct turn *t)
{
    const json_t *conversation = next_conversation(c);
    struct timespec now;
    int i;

    clock_gettime(CLOCK_REALTIME, &now);
    t->began = bare_now_s();
    t->segment = 0;
    t->values[CONVERSATION] = json_string_value(json_array_get(conversation, 0));
    t->values[USER] = json_string_value(json_array_get(conversation, 1));
    for (i = 0; i < 3; i++) {
        new_id(t->ids[i], (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
        t->values[TURN + i] = t->ids[i];
    }
    send_segment(c, t);
}

static void synced(struct connection *c)
{
    struct turn *t = c->first;
    double now;

    c->first = t->next;
    if (++t->segment < script.segments) {
        send_segment(c, t);
        return;
    }
    now = bare_now_s();
    run.answered++;
    if (now >= run.from && now < run.to)
        bare_keep(&run.latency, (now - t->began) * 1e3);
    if (now < run.to)
        begin(c, t);
    else
        run.open--;
}

static void readable(struct connection *c)
{
    if (!PQconsumeInput(c->conn))
        bare_die("read", PQerrorMessage(c->conn));
    while (c->first && !PQisBusy(c->conn)) {
        PGresult *r = PQgetResult(c->conn);
        ExecStatusType status = PQresultStatus(r);

        if (r && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK &&
            status != PGRES_PIPELINE_SYNC)
            bare_die("statement", PQresultErrorMessage(r));
        PQclear(r);
        if (r && status == PGRES_PIPELINE_SYNC)
            synced(c);
    }
    watch_output(c);
}

/* ---- connections ---- */

static void connect_database(struct connection *c, int number)
{
    int i;

    c->number = number;
    c->conn = PQconnectdb(options.url);
    if (PQstatus(c->conn) != CONNECTION_OK)
        bare_die("connect", PQerrorMessage(c->conn));
    for (i = 0; i < script.first[script.segments]; i++) {
        PGresult *r =
            PQprepare(c->conn, script.statements[i].name, script.statements[i].sql, 0, NULL);

        if (PQresultStatus(r) != PGRES_COMMAND_OK)
            bare_die("prepare", PQerrorMessage(c->conn));
        PQclear(r);
    }
    if (PQsetnonblocking(c->conn, 1) || !PQenterPipelineMode(c->conn))
        bare_die("pipeline mode", PQerrorMessage(c->conn));
}

static void drive(struct connection *connections)
{
    struct pollfd fds[CONNECTIONS_MAX];
    int i;

    while (run.open > 0) {
        for (i = 0; i < options.connections; i++)
            fds[i] = (struct pollfd){.fd = PQsocket(connections[i].conn),
                                     .events = connections[i].writing ? POLLIN | POLLOUT : POLLIN};
        if (poll(fds, (nfds_t)options.connections, SILENCE_MS) <= 0)
            bare_die("waiting for an answer", "nothing came");
        for (i = 0; i < options.connections; i++) {
            if (fds[i].revents & POLLOUT)
                watch_output(&connections[i]);
            if (fds[i].revents & ~POLLOUT)
                readable(&connections[i]);
        }
    }
}

/* ---- the command line ---- */

static void usage(void)
{
    fprintf(stderr, "usage: bare_pg URL [--connections N] [--in-flight N] [--window N] "
                    "[--turns-each N] [--seconds S] [--warmup S] <SCRIPT\n");
    exit(64);
}

static void read_options(int argc, char **argv)
{
    int i;

    if (argc < 2 || argc % 2)
        usage();
    options.url = argv[1];
    for (i = 2; i < argc; i += 2) {
        if (strcmp(argv[i], "--connections") == 0)
            options.connections = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--in-flight") == 0)
            options.in_flight = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--window") == 0)
            options.window = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--turns-each") == 0)
            options.turns_each = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--seconds") == 0)
            options.seconds = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--warmup") == 0)
            options.warmup = atof(argv[i + 1]);
        else
            usage();
    }
    if (options.connections < 1 || options.connections > CONNECTIONS_MAX || options.in_flight < 1 ||
        options.in_flight > BARE_IN_FLIGHT_MAX || options.window < 1 || options.turns_each < 1 ||
        options.seconds <= 0)
        usage();
}

int main(int argc, char **argv)
{
    static struct connection connections[CONNECTIONS_MAX];
    static struct turn turns[BARE_IN_FLIGHT_MAX];
    double cpu_s;
    int i;

    read_options(argc, argv);
    read_script();
    srandom((unsigned)time(NULL) ^ (unsigned)getpid() << 16);
    for (i = 0; i < options.connections; i++)
        connect_database(&connections[i], i);
    cpu_s = bare_cpu_s(RUSAGE_SELF);
    run.from = bare_now_s() + options.warmup;
    run.to = run.from + options.seconds;
    run.open = options.in_flight;
    for (i = 0; i < options.in_flight; i++)
        begin(&connections[i % options.connections], &turns[i]);
    drive(connections);
    cpu_s = bare_cpu_s(RUSAGE_SELF) - cpu_s;
    bare_sort(&run.latency);
    printf("{\"rate\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"n\":%zu,\"client_cpu_s\":%.3f}\n",
           (double)run.latency.count / options.seconds, bare_percentile(&run.latency, 0.5),
           bare_percentile(&run.latency, 0.99), run.answered, cpu_s);
    for (i = 0; i < options.connections; i++)
        PQfinish(connections[i].conn);
    free(run.latency.ms);
    json_decref(script.json);
    return 0;
}
