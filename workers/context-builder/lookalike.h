/* A text as a reader sees it: look-alike letters as the plain ones, what is invisible left out. */
#ifndef CONTEXT_BUILDER_LOOKALIKE_H
#define CONTEXT_BUILDER_LOOKALIKE_H

#include <stddef.h>
#include <stdint.h>

/* Writes the text as small ASCII letters, digits and signs; what has no such form becomes a space.
 * plain has room for n + 1 bytes, origin for n + 1 numbers: where in the text each byte came from,
 * and n behind the last. Returns the bytes of plain, which is ended by a NUL. */
size_t lookalike_plain(const char *text, size_t n, char *plain, uint32_t *origin);

#endif
