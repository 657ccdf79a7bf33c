/*
 * A dead letter as one line of JSON, with everything: properties, headers with their types on the
 * wire, the body. What is no UTF-8 is base64.
 */
#ifndef CTL_DLQ_FILE_H
#define CTL_DLQ_FILE_H

#include <jansson.h>

#include "common/base/err.h"
#include "ctl/dlq_letter.h"

/* The caller owns it. */
json_t *file_from_letter(const struct letter *l);

json_t *file_from_table(const struct mq_table *t); /* its [name, type, value], likewise */

/* The letter of a line; it and the message live in the arena. -1 with what is wrong in it. */
int file_to_letter(struct arena *a, const json_t *line, struct mq_message *m, struct letter *l,
                   struct err *e);

#endif
