#include "common/chat/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/chat/operations.h"
#include "tests/unit/unit.h"

enum { LINES_MAX = 1024 };

/* The plan as topology_list() tells it. */
struct plan {
    struct arena *arena;
    struct topology_line lines[LINES_MAX];
    size_t count;
};

static void take_line(void *arg, const struct topology_line *line)
{
    struct plan *p = arg;

    CU_ASSERT_FATAL(p->count < LINES_MAX);
    p->lines[p->count++] = (struct topology_line){arena_strdup(p->arena, line->what),
                                                  arena_strdup(p->arena, line->name),
                                                  arena_strdup(p->arena, line->detail)};
}

static struct plan *plan_of(const char *kind)
{
    struct plan *p = mem_alloc(sizeof(*p));

    p->arena = arena_new();
    topology_list(kind, take_line, p);
    return p;
}

static void plan_free(struct plan *p)
{
    arena_free(p->arena);
    free(p);
}

/* Where the line stands, or -1. detail NULL: any. */
static long find(const struct plan *p, const char *what, const char *name, const char *detail)
{
    size_t i;

    for (i = 0; i < p->count; i++)
        if (strcmp(p->lines[i].what, what) == 0 && strcmp(p->lines[i].name, name) == 0 &&
            (!detail || strcmp(p->lines[i].detail, detail) == 0))
            return (long)i;
    return -1;
}

static size_t count_of(const struct plan *p, const char *what)
{
    size_t i, n = 0;

    for (i = 0; i < p->count; i++)
        n += strcmp(p->lines[i].what, what) == 0;
    return n;
}

/* Does the queue have exactly this argument? */
static bool has(const struct plan *p, const char *queue, const char *argument)
{
    long at = find(p, "queue", queue, NULL);
    char *list, *rest, *one;
    bool found = false;

    if (at < 0)
        return false;
    list = rest = mem_printf("%s, ", p->lines[at].detail);
    while ((one = strstr(rest, ", "))) {
        *one = '\0';
        found |= strcmp(rest, argument) == 0;
        rest = one + 2;
    }
    free(list);
    return found;
}

static void exchanges(void)
{
    struct plan *p = plan_of(NULL);
    long last = -1, first_queue = -1;
    size_t i;

    CU_ASSERT_EQUAL(count_of(p, "exchange"), EXCHANGES);
    CU_ASSERT(find(p, "exchange", "chat.rpc", "direct, durable") >= 0);
    CU_ASSERT(find(p, "exchange", "chat.dlx", "direct, durable") >= 0);
    CU_ASSERT(find(p, "exchange", "chat.events", "topic, durable") >= 0);
    CU_ASSERT(find(p, "exchange", "chat.push", "topic, durable") >= 0);
    CU_ASSERT(find(p, "exchange", "chat.control", "fanout, durable") >= 0);
    for (i = 0; i < p->count; i++) { /* whatever binds or dead-letters to one finds it there */
        if (strcmp(p->lines[i].what, "exchange") == 0)
            last = (long)i;
        else if (first_queue < 0)
            first_queue = (long)i;
    }
    CU_ASSERT(first_queue > last);
    CU_ASSERT_STRING_EQUAL(exchange_name(EXCHANGE_DLX), "chat.dlx");
    CU_ASSERT_STRING_EQUAL(exchange_type(EXCHANGE_EVENTS), "topic");
    plan_free(p);
}

/* At no moment can a work queue dead-letter into nothing. */
static void dead_letters_have_a_place_first(void)
{
    struct plan *p = plan_of(NULL);
    size_t i;

    CU_ASSERT(work_queues_count > 0);
    for (i = 0; i < work_queues_count; i++) {
        const char *name = work_queues[i].name;
        const char *dlq = arena_printf(p->arena, "%s.dlq", name);
        const char *by = arena_printf(p->arena, "from chat.dlx by %s", name);
        long work = find(p, "queue", name, NULL), dead = find(p, "queue", dlq, NULL),
             bound = find(p, "binding", dlq, by);

        CU_ASSERT(dead >= 0);
        CU_ASSERT(bound > dead);
        CU_ASSERT(work > bound);
        if (!work_queues[i].reads) {
            CU_ASSERT_TRUE(
                has(p, name, arena_printf(p->arena, "x-dead-letter-routing-key=%s", name)));
            CU_ASSERT_TRUE(has(p, name, "x-dead-letter-exchange=chat.dlx"));
            CU_ASSERT(has(p, name, "x-delivery-limit=20"));
        }
        /* Dead letters stay: they expire nowhere, overflow nowhere and go nowhere else. */
        CU_ASSERT_TRUE(has(p, dlq, "durable"));
        CU_ASSERT_TRUE(has(p, dlq, "x-queue-type=quorum"));
        CU_ASSERT_TRUE(has(p, dlq, "x-delivery-limit=1000000"));
        CU_ASSERT_PTR_NULL(strstr(p->lines[dead].detail, "x-message-ttl"));
        CU_ASSERT_PTR_NULL(strstr(p->lines[dead].detail, "x-dead-letter"));
        CU_ASSERT_PTR_NULL(strstr(p->lines[dead].detail, "x-max"));
    }
    plan_free(p);
}

