#include "ctl/dlq_again.h"

#include <string.h>

#include "common/chat/body.h"
#include "common/chat/envelope.h"
#include "common/chat/topology.h"

json_t *again_merge(const json_t *value, const json_t *patch)
{
    const char *name;
    json_t *merged, *member;

    if (!json_is_object(patch))
        return json_deep_copy(patch);
    merged = json_is_object(value) ? json_deep_copy(value) : json_object();
    for (void *at = json_object_iter((json_t *)(uintptr_t)patch); at;
         at = json_object_iter_next((json_t *)(uintptr_t)patch, at)) {
        name = json_object_iter_key(at);
        member = json_object_iter_value(at);
        if (json_is_null(member))
            json_object_del(merged, name);
        else
            json_object_set_new(merged, name, again_merge(json_object_get(merged, name), member));
    }
    return merged;
}

static int edit(struct arena *a, const json_t *patch, struct mq_message *m, struct err *e)
{
    json_t *body = json_loadb(m->body, m->body_len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL),
           *merged;

    if (!body)
        return err_set(e, ERR_REJECT, 400, "--edit: the body is no JSON, so nothing can be merged");
    merged = again_merge(body, patch);
    m->body = body_text(a, merged, &m->body_len);
    json_decref(body);
    json_decref(merged);
    return 0;
}

/* Which time this is that a turn's answer is begun: more than any before. The broker gives a message
 * that it dead-letters itself to a worker so often before. */
static int64_t next_epoch(const struct letter *l)
{
    int64_t epoch = mq_table_int(&l->message->headers, HEADER_EPOCH, 1);

    if (epoch < 1 || epoch > INT32_MAX / 2)
        epoch = 1;
    return epoch + 1 + (l->origin == LETTER_BROKER ? WORK_DELIVERY_LIMIT + 1 : 0);
}

static void copy_headers(struct arena *a, const struct mq_table *from, struct mq_table *to)
{
    size_t i;

    to->n = 0;
    to->room = from->n + 4;
    to->fields = arena_alloc(a, to->room * sizeof(*to->fields));
    for (i = 0; i < from->n; i++)
        if (!letter_header_of_failure(from->fields[i].name))
            to->fields[to->n++] = from->fields[i];
}

int again_make(struct arena *a, const struct letter *l, const struct dlq_options *o,
               const char *reply_to, struct mq_message *out, struct err *e)
{
    const struct operation *op = o->to;

    *out = *l->message;
    copy_headers(a, &l->message->headers, &out->headers);
    out->exchange = "";
    out->routing_key = l->queue;
    out->reply_to = reply_to;
    out->expiration = NULL;
    out->user_id = NULL; /* the broker takes only our own */
    out->delivery_mode = MESSAGE_PERSISTENT;
    if (!out->correlation_id || !*out->correlation_id)
        out->correlation_id = l->id;
    mq_table_put_string(a, &out->headers, HEADER_REPLAY_OF, l->id);
    if (op) {
        out->exchange = exchange_name(EXCHANGE_RPC);
        out->routing_key = out->type = op->name;
    } else {
        op = l->operation ? operation_find(l->operation) : NULL;
    }
    if (op && op->step)
        mq_table_put_int(a, &out->headers, HEADER_EPOCH, next_epoch(l));
    return o->edit ? edit(a, o->edit, out, e) : 0;
}
