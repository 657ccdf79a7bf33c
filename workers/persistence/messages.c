#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/page.h"

static const char sql_conversation[] =
    "SELECT 1 FROM chat.conversations c WHERE c.id = $1::uuid AND c.status <> 'deleted'";

struct listing {
    int conversation; /* statement */
    struct page page;
};

static void listed(struct job *job, const struct pg_segment *s, void *state)
{
    struct listing *l = state;
    json_t *body = NULL;
    struct err e;

    if (pg_rows(s, l->conversation) == 0)
        err_set(&e, ERR_REJECT, 404, "there is no such conversation");
    else
        body = page_body(&l->page, s, &e);
    if (body)
        job_reply(job, 200, body);
    else
        job_fail(job, &e);
}

void message_list(struct job *job)
{
    const json_t *args = job_body(job);
    const char *id = json_string_value(json_object_get(args, "conversation_id"));
    const char *before = json_string_value(json_object_get(args, "before_id"));
    const char *after = json_string_value(json_object_get(args, "after_id"));
    struct listing *l = arena_alloc(job_arena(job), sizeof(*l));
    struct transaction *t;
    struct err e;

    if (before && after) {
        err_set(&e, ERR_REJECT, 400, "before_id and after_id exclude each other");
        job_fail(job, &e);
        return;
    }
    t = transaction_new(job, id);
    l->conversation = transaction_add(t, sql_conversation, 1, (const char *const[]){id});
    page_add(&l->page, t, job, id, before, after, page_limit(args, PAGE_MESSAGES));
    transaction_run(t, listed, l);
}
