/* What the options of chatfleet dlq are written in: times, durations, rates, lists. */
#ifndef CTL_DLQ_PARSE_H
#define CTL_DLQ_PARSE_H

#include <stddef.h>
#include <stdint.h>

/* Each returns 0, or -1 when the text is none of its kind; then nothing is changed. */

/* "2026-11-20", "2026-11-20T23:45", "…:10.123Z", "…+07:00"; UTC without a zone. Ms since the epoch. */
int dlq_parse_time(const char *text, int64_t *ms);
/* A time, or how long ago: "90s", "30m", "2h", "7d". */
int dlq_parse_moment(const char *text, int64_t now_ms, int64_t *ms);
/* "5", "5/s", "300/m", "10000/h", "0.5/s": a number a second, above 0. */
int dlq_parse_rate(const char *text, double *per_second);
/* A whole number of at least 1. */
int dlq_parse_count(const char *text, long *n);
/* "1,10,100" into at most max numbers of at least 1. */
int dlq_parse_counts(const char *text, long *numbers, size_t max, size_t *n);

#endif
