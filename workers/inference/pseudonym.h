/*
 * Placeholders for personal data, and back: "[EMAIL_1]" for ada@example.org.
 *
 * One map serves one prompt. The same value always gets the same placeholder, and since they are
 * numbered in the order in which the prompt's texts have them, a conversation's next prompt, which
 * begins like the one before, numbers them alike. A text that looks like a placeholder already
 * becomes one itself ("[TEXT_1]"), so that restoring what was hidden gives back every byte.
 *
 * The map holds the values in this process's memory alone; nothing here logs or counts them.
 */
#ifndef INFERENCE_PSEUDONYM_H
#define INFERENCE_PSEUDONYM_H

#include <stddef.h>

#include "common/base/buf.h"
#include "workers/inference/pii.h"

enum {
    PSEUDONYM_TEXT = PII_KINDS, /* what looked like a placeholder */
    PSEUDONYM_KINDS,
    PSEUDONYM_MAX = 999999,   /* different values of one kind */
    PSEUDONYM_BYTES = 18,     /* of the longest placeholder */
    PSEUDONYM_EXPANSION = 10, /* a hidden text has at most so many times the bytes of the text */
};

struct pseudonym;

/* The names are copied; NULL: none. */
struct pseudonym *pseudonym_new(const struct pii_names *names);
void pseudonym_free(struct pseudonym *p); /* NULL is allowed */

/* Append n bytes of text to out, with placeholders for what is personal. Returns -1 when out is
 * full, or when there are more than PSEUDONYM_MAX values of a kind: then out is of no use. */
int pseudonym_hide(struct pseudonym *p, const char *text, size_t n, struct buf *out);

/* How often a value of the kind was replaced so far. */
size_t pseudonym_count(const struct pseudonym *p, int kind);
const char *pseudonym_kind_name(int kind);

/* Append n bytes of text to out, with the values for their placeholders. What only looks like one
 * stays. Returns -1 when out is full. */
int pseudonym_restore(const struct pseudonym *p, const char *text, size_t n, struct buf *out);

/* The same for a text that comes in pieces: what may be the beginning of a placeholder is held back
 * until more comes. However the text is cut, the result is the same. */
struct pseudonym_stream {
    char held[PSEUDONYM_BYTES];
    size_t n; /* bytes that are held back */
};
int pseudonym_feed(const struct pseudonym *p, struct pseudonym_stream *s, const char *text,
                   size_t n, struct buf *out);
/* The text has ended: give out what is held back. */
int pseudonym_flush(struct pseudonym_stream *s, struct buf *out);

#endif
