#include "common/base/metrics.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                0.25,  0.5,    1,     2.5,  5,     10,   60};

enum { BUCKETS = sizeof(bounds) / sizeof(bounds[0]) };

struct metric {
    struct metric *next;
    char *labels;
    double value;              /* of a histogram: the sum */
    uint64_t buckets[BUCKETS]; /* not yet cumulative */
    uint64_t count;
};

static struct metric_family *families;

struct metric *metric_get(struct metric_family *f, const char *labels)
{
    struct metric *m;

    for (m = f->series; m; m = m->next)
        if (strcmp(m->labels, labels) == 0)
            return m;
    m = mem_alloc(sizeof(*m));
    m->labels = mem_strdup(labels);
    if (!f->series) {
        f->next = families;
        families = f;
    }
    m->next = f->series;
    f->series = m;
    return m;
}

void metric_add(struct metric *m, double amount)
{
    m->value += amount;
}

void metric_set(struct metric *m, double value)
{
    m->value = value;
}

void metric_observe(struct metric *m, double seconds)
{
    int i;

    m->value += seconds;
    m->count++;
    for (i = 0; i < BUCKETS; i++) {
        if (seconds <= bounds[i]) {
            m->buckets[i]++;
            return;
        }
    }
}

static bool has_label(const struct metric *m, const char *label)
{
    const char *at = strstr(m->labels, label);
    const char *end = at ? at + strlen(label) : NULL;

    return at && (at == m->labels || at[-1] == ',') && (*end == ',' || *end == '\0');
}

static void forget_in(struct metric_family *f, const char *label)
{
    struct metric **at = &f->series, *m;

    while ((m = *at)) {
        if (!has_label(m, label)) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        free(m->labels);
        free(m);
    }
}

void metrics_forget(const char *label)
{
    struct metric_family **at = &families, *f;

    while ((f = *at)) {
        forget_in(f, label);
        if (f->series)
            at = &f->next;
        else
            *at = f->next; /* it comes back with its next series */
    }
}

static int render_histogram(struct buf *out, const char *name, const struct metric *m)
{
    const char *comma = *m->labels ? "," : "";
    uint64_t total = 0;
    int i;

    for (i = 0; i < BUCKETS; i++) {
        total += m->buckets[i];
        if (buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, m->labels, comma, bounds[i],
                       (unsigned long long)total))
            return -1;
    }
    return buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n%s_sum{%s} %.9g\n%s_count{%s} %llu\n",
                      name, m->labels, comma, (unsigned long long)m->count, name, m->labels,
                      m->value, name, m->labels, (unsigned long long)m->count);
}

int metrics_render(struct buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    const struct metric_family *f;
    const struct metric *m;

    for (f = families; f; f = f->next) {
        if (buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
                       types[f->type]))
            return -1;
        for (m = f->series; m; m = m->next) {
            if (f->type == METRIC_HISTOGRAM) {
                if (render_histogram(out, f->name, m))
                    return -1;
            } else if (buf_printf(out, "%s{%s} %.15g\n", f->name, m->labels, m->value)) {
                return -1;
            }
        }
    }
    return 0;
}
