#include "gateway-shim/health.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/chat/topology.h"
#include "gateway-shim/auth.h"
#include "gateway-shim/respond.h"
#include "gateway-shim/rpc.h"

enum { FRESH_US = 1000000, WAITING_MAX = 256 };

struct health {
    struct gateway *gateway;
    struct arena *arena;   /* of the question under way */
    struct rpc_call *call; /* NULL: no question is under way */
    json_t *answers;       /* kind -> what it said */
    json_t *kinds;         /* of the last question, complete */
    bool well;             /* and what came of it */
    int64_t asked_us;      /* 0: never */
    struct request *waiting[WAITING_MAX];
    size_t waiting_count;
};

struct health *health_new(struct gateway *g)
{
    struct health *h = mem_alloc(sizeof(*h));

    h->gateway = g;
    return h;
}

void health_free(struct health *h)
{
    if (!h)
        return;
    json_decref(h->answers);
    json_decref(h->kinds);
    arena_free(h->arena);
    free(h);
}

static const char *word(bool well)
{
    return well ? "healthy" : "unhealthy";
}

/* What a kind needs beside the broker; a kind that is silent cannot say how that is. */
static void add_others(json_t *dependencies, const char *kind, const json_t *said)
{
    json_t *others = json_object_get(said, "dependencies"), *how;
    const char *name;

    json_object_foreach (others, name, how)
        if (!json_object_get(dependencies, name))
            json_object_set(dependencies, name, how);
    if (strcmp(kind, "persistence") == 0 && !json_object_get(dependencies, "database"))
        json_object_set_new(dependencies, "database",
                            json_pack("{s:s, s:s}", "status", "unhealthy", "error",
                                      "persistence, which uses it, does not answer"));
}

/* The seed's shape. Who has the internal key sees which process answered, and its details. */
static void answer(struct health *h, struct request *r)
{
    bool broker = rpc_is_ready(h->gateway->rpc), well = broker && h->well;
    json_t *dependencies = json_pack("{s:{s:s}}", "rabbitmq", "status", word(broker));
    char now[CLOCK_ISO_SIZE];
    const char *kind;
    json_t *said;

    if (!broker)
        json_object_set_new(json_object_get(dependencies, "rabbitmq"), "error",
                            json_string("not reachable, or taking no messages"));
    json_object_foreach (h->kinds, kind, said) {
        json_t *status = json_object_get(said, "status"), *error = json_object_get(said, "error");

        add_others(dependencies, kind, said);
        if (auth_is_internal(r))
            json_object_set(dependencies, kind, said);
        else
            json_object_set_new(dependencies, kind,
                                json_pack("{s:O, s:O*}", "status", status, "error", error));
    }
    respond_json(r, well ? 200 : 503,
                 json_pack("{s:s, s:s, s:s, s:s, s:o}", "status", well ? "healthy" : "degraded",
                           "timestamp", clock_iso(clock_wall_ms(), now), "service",
                           "chatfleet-gateway", "version", program_version(), "dependencies",
                           dependencies));
}

static void answer_all(struct health *h)
{
    size_t i, n = h->waiting_count;

    h->waiting_count = 0;
    for (i = 0; i < n; i++)
        answer(h, h->waiting[i]);
}

/* Every kind has answered, or the time is over. */
static void conclude(struct health *h)
{
    size_t i;

    json_decref(h->kinds);
    h->kinds = h->answers;
    h->answers = NULL;
    h->call = NULL;
    h->well = true;
    for (i = 0; i < work_queues_count; i++) {
        const char *kind = work_queues[i].kind;
        json_t *said = json_object_get(h->kinds, kind);
        const char *status = json_string_value(json_object_get(said, "status"));

        if (!said)
            json_object_set_new(h->kinds, kind,
                                json_pack("{s:s, s:s}", "status", "unhealthy", "error",
                                          "no answer within a second"));
        h->well = h->well && status && strcmp(status, "healthy") == 0;
    }
    answer_all(h);
}

static bool complete(const struct health *h)
{
    size_t i;

    for (i = 0; i < work_queues_count; i++)
        if (!json_object_get(h->answers, work_queues[i].kind))
            return false;
    return true;
}

static void kind_answered(void *arg, const struct rpc_result *result, bool last)
{
    struct health *h = arg;
    json_t *said = NULL;
    const char *kind;

    if (result->type == RPC_REPLY)
        said = json_loadb(result->body, result->body_len, 0, NULL);
    kind = json_string_value(json_object_get(said, "kind"));
    if (kind)
        json_object_set(h->answers, kind, said);
    json_decref(said);
    if (last) {
        conclude(h);
    } else if (complete(h)) {
        rpc_end(h->call);
        conclude(h);
    }
}

static void ask(struct health *h)
{
    struct envelope env = {0};
    char id[UUID_TEXT];
    struct err e;

    arena_free(h->arena);
    h->arena = arena_new();
    h->asked_us = clock_monotonic_us();
    h->answers = json_object();
    env.correlation_id = uuid_v7(id);
    h->call = rpc_call(h->gateway->rpc, operation_find("system.health"), h->arena, &env, "{}", 2,
                       RPC_MANY, kind_answered, h, &e);
    if (!h->call)
        conclude(h);
}

void health_serve(struct health *h, struct request *r)
{
    bool fresh = h->asked_us && clock_monotonic_us() - h->asked_us < FRESH_US;

    if (h->waiting_count == WAITING_MAX || (fresh && !h->call)) {
        answer(h, r);
        return;
    }
    h->waiting[h->waiting_count++] = r;
    if (!h->call)
        ask(h);
}
