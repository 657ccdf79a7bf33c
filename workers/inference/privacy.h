/*
 * What of a prompt a server may see. To an external one personal data goes as placeholders
 * (pseudonym.h), and its answer gets them back before anybody else sees it.
 */
#ifndef INFERENCE_PRIVACY_H
#define INFERENCE_PRIVACY_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/err.h"

/* Is the server outside of this machine and of private networks? A name counts as outside, unless
 * it is localhost: nobody knows here whom it will lead to. */
bool privacy_is_external(const char *url);

/* The messages of a prompt as the server at url may see them, as a new reference, and in *p what is
 * needed to read its answer: NULL when they are as they were. What *p had before is freed.
 * names is an array of the user's names, or NULL. Returns NULL when they must not be sent. */
struct privacy;
json_t *privacy_messages(struct privacy **p, json_t *messages, const json_t *names, const char *url,
                         struct err *e);
void privacy_free(struct privacy *p); /* NULL is allowed */

/* A piece of the answer as its reader shall see it, valid until the next call: perhaps less than
 * came, or more, which was held back. NULL: it would be longer than max bytes. */
const struct buf *privacy_restore(struct privacy *p, const char *text, size_t n, size_t max);
/* What is held back at the answer's end. */
const struct buf *privacy_rest(struct privacy *p);

#endif
