#include "common/io/amqp.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fakes/wire.h"
#include "tests/unit/unit.h"

enum { MESSAGE_MAX = 2000, STREAM_MAX = 1 << 22 };

/* ---- everything that came, as text ---- */

static void show_table(struct buf *out, const struct mq_table *t);

static void show_value(struct buf *out, const struct mq_value *v)
{
    size_t i;

    buf_printf(out, "%c:", v->kind);
    if (v->kind == 'F') {
        show_table(out, &v->table);
    } else if (v->kind == 'A') {
        for (i = 0; i < v->array.n; i++)
            show_value(out, &v->array.items[i]);
        buf_puts(out, "]");
    } else if (v->kind == 'S' || v->kind == 'x') {
        buf_printf(out, "%zu:", v->text.len);
        buf_add(out, v->text.data, v->text.len + 1); /* with its NUL, which must be there */
    } else if (v->kind == 'f' || v->kind == 'd') {
        buf_printf(out, "%a", v->real);
    } else if (v->kind == 'D') {
        buf_printf(out, "%lld/%d", (long long)v->integer, v->scale);
    } else if (v->kind != 'V') {
        buf_printf(out, "%lld", (long long)v->integer);
    }
    buf_puts(out, ";");
}

static void show_table(struct buf *out, const struct mq_table *t)
{
    size_t i;

    buf_puts(out, "{");
    for (i = 0; i < t->n; i++) {
        buf_printf(out, "%s=", t->fields[i].name);
        show_value(out, &t->fields[i].value);
    }
    buf_puts(out, "}");
}

static void show_message(struct buf *out, const struct mq_message *m)
{
    const char *const texts[] = {m->exchange,         m->routing_key,    m->content_type,
                                 m->content_encoding, m->correlation_id, m->reply_to,
                                 m->expiration,       m->message_id,     m->type,
                                 m->user_id,          m->app_id};
    size_t i;

    for (i = 0; i < COUNT(texts); i++)
        buf_printf(out, "%s|", texts[i] ? texts[i] : "(null)");
    buf_printf(out, "%llu|%d|%d|", (unsigned long long)m->timestamp, m->delivery_mode, m->priority);
    show_table(out, &m->headers);
    buf_printf(out, "%zu:", m->body_len);
    buf_add(out, m->body, m->body_len);
}

static void show(struct buf *out, const struct codec_in *in)
{
    buf_printf(out, "%d ch%d code%d tag%llu flag%d plain%d %s %s %d/%d/%d %u/%u over%d ", in->kind,
               in->channel, in->code, (unsigned long long)in->tag, in->flag, in->plain,
               in->text ? in->text : "-", in->version ? in->version : "-", in->channel_max,
               in->frame_max, in->heartbeat, in->messages, in->consumers, in->oversized);
    if (in->kind == CODEC_DELIVER || in->kind == CODEC_RETURN)
        show_message(out, &in->message);
    buf_puts(out, "\n");
}

/* Feed n bytes; what came is appended to out (may be NULL). Returns -1 at the first error. */
static int feed(struct codec *c, const char *data, size_t n, struct buf *out, struct err *e)
{
    char *copy; /* of its own size, so that the sanitizer sees a read beyond */
    size_t used;
    int failed = 0;

    while (n > 0 && !failed) {
        struct codec_in in;

        copy = malloc(n);
        CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
        memcpy(copy, data, n);
        failed = codec_next(c, copy, n, &used, &in, e);
        free(copy); /* what came does not point into it */
        if (!failed && used == 0)
            CU_FAIL_FATAL("the codec stands still");
        if (!failed && in.kind != CODEC_NOTHING && out)
            show(out, &in);
        data += used;
        n -= used;
    }
    return failed;
}

/* ---- samples ---- */

static void set(struct arena *a, struct mq_table *t, const char *name, struct mq_value v)
{
    mq_table_put_int(a, t, name, 0);
    *(struct mq_value *)(uintptr_t)mq_table_get(t, name) = v;
}

#define INTEGER(letter, number) ((struct mq_value){.kind = (letter), .integer = (number)})

