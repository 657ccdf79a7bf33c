/* The system message of a prompt: who the assistant is, and what it is to know of the user. */
#ifndef CONTEXT_BUILDER_INSTRUCTIONS_H
#define CONTEXT_BUILDER_INSTRUCTIONS_H

#include <jansson.h>

/* The context type whose instructions are used: the given one, or "general" for an unknown one. */
const char *instructions_type(const char *context_type);

/* title: of the conversation; may be NULL. data: its context_data, of use if an object; may be NULL.
 * model: the one that is asked first; a free one is asked for short answers. Returns a text for
 * free(). */
char *instructions_write(const char *context_type, const char *title, const json_t *data,
                         const char *model);

#endif
