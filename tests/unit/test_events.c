/* What a client of a streamed turn is told, whatever the fleet sends in whatever order. */
#include "gateway-shim/events.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "tests/unit/unit.h"

#define TURN  "019a5f0e-0000-7000-8000-000000000001"
#define OTHER "019a5f0e-0000-7000-8000-000000000002"

enum { OUT_MAX = 1000000, TEXT_MAX = 1000, STORIES = 20000, STORY_TEXT = 40 };

static struct {
    struct events *events;
    struct buf out;
} w;

static void begin(void)
{
    buf_init(&w.out, OUT_MAX);
    w.events = events_new(TURN, TEXT_MAX);
}

static void end(void)
{
    events_free(w.events);
    buf_free(&w.out);
}

static void accepted(const char *body)
{
    events_accepted(w.events, body, strlen(body), &w.out);
}

static void delta(int64_t epoch, int64_t offset, const char *text)
{
    json_t *piece = json_pack("{s:s}", "text", text);
    char *body = json_dumps(piece, JSON_COMPACT | JSON_ENSURE_ASCII);

    events_delta(w.events, epoch, offset, body, strlen(body), &w.out);
    free(body);
    json_decref(piece);
}

static json_t *reply_of(const char *kind, const char *id, const char *text)
{
    return json_pack("{s:{s:s, s:s, s:s}}", kind, "id", id, "conversation_id", "c", "content",
                     text);
}

static int completed(int64_t epoch, const char *body)
{
    return events_completed(w.events, epoch, body, strlen(body), &w.out);
}

/* The answer, of message.send, with this text. */
static void answered(int64_t epoch, const char *text)
{
    json_t *reply = reply_of("assistant_message", "a", text);
    char *body = json_dumps(reply, JSON_COMPACT);

    CU_ASSERT_EQUAL(completed(epoch, body), 0);
    free(body);
    json_decref(reply);
}

/* All that was sent since the last question. */
static bool told(const char *wanted)
{
    bool as_wanted = strcmp(w.out.data ? w.out.data : "", wanted) == 0;

    if (!as_wanted)
        fprintf(stderr, "\n%s\n(wanted: %s)", w.out.data, wanted);
    buf_clear(&w.out);
    return as_wanted;
}

/* ---- what a client makes of it ---- */

struct told {
    struct buf text;
    long epoch;
    int accepted, resets, completed, errors;
    json_t *last; /* of message.completed or error */
};

static void take_event(struct told *t, const char *name, const char *id, const char *data)
{
    json_t *body = json_loads(data, 0, NULL);
    char expected[80];

    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    CU_ASSERT_EQUAL(t->accepted, strcmp(name, "message.accepted") != 0);
    CU_ASSERT_EQUAL(t->completed + t->errors, 0); /* nothing comes after the end */
    if (strcmp(name, "message.accepted") == 0) {
        t->accepted++;
    } else if (strcmp(name, "reset") == 0) {
        CU_ASSERT(json_integer_value(json_object_get(body, "epoch")) >= t->epoch);
        t->epoch = (long)json_integer_value(json_object_get(body, "epoch"));
        t->resets++;
        buf_clear(&t->text);
    } else if (strcmp(name, "delta") == 0) {
        /* No holes, nothing twice. */
        CU_ASSERT_EQUAL((size_t)json_integer_value(json_object_get(body, "offset")), t->text.len);
        buf_puts(&t->text, json_string_value(json_object_get(body, "text")));
    } else {
        t->completed += strcmp(name, "message.completed") == 0;
        t->errors += strcmp(name, "error") == 0;
        t->last = json_incref(body);
    }
    if (*id) {
        snprintf(expected, sizeof(expected), TURN ":%ld:%zu", t->epoch, t->text.len);
        CU_ASSERT_STRING_EQUAL(id, expected);
    }
    json_decref(body);
}

/* Read what was sent so far as a client would. */
static struct told read_events(void)
{
    struct told t = {.epoch = 1};
    char *text = mem_strdup(w.out.data ? w.out.data : ""), *rest = text, *line;
    const char *name = "", *id = "", *data = "";

