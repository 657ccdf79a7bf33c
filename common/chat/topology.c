#include "common/chat/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/text.h"
#include "common/base/uuid.h"
#include "common/chat/operations.h"

struct chat_names chat_names;

static const struct config_key name_keys[] = {
    {"EXCHANGE_PREFIX", CONFIG_STRING, offsetof(struct chat_names, prefix), "chat", 1, 64, NULL,
     NULL, false,
     "The beginning of the names of exchanges and reply queues. Two fleets on one broker take a "
     "virtual host each."},
};
const struct config_section chat_names_section = {
    "Names on the broker", name_keys, sizeof(name_keys) / sizeof(name_keys[0]), &chat_names};

const struct work_queue work_queues[] = {
    {"persistence", "persistence", true, false},
    {"persistence.commit", "persistence", false, false},
    {"persistence.read", "persistence", false, true},
    {"context-builder", "context-builder", true, false},
    {"inference", "inference", true, false},
};
const size_t work_queues_count = sizeof(work_queues) / sizeof(work_queues[0]);

const struct work_queue *work_queue_find(const char *name)
{
    size_t i;

    for (i = 0; i < work_queues_count; i++)
        if (strcmp(work_queues[i].name, name) == 0)
            return &work_queues[i];
    return NULL;
}

const struct retry_delay retry_delays[RETRY_DELAYS] = {
    {".retry.1s", 1000}, {".retry.5s", 5000}, {".retry.30s", 30000}, {".retry.5m", 300000}};

static const struct {
    const char *suffix, *type;
} exchanges[EXCHANGES] = {
    [EXCHANGE_RPC] = {"rpc", "direct"},  [EXCHANGE_EVENTS] = {"events", "topic"},
    [EXCHANGE_PUSH] = {"push", "topic"}, [EXCHANGE_CONTROL] = {"control", "fanout"},
    [EXCHANGE_DLX] = {"dlx", "direct"},
};

bool reply_takes_many(const char *reply_to)
{
    size_t n = strlen(chat_names.prefix);

    return strncmp(reply_to, chat_names.prefix, n) == 0 &&
           text_starts_with(reply_to + n, REPLY_MANY);
}

const char *exchange_name(enum exchange x)
{
    static char *names[EXCHANGES]; /* the prefix does not change in the life of a process */

    if (!names[x])
        names[x] = mem_printf("%s.%s", chat_names.prefix, exchanges[x].suffix);
    return names[x];
}

const char *exchange_type(enum exchange x)
{
    return exchanges[x].type;
}

bool topology_owns_queue(const char *name)
{
    size_t i;

    for (i = 0; i < work_queues_count; i++) {
        size_t n = strlen(work_queues[i].name);

        if (strncmp(name, work_queues[i].name, n) == 0 &&
            (name[n] == '\0' || text_starts_with(name + n, ".retry.") ||
             strcmp(name + n, ".dlq") == 0))
            return true;
    }
    return false;
}

/* ---- the plan: every declaration, in an order in which no message can be lost ---- */

enum step_kind { STEP_EXCHANGE, STEP_QUEUE, STEP_BINDING, STEP_DELETE };

struct step {
    enum step_kind kind;
    const char *name, *type; /* of the exchange or queue; name: also the queue of a binding */
    const char *exchange, *key;
    struct mq_table arguments;
};

struct plan {
    struct arena *arena;
    struct step *steps;
    size_t count, room;
};

static struct step *add(struct plan *p, enum step_kind kind, const char *name)
{
    if (p->count == p->room) {
        p->room = p->room ? p->room * 2 : 32;
        p->steps = mem_resize(p->steps, p->room * sizeof(*p->steps));
    }
    p->steps[p->count] = (struct step){.kind = kind, .name = name};
    return &p->steps[p->count++];
}

static struct step *add_queue(struct plan *p, const char *name)
{
    struct step *s = add(p, STEP_QUEUE, name);

