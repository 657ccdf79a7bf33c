/* The injection filter on messages: what it says, and messages without what it finds. */
#ifndef CONTEXT_BUILDER_SCREEN_H
#define CONTEXT_BUILDER_SCREEN_H

#include <jansson.h>

/* What was found in a text, a string: an array of words ("override", …, and "hidden" when it was
 * disguised); NULL: nothing. */
json_t *screen_kinds(const json_t *text);

/* The text, with "[removed]" for what is found: a new reference. */
json_t *screen_redacted(json_t *text);

#endif
