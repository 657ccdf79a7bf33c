#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "common/chat/envelope.h"
#include "common/chat/identity.h"
#include "common/chat/operations.h"
#include "common/chat/topology.h"
#include "common/chat/validate.h"
#include "ctl/ctl.h"

enum { TIMEOUT_UNKNOWN_MS = 5000 }; /* of an operation that is not in our table */

struct call {
    struct ctl_session session; /* the first member: a session is its call */
    struct arena *arena;
    const struct ctl_request *request;
    struct envelope envelope;
    const char *late_text, *reply_queue;
    long timeout_ms;
    char correlation_id[UUID_TEXT];
};

void ctl_print_answer(const char *body, size_t n)
{
    json_t *json = json_loadb(body, n, JSON_DECODE_ANY, NULL);

    if (json)
        json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    else
        fwrite(body, 1, n, stdout);
    putchar('\n');
    json_decref(json);
}

static void reply_came(void *arg, const struct mq_delivery *d)
{
    struct call *c = arg;
    int64_t status = mq_table_int(&d->message->headers, HEADER_STATUS, 200);
    bool final;

    if (!d->message->correlation_id || strcmp(d->message->correlation_id, c->correlation_id) != 0)
        return;
    final = !envelope_is_notice(d->message->type); /* of a turn that is streamed */
    c->request->answered(c->request->arg, (int)status, d->message->body, d->message->body_len,
                         final);
    if (final)
        ctl_session_end(&c->session, status < 400 ? EXIT_DONE : EXIT_REFUSED);
}

static void outcome_known(void *arg, enum mq_outcome outcome)
{
    struct call *c = arg;

    /* What is lost with the channel is told by its end. */
    if (outcome == MQ_CONFIRMED || outcome == MQ_LOST || c->session.ended)
        return;
    if (outcome == MQ_RETURNED)
        fprintf(stderr, "chatfleet: no worker of this fleet serves %s\n", c->envelope.type);
    else
        fprintf(stderr, "chatfleet: the broker did not take the message\n");
    ctl_session_end(&c->session, EXIT_UNAVAILABLE);
}

static void consumed(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct call *c = arg;
    struct mq_message m;
    struct err failed;

    (void)reply;
    if (e)
        return; /* the session ends with its channel */
    c->envelope.deadline_ms = clock_wall_ms() + c->timeout_ms;
    envelope_encode(c->arena, &c->envelope, "chatfleet command line", &m);
    m.exchange = exchange_name(EXCHANGE_RPC);
    m.routing_key = c->envelope.type;
    m.body = c->request->body;
    m.body_len = strlen(m.body);
    ctl_session_deadline(&c->session, c->timeout_ms, c->late_text, EXIT_TIMEOUT);
    if (mq_publish(c->session.channel, &m, true, outcome_known, c, &failed) > 0)
        return;
    fprintf(stderr, "chatfleet: %s\n", failed.text);
    ctl_session_end(&c->session, EXIT_UNAVAILABLE);
}

static void opened(struct ctl_session *s)
{
    static const struct mq_consumer_events events = {reply_came, NULL};
    struct call *c = (struct call *)(void *)s;

    mq_queue_declare(s->channel, c->reply_queue, false, true, NULL, NULL, NULL);
    mq_consume(s->channel, c->reply_queue, 0, &events, c, consumed);
}

static int check_body(const char *text)
{
    struct err e;
    json_t *body = validate_parse(text, strlen(text), &e);

    if (!body) {
        fprintf(stderr, "chatfleet: %s\n", e.text);
        return -1;
    }
    json_decref(body);
    return 0;
}

int ctl_request(const struct ctl_request *r)
{
    const struct operation *op = operation_find(r->operation);
    const char *tenant = r->tenant ? r->tenant : TENANT_DEFAULT;
    struct call c = {.session.opened = opened, .request = r, .arena = arena_new()};
    int code;

    c.timeout_ms = op ? op->timeout_ms : TIMEOUT_UNKNOWN_MS;
    c.late_text =
        arena_printf(c.arena, "no answer from %s within %ld ms", r->operation, c.timeout_ms);
    c.envelope.type = r->operation;
    c.envelope.message_id = c.envelope.correlation_id = uuid_v7(c.correlation_id);
    c.reply_queue = arena_printf(c.arena, "%s.call.%s", chat_names.prefix, c.correlation_id);
    c.envelope.reply_to = c.reply_queue;
    c.envelope.tenant_id = tenant;
    c.envelope.user_id = r->user ? identity_user_id(c.arena, tenant, r->user) : NULL;
    c.envelope.subject = r->user && !uuid_valid(r->user) ? r->user : NULL;
    c.envelope.roles = r->role;
    c.envelope.tier = r->tier;
    code = ctl_session_run(&c.session);
    arena_free(c.arena);
    return code;
}

static void print(void *arg, int status, const char *body, size_t n, bool last)
{
    (void)arg;
    (void)status;
    (void)last;
    ctl_print_answer(body, n);
}

int ctl_call(int argc, char **argv)
{
    struct ctl_request r = {.body = "{}", .answered = print};
    const struct option_value options[] = {{"--user", &r.user, NULL},
                                           {"--tenant", &r.tenant, NULL},
                                           {"--role", &r.role, NULL},
                                           {"--tier", &r.tier, NULL},
                                           {0}};
    int n = ctl_options(options, argc, argv);

    if (n != 1 && n != 2) {
        if (n >= 0)
            fputs("usage: chatfleet call OPERATION [--user U] [--tenant T] [--role R] [--tier T] "
                  "['{json}']\n",
                  stderr);
        return EXIT_USAGE;
    }
    r.operation = argv[0];
    if (n == 2)
        r.body = argv[1];
    return check_body(r.body) ? EXIT_USAGE : ctl_request(&r);
}