    mq_table_put_string(p->arena, &s->arguments, "x-queue-type", "quorum");
    return s;
}

static void add_binding(struct plan *p, const char *queue, enum exchange x, const char *key)
{
    struct step *s = add(p, STEP_BINDING, queue);

    s->exchange = exchange_name(x);
    s->key = key;
}

/* Dead-lettering that waits for the target's confirm needs all three arguments (and a target that
 * is there first). */
static void dead_letter_to(struct plan *p, struct step *s, const char *exchange, const char *key)
{
    mq_table_put_string(p->arena, &s->arguments, "x-dead-letter-exchange", exchange);
    mq_table_put_string(p->arena, &s->arguments, "x-dead-letter-routing-key", key);
    mq_table_put_string(p->arena, &s->arguments, "x-dead-letter-strategy", "at-least-once");
    mq_table_put_string(p->arena, &s->arguments, "x-overflow", "reject-publish");
}

/* Whether the feature flag is on shows only by what the broker takes. From 3.12 on it always is. */
static void plan_probe(struct plan *p, const char *version)
{
    char id[UUID_TEXT];
    const char *name;
    struct step *s;
    int major, minor;

    if (sscanf(version, "%d.%d", &major, &minor) != 2 || major > 3 || minor >= 12)
        return;
    name = arena_printf(p->arena, "%s.probe.%s", chat_names.prefix, uuid_v7(id));
    s = add(p, STEP_QUEUE, name);
    mq_table_put_string(p->arena, &s->arguments, "x-queue-type", "stream");
    add(p, STEP_DELETE, name);
}

static bool serves(const struct work_queue *q, const struct operation *op)
{
    return op->queue ? strcmp(op->queue, q->name) == 0 : q->first;
}

/* An operation reaches a queue as its first step or as a later step of some slip; a later step is
 * an operation with a row of its own. */
static void plan_queue(struct plan *p, const struct work_queue *q)
{
    const char *dlq = arena_printf(p->arena, "%s.dlq", q->name);
    struct step *s = add_queue(p, dlq);
    size_t i;

    mq_table_put_int(p->arena, &s->arguments, "x-delivery-limit", DLQ_DELIVERY_LIMIT);
    add_binding(p, dlq, EXCHANGE_DLX, q->name);
    if (q->reads) {
        s = add(p, STEP_QUEUE, q->name);
        /* Those that expire are no dead letters: who asked has been told, and may ask again. */
        mq_table_put_string(p->arena, &s->arguments, "x-queue-type", "classic");
    } else {
        s = add_queue(p, q->name);
        mq_table_put_int(p->arena, &s->arguments, "x-delivery-limit", WORK_DELIVERY_LIMIT);
        dead_letter_to(p, s, exchange_name(EXCHANGE_DLX), q->name);
    }
    for (i = 0; i < RETRY_DELAYS && !q->reads; i++) {
        s = add_queue(p, arena_printf(p->arena, "%s%s", q->name, retry_delays[i].suffix));
        mq_table_put_int(p->arena, &s->arguments, "x-message-ttl", retry_delays[i].ms);
        dead_letter_to(p, s, "", q->name);
    }
    for (i = 0; i < operations_count; i++)
        if (serves(q, &operations[i]))
            add_binding(p, q->name, EXCHANGE_RPC, operations[i].name);
}

/* version: of the broker that will be asked; NULL to only show the plan. */
static void plan_make(struct plan *p, const char *kind, const char *version)
{
    size_t i;

    memset(p, 0, sizeof(*p));
    p->arena = arena_new();
    if (version && (!kind || *kind))
        plan_probe(p, version);
    for (i = 0; i < EXCHANGES; i++) {
        struct step *s = add(p, STEP_EXCHANGE, exchange_name((enum exchange)i));

        s->type = exchange_type((enum exchange)i);
    }
    for (i = 0; i < work_queues_count; i++)
        if (!kind || strcmp(kind, work_queues[i].kind) == 0)
            plan_queue(p, &work_queues[i]);
}

