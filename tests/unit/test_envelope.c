#include "common/chat/envelope.h"

#include <string.h>

#include "tests/unit/unit.h"

/* The clock of this program: --wrap puts it in the place of the real one. */
int64_t __wrap_clock_wall_ms(void);

int64_t __wrap_clock_wall_ms(void)
{
    return 1750000000999;
}

static const struct envelope full = {.type = "system.echo",
                                     .message_id = "0197…",
                                     .correlation_id = "c-1",
                                     .reply_to = "chat.reply.x",
                                     .user_id = "2ed6657d-e927-568b-95e1-2665a8aea6a2",
                                     .tenant_id = "acme",
                                     .roles = "admin,user",
                                     .scope = "read write",
                                     .tier = "premium",
                                     .traceparent = "00-0af7-b7ad-01",
                                     .slip = "a.b c.d",
                                     .idempotency_key = "order 66",
                                     .subject = "auth0|ada",
                                     .deadline_ms = 1750000005000,
                                     .attempt = 3,
                                     .epoch = 7,
                                     .version = ENVELOPE_VERSION};

static void round_trip(void)
{
    struct arena *a = arena_new();
    struct mq_message m;
    struct envelope e;

    memset(&m, 0x5a, sizeof(m));
    memset(&e, 0x5a, sizeof(e));
    envelope_encode(a, &full, "kind@host:1", &m);
    CU_ASSERT_STRING_EQUAL(m.content_type, "application/json");
    CU_ASSERT_STRING_EQUAL(m.app_id, "kind@host:1");
    CU_ASSERT_EQUAL(m.delivery_mode, MESSAGE_PERSISTENT);
    CU_ASSERT_EQUAL(m.timestamp, 1750000000); /* seconds */
    CU_ASSERT_PTR_NULL(m.exchange);
    CU_ASSERT_PTR_NULL(m.routing_key);
    CU_ASSERT_PTR_NULL(m.body);
    CU_ASSERT_PTR_NULL(m.user_id); /* that property is the broker's own business */

    envelope_decode(&m, &e);
    CU_ASSERT_STRING_EQUAL(e.type, full.type);
    CU_ASSERT_STRING_EQUAL(e.message_id, full.message_id);
    CU_ASSERT_STRING_EQUAL(e.correlation_id, full.correlation_id);
    CU_ASSERT_STRING_EQUAL(e.reply_to, full.reply_to);
    CU_ASSERT_STRING_EQUAL(e.user_id, full.user_id);
    CU_ASSERT_STRING_EQUAL(e.tenant_id, full.tenant_id);
    CU_ASSERT_STRING_EQUAL(e.roles, full.roles);
    CU_ASSERT_STRING_EQUAL(e.scope, full.scope);
    CU_ASSERT_STRING_EQUAL(e.tier, full.tier);
    CU_ASSERT_STRING_EQUAL(e.traceparent, full.traceparent);
    CU_ASSERT_STRING_EQUAL(e.slip, full.slip);
    CU_ASSERT_STRING_EQUAL(e.idempotency_key, full.idempotency_key);
    CU_ASSERT_STRING_EQUAL(e.subject, full.subject);
    CU_ASSERT_EQUAL(e.deliveries, 0);
    CU_ASSERT_EQUAL(e.deadline_ms, full.deadline_ms);
    CU_ASSERT_EQUAL(e.attempt, full.attempt);
    CU_ASSERT_EQUAL(e.epoch, full.epoch);
    CU_ASSERT_EQUAL(e.version, ENVELOPE_VERSION);
    arena_free(a);
}

/* The names on the wire are a contract (docs/PROTOCOL.md). */
static void names_on_the_wire(void)
{
    struct arena *a = arena_new();
    struct mq_message m;

    envelope_encode(a, &full, "kind@host:1", &m);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&m.headers, "x-user-id"), full.user_id);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&m.headers, "x-tenant-id"), full.tenant_id);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&m.headers, "x-roles"), full.roles);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&m.headers, "x-scope"), full.scope);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&m.headers, "x-slip"), full.slip);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&m.headers, "x-idempotency-key"), full.idempotency_key);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&m.headers, "x-subject"), full.subject);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&m.headers, "traceparent"), full.traceparent);
    CU_ASSERT_EQUAL(mq_table_int(&m.headers, "x-deadline", 0), full.deadline_ms);
    CU_ASSERT_EQUAL(mq_table_int(&m.headers, "x-attempt", 0), 3);
    CU_ASSERT_EQUAL(mq_table_int(&m.headers, "x-version", 0), 1);
    arena_free(a);
}

static void defaults(void)
{
    const struct mq_message nothing = {0};
    const struct envelope none = {.attempt = 1};
    struct arena *a = arena_new();
    struct mq_message m;
    struct envelope e;

    memset(&e, 0x5a, sizeof(e));
    envelope_decode(&nothing, &e);
    CU_ASSERT_PTR_NULL(e.type);
    CU_ASSERT_PTR_NULL(e.message_id);
    CU_ASSERT_PTR_NULL(e.correlation_id);
    CU_ASSERT_PTR_NULL(e.reply_to);
    CU_ASSERT_PTR_NULL(e.user_id);
    CU_ASSERT_PTR_NULL(e.tenant_id);
    CU_ASSERT_PTR_NULL(e.roles);
    CU_ASSERT_PTR_NULL(e.scope);
    CU_ASSERT_PTR_NULL(e.traceparent);
    CU_ASSERT_PTR_NULL(e.slip);
    CU_ASSERT_EQUAL(e.deadline_ms, 0);
    CU_ASSERT_EQUAL(e.attempt, 1);
    CU_ASSERT_EQUAL(e.epoch, 0);
    CU_ASSERT_EQUAL(e.version, ENVELOPE_VERSION);

    /* What is not there takes no room on the wire: the version alone does. */
    envelope_encode(a, &none, "x", &m);
    CU_ASSERT_EQUAL(m.headers.n, 1);
    CU_ASSERT_EQUAL(mq_table_int(&m.headers, HEADER_VERSION, 0), ENVELOPE_VERSION);
    arena_free(a);
}