/* A message waits there and comes back to where it was. */
static void delays_lead_back(void)
{
    static const struct {
        const char *suffix, *ttl;
    } delays[] = {{".retry.1s", "x-message-ttl=1000"},
                  {".retry.5s", "x-message-ttl=5000"},
                  {".retry.30s", "x-message-ttl=30000"},
                  {".retry.5m", "x-message-ttl=300000"}};
    struct plan *p = plan_of(NULL);
    size_t i, k;

    CU_ASSERT_EQUAL(COUNT(delays), RETRY_DELAYS);
    for (i = 0; i < work_queues_count; i++) {
        const char *work = work_queues[i].name;

        if (work_queues[i].reads)
            continue; /* a read is asked for again by its caller */
        for (k = 0; k < COUNT(delays); k++) {
            const char *name = arena_printf(p->arena, "%s%s", work, delays[k].suffix);

            CU_ASSERT(find(p, "queue", name, NULL) > find(p, "queue", work, NULL));
            CU_ASSERT_TRUE(has(p, name, delays[k].ttl));
            CU_ASSERT_TRUE(has(p, name, "x-dead-letter-exchange="));
            CU_ASSERT_TRUE(
                has(p, name, arena_printf(p->arena, "x-dead-letter-routing-key=%s", work)));
            CU_ASSERT(find(p, "binding", name, NULL) < 0);
        }
    }
    for (k = 1; k < RETRY_DELAYS; k++)
        CU_ASSERT(retry_delays[k].ms > retry_delays[k - 1].ms);
    plan_free(p);
}

/* A kind of worker's queues, or all; those of reads have no delays. */
static size_t queues_of(const char *kind)
{
    size_t i, n = 0;

    for (i = 0; i < work_queues_count; i++)
        if (!kind || strcmp(work_queues[i].kind, kind) == 0)
            n += work_queues[i].reads ? 2 : RETRY_DELAYS + 2;
    return n;
}

static void reads_are_light(void)
{
    struct plan *p = plan_of(NULL);

    CU_ASSERT_TRUE(has(p, "persistence.read", "x-queue-type=classic"));
    CU_ASSERT_FALSE(has(p, "persistence.read", "x-dead-letter-exchange"));
    CU_ASSERT(find(p, "queue", "persistence.read.retry.1s", NULL) < 0);
    plan_free(p);
}

/* Quorum queues lose nothing only with all of these together. */
static void every_queue_is_safe(void)
{
    struct plan *p = plan_of(NULL);
    size_t i;

    CU_ASSERT_EQUAL(count_of(p, "queue"), queues_of(NULL));
    for (i = 0; i < p->count; i++) {
        const char *name = p->lines[i].name;

        if (strcmp(p->lines[i].what, "queue") != 0)
            continue;
        CU_ASSERT_EQUAL(find(p, "queue", name, NULL), (long)i); /* once */
        CU_ASSERT_TRUE(has(p, name, "durable"));
        CU_ASSERT_TRUE(topology_owns_queue(name));
        if (work_queue_find(name) && work_queue_find(name)->reads)
            continue;
        CU_ASSERT_TRUE(has(p, name, "x-queue-type=quorum"));
        if (strlen(name) > 4 && strcmp(name + strlen(name) - 4, ".dlq") == 0)
            continue;
        CU_ASSERT_TRUE(has(p, name, "x-dead-letter-strategy=at-least-once"));
        CU_ASSERT_TRUE(has(p, name, "x-overflow=reject-publish"));
        CU_ASSERT_PTR_NOT_NULL(strstr(p->lines[i].detail, ", x-dead-letter-exchange="));
    }
    plan_free(p);
}

