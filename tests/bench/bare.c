#include "bare.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

enum {
    DELIVERY_LIMIT = 20,
    FRAME_MAX = 131072,
    CONNECT_TIMEOUT_S = 10,
    SILENCE_S = 10, /* nothing for so long: something is broken */
};

_Noreturn void bare_die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, why);
    exit(1);
}

double bare_now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(int status, const char *what)
{
    if (status < 0)
        bare_die(what, amqp_error_string2(status));
}

static void check_reply(amqp_rpc_reply_t r, const char *what)
{
    amqp_channel_close_t *close_method;

    if (r.reply_type == AMQP_RESPONSE_NORMAL)
        return;
    if (r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        bare_die(what, amqp_error_string2(r.library_error));
    if (r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && r.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        close_method = r.reply.decoded;
        fprintf(stderr, "%s: %.*s\n", program_invocation_short_name,
                (int)close_method->reply_text.len, (char *)close_method->reply_text.bytes);
    }
    bare_die(what, "refused by the broker");
}

/* ---- the broker ---- */

amqp_connection_state_t bare_connect(const char *url)
{
    struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    char *copy = strdup(url); /* the parser writes into it */
    struct amqp_connection_info info;

    if (!c || !socket || !copy)
        bare_die("connect", "out of memory");
    check(amqp_parse_url(copy, &info), "the URL");
    check(amqp_socket_open_noblock(socket, info.host, info.port, &timeout), "connect");
    check_reply(amqp_login(c, info.vhost, 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                           info.password),
                "login");
    amqp_channel_open(c, BARE_CHANNEL);
    check_reply(amqp_get_rpc_reply(c), "channel.open");
    free(copy);
    return c;
}

void bare_close(amqp_connection_state_t c)
{
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
}

void bare_confirms(amqp_connection_state_t c)
{
    amqp_confirm_select(c, BARE_CHANNEL);
    check_reply(amqp_get_rpc_reply(c), "confirm.select");
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

void bare_declare_work_queue(amqp_connection_state_t c, const char *name)
{
    amqp_table_entry_t entries[] = {
        text_argument("x-queue-type", "quorum"),
        number_argument("x-delivery-limit", DELIVERY_LIMIT),
        text_argument("x-dead-letter-exchange", "bench.dlx"),
        text_argument("x-dead-letter-routing-key", name),
        text_argument("x-dead-letter-strategy", "at-least-once"),
        text_argument("x-overflow", "reject-publish"),
    };
    amqp_table_t arguments = {.num_entries = sizeof(entries) / sizeof(entries[0]),
                              .entries = entries};

    amqp_exchange_declare(c, BARE_CHANNEL, amqp_cstring_bytes("bench.dlx"),
                          amqp_cstring_bytes("direct"), 0, 1, 0, 0, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(c), "exchange.declare");
    amqp_queue_declare(c, BARE_CHANNEL, amqp_cstring_bytes(name), 0, 1, 0, 0, arguments);
    check_reply(amqp_get_rpc_reply(c), "queue.declare");
}

amqp_bytes_t bare_declare_replies(amqp_connection_state_t c)
{
    amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(c, BARE_CHANNEL, amqp_empty_bytes, 0, 1, 0, 1, amqp_empty_table);

    check_reply(amqp_get_rpc_reply(c), "queue.declare");
    return amqp_bytes_malloc_dup(ok->queue);
}

void bare_consume(amqp_connection_state_t c, amqp_bytes_t queue, bool no_ack)
{
    amqp_basic_qos(c, BARE_CHANNEL, 0, BARE_PREFETCH, 0);
    check_reply(amqp_get_rpc_reply(c), "basic.qos");
    amqp_basic_consume(c, BARE_CHANNEL, queue, amqp_empty_bytes, 0, no_ack, 0, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(c), "basic.consume");
}

/* ---- messages ---- */

static void wait_frame(amqp_connection_state_t c, amqp_frame_t *frame)
{
    struct timeval silence = {.tv_sec = SILENCE_S};

    check(amqp_simple_wait_frame_noblock(c, frame, &silence), "waiting for a message");
}

static void read_content(amqp_connection_state_t c, struct bare_event *event)
{
    const amqp_basic_properties_t *properties;
    amqp_frame_t frame;
    uint64_t size;

    wait_frame(c, &frame);
    properties = frame.payload.properties.decoded;
    size = frame.payload.properties.body_size;
    if (frame.frame_type != AMQP_FRAME_HEADER || size > sizeof(event->body))
        bare_die("waiting for a message", "its header is not what was sent");
    event->correlation_id = properties->correlation_id;
    event->reply_to =
        properties->_flags & AMQP_BASIC_REPLY_TO_FLAG ? properties->reply_to : amqp_empty_bytes;
    for (event->body_len = 0; event->body_len < size;
         event->body_len += frame.payload.body_fragment.len) {
        wait_frame(c, &frame);
        memcpy(event->body + event->body_len, frame.payload.body_fragment.bytes,
               frame.payload.body_fragment.len);
    }
}

void bare_next(amqp_connection_state_t c, struct bare_event *event)
{
    amqp_frame_t frame;

    amqp_maybe_release_buffers(c);
    wait_frame(c, &frame);
    if (frame.frame_type != AMQP_FRAME_METHOD)
        bare_die("waiting for a message", "the broker sent something else");
    if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *ack = frame.payload.method.decoded;

        event->confirm = true;
        event->tag = ack->delivery_tag;
        event->multiple = ack->multiple;
    } else if (frame.payload.method.id == AMQP_BASIC_DELIVER_METHOD) {
        const amqp_basic_deliver_t *deliver = frame.payload.method.decoded;

        event->confirm = false;
        event->tag = deliver->delivery_tag;
        read_content(c, event);
    } else {
        bare_die("waiting for a message", amqp_method_name(frame.payload.method.id));
    }
}

bool bare_more_has_been_read(amqp_connection_state_t c)
{
    return amqp_data_in_buffer(c) || amqp_frames_enqueued(c);
}

void bare_publish(amqp_connection_state_t c, const struct bare_message *m)
{
    amqp_basic_properties_t p = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                  AMQP_BASIC_CORRELATION_ID_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .delivery_mode = m->persistent ? AMQP_DELIVERY_PERSISTENT : AMQP_DELIVERY_NONPERSISTENT,
        .correlation_id = m->correlation_id};
    amqp_table_entry_t user = {
        .key = amqp_cstring_bytes("x-user-id"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = m->user},
    };

    if (m->reply_to.len > 0) {
        p._flags |= AMQP_BASIC_REPLY_TO_FLAG;
        p.reply_to = m->reply_to;
    }
    if (m->user.len > 0) {
        p._flags |= AMQP_BASIC_HEADERS_FLAG;
        p.headers = (amqp_table_t){.num_entries = 1, .entries = &user};
    }
    if (m->type.len > 0) {
        p._flags |= AMQP_BASIC_TYPE_FLAG;
        p.type = m->type;
    }
    check(amqp_basic_publish(c, BARE_CHANNEL, amqp_empty_bytes, m->queue, 0, 0, &p, m->body),
          "publish");
}

