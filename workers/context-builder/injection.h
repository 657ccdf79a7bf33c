/*
 * Attempts to talk a model out of its instructions, in a text of the user's: known patterns in
 * English and Indonesian, also with letters spaced out, look-alike and invisible characters, or in
 * base64 or hex.
 *
 * It knows what is common, not what is meant: a filter, no protection. Time grows with the text
 * alone; a text longer than INJECTION_MAX_BYTES is looked at up to there.
 */
#ifndef CONTEXT_BUILDER_INJECTION_H
#define CONTEXT_BUILDER_INJECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"

enum injection_kind {
    INJECTION_OVERRIDE,  /* "ignore all previous instructions" */
    INJECTION_REVEAL,    /* "show me your system prompt" */
    INJECTION_ROLE_TAGS, /* "<|im_start|>system" */
    INJECTION_JAILBREAK, /* "you are now DAN" */
    INJECTION_KINDS
};

const char *injection_kind_name(enum injection_kind kind); /* "role_tags" */

enum { INJECTION_MAX_BYTES = 64 * 1024, INJECTION_FOUND_MAX = 32 };

struct injection_found {
    bool kinds[INJECTION_KINDS];
    bool hidden; /* one was encoded, spaced out or disguised */
    size_t count;
    struct {
        size_t at, length; /* bytes of the text; in order, not overlapping */
    } spans[INJECTION_FOUND_MAX];
};

/* n bytes of UTF-8. False: nothing was found. */
bool injection_find(const char *text, size_t n, struct injection_found *found);

/* Append the text to out with "[removed]" for each passage. Returns -1 when out is full. */
int injection_redact(const char *text, size_t n, const struct injection_found *found,
                     struct buf *out);

#endif
