/*
 * The yardstick of the echo: an RPC over RabbitMQ with nothing around it. Two processes use
 * rabbitmq-c's own blocking calls. The server consumes from a durable quorum queue with the
 * arguments of the fleet's work queues, answers to reply_to and acks; the client keeps a fixed
 * number of requests in flight.
 *
 * No publisher confirms, no returns, no JSON, no log: less than a service may leave out.
 *
 * With --expect there is no server: who consumes --queue is asked, and each answer must hold that text.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bare.h"

static struct {
    char *url;
    int in_flight;
    double seconds, warmup;
    const char *body;
    bool batch_acks;
    const char *queue, *expect; /* these: only with a queue of others */
    amqp_bytes_t type, user;
} options = {.in_flight = 64,
             .seconds = 5,
             .warmup = 0.5,
             .body = "{\"message\":\"hello from the bench\"}",
             .queue = "bench.bare"};

/* ---- the server ---- */

/* Each message is acked once it is answered; with --acks batch, what was read together is acked
 * together. */
static void serve(int argument, int ready)
{
    static struct bare_event d;
    amqp_connection_state_t c = bare_connect(options.url);

    (void)argument;
    bare_declare_work_queue(c, options.queue);
    bare_consume(c, amqp_cstring_bytes(options.queue), false);
    if (write(ready, "r", 1) != 1)
        bare_die("server", "nobody waits for it");
    for (;;) {
        bare_next(c, &d);
        bare_publish(c, &(struct bare_message){.queue = d.reply_to,
                                               .body = {.len = d.body_len, .bytes = d.body},
                                               .correlation_id = d.correlation_id});
        if (!options.batch_acks || !bare_more_has_been_read(c))
            bare_ack(c, d.tag, options.batch_acks);
    }
}

/* ---- the client ---- */

struct client {
    amqp_connection_state_t connection;
    amqp_bytes_t replies; /* the queue's name */
    amqp_bytes_t body;
    double sent_at[BARE_IN_FLIGHT_MAX];
    struct bare_samples latency; /* of the answers that count */
};

static void send_request(struct client *c, unsigned long slot)
{
    char id[16];

    snprintf(id, sizeof(id), "%lu", slot);
    c->sent_at[slot] = bare_now_s();
    /* a request must outlive the broker, an answer need not */
    bare_publish(c->connection, &(struct bare_message){.queue = amqp_cstring_bytes(options.queue),
                                                       .body = c->body,
                                                       .correlation_id = amqp_cstring_bytes(id),
                                                       .reply_to = c->replies,
                                                       .type = options.type,
                                                       .user = options.user,
                                                       .persistent = true});
}

/* The body itself comes back, or what --expect says. */
static bool is_expected(const struct client *c, const struct bare_event *d)
{
    if (options.expect)
        return memmem(d->body, d->body_len, options.expect, strlen(options.expect)) != NULL;
    return d->body_len == c->body.len && memcmp(d->body, c->body.bytes, d->body_len) == 0;
}

/* The beginning of a body. */
static const char *beginning(const struct bare_event *d)
{
    static char text[400];

    snprintf(text, sizeof(text), "%.*s", (int)d->body_len, d->body);
    return text;
}

/* Returns the seconds that the answers which count took. */
static double drive(struct client *c)
{
    static struct bare_event d;
    double from = bare_now_s() + options.warmup, to = from + options.seconds, now = 0;
    int open = options.in_flight, i;

    for (i = 0; i < options.in_flight; i++)
        send_request(c, (unsigned long)i);
    while (open > 0) {
        unsigned long slot;

        bare_next(c->connection, &d);
        if (!is_expected(c, &d))
            bare_die("unexpected answer", beginning(&d));
        slot = bare_slot(d.correlation_id, (unsigned long)options.in_flight);
        now = bare_now_s();
        if (now >= from && now < to)
            bare_keep(&c->latency, (now - c->sent_at[slot]) * 1e3);
        if (now < to)
            send_request(c, slot);
        else
            open--;
    }
    return options.seconds;
}

static void open_client(struct client *c)
{
    c->body = amqp_cstring_bytes(options.body);
    c->connection = bare_connect(options.url);
    c->replies = bare_declare_replies(c->connection);
    bare_consume(c->connection, c->replies, true);
}

static void close_client(struct client *c)
{
    bare_close(c->connection);
    amqp_bytes_free(c->replies);
    free(c->latency.ms);
}

/* ---- what came of it ---- */

static void usage(void)
{
    fprintf(stderr, "usage: bare_rpc URL [--in-flight N] [--seconds S] [--warmup S] [--body JSON] "
                    "[--acks each|batch] [--queue QUEUE --type TYPE --user UUID --expect TEXT]\n");
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
        else if (strcmp(argv[i], "--queue") == 0)
            options.queue = argv[i + 1];
        else if (strcmp(argv[i], "--type") == 0)
            options.type = amqp_cstring_bytes(argv[i + 1]);
        else if (strcmp(argv[i], "--user") == 0)
            options.user = amqp_cstring_bytes(argv[i + 1]);
        else if (strcmp(argv[i], "--expect") == 0)
            options.expect = argv[i + 1];
        else
            usage();
    }
    if (options.in_flight < 1 || options.in_flight > BARE_IN_FLIGHT_MAX || options.seconds <= 0 ||
        strlen(options.body) > BARE_BODY_MAX)
        usage();
}

int main(int argc, char **argv)
{
    static struct client client;
    double seconds, client_cpu_s;
    pid_t server = 0;

    read_options(argc, argv);
    if (!options.expect)
        server = bare_fork(serve, 0);
    open_client(&client);
    seconds = drive(&client);
    client_cpu_s = bare_cpu_s(RUSAGE_SELF);
    if (server) {
        kill(server, SIGTERM);
        waitpid(server, NULL, 0);
    }
    bare_sort(&client.latency);
    printf("{\"rate\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"n\":%zu,\"client_cpu_s\":%.3f,"
           "\"server_cpu_s\":%.3f}\n",
           (double)client.latency.count / seconds, bare_percentile(&client.latency, 0.5),
           bare_percentile(&client.latency, 0.99), client.latency.count, client_cpu_s,
           bare_cpu_s(RUSAGE_CHILDREN));
    close_client(&client);
    return 0;
}
