#include "ctl/dlq_file.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/chat/envelope.h"
#include "common/chat/topology.h"

enum { DEPTH_MAX = 32 }; /* of headers */

/* ---- bytes ---- */

static json_t *from_bytes(const char *data, size_t n)
{
    json_t *text;
    char *base64;

    if (!memchr(data, '\0', n) && text_utf8_length(data, n) >= 0)
        return json_stringn(data, n);
    base64 = mem_alloc(4 * ((n + 2) / 3) + 1);
    EVP_EncodeBlock((unsigned char *)base64, (const unsigned char *)data, (int)n);
    text = json_pack("{s:s}", "base64", base64);
    free(base64);
    return text;
}

static int wrong(struct err *e, const char *where, const char *what)
{
    return err_set(e, ERR_REJECT, 400, "%.80s: %s", where, what);
}

/* A string, or {"base64": "…"}; the bytes end with a NUL that does not count. */
static int to_bytes(struct arena *a, const json_t *v, const char *where, const char **data,
                    size_t *n, struct err *e)
{
    const char *text = json_string_value(json_object_get(v, "base64"));
    size_t len = text ? strlen(text) : 0;
    int bytes = 0;
    char *out;

    if (json_is_string(v)) {
        *n = json_string_length(v);
        *data = arena_strndup(a, json_string_value(v), *n);
        return 0;
    }
    if (!text || len % 4)
        return wrong(e, where, "a string, or {\"base64\": …} is wanted");
    out = arena_alloc(a, len / 4 * 3 + 1);
    if (len > 0)
        bytes = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)text, (int)len);
    if (bytes < 0)
        return wrong(e, where, "this is no base64");
    bytes -= len > 1 && text[len - 1] == '=' ? 1 + (text[len - 2] == '=') : 0;
    out[bytes] = '\0';
    *data = out;
    *n = (size_t)bytes;
    return 0;
}

/* ---- headers ---- */

static json_t *from_value(const struct mq_value *v)
{
    char number[64];
    json_t *list;
    size_t i;

    switch (v->kind) {
    case 'S':
    case 'x':
        return from_bytes(v->text.data, v->text.len);
    case 'F':
        return file_from_table(&v->table);
    case 'A':
        list = json_array();
        for (i = 0; i < v->array.n; i++)
            json_array_append_new(list, json_pack("[s#, o]", &v->array.items[i].kind, 1,
                                                  from_value(&v->array.items[i])));
        return list;
    case 'f':
    case 'd': /* as text: JSON knows no infinity */
        snprintf(number, sizeof(number), "%.17g", v->real);
        return json_string(number);
    case 'D':
        return json_pack("[I, i]", (json_int_t)v->integer, (int)v->scale);
    case 'V':
        return json_null();
    case 't':
        return json_boolean(v->integer);
    default:
        return json_integer(v->integer);
    }
}

/* [name, type, value] each, so that order and repetitions stay. */
json_t *file_from_table(const struct mq_table *t)
{
    json_t *list = json_array();
    size_t i;

    for (i = 0; i < t->n; i++) {
        if (strcmp(t->fields[i].name, "x-delivery-count") == 0)
            continue; /* how often it was looked at */
        json_array_append_new(
            list, json_pack("[o, s#, o]", from_bytes(t->fields[i].name, strlen(t->fields[i].name)),
                            &t->fields[i].value.kind, 1, from_value(&t->fields[i].value)));
    }
    return list;
}

static int to_table(struct arena *a, const json_t *list, int depth, struct mq_table *t,
                    struct err *e);

static int to_real(const json_t *v, double *real)
{
    const char *text = json_string_value(v);
    char *end;

    if (!text || !*text)
        return -1;
    *real = strtod(text, &end);
    return *end ? -1 : 0;
}

static int to_value(struct arena *a, const json_t *kind, const json_t *v, const char *name,
                    int depth, struct mq_value *out, struct err *e);

static int to_array(struct arena *a, const json_t *v, const char *name, int depth,
                    struct mq_value *out, struct err *e)
{
    json_t *item;
    size_t i;

