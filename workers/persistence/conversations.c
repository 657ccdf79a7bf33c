#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/uuid.h"
#include "common/chat/body.h"
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/idempotency.h"
#include "workers/persistence/page.h"
#include "workers/persistence/rows.h"

static const char *text_of(const json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

/* The text of an object; NULL when there is none. */
static const char *object_of(struct job *job, const char *name)
{
    const json_t *value = json_object_get(job_body(job), name);
    size_t n;

    return json_is_object(value) ? body_text(job_arena(job), value, &n) : NULL;
}

static void not_there(struct job *job)
{
    job_reject(job, 404, "there is no such conversation");
}

/* ---- create ---- */

static const char sql_provision[] = "SELECT chat.provision_user($1::uuid)";

/* Who a user is in the tokens, where that is no UUID. $1 tenant, $2 user, $3 subject */
static const char sql_identity[] = "INSERT INTO chat.identities (tenant_id, user_id, subject) "
                                   "VALUES ($1, $2::uuid, $3) ON CONFLICT DO NOTHING";

/* $1 id, $2 tenant, $3 user, $4 title, $5 context type, $6 context data, $7 metadata, $8 key,
 * $9 hash. */
static const char sql_create[] =
    "WITH k AS ("
    "INSERT INTO chat.idempotency_keys (tenant_id, user_id, key, operation, payload_hash, "
    "message_id) "
    "SELECT $2, $3::uuid, $8::text, 'conversation.create', $9::uuid, $1::uuid "
    "WHERE $8::text IS NOT NULL ON CONFLICT DO NOTHING RETURNING 1) "
    "INSERT INTO chat.conversations "
    "(id, tenant_id, user_id, title, context_type, context_data, metadata) "
    "SELECT $1::uuid, $2, $3::uuid, coalesce($4::text, 'New Conversation'), "
    "coalesce($5::text, 'general'), $6::jsonb, $7::jsonb "
    "WHERE $8::text IS NULL OR EXISTS (SELECT 1 FROM k) ON CONFLICT (id) DO NOTHING";
static const char sql_key[] = IDEMPOTENCY_SELECT;
/* $1 id, $2 tenant, $3 user, $4 key: the conversation that the key stands for, or that of the id */
static const char sql_created[] =
    "SELECT " CONVERSATION_COLUMNS " FROM chat.conversations c WHERE c.id = coalesce("
    "(SELECT k.message_id FROM chat.idempotency_keys k "
    "WHERE k.tenant_id = $2 AND k.user_id = $3::uuid AND k.key = $4::text), $1::uuid)";

/* $1 tenant, $2 user, $3 key, $4 the id that it would stand for */
static const char sql_release[] =
    "DELETE FROM chat.idempotency_keys k WHERE k.tenant_id = $1 AND k.user_id = $2::uuid "
    "AND k.key = $3::text AND k.message_id = $4::uuid";

struct creation {
    int key, row; /* statements */
};

static void taken(struct job *job, const struct pg_segment *s, void *state)
{
    (void)s;
    (void)state;
    job_reject(job, 409, "the message_id is the id of something else already");
}

/* Nothing was created, so the key stands for nothing. */
static void release(struct job *job)
{
    const struct envelope *env = job_envelope(job);
    struct transaction *t = transaction_new(job, env->user_id);

    transaction_add(
        t, sql_release, 4,
        (const char *const[]){env->tenant_id, env->user_id, env->idempotency_key, env->message_id});
    transaction_run(t, taken, NULL);
}

static void created(struct job *job, const struct pg_segment *s, void *state)
{
    struct creation *c = state;
    const char *first;
    json_t *body;
    struct err e;

    if (idempotency_judge(s, c->key, &first, &e)) {
        job_fail(job, &e);
        return;
    }
    if (pg_rows(s, c->row) == 0) {
        release(job);
        return;
    }
    body = row_conversation(s, c->row, 0, 0);
    if (!first || strcmp(first, job_envelope(job)->message_id) == 0)
        job_event(job, "chat.thread.created", job_envelope(job)->message_id,
                  json_pack("{s:O, s:O}", "conversation_id", json_object_get(body, "id"),
                            "context_type", json_object_get(body, "context_type")));
    job_reply(job, 201, body);
}

void conversation_create(struct job *job)
{
    const struct envelope *env = job_envelope(job);
    const json_t *args = job_body(job);
    const char *hash = env->idempotency_key ? idempotency_hash(job) : NULL;
    struct creation *c = arena_alloc(job_arena(job), sizeof(*c));
    struct transaction *t = transaction_new(job, env->user_id);

    transaction_refuse(t, "23503", 403, "the user is not known");
    if (persistence_settings.auto_provision)
        transaction_add(t, sql_provision, 1, (const char *const[]){env->user_id});
    if (env->subject)
        transaction_add(t, sql_identity, 3,
                        (const char *const[]){env->tenant_id, env->user_id, env->subject});
    transaction_add(t, sql_create, 9,
                    (const char *const[]){env->message_id, env->tenant_id, env->user_id,
                                          text_of(args, "title"), text_of(args, "context_type"),
                                          object_of(job, "context_data"),
                                          object_of(job, "metadata"), env->idempotency_key, hash});
    c->key = transaction_add(
        t, sql_key, 5,
        (const char *const[]){env->tenant_id, env->user_id, env->idempotency_key, env->type, hash});
    c->row = transaction_add(
        t, sql_created, 4,
        (const char *const[]){env->message_id, env->tenant_id, env->user_id, env->idempotency_key});
    transaction_run(t, created, c);
}

/* ---- list ---- */

/* Without the context's data, which may be large. */
#define LIST_COLUMNS                                                                               \
    "c.id, c.title, c.context_type, NULL, c.status, c.metadata, " ROW_MS(                          \
        "c.created_at") ", " ROW_MS("c.updated_at") ", (extract(epoch FROM c.updated_at) * "       \
                                                    "1000000)::bigint"

/* $1 tenant, $2 user, $3 status, $4 limit, $5 offset */
static const char sql_list[] =
    "SELECT " LIST_COLUMNS " FROM chat.conversations c "
    "WHERE c.tenant_id = $1 AND c.user_id = $2::uuid AND c.status = $3 AND c.status <> 'deleted' "
    "ORDER BY c.updated_at DESC, c.id DESC LIMIT $4::bigint OFFSET $5::bigint";
/* $5 and $6: the cursor's time in microseconds and id */
static const char sql_list_after[] =
    "SELECT " LIST_COLUMNS " FROM chat.conversations c "
    "WHERE c.tenant_id = $1 AND c.user_id = $2::uuid AND c.status = $3 AND c.status <> 'deleted' "
    "AND (c.updated_at, c.id) < "
    "(timestamptz 'epoch' + $5::bigint * interval '1 microsecond', $6::uuid) "
    "ORDER BY c.updated_at DESC, c.id DESC LIMIT $4::bigint";
static const char sql_count[] =
    "SELECT count(*) FROM chat.conversations c "
    "WHERE c.tenant_id = $1 AND c.user_id = $2::uuid AND c.status = $3 AND c.status <> 'deleted'";

enum { LIST_CURSOR_COLUMN = 8, LIST_WIDTH };

struct listing {
    long limit, offset;
    int rows, count; /* statements */
};

static void listed(struct job *job, const struct pg_segment *s, void *state)
{
    struct listing *l = state;
    int found = pg_rows(s, l->rows), n = rows_that_fit(s, l->rows, l->limit, LIST_WIDTH), i;
    json_t *list = json_array(), *cursor = json_null(), *pagination;
    json_int_t total = pg_integer(s, l->count, 0, 0);

    for (i = 0; i < n; i++) {
        json_t *one = row_conversation(s, l->rows, i, 0);

        json_object_del(one, "context_data");
        json_array_append_new(list, one);
    }
    if (found > n)
        cursor = json_sprintf("%s_%s", pg_text(s, l->rows, n - 1, LIST_CURSOR_COLUMN),
                              pg_text(s, l->rows, n - 1, 0));
    pagination = json_pack("{s:I, s:I, s:I, s:b, s:o}", "limit", (json_int_t)l->limit, "offset",
                           (json_int_t)l->offset, "total", total, "has_more", found > n,
                           "next_cursor", cursor);
    job_reply(job, 200,
              json_pack("{s:o, s:I, s:o}", "conversations", list, "total", total, "pagination",
                        pagination));
}

/* "<microseconds>_<uuid>" into two texts. */
static int read_cursor(struct job *job, const char *text, const char **time, const char **id,
                       struct err *e)
{
    size_t n = strspn(text, "0123456789");

    if (n == 0 || n > 17 || text[n] != '_' || !uuid_valid(text + n + 1))
        return err_set(e, ERR_REJECT, 400, "cursor is no next_cursor of a page");
    *time = arena_strndup(job_arena(job), text, n);
    *id = text + n + 1;
    return 0;
}

void conversation_list(struct job *job)
{
    const struct envelope *env = job_envelope(job);
    const json_t *args = job_body(job);
    const char *cursor = text_of(args, "cursor"), *status = text_of(args, "status");
    const char *time = NULL, *id = NULL;
    struct listing *l = arena_alloc(job_arena(job), sizeof(*l));
    const char *offset, *limit;
    struct transaction *t;
    struct err e;

    l->limit = page_limit(args, 20);
    l->offset = (long)json_integer_value(json_object_get(args, "offset"));
    if (cursor &&
        (read_cursor(job, cursor, &time, &id, &e) ||
         (l->offset && err_set(&e, ERR_REJECT, 400, "cursor and offset exclude another")))) {
        job_fail(job, &e);
        return;
    }
    status = status ? status : "active";
    limit = arena_printf(job_arena(job), "%ld", l->limit + 1);
    offset = arena_printf(job_arena(job), "%ld", l->offset);
    t = transaction_new(job, env->user_id);
    if (cursor)
        l->rows = transaction_add(
            t, sql_list_after, 6,
            (const char *const[]){env->tenant_id, env->user_id, status, limit, time, id});
    else
        l->rows = transaction_add(
            t, sql_list, 5,
            (const char *const[]){env->tenant_id, env->user_id, status, limit, offset});
    l->count = transaction_add(t, sql_count, 3,
                               (const char *const[]){env->tenant_id, env->user_id, status});
    transaction_run(t, listed, l);
}

/* ---- get ---- */

static const char sql_get[] = "SELECT " CONVERSATION_COLUMNS " FROM chat.conversations c "
                              "WHERE c.id = $1::uuid AND c.status <> 'deleted'";

struct getting {
    int conversation;
    struct page page;
};

static void got(struct job *job, const struct pg_segment *s, void *state)
{
    struct getting *g = state;
    json_t *body;
    struct err e;

    if (pg_rows(s, g->conversation) == 0) {
        not_there(job);
        return;
    }
    body = page_body(&g->page, s, &e);
    json_object_set_new(body, "conversation", row_conversation(s, g->conversation, 0, 0));
    job_reply(job, 200, body);
}

void conversation_get(struct job *job)
{
    const char *id = text_of(job_body(job), "conversation_id");
    struct getting *g = arena_alloc(job_arena(job), sizeof(*g));
    struct transaction *t = transaction_new(job, id);

    g->conversation = transaction_add(t, sql_get, 1, (const char *const[]){id});
    page_add(&g->page, t, job, id, NULL, NULL, PAGE_MESSAGES);
    transaction_run(t, got, g);
}

/* ---- update and delete ---- */

/* $1 id, $2 title, $3 status, $4 metadata, $5 message. The row remembers the latest messages that changed
 * it: one that is delivered again must not undo what came behind it. */
static const char sql_update[] =
    "UPDATE chat.conversations c SET title = coalesce($2::text, c.title), "
    "status = coalesce($3::text, c.status), metadata = coalesce($4::jsonb, c.metadata), "
    "deleted_at = CASE WHEN $3::text = 'deleted' THEN now() END, updated_at = now(), "
    "changes = (ARRAY[$5::uuid] || c.changes)[1:8] "
    "WHERE c.id = $1::uuid AND c.status <> 'deleted' "
    "AND ($5::uuid = ANY (c.changes)) IS NOT TRUE";
/* $2: the message, which may be the one that deleted it. */
static const char sql_updated[] =
    "SELECT " CONVERSATION_COLUMNS " FROM chat.conversations c WHERE c.id = $1::uuid "
    "AND (c.status <> 'deleted' OR $2::uuid = ANY (c.changes))";
/* Done twice it is as done once. */
static const char sql_delete[] =
    "UPDATE chat.conversations c SET status = 'deleted', "
    "deleted_at = coalesce(c.deleted_at, now()), updated_at = now() WHERE c.id = $1::uuid";

static void updated(struct job *job, const struct pg_segment *s, void *state)
{
    int *row = state;

    if (pg_rows(s, *row) == 0)
        not_there(job);
    else
        job_reply(job, 200, row_conversation(s, *row, 0, 0));
}

void conversation_update(struct job *job)
{
    const json_t *args = job_body(job);
    const char *id = text_of(args, "conversation_id"), *title = text_of(args, "title"),
               *status = text_of(args, "status"), *metadata = object_of(job, "metadata"),
               *message_id = job_envelope(job)->message_id;
    int *row = arena_alloc(job_arena(job), sizeof(*row));
    struct transaction *t;
    struct err e;

    if (!title && !status && !metadata) {
        err_set(&e, ERR_REJECT, 400, "one of title, status and metadata is needed");
        job_fail(job, &e);
        return;
    }
    t = transaction_new(job, id);
    transaction_add(t, sql_update, 5,
                    (const char *const[]){id, title, status, metadata, message_id});
    *row = transaction_add(t, sql_updated, 2, (const char *const[]){id, message_id});
    transaction_run(t, updated, row);
}

static void deleted(struct job *job, const struct pg_segment *s, void *state)
{
    int *statement = state;

    if (pg_changed(s, *statement) == 0)
        not_there(job);
    else
        job_reply(job, 204, json_object());
}

void conversation_delete(struct job *job)
{
    const char *id = text_of(job_body(job), "conversation_id");
    int *statement = arena_alloc(job_arena(job), sizeof(*statement));
    struct transaction *t = transaction_new(job, id);

    *statement = transaction_add(t, sql_delete, 1, (const char *const[]){id});
    transaction_run(t, deleted, statement);
}