    buf_init(&t.text, OUT_MAX);
    buf_puts(&t.text, "");
    while (rest && *rest) {
        line = strsep(&rest, "\n");
        if (strncmp(line, "event: ", 7) == 0) {
            name = line + 7;
        } else if (strncmp(line, "id: ", 4) == 0) {
            id = line + 4;
        } else if (strncmp(line, "data: ", 6) == 0) {
            data = line + 6;
        } else {
            CU_ASSERT_STRING_EQUAL(line, "");
            take_event(&t, name, id, data);
            name = id = data = "";
        }
    }
    free(text);
    return t;
}

static void forget(struct told *t)
{
    buf_free(&t->text);
    json_decref(t->last);
}

/* Did the client in the end see this text, resets apart in so many deltas' way, and the answer? */
static bool saw(const char *text, int resets)
{
    struct told t = read_events();
    bool right = strcmp(t.text.data, text) == 0 && t.resets == resets && t.completed == 1 &&
                 t.accepted == 1 && t.errors == 0;
    const char *whole =
        json_string_value(json_object_get(json_object_get(t.last, "assistant_message"), "content"));

    CU_ASSERT_PTR_NOT_NULL_FATAL(whole);
    CU_ASSERT_STRING_EQUAL(whole, text);
    if (!right)
        fprintf(stderr, "\n%s\n(wanted: %s)", w.out.data, text);
    forget(&t);
    return right;
}

/* ---- a turn as it should be ---- */

static void a_turn(void)
{
    begin();
    accepted("{\"turn_id\":\"" TURN
             "\",\"conversation_id\":\"c\",\"user_message\":{\"id\":\"u\"}}");
    CU_ASSERT_TRUE(told("event: message.accepted\nid: " TURN ":1:0\n"
                        "data: {\"turn_id\":\"" TURN
                        "\",\"conversation_id\":\"c\",\"user_message\":{\"id\":\"u\"}}\n\n"));
    delta(1, 0, "He");
    CU_ASSERT_TRUE(
        told("event: delta\nid: " TURN ":1:2\ndata: {\"offset\":0,\"text\":\"He\"}\n\n"));
    delta(1, 2, "llo \"€\"\n");
    CU_ASSERT_TRUE(told("event: delta\nid: " TURN
                        ":1:12\ndata: {\"offset\":2,\"text\":\"llo \\\"€\\\"\\n\"}\n\n"));
    CU_ASSERT_EQUAL(completed(0, "{\"assistant_message\": {\"content\":\"Hello \\\"€\\\"\\n\"}}"),
                    0);
    CU_ASSERT_TRUE(told("event: message.completed\nid: " TURN ":1:12\n"
                        "data: {\"assistant_message\": {\"content\":\"Hello \\\"€\\\"\\n\"}}\n\n"));
    end();
}

static void a_regenerated_answer(void)
{
    begin();
    accepted("{\"turn_id\":\"" TURN "\"}");
    delta(1, 0, "ne");
    buf_clear(&w.out);
    CU_ASSERT_EQUAL(completed(1, "{\"new_message\":{\"content\":\"new\"}}"), 0);
    CU_ASSERT_TRUE(told("event: delta\nid: " TURN ":1:3\ndata: {\"offset\":2,\"text\":\"w\"}\n\n"
                        "event: message.completed\nid: " TURN
                        ":1:3\ndata: {\"new_message\":{\"content\":\"new\"}}\n\n"));
    end();
}

static void a_failed_turn(void)
{
    const char problem[] = "{\"status\":504}";

    begin();
    accepted("{\"turn_id\":\"" TURN "\"}");
    delta(1, 0, "par");
    buf_clear(&w.out);
    events_failed(w.events, problem, strlen(problem), &w.out);
    CU_ASSERT_TRUE(told("event: error\nid: " TURN ":1:3\ndata: {\"status\":504}\n\n"));
    end();
}

/* ---- notices and deltas that are not as they should be ---- */

