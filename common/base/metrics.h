/*
 * Metrics in the Prometheus text format 0.0.4.
 *
 * A family is a static object with a name, a help text and, for histograms, bounds; a series is
 * one set of its labels. Keep the series of a hot path in a pointer. Labels come from tables of
 * the program (operations, routes, queues), never from a client, so that their number is bounded; where
 * such a table changes, metrics_forget() those that left it.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdint.h>

#include "common/base/buf.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric; /* one series */

struct metric_family {
    const char *name;
    enum metric_type type;
    const char *help;
    struct metric *series;      /* internal: start with NULL */
    struct metric_family *next; /* internal */
};

/* The series with these labels, made on first use: metric_get(&f, "queue=\"a\",kind=\"b\"");
 * "" for none. The caller has escaped the values. Lives as long as the process, if it is not forgotten. */
struct metric *metric_get(struct metric_family *f, const char *labels);

void metric_add(struct metric *m, double amount);
void metric_set(struct metric *m, double value);
void metric_observe(struct metric *m, double seconds); /* histograms: buckets from 1 ms to 60 s */

/* Take away every series that has this label, as in "queue=\"a\"". */
void metrics_forget(const char *label);

/* Append all families that have a series. Returns -1 when the buffer is full. */
int metrics_render(struct buf *out);

#endif
