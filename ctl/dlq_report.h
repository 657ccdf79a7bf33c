/* What came of a replay: counted as it goes, told every second on standard error and at the end. */
#ifndef CTL_DLQ_REPORT_H
#define CTL_DLQ_REPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "ctl/dlq_letter.h"

enum result {
    RESULT_SUCCEEDED, /* answered well */
    RESULT_SENT,      /* published; nobody waits for its outcome */
    RESULT_FAILED,    /* failed again; it is a new dead letter */
    RESULT_REFUSED,   /* not published: it stays as it was */
    RESULT_ALREADY,   /* had been replayed or dropped, and was only left over: removed */
    RESULT_UNCERTAIN, /* may have been replayed: it stays as it was, until --resume */
    RESULT_OPEN,      /* replayed, but no answer came in time */
    RESULTS,
};

struct report {
    long counts[RESULTS];
    long waiting; /* letters in the queues when they were begun */
    long others;  /* tools at work beside this one; -1: not known */
    int64_t began_us, told_us;
    long told;
    bool tty;
    const char *stopped; /* why not all were taken, or NULL; a constant */
    json_t *notes;       /* the first of those that did not go well */
};

void report_init(struct report *r);
void report_fini(struct report *r);
void report_add(struct report *r, const struct letter *l, enum result result, int status,
                const char *detail);
void report_progress(struct report *r, long under_way); /* every second */
/* The summary on standard output, and the exit code. run may be NULL. */
int report_end(struct report *r, const char *run, bool json);

#endif
