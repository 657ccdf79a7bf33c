/* Those who follow an answer that another caller asked for: each gets its text from where he is. */
#ifndef INFERENCE_FOLLOWERS_H
#define INFERENCE_FOLLOWERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/worker/worker.h"

struct generation;

enum { FOLLOWERS_MAX = 16 }; /* of one answer; others are told its end only, from the database */

/* Somebody has offset bytes of the epoch's text, and wants the rest and what follows: what was told
 * so far is sent at once. He may ask again, if he heard nothing, and may have another queue then. */
void followers_resume(struct generation *g, const struct follower *who, int64_t epoch,
                      int64_t offset);
void followers_leave(struct generation *g, const struct follower *who);

bool followers_any(const struct generation *g);

/* The text from there on was told to the caller just now. */
void followers_text(const struct generation *g, size_t from);
/* Borrows the body. */
void followers_notice(const struct generation *g, const char *type, json_t *body);

/* No more comes from here. Frees the list. */
void followers_end(struct generation *g);

#endif
