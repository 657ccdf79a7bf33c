/* Checking an operation's arguments, field by field. */
#ifndef CHAT_VALIDATE_H
#define CHAT_VALIDATE_H

#include <jansson.h>

#include "common/base/err.h"
#include "common/chat/operations.h"

/* Read a JSON object out of n bytes: UTF-8, no duplicate names, no NUL characters, at most
 * JSON_DEPTH_MAX deep. NULL with a 400 in *e otherwise. The caller owns it. */
enum { JSON_DEPTH_MAX = 64 };
json_t *validate_parse(const char *text, size_t n, struct err *e);

/* The same for a message between steps, which wraps what callers sent. */
json_t *validate_parse_step(const char *text, size_t n, struct err *e);

/* Check the arguments by the operation's table. On failure *e is a 400 and *errors an array of
 * {"field", "message"} that the caller owns; else *errors is NULL. Numbers within objects and arrays
 * are bounded, too: written out in full, 1e300 would fill a page. */
int validate_args(const struct operation *op, json_t *args, json_t **errors, struct err *e);

/* Is a caller's key one? -1 with a 400 when not. */
enum { IDEMPOTENCY_KEY_MAX = 255 }; /* bytes */
int validate_idempotency_key(const char *key, struct err *e);

/* An argument that came as text (in a path or query), as what its type is; a text that is none
 * stays a string, for validate_args() to refuse, and one that is not UTF-8 becomes a value that it
 * refuses for every type. Never NULL; the caller owns it. */
json_t *validate_from_text(const struct arg *arg, const char *text);

#endif
