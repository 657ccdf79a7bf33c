#include "gateway-shim/events.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/base/mem.h"
#include "common/base/uuid.h"

struct events {
    char turn[UUID_TEXT];
    bool known;     /* that the turn is called so */
    bool announced; /* message.accepted was sent */
    bool claimed;   /* only the client says that this is where he is */
    int64_t epoch;
    size_t before;   /* bytes of the epoch's text that were sent before, by another */
    struct buf text; /* what follows them, as far as it was sent */
};

struct events *events_new(const char *turn_id, size_t text_max)
{
    struct events *s = mem_alloc(sizeof(*s));

    snprintf(s->turn, sizeof(s->turn), "%s", turn_id);
    s->epoch = 1;
    buf_init(&s->text, text_max);
    return s;
}

struct events *events_resume(const char *turn_id, int64_t epoch, size_t offset, size_t text_max)
{
    struct events *s = events_new(turn_id, text_max);

    s->known = s->announced = s->claimed = true;
    s->epoch = epoch;
    s->before = offset;
    return s;
}

void events_free(struct events *s)
{
    if (!s)
        return;
    buf_free(&s->text);
    free(s);
}

int64_t events_epoch(const struct events *s)
{
    return s->epoch;
}

size_t events_offset(const struct events *s)
{
    return s->before + s->text.len;
}

/* ---- events ---- */

/* JSON has line breaks between its tokens at most, where a space does as well; in an event they
 * would begin another field. */
static void put_line(struct buf *out, const char *data, size_t n)
{
    size_t i, start = 0;

    for (i = 0; i < n; i++) {
        if (data[i] != '\n' && data[i] != '\r')
            continue;
        buf_add(out, data + start, i - start);
        buf_add(out, " ", 1);
        start = i + 1;
    }
    buf_add(out, data + start, n - start);
}

static void put_event(const struct events *s, const char *name, const char *data, size_t n,
                      struct buf *out)
{
    buf_printf(out, "event: %s\n", name);
    if (s->known)
        buf_printf(out, "id: %s:%" PRId64 ":%zu\n", s->turn, s->epoch, events_offset(s));
    buf_puts(out, "data: ");
    put_line(out, data, n);
    buf_puts(out, "\n\n");
}

/* Takes the data. */
static void put_json(const struct events *s, const char *name, json_t *data, struct buf *out)
{
    char *text = json_dumps(data, JSON_COMPACT);

    put_event(s, name, text, strlen(text), out);
    free(text);
    json_decref(data);
}

static void put_reset(struct events *s, int64_t epoch, struct buf *out)
{
    s->claimed = false;
    s->epoch = epoch;
    s->before = 0;
    buf_clear(&s->text);
    put_json(s, "reset", json_pack("{s:I}", "epoch", (json_int_t)epoch), out);
}

/* The text that follows what was sent; too long a one is left to the answer. */
static void put_text(struct events *s, const char *text, size_t n, struct buf *out)
{
    size_t offset = events_offset(s);

    if (n == 0 || buf_add(&s->text, text, n))
        return;
    put_json(s, "delta", json_pack("{s:I, s:s%}", "offset", (json_int_t)offset, "text", text, n),
             out);
}

/* ---- the beginning ---- */

static void take_turn_id(struct events *s, const json_t *body)
{
    const char *id = json_string_value(json_object_get(body, "turn_id"));

    if (id && uuid_valid(id)) {
        snprintf(s->turn, sizeof(s->turn), "%s", id);
        s->known = true;
    }
}

/* The notice that the question is saved was lost. Takes what else is known. */
static void announce(struct events *s, json_t *data, struct buf *out)
{
    s->announced = true;
    if (s->known)
        json_object_set_new(data, "turn_id", json_string(s->turn));
    put_json(s, "message.accepted", data, out);
}

void events_accepted(struct events *s, const char *body, size_t n, struct buf *out)
{
    json_t *notice;

    if (s->announced)
        return;
    notice = json_loadb(body, n, 0, NULL);
    s->known = true;
    if (json_is_object(notice)) {
        take_turn_id(s, notice);
        put_event(s, "message.accepted", body, n, out);
        s->announced = true;
    } else {
        announce(s, json_object(), out);
    }
    json_decref(notice);
}

/* ---- the text ---- */

/* Is this in the middle of a character? Then nobody was ever told the text up to here. */
static bool is_within(const char *text, size_t at)
{
    return ((unsigned char)text[at] & 0xc0) == 0x80;
}

/* The part of a delta that is new, *n bytes of it; NULL when there is none, or when it does not go
 * on where the text ends. */
