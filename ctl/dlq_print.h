/* Dead letters for people. */
#ifndef CTL_DLQ_PRINT_H
#define CTL_DLQ_PRINT_H

#include <jansson.h>

#include "ctl/dlq_ledger.h"
#include "ctl/dlq_letter.h"

/* A text that anybody may have written, as JSON: what is no UTF-8 becomes '?'. NULL gives null. */
json_t *print_text(const char *text);

/* Of a stranger's text nothing reaches the terminal that it would obey. */
void print_clean(const char *text);
void print_words(const char *text); /* nor what would end a line */

/* One on a line: id, time, queue, operation, tenant, cause; without a line's end. */
void print_line(const struct letter *l);
json_t *print_line_json(const struct letter *l); /* the same, with error and its kind apart */

/* All of one; row: what the ledger says, or NULL if it was not asked. */
void print_letter(const struct letter *l, const struct ledger_row *row);

json_t *print_ledger(const struct ledger_row *row); /* null where it says nothing */

#endif