static void operations_are_bound(void)
{
    struct plan *p = plan_of(NULL);
    size_t i, k, bindings = work_queues_count; /* of the dead letters */

    for (i = 0; i < operations_count; i++) {
        const struct operation *op = &operations[i];
        const char *by = arena_printf(p->arena, "from chat.rpc by %s", op->name);

        for (k = 0; k < work_queues_count; k++) {
            const struct work_queue *q = &work_queues[k];
            bool wanted = op->queue ? strcmp(op->queue, q->name) == 0 : q->first;
            long at = find(p, "binding", q->name, by);

            CU_ASSERT_EQUAL(at >= 0, wanted);
            if (wanted) {
                CU_ASSERT(at > find(p, "queue", q->name, NULL));
                bindings++;
            }
        }
    }
    CU_ASSERT_EQUAL(count_of(p, "binding"), bindings);
    CU_ASSERT(find(p, "binding", "context-builder", "from chat.rpc by system.echo") >= 0);
    CU_ASSERT(find(p, "binding", "context-builder", "from chat.rpc by system.health") >= 0);
    plan_free(p);
}

/* Each kind answers system.health once. */
static void each_kind_has_one_first_queue(void)
{
    size_t i, k, firsts;

    for (i = 0; i < work_queues_count; i++) {
        for (k = 0, firsts = 0; k < work_queues_count; k++)
            firsts += work_queues[k].first && strcmp(work_queues[k].kind, work_queues[i].kind) == 0;
        CU_ASSERT_EQUAL(firsts, 1);
    }
}

static void of_one_kind_or_none(void)
{
    struct plan *none = plan_of(""), *unknown = plan_of("context"), *one;
    size_t i;

    CU_ASSERT_EQUAL(none->count, EXCHANGES);
    CU_ASSERT_EQUAL(unknown->count, EXCHANGES);
    plan_free(none);
    plan_free(unknown);
    for (i = 0; i < work_queues_count; i++) {
        one = plan_of(work_queues[i].kind);
        CU_ASSERT(find(one, "queue", work_queues[i].name, NULL) >= 0);
        CU_ASSERT_EQUAL(count_of(one, "queue"), queues_of(work_queues[i].kind));
        plan_free(one);
    }
}

/* Replies may go to any queue but ours, also to those whose names only resemble ours. */
static void knows_its_own_queues(void)
{
    static const char *const ours[] = {"context-builder", "context-builder.dlq",
                                       "context-builder.retry.1s", "context-builder.retry.5m",
                                       "context-builder.retry.gone"};
    static const char *const others[] = {
        "",
        "context",
        "context-builde",
        "context-builder2",
        "context-builder-dlq",
        "context-builders",
        "context-builder.",
        "context-builder.dlq2",
        "context-builder.dlq.x",
        "context-builder.dl",
        "context-builder.retry",
        "context-builder.retry-1s",
        "context-builder.reply",
        "Context-Builder",
        "x.context-builder",
        " context-builder",
        "context-builder ",
        ".dlq",
        ".retry.1s",
        "chat.reply.2ed6657d-e927-568b-95e1-2665a8aea6a2",
        "amq.gen-JzTY20BRgKO-HjmUJj0wLg",
    };
    size_t i;

    for (i = 0; i < COUNT(ours); i++)
        CU_ASSERT_TRUE(topology_owns_queue(ours[i]));
    for (i = 0; i < COUNT(others); i++)
        CU_ASSERT_FALSE(topology_owns_queue(others[i]));
}

int main(void)
{
    static char prefix[] = "chat";
    CU_TestInfo tests[] = {
        {"exchanges", exchanges},
        {"dead letters have a place first", dead_letters_have_a_place_first},
        {"delays lead back", delays_lead_back},
        {"every queue is safe", every_queue_is_safe},
        {"reads are light", reads_are_light},
        {"operations are bound", operations_are_bound},
        {"each kind has one first queue", each_kind_has_one_first_queue},
        {"of one kind or none", of_one_kind_or_none},
        {"knows its own queues", knows_its_own_queues},
        CU_TEST_INFO_NULL,
    };

    chat_names.prefix = prefix;
    return unit_main("topology", tests);
}
