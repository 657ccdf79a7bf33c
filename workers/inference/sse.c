#include "workers/inference/sse.h"

#include <string.h>

static const char bom[] = "\xef\xbb\xbf";

enum outcome { GO_ON, STOP, TOO_LONG };

void sse_init(struct sse *s, size_t max)
{
    memset(s, 0, sizeof(*s));
    buf_init(&s->line, max);
    buf_init(&s->data, max);
}

void sse_fini(struct sse *s)
{
    buf_free(&s->line);
    buf_free(&s->data);
}

/* An empty line: the event is complete. */
static enum outcome dispatch(struct sse *s, sse_cb *cb, void *arg)
{
    if (!s->has_data)
        return GO_ON;
    s->has_data = false;
    buf_add(&s->data, "", 0); /* so that there is a NUL */
    if (!cb(arg, s->data.data, s->data.len))
        return STOP;
    buf_clear(&s->data);
    return GO_ON;
}

static enum outcome line_came(struct sse *s, const char *line, size_t n, sse_cb *cb, void *arg)
{
    static const char field[] = "data";
    size_t name = sizeof(field) - 1, value;

    if (n == 0)
        return dispatch(s, cb, arg);
    if (n < name || memcmp(line, field, name) != 0 || (n > name && line[name] != ':'))
        return GO_ON; /* a comment, or a field that says nothing to us */
    value = n > name ? name + 1 : n;
    if (value < n && line[value] == ' ')
        value++;
    if ((s->has_data && buf_add(&s->data, "\n", 1)) || buf_add(&s->data, line + value, n - value))
        return TOO_LONG;
    s->has_data = true;
    return GO_ON;
}

/* The bytes to pass over because they are (the rest of) a byte order mark. What only began like one
 * is put back into the line. */
static size_t skip_bom(struct sse *s, const char *bytes, size_t n)
{
    size_t i = 0;

    while (s->bom >= 0 && i < n) {
        if (bytes[i] != bom[s->bom]) {
            buf_add(&s->line, bom, (size_t)s->bom);
            s->bom = -1;
        } else {
            i++;
            if (++s->bom == sizeof(bom) - 1)
                s->bom = -1;
        }
    }
    return i;
}

static size_t line_length(const char *bytes, size_t n)
{
    size_t i = 0;

    while (i < n && bytes[i] != '\n' && bytes[i] != '\r')
        i++;
    return i;
}

/* One line that has ended, of which the last part is at bytes. */
static enum outcome end_line(struct sse *s, const char *bytes, size_t n, sse_cb *cb, void *arg)
{
    enum outcome outcome;

    if (n > s->line.max - s->line.len)
        return TOO_LONG;
    if (s->line.len == 0)
        return line_came(s, bytes, n, cb, arg);
    buf_add(&s->line, bytes, n);
    outcome = line_came(s, s->line.data, s->line.len, cb, arg);
    if (outcome == GO_ON)
        buf_clear(&s->line);
    return outcome;
}

int sse_read(struct sse *s, const char *bytes, size_t n, sse_cb *cb, void *arg)
{
    size_t at = skip_bom(s, bytes, n), length;
    enum outcome outcome;

    while (at < n) {
        if (s->after_cr) {
            s->after_cr = false;
            if (bytes[at] == '\n') {
                at++;
                continue;
            }
        }
        length = line_length(bytes + at, n - at);
        if (at + length == n)
            return buf_add(&s->line, bytes + at, length);
        s->after_cr = bytes[at + length] == '\r';
        outcome = end_line(s, bytes + at, length, cb, arg);
        if (outcome != GO_ON)
            return outcome == STOP ? 0 : -1;
        at += length + 1;
    }
    return 0;
}