static void plan_free(struct plan *p)
{
    arena_free(p->arena);
    free(p->steps);
}

/* ---- declaring it ---- */

struct declaration {
    struct plan plan;
    size_t answered; /* steps */
    bool failed;
    topology_cb *done;
    void *arg;
};

static void explain(const struct step *s, struct err *e)
{
    if (strstr(e->text, "feature flag is disabled"))
        err_set(e, ERR_FATAL, 500,
                "the broker's feature flag stream_queue is off, and dead letters need it: "
                "rabbitmqctl enable_feature_flag stream_queue");
    else
        err_context(e, "%s %s", s->kind == STEP_EXCHANGE ? "exchange" : "queue", s->name);
}

/* Answers come in the order of the steps; after the first failure all others fail too. */
static void step_answered(void *arg, const struct mq_reply *reply, const struct err *e)
{
    struct declaration *d = arg;
    const struct step *s = &d->plan.steps[d->answered++];
    struct err first;

    (void)reply;
    if (e && !d->failed) {
        d->failed = true;
        first = *e;
        explain(s, &first);
        d->done(d->arg, &first);
    }
    if (d->answered < d->plan.count)
        return;
    if (!d->failed)
        d->done(d->arg, NULL);
    plan_free(&d->plan);
    free(d);
}

static void send_step(struct mq_channel *ch, const struct step *s, struct declaration *d)
{
    switch (s->kind) {
    case STEP_EXCHANGE:
        mq_exchange_declare(ch, s->name, s->type, false, step_answered, d);
        return;
    case STEP_QUEUE:
        mq_queue_declare(ch, s->name, false, false, &s->arguments, step_answered, d);
        return;
    case STEP_BINDING:
        mq_queue_bind(ch, s->name, s->exchange, s->key, step_answered, d);
        return;
    case STEP_DELETE:
        mq_queue_delete(ch, s->name, step_answered, d);
    }
}

void topology_declare(struct mq *m, struct mq_channel *ch, const char *kind, topology_cb *done,
                      void *arg)
{
    struct declaration *d = mem_alloc(sizeof(*d));
    size_t i, n;

    d->done = done;
    d->arg = arg;
    plan_make(&d->plan, kind, mq_broker_version(m));
    n = d->plan.count; /* the last answer, which may come from within the call, frees the plan */
    for (i = 0; i < n; i++)
        send_step(ch, &d->plan.steps[i], d);
}

/* ---- showing it ---- */

static const char *arguments_text(struct arena *a, const struct mq_table *t)
{
    const char *text = "durable";
    size_t i;

    for (i = 0; i < t->n; i++) {
        const struct mq_value *v = &t->fields[i].value;

        if (v->kind == 'S')
            text = arena_printf(a, "%s, %s=%s", text, t->fields[i].name, v->text.data);
        else
            text = arena_printf(a, "%s, %s=%lld", text, t->fields[i].name, (long long)v->integer);
    }
    return text;
}

void topology_list(const char *kind, topology_line_cb *cb, void *arg)
{
    struct plan p;
    size_t i;

    plan_make(&p, kind, NULL);
    for (i = 0; i < p.count; i++) {
        const struct step *s = &p.steps[i];
        struct topology_line line = {.name = s->name};

        if (s->kind == STEP_EXCHANGE) {
            line.what = "exchange";
            line.detail = arena_printf(p.arena, "%s, durable", s->type);
        } else if (s->kind == STEP_QUEUE) {
            line.what = "queue";
            line.detail = arguments_text(p.arena, &s->arguments);
        } else {
            line.what = "binding";
            line.detail = arena_printf(p.arena, "from %s by %s", s->exchange, s->key);
        }
        cb(arg, &line);
    }
    plan_free(&p);
}
