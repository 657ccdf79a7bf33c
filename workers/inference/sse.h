/*
 * Server-sent events, read piece by piece: pieces may end anywhere, also within a character or
 * between CR and LF. As the HTML standard has it: lines end with CR, LF or CRLF; the lines of one
 * event's data are joined with LF; comments, ids and unknown fields are passed over; an event that
 * the stream breaks off is none. Knows nothing of what the data means.
 */
#ifndef INFERENCE_SSE_H
#define INFERENCE_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"

struct sse {
    struct buf line; /* the beginning of a line whose end has not come */
    struct buf data; /* of the event so far */
    bool has_data;   /* an event may have empty data */
    bool after_cr;   /* a LF now belongs to the line end before it */
    int bom;         /* bytes of a byte order mark that are there; -1: past the beginning */
};

/* max bounds a line, and the data of an event, in bytes. */
void sse_init(struct sse *s, size_t max);
void sse_fini(struct sse *s);

/* Called for each event with its data, which is followed by a NUL and valid until it returns.
 * False: no more, please; the reader may be gone then. */
typedef bool sse_cb(void *arg, const char *data, size_t n);

/* Read n bytes. Returns 0, or -1 when a line or an event is longer than allowed: then the stream is
 * not to be read on. */
int sse_read(struct sse *s, const char *bytes, size_t n, sse_cb *cb, void *arg);

#endif
