/* A dead letter understood, chosen, written as a line and made a message again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/config.h"
#include "common/chat/envelope.h"
#include "common/chat/topology.h"
#include "ctl/dlq_again.h"
#include "ctl/dlq_file.h"
#include "ctl/dlq_filter.h"
#include "tests/unit/unit.h"

#define ID       "7003de2a-7567-52d8-8709-bd77359c0acd"
#define OTHER_ID "a003de2a-7567-52d8-8709-bd77359c0acd"

static struct arena *arena;

/* As a worker leaves it. */
static struct mq_message worker_letter(const char *body)
{
    struct mq_message m = {.type = "inference.generate",
                           .message_id = "m-1",
                           .correlation_id = "c-1",
                           .reply_to = "chat.reply.x",
                           .expiration = "5",
                           .body = body,
                           .body_len = strlen(body)};

    mq_table_put_string(arena, &m.headers, HEADER_TENANT, "acme");
    mq_table_put_string(arena, &m.headers, HEADER_USER, "4B17B5FC-dd05-40dd-92d5-158c626fd90b");
    mq_table_put_string(arena, &m.headers, HEADER_SLIP, "message.commit");
    mq_table_put_string(arena, &m.headers, HEADER_ERROR_KIND, "retry");
    mq_table_put_string(arena, &m.headers, HEADER_ERROR, "the model said 503: a/b");
    mq_table_put_string(arena, &m.headers, HEADER_FAILED_AT, "2026-11-20T23:45:10.123Z");
    mq_table_put_string(arena, &m.headers, HEADER_FIRST_FAIL, "2026-11-20T23:40:00.000Z");
    mq_table_put_string(arena, &m.headers, HEADER_QUEUE, "inference");
    mq_table_put_string(arena, &m.headers, HEADER_DEAD_LETTER, ID);
    mq_table_put_int(arena, &m.headers, HEADER_ATTEMPT, 3);
    mq_table_put_int(arena, &m.headers, HEADER_EPOCH, 4);
    mq_table_put_int(arena, &m.headers, HEADER_DEADLINE, 99);
    return m;
}

static void put_death(struct mq_message *m, const char *queue, const char *reason, int64_t time)
{
    struct mq_table death = {0};
    struct mq_value *item = arena_alloc(arena, sizeof(*item));

    mq_table_put_string(arena, &death, "queue", queue);
    mq_table_put_string(arena, &death, "reason", reason);
    mq_table_put_int(arena, &death, "time", time);
    item->kind = 'F';
    item->table = death;
    mq_table_put_bool(arena, &m->headers, "x-death", true);
    m->headers.fields[m->headers.n - 1].value =
        (struct mq_value){.kind = 'A', .array = {.items = item, .n = 1}};
}

static void reading(void)
{
    struct mq_message m = worker_letter("{}"), other = worker_letter("{ }"), bare = {.body = ""};
    struct letter l, again, second;

    letter_read(&l, "inference", &m);
    CU_ASSERT_EQUAL(l.origin, LETTER_WORKER);
    CU_ASSERT_STRING_EQUAL(l.id, ID);
    CU_ASSERT_STRING_EQUAL(l.error, "the model said 503: a/b");
    CU_ASSERT_EQUAL(l.failed_ms, 1795218310123);
    CU_ASSERT_EQUAL(l.attempt, 3);
    letter_read(&second, "inference", &other);
    CU_ASSERT_STRING_NOT_EQUAL(l.print, second.print); /* the id is the same, the letter is not */

    put_death(&m, "inference.retry.1s", "expired", 5); /* not of its queue */
    letter_read(&l, "inference", &m);
    CU_ASSERT_EQUAL(l.origin, LETTER_WORKER);
    put_death(&m, "inference", "delivery_limit", 1795218311);
    letter_read(&l, "inference", &m);
    CU_ASSERT_EQUAL(l.origin, LETTER_BROKER);
    CU_ASSERT_STRING_EQUAL(l.error, "delivery_limit");
    CU_ASSERT_STRING_NOT_EQUAL(l.id, ID); /* that header is of an earlier failure */
    CU_ASSERT_FALSE(l.indistinct);
    letter_read(&again, "inference", &m);
    CU_ASSERT_STRING_EQUAL(l.id, again.id);
    put_death(&m, "inference", "delivery_limit", 1795218312);
    letter_read(&again, "inference", &m);
    CU_ASSERT_STRING_NOT_EQUAL(l.id, again.id);

    letter_read(&l, "inference", &bare);
    CU_ASSERT_EQUAL(l.origin, LETTER_FOREIGN);
    CU_ASSERT_TRUE(l.indistinct);
    CU_ASSERT_PTR_NULL(l.operation);
    CU_ASSERT_EQUAL(l.failed_ms, 0);
}

