/* The worker that keeps conversations: the only one that touches PostgreSQL. */
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/sweep.h"
#include "workers/persistence/tenant_cache.h"

static int start(struct worker *w, struct err *e)
{
    sweep_start(w);
    tenant_cache_start(w, database_serve);
    return database_start(w, tenant_cache_load, e);
}

static void stop(void)
{
    database_stop();
    tenant_cache_stop();
    sweep_stop();
}

int main(int argc, char **argv)
{
    const struct config_section sections[] = {database_section, persistence_section, sweep_section};
    const struct worker_kind kind = {
        .name = "persistence",
        .purpose = "keeps conversations, messages, turns and their cost in PostgreSQL",
        .operations = persistence_operations,
        .operations_count = persistence_operations_count,
        .settings = sections,
        .settings_count = sizeof(sections) / sizeof(sections[0]),
        .start = start,
        .stop = stop,
        .healthy = database_healthy,
    };

    return worker_main(&kind, argc, argv);
}