    out->array.n = json_array_size(v);
    out->array.items = arena_alloc(a, (out->array.n + 1) * sizeof(*out->array.items));
    json_array_foreach (v, i, item) {
        if (json_array_size(item) != 2)
            return wrong(e, name, "an item of an array is [type, value]");
        if (to_value(a, json_array_get(item, 0), json_array_get(item, 1), name, depth,
                     &out->array.items[i], e))
            return -1;
    }
    return 0;
}

static int to_value(struct arena *a, const json_t *kind, const json_t *v, const char *name,
                    int depth, struct mq_value *out, struct err *e)
{
    const char *letter = json_string_value(kind);
    const json_t *scale = json_array_get(v, 1);

    if (!letter || strlen(letter) != 1 || !strchr("tbBsuIilLfdDSxTFAV", *letter))
        return wrong(e, name, "the type is none of tbBsuIilLfdDSxTFAV");
    out->kind = *letter;
    if (strchr("bBsuIilLT", out->kind)) {
        out->integer = json_integer_value(v);
        return json_is_integer(v) ? 0 : wrong(e, name, "an integer is wanted");
    }
    switch (out->kind) {
    case 'S':
    case 'x':
        return to_bytes(a, v, name, &out->text.data, &out->text.len, e);
    case 'F':
        return depth == 0 ? wrong(e, name, "too deep") : to_table(a, v, depth - 1, &out->table, e);
    case 'A':
        if (!json_is_array(v) || depth == 0)
            return wrong(e, name, "an array is wanted, not too deep");
        return to_array(a, v, name, depth - 1, out, e);
    case 'f':
    case 'd':
        return to_real(v, &out->real) ? wrong(e, name, "a number as text is wanted") : 0;
    case 'D':
        out->integer = json_integer_value(json_array_get(v, 0));
        out->scale = (uint8_t)json_integer_value(scale);
        if (json_array_size(v) == 2 && json_is_integer(json_array_get(v, 0)) &&
            json_is_integer(scale) && json_integer_value(scale) == out->scale)
            return 0;
        return wrong(e, name, "[digits, scale] is wanted");
    case 't':
        out->integer = json_is_true(v);
        return json_is_boolean(v) ? 0 : wrong(e, name, "true or false is wanted");
    default:
        return json_is_null(v) ? 0 : wrong(e, name, "null is wanted");
    }
}

static int to_table(struct arena *a, const json_t *list, int depth, struct mq_table *t,
                    struct err *e)
{
    json_t *item;
    size_t i, n;

    if (!json_is_array(list))
        return wrong(e, "headers", "an array of [name, type, value] is wanted");
    t->room = json_array_size(list) + 4; /* an import adds some */
    t->fields = arena_alloc(a, t->room * sizeof(*t->fields));
    json_array_foreach (list, i, item) {
        struct mq_field *f = &t->fields[t->n++];

        if (json_array_size(item) != 3)
            return wrong(e, "headers", "each is [name, type, value]");
        if (to_bytes(a, json_array_get(item, 0), "a header's name", &f->name, &n, e) ||
            to_value(a, json_array_get(item, 1), json_array_get(item, 2), f->name, depth, &f->value,
                     e))
            return -1;
        if (n > 255)
            return wrong(e, f->name, "a header's name has at most 255 bytes");
    }
    return 0;
}

/* ---- properties ---- */

static const struct {
    const char *name;
    size_t offset; /* of a const char * */
} texts[] = {
    {"content_type", offsetof(struct mq_message, content_type)},
    {"content_encoding", offsetof(struct mq_message, content_encoding)},
    {"correlation_id", offsetof(struct mq_message, correlation_id)},
    {"reply_to", offsetof(struct mq_message, reply_to)},
    {"expiration", offsetof(struct mq_message, expiration)},
    {"message_id", offsetof(struct mq_message, message_id)},
    {"type", offsetof(struct mq_message, type)},
    {"user_id", offsetof(struct mq_message, user_id)},
    {"app_id", offsetof(struct mq_message, app_id)},
};
enum { TEXTS = sizeof(texts) / sizeof(texts[0]) };

