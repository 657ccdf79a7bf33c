#include "ctl/dlq_report.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/dlq.h"
#include "ctl/dlq_print.h"

enum { NOTES_MAX = 100, NOTES_SHOWN = 20 };

static const struct {
    const char *name, *meaning;
} results[RESULTS] = {
    [RESULT_SUCCEEDED] = {"succeeded", "answered well"},
    [RESULT_SENT] = {"sent", "published, outcome not waited for"},
    [RESULT_FAILED] = {"failed", "failed again"},
    [RESULT_REFUSED] = {"refused", "not published, left where they are"},
    [RESULT_ALREADY] = {"already", "had been replayed or dropped before; removed"},
    [RESULT_UNCERTAIN] = {"uncertain", "may have been replayed; left, --resume takes them"},
    [RESULT_OPEN] = {"open", "published, no answer in time"},
};

void report_init(struct report *r)
{
    memset(r, 0, sizeof(*r));
    r->began_us = r->told_us = clock_monotonic_us();
    r->tty = isatty(STDERR_FILENO) == 1;
    r->notes = json_array();
}

void report_fini(struct report *r)
{
    json_decref(r->notes);
}

static bool is_good(enum result result)
{
    return result == RESULT_SUCCEEDED || result == RESULT_SENT || result == RESULT_ALREADY;
}

void report_add(struct report *r, const struct letter *l, enum result result, int status,
                const char *detail)
{
    json_t *note;

    r->counts[result]++;
    if (is_good(result) || json_array_size(r->notes) == NOTES_MAX)
        return;
    note = json_pack("{s:s, s:s, s:o, s:s}", "id", l->id, "queue", l->queue, "operation",
                     print_text(l->operation), "result", results[result].name);
    if (status)
        json_object_set_new(note, "status", json_integer(status));
    json_object_set_new(note, "detail", print_text(detail));
    json_array_append_new(r->notes, note);
}

static long published(const struct report *r)
{
    return r->counts[RESULT_SUCCEEDED] + r->counts[RESULT_SENT] + r->counts[RESULT_FAILED] +
           r->counts[RESULT_OPEN];
}

void report_progress(struct report *r, long under_way)
{
    int64_t now = clock_monotonic_us();
    long n = published(r);

    fprintf(stderr, "%sreplayed %ld (%.0f/s), under way %ld, failed %ld, of %ld dead letters%s",
            r->tty ? "\r\033[K" : "", n, (double)(n - r->told) * 1e6 / (double)(now - r->told_us),
            under_way, r->counts[RESULT_FAILED], r->waiting, r->tty ? "" : "\n");
    r->told = n;
    r->told_us = now;
}

static void print_notes(const struct report *r)
{
    long bad = r->counts[RESULT_FAILED] + r->counts[RESULT_REFUSED] + r->counts[RESULT_UNCERTAIN] +
               r->counts[RESULT_OPEN];
    const char *id, *queue, *result, *detail;
    json_t *note;
    size_t i;

    json_array_foreach (r->notes, i, note) {
        if (i == NOTES_SHOWN)
            break;
        id = json_string_value(json_object_get(note, "id"));
        queue = json_string_value(json_object_get(note, "queue"));
        result = json_string_value(json_object_get(note, "result"));
        detail = json_string_value(json_object_get(note, "detail"));
        printf("%s  %s  %s%s", id, queue, result, detail ? ": " : "");
        print_words(detail ? detail : "");
        putchar('\n');
    }
    if (bad > NOTES_SHOWN)
        printf("… and %ld more\n", bad - NOTES_SHOWN);
}

static void print_json(const struct report *r, const char *run, double seconds)
{
    json_t *out =
        json_pack("{s:s?, s:I, s:f, s:f, s:s?}", "run", run, "replayed", (json_int_t)published(r),
                  "seconds", seconds, "letters_per_second",
                  seconds > 0 ? (double)published(r) / seconds : 0, "stopped", r->stopped);
    int i;

    for (i = 0; i < RESULTS; i++)
        json_object_set_new(out, results[i].name, json_integer(r->counts[i]));
    json_object_set_new(out, "other_tools", r->others < 0 ? json_null() : json_integer(r->others));
    json_object_set(out, "notes", r->notes);
    json_dumpf(out, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(out);
}

static void print_plain(const struct report *r, double seconds)
{
    int i;

    print_notes(r);
    printf("%ld replayed in %.1f s (%.0f/s)\n", published(r), seconds,
           seconds > 0 ? (double)published(r) / seconds : 0);
    for (i = 0; i < RESULTS; i++)
        if (r->counts[i])
            printf("  %-9s %6ld  %s\n", results[i].name, r->counts[i], results[i].meaning);
    if (r->stopped)
        printf("stopped: %s; what was not taken is where it was\n", r->stopped);
}

int report_end(struct report *r, const char *run, bool json)
{
    double seconds = (double)(clock_monotonic_us() - r->began_us) / 1e6;

    if (r->tty)
        fputs("\r\033[K", stderr);
    if (json)
        print_json(r, run, seconds);
    else
        print_plain(r, seconds);
    if (r->counts[RESULT_UNCERTAIN] || r->counts[RESULT_OPEN])
        return EXIT_OPEN;
    return r->counts[RESULT_FAILED] || r->counts[RESULT_REFUSED] || r->stopped ? EXIT_FAILED
                                                                               : EXIT_DONE;
}
