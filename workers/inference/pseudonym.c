#include "workers/inference/pseudonym.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"

struct value {
    size_t n, number;
    char text[];
};

/* The values of one kind; the one of placeholder N stands at N - 1. */
struct values {
    struct value **list;
    size_t count, room, replaced;
    struct map *by_text;
};

struct pseudonym {
    struct values of[PSEUDONYM_KINDS];
    struct pii_names names;
};

const char *pseudonym_kind_name(int kind)
{
    return kind == PSEUDONYM_TEXT ? "TEXT" : pii_kind_name((enum pii_kind)kind);
}

/* ---- life ---- */

struct pseudonym *pseudonym_new(const struct pii_names *names)
{
    struct pseudonym *p = mem_alloc(sizeof(*p));

    if (names)
        p->names = *names;
    return p;
}

void pseudonym_free(struct pseudonym *p)
{
    size_t kind, i;

    if (!p)
        return;
    for (kind = 0; kind < PSEUDONYM_KINDS; kind++) {
        for (i = 0; i < p->of[kind].count; i++)
            free(p->of[kind].list[i]);
        free(p->of[kind].list);
        map_free(p->of[kind].by_text);
    }
    free(p);
}

size_t pseudonym_count(const struct pseudonym *p, int kind)
{
    return p->of[kind].replaced;
}

/* ---- placeholders ---- */

enum match { NONE, BEGINNING, WHOLE };

/* The same for the kind's name and what is behind it; n >= 1, without the '['. */
static enum match match_kind(const char *text, size_t n, const char *name, size_t *number)
{
    size_t length = strlen(name), i;

    if (n <= length)
        return memcmp(text, name, n) == 0 ? BEGINNING : NONE;
    if (memcmp(text, name, length) != 0 || text[length] != '_')
        return NONE;
    *number = 0;
    for (i = length + 1; i < n; i++) {
        if (text[i] == ']' && *number > 0)
            return i == n - 1 ? WHOLE : NONE;
        if (!pii_digit(text[i]) || (*number == 0 && text[i] == '0') || *number > PSEUDONYM_MAX / 10)
            return NONE;
        *number = *number * 10 + (size_t)(text[i] - '0');
    }
    return BEGINNING;
}

/* Are n bytes a placeholder, or the beginning of one? Its only '[' is the first byte, its only ']'
 * the last. */
static enum match match(const char *text, size_t n, int *kind, size_t *number)
{
    enum match found = NONE;
    int k;

    if (n == 0 || *text != '[')
        return NONE;
    if (n == 1)
        return BEGINNING;
    for (k = 0; k < PSEUDONYM_KINDS && found != WHOLE; k++) {
        enum match m = match_kind(text + 1, n - 1, pseudonym_kind_name(k), number);

        if (m == NONE)
            continue;
        found = m;
        *kind = k;
    }
    return found;
}

/* The bytes of the placeholder that begins a text; 0: none does. */
static size_t placeholder_length(const char *text, size_t n)
{
    size_t length, number;
    int kind;

    for (length = 1; length <= n && length <= PSEUDONYM_BYTES; length++) {
        enum match m = match(text, length, &kind, &number);

        if (m == WHOLE)
            return length;
        if (m == NONE)
            break;
    }
    return 0;
}

/* ---- hiding ---- */

static struct value *value_of(struct values *values, const char *text, size_t n)
{
    struct value *v;

    if (!values->by_text)
        values->by_text = map_new();
    v = map_get(values->by_text, text, n);
    if (v || values->count == PSEUDONYM_MAX)
        return v;
    if (values->count == values->room) {
        values->room = values->room ? values->room * 2 : 8;
        values->list = mem_resize(values->list, values->room * sizeof(struct value *));
    }
    v = mem_alloc(sizeof(*v) + n);
    v->n = n;
    memcpy(v->text, text, n);
    values->list[values->count++] = v;
    v->number = values->count;
    map_put(values->by_text, text, n, v);
    return v;
}

static int replace(struct pseudonym *p, int kind, const char *text, size_t n, struct buf *out)
{
    const struct value *v = value_of(&p->of[kind], text, n);

    p->of[kind].replaced++;
    return v ? buf_printf(out, "[%s_%zu]", pseudonym_kind_name(kind), v->number) : -1;
}

/* A text without personal data, in which something may look like a placeholder. */
static int hide_plain(struct pseudonym *p, const char *text, size_t n, struct buf *out)
{
    const char *bracket;
    size_t length, before;

    while (n > 0 && (bracket = memchr(text, '[', n))) {
        before = (size_t)(bracket - text);
        length = placeholder_length(bracket, n - before);
        if (buf_add(out, text, before) ||
            (length > 0 ? replace(p, PSEUDONYM_TEXT, bracket, length, out) : buf_puts(out, "[")))
            return -1;
        before += length > 0 ? length : 1;
        text += before;
        n -= before;
    }
    return buf_add(out, text, n);
}

int pseudonym_hide(struct pseudonym *p, const char *text, size_t n, struct buf *out)
{
    struct pii_span span;
    struct pii_scan scan;
    size_t done = 0;

    pii_scan_init(&scan, text, n, &p->names);
    while (pii_scan_next(&scan, &span)) {
        if (hide_plain(p, text + done, span.at - done, out) ||
            replace(p, (int)span.kind, text + span.at, span.length, out))
            return -1;
        done = span.at + span.length;
    }
    return hide_plain(p, text + done, n - done, out);
}

/* ---- restoring ---- */

/* One byte more behind what is held back. */
static int feed_byte(const struct pseudonym *p, struct pseudonym_stream *s, char c, struct buf *out)
{
    const struct value *v;
    size_t number = 0;
    int kind = 0;

    s->held[s->n++] = c;
    switch (match(s->held, s->n, &kind, &number)) {
    case BEGINNING:
        return 0;
    case WHOLE:
        if (number > p->of[kind].count)
            return pseudonym_flush(s, out);
        v = p->of[kind].list[number - 1];
        s->n = 0;
        return buf_add(out, v->text, v->n);
    case NONE:
        break;
    }
    if (c != '[')
        return pseudonym_flush(s, out);
    s->n--; /* another one may begin */
    if (pseudonym_flush(s, out))
        return -1;
    s->held[s->n++] = c;
    return 0;
}

int pseudonym_feed(const struct pseudonym *p, struct pseudonym_stream *s, const char *text,
                   size_t n, struct buf *out)
{
    const char *end = text + n, *bracket;

    while (text < end) {
        if (s->n == 0) {
            bracket = memchr(text, '[', (size_t)(end - text));
            if (!bracket)
                return buf_add(out, text, (size_t)(end - text));
            if (buf_add(out, text, (size_t)(bracket - text)))
                return -1;
            text = bracket;
        }
        if (feed_byte(p, s, *text++, out))
            return -1;
    }
    return 0;
}

int pseudonym_flush(struct pseudonym_stream *s, struct buf *out)
{
    size_t n = s->n;

    s->n = 0;
    return buf_add(out, s->held, n);
}

int pseudonym_restore(const struct pseudonym *p, const char *text, size_t n, struct buf *out)
{
    struct pseudonym_stream s = {.n = 0};

    return pseudonym_feed(p, &s, text, n, out) || pseudonym_flush(&s, out) ? -1 : 0;
}