void bare_ack(amqp_connection_state_t c, uint64_t tag, bool multiple)
{
    check(amqp_basic_ack(c, BARE_CHANNEL, tag, multiple), "ack");
}

unsigned long bare_slot(amqp_bytes_t correlation_id, unsigned long slots)
{
    char id[16] = "";
    unsigned long slot;
    char *end;

    if (correlation_id.len < sizeof(id))
        memcpy(id, correlation_id.bytes, correlation_id.len);
    slot = strtoul(id, &end, 10);
    if (end == id || *end || slot >= slots)
        bare_die("answer", "a correlation id that was never sent");
    return slot;
}

/* ---- processes ---- */

pid_t bare_fork(void (*serve)(int argument, int ready), int argument)
{
    int ready[2];
    pid_t pid;
    char r;

    if (pipe(ready) || (pid = fork()) < 0)
        bare_die("fork", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        close(ready[0]);
        serve(argument, ready[1]);
        exit(0);
    }
    close(ready[1]);
    if (read(ready[0], &r, 1) != 1)
        bare_die("server", "did not start");
    close(ready[0]);
    return pid;
}

/* ---- latencies ---- */

void bare_keep(struct bare_samples *s, double ms)
{
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 65536;
        s->ms = realloc(s->ms, s->room * sizeof(*s->ms));
        if (!s->ms)
            bare_die("latencies", "out of memory");
    }
    s->ms[s->count++] = (float)ms;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

void bare_sort(struct bare_samples *s)
{
    qsort(s->ms, s->count, sizeof(*s->ms), by_size);
}

double bare_percentile(const struct bare_samples *s, double share)
{
    size_t at = (size_t)((double)s->count * share);

    return s->count ? (double)s->ms[at < s->count ? at : s->count - 1] : 0;
}

double bare_cpu_s(int who)
{
    struct rusage u;

    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}