static json_t *from_properties(const struct mq_message *m)
{
    json_t *out = json_object();
    const char *text;
    size_t i;

    for (i = 0; i < TEXTS; i++) {
        memcpy(&text, (const char *)m + texts[i].offset, sizeof(text));
        if (text)
            json_object_set_new(out, texts[i].name, from_bytes(text, strlen(text)));
    }
    if (m->timestamp)
        json_object_set_new(out, "timestamp", json_integer((json_int_t)m->timestamp));
    if (m->delivery_mode)
        json_object_set_new(out, "delivery_mode", json_integer(m->delivery_mode));
    if (m->priority)
        json_object_set_new(out, "priority", json_integer(m->priority));
    return out;
}

static int to_number(const json_t *v, const char *name, json_int_t max, json_int_t *n,
                     struct err *e)
{
    *n = json_integer_value(v);
    if (!v || (json_is_integer(v) && *n >= 0 && *n <= max))
        return 0;
    return err_set(e, ERR_REJECT, 400, "%s: an integer from 0 to %lld is wanted", name,
                   (long long)max);
}

static int to_text(struct arena *a, const json_t *v, size_t i, struct mq_message *m, struct err *e)
{
    const char *text;
    size_t n;

    if (!v)
        return 0;
    if (to_bytes(a, v, texts[i].name, &text, &n, e))
        return -1;
    if (n > 255 || strlen(text) != n)
        return wrong(e, texts[i].name, "a property has at most 255 bytes, and no NUL");
    memcpy((char *)m + texts[i].offset, &text, sizeof(text));
    return 0;
}

static int to_properties(struct arena *a, const json_t *in, struct mq_message *m, struct err *e)
{
    json_int_t timestamp, mode, priority;
    size_t i;

    if (!json_is_object(in))
        return wrong(e, "properties", "an object is wanted");
    for (i = 0; i < TEXTS; i++)
        if (to_text(a, json_object_get(in, texts[i].name), i, m, e))
            return -1;
    if (to_number(json_object_get(in, "timestamp"), "timestamp", INT64_MAX, &timestamp, e) ||
        to_number(json_object_get(in, "delivery_mode"), "delivery_mode", 2, &mode, e) ||
        to_number(json_object_get(in, "priority"), "priority", 255, &priority, e))
        return -1;
    m->timestamp = (uint64_t)timestamp;
    m->delivery_mode = (uint8_t)mode;
    m->priority = (uint8_t)priority;
    return 0;
}

/* ---- letters ---- */

json_t *file_from_letter(const struct letter *l)
{
    char at[CLOCK_ISO_SIZE];

    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:s?, s:o, s:o, s:o}", "id", l->id, "queue",
                     l->queue, "origin", letter_origin_name(l->origin), "operation",
                     l->operation ? from_bytes(l->operation, strlen(l->operation)) : json_null(),
                     "error", l->error ? from_bytes(l->error, strlen(l->error)) : json_null(),
                     "failed_at", l->failed_ms ? clock_iso(l->failed_ms, at) : NULL, "properties",
                     from_properties(l->message), "headers", file_from_table(&l->message->headers),
                     "body", from_bytes(l->message->body, l->message->body_len));
}

int file_to_letter(struct arena *a, const json_t *line, struct mq_message *m, struct letter *l,
                   struct err *e)
{
    const char *id = json_string_value(json_object_get(line, "id"));
    const char *queue = json_string_value(json_object_get(line, "queue"));
    const struct work_queue *known = queue ? work_queue_find(queue) : NULL;

    memset(m, 0, sizeof(*m));
    if (!json_is_object(line))
        return wrong(e, "the line", "an object is wanted");
    if (!uuid_valid(id))
        return wrong(e, "id", "a UUID is wanted");
    if (!known)
        return wrong(e, "queue", "a work queue of the fleet is wanted");
    if (to_properties(a, json_object_get(line, "properties"), m, e) ||
        to_table(a, json_object_get(line, "headers"), DEPTH_MAX, &m->headers, e) ||
        to_bytes(a, json_object_get(line, "body"), "body", &m->body, &m->body_len, e))
        return -1;
    letter_read(l, known->name, m);
    return strcasecmp(l->id, id) ? wrong(e, "id", "it is not that of this letter") : 0;
}
