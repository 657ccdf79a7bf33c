#include "workers/persistence/history.h"

#include <stdio.h>
#include <string.h>

#include "workers/persistence/bounds.h"
#include "workers/persistence/handlers.h"

enum { BYTES_MAX = 256 * 1024 }; /* all of it has to fit into a message */

#define COLUMNS  "m.id, m.sender_type, m.content, m.content_type, m.parent_message_id"
#define QUESTION "(SELECT t.question_id FROM chat.turns t WHERE t.id = $1::uuid)"
#define QUESTION_SEQ                                                                               \
    "(SELECT m.seq FROM chat.messages m WHERE m.id = " QUESTION " AND " BOUNDS(4, 5) ")"
enum { ID, SENDER_TYPE, CONTENT, CONTENT_TYPE, PARENT };

/* The newest first. $1 question, $2 conversation, $3 how many, $4 and $5 bounds */
static const char sql_newest[] =
    "SELECT " COLUMNS " FROM chat.messages m "
    "WHERE m.conversation_id = $2::uuid AND " BOUNDS(4, 5) " AND m.chosen AND m.id <> $1::uuid "
                                                           "ORDER BY m.seq DESC LIMIT $3::bigint";
/* $1 turn, the rest as above */
static const char sql_before[] =
    "SELECT " COLUMNS " FROM chat.messages m "
    "WHERE m.conversation_id = $2::uuid AND " BOUNDS(4, 5) " AND m.chosen AND m.seq < " QUESTION_SEQ
                                                           " ORDER BY m.seq DESC LIMIT $3::bigint";
/* The answers to questions of the history that were given anew behind the turn's question. */
static const char sql_later[] =
    "WITH x AS (SELECT m.id FROM chat.messages m WHERE m.conversation_id = $2::uuid "
    "AND " BOUNDS(4, 5) " AND m.chosen AND m.seq < " QUESTION_SEQ
                        " ORDER BY m.seq DESC LIMIT $3::bigint), "
                        "a AS (SELECT t.answer_id FROM chat.turns t JOIN x ON t.question_id = x.id "
                        "WHERE t.conversation_id = $2::uuid) "
                        "SELECT " COLUMNS " FROM chat.messages m JOIN a ON m.id = a.answer_id "
                        "WHERE " BOUNDS(4, 5) " AND m.chosen AND m.seq > " QUESTION_SEQ
                                              " ORDER BY m.seq DESC";

static int add(struct transaction *t, const char *sql, const char *id, const char *conversation_id)
{
    struct bounds b;
    char rows[16];

    bounds_of(conversation_id, &b);
    snprintf(rows, sizeof(rows), "%ld", persistence_settings.history_messages);
    return transaction_add(t, sql, 5,
                           (const char *const[]){id, conversation_id, rows, b.low, b.high});
}

void history_add_newest(struct history *h, struct transaction *t, const char *conversation_id,
                        const char *question_id)
{
    h->rows = add(t, sql_newest, question_id, conversation_id);
    h->later = -1;
}

void history_add(struct history *h, struct transaction *t, const char *conversation_id,
                 const char *turn_id)
{
    h->rows = add(t, sql_before, turn_id, conversation_id);
    h->later = add(t, sql_later, turn_id, conversation_id);
}

/* The row, among those newer than row `from`, that answers the question; -1 without one. */
static int answer_among(const struct pg_segment *s, int statement, int from, const char *question)
{
    const char *parent;
    int i;

    for (i = from - 1; i >= 0; i--) {
        parent = pg_text(s, statement, i, PARENT);
        if (parent && strcmp(parent, question) == 0 &&
            strcmp(pg_text(s, statement, i, SENDER_TYPE), "assistant") == 0)
            return i;
    }
    return -1;
}

static void append(json_t *list, const struct pg_segment *s, int statement, int row)
{
    json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "role",
                                          pg_text(s, statement, row, SENDER_TYPE), "content",
                                          pg_text(s, statement, row, CONTENT), "content_type",
                                          pg_text(s, statement, row, CONTENT_TYPE)));
}

/* bytes: of the history's own rows, and of the later answers that are added to them. */
static void append_answer(json_t *list, const struct history *h, const struct pg_segment *s,
                          int question, size_t *bytes)
{
    const char *id = pg_text(s, h->rows, question, ID);
    int i = answer_among(s, h->rows, question, id);

    if (i >= 0) {
        append(list, s, h->rows, i);
        return;
    }
    i = h->later < 0 ? -1 : answer_among(s, h->later, pg_rows(s, h->later), id);
    if (i < 0)
        return;
    *bytes += strlen(pg_text(s, h->later, i, CONTENT));
    if (*bytes <= 2 * BYTES_MAX)
        append(list, s, h->later, i);
}

json_t *history_list(const struct history *h, const struct pg_segment *s)
{
    json_t *list = json_array();
    size_t bytes = 0;
    int i, n;

    for (n = 0; n < pg_rows(s, h->rows); n++) {
        bytes += strlen(pg_text(s, h->rows, n, CONTENT));
        if (bytes > BYTES_MAX)
            break;
    }
    for (i = n - 1; i >= 0; i--) {
        bool asks = strcmp(pg_text(s, h->rows, i, SENDER_TYPE), "user") == 0;

        if (!asks && pg_text(s, h->rows, i, PARENT))
            continue; /* it stands behind its question */
        append(list, s, h->rows, i);
        if (asks)
            append_answer(list, h, s, i, &bytes);
    }
    return list;
}
