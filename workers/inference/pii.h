/*
 * Finds personal data in a text: what stands in it at which place. Knows nothing of what becomes of
 * it.
 *
 * One pass from left to right; what is looked at around a place is bounded, so that time grows with
 * the text alone, whatever is in it. The text may be any bytes; spans never cut a UTF-8 character
 * of a text that is UTF-8.
 */
#ifndef INFERENCE_PII_H
#define INFERENCE_PII_H

#include <stdbool.h>
#include <stddef.h>

enum pii_kind {
    PII_EMAIL,
    PII_PHONE,     /* Indonesian, international, North American */
    PII_NIK,       /* of the Indonesian identity card: 16 digits with a region and a date */
    PII_NPWP,      /* of the Indonesian tax office: 15 or 16 digits */
    PII_CARD,      /* of payment, with Luhn's digit */
    PII_IBAN,      /* with its country's length and a remainder of 1 by 97 */
    PII_IP,        /* of version 4 or 6 */
    PII_URL,       /* with a password or a key in it; others are none */
    PII_BIRTHDATE, /* a date beside a word that says so; others are none */
    PII_NAME,      /* one of those given */
    PII_KINDS
};

/* The kind in capital letters: "EMAIL". */
const char *pii_kind_name(enum pii_kind kind);

struct pii_span {
    enum pii_kind kind;
    size_t at, length; /* bytes */
};

enum { PII_NAMES_MAX = 64, PII_NAME_BYTES = 128 };

/* Names to be found as whole words, in capital or small letters (ASCII and Latin-1). */
struct pii_names {
    struct {
        char text[PII_NAME_BYTES];
        size_t length;
        bool as_written; /* so short that small letters would be another word */
    } list[PII_NAMES_MAX];
    size_t count;
};

/* Add a full name, and each of its words that can be a name alone. What there is no room for is
 * left out. */
void pii_names_add(struct pii_names *names, const char *name, size_t n);

struct pii_scan {
    const char *text;
    size_t n, at;
    const struct pii_names *names; /* NULL: none */
    size_t found_end;              /* of the last that was found */
    /* what is known up to there, so that no byte is looked at for each byte before it */
    size_t no_email_before, no_secret_before, url_like_before;
    size_t next_at_sign, next_colon; /* what next_sign() found last */
};

/* The text and the names are borrowed. */
void pii_scan_init(struct pii_scan *s, const char *text, size_t n, const struct pii_names *names);

/* The next one, behind the one before. False: there is none. */
bool pii_scan_next(struct pii_scan *s, struct pii_span *found);

/* ---- for the parts of this module ---- */

static inline char pii_at(const struct pii_scan *s, size_t i)
{
    return i < s->n ? s->text[i] : '\0';
}
static inline bool pii_digit(char c)
{
    return c >= '0' && c <= '9';
}
static inline bool pii_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline char pii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Is the byte at i a part of a word's letter or digit? Not so in scripts that put no spaces between
 * words, nor in punctuation of any kind. */
bool pii_word(const struct pii_scan *s, size_t i);

/* Does the text at i have the word, given in small letters? */
bool pii_has(const struct pii_scan *s, size_t i, const char *word);

/* Whether one of the words (in small letters, "~" before one that may be within another) stands in
 * the same sentence, not further than window bytes before i, nor before what was found last. */
bool pii_cue_before(const struct pii_scan *s, size_t i, size_t window, const char *const *words);
bool pii_cue_after(const struct pii_scan *s, size_t i, size_t window, const char *const *words);

/* What begins at i, where a number may: the byte behind it, and its kind; 0: nothing. */
size_t pii_number(const struct pii_scan *s, size_t i, enum pii_kind *kind);
/* The same for a date, of any meaning. */
size_t pii_date(const struct pii_scan *s, size_t i);

#endif
