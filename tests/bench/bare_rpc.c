/*
 * The yardstick: an RPC over RabbitMQ with nothing around it. Two processes use rabbitmq-c's own
 * blocking calls over plain TCP (the library sets TCP_NODELAY and reads up to 128 KB at once). The
 * server consumes from a durable quorum queue with the arguments of the fleet's work queues,
 * answers to reply_to and acks; the client keeps a fixed number of requests in flight.
 *
 * No publisher confirms, no returns, no JSON, no log: less than a service may leave out.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

enum {
    CHANNEL = 1,
    PREFETCH = 256, /* as PREFETCH of a worker */
    DELIVERY_LIMIT = 20,
    FRAME_MAX = 131072,
    CONNECT_TIMEOUT_S = 10,
    SILENCE_S = 10, /* no answer for so long: something is broken */
    IN_FLIGHT_MAX = 10000,
    BODY_MAX = 65536,
};

static const char queue_name[] = "bench.bare";

static struct {
    char *url;
    int in_flight;
    double seconds, warmup;
    const char *body;
    bool batch_acks;
} options = {.in_flight = 64, .seconds = 5, .warmup = 0.5, .body = "hello from the bench"};

/* One delivery. Points into rabbitmq-c's pools, until the next one is read. */
struct delivery {
    uint64_t tag;
    amqp_bytes_t correlation_id, reply_to;
    char body[BODY_MAX];
    size_t body_len;
};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "bare_rpc: %s: %s\n", what, why);
    exit(1);
}

static void check(int status, const char *what)
{
    if (status < 0)
        die(what, amqp_error_string2(status));
}

