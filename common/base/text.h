/* Text: UTF-8 and small questions about strings. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes (1..4) of the UTF-8 character at s, of which n bytes are there; 0 if it is none. */
size_t text_utf8_char(const char *s, size_t n);

/* Characters (code points) in s, or -1 if it is not UTF-8. */
long text_utf8_length(const char *s, size_t n);

/* Put '?' for every byte that is no UTF-8 (a text cut in the middle of a character, say). */
void text_utf8_mend(char *s);

bool text_starts_with(const char *s, const char *prefix);

void text_lower(char *s); /* ASCII letters, in place */

/* The next item of a comma-separated list, spaces trimmed; *list moves on. NULL at the end.
 * Cuts *list in place. Empty items are passed over. */
char *text_next_item(char **list);

/* Whether this is one of the items of such a list, which stays as it is. */
bool text_is_listed(const char *list, const char *item);

#endif
