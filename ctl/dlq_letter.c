#include "ctl/dlq_letter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/text.h"
#include "common/chat/envelope.h"
#include "ctl/dlq_parse.h"

const char *letter_origin_name(enum letter_origin origin)
{
    static const char *const names[] = {"worker", "broker", "foreign"};

    return names[origin];
}

const struct mq_table *letter_death(const struct mq_message *m, const char *queue)
{
    const struct mq_value *deaths = mq_table_get(&m->headers, "x-death");
    const char *where;
    size_t i;

    if (!deaths || deaths->kind != 'A')
        return NULL;
    for (i = 0; i < deaths->array.n; i++) {
        const struct mq_value *v = &deaths->array.items[i];

        where = v->kind == 'F' ? mq_table_string(&v->table, "queue") : NULL;
        if (where && strcmp(where, queue) == 0)
            return &v->table;
    }
    return NULL;
}

bool letter_header_of_failure(const char *name)
{
    static const char *const names[] = {
        HEADER_ERROR_KIND,
        HEADER_ERROR,
        HEADER_FAILED_AT,
        HEADER_FAILED_BY,
        HEADER_QUEUE,
        HEADER_ATTEMPT,
        HEADER_DEAD_LETTER,
        HEADER_DEADLINE,
        HEADER_HELD,
        HEADER_REPLAY_OF,
        "x-death",
        "x-delivery-count",
        "x-stream-offset",
        "CC",
        "BCC",
    };
    size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return text_starts_with(name, "x-first-death-") || text_starts_with(name, "x-last-death-");
}

static const char *text_of(const struct mq_message *m, const char *header)
{
    const char *text = mq_table_string(&m->headers, header);

    return text && *text ? text : NULL;
}

static void derive(struct letter *l, const struct mq_message *m)
{
    const char *id = text_of(m, HEADER_DEAD_LETTER);
    char *text;

    text = mem_printf("%s\n%s", m->type ? m->type : "", m->correlation_id ? m->correlation_id : "");
    uuid_v5_bytes(text, m->body, m->body_len, l->print);
    free(text);
    if (l->origin != LETTER_BROKER && uuid_valid(id)) {
        memcpy(l->id, id, UUID_TEXT);
        text_lower(l->id);
        return;
    }
    l->indistinct = !m->message_id || !*m->message_id;
    text = mem_printf("dead letter of %s at %lld", l->queue, (long long)l->failed_ms);
    /* Without an id of its own its contents have to do. */
    uuid_v5(l->indistinct ? l->print : m->message_id, text, l->id);
    free(text);
}

static void read_cause(struct letter *l, const struct mq_message *m)
{
    const struct mq_table *death = letter_death(m, l->queue);

    if (death) { /* what the headers say is of an earlier attempt */
        l->origin = LETTER_BROKER;
        l->error_kind = "broker";
        l->error = mq_table_string(death, "reason");
        l->failed_ms = mq_table_int(death, "time", 0) * 1000;
        return;
    }
    l->origin = text_of(m, HEADER_DEAD_LETTER) ? LETTER_WORKER : LETTER_FOREIGN;
    l->error_kind = text_of(m, HEADER_ERROR_KIND);
    l->error = text_of(m, HEADER_ERROR);
    l->failed_by = text_of(m, HEADER_FAILED_BY);
    if (!text_of(m, HEADER_FAILED_AT) ||
        dlq_parse_time(text_of(m, HEADER_FAILED_AT), &l->failed_ms))
        l->failed_ms = (int64_t)(m->timestamp < INT32_MAX * 100ull ? m->timestamp : 0) * 1000;
}

void letter_read(struct letter *l, const char *queue, const struct mq_message *m)
{
    int64_t attempt = mq_table_int(&m->headers, HEADER_ATTEMPT, 1);

    memset(l, 0, sizeof(*l));
    l->message = m;
    l->queue = queue;
    l->operation = m->type && *m->type ? m->type : NULL;
    l->tenant = text_of(m, HEADER_TENANT);
    l->user = text_of(m, HEADER_USER);
    l->first_failed = text_of(m, HEADER_FIRST_FAIL);
    l->replay_of = text_of(m, HEADER_REPLAY_OF);
    l->attempt = attempt > 0 && attempt < 1000 ? (int)attempt : 1;
    read_cause(l, m);
    derive(l, m);
}
