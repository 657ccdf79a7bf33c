#include "workers/persistence/page.h"

#include "workers/persistence/bounds.h"
#include "workers/persistence/rows.h"

long page_limit(const json_t *args, long usual)
{
    const json_t *limit = json_object_get(args, "limit");

    return json_is_integer(limit) ? (long)json_integer_value(limit) : usual;
}

/* $1 conversation, $2 the cursor or NULL */
static const char sql_cursor[] =
    "SELECT m.seq FROM chat.messages m WHERE m.id = $2::uuid AND m.conversation_id = $1::uuid";
/* $3 how many, $4 and $5 bounds */
static const char sql_before[] =
    "SELECT " MESSAGE_COLUMNS " FROM chat.messages m WHERE m.conversation_id = $1::uuid "
    "AND " BOUNDS(
        4, 5) " AND m.seq < coalesce((SELECT x.seq FROM chat.messages x WHERE x.id = $2::uuid "
              "AND x.conversation_id = $1::uuid), 9223372036854775807) "
              "ORDER BY m.seq DESC LIMIT $3::bigint";
static const char sql_after[] =
    "SELECT " MESSAGE_COLUMNS " FROM chat.messages m WHERE m.conversation_id = $1::uuid "
    "AND " BOUNDS(4, 5) " AND m.seq > (SELECT x.seq FROM chat.messages x WHERE x.id = $2::uuid "
                        "AND x.conversation_id = $1::uuid) "
                        "ORDER BY m.seq LIMIT $3::bigint";

void page_add(struct page *p, struct transaction *t, struct job *job, const char *conversation_id,
              const char *before_id, const char *after_id, long limit)
{
    const char *cursor = after_id ? after_id : before_id;
    const char *rows = arena_printf(job_arena(job), "%ld", limit + 1);
    struct bounds b;

    bounds_of(conversation_id, &b);
    p->limit = limit;
    p->backwards = !after_id;
    p->has_cursor = cursor != NULL;
    p->cursor = transaction_add(t, sql_cursor, 2, (const char *const[]){conversation_id, cursor});
    p->rows = transaction_add(t, p->backwards ? sql_before : sql_after, 5,
                              (const char *const[]){conversation_id, cursor, rows, b.low, b.high});
}

json_t *page_body(const struct page *p, const struct pg_segment *s, struct err *e)
{
    int found = pg_rows(s, p->rows), n = rows_that_fit(s, p->rows, p->limit, MESSAGE_WIDTH), i;
    json_t *list, *first, *last;

    if (p->has_cursor && pg_rows(s, p->cursor) == 0) {
        err_set(e, ERR_REJECT, 400, "%s is no message of this conversation",
                p->backwards ? "before_id" : "after_id");
        return NULL;
    }
    list = json_array();
    for (i = 0; i < n; i++)
        json_array_append_new(list, row_message(s, p->rows, p->backwards ? n - 1 - i : i, 0));
    first = json_object_get(json_array_get(list, 0), "id");
    last = json_object_get(json_array_get(list, (size_t)(n ? n - 1 : 0)), "id");
    return json_pack("{s:o, s:{s:I, s:b, s:O?, s:O?}}", "messages", list, "pagination", "limit",
                     (json_int_t)p->limit, "has_more", found > n, "before_id", first, "after_id",
                     last);
}