/* Every type of field that there is, in a table in an array in a table. */
static void every_field(struct arena *a, struct mq_table *t)
{
    struct mq_value *items = arena_alloc(a, 4 * sizeof(*items));
    struct mq_table inner = {0};

    set(a, t, "true", INTEGER('t', 1));
    set(a, t, "false", INTEGER('t', 0));
    set(a, t, "b", INTEGER('b', -128));
    set(a, t, "B", INTEGER('B', 255));
    set(a, t, "s", INTEGER('s', -32768));
    set(a, t, "u", INTEGER('u', 65535));
    set(a, t, "I", INTEGER('I', INT32_MIN));
    set(a, t, "i", INTEGER('i', UINT32_MAX));
    set(a, t, "l", INTEGER('l', INT64_MIN));
    set(a, t, "L", INTEGER('L', -1)); /* 2^64 - 1 */
    set(a, t, "T", INTEGER('T', 1750000000));
    set(a, t, "f", (struct mq_value){.kind = 'f', .real = 0.15625});
    set(a, t, "d", (struct mq_value){.kind = 'd', .real = -1e300});
    set(a, t, "D", (struct mq_value){.kind = 'D', .integer = 314159, .scale = 5});
    set(a, t, "V", (struct mq_value){.kind = 'V'});
    set(a, t, "x", (struct mq_value){.kind = 'x', .text = {"by\0tes\xff", 7}});
    set(a, t, "empty", (struct mq_value){.kind = 'S', .text = {"", 0}});
    mq_table_put_string(a, &inner, "x-death", "\xe2\x82\xac");
    set(a, &inner, "none", (struct mq_value){.kind = 'F'});
    items[0] = INTEGER('l', 5);
    items[1] = (struct mq_value){.kind = 'F', .table = inner};
    items[2] = (struct mq_value){.kind = 'A'};
    items[3] = (struct mq_value){.kind = 'S', .text = {"last", 4}};
    set(a, t, "A", (struct mq_value){.kind = 'A', .array = {items, 4}});
    set(a, t, "F", (struct mq_value){.kind = 'F', .table = inner});
}

static void sample(struct arena *a, struct mq_message *m)
{
    *m = (struct mq_message){.exchange = "chat.rpc",
                             .routing_key = "message.send",
                             .content_type = "application/json",
                             .content_encoding = "identity",
                             .correlation_id = "c-1",
                             .reply_to = "chat.reply.1",
                             .expiration = "60000",
                             .message_id = "m-1",
                             .type = "message.send",
                             .user_id = "guest",
                             .app_id = "unit",
                             .timestamp = 1750000000,
                             .delivery_mode = 2,
                             .priority = 9,
                             .body = "{\"a\":\"b\0c\"}",
                             .body_len = 11};
    every_field(a, &m->headers);
}

/* What a broker makes of a published message: its content behind a deliver of its own. */
static void deliver(struct buf *out, int channel, const struct mq_message *m)
{
    struct codec *c = codec_new(MESSAGE_MAX);
    struct wire_in in;
    struct buf published;
    size_t n;

    buf_init(&published, STREAM_MAX);
    CU_ASSERT_EQUAL(codec_put_publish(c, &published, (uint16_t)channel, m, true, NULL), 0);
    n = wire_next(published.data, published.len, &in);
    CU_ASSERT_EQUAL(in.method, WIRE(60, 40));
    wire_method(out, channel, WIRE(60, 60), "sqoss", "c1", (uint64_t)1 << 40, 1, m->exchange,
                m->routing_key);
    buf_add(out, published.data + n, published.len - n);
    buf_free(&published);
    codec_free(c);
}

/* One of everything that a broker may say, two messages interleaved. */
static void conversation(struct buf *out)
{
    struct arena *a = arena_new();
    struct mq_message m;
    struct buf one, two;
    struct wire_in in;
    size_t n;

    wire_method(out, 0, WIRE(10, 10), "ootSS", 0, 9, "AMQPLAIN PLAIN", "en_US");
    wire_method(out, 0, WIRE(10, 30), "hlh", 2047, 131072u, 60);
    wire_method(out, 0, WIRE(10, 41), "s", "");
    wire_method(out, 1, WIRE(20, 11), "t");
    wire_method(out, 1, WIRE(50, 11), "sll", "persistence", 17u, 3u);
    wire_method(out, 1, WIRE(60, 21), "s", "c1");
    wire_method(out, 1, WIRE(60, 80), "qo", (uint64_t)12345678901, 1);
    wire_method(out, 1, WIRE(60, 120), "qoo", (uint64_t)7, 0, 0);
    wire_frame(out, WIRE_HEARTBEAT, 0, "", 0);
    sample(a, &m);
    deliver(out, 1, &m);
    buf_init(&one, STREAM_MAX);
    buf_init(&two, STREAM_MAX);
    wire_deliver(&one, 1, "c1", 1, "x", "one", "first body");
    wire_method(&two, 2, WIRE(60, 50), "hsss", 312, "NO_ROUTE", "x", "two");
    wire_content(&two, 2, "", 0);
    n = wire_next(one.data, one.len, &in);
    n += wire_next(one.data + n, one.len - n, &in);
    buf_add(out, one.data, n);
    buf_add(out, two.data, two.len);
    wire_frame(out, WIRE_HEARTBEAT, 0, "", 0);
    buf_add(out, one.data + n, one.len - n);
    buf_free(&one);
    buf_free(&two);
    wire_method(out, 0, WIRE(10, 60), "s", "low on memory");
    wire_method(out, 0, WIRE(10, 61), "");
    wire_method(out, 2, WIRE(60, 30), "so", "c1", 1);
    wire_method(out, 1, WIRE(20, 20), "o", 0);
    wire_method(out, 1, WIRE(20, 40), "hshh", 404, "NOT_FOUND", 50, 10);
    wire_method(out, 1, WIRE(20, 41), "");
    wire_method(out, 0, WIRE(10, 50), "hshh", 320, "CONNECTION_FORCED", 0, 0);
    wire_method(out, 0, WIRE(10, 51), "");
    arena_free(a);
}