static void check_reply(amqp_rpc_reply_t r, const char *what)
{
    amqp_channel_close_t *close_method;

    if (r.reply_type == AMQP_RESPONSE_NORMAL)
        return;
    if (r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        die(what, amqp_error_string2(r.library_error));
    if (r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && r.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        close_method = r.reply.decoded;
        fprintf(stderr, "bare_rpc: %.*s\n", (int)close_method->reply_text.len,
                (char *)close_method->reply_text.bytes);
    }
    die(what, "refused by the broker");
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the broker ---- */

static amqp_connection_state_t connect_broker(void)
{
    struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    char *url = strdup(options.url); /* the parser writes into it */
    struct amqp_connection_info info;

    if (!c || !socket || !url)
        die("connect", "out of memory");
    check(amqp_parse_url(url, &info), "the URL");
    check(amqp_socket_open_noblock(socket, info.host, info.port, &timeout), "connect");
    check_reply(amqp_login(c, info.vhost, 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                           info.password),
                "login");
    amqp_channel_open(c, CHANNEL);
    check_reply(amqp_get_rpc_reply(c), "channel.open");
    free(url);
    return c;
}

static amqp_table_entry_t text_argument(const char *name, const char *text)
{
    amqp_table_entry_t e = {.key = amqp_cstring_bytes(name)};

    e.value.kind = AMQP_FIELD_KIND_UTF8;
    e.value.value.bytes = amqp_cstring_bytes(text);
    return e;
}

static amqp_table_entry_t number_argument(const char *name, int64_t number)
{
    amqp_table_entry_t e = {.key = amqp_cstring_bytes(name)};

    e.value.kind = AMQP_FIELD_KIND_I64;
    e.value.value.i64 = number;
    return e;
}

/* With the arguments of common/chat/topology.c; tests/bench/run compares them. */
static void declare_work_queue(amqp_connection_state_t c)
{
    amqp_table_entry_t entries[] = {
        text_argument("x-queue-type", "quorum"),
        number_argument("x-delivery-limit", DELIVERY_LIMIT),
        text_argument("x-dead-letter-exchange", "bench.dlx"),
        text_argument("x-dead-letter-routing-key", queue_name),
        text_argument("x-dead-letter-strategy", "at-least-once"),
        text_argument("x-overflow", "reject-publish"),
    };
    amqp_table_t arguments = {.num_entries = sizeof(entries) / sizeof(entries[0]),
                              .entries = entries};

    amqp_exchange_declare(c, CHANNEL, amqp_cstring_bytes("bench.dlx"), amqp_cstring_bytes("direct"),
                          0, 1, 0, 0, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(c), "exchange.declare");
    amqp_queue_declare(c, CHANNEL, amqp_cstring_bytes(queue_name), 0, 1, 0, 0, arguments);
    check_reply(amqp_get_rpc_reply(c), "queue.declare");
}

static void consume(amqp_connection_state_t c, amqp_bytes_t queue, bool no_ack)
{
    amqp_basic_consume(c, CHANNEL, queue, amqp_empty_bytes, 0, no_ack, 0, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(c), "basic.consume");
}

/* ---- messages ---- */

static void wait_frame(amqp_connection_state_t c, amqp_frame_t *frame)
{
    struct timeval silence = {.tv_sec = SILENCE_S};

    check(amqp_simple_wait_frame_noblock(c, frame, &silence), "waiting for a message");
}

static void next_delivery(amqp_connection_state_t c, struct delivery *d)
{
    const amqp_basic_properties_t *properties;
    const amqp_basic_deliver_t *deliver;
    amqp_frame_t frame;
    uint64_t size;

    amqp_maybe_release_buffers(c);
    wait_frame(c, &frame);
    if (frame.frame_type != AMQP_FRAME_METHOD ||
        frame.payload.method.id != AMQP_BASIC_DELIVER_METHOD)
        die("waiting for a message", "the broker sent something else");
    deliver = frame.payload.method.decoded;
    d->tag = deliver->delivery_tag;
    wait_frame(c, &frame);
    properties = frame.payload.properties.decoded;
    size = frame.payload.properties.body_size;
    if (frame.frame_type != AMQP_FRAME_HEADER || size > sizeof(d->body))
        die("waiting for a message", "its header is not what was sent");
    d->correlation_id = properties->correlation_id;
    d->reply_to = properties->reply_to;
    for (d->body_len = 0; d->body_len < size; d->body_len += frame.payload.body_fragment.len) {
        wait_frame(c, &frame);
        memcpy(d->body + d->body_len, frame.payload.body_fragment.bytes,
               frame.payload.body_fragment.len);
    }
}

static bool more_has_been_read(amqp_connection_state_t c)
{
    return amqp_data_in_buffer(c) || amqp_frames_enqueued(c);
}

static void publish(amqp_connection_state_t c, amqp_bytes_t queue, amqp_bytes_t body,
                    amqp_bytes_t correlation_id, const amqp_bytes_t *reply_to)
{
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_CONTENT_TYPE_FLAG |
                                           AMQP_BASIC_DELIVERY_MODE_FLAG |
                                           AMQP_BASIC_CORRELATION_ID_FLAG,
                                 .content_type = amqp_cstring_bytes("application/json"),
                                 .delivery_mode = AMQP_DELIVERY_NONPERSISTENT,
                                 .correlation_id = correlation_id};

    if (reply_to) { /* a request must outlive the broker, an answer need not */
        p._flags |= AMQP_BASIC_REPLY_TO_FLAG;
        p.reply_to = *reply_to;
        p.delivery_mode = AMQP_DELIVERY_PERSISTENT;
    }
    check(amqp_basic_publish(c, CHANNEL, amqp_empty_bytes, queue, 0, 0, &p, body), "publish");
}

/* ---- the server ---- */

/* Each message is acked once it is answered; with --acks batch, what was read together is acked
 * together. */
static _Noreturn void serve(int ready)
{
    static struct delivery d;
    amqp_connection_state_t c = connect_broker();

    declare_work_queue(c);
    amqp_basic_qos(c, CHANNEL, 0, PREFETCH, 0);
    check_reply(amqp_get_rpc_reply(c), "basic.qos");
    consume(c, amqp_cstring_bytes(queue_name), false);
    if (write(ready, "r", 1) != 1)
        die("server", strerror(errno));
    for (;;) {
        next_delivery(c, &d);
        publish(c, d.reply_to, (amqp_bytes_t){.len = d.body_len, .bytes = d.body}, d.correlation_id,
                NULL);
        if (!options.batch_acks || !more_has_been_read(c))
            check(amqp_basic_ack(c, CHANNEL, d.tag, options.batch_acks), "ack");
    }
}

static pid_t start_server(void)
{
    int ready[2];
    pid_t pid;
    char r;

    if (pipe(ready) || (pid = fork()) < 0)
        die("server", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        close(ready[0]);
        serve(ready[1]);
    }
    close(ready[1]);
    if (read(ready[0], &r, 1) != 1)
        die("server", "did not start");
    close(ready[0]);
    return pid;
}

/* ---- the client ---- */

struct client {
    amqp_connection_state_t connection;
    amqp_bytes_t replies; /* the queue's name */
    amqp_bytes_t body;
    double sent_at[IN_FLIGHT_MAX];
    float *latency_ms; /* of the answers that count */
    size_t count, room;
};

static void send_request(struct client *c, unsigned long slot)
{
    char id[16];

    snprintf(id, sizeof(id), "%lu", slot);
    c->sent_at[slot] = now_s();
    publish(c->connection, amqp_cstring_bytes(queue_name), c->body, amqp_cstring_bytes(id),
            &c->replies);
}

static unsigned long slot_of(amqp_bytes_t correlation_id)
{
    char id[16] = "";
    unsigned long slot;
    char *end;

    if (correlation_id.len < sizeof(id))
        memcpy(id, correlation_id.bytes, correlation_id.len);
    slot = strtoul(id, &end, 10);
    if (end == id || *end || slot >= (unsigned long)options.in_flight)
        die("answer", "a correlation id that was never sent");
    return slot;
}

static void keep(struct client *c, double ms)
{
    if (c->count == c->room) {
        c->room = c->room ? c->room * 2 : 65536;
        c->latency_ms = realloc(c->latency_ms, c->room * sizeof(*c->latency_ms));
        if (!c->latency_ms)
            die("client", "out of memory");
    }
    c->latency_ms[c->count++] = (float)ms;
}

/* Returns the seconds that the answers which count took. */
static double drive(struct client *c)
{
    static struct delivery d;
    double from = now_s() + options.warmup, to = from + options.seconds, now = 0;
    int open = options.in_flight, i;

    for (i = 0; i < options.in_flight; i++)
        send_request(c, (unsigned long)i);
    while (open > 0) {
        unsigned long slot;

        next_delivery(c->connection, &d);
        if (d.body_len != c->body.len || memcmp(d.body, c->body.bytes, d.body_len) != 0)
            die("answer", "not the body that was sent");
        slot = slot_of(d.correlation_id);
        now = now_s();
        if (now >= from && now < to)
            keep(c, (now - c->sent_at[slot]) * 1e3);
        if (now < to)
            send_request(c, slot);
        else
            open--;
    }
    return options.seconds;
}

static void open_client(struct client *c)
{
    char *body = malloc(strlen(options.body) + 16);
    amqp_queue_declare_ok_t *ok;

    if (!body)
        die("client", "out of memory");
    c->body = (amqp_bytes_t){.len = (size_t)sprintf(body, "{\"message\":\"%s\"}", options.body),
                             .bytes = body};
    c->connection = connect_broker();
    ok = amqp_queue_declare(c->connection, CHANNEL, amqp_empty_bytes, 0, 1, 0, 0, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(c->connection), "queue.declare");
    c->replies = amqp_bytes_malloc_dup(ok->queue);
    consume(c->connection, c->replies, true);
}

static void close_client(struct client *c)
{
    amqp_queue_delete(c->connection, CHANNEL, c->replies, 0, 0);
    check_reply(amqp_get_rpc_reply(c->connection), "queue.delete");
    amqp_connection_close(c->connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c->connection);
    amqp_bytes_free(c->replies);
    free(c->body.bytes);
    free(c->latency_ms);
}

/* ---- what came of it ---- */

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static double percentile(const struct client *c, double share)
{
    size_t at = (size_t)((double)c->count * share);

    return c->count ? (double)c->latency_ms[at < c->count ? at : c->count - 1] : 0;
}

static double cpu_s(const struct rusage *u)
{
    return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
           (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1e6;
}

static void usage(void)
{
    fprintf(stderr,
            "usage: bare_rpc URL [--in-flight N] [--seconds S] [--warmup S] [--body TEXT]\n");
    exit(64);
}

static void read_options(int argc, char **argv)
{
    int i;

    if (argc < 2 || argc % 2)
        usage();
    options.url = argv[1];
    for (i = 2; i < argc; i += 2) {
        if (strcmp(argv[i], "--in-flight") == 0)
            options.in_flight = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--seconds") == 0)
            options.seconds = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--warmup") == 0)
            options.warmup = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--body") == 0)
            options.body = argv[i + 1];
        else if (strcmp(argv[i], "--acks") == 0)
            options.batch_acks = strcmp(argv[i + 1], "batch") == 0;
        else
            usage();
    }
    if (options.in_flight < 1 || options.in_flight > IN_FLIGHT_MAX || options.seconds <= 0 ||
        strlen(options.body) > BODY_MAX - 16)
        usage();
}

int main(int argc, char **argv)
{
    static struct client client;
    struct rusage of_client, of_server;
    double seconds;
    pid_t server;

    read_options(argc, argv);
    server = start_server();
    open_client(&client);
    seconds = drive(&client);
    getrusage(RUSAGE_SELF, &of_client);
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    getrusage(RUSAGE_CHILDREN, &of_server);
    qsort(client.latency_ms, client.count, sizeof(*client.latency_ms), by_size);
    printf("{\"rate\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"n\":%zu,\"client_cpu_s\":%.3f,"
           "\"server_cpu_s\":%.3f}\n",
           (double)client.count / seconds, percentile(&client, 0.5), percentile(&client, 0.99),
           client.count, cpu_s(&of_client), cpu_s(&of_server));
    close_client(&client);
    return 0;
}