static const char *news(const struct events *s, int64_t offset, const char *text, size_t *n)
{
    size_t end = events_offset(s), overlap, unseen;

    if (offset < 0 || (uint64_t)offset > end || end - (size_t)offset >= *n)
        return NULL;
    overlap = end - (size_t)offset;
    unseen = (size_t)offset < s->before ? s->before - (size_t)offset : 0;
    if (overlap > unseen && memcmp(s->text.data + (size_t)offset + unseen - s->before,
                                   text + unseen, overlap - unseen) != 0)
        return NULL; /* of another text: the answer will tell which is right */
    if (is_within(text, overlap))
        return NULL;
    *n -= overlap;
    return text + overlap;
}

/* Who makes the answer goes on from where the client says that he is, and begins anew if there is no such
 * place in its text. */
static bool is_elsewhere(const struct events *s, int64_t epoch, int64_t offset, const char *text,
                         size_t n)
{
    if (!s->claimed || offset != 0 || epoch > s->epoch)
        return false;
    return epoch < s->epoch || n < s->before || is_within(text, s->before);
}

void events_delta(struct events *s, int64_t epoch, int64_t offset, const char *body, size_t n,
                  struct buf *out)
{
    json_t *delta = json_loadb(body, n, 0, NULL);
    const char *text = json_string_value(json_object_get(delta, "text"));
    size_t len = json_string_length(json_object_get(delta, "text"));

    s->known = true;
    if (!s->announced)
        announce(s, json_object(), out);
    epoch = epoch < 1 ? 1 : epoch;
    if (text && (epoch > s->epoch || is_elsewhere(s, epoch, offset, text, len)))
        put_reset(s, epoch, out);
    if (text && epoch == s->epoch) {
        if ((uint64_t)offset == s->before)
            s->claimed = false;
        text = news(s, offset, text, &len);
        if (text)
            put_text(s, text, len, out);
    }
    json_decref(delta);
}

void events_interim(struct events *s, const char *body, size_t n, struct buf *out)
{
    json_t *notice = json_loadb(body, n, 0, NULL);

    if (!json_is_object(notice)) {
        json_decref(notice);
        return;
    }
    s->known = true;
    if (!s->announced)
        announce(s, json_object(), out);
    if (events_offset(s) == 0)
        put_event(s, "interim", body, n, out);
    json_decref(notice);
}

/* ---- the end ---- */

/* The answer came first of all: to a request that was made before, most likely, whose turn has
 * another name. */
static void announce_answer(struct events *s, const json_t *body, const json_t *answer,
                            struct buf *out)
{
    const char *id = json_string_value(json_object_get(answer, "id"));
    char ours[UUID_TEXT];

    take_turn_id(s, body);
    if (!s->known && id && uuid_version(s->turn) == 7)
        s->known = strcmp(uuid_v7_derived(s->turn, "answer", ours), id) == 0;
    announce(s,
             json_pack("{s:O*, s:O*}", "conversation_id",
                       json_object_get(answer, "conversation_id"), "user_message",
                       json_object_get(body, "user_message")),
             out);
}

/* Does the text begin with what was sent? What was sent before is known by its epoch alone. */
static bool goes_on(const struct events *s, int64_t epoch, const char *text, size_t n)
{
    if (n < events_offset(s) || (s->before && (epoch != s->epoch || is_within(text, s->before))))
        return false;
    return s->text.len == 0 || memcmp(text + s->before, s->text.data, s->text.len) == 0;
}

/* All of the text: what follows of it, or anew. */
static void put_rest(struct events *s, int64_t epoch, const char *text, size_t n, struct buf *out)
{
    size_t told;

    if (!goes_on(s, epoch, text, n))
        put_reset(s, epoch > s->epoch || s->claimed ? epoch : s->epoch, out);
    told = events_offset(s);
    put_text(s, text + told, n - told, out);
}

int events_completed(struct events *s, int64_t epoch, const char *body, size_t n, struct buf *out)
{
    json_t *reply = json_loadb(body, n, 0, NULL), *answer, *content;
    const char *text;
    size_t len;

    if (!json_is_object(reply)) {
        json_decref(reply);
        return -1;
    }
    answer = json_object_get(reply, "assistant_message");
    if (!answer)
        answer = json_object_get(reply, "new_message");
    content = json_object_get(answer, "content");
    text = json_string_value(content);
    len = json_string_length(content);
    if (!s->announced)
        announce_answer(s, reply, answer, out);
    if (text)
        put_rest(s, epoch, text, len, out);
    put_event(s, "message.completed", body, n, out);
    json_decref(reply);
    return 0;
}

void events_failed(struct events *s, const char *problem, size_t n, struct buf *out)
{
    put_event(s, "error", problem, n, out);
}
