#include "common/chat/envelope.h"

#include <string.h>

#include "common/base/clock.h"

static const char *unless_empty(const char *text)
{
    return text && *text ? text : NULL;
}

static const char *header(const struct mq_message *m, const char *name)
{
    return unless_empty(mq_table_string(&m->headers, name));
}

/* A small number out of a header; what is out of bounds is taken for the nearest bound. */
static int number(const struct mq_message *m, const char *name, int otherwise, int min, int max)
{
    int64_t n = mq_table_int(&m->headers, name, otherwise);

    return n < min ? min : n > max ? max : (int)n;
}

bool envelope_is_notice(const char *type)
{
    static const char *const types[] = {TYPE_ACCEPTED, TYPE_DELTA, TYPE_INTERIM, TYPE_GENERATED};
    size_t i;

    for (i = 0; type && i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(types[i], type) == 0)
            return true;
    return false;
}

void envelope_decode(const struct mq_message *m, struct envelope *out)
{
    memset(out, 0, sizeof(*out));
    out->type = unless_empty(m->type);
    out->message_id = unless_empty(m->message_id);
    out->correlation_id = unless_empty(m->correlation_id);
    out->reply_to = unless_empty(m->reply_to);
    out->user_id = header(m, HEADER_USER);
    out->tenant_id = header(m, HEADER_TENANT);
    out->roles = header(m, HEADER_ROLES);
    out->scope = header(m, HEADER_SCOPE);
    out->tier = header(m, HEADER_TIER);
    out->traceparent = header(m, HEADER_TRACE);
    out->slip = header(m, HEADER_SLIP);
    out->idempotency_key = header(m, HEADER_IDEMPOTENCY);
    out->subject = header(m, HEADER_SUBJECT);
    out->replay_of = header(m, HEADER_REPLAY_OF);
    out->deadline_ms = mq_table_int(&m->headers, HEADER_DEADLINE, 0);
    out->attempt = number(m, HEADER_ATTEMPT, 1, 1, 1000);
    out->epoch = number(m, HEADER_EPOCH, 0, 0, INT32_MAX);
    out->deliveries = number(m, "x-delivery-count", 0, 0, INT32_MAX);
    out->version = number(m, HEADER_VERSION, ENVELOPE_VERSION, 0, INT32_MAX);
    out->held = number(m, HEADER_HELD, 0, 0, INT32_MAX);
}

static void put_text(struct arena *a, struct mq_message *m, const char *name, const char *text)
{
    if (text && *text)
        mq_table_put_string(a, &m->headers, name, text);
}

void envelope_encode(struct arena *a, const struct envelope *env, const char *app_id,
                     struct mq_message *out)
{
    memset(out, 0, sizeof(*out));
    out->content_type = "application/json";
    out->delivery_mode = MESSAGE_PERSISTENT;
    out->type = env->type;
    out->message_id = env->message_id;
    out->correlation_id = env->correlation_id;
    out->reply_to = env->reply_to;
    out->app_id = app_id;
    out->timestamp = (uint64_t)(clock_wall_ms() / 1000);
    put_text(a, out, HEADER_USER, env->user_id);
    put_text(a, out, HEADER_TENANT, env->tenant_id);
    put_text(a, out, HEADER_ROLES, env->roles);
    put_text(a, out, HEADER_SCOPE, env->scope);
    put_text(a, out, HEADER_TIER, env->tier);
    put_text(a, out, HEADER_TRACE, env->traceparent);
    put_text(a, out, HEADER_SLIP, env->slip);
    put_text(a, out, HEADER_IDEMPOTENCY, env->idempotency_key);
    put_text(a, out, HEADER_SUBJECT, env->subject);
    if (env->deadline_ms)
        mq_table_put_int(a, &out->headers, HEADER_DEADLINE, env->deadline_ms);
    if (env->attempt > 1)
        mq_table_put_int(a, &out->headers, HEADER_ATTEMPT, env->attempt);
    if (env->epoch)
        mq_table_put_int(a, &out->headers, HEADER_EPOCH, env->epoch);
    mq_table_put_int(a, &out->headers, HEADER_VERSION, ENVELOPE_VERSION);
}
