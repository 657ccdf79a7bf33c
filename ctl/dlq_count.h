/* Dead letters counted: by queue, and in each by cause, operation and tenant. */
#ifndef CTL_DLQ_COUNT_H
#define CTL_DLQ_COUNT_H

#include <stdbool.h>

#include "ctl/dlq_letter.h"

struct counts {
    struct count_queue *queues; /* owned; the latest first */
};

/* It is shown, also with nothing in it. others: tools at work then, -1 if not known. */
void counts_queue(struct counts *c, const char *queue, long others);
void counts_add(struct counts *c, const struct letter *l, bool uncertain);
long counts_total(const struct counts *c);
void counts_print(const struct counts *c);
void counts_print_json(const struct counts *c, bool with_ledger);
void counts_free(struct counts *c);

#endif
