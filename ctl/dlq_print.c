#include "ctl/dlq_print.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/chat/envelope.h"
#include "ctl/dlq_file.h"

json_t *print_text(const char *text)
{
    char *copy = mem_strdup(text);
    json_t *json;

    if (!copy)
        return json_null();
    text_utf8_mend(copy);
    json = json_string(copy);
    free(copy);
    return json;
}

/* Also those that UTF-8 has in two bytes. */
static bool is_control(const char *c, size_t bytes, const char *allowed)
{
    if (bytes == 1)
        return iscntrl((unsigned char)*c) && (!*c || !strchr(allowed, *c));
    return bytes == 2 && (unsigned char)c[0] == 0xc2 && (unsigned char)c[1] < 0xa0;
}

static void put_clean(const char *text, size_t n, const char *allowed)
{
    size_t i, bytes;

    for (i = 0; i < n; i += bytes) {
        bytes = text_utf8_char(text + i, n - i);
        if (bytes == 0 || is_control(text + i, bytes, allowed)) {
            putchar('?');
            bytes += bytes == 0;
        } else {
            fwrite(text + i, 1, bytes, stdout);
        }
    }
}

void print_clean(const char *text)
{
    put_clean(text, strlen(text), "\n\t");
}

void print_words(const char *text)
{
    put_clean(text, strlen(text), "");
}

static const char *or_dash(const char *text)
{
    return text ? text : "-";
}

static const char *when(int64_t ms, char at[CLOCK_ISO_SIZE])
{
    return ms ? clock_iso(ms, at) : "-";
}

void print_line(const struct letter *l)
{
    char at[CLOCK_ISO_SIZE];
    const char *const words[] = {or_dash(l->operation), or_dash(l->tenant), or_dash(l->error)};
    size_t i;

    printf("%s  %-24s  %s", l->id, when(l->failed_ms, at), l->queue);
    for (i = 0; i < 3; i++) {
        fputs("  ", stdout);
        print_words(words[i]);
    }
}

json_t *print_line_json(const struct letter *l)
{
    char at[CLOCK_ISO_SIZE];

    return json_pack("{s:s, s:s, s:o, s:o, s:s?, s:o, s:o}", "id", l->id, "queue", l->queue,
                     "operation", print_text(l->operation), "tenant", print_text(l->tenant),
                     "failed_at", l->failed_ms ? clock_iso(l->failed_ms, at) : NULL, "error_kind",
                     print_text(l->error_kind), "error", print_text(l->error));
}

json_t *print_ledger(const struct ledger_row *row)
{
    if (!row || row->state == LEDGER_NOTHING)
        return json_null();
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "state", ledger_state_name(row->state),
                     "claimed_by", row->claimed_by, "claimed_at", row->claimed_at, "done_at",
                     row->done_at, "run", row->run);
}

/* ---- all of one ---- */

static void field(const char *name, const char *text)
{
    if (!text || !*text)
        return;
    printf("%-16s ", name);
    print_clean(text);
    putchar('\n');
}

static void print_deaths(const struct mq_message *m)
{
    const struct mq_value *deaths = mq_table_get(&m->headers, "x-death");
    char at[CLOCK_ISO_SIZE];
    size_t i;

    for (i = 0; deaths && deaths->kind == 'A' && i < deaths->array.n; i++) {
        const struct mq_value *v = &deaths->array.items[i];

        if (v->kind != 'F')
            continue;
        printf("%-16s ", "hop");
        print_clean(or_dash(mq_table_string(&v->table, "reason")));
        fputs(" from ", stdout);
        print_clean(or_dash(mq_table_string(&v->table, "queue")));
        printf(", %lld times, first at %s\n", (long long)mq_table_int(&v->table, "count", 1),
               when(mq_table_int(&v->table, "time", 0) * 1000, at));
    }
}

static void print_row(const struct ledger_row *row)
{
    if (!row)
        return;
    if (row->state == LEDGER_NOTHING)
        printf("%-16s not replayed yet\n", "ledger");
    else
        printf("%-16s %s by %s at %s%s\n", "ledger", ledger_state_name(row->state), row->claimed_by,
               row->claimed_at,
               row->state == LEDGER_CLAIMED ? ", uncertain: it may have been published" : "");
}

static void print_headers(const struct mq_table *t)
{
    char *text;
    size_t i;

    puts("headers");
    for (i = 0; i < t->n; i++) {
        const struct mq_table one = {.fields = &t->fields[i], .n = 1};
        json_t *triple = file_from_table(&one);
        json_t *value = json_array_get(json_array_get(triple, 0), 2);

        if (!value) { /* the broker's own */
            json_decref(triple);
            continue;
        }
        fputs("  ", stdout);
        print_clean(t->fields[i].name);
        fputs(": ", stdout);
        text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
        print_clean(text ? text : json_string_value(value));
        putchar('\n');
        free(text);
        json_decref(triple);
    }
}

static void print_body(const struct mq_message *m)
{
    json_t *body = json_loadb(m->body, m->body_len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    char *text = body ? json_dumps(body, JSON_INDENT(2) | JSON_ENCODE_ANY) : NULL;

    printf("body (%zu bytes)\n", m->body_len);
    if (text)
        print_clean(text);
    else
        put_clean(m->body, m->body_len, "\n\t");
    putchar('\n');
    free(text);
    json_decref(body);
}

void print_letter(const struct letter *l, const struct ledger_row *row)
{
    const struct mq_message *m = l->message;
    char failed[CLOCK_ISO_SIZE], attempt[16];

    snprintf(attempt, sizeof(attempt), "%d", l->attempt);
    field("dead letter", l->id);
    field("queue", l->queue);
    field("made by", letter_origin_name(l->origin));
    field("operation", l->operation);
    field("error", l->error);
    field("error kind", l->error_kind);
    field("failed at", when(l->failed_ms, failed));
    field("failed by", l->failed_by);
    field("first failed at", l->first_failed);
    field("attempt", attempt);
    field("replay of", l->replay_of);
    field("steps left", mq_table_string(&m->headers, HEADER_SLIP));
    field("tenant", l->tenant);
    field("user", l->user);
    field("message id", m->message_id);
    field("correlation id", m->correlation_id);
    field("reply to", m->reply_to);
    print_deaths(m);
    print_row(row);
    print_headers(&m->headers);
    print_body(m);
}
