/*
 * What the client of a streamed turn is told, as server-sent events (docs/PROTOCOL.md, Streaming):
 * from the fleet's notices, deltas and answer to text. Deltas may come twice, too late, in the
 * wrong order or not at all; the text told is without holes, and in the end that of the answer.
 * Knows neither HTTP nor AMQP.
 */
#ifndef GATEWAY_EVENTS_H
#define GATEWAY_EVENTS_H

#include <stdint.h>

#include "common/base/buf.h"

struct events;

/* A comment, which clients pass over: so that nobody on the way takes the stream for dead. */
#define EVENTS_PING ": ping\n\n"

/* turn_id: what the turn is called if this request began it. text_max: bytes of the text that are
 * kept to compare; longer ones are told by the answer alone. */
struct events *events_new(const char *turn_id, size_t text_max);
/* One that goes on where another ended, for a client that has offset bytes of the epoch's text. What
 * they are is not known here, and not asked for again. */
struct events *events_resume(const char *turn_id, int64_t epoch, size_t offset, size_t text_max);
void events_free(struct events *s); /* NULL is allowed */

/* Where the text ends that was told: the epoch, and the bytes. */
int64_t events_epoch(const struct events *s);
size_t events_offset(const struct events *s);

/* Each appends to out what is to be sent now, maybe nothing. Bodies are JSON, n bytes. */
void events_accepted(struct events *s, const char *body, size_t n, struct buf *out);
/* offset: bytes of this epoch's text before the delta's. */
void events_delta(struct events *s, int64_t epoch, int64_t offset, const char *body, size_t n,
                  struct buf *out);
/* There is no word of the answer yet. Told at any time before the first. */
void events_interim(struct events *s, const char *body, size_t n, struct buf *out);
/* The answer, which wins over what was told before. -1: it cannot be read, and nothing was said. */
int events_completed(struct events *s, int64_t epoch, const char *body, size_t n, struct buf *out);
void events_failed(struct events *s, const char *problem, size_t n, struct buf *out);

#endif