static bool chosen(struct filter_text text, const char *body)
{
    struct mq_message m = worker_letter(body);
    struct filter f;
    struct letter l;
    struct err e;
    bool yes;

    CU_ASSERT_EQUAL_FATAL(filter_parse(&f, &text, 1795218400000, &e), 0);
    letter_read(&l, "inference", &m);
    yes = filter_wants_queue(&f, "inference") && filter_matches(&f, &l);
    filter_free(&f);
    return yes;
}

#define CHOSEN(body, ...) chosen((struct filter_text){__VA_ARGS__}, body)

static void choosing(void)
{
    CU_ASSERT_TRUE(CHOSEN("{}", .queue = NULL));
    CU_ASSERT_TRUE(CHOSEN("{}", .queue = "inference.dlq"));
    CU_ASSERT_FALSE(CHOSEN("{}", .queue = "persistence"));
    CU_ASSERT_TRUE(CHOSEN("{}", .operation = "inference.*"));
    CU_ASSERT_TRUE(CHOSEN("{}", .error = "*503*"));
    CU_ASSERT_FALSE(CHOSEN("{}", .error = "503"));
    CU_ASSERT_TRUE(CHOSEN("{}", .user = "4b17b5fc-dd05-40dd-92d5-158c626fd90b"));
    CU_ASSERT_TRUE(CHOSEN("{}", .ids = ID));
    CU_ASSERT_TRUE(CHOSEN("{}", .ids = OTHER_ID "," ID));
    CU_ASSERT_TRUE(CHOSEN("{}", .ids = "7003DE2A-7567-52D8-8709-BD77359C0ACD"));
    CU_ASSERT_FALSE(CHOSEN("{}", .ids = OTHER_ID));
    CU_ASSERT_TRUE(CHOSEN("{}", .since = "90s"));
    CU_ASSERT_FALSE(CHOSEN("{}", .since = "89s"));
    CU_ASSERT_FALSE(CHOSEN("{}", .until = "90s"));
    CU_ASSERT_TRUE(CHOSEN("{}", .until = "89s"));
    CU_ASSERT_TRUE(CHOSEN("{\"a\": {\"b/c\": [1, {\"~\": \"x\"}]}}", .where = "/a/b~1c/1/~0=x"));
    CU_ASSERT_TRUE(CHOSEN("{\"n\": 5}", .where = "/n=5"));
    CU_ASSERT_TRUE(CHOSEN("{\"n\": \"5\"}", .where = "/n=5"));
    CU_ASSERT_TRUE(CHOSEN("{\"n\": {\"m\": null}}", .where = "/n={\"m\":null}"));
    CU_ASSERT_TRUE(CHOSEN("{\"n\": \"a=b\"}", .where = "/n=a=b"));
    CU_ASSERT_TRUE(CHOSEN("{\"\": \"x\"}", .where = "/=x"));
    CU_ASSERT_FALSE(CHOSEN("{\"n\": [1]}", .where = "/n/01=1"));
    CU_ASSERT_FALSE(CHOSEN("{\"n\": [1]}", .where = "/n/1=1"));
    CU_ASSERT_FALSE(CHOSEN("no json", .where = "/n=5"));
    CU_ASSERT_TRUE(CHOSEN("5", .where = "=5"));
}

