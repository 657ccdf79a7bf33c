#include "workers/inference/control.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/text.h"
#include "common/base/uuid.h"
#include "common/chat/identity.h"
#include "common/chat/topology.h"
#include "common/worker/worker.h"
#include "workers/inference/followers.h"
#include "workers/inference/provider.h"

/* A stop may come before the prompt, or between two attempts. What came longer ago is forgotten: the
 * turn keeps it, too, so that only the work is in vain. */
enum { STOPS_MAX = 4096 };

static struct {
    struct map *generations; /* key -> generation */
    struct map *stops;       /* key -> its place in the ring */
    char *ring[STOPS_MAX];   /* keys, the oldest at next */
    size_t next;
} state;

/* Whose turn it is belongs to its key, so that nobody reaches another's. */
static char *key_of(const struct envelope *env, const char *turn_id)
{
    char *key = mem_printf("%s %s %s", turn_id, env->user_id,
                           env->tenant_id ? env->tenant_id : TENANT_DEFAULT);

    text_lower(key);
    return key;
}

/* ---- stops ---- */

static void remember(const char *key)
{
    char **place = &state.ring[state.next];

    if (map_get(state.stops, key, strlen(key)))
        return;
    if (*place) {
        map_remove(state.stops, *place, strlen(*place));
        free(*place);
    }
    *place = mem_strdup(key);
    map_put(state.stops, key, strlen(key), place);
    state.next = (state.next + 1) % STOPS_MAX;
}

/* Also where the answer is under way here: its message may be delivered again. */
static void stop_came(const char *key)
{
    struct generation *g = map_get(state.generations, key, strlen(key));

    remember(key);
    if (g)
        generation_interrupt(g);
}

/* ---- messages ---- */

/* Of an address for direct replies the broker knows whether it is a good one: a forged one ends the
 * connection. */
static bool may_follow(const struct envelope *env)
{
    return env->reply_to && env->correlation_id && !topology_owns_queue(env->reply_to) &&
           !text_starts_with(env->reply_to, "amq.rabbitmq.reply-to");
}

static void follower_came(const struct envelope *env, const char *key, const json_t *body)
{
    struct generation *g = map_get(state.generations, key, strlen(key));
    const struct follower who = {env->reply_to, env->correlation_id};

    if (!g)
        return; /* of another process, or of none yet */
    if (strcmp(env->type, CONTROL_LEAVE) == 0)
        followers_leave(g, &who);
    else
        followers_resume(g, &who, json_integer_value(json_object_get(body, "epoch")),
                         json_integer_value(json_object_get(body, "offset")));
}

void control_came(const struct envelope *env, const json_t *body)
{
    const char *turn_id = json_string_value(json_object_get(body, "turn_id"));
    bool stops = strcmp(env->type, CONTROL_STOP) == 0;
    bool follows = strcmp(env->type, CONTROL_RESUME) == 0 || strcmp(env->type, CONTROL_LEAVE) == 0;
    char *key;

    if (!stops && !follows)
        return; /* for others, or of a later version */
    if (!turn_id || !uuid_valid(turn_id) || !uuid_valid(env->user_id) ||
        (follows && !may_follow(env))) {
        log_event(LOG_WARN, "control message not valid", LOG_STR("type", env->type),
                  LOG_STR("turn_id", turn_id), LOG_STR("correlation_id", env->correlation_id));
        return;
    }
    key = key_of(env, turn_id);
    if (stops)
        stop_came(key);
    else
        follower_came(env, key, body);
    free(key);
}

/* ---- generations ---- */

bool control_add(struct generation *g)
{
    const json_t *turn = json_object_get(job_body(g->job), "turn");
    const char *turn_id = json_string_value(json_object_get(turn, "id"));
    const struct envelope *env = job_envelope(g->job);
    size_t n;

    if (!turn_id || !env->user_id)
        return true;
    g->turn_id = turn_id;
    g->key = key_of(env, turn_id);
    n = strlen(g->key);
    map_put(state.generations, g->key, n, g); /* the latest of several deliveries */
    return !map_get(state.stops, g->key, n);
}

void control_remove(struct generation *g)
{
    if (g->key && map_get(state.generations, g->key, strlen(g->key)) == g)
        map_remove(state.generations, g->key, strlen(g->key));
    free(g->key);
    g->key = NULL;
}

/* ---- life ---- */

void control_start(void)
{
    state.generations = map_new();
    state.stops = map_new();
}

void control_stop(void)
{
    size_t i;

    for (i = 0; i < STOPS_MAX; i++)
        free(state.ring[i]);
    map_free(state.generations);
    map_free(state.stops);
    memset(&state, 0, sizeof(state));
}