static void the_notice_may_be_late_or_lost(void)
{
    begin();
    delta(1, 0, "x");
    CU_ASSERT_TRUE(told("event: message.accepted\nid: " TURN ":1:0\ndata: {\"turn_id\":\"" TURN
                        "\"}\n\n"
                        "event: delta\nid: " TURN ":1:1\ndata: {\"offset\":0,\"text\":\"x\"}\n\n"));
    accepted("{\"turn_id\":\"" TURN "\"}");
    accepted("{\"turn_id\":\"" TURN "\"}");
    CU_ASSERT_TRUE(told(""));
    end();

    begin(); /* it is said even where the delta is of no use */
    delta(1, 7, "x");
    CU_ASSERT_TRUE(
        told("event: message.accepted\nid: " TURN ":1:0\ndata: {\"turn_id\":\"" TURN "\"}\n\n"));
    end();
}

static void a_notice_that_is_none(void)
{
    static const char *const bodies[] = {"", "{", "[]", "null", "\"turn_id\"", "\xff"};
    size_t i;

    for (i = 0; i < COUNT(bodies); i++) {
        begin();
        accepted(bodies[i]);
        CU_ASSERT_TRUE(told("event: message.accepted\nid: " TURN ":1:0\ndata: {\"turn_id\":\"" TURN
                            "\"}\n\n"));
        end();
    }
    begin();
    accepted("{\"turn_id\":\"x\\nevent: error\"}"); /* nothing of it gets into the id */
    CU_ASSERT_TRUE(told("event: message.accepted\nid: " TURN ":1:0\n"
                        "data: {\"turn_id\":\"x\\nevent: error\"}\n\n"));
    end();
}

static void overlaps_are_told_once(void)
{
    begin();
    delta(1, 0, "abc");
    delta(1, 0, "abc");    /* twice */
    delta(1, 1, "bc");     /* the end of it */
    delta(1, 0, "a");      /* the beginning */
    delta(1, 2, "cde");    /* one known, two new */
    delta(1, 0, "abcdef"); /* all known but the last */
    answered(1, "abcdef");
    CU_ASSERT_TRUE(saw("abcdef", 0));
    end();
}

static void holes_are_left_to_the_answer(void)
{
    begin();
    delta(1, 0, "ab");
    buf_clear(&w.out);
    delta(1, 3, "d");
    delta(1, 4, "e");
    delta(1, INT64_MAX, "e");
    CU_ASSERT_TRUE(told("")); /* nothing behind the hole */
    delta(1, 2, "c");
    CU_ASSERT_TRUE(told("event: delta\nid: " TURN ":1:3\ndata: {\"offset\":2,\"text\":\"c\"}\n\n"));
    delta(1, 3, "d"); /* again, and now it fits */
    CU_ASSERT_TRUE(told("event: delta\nid: " TURN ":1:4\ndata: {\"offset\":3,\"text\":\"d\"}\n\n"));
    CU_ASSERT_EQUAL(completed(1, "{\"assistant_message\":{\"content\":\"abcdef\"}}"), 0);
    CU_ASSERT_TRUE(told("event: delta\nid: " TURN ":1:6\ndata: {\"offset\":4,\"text\":\"ef\"}\n\n"
                        "event: message.completed\nid: " TURN
                        ":1:6\ndata: {\"assistant_message\":{\"content\":\"abcdef\"}}\n\n"));
    end();
}

static void useless_deltas(void)
{
    static const char *const bodies[] = {
        "", "{", "[]", "{}", "{\"text\":7}", "1", "\xff\xfe{", "{\"text\":\"\\u0000\"}"};
    size_t i;

    begin();
    delta(1, 0, "ab");
    buf_clear(&w.out);
    for (i = 0; i < COUNT(bodies); i++) {
        events_delta(w.events, 1, 2, bodies[i], strlen(bodies[i]), &w.out);
        events_delta(w.events, 9, 0, bodies[i], strlen(bodies[i]), &w.out);
    }
    delta(1, 2, "");
    delta(1, -1, "ab");
    delta(1, INT64_MIN, "ab");
    delta(1, 1, "xyz"); /* of another text */
    CU_ASSERT_TRUE(told(""));
    end();
}

