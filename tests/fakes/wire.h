/*
 * AMQP 0-9-1 as raw bytes, for tests: written without the codec that they test.
 *
 * A layout is a text with a letter for each argument:
 *   'o' octet, bits (int)   'h' short (int)   'l' long (unsigned)   'q' longlong (uint64_t)
 *   's' short string        'S' long string (const char *)          't' an empty table, no argument
 */
#ifndef FAKES_WIRE_H
#define FAKES_WIRE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"

enum { WIRE_METHOD = 1, WIRE_HEADER = 2, WIRE_BODY = 3, WIRE_HEARTBEAT = 8, WIRE_SHORT = 256 };

/* Class and method in one number, as in WIRE(60, 40) for basic.publish. */
#define WIRE(class_id, method_id) ((unsigned)(class_id) << 16 | (unsigned)(method_id))

void wire_frame(struct buf *out, int type, int channel, const void *payload, size_t n);
void wire_method(struct buf *out, int channel, unsigned method, const char *layout, ...);
void wire_vmethod(struct buf *out, int channel, unsigned method, const char *layout, va_list ap);

/* A header without properties, and the body in one frame (none when n is 0). */
void wire_content(struct buf *out, int channel, const void *body, size_t n);

/* A whole message for a consumer. */
void wire_deliver(struct buf *out, int channel, const char *consumer, uint64_t tag,
                  const char *exchange, const char *key, const char *body);

struct wire_in {
    int type, channel;
    unsigned method;           /* of a method frame, else 0 */
    const unsigned char *args; /* behind the method's number; the payload of other frames */
    size_t n;
};

/* The first frame of the n bytes: returns its length, or 0 when it is not complete. */
size_t wire_next(const char *data, size_t n, struct wire_in *in);

/* Read arguments: 'o', 'h' into int *, 'l' into unsigned *, 'q' into uint64_t *, 's' into
 * char[WIRE_SHORT]. Returns -1 when they are not there. */
int wire_args(const struct wire_in *in, const char *layout, ...);

#endif
