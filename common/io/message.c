#include "common/io/message.h"

#include <string.h>

const struct mq_value *mq_table_get(const struct mq_table *t, const char *name)
{
    size_t i;

    for (i = 0; i < t->n; i++)
        if (strcmp(t->fields[i].name, name) == 0)
            return &t->fields[i].value;
    return NULL;
}

const char *mq_table_string(const struct mq_table *t, const char *name)
{
    const struct mq_value *v = mq_table_get(t, name);

    return v && (v->kind == 'S' || v->kind == 'x') ? v->text.data : NULL;
}

int64_t mq_table_int(const struct mq_table *t, const char *name, int64_t otherwise)
{
    const struct mq_value *v = mq_table_get(t, name);

    return v && strchr("bBsuIilLT", v->kind) ? v->integer : otherwise;
}

static struct mq_value *table_put(struct arena *a, struct mq_table *t, const char *name)
{
    struct mq_value *v = (struct mq_value *)(uintptr_t)mq_table_get(t, name);
    struct mq_field *fields;

    if (v) {
        memset(v, 0, sizeof(*v));
        return v;
    }
    if (t->n == t->room) {
        t->room = t->room ? t->room * 2 : 16;
        fields = arena_alloc(a, t->room * sizeof(*fields));
        if (t->n)
            memcpy(fields, t->fields, t->n * sizeof(*fields));
        t->fields = fields;
    }
    t->fields[t->n].name = name;
    return &t->fields[t->n++].value;
}

void mq_table_put_string(struct arena *a, struct mq_table *t, const char *name, const char *text)
{
    struct mq_value *v = table_put(a, t, name);

    v->kind = 'S';
    v->text.data = text;
    v->text.len = strlen(text);
}

void mq_table_put_int(struct arena *a, struct mq_table *t, const char *name, int64_t number)
{
    struct mq_value *v = table_put(a, t, name);

    v->kind = 'l';
    v->integer = number;
}

void mq_table_put_bool(struct arena *a, struct mq_table *t, const char *name, bool flag)
{
    struct mq_value *v = table_put(a, t, name);

    v->kind = 't';
    v->integer = flag;
}

void mq_table_put_table(struct arena *a, struct mq_table *t, const char *name,
                        const struct mq_table *table)
{
    struct mq_value *v = table_put(a, t, name);

    v->kind = 'F';
    v->table = *table;
}

void mq_table_remove(struct mq_table *t, const char *name)
{
    size_t i, kept = 0;

    for (i = 0; i < t->n; i++)
        if (strcmp(t->fields[i].name, name) != 0)
            t->fields[kept++] = t->fields[i];
    t->n = kept;
}

static void copy_table(struct arena *a, struct mq_table *to, const struct mq_table *from);

static void copy_value(struct arena *a, struct mq_value *to, const struct mq_value *from)
{
    size_t i;

    *to = *from;
    if (from->kind == 'S' || from->kind == 'x') {
        to->text.data = arena_strndup(a, from->text.data, from->text.len);
    } else if (from->kind == 'F') {
        copy_table(a, &to->table, &from->table);
    } else if (from->kind == 'A') {
        to->array.items = arena_alloc(a, from->array.n * sizeof(*to->array.items));
        for (i = 0; i < from->array.n; i++)
            copy_value(a, &to->array.items[i], &from->array.items[i]);
    }
}

static void copy_table(struct arena *a, struct mq_table *to, const struct mq_table *from)
{
    size_t i;

    to->n = from->n;
    to->room = from->n + 12; /* a dead letter adds about as many headers */
    to->fields = arena_alloc(a, to->room * sizeof(*to->fields));
    for (i = 0; i < from->n; i++) {
        to->fields[i].name = arena_strdup(a, from->fields[i].name);
        copy_value(a, &to->fields[i].value, &from->fields[i].value);
    }
}

void mq_message_copy(struct arena *a, struct mq_message *to, const struct mq_message *from)
{
    *to = *from;
    to->exchange = arena_strdup(a, from->exchange);
    to->routing_key = arena_strdup(a, from->routing_key);
    to->content_type = arena_strdup(a, from->content_type);
    to->content_encoding = arena_strdup(a, from->content_encoding);
    to->correlation_id = arena_strdup(a, from->correlation_id);
    to->reply_to = arena_strdup(a, from->reply_to);
    to->expiration = arena_strdup(a, from->expiration);
    to->message_id = arena_strdup(a, from->message_id);
    to->type = arena_strdup(a, from->type);
    to->user_id = arena_strdup(a, from->user_id);
    to->app_id = arena_strdup(a, from->app_id);
    copy_table(a, &to->headers, &from->headers);
    to->body = arena_strndup(a, from->body, from->body_len);
}