/* Offsets count bytes; a delta that would split a character is of another text. */
static void offsets_within_characters(void)
{
    begin();
    delta(1, 0, "a€");       /* 1 + 3 bytes */
    delta(1, 2, "€b");       /* begins in the middle of the sign */
    delta(1, 4, "😀");        /* 4 bytes */
    delta(1, 1, "€😀c");      /* two signs known, one new */
    delta(1, 6, "\xc3\xa9"); /* within the smiley */
    answered(1, "a€😀cé");
    CU_ASSERT_TRUE(saw("a€😀cé", 0));
    end();

    begin();           /* the bytes agree, but what is new would begin within a character */
    delta(1, 0, "aé"); /* 61 c3 a9 */
    answered(1, "a\xc3\xaa");
    CU_ASSERT_TRUE(saw("aê", 1));
    end();
}

/* ---- epochs ---- */

static void a_new_generation(void)
{
    begin();
    accepted("{\"turn_id\":\"" TURN "\"}");
    delta(1, 0, "first");
    buf_clear(&w.out);
    delta(2, 0, "sec");
    CU_ASSERT_TRUE(told("event: reset\nid: " TURN ":2:0\ndata: {\"epoch\":2}\n\n"
                        "event: delta\nid: " TURN
                        ":2:3\ndata: {\"offset\":0,\"text\":\"sec\"}\n\n"));
    delta(1, 5, " late");
    delta(0, 5, " late"); /* no epoch said: the first */
    CU_ASSERT_TRUE(told(""));
    delta(4, 2, "x"); /* its beginning is missing */
    CU_ASSERT_TRUE(told("event: reset\nid: " TURN ":4:0\ndata: {\"epoch\":4}\n\n"));
    delta(2, 3, "ond");
    CU_ASSERT_TRUE(told(""));
    answered(4, "fourth");
    CU_ASSERT_TRUE(told("event: delta\nid: " TURN
                        ":4:6\ndata: {\"offset\":0,\"text\":\"fourth\"}\n\n"
                        "event: message.completed\nid: " TURN ":4:6\n"
                        "data: {\"assistant_message\":{\"id\":\"a\",\"conversation_id\":\"c\","
                        "\"content\":\"fourth\"}}\n\n"));
    end();
}

static void deltas_without_an_epoch(void)
{
    begin();
    delta(0, 0, "a");
    delta(-5, 1, "b");
    delta(1, 2, "c");
    answered(0, "abc");
    CU_ASSERT_TRUE(saw("abc", 0));
    end();
}

/* ---- the answer wins ---- */

static void an_answer_that_differs(void)
{
    begin();
    delta(1, 0, "abc");
    answered(1, "abd and more");
    CU_ASSERT_TRUE(saw("abd and more", 1));
    end();
    begin(); /* shorter than what was told */
    delta(1, 0, "abc");
    answered(1, "ab");
    CU_ASSERT_TRUE(saw("ab", 1));
    end();
    begin(); /* nothing at all */
    delta(1, 0, "abc");
    answered(1, "");
    CU_ASSERT_TRUE(saw("", 1));
    end();
    begin(); /* of a later generation, which is said */
    delta(1, 0, "abc");
    answered(3, "x");
    CU_ASSERT_PTR_NOT_NULL(strstr(w.out.data, "event: reset\nid: " TURN ":3:0\n"));
    CU_ASSERT_TRUE(saw("x", 1));
    end();
    begin(); /* of an earlier one: the later was for nothing */
    delta(2, 0, "abc");
    answered(1, "x");
    CU_ASSERT_PTR_NOT_NULL(strstr(w.out.data, "event: reset\nid: " TURN ":2:0\n"));
    CU_ASSERT_TRUE(saw("x", 2));
    end();
}

static void an_answer_without_text(void)
{
    static const char *const bodies[] = {"{}", "{\"assistant_message\":null}",
                                         "{\"assistant_message\":{\"content\":7}}"};
    size_t i;

    for (i = 0; i < COUNT(bodies); i++) {
        begin();
        delta(1, 0, "abc");
        buf_clear(&w.out);
        CU_ASSERT_EQUAL(completed(1, bodies[i]), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(w.out.data, "message.completed"));
        CU_ASSERT_PTR_NULL(strstr(w.out.data, "reset"));
        end();
    }
}

