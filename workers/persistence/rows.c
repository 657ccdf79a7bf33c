#include "workers/persistence/rows.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/worker/process.h"

/* Bytes of JSON that a text takes, with what is escaped. */
static size_t bytes_of(const struct pg_segment *s, int statement, int row, int column)
{
    const char *text = pg_text(s, statement, row, column);
    size_t n = 0;

    for (; text && *text; text++)
        n += (unsigned char)*text < ' ' ? 6 : *text == '"' || *text == '\\' ? 2 : 1;
    return n;
}

int rows_that_fit(const struct pg_segment *s, int statement, long limit, int columns)
{
    size_t bytes = 0, max = (size_t)process_settings.message_max / 2;
    int found = pg_rows(s, statement), n, i;

    for (n = 0; n < found && n < limit; n++) {
        for (i = 0; i < columns; i++)
            bytes += bytes_of(s, statement, n, i);
        if (n > 0 && bytes > max)
            break;
    }
    return n;
}

json_t *row_text(const struct pg_segment *s, int statement, int row, int column)
{
    const char *text = pg_text(s, statement, row, column);

    return text ? json_string(text) : json_null();
}

/* jsonb writes 1e300 with all of its digits: an integer that is none of C's. */
json_t *row_json(const struct pg_segment *s, int statement, int row, int column)
{
    const char *text = pg_text(s, statement, row, column);
    json_t *value = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

    if (text && !value)
        value = json_loads(text, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    return value ? value : json_null();
}

json_t *row_time(const struct pg_segment *s, int statement, int row, int column)
{
    char text[CLOCK_ISO_SIZE];

    if (!pg_text(s, statement, row, column))
        return json_null();
    return json_string(clock_iso(pg_integer(s, statement, row, column), text));
}

static bool is_true(const struct pg_segment *s, int statement, int row, int column)
{
    const char *text = pg_text(s, statement, row, column);

    return text && strcmp(text, "t") == 0;
}

json_t *row_boolean(const struct pg_segment *s, int statement, int row, int column)
{
    return json_boolean(is_true(s, statement, row, column));
}

json_t *row_integer(const struct pg_segment *s, int statement, int row, int column)
{
    return json_integer((json_int_t)pg_integer(s, statement, row, column));
}

json_t *row_number(const struct pg_segment *s, int statement, int row, int column)
{
    const char *text = pg_text(s, statement, row, column);

    return json_real(text ? atof(text) : 0);
}

json_t *row_conversation(const struct pg_segment *s, int statement, int row, int first)
{
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id", row_text(s, statement, row, first),
        "title", row_text(s, statement, row, first + 1), "context_type",
        row_text(s, statement, row, first + 2), "context_data",
        row_json(s, statement, row, first + 3), "status", row_text(s, statement, row, first + 4),
        "metadata", row_json(s, statement, row, first + 5), "created_at",
        row_time(s, statement, row, first + 6), "updated_at",
        row_time(s, statement, row, first + 7));
}

/* None for a history, whichever else there are: one that broke off, or was stopped before its first word. */
static bool is_no_answer(const json_t *message)
{
    const json_t *ending = json_object_get(json_object_get(message, "metadata"), "ending");
    const char *how = json_string_value(ending);

    return how && (strcmp(how, "broken") == 0 ||
                   json_string_length(json_object_get(message, "content")) == 0);
}

json_t *row_message(const struct pg_segment *s, int statement, int row, int first)
{
    json_t *message = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o}", "id", row_text(s, statement, row, first),
        "conversation_id", row_text(s, statement, row, first + 1), "sender_type",
        row_text(s, statement, row, first + 2), "content", row_text(s, statement, row, first + 3),
        "content_type", row_text(s, statement, row, first + 4), "metadata",
        row_json(s, statement, row, first + 5), "parent_message_id",
        row_text(s, statement, row, first + 6), "seq",
        (json_int_t)pg_integer(s, statement, row, first + 7), "created_at",
        row_time(s, statement, row, first + 8));

    /* Another answer took its place in the history. */
    if (!is_true(s, statement, row, first + 9) && !is_no_answer(message))
        json_object_set_new(message, "superseded", json_true());
    return message;
}

json_t *row_usage(const struct pg_segment *s, int statement, int row, int first)
{
    json_t *usage = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o}", "prompt_tokens", row_integer(s, statement, row, first),
        "completion_tokens", row_integer(s, statement, row, first + 1), "total_tokens",
        row_integer(s, statement, row, first + 2), "cost", row_number(s, statement, row, first + 3),
        "model", row_text(s, statement, row, first + 4), "is_free_model",
        row_boolean(s, statement, row, first + 5));

    if (!is_true(s, statement, row, first + 6))
        json_object_set_new(usage, "cost_known", json_false());
    if (is_true(s, statement, row, first + 7))
        json_object_set_new(usage, "tokens_estimated", json_true());
    return usage;
}