static void wrong_filters(void)
{
    static const struct filter_text wrong[] = {
        {.queue = "chat"},
        {.queue = ".dlq"},
        {.since = "soon"},
        {.until = ""},
        {.where = "title"},
        {.where = "title=x"},
        {.where = "/~=x"},
        {.where = "/~2=x"},
        {.limit = "many"},
        {.ids = "x"},
        {.ids = ID ","},
        {.ids = ID " " OTHER_ID},
        {.user = "bob"},
        {.since = "1h", .until = "2h"},
        {.since = "2026-11-21", .until = "2026-11-21"},
    };
    struct filter f;
    struct err e;
    size_t i;

    for (i = 0; i < COUNT(wrong); i++) {
        CU_ASSERT_EQUAL(filter_parse(&f, &wrong[i], 0, &e), -1);
        CU_ASSERT_EQUAL(strncmp(e.text, "--", 2), 0);
        filter_free(&f);
    }
}

static void again(void)
{
    struct mq_message m = worker_letter("{\"turn\": 1}"), out;
    struct dlq_options o = {.rate = 0};
    struct letter l;
    struct err e;
    static const char *const gone[] = {HEADER_ERROR,       HEADER_ERROR_KIND, HEADER_FAILED_AT,
                                       HEADER_DEAD_LETTER, HEADER_ATTEMPT,    HEADER_DEADLINE,
                                       HEADER_QUEUE,       "x-death"};
    size_t i;

    letter_read(&l, "inference", &m);
    CU_ASSERT_EQUAL(again_make(arena, &l, &o, "chat.replay.r", &out, &e), 0);
    CU_ASSERT_STRING_EQUAL(out.exchange, "");
    CU_ASSERT_STRING_EQUAL(out.routing_key, "inference");
    CU_ASSERT_STRING_EQUAL(out.reply_to, "chat.replay.r");
    CU_ASSERT_STRING_EQUAL(out.message_id, "m-1");
    CU_ASSERT_STRING_EQUAL(out.correlation_id, "c-1");
    CU_ASSERT_PTR_NULL(out.expiration);
    CU_ASSERT_EQUAL(out.delivery_mode, 2);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&out.headers, HEADER_REPLAY_OF), ID);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&out.headers, HEADER_SLIP), "message.commit");
    CU_ASSERT_PTR_NOT_NULL(mq_table_get(&out.headers, HEADER_FIRST_FAIL));
    CU_ASSERT_EQUAL(mq_table_int(&out.headers, HEADER_EPOCH, 0), 5);
    for (i = 0; i < COUNT(gone); i++)
        CU_ASSERT_PTR_NULL(mq_table_get(&out.headers, gone[i]));
    CU_ASSERT_PTR_NOT_NULL(mq_table_get(&m.headers, HEADER_ERROR)); /* the letter is as it was */

    put_death(&m, "inference", "delivery_limit", 1795218311);
    m.correlation_id = NULL;
    letter_read(&l, "inference", &m);
    o.to = operation_find("message.send");
    CU_ASSERT_EQUAL(again_make(arena, &l, &o, NULL, &out, &e), 0);
    CU_ASSERT_STRING_EQUAL(out.exchange, "chat.rpc");
    CU_ASSERT_STRING_EQUAL(out.type, "message.send");
    CU_ASSERT_STRING_EQUAL(out.routing_key, "message.send");
    CU_ASSERT_STRING_EQUAL(out.correlation_id, l.id);
    CU_ASSERT_PTR_NULL(out.reply_to);
    o.to = NULL;
    CU_ASSERT_EQUAL(again_make(arena, &l, &o, NULL, &out, &e), 0);
    CU_ASSERT(mq_table_int(&out.headers, HEADER_EPOCH, 0) > 4 + WORK_DELIVERY_LIMIT);

    o.edit = json_pack("{s:n, s:i}", "turn", "b", 2);
    CU_ASSERT_EQUAL(again_make(arena, &l, &o, NULL, &out, &e), 0);
    CU_ASSERT_EQUAL(out.body_len, strlen("{\"b\":2}"));
    CU_ASSERT_NSTRING_EQUAL(out.body, "{\"b\":2}", out.body_len);
    m.body = "{";
    m.body_len = 1;
    CU_ASSERT_EQUAL(again_make(arena, &l, &o, NULL, &out, &e), -1);
    CU_ASSERT_EQUAL(e.kind, ERR_REJECT);
    json_decref(o.edit);
}

