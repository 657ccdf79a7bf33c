/*
 * The yardstick of a turn's messages: four durable steps over RabbitMQ with nothing around them.
 *
 *     client -> bench.slip.1 -> … .2 -> … .3 -> … .4 -> the client's reply queue
 *
 * Each step is a process that uses rabbitmq-c's own blocking calls: it takes a message from a
 * durable quorum queue with the arguments of the fleet's work queues, publishes the next one with
 * a publisher confirm, goes on meanwhile, and acks its input when the confirm came. The messages
 * are persistent and as large as a turn's (--sizes). The last step's answer is not persistent.
 *
 * No headers, no mandatory flag, no JSON, no event, no log.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bare.h"

enum { STEPS = 4, UNCONFIRMED_MAX = 512 /* more than the prefetch */ };

static struct {
    char *url;
    int in_flight;
    double seconds, warmup;
    int sizes[STEPS + 1]; /* of the bodies that go into each queue, and of the answer */
} options = {.in_flight = 64, .seconds = 5, .warmup = 0.5, .sizes = {200, 1000, 1200, 1000, 900}};

static char bodies[BARE_BODY_MAX]; /* all bodies are a beginning of this */

static const char *queue_of(int step)
{
    static const char *const names[STEPS] = {"bench.slip.1", "bench.slip.2", "bench.slip.3",
                                             "bench.slip.4"};

    return names[step];
}

static amqp_bytes_t body_into(int step)
{
    return (amqp_bytes_t){.len = (size_t)options.sizes[step], .bytes = bodies};
}

/* ---- a step ---- */

struct step {
    amqp_connection_state_t connection;
    int number;
    uint64_t published;
    uint64_t inputs[UNCONFIRMED_MAX]; /* the tag of what each publish came from */
};

static void forward(struct step *s, const struct bare_event *input)
{
    bool last = s->number == STEPS - 1;

    s->inputs[++s->published % UNCONFIRMED_MAX] = input->tag;
    bare_publish(s->connection,
                 &(struct bare_message){.queue = last ? input->reply_to
                                                      : amqp_cstring_bytes(queue_of(s->number + 1)),
                                        .body = body_into(s->number + 1),
                                        .correlation_id = input->correlation_id,
                                        .reply_to = last ? amqp_empty_bytes : input->reply_to,
                                        .persistent = !last});
}

/* Inputs are published in the order in which they came: all before a publish is all before its
 * input. */
static void serve(int number, int ready)
{
    static struct bare_event event;
    static struct step s;

    s.number = number;
    s.connection = bare_connect(options.url);
    bare_declare_work_queue(s.connection, queue_of(number));
    bare_confirms(s.connection);
    bare_consume(s.connection, amqp_cstring_bytes(queue_of(number)), false);
    if (write(ready, "r", 1) != 1)
        bare_die("step", "nobody waits for it");
    for (;;) {
        bare_next(s.connection, &event);
        if (event.confirm)
            bare_ack(s.connection, s.inputs[event.tag % UNCONFIRMED_MAX], event.multiple);
        else if (event.body_len == (size_t)options.sizes[number])
            forward(&s, &event);
        else
            bare_die("step", "not the body that was sent");
    }
}

/* ---- the client ---- */

struct client {
    amqp_connection_state_t connection;
    amqp_bytes_t replies; /* the queue's name */
    double sent_at[BARE_IN_FLIGHT_MAX];
    struct bare_samples latency; /* of the answers that count */
};

static void send_request(struct client *c, unsigned long slot)
{
    char id[16];

    snprintf(id, sizeof(id), "%lu", slot);
    c->sent_at[slot] = bare_now_s();
    bare_publish(c->connection, &(struct bare_message){.queue = amqp_cstring_bytes(queue_of(0)),
                                                       .body = body_into(0),
                                                       .correlation_id = amqp_cstring_bytes(id),
                                                       .reply_to = c->replies,
                                                       .persistent = true});
}

/* Returns how many were answered, also before and after those that count. */
static size_t drive(struct client *c)
{
    static struct bare_event event;
    double from = bare_now_s() + options.warmup, to = from + options.seconds, now = 0;
    int open = options.in_flight, i;
    size_t answered = 0;

    for (i = 0; i < options.in_flight; i++)
        send_request(c, (unsigned long)i);
    while (open > 0) {
        unsigned long slot;

        bare_next(c->connection, &event);
        if (event.confirm)
            continue;
        if (event.body_len != (size_t)options.sizes[STEPS])
            bare_die("answer", "not the body that was sent");
        slot = bare_slot(event.correlation_id, (unsigned long)options.in_flight);
        answered++;
        now = bare_now_s();
        if (now >= from && now < to)
            bare_keep(&c->latency, (now - c->sent_at[slot]) * 1e3);
        if (now < to)
            send_request(c, slot);
        else
            open--;
    }
    return answered;
}

static void open_client(struct client *c)
{
    c->connection = bare_connect(options.url);
    c->replies = bare_declare_replies(c->connection);
    bare_confirms(c->connection);
    bare_consume(c->connection, c->replies, true);
}

/* ---- the command line ---- */

static void usage(void)
{
    fprintf(stderr, "usage: bare_slip URL [--in-flight N] [--seconds S] [--warmup S] "
                    "[--sizes BYTES,BYTES,BYTES,BYTES,BYTES]\n");
    exit(64);
}

static void read_sizes(const char *text)
{
    char *end;
    int i;

    for (i = 0; i <= STEPS; i++, text = end + 1) {
        long n = strtol(text, &end, 10);

        if (n < 1 || n > BARE_BODY_MAX || *end != (i < STEPS ? ',' : '\0'))
            usage();
        options.sizes[i] = (int)n;
    }
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
        else if (strcmp(argv[i], "--sizes") == 0)
            read_sizes(argv[i + 1]);
        else
            usage();
    }
    if (options.in_flight < 1 || options.in_flight > BARE_IN_FLIGHT_MAX || options.seconds <= 0)
        usage();
}

int main(int argc, char **argv)
{
    static struct client client;
    pid_t steps[STEPS];
    double client_cpu_s;
    size_t answered;
    int i;

    read_options(argc, argv);
    memset(bodies, 'x', sizeof(bodies));
    for (i = STEPS - 1; i >= 0; i--) /* each declares the queue that the one before needs */
        steps[i] = bare_fork(serve, i);
    open_client(&client);
    answered = drive(&client);
    client_cpu_s = bare_cpu_s(RUSAGE_SELF);
    for (i = 0; i < STEPS; i++) {
        kill(steps[i], SIGTERM);
        waitpid(steps[i], NULL, 0);
    }
    bare_sort(&client.latency);
    printf("{\"rate\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"n\":%zu,\"client_cpu_s\":%.3f,"
           "\"steps_cpu_s\":%.3f}\n",
           (double)client.latency.count / options.seconds, bare_percentile(&client.latency, 0.5),
           bare_percentile(&client.latency, 0.99), answered, client_cpu_s,
           bare_cpu_s(RUSAGE_CHILDREN));
    bare_close(client.connection);
    amqp_bytes_free(client.replies);
    free(client.latency.ms);
    return 0;
}
