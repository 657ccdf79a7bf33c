#include "workers/inference/followers.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "workers/inference/interim.h"
#include "workers/inference/provider.h"

struct following {
    TAILQ_ENTRY(following) link;
    char *reply_to, *correlation_id;
};

static struct follower who_is(const struct following *f)
{
    return (struct follower){f->reply_to, f->correlation_id};
}

static struct following *find(const struct generation *g, const struct follower *who)
{
    struct following *f;

    TAILQ_FOREACH (f, &g->followers, link)
        if (strcmp(f->correlation_id, who->correlation_id) == 0)
            return f;
    return NULL;
}

static void add(struct generation *g, const struct follower *who)
{
    struct following *f = mem_alloc(sizeof(*f));

    f->reply_to = mem_strdup(who->reply_to);
    f->correlation_id = mem_strdup(who->correlation_id);
    TAILQ_INSERT_TAIL(&g->followers, f, link);
    g->followers_count++;
}

static void drop(struct generation *g, struct following *f)
{
    TAILQ_REMOVE(&g->followers, f, link);
    g->followers_count--;
    free(f->reply_to);
    free(f->correlation_id);
    free(f);
}

bool followers_any(const struct generation *g)
{
    return g->followers_count > 0;
}

/* Where he goes on: where he is, if that is a place between two characters of this text. */
static size_t place_of(const struct generation *g, int64_t epoch, int64_t offset)
{
    bool known = epoch == g->epoch && offset >= 0 && (uint64_t)offset <= g->told;

    return known && ((unsigned char)g->text.data[offset] & 0xc0) != 0x80 ? (size_t)offset : 0;
}

void followers_resume(struct generation *g, const struct follower *who, int64_t epoch,
                      int64_t offset)
{
    struct following *f = find(g, who);
    size_t from = place_of(g, epoch, offset);

    if (!f && g->followers_count == FOLLOWERS_MAX)
        return;
    if (g->told > from)
        job_delta_to(g->job, who, g->epoch, from, g->text.data + from, g->told - from);
    if (f) { /* a shim that has another queue by now */
        free(f->reply_to);
        f->reply_to = mem_strdup(who->reply_to);
        return;
    }
    add(g, who);
    generation_tell(g); /* what waits to be told; all of it, if he is the first to hear */
    interim_watch(g, who);
}

void followers_leave(struct generation *g, const struct follower *who)
{
    struct following *f = find(g, who);

    if (f)
        drop(g, f);
}

void followers_text(const struct generation *g, size_t from)
{
    struct following *f;
    struct follower who;

    TAILQ_FOREACH (f, &g->followers, link) {
        who = who_is(f);
        job_delta_to(g->job, &who, g->epoch, from, g->text.data + from, g->told - from);
    }
}

void followers_notice(const struct generation *g, const char *type, json_t *body)
{
    struct following *f;
    struct follower who;

    TAILQ_FOREACH (f, &g->followers, link) {
        who = who_is(f);
        job_notice_to(g->job, &who, type, json_incref(body));
    }
}

void followers_end(struct generation *g)
{
    json_t *body = json_pack("{s:s?}", "turn_id", g->turn_id);
    struct following *f;

    followers_notice(g, TYPE_GENERATED, body);
    json_decref(body);
    while ((f = TAILQ_FIRST(&g->followers)))
        drop(g, f);
}
