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
    struct envelope envelope;
    const char *body, *late_text, *reply_queue;
    long timeout_ms;
    char correlation_id[UUID_TEXT];
};

static void print_answer(const char *body, size_t n)
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

    if (!d->message->correlation_id || strcmp(d->message->correlation_id, c->correlation_id) != 0)
        return;
    print_answer(d->message->body, d->message->body_len);
    if (envelope_is_notice(d->message->type)) /* of a turn whose arguments ask for a stream */
        return;
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
    m.body = c->body;
    m.body_len = strlen(c->body);
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

int ctl_call(int argc, char **argv)
{
    const char *user = NULL, *tenant = TENANT_DEFAULT, *role = NULL;
    const struct option_value options[] = {
        {"--user", &user, NULL}, {"--tenant", &tenant, NULL}, {"--role", &role, NULL}, {0}};
    struct call c = {.session.opened = opened, .body = "{}"};
    const struct operation *op;
    int n = ctl_options(options, argc, argv), code;

    if (n != 1 && n != 2) {
        if (n >= 0)
            fputs("usage: chatfleet call OPERATION [--user U] [--tenant T] [--role R] ['{json}']\n",
                  stderr);
        return EXIT_USAGE;
    }
    if (n == 2)
        c.body = argv[1];
    if (check_body(c.body))
        return EXIT_USAGE;
    op = operation_find(argv[0]);
    c.arena = arena_new();
    c.timeout_ms = op ? op->timeout_ms : TIMEOUT_UNKNOWN_MS;
    c.late_text = arena_printf(c.arena, "no answer from %s within %ld ms", argv[0], c.timeout_ms);
    c.envelope.type = argv[0];
    c.envelope.message_id = c.envelope.correlation_id = uuid_v7(c.correlation_id);
    c.reply_queue = arena_printf(c.arena, "%s.call.%s", chat_names.prefix, c.correlation_id);
    c.envelope.reply_to = c.reply_queue;
    c.envelope.tenant_id = tenant;
    c.envelope.user_id = user ? identity_user_id(c.arena, tenant, user) : NULL;
    c.envelope.subject = user && !uuid_valid(user) ? user : NULL;
    c.envelope.roles = role;
    code = ctl_session_run(&c.session);
    arena_free(c.arena);
    return code;
}
