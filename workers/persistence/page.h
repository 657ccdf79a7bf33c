/* Pages of a conversation's messages. */
#ifndef PERSISTENCE_PAGE_H
#define PERSISTENCE_PAGE_H

#include <jansson.h>

#include "workers/persistence/database.h"

enum { PAGE_MESSAGES = 50 }; /* when no limit is given */

struct page {
    long limit;
    bool backwards; /* the rows come the newest first */
    bool has_cursor;
    int cursor, rows; /* statements */
};

/* The argument limit, or what is usual. */
long page_limit(const json_t *args, long usual);

/* Add the statements of a page: the newest messages, those just before before_id, or those just
 * after after_id (one of them at most; each may be NULL). */
void page_add(struct page *p, struct transaction *t, struct job *job, const char *conversation_id,
              const char *before_id, const char *after_id, long limit);

/* {"messages": [...], "pagination": {...}}, the oldest first; NULL with a 400 when the cursor is no
 * message of the conversation. The caller owns it. */
json_t *page_body(const struct page *p, const struct pg_segment *s, struct err *e);

#endif