/* The examples of RFC 7396, appendix A. */
static void merging(void)
{
    static const char *const cases[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"a\":1,\"e\":null}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
    };
    size_t i;

    for (i = 0; i < COUNT(cases); i++) {
        json_t *value = json_loads(cases[i][0], JSON_DECODE_ANY, NULL);
        json_t *patch = json_loads(cases[i][1], JSON_DECODE_ANY, NULL);
        json_t *wanted = json_loads(cases[i][2], JSON_DECODE_ANY, NULL);
        json_t *merged = again_merge(value, patch);

        CU_ASSERT_TRUE(json_equal(merged, wanted));
        json_decref(merged);
        json_decref(wanted);
        json_decref(patch);
        json_decref(value);
    }
}

/* Every type of header, and bytes that are no text. */
static void put_odd_headers(struct mq_table *t)
{
    static const char letters[] = "bBsuIilLT";
    struct mq_value *items = arena_alloc(arena, 2 * sizeof(*items));
    struct mq_table inner = {0};
    char name[2] = "";
    size_t i;

    for (i = 0; letters[i]; i++) {
        name[0] = letters[i];
        mq_table_put_int(arena, t, arena_strdup(arena, name), -(int64_t)i);
        t->fields[t->n - 1].value.kind = letters[i];
    }
    mq_table_put_int(arena, t, "long", INT64_MIN);
    mq_table_put_bool(arena, t, "yes", true);
    mq_table_put_bool(arena, t, "real", true);
    t->fields[t->n - 1].value = (struct mq_value){.kind = 'd', .real = 0.1};
    mq_table_put_bool(arena, t, "infinite", true);
    t->fields[t->n - 1].value = (struct mq_value){.kind = 'd', .real = INFINITY};
    mq_table_put_bool(arena, t, "float", true);
    t->fields[t->n - 1].value = (struct mq_value){.kind = 'f', .real = (double)0.1f};
    mq_table_put_bool(arena, t, "decimal", true);
    t->fields[t->n - 1].value = (struct mq_value){.kind = 'D', .integer = 314, .scale = 2};
    mq_table_put_bool(arena, t, "nothing", true);
    t->fields[t->n - 1].value = (struct mq_value){.kind = 'V'};
    mq_table_put_bool(arena, t, "bytes", true);
    t->fields[t->n - 1].value = (struct mq_value){.kind = 'x', .text = {"\xff\0\x01", 3}};
    mq_table_put_string(arena, &inner, "deep\xff", "ü");
    mq_table_put_table(arena, t, "table", &inner);
    items[0] = (struct mq_value){.kind = 'S', .text = {"", 0}};
    items[1] = (struct mq_value){.kind = 'F', .table = inner};
    mq_table_put_bool(arena, t, "list", true);
    t->fields[t->n - 1].value = (struct mq_value){.kind = 'A', .array = {items, 2}};
}

