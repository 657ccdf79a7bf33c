/* The bodies of messages and answers: JSON values as text. */
#ifndef CHAT_BODY_H
#define CHAT_BODY_H

#include <jansson.h>

#include "common/base/mem.h"

/* The compact text of a value, in the arena; *n are its bytes. */
const char *body_text(struct arena *a, const json_t *value, size_t *n);

#endif
