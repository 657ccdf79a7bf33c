/* The message that a replay publishes: the one that failed, as it was. */
#ifndef CTL_DLQ_AGAIN_H
#define CTL_DLQ_AGAIN_H

#include "common/base/err.h"
#include "ctl/dlq.h"

/* out shares what it can with the letter's message; the rest lives in the arena. reply_to: where its
 * outcome shall be told, or NULL. Fails when the body takes no merge patch. */
int again_make(struct arena *a, const struct letter *l, const struct dlq_options *o,
               const char *reply_to, struct mq_message *out, struct err *e);

/* A merge patch (RFC 7396) on a value: the result, which the caller owns. Both stay as they are. */
json_t *again_merge(const json_t *value, const json_t *patch);

#endif