static void an_answer_that_cannot_be_read(void)
{
    static const char *const bodies[] = {"", "{", "[]", "7", "{\"a\":\"\xff\"}"};
    size_t i;

    for (i = 0; i < COUNT(bodies); i++) {
        begin();
        delta(1, 0, "abc");
        buf_clear(&w.out);
        CU_ASSERT_EQUAL(completed(1, bodies[i]), -1);
        CU_ASSERT_TRUE(told(""));
        end();
    }
}

/* Line breaks would end the event's data. */
static void bodies_on_several_lines(void)
{
    begin();
    accepted("{\n  \"turn_id\":\r\n \"" TURN "\"\r}");
    CU_ASSERT_TRUE(told("event: message.accepted\nid: " TURN ":1:0\n"
                        "data: {   \"turn_id\":   \"" TURN "\" }\n\n"));
    CU_ASSERT_EQUAL(completed(1, "{\n\n}"), 0);
    CU_ASSERT_TRUE(told("event: message.completed\nid: " TURN ":1:0\ndata: {  }\n\n"));
    end();
}

/* Without a notice or a delta before: a request that was answered before, whose turn has a name
 * that is not ours. */
static void an_answer_at_once(void)
{
    begin();
    CU_ASSERT_EQUAL(completed(0, "{\"user_message\":{\"id\":\"u\"},\"assistant_message\":"
                                 "{\"id\":\"a\",\"conversation_id\":\"c\",\"content\":\"hi\"}}"),
                    0);
    CU_ASSERT_TRUE(told("event: message.accepted\n"
                        "data: {\"conversation_id\":\"c\",\"user_message\":{\"id\":\"u\"}}\n\n"
                        "event: delta\ndata: {\"offset\":0,\"text\":\"hi\"}\n\n"
                        "event: message.completed\n"
                        "data: {\"user_message\":{\"id\":\"u\"},\"assistant_message\":"
                        "{\"id\":\"a\",\"conversation_id\":\"c\",\"content\":\"hi\"}}\n\n"));
    end();

    begin(); /* its name is said */
    CU_ASSERT_EQUAL(completed(0, "{\"turn_id\":\"" OTHER "\",\"new_message\":{\"content\":\"\"}}"),
                    0);
    CU_ASSERT_TRUE(told("event: message.accepted\nid: " OTHER ":1:0\n"
                        "data: {\"turn_id\":\"" OTHER "\"}\n\n"
                        "event: message.completed\nid: " OTHER ":1:0\n"
                        "data: {\"turn_id\":\"" OTHER
                        "\",\"new_message\":{\"content\":\"\"}}\n\n"));
    end();
}

/* The answer's id tells that it is the answer to this request. */
static void an_answer_whose_notice_was_lost(void)
{
    char id[UUID_TEXT], *body;
    json_t *reply;

    begin();
    reply = reply_of("new_message", uuid_v7_derived(TURN, "answer", id), "hi");
    body = json_dumps(reply, JSON_COMPACT);
    CU_ASSERT_EQUAL(completed(0, body), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.out.data, "id: " TURN ":1:0\n"
                                              "data: {\"conversation_id\":\"c\",\"turn_id\":\"" TURN
                                              "\"}\n\n"));
    free(body);
    json_decref(reply);
    end();
}

/* ---- bounds ---- */

static void the_text_kept_is_bounded(void)
{
    char text[TEXT_MAX + 2] = "";
    struct told t;

    begin();
    memset(text, 'x', TEXT_MAX - 1);
    delta(1, 0, text);
    delta(1, TEXT_MAX - 1, "yz"); /* too much */
    delta(1, TEXT_MAX - 1, "y");
    delta(1, TEXT_MAX, "z");
    strcat(text, "yz");
    answered(1, text);
    t = read_events();
    CU_ASSERT_EQUAL(t.text.len, TEXT_MAX);
    CU_ASSERT_EQUAL(t.completed, 1);
    CU_ASSERT_EQUAL(t.resets, 0);
    forget(&t);
    end();
}

/* ---- every order ---- */

static unsigned dice(unsigned n)
{
    static uint64_t state = 0x9e3779b97f4a7c15u; /* the same in every run */

    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % n;
}