/* ---- tests ---- */

static void messages_stay_what_they_are(void)
{
    struct arena *a = arena_new(), *b = arena_new();
    struct buf stream, shown, expected;
    struct codec *c = codec_new(MESSAGE_MAX);
    struct mq_message m, copy;
    struct codec_in in;
    struct err e;
    size_t used;

    buf_init(&stream, STREAM_MAX);
    buf_init(&shown, STREAM_MAX);
    buf_init(&expected, STREAM_MAX);
    sample(a, &m);
    show_message(&expected, &m);
    mq_message_copy(b, &copy, &m);
    CU_ASSERT(copy.exchange != m.exchange && copy.routing_key != m.routing_key);
    CU_ASSERT(copy.content_type != m.content_type && copy.content_encoding != m.content_encoding);
    CU_ASSERT(copy.correlation_id != m.correlation_id && copy.reply_to != m.reply_to);
    CU_ASSERT(copy.expiration != m.expiration && copy.message_id != m.message_id);
    CU_ASSERT(copy.type != m.type && copy.user_id != m.user_id && copy.app_id != m.app_id);
    CU_ASSERT(copy.body != m.body);
    memset((char *)(uintptr_t)m.headers.fields, 0x55, m.headers.n * sizeof(*m.headers.fields));
    arena_free(a); /* nothing of the copy points there */
    show_message(&shown, &copy);
    CU_ASSERT_EQUAL(shown.len, expected.len);
    CU_ASSERT_EQUAL(memcmp(shown.data, expected.data, shown.len), 0);
    CU_ASSERT(copy.headers.room > copy.headers.n);
    CU_ASSERT_EQUAL(copy.body[copy.body_len], '\0');

    deliver(&stream, 3, &copy);
    CU_ASSERT_EQUAL_FATAL(codec_next(c, stream.data, stream.len, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(used, stream.len);
    CU_ASSERT_EQUAL(in.kind, CODEC_DELIVER);
    CU_ASSERT_EQUAL(in.channel, 3);
    CU_ASSERT_EQUAL(in.tag, (uint64_t)1 << 40);
    CU_ASSERT_TRUE(in.flag);
    CU_ASSERT_STRING_EQUAL(in.text, "c1");
    buf_clear(&shown);
    show_message(&shown, &in.message);
    CU_ASSERT_EQUAL(shown.len, expected.len);
    CU_ASSERT_EQUAL(memcmp(shown.data, expected.data, shown.len), 0);
    codec_free(c);
    arena_free(b);
    buf_free(&stream);
    buf_free(&shown);
    buf_free(&expected);
}

static void a_bare_message(void)
{
    struct mq_message m = {.exchange = "", .routing_key = "q", .body = "", .body_len = 0};
    struct codec *c = codec_new(MESSAGE_MAX);
    struct codec_in in;
    struct buf stream;
    struct err e;
    size_t used;

    buf_init(&stream, STREAM_MAX);
    deliver(&stream, 1, &m);
    CU_ASSERT_EQUAL_FATAL(codec_next(c, stream.data, stream.len, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.kind, CODEC_DELIVER);
    CU_ASSERT_STRING_EQUAL(in.message.exchange, "");
    CU_ASSERT_STRING_EQUAL(in.message.routing_key, "q");
    CU_ASSERT_PTR_NULL(in.message.message_id);
    CU_ASSERT_PTR_NULL(in.message.reply_to);
    CU_ASSERT_EQUAL(in.message.headers.n, 0);
    CU_ASSERT_EQUAL(in.message.delivery_mode, 0);
    CU_ASSERT_STRING_EQUAL(in.message.body, "");
    codec_free(c);
    buf_free(&stream);
}

static void tables(void)
{
    struct arena *a = arena_new();
    struct mq_table t = {0};
    char name[100][16];
    int i;

    CU_ASSERT_PTR_NULL(mq_table_get(&t, "x"));
    for (i = 0; i < 100; i++) {
        snprintf(name[i], sizeof(name[i]), "n%d", i);
        mq_table_put_int(a, &t, name[i], i);
    }
    CU_ASSERT_EQUAL(t.n, 100);
    for (i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(mq_table_int(&t, name[i], -1), i);
    mq_table_put_string(a, &t, "n50", "text"); /* another type in its place */
    CU_ASSERT_EQUAL(t.n, 100);
    CU_ASSERT_STRING_EQUAL(mq_table_string(&t, "n50"), "text");
    CU_ASSERT_EQUAL(mq_table_int(&t, "n50", -7), -7);
    CU_ASSERT_PTR_NULL(mq_table_string(&t, "n51"));
    CU_ASSERT_PTR_NULL(mq_table_string(&t, "no"));
    mq_table_put_bool(a, &t, "n51", true);
    CU_ASSERT_EQUAL(mq_table_get(&t, "n51")->kind, 't');
    CU_ASSERT_EQUAL(mq_table_get(&t, "n51")->integer, 1);
    mq_table_remove(&t, "n0");
    mq_table_remove(&t, "n99");
    mq_table_remove(&t, "no");
    CU_ASSERT_EQUAL(t.n, 98);
    CU_ASSERT_PTR_NULL(mq_table_get(&t, "n99"));
    CU_ASSERT_STRING_EQUAL(t.fields[0].name, "n1");
    arena_free(a);
}

static void check_address(const char *url, const char *user, const char *password, const char *host,
                          int port, const char *vhost, bool tls)
{
    struct mq_address a;
    struct err e;

    CU_ASSERT_EQUAL(mq_address_parse(url, &a, &e), 0);
    if (!a.host)
        return;
    CU_ASSERT_STRING_EQUAL(a.user, user);
    CU_ASSERT_STRING_EQUAL(a.password, password);
    CU_ASSERT_STRING_EQUAL(a.host, host);
    CU_ASSERT_STRING_EQUAL(a.vhost, vhost);
    CU_ASSERT_EQUAL(a.port, port);
    CU_ASSERT_EQUAL(a.tls, tls);
    mq_address_free(&a);
    CU_ASSERT_PTR_NULL(a.password);
}

static void addresses(void)
{
    static const char *const wrong[] = {"",
                                        "http://host/",
                                        "host:5672",
                                        "amqp:/host",
                                        "amqp://u:sesame@host:port/",
                                        "amqp://u:sesame@host:70000/",
                                        "amqp://u:sesame@host/a/b"};
    struct mq_address a;
    struct err e;
    size_t i;

    check_address("amqp://u:p@h:1234/v", "u", "p", "h", 1234, "v", false);
    check_address("amqp://h", "guest", "guest", "h", 5672, "/", false);
    check_address("amqp://h/", "guest", "guest", "h", 5672, "/", false);
    check_address("amqp://h/%2f", "guest", "guest", "h", 5672, "/", false);
    check_address("amqps://u:p%40%3a%2F@h/my%20host", "u", "p@:/", "h", 5671, "my host", true);
    check_address("amqp://u:p@[::1]:5673/v", "u", "p", "::1", 5673, "v", false);
    for (i = 0; i < COUNT(wrong); i++) {
        memset(&e, 0, sizeof(e));
        memset(&e, 0, sizeof(e));
        CU_ASSERT_EQUAL(mq_address_parse(wrong[i], &a, &e), -1);
        CU_ASSERT_EQUAL(e.kind, ERR_FATAL);
        CU_ASSERT_PTR_NULL(strstr(e.text, "sesame"));
        CU_ASSERT_PTR_NULL(a.host);
    }
}

/* However the network cuts the stream, the same comes out. */
static void every_split(void)
{
    struct buf stream, whole, shown;
    struct codec *c = codec_new(MESSAGE_MAX);
    unsigned long wrong = 0;
    const char *line;
    size_t at;
    int lines = 0;
    struct err e;

    buf_init(&stream, STREAM_MAX);
    buf_init(&whole, STREAM_MAX);
    buf_init(&shown, STREAM_MAX);
    conversation(&stream);
    CU_ASSERT_EQUAL_FATAL(feed(c, stream.data, stream.len, &whole, &e), 0);
    codec_free(c);
    for (line = whole.data; (line = memchr(line, '\n', (size_t)(whole.data + whole.len - line)));
         line++)
        lines++;
    CU_ASSERT_EQUAL(lines, 21);
    for (at = 0; at <= stream.len; at++) {
        c = codec_new(MESSAGE_MAX);
        buf_clear(&shown);
        wrong += feed(c, stream.data, at, &shown, &e) != 0;
        wrong += feed(c, stream.data + at, stream.len - at, &shown, &e) != 0;
        wrong += shown.len != whole.len || memcmp(shown.data, whole.data, whole.len) != 0;
        codec_free(c);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    c = codec_new(MESSAGE_MAX);
    buf_clear(&shown);
    for (at = 0; at < stream.len; at++)
        wrong += feed(c, stream.data + at, 1, &shown, &e) != 0;
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(shown.len, whole.len);
    CU_ASSERT_EQUAL(memcmp(shown.data, whole.data, whole.len), 0);
    codec_free(c);
    buf_free(&stream);
    buf_free(&whole);
    buf_free(&shown);
}

static void what_each_method_means(void)
{
    struct codec *c = codec_new(MESSAGE_MAX);
    struct codec_in in;
    struct buf b;
    struct err e;
    size_t used;

    buf_init(&b, STREAM_MAX);
    wire_method(&b, 0, WIRE(10, 10), "ootSS", 0, 9, "PLAINER XPLAIN", "en_US");
    CU_ASSERT_EQUAL(codec_next(c, b.data, b.len, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.kind, CODEC_START);
    CU_ASSERT_FALSE(in.plain); /* a word of its own, not a part of one */
    CU_ASSERT_STRING_EQUAL(in.version, "");
    buf_clear(&b);
    wire_method(&b, 0, WIRE(10, 30), "hlh", 0, 0xffffffffu, 65535);
    CU_ASSERT_EQUAL(codec_next(c, b.data, b.len, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.kind, CODEC_TUNE);
    CU_ASSERT_EQUAL(in.frame_max, 131072); /* ours, however much it allows */
    CU_ASSERT_EQUAL(in.heartbeat, 65535);
    buf_clear(&b);
    wire_method(&b, 2, WIRE(60, 80), "qo", UINT64_MAX, 1);
    CU_ASSERT_EQUAL(codec_next(c, b.data, b.len, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.kind, CODEC_ACK);
    CU_ASSERT_EQUAL(in.channel, 2);
    CU_ASSERT_EQUAL(in.tag, UINT64_MAX);
    CU_ASSERT_TRUE(in.flag);
    buf_clear(&b);
    wire_method(&b, 2, WIRE(60, 120), "qo", (uint64_t)9, 2); /* requeue alone */
    CU_ASSERT_EQUAL(codec_next(c, b.data, b.len, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.kind, CODEC_NACK);
    CU_ASSERT_FALSE(in.flag);
    buf_clear(&b);
    wire_method(&b, 2, WIRE(20, 41), "");
    CU_ASSERT_EQUAL(codec_next(c, b.data, b.len, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.kind, CODEC_CHANNEL_CLOSE_OK); /* no answer like others: it is the last */
    CU_ASSERT_EQUAL(in.channel, 2);
    buf_clear(&b);
    wire_method(&b, 2, WIRE(40, 31), ""); /* exchange.bind-ok, which we never asked for */
    CU_ASSERT_EQUAL(codec_next(c, b.data, b.len, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.kind, CODEC_OTHER);
    buf_free(&b);
    codec_free(c);
}

/* A body of n bytes in frames of 1000. */
static void large(struct buf *out, int channel, uint64_t tag, size_t n)
{
    static char part[1000];
    unsigned char header[14] = {0, 60};
    size_t i, sent;

    for (i = 0; i < 8; i++)
        header[4 + i] = (unsigned char)((uint64_t)n >> (56 - 8 * i));
    memset(part, 'z', sizeof(part));
    wire_method(out, channel, WIRE(60, 60), "sqoss", "c1", tag, 0, "x", "large");
    wire_frame(out, WIRE_HEADER, channel, header, sizeof(header));
    for (sent = 0; sent < n; sent += sizeof(part))
        wire_frame(out, WIRE_BODY, channel, part, n - sent < 1000 ? n - sent : 1000);
}

static void oversized_bodies(void)
{
    struct codec *c = codec_new(MESSAGE_MAX);
    struct codec_in in;
    struct buf b;
    struct err e;
    size_t used, at = 0;

    buf_init(&b, STREAM_MAX);
    large(&b, 1, 1, MESSAGE_MAX + 1);
    large(&b, 1, 2, MESSAGE_MAX);
    large(&b, 1, 3, 500000);
    large(&b, 1, 4, 1);
    CU_ASSERT_EQUAL_FATAL(codec_next(c, b.data, b.len, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.tag, 1);
    CU_ASSERT_TRUE(in.oversized);
    CU_ASSERT_EQUAL(in.message.body_len, 0);
    CU_ASSERT_STRING_EQUAL(in.message.routing_key, "large"); /* the rest is there */
    at += used;
    CU_ASSERT_EQUAL_FATAL(codec_next(c, b.data + at, b.len - at, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.tag, 2);
    CU_ASSERT_FALSE(in.oversized);
    CU_ASSERT_EQUAL(in.message.body_len, MESSAGE_MAX);
    CU_ASSERT_EQUAL(in.message.body[MESSAGE_MAX - 1], 'z');
    at += used;
    CU_ASSERT_EQUAL_FATAL(codec_next(c, b.data + at, b.len - at, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.tag, 3);
    CU_ASSERT_TRUE(in.oversized);
    at += used;
    CU_ASSERT_EQUAL_FATAL(codec_next(c, b.data + at, b.len - at, &used, &in, &e), 0);
    CU_ASSERT_EQUAL(in.tag, 4);
    CU_ASSERT_FALSE(in.oversized);
    CU_ASSERT_STRING_EQUAL(in.message.body, "z");
    buf_free(&b);
    codec_free(c);
}

static size_t heap_in_use(void)
{
    struct mallinfo2 i = mallinfo2(); /* says nothing under AddressSanitizer, which has its own */

    return i.uordblks + i.hblkhd;
}

static void oversized_bodies_are_not_kept(void)
{
    struct codec *c = codec_new(MESSAGE_MAX);
    size_t before, at, used, n = 0;
    struct codec_in in;
    struct buf b;
    struct err e;

    buf_init(&b, STREAM_MAX);
    large(&b, 1, 1, 3000000);
    before = heap_in_use();
    for (at = 0; at < b.len; at += used) {
        n = b.len - at < 5000 ? b.len - at : 5000;
        CU_ASSERT_EQUAL_FATAL(codec_next(c, b.data + at, n, &used, &in, &e), 0);
        if (heap_in_use() > before + 500000)
            break;
    }
    CU_ASSERT_EQUAL(at, b.len);
    CU_ASSERT_TRUE(in.oversized);
    buf_free(&b);
    codec_free(c);
}

/* The bytes are refused, with a reason, whether they come at once or one by one. */
static void refused(const char *data, size_t n)
{
    struct codec *c = codec_new(MESSAGE_MAX);
    struct err e = {0};
    size_t i;

    CU_ASSERT_EQUAL(feed(c, data, n, NULL, &e), -1);
    CU_ASSERT_EQUAL(e.kind, ERR_RETRY);
    CU_ASSERT(strlen(e.text) > 10);
    codec_free(c);
    c = codec_new(MESSAGE_MAX);
    for (i = 0; i < n && feed(c, data + i, 1, NULL, &e) == 0; i++)
        ;
    CU_ASSERT(i < n);
    codec_free(c);
}

static void refused_buf(struct buf *b)
{
    refused(b->data, b->len);
    buf_clear(b);
}

#define REFUSED(literal) refused((literal), sizeof(literal) - 1)

static void what_is_not_amqp(void)
{
    struct buf b;

    REFUSED("HTTP/1.1 400 Bad Request\r\n\r\n");
    REFUSED("AMQP\0\1\0\0");
    REFUSED("AMQP\0\0\x09\x00");
    REFUSED("\x08\0\0\0\0\0\0\xcd");               /* another end byte */
    REFUSED("\x01\0\0\xff\xff\xff\xff\0");         /* four gigabytes */
    REFUSED("\x01\0\0\x7f\xff\xff\xff\0");         /* two */
    REFUSED("\x01\0\0\0\0\0\x04\0\x63\0\x63\xce"); /* method 99.99 */
    REFUSED("\x01\0\0\0\0\0\x03\0\x63\0\xce");     /* too short for a method */
    REFUSED("\x01\0\0\0\0\0\0\xce");
    REFUSED("\x01\0\x01\0\0\0\x04\0\x3c\0\x3c\xce"); /* deliver without its arguments */
    REFUSED("\x02\0\x01\0\0\0\0\xce");               /* a header of nothing */

    buf_init(&b, STREAM_MAX);
    wire_content(&b, 1, "body", 4); /* without a method */
    refused_buf(&b);
    wire_frame(&b, WIRE_BODY, 1, "body", 4);
    refused_buf(&b);
    wire_method(&b, 1, WIRE(60, 80), "qo", (uint64_t)1, 0); /* an ack carries no content */
    wire_content(&b, 1, "body", 4);
    refused_buf(&b);
    wire_method(&b, 1, WIRE(60, 60), "sqoss", "c", (uint64_t)1, 0, "x", "k"); /* no header */
    wire_frame(&b, WIRE_BODY, 1, "body", 4);
    refused_buf(&b);
    wire_method(&b, 1, WIRE(60, 60), "sqoss", "c", (uint64_t)1, 0, "x", "k"); /* two methods */
    wire_method(&b, 1, WIRE(60, 80), "qo", (uint64_t)1, 0);
    refused_buf(&b);
    wire_method(&b, 1, WIRE(60, 60), "sqoss", "c", (uint64_t)1, 0, "x", "k"); /* two headers */
    wire_frame(&b, WIRE_HEADER, 1, "\0\x3c\0\0\0\0\0\0\0\0\0\x09\0\0", 14);
    wire_frame(&b, WIRE_HEADER, 1, "\0\x3c\0\0\0\0\0\0\0\0\0\x09\0\0", 14);
    refused_buf(&b);
    wire_deliver(&b, 1, "c", 1, "x", "k", "body"); /* more than announced, in one frame ... */
    b.data[b.len - (8 + 4) - 8 + 4] = 3;
    refused_buf(&b);
    wire_method(&b, 1, WIRE(60, 60), "sqoss", "c", (uint64_t)1, 0, "x", "k"); /* ... or in two */
    wire_frame(&b, WIRE_HEADER, 1, "\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0", 14);
    wire_frame(&b, WIRE_BODY, 1, "body", 4);
    wire_frame(&b, WIRE_BODY, 1, "body", 4);
    refused_buf(&b);
    wire_method(&b, 16, WIRE(60, 80), "qo", (uint64_t)1, 0); /* channels that nobody opened */
    refused_buf(&b);
    wire_method(&b, 65535, WIRE(60, 60), "sqoss", "c", (uint64_t)1, 0, "x", "k");
    refused_buf(&b);
    wire_frame(&b, WIRE_HEADER, 65535, "\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0", 14);
    refused_buf(&b);
    buf_free(&b);
}

static void a_truncated_stream_waits(void)
{
    struct buf stream;
    struct err e;
    size_t n;

    buf_init(&stream, STREAM_MAX);
    conversation(&stream);
    for (n = 0; n < stream.len; n += 7) {
        struct codec *c = codec_new(MESSAGE_MAX);

        CU_ASSERT_EQUAL(feed(c, stream.data, n, NULL, &e), 0);
        codec_free(c); /* in the middle of what it had: nothing leaks */
    }
    buf_free(&stream);
}

/* A deliver whose header "h" holds that many arrays or tables, each in the one before. */
static void put_nested(struct buf *out, char kind, int levels)
{
    size_t step = kind == 'F' ? 7 : 5, inner = step * (size_t)levels - (step - 5);
    struct buf header;
    int k;

    buf_init(&header, STREAM_MAX);
    buf_add(&header, "\0\x3c\0\0\0\0\0\0\0\0\0\0\x20\0\0", 15); /* headers alone */
    buf_add(&header, &(char){(char)((inner + 2) >> 16)}, 1);
    buf_add(&header, &(char){(char)((inner + 2) >> 8)}, 1);
    buf_add(&header, &(char){(char)(inner + 2)}, 1);
    buf_add(&header, "\x01h", 2);
    for (k = levels - 1; k >= 0; k--) {
        size_t n = step * (size_t)k;
        const char head[5] = {kind, 0, (char)(n >> 16), (char)(n >> 8), (char)n};

        buf_add(&header, head, 5);
        if (kind == 'F' && k > 0)
            buf_add(&header, "\x01h", 2);
    }
    wire_method(out, 1, WIRE(60, 60), "sqoss", "c", (uint64_t)1, 0, "x", "k");
    wire_frame(out, WIRE_HEADER, 1, header.data, header.len);
    buf_free(&header);
}

static int levels_of(const struct mq_value *v)
{
    int n = 1;

    for (;; n++) {
        if (v->kind == 'A' && v->array.n == 1)
            v = v->array.items;
        else if (v->kind == 'F' && v->table.n == 1)
            v = &v->table.fields[0].value;
        else
            break;
    }
    CU_ASSERT(v->kind == 'A' ? v->array.n == 0 : v->kind == 'F' && v->table.n == 0);
    return n;
}

/* What is too deep is read as nothing, before it can exhaust the stack. */
static void deep_tables(void)
{
    static const int depths[] = {1, 15, 16, 17, 18, 1000, 9000};
    size_t i, used;
    int round, n;

    for (round = 0; round < 2; round++) {
        for (i = 0; i < COUNT(depths); i++) {
            struct codec *c = codec_new(MESSAGE_MAX);
            const struct mq_value *v;
            struct codec_in in;
            struct buf b;
            struct err e;

            buf_init(&b, STREAM_MAX);
            put_nested(&b, "AF"[round], depths[i]);
            CU_ASSERT_EQUAL_FATAL(codec_next(c, b.data, b.len, &used, &in, &e), 0);
            CU_ASSERT_EQUAL(in.kind, CODEC_DELIVER);
            v = mq_table_get(&in.message.headers, "h");
            CU_ASSERT_PTR_NOT_NULL_FATAL(v);
            n = levels_of(v);
            CU_ASSERT(depths[i] < 16 ? n == depths[i] : n >= 16 && n <= 17);
            codec_free(c);
            buf_free(&b);
        }
    }
}

static uint64_t random_state;

static uint32_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

static void mutate(char *data, size_t *n)
{
    size_t at = next_random() % *n, length = 1 + next_random() % 16;

    switch (next_random() % 5) {
    case 0: /* another byte */
        data[at] = (char)next_random();
        break;
    case 1: /* another bit */
        data[at] = (char)(data[at] ^ 1 << next_random() % 8);
        break;
    case 2: /* bytes are missing */
        if (at + length < *n) {
            memmove(data + at, data + at + length, *n - at - length);
            *n -= length;
        }
        break;
    case 3: /* a number at its bounds */
        memset(data + at, next_random() % 2 ? 0xff : 0, *n - at < 4 ? *n - at : 4);
        break;
    default: /* some stand twice */
        if (at + length < *n)
            memmove(data + next_random() % (*n - length), data + at, length);
    }
}

static void mutations(void)
{
    unsigned long failed = 0, passed = 0;
    struct buf stream, shown;
    char *data;
    int round;

    random_state = 20251120;
    buf_init(&stream, STREAM_MAX);
    buf_init(&shown, STREAM_MAX);
    conversation(&stream);
    large(&stream, 1, 9, 3000);
    data = mem_alloc(stream.len);
    for (round = 0; round < 5000; round++) {
        struct codec *c = codec_new(MESSAGE_MAX);
        size_t n = stream.len, at, part;
        int times = 1 + (int)(next_random() % 3), bad = 0;
        struct err e;

        memcpy(data, stream.data, n);
        while (times-- > 0)
            mutate(data, &n);
        buf_clear(&shown);
        for (at = 0; at < n && !bad; at += part) {
            part = 1 + next_random() % 2000;
            if (part > n - at)
                part = n - at;
            bad = feed(c, data + at, part, &shown, &e);
        }
        failed += bad != 0;
        passed += !bad;
        codec_free(c);
    }
    CU_ASSERT(failed > 500); /* the mutations do find something, and not all do */
    CU_ASSERT(passed > 500);
    free(data);
    buf_free(&stream);
    buf_free(&shown);
}

static void frames_out(void)
{
    static char body[300000];
    struct mq_message m = {
        .exchange = "x", .routing_key = "k", .body = body, .body_len = sizeof(body)};
    struct codec *c = codec_new(MESSAGE_MAX);
    struct wire_in in;
    struct arena *a = arena_new();
    struct buf out;
    size_t at, used, total = 0;
    char *name = arena_alloc(a, 257);
    struct err e;

    buf_init(&out, STREAM_MAX);
    memset(body, 'y', sizeof(body));
    codec_put_protocol(&out);
    CU_ASSERT_EQUAL(memcmp(out.data, "AMQP\0\0\x09\x01", 8), 0);
    buf_clear(&out);
    codec_put_heartbeat(c, &out);
    CU_ASSERT_EQUAL(out.len, 8);
    CU_ASSERT_EQUAL(memcmp(out.data, "\x08\0\0\0\0\0\0\xce", 8), 0);
    buf_clear(&out);
    CU_ASSERT_EQUAL(codec_put_publish(c, &out, 5, &m, true, &e), 0);
    for (at = 0; (used = wire_next(out.data + at, out.len - at, &in)) > 0; at += used) {
        CU_ASSERT(used <= 131072);
        CU_ASSERT_EQUAL(in.channel, 5);
        CU_ASSERT_EQUAL((unsigned char)out.data[at + used - 1], 0xce);
        total += in.type == WIRE_BODY ? in.n : 0;
    }
    CU_ASSERT_EQUAL(at, out.len);
    CU_ASSERT_EQUAL(total, sizeof(body));
    buf_clear(&out);
    codec_put_channel_close(c, &out, 5, "bye");
    CU_ASSERT_EQUAL(wire_next(out.data, out.len, &in), out.len);
    CU_ASSERT(in.method == WIRE(20, 40) && in.channel == 5);
    CU_ASSERT_EQUAL(in.n, 10);
    CU_ASSERT_EQUAL(memcmp(in.args,
                           "\0\xc8\x03"
                           "bye\0\0\0\0",
                           10),
                    0);

    /* What does not fit is refused, and nothing of it stays. */
    buf_clear(&out);
    buf_puts(&out, "before");
    mq_table_put_string(a, &m.headers, "long", memset(mem_alloc(140000), 'h', 139999));
    CU_ASSERT_EQUAL(codec_put_publish(c, &out, 5, &m, true, &e), -1);
    CU_ASSERT_EQUAL(e.kind, ERR_REJECT);
    CU_ASSERT_EQUAL(e.status, 413);
    CU_ASSERT_STRING_EQUAL(out.data, "before");
    CU_ASSERT_EQUAL(out.len, 6);
    free((char *)(uintptr_t)mq_table_string(&m.headers, "long"));
    m.headers.n = 0;
    memset(name, 'n', 256);
    m.routing_key = name; /* a short string has 255 bytes */
    CU_ASSERT_EQUAL(codec_put_publish(c, &out, 5, &m, true, &e), -1);
    m.routing_key = "k";
    m.message_id = name;
    CU_ASSERT_EQUAL(codec_put_publish(c, &out, 5, &m, true, &e), -1);
    CU_ASSERT_EQUAL(out.len, 6);
    name[255] = '\0';
    CU_ASSERT_EQUAL(codec_put_publish(c, &out, 5, &m, true, &e), 0);
    buf_free(&out);
    buf_init(&out, 1000); /* a small output */
    CU_ASSERT_EQUAL(codec_put_publish(c, &out, 5, &m, true, &e), -1);
    CU_ASSERT_EQUAL(out.len, 0);
    buf_free(&out);
    arena_free(a);
    codec_free(c);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"messages stay what they are", messages_stay_what_they_are},
        {"a bare message", a_bare_message},
        {"tables", tables},
        {"addresses", addresses},
        {"what each method means", what_each_method_means},
        {"every split of the stream gives the same", every_split},
        {"oversized bodies are marked", oversized_bodies},
        {"oversized bodies are not kept", oversized_bodies_are_not_kept},
        {"what is not AMQP is refused", what_is_not_amqp},
        {"a truncated stream waits", a_truncated_stream_waits},
        {"deep tables", deep_tables},
        {"mutations never crash", mutations},
        {"frames that go out", frames_out},
        CU_TEST_INFO_NULL,
    };

    return unit_main("amqp", tests);
}
