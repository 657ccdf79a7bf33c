/* Rows as the JSON that callers see, and the columns that each takes. */
#ifndef PERSISTENCE_ROWS_H
#define PERSISTENCE_ROWS_H

#include <jansson.h>

#include "common/io/pg.h"

/* A time as whole milliseconds since the epoch. */
#define ROW_MS(time) "(extract(epoch FROM " time ") * 1000)::bigint"

/* Of chat.conversations AS c */
#define CONVERSATION_COLUMNS                                                                       \
    "c.id, c.title, c.context_type, c.context_data, c.status, c.metadata, " ROW_MS(                \
        "c.created_at") ", " ROW_MS("c.updated_at")
/* Of chat.messages AS m */
#define MESSAGE_COLUMNS                                                                            \
    "m.id, m.conversation_id, m.sender_type, m.content, m.content_type, m.metadata, "              \
    "m.parent_message_id, m.seq, " ROW_MS("m.created_at") ", m.chosen"
enum { MESSAGE_WIDTH = 10 }; /* how many these are */
/* Of chat.usage_tracking AS u */
#define USAGE_COLUMNS                                                                              \
    "u.prompt_tokens, u.completion_tokens, u.total_tokens, u.cost_credits, u.model_used, "         \
    "u.is_free_model, u.cost_known, u.tokens_estimated"

/* How many rows, of those with so many columns, may stand in one answer: as many as were asked for and
 * fit into a message, one at least. */
int rows_that_fit(const struct pg_segment *s, int statement, long limit, int columns);

/* first: the column where they begin. Never NULL; the caller owns it. */
json_t *row_conversation(const struct pg_segment *s, int statement, int row, int first);
json_t *row_message(const struct pg_segment *s, int statement, int row, int first);
json_t *row_usage(const struct pg_segment *s, int statement, int row, int first);

json_t *row_text(const struct pg_segment *s, int statement, int row, int column);
json_t *row_json(const struct pg_segment *s, int statement, int row, int column);
json_t *row_time(const struct pg_segment *s, int statement, int row, int column); /* ISO 8601 */
json_t *row_boolean(const struct pg_segment *s, int statement, int row, int column);
json_t *row_integer(const struct pg_segment *s, int statement, int row, int column);
json_t *row_number(const struct pg_segment *s, int statement, int row, int column); /* numeric */

#endif