/* Pieces of the right text or a wrong one, of several epochs, any offset, and the answer at last: the
 * client ends with the answer's text, has no hole on the way, and nothing twice. */
static void any_story(void)
{
    static const char *const alphabet[] = {"a", "é", "€", "😀", "\n", "\""};
    char right[STORY_TEXT * 4 + 1], part[STORY_TEXT * 4 + 1];
    size_t story, i, from, n;

    for (story = 0; story < STORIES; story++) {
        begin();
        *right = '\0';
        for (i = dice(STORY_TEXT); i > 0; i--)
            strcat(right, alphabet[dice(COUNT(alphabet))]);
        n = strlen(right);
        for (i = dice(12); i > 0; i--) {
            if (dice(8) == 0)
                accepted("{\"turn_id\":\"" TURN "\"}");
            for (from = dice((unsigned)n + 1); from > 0 && (right[from] & 0xc0) == 0x80; from--)
                ;
            snprintf(part, sizeof(part), "%s", dice(10) ? right + from : "wrong");
            for (n = dice((unsigned)strlen(part) + 1); n > 0 && (part[n] & 0xc0) == 0x80; n--)
                ;
            part[n] = '\0';
            delta(1 + dice(2) * dice(2), (int64_t)(dice(10) ? from : dice(200)), part);
            n = strlen(right);
        }
        answered(1, right);
        {
            struct told t = read_events();

            CU_ASSERT_STRING_EQUAL_FATAL(t.text.data, right);
            CU_ASSERT_EQUAL_FATAL(t.completed, 1);
            forget(&t);
        }
        end();
    }
}

/* ---- what goes on where another stream ended ---- */

/* A client that has so many bytes of the epoch's text. */
static void resume(int64_t epoch, size_t offset)
{
    buf_init(&w.out, OUT_MAX);
    w.events = events_resume(TURN, epoch, offset, TEXT_MAX);
    CU_ASSERT_EQUAL(events_epoch(w.events), epoch);
    CU_ASSERT_EQUAL(events_offset(w.events), offset);
}

static void a_resumed_turn(void)
{
    resume(1, 4);
    accepted("{\"turn_id\":\"" TURN "\"}"); /* it has that */
    delta(1, 0, "abcd");
    delta(1, 5, "z");
    CU_ASSERT_TRUE(told(""));
    delta(1, 0, "abcdx");
    CU_ASSERT_TRUE(told("event: delta\nid: " TURN ":1:5\ndata: {\"offset\":4,\"text\":\"x\"}\n\n"));
    delta(1, 0, "abcdQz"); /* of another text */
    CU_ASSERT_TRUE(told(""));
    delta(1, 2, "cdxyz");
    CU_ASSERT_TRUE(
        told("event: delta\nid: " TURN ":1:7\ndata: {\"offset\":5,\"text\":\"yz\"}\n\n"));
    CU_ASSERT_EQUAL(events_offset(w.events), 7);
    CU_ASSERT_EQUAL(completed(1, "{\"new_message\":{\"content\":\"abcdxyz!\"}}"), 0);
    CU_ASSERT_TRUE(told("event: delta\nid: " TURN ":1:8\ndata: {\"offset\":7,\"text\":\"!\"}\n\n"
                        "event: message.completed\nid: " TURN
                        ":1:8\ndata: {\"new_message\":{\"content\":\"abcdxyz!\"}}\n\n"));
    end();
}

/* Who makes the answer has no such place in its text, and begins anew. */
static void a_resumed_turn_at_no_place(void)
{
    static const struct {
        int64_t epoch;
        size_t offset;
    } places[] = {{7, 5}, {2, 0}, {INT32_MAX, 0}, {1, 999}, {1, 4}};
    size_t i;

    for (i = 0; i < COUNT(places); i++) {
        resume(places[i].epoch, places[i].offset);
        delta(places[i].epoch, 1000, "behind a hole");
        CU_ASSERT_TRUE(told(""));
        delta(1, 0, "ab€");
        CU_ASSERT_TRUE(told("event: reset\nid: " TURN ":1:0\ndata: {\"epoch\":1}\n\n"
                            "event: delta\nid: " TURN
                            ":1:5\ndata: {\"offset\":0,\"text\":\"ab€\"}\n\n"));
        delta(1, 0, "ab"); /* one that comes late begins nothing anew */
        CU_ASSERT_TRUE(told(""));
        end();
    }
    resume(7, 5);
    CU_ASSERT_EQUAL(completed(1, "{\"new_message\":{\"content\":\"ab\"}}"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.out.data, "id: " TURN ":1:0\ndata: {\"epoch\":1}"));
    end();
}

