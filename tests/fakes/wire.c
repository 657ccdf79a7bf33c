#include "tests/fakes/wire.h"

#include <string.h>

static void number(struct buf *out, uint64_t value, int bytes)
{
    char octet;

    while (bytes-- > 0) {
        octet = (char)(value >> (8 * bytes));
        buf_add(out, &octet, 1);
    }
}

void wire_frame(struct buf *out, int type, int channel, const void *payload, size_t n)
{
    number(out, (uint64_t)type, 1);
    number(out, (uint64_t)channel, 2);
    number(out, n, 4);
    buf_add(out, payload, n);
    buf_add(out, "\xce", 1);
}

static void string(struct buf *out, const char *s, int length_bytes)
{
    number(out, strlen(s), length_bytes);
    buf_puts(out, s);
}

void wire_vmethod(struct buf *out, int channel, unsigned method, const char *layout, va_list ap)
{
    struct buf args;

    buf_init(&args, 100000);
    number(&args, method, 4);
    for (; *layout; layout++) {
        if (*layout == 'o')
            number(&args, (uint64_t)va_arg(ap, int), 1);
        else if (*layout == 'h')
            number(&args, (uint64_t)va_arg(ap, int), 2);
        else if (*layout == 'l')
            number(&args, va_arg(ap, unsigned), 4);
        else if (*layout == 'q')
            number(&args, va_arg(ap, uint64_t), 8);
        else if (*layout == 's')
            string(&args, va_arg(ap, const char *), 1);
        else if (*layout == 'S')
            string(&args, va_arg(ap, const char *), 4);
        else
            number(&args, 0, 4);
    }
    wire_frame(out, WIRE_METHOD, channel, args.data, args.len);
    buf_free(&args);
}

void wire_method(struct buf *out, int channel, unsigned method, const char *layout, ...)
{
    va_list ap;

    va_start(ap, layout);
    wire_vmethod(out, channel, method, layout, ap);
    va_end(ap);
}

void wire_content(struct buf *out, int channel, const void *body, size_t n)
{
    struct buf header;

    buf_init(&header, 100);
    number(&header, 60, 2);
    number(&header, 0, 2);
    number(&header, n, 8);
    number(&header, 0, 2);
    wire_frame(out, WIRE_HEADER, channel, header.data, header.len);
    if (n)
        wire_frame(out, WIRE_BODY, channel, body, n);
    buf_free(&header);
}

void wire_deliver(struct buf *out, int channel, const char *consumer, uint64_t tag,
                  const char *exchange, const char *key, const char *body)
{
    wire_method(out, channel, WIRE(60, 60), "sqoss", consumer, tag, 0, exchange, key);
    wire_content(out, channel, body, strlen(body));
}

static uint64_t number_at(const unsigned char *p, int bytes)
{
    uint64_t value = 0;

    while (bytes-- > 0)
        value = value << 8 | *p++;
    return value;
}

size_t wire_next(const char *data, size_t n, struct wire_in *in)
{
    const unsigned char *p = (const unsigned char *)data;
    size_t size;

    memset(in, 0, sizeof(*in));
    if (n < 8)
        return 0;
    size = number_at(p + 3, 4);
    if (n < size + 8)
        return 0;
    in->type = p[0];
    in->channel = (int)number_at(p + 1, 2);
    in->args = p + 7;
    in->n = size;
    if (in->type == WIRE_METHOD && size >= 4) {
        in->method = (unsigned)number_at(p + 7, 4);
        in->args += 4;
        in->n -= 4;
    }
    return size + 8;
}

static size_t width(char letter)
{
    return letter == 'q' ? 8 : letter == 'l' ? 4 : letter == 'h' ? 2 : 1;
}

int wire_args(const struct wire_in *in, const char *layout, ...)
{
    const unsigned char *p = in->args, *end = in->args + in->n;
    va_list ap;
    int failed = 0;

    va_start(ap, layout);
    for (; *layout && !failed; layout++) {
        size_t n = width(*layout);

        failed = (size_t)(end - p) < n ? -1 : 0;
        if (failed)
            break;
        if (*layout == 'q') {
            *va_arg(ap, uint64_t *) = number_at(p, 8);
        } else if (*layout == 'l') {
            *va_arg(ap, unsigned *) = (unsigned)number_at(p, 4);
        } else if (*layout != 's') {
            *va_arg(ap, int *) = (int)number_at(p, (int)n);
        } else if ((size_t)(end - p) < 1u + *p) {
            failed = -1;
        } else {
            char *text = va_arg(ap, char *);

            memcpy(text, p + 1, *p);
            text[*p] = '\0';
            n = 1u + *p;
        }
        p += n;
    }
    va_end(ap);
    return failed;
}
