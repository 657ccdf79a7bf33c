#include "workers/persistence/tenant_cache.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/rows.h"

static struct metric_family known = {"persistence_tenants_known", METRIC_GAUGE,
                                     "Tenants that have settings, as this process knows them", NULL,
                                     NULL};

static struct {
    struct worker *worker;
    struct timer *timer;
    struct map *tenants; /* name -> struct tenant */
    char *mark;          /* the server's time when they were asked for last; NULL: never */
    void (*loaded)(void);
    int rows, now_row; /* statements */
} state;

/* A minute back: for a change whose transaction was a long one. $1 mark */
static const char sql_changed[] =
    "SELECT t.tenant_id, to_jsonb(t.models), to_jsonb(t.providers), "
    "num_nonnulls(t.day_budget, t.month_budget, t.day_token_budget, t.month_token_budget) > 0, "
    "EXISTS (SELECT 1 FROM chat.tenant_spending s WHERE s.tenant_id = t.tenant_id) "
    "FROM chat.tenants t WHERE t.updated_at >= $1::timestamptz - interval '1 minute'";
static const char sql_now[] = "SELECT now()";

static void tenant_free(void *value, void *arg)
{
    struct tenant *t = value;

    (void)arg;
    json_decref(t->models);
    json_decref(t->providers);
    free(t);
}

/* What a column with a list of texts holds; NULL: nothing. */
static json_t *list_of(const struct pg_segment *s, int row, int column)
{
    return pg_text(s, state.rows, row, column) ? row_json(s, state.rows, row, column) : NULL;
}

static bool is_true(const struct pg_segment *s, int row, int column)
{
    return *pg_text(s, state.rows, row, column) == 't';
}

static void take(const struct pg_segment *s, int row)
{
    const char *name = pg_text(s, state.rows, row, 0);
    struct tenant *t = mem_alloc(sizeof(*t)), *old;

    *t = (struct tenant){.has_budget = is_true(s, row, 3),
                         .is_metered = is_true(s, row, 4),
                         .models = list_of(s, row, 1),
                         .providers = list_of(s, row, 2)};
    old = map_get(state.tenants, name, strlen(name));
    map_put(state.tenants, name, strlen(name), t);
    if (old)
        tenant_free(old, NULL);
}

static void asked(void *arg, const struct pg_segment *s, const struct err *e)
{
    int i;

    (void)arg;
    timer_set(state.timer, persistence_settings.tenants_refresh_ms);
    if (e) {
        if (!state.mark && e->kind == ERR_FATAL)
            worker_fail(state.worker, e);
        else
            log_event(LOG_ERROR, "settings of tenants not read", LOG_STR("error", e->text));
        return;
    }
    for (i = 0; i < pg_rows(s, state.rows); i++)
        take(s, i);
    metric_set(metric_get(&known, ""), (double)map_count(state.tenants));
    if (!state.mark)
        state.loaded();
    free(state.mark);
    state.mark = mem_strdup(pg_text(s, state.now_row, 0, 0));
}

/* One at a time: while the database is away it waits, and nothing gathers behind it. */
static void ask(void *arg)
{
    struct pg_segment *s = database_system_segment();

    (void)arg;
    state.rows =
        pg_add(s, sql_changed, 1, (const char *const[]){state.mark ? state.mark : "-infinity"});
    state.now_row = pg_add(s, sql_now, 0, NULL);
    pg_send(s, asked, NULL);
}

void tenant_cache_start(struct worker *w, void (*loaded)(void))
{
    state.worker = w;
    state.loaded = loaded;
    state.tenants = map_new();
    state.timer = timer_new(worker_loop(w), ask, NULL);
}

void tenant_cache_load(void)
{
    ask(NULL);
}

void tenant_cache_stop(void)
{
    timer_free(state.timer);
    state.timer = NULL;
    map_each(state.tenants, tenant_free, NULL);
    map_free(state.tenants);
    state.tenants = NULL;
    free(state.mark);
    state.mark = NULL;
}

const struct tenant *tenant_known(const char *tenant_id)
{
    return map_get(state.tenants, tenant_id, strlen(tenant_id));
}