static void lines(void)
{
    struct mq_message m = worker_letter(""), back;
    struct letter l, read;
    json_t *line, *second;
    struct err e;
    char *text;

    put_odd_headers(&m.headers);
    m.body = "\x00\xfe z";
    m.body_len = 4;
    m.app_id = "caf\xe9";
    m.timestamp = 1795218310;
    m.priority = 3;
    letter_read(&l, "inference", &m);
    line = file_from_letter(&l);
    text = json_dumps(line, JSON_COMPACT);
    second = json_loads(text, 0, NULL);
    CU_ASSERT_EQUAL_FATAL(file_to_letter(arena, second, &back, &read, &e), 0);
    CU_ASSERT_STRING_EQUAL(read.id, l.id);
    CU_ASSERT_STRING_EQUAL(read.print, l.print);
    CU_ASSERT_STRING_EQUAL(back.app_id, m.app_id);
    CU_ASSERT_EQUAL(back.body_len, 4);
    CU_ASSERT_EQUAL(memcmp(back.body, m.body, 4), 0);
    CU_ASSERT_EQUAL(back.headers.n, m.headers.n);
    CU_ASSERT_EQUAL(mq_table_get(&back.headers, "real")->real, 0.1);
    CU_ASSERT_EQUAL(mq_table_get(&back.headers, "infinite")->real, (double)INFINITY);
    CU_ASSERT_EQUAL(mq_table_get(&back.headers, "decimal")->scale, 2);
    CU_ASSERT_EQUAL(mq_table_get(&back.headers, "bytes")->text.len, 3);
    json_decref(second);
    second = file_from_letter(&read);
    CU_ASSERT_TRUE(json_equal(line, second)); /* each header with its type and in its place */
    json_decref(second);
    json_decref(line);
    free(text);
}

static void wrong_lines(void)
{
    static const char *const wrong[][2] = {
        {"[]", "object"},
        {"{}", "id"},
        {"{\"id\":\"" ID "\"}", "queue"},
        {"{\"id\":\"" ID "\",\"queue\":\"inference\"}", "properties"},
        {"{\"id\":\"" ID "\",\"queue\":\"inference\",\"properties\":{}}", "headers"},
        {"{\"id\":\"" ID "\",\"queue\":\"inference\",\"properties\":{},\"headers\":[]}", "body"},
        {"{\"id\":\"" ID "\",\"queue\":\"inference\",\"properties\":{\"type\":5},\"headers\":[],"
         "\"body\":\"\"}",
         "type"},
        {"{\"id\":\"" ID "\",\"queue\":\"inference\",\"properties\":{\"priority\":256},\"headers\":"
         "[],\"body\":\"\"}",
         "priority"},
        {"{\"id\":\"" ID "\",\"queue\":\"inference\",\"properties\":{},\"headers\":[[\"h\",\"SS\","
         "1]],\"body\":\"\"}",
         "h: the type"},
        {"{\"id\":\"" ID "\",\"queue\":\"inference\",\"properties\":{},\"headers\":[],\"body\":{"
         "\"base64\":\"abc\"}}",
         "body"},
        {"{\"id\":\"" ID "\",\"queue\":\"inference\",\"properties\":{},\"headers\":[],\"body\":"
         "\"\"}",
         "id: it is not that of this letter"},
    };
    struct mq_message m;
    struct letter l;
    struct err e;
    size_t i;

    for (i = 0; i < COUNT(wrong); i++) {
        json_t *line = json_loads(wrong[i][0], 0, NULL);

        e.text[0] = '\0';
        CU_ASSERT_EQUAL(file_to_letter(arena, line, &m, &l, &e), -1);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, wrong[i][1]));
        json_decref(line);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"reading", reading},         {"choosing", choosing}, {"wrong filters", wrong_filters},
        {"the message again", again}, {"merging", merging},   {"lines", lines},
        {"wrong lines", wrong_lines}, CU_TEST_INFO_NULL,
    };
    struct err e;
    int code;

    if (config_load(&chat_names_section, 1, &e))
        return 1;
    arena = arena_new();
    code = unit_main("dlq", tests);
    arena_free(arena);
    config_free(&chat_names_section, 1);
    return code;
}