static void empty_texts_are_none(void)
{
    static const char *const names[] = {HEADER_USER,  HEADER_TENANT, HEADER_ROLES,
                                        HEADER_SCOPE, HEADER_TRACE,  HEADER_SLIP};
    const struct envelope empty = {
        .user_id = "", .tenant_id = "", .roles = "", .scope = "", .slip = "", .traceparent = ""};
    struct arena *a = arena_new();
    struct mq_message m = {0};
    struct envelope e;
    size_t i;

    for (i = 0; i < COUNT(names); i++)
        mq_table_put_string(a, &m.headers, names[i], "");
    envelope_decode(&m, &e);
    CU_ASSERT_PTR_NULL(e.user_id);
    CU_ASSERT_PTR_NULL(e.tenant_id);
    CU_ASSERT_PTR_NULL(e.roles);
    CU_ASSERT_PTR_NULL(e.scope);
    CU_ASSERT_PTR_NULL(e.traceparent);
    CU_ASSERT_PTR_NULL(e.slip);
    envelope_encode(a, &empty, "x", &m);
    for (i = 0; i < COUNT(names); i++)
        CU_ASSERT_PTR_NULL(mq_table_get(&m.headers, names[i]));
    arena_free(a);
}

/* ---- numbers from elsewhere ---- */

static struct envelope with(const char *name, int64_t number)
{
    struct arena *a = arena_new();
    struct mq_message m = {0};
    struct envelope e;

    mq_table_put_int(a, &m.headers, name, number);
    envelope_decode(&m, &e);
    arena_free(a);
    return e;
}

static void absurd_numbers_are_clamped(void)
{
    CU_ASSERT_EQUAL(with(HEADER_ATTEMPT, 2).attempt, 2);
    CU_ASSERT_EQUAL(with(HEADER_ATTEMPT, 1000).attempt, 1000);
    CU_ASSERT_EQUAL(with(HEADER_ATTEMPT, 1001).attempt, 1000);
    CU_ASSERT_EQUAL(with(HEADER_ATTEMPT, INT64_MAX).attempt, 1000);
    CU_ASSERT_EQUAL(with(HEADER_ATTEMPT, ((int64_t)1 << 32) + 1).attempt, 1000);
    CU_ASSERT_EQUAL(with(HEADER_ATTEMPT, 0).attempt, 1);
    CU_ASSERT_EQUAL(with(HEADER_ATTEMPT, INT64_MIN).attempt, 1);
    CU_ASSERT_EQUAL(with(HEADER_EPOCH, -1).epoch, 0);
    CU_ASSERT_EQUAL(with(HEADER_EPOCH, INT64_MAX).epoch, INT32_MAX);
    CU_ASSERT_EQUAL(with(HEADER_EPOCH, INT32_MAX).epoch, INT32_MAX);
    /* An unknown version must never be taken for ours. */
    CU_ASSERT_EQUAL(with(HEADER_VERSION, 2).version, 2);
    CU_ASSERT_EQUAL(with(HEADER_VERSION, 0).version, 0);
    CU_ASSERT_EQUAL(with(HEADER_VERSION, -1).version, 0);
    CU_ASSERT_EQUAL(with(HEADER_VERSION, ((int64_t)1 << 32) + 1).version, INT32_MAX);
    CU_ASSERT_EQUAL(with(HEADER_DEADLINE, 1).deadline_ms, 1);
    CU_ASSERT_EQUAL(with(HEADER_DEADLINE, INT64_MAX).deadline_ms, INT64_MAX);
    CU_ASSERT_EQUAL(with(HEADER_DEADLINE, INT64_MIN).deadline_ms, INT64_MIN);
}

/* A header of another type than it should have is as good as none. */
static void other_types(void)
{
    struct mq_field fields[] = {
        {HEADER_ATTEMPT, {.kind = 'S', .text = {"5", 1}}},
        {HEADER_DEADLINE, {.kind = 'd', .real = 1e300}},
        {HEADER_VERSION, {.kind = 'V'}},
        {HEADER_EPOCH, {.kind = 'F'}},
        {HEADER_USER, {.kind = 'I', .integer = 42}},
        {HEADER_SLIP, {.kind = 'A'}},
    };
    const struct mq_message m = {.headers = {fields, COUNT(fields), COUNT(fields)}};
    struct envelope e;

    envelope_decode(&m, &e);
    CU_ASSERT_EQUAL(e.attempt, 1);
    CU_ASSERT_EQUAL(e.deadline_ms, 0);
    CU_ASSERT_EQUAL(e.version, ENVELOPE_VERSION);
    CU_ASSERT_EQUAL(e.epoch, 0);
    CU_ASSERT_PTR_NULL(e.user_id);
    CU_ASSERT_PTR_NULL(e.slip);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"round trip", round_trip},
        {"names on the wire", names_on_the_wire},
        {"defaults", defaults},
        {"empty texts are none", empty_texts_are_none},
        {"absurd numbers are clamped", absurd_numbers_are_clamped},
        {"other types", other_types},
        CU_TEST_INFO_NULL,
    };

    return unit_main("envelope", tests);
}