/* What the client has is known by its epoch and its length alone. */
static void a_resumed_turn_with_another_text(void)
{
    static const struct {
        int64_t epoch;
        size_t offset;
    } places[] = {{2, 2}, {1, 6}, {1, 4}, {1, SIZE_MAX}};
    size_t i;

    for (i = 0; i < COUNT(places); i++) {
        resume(places[i].epoch, places[i].offset);
        CU_ASSERT_EQUAL(completed(1, "{\"new_message\":{\"content\":\"ab€\"}}"), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(w.out.data, "event: reset\n"));
        CU_ASSERT_PTR_NOT_NULL(strstr(w.out.data, "{\"offset\":0,\"text\":\"ab€\"}"));
        end();
    }
    resume(1, 3);
    delta(1, 2, "€c"); /* the client would be in the middle of the sign */
    CU_ASSERT_TRUE(told(""));
    delta(2, 0, "new");
    CU_ASSERT_TRUE(told("event: reset\nid: " TURN ":2:0\ndata: {\"epoch\":2}\n\n"
                        "event: delta\nid: " TURN
                        ":2:3\ndata: {\"offset\":0,\"text\":\"new\"}\n\n"));
    delta(1, 3, "old");
    CU_ASSERT_TRUE(told(""));
    end();
}

static void an_interim_word(void)
{
    static const char *const bodies[] = {"", "[]", "null", "{", "7"};
    const char body[] = "{\"text\":\"wait\"}";
    size_t i;

    begin();
    for (i = 0; i < COUNT(bodies); i++)
        events_interim(w.events, bodies[i], strlen(bodies[i]), &w.out);
    CU_ASSERT_TRUE(told(""));
    events_interim(w.events, body, strlen(body), &w.out);
    CU_ASSERT_TRUE(told("event: message.accepted\nid: " TURN ":1:0\ndata: {\"turn_id\":\"" TURN
                        "\"}\n\n"
                        "event: interim\nid: " TURN ":1:0\ndata: {\"text\":\"wait\"}\n\n"));
    delta(1, 0, "x");
    buf_clear(&w.out);
    events_interim(w.events, body, strlen(body), &w.out);
    CU_ASSERT_TRUE(told("")); /* it came late */
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a turn", a_turn},
        {"a regenerated answer", a_regenerated_answer},
        {"a failed turn", a_failed_turn},
        {"the notice may be late or lost", the_notice_may_be_late_or_lost},
        {"a notice that is none", a_notice_that_is_none},
        {"overlaps are told once", overlaps_are_told_once},
        {"holes are left to the answer", holes_are_left_to_the_answer},
        {"useless deltas", useless_deltas},
        {"offsets within characters", offsets_within_characters},
        {"a new generation", a_new_generation},
        {"deltas without an epoch", deltas_without_an_epoch},
        {"an answer that differs", an_answer_that_differs},
        {"an answer without text", an_answer_without_text},
        {"an answer that cannot be read", an_answer_that_cannot_be_read},
        {"bodies on several lines", bodies_on_several_lines},
        {"an answer at once", an_answer_at_once},
        {"an answer whose notice was lost", an_answer_whose_notice_was_lost},
        {"the text kept is bounded", the_text_kept_is_bounded},
        {"any story", any_story},
        {"a resumed turn", a_resumed_turn},
        {"a resumed turn at no place", a_resumed_turn_at_no_place},
        {"a resumed turn with another text", a_resumed_turn_with_another_text},
        {"an interim word", an_interim_word},
        CU_TEST_INFO_NULL,
    };

    return unit_main("events", tests);
}
