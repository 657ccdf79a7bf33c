/* Clocks, in milliseconds or microseconds. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <stddef.h>

int64_t clock_wall_ms(void);      /* since the epoch; may step backwards */
int64_t clock_monotonic_us(void); /* never steps; for durations */

enum { CLOCK_ISO_SIZE = 25 };

/* "2026-11-20T23:45:00.123Z" with its NUL into out[CLOCK_ISO_SIZE]. Returns out. */
char *clock_iso(int64_t wall_ms, char *out);

#endif
