/* What the subcommands of chatfleet dlq share. */
#ifndef CTL_DLQ_H
#define CTL_DLQ_H

#include <jansson.h>

#include "common/chat/operations.h"
#include "ctl/ctl.h"
#include "ctl/dlq_filter.h"

/* Exit codes of theirs, beside those of ctl.h. */
enum {
    EXIT_FAILED = 1, /* something failed again, or was not taken */
    EXIT_OPEN = 2,   /* of something it is not known what became of it */
};

enum { CANARY_MAX = 16 };

struct dlq_options {
    struct filter filter;
    bool json, ids, all, dry_run, resume, no_wait, yes;
    double rate; /* letters a second; 0: as fast as it goes */
    long canary[CANARY_MAX];
    size_t canary_count;
    const struct operation *to; /* NULL: what it was */
    json_t *edit;               /* a merge patch, or NULL */
    long timeout_ms;            /* for one letter's outcome */
};

/* Each returns an exit code. */
int dlq_list(const struct dlq_options *o);
int dlq_show(const struct dlq_options *o, const char *id);
int dlq_replay(const struct dlq_options *o);
int dlq_drop(const struct dlq_options *o);
int dlq_export(const struct dlq_options *o, const char *path); /* "-": standard output */
int dlq_import(const struct dlq_options *o, const char *path); /* "-": standard input */

#endif
