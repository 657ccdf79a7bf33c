/* Which dead letters are meant. */
#ifndef CTL_DLQ_FILTER_H
#define CTL_DLQ_FILTER_H

#include <jansson.h>

#include "common/base/err.h"
#include "ctl/dlq_letter.h"

/* As it was written; NULL: not given. */
struct filter_text {
    const char *queue, *operation, *error, *since, *until, *tenant, *user, *where, *limit, *ids;
};

struct filter {
    const char *queue;             /* without ".dlq" */
    const char *operation, *error; /* patterns of fnmatch(3) */
    const char *tenant, *user;
    char *ids;                  /* owned: "ID,ID" in small letters, or NULL */
    int64_t since_ms, until_ms; /* 0: not bounded */
    char *pointer;              /* owned: into the body (RFC 6901), or NULL */
    const char *value;          /* that it is to have: as text, */
    json_t *json;               /* or as JSON; owned, may be NULL */
    long limit;                 /* 0: none */
    bool any;                   /* something was given that chooses; --limit alone does not */
};

/* Texts are borrowed of the text; -1 with what is wrong with which option. */
int filter_parse(struct filter *f, const struct filter_text *text, int64_t now_ms, struct err *e);
void filter_free(struct filter *f);

/* Is it one of this queue's that is wanted? The limit is the caller's to count. */
bool filter_wants_queue(const struct filter *f, const char *queue);
bool filter_matches(const struct filter *f, const struct letter *l);

/* What a JSON pointer leads to, borrowed, or NULL; it must be valid. */
const json_t *filter_pointer_get(const json_t *document, const char *pointer);
bool filter_pointer_valid(const char *pointer);

#endif
