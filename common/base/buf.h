/*
 * A growing byte buffer that must be given its maximum. Appending beyond it fails and changes
 * nothing. The data is always followed by a NUL that does not count.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>

struct buf {
    char *data; /* owned; never NULL after the first append */
    size_t len; /* bytes in use */
    size_t cap; /* bytes allocated */
    size_t max; /* bytes that len may reach */
};

void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */

/* Each returns 0, or -1 when the result would be longer than max. */
int buf_add(struct buf *b, const void *data, size_t n);
int buf_puts(struct buf *b, const char *s);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Append s as a JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. */
int buf_json_string(struct buf *b, const char *s);

#endif
