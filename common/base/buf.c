#include "common/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/text.h"

void buf_init(struct buf *b, size_t max)
{
    memset(b, 0, sizeof(*b));
    b->max = max;
}

void buf_free(struct buf *b)
{
    free(b->data);
    buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

/* Make room for n more bytes and the NUL. */
static int reserve(struct buf *b, size_t n)
{
    size_t want;

    if (n > b->max - b->len)
        return -1;
    want = b->len + n + 1;
    if (want <= b->cap)
        return 0;
    if (want < b->cap * 2)
        want = b->cap * 2;
    if (want > b->max + 1)
        want = b->max + 1;
    if (want < 64)
        want = 64;
    b->data = mem_resize(b->data, want);
    b->cap = want;
    return 0;
}

int buf_add(struct buf *b, const void *data, size_t n)
{
    if (reserve(b, n))
        return -1;
    if (n)
        memcpy(b->data + b->len, data, n);
    b->len += n;
    b->data[b->len] = '\0';
    return 0;
}

int buf_puts(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    size_t end = b->cap > b->max ? b->max + 1 : b->cap; /* memory may reach beyond the maximum */
    size_t room = end - b->len;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(room ? b->data + b->len : NULL, room, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < room) { /* what most calls find: it fits as it is */
        b->len += (size_t)n;
        return 0;
    }
    if (room)
        b->data[b->len] = '\0';
    if (n < 0 || reserve(b, (size_t)n))
        return -1;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}

/* How many bytes of s stand in JSON text as they are. */
static size_t json_plain(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    while (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\')
        p++;
    return (size_t)(p - (const unsigned char *)s);
}

/* One other character of JSON text; returns the bytes of s it took. */
static size_t json_char(const char *s, char out[8])
{
    unsigned char c = (unsigned char)*s;
    size_t n;

    if (c == '"' || c == '\\') {
        snprintf(out, 8, "\\%c", c);
        return 1;
    }
    if (c < 0x20 || c == 0x7f) {
        snprintf(out, 8, "\\u%04x", c);
        return 1;
    }
    n = text_utf8_char(s, strnlen(s, 4));
    if (n == 0) {
        snprintf(out, 8, "\xef\xbf\xbd");
        return 1;
    }
    memcpy(out, s, n);
    out[n] = '\0';
    return n;
}

int buf_json_string(struct buf *b, const char *s)
{
    size_t before = b->len, n;
    char out[8];

    if (buf_add(b, "\"", 1))
        goto err;
    while (*s) {
        n = json_plain(s);
        if (buf_add(b, s, n))
            goto err;
        s += n;
        if (!*s)
            break;
        s += json_char(s, out);
        if (buf_puts(b, out))
            goto err;
    }
    if (buf_add(b, "\"", 1))
        goto err;
    return 0;
err:
    b->len = before;
    if (b->data)
        b->data[before] = '\0';
    return -1;
}
