/* How long to wait before the next attempt to reach a server that is away. */
#ifndef IO_BACKOFF_H
#define IO_BACKOFF_H

#include <stdint.h>

/* In milliseconds, from BACKOFF_MIN_MS / 2 on: half of a time that doubles with each failure in a row, up to
 * max_ms, and a random share of the other half. */
enum { BACKOFF_MIN_MS = 100 };
int64_t backoff_ms(unsigned failures, int64_t max_ms);

#endif
