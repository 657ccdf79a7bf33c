/* The worker that keeps conversations: the only one that touches PostgreSQL. */
#include "common/worker/worker.h"
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/sweep.h"

static const struct worker_operation operations[] = {
    {"conversation.create", conversation_create},
    {"conversation.list", conversation_list},
    {"conversation.get", conversation_get},
    {"conversation.update", conversation_update},
    {"conversation.delete", conversation_delete},
    {"message.list", message_list},
    {"message.send", message_send},
    {"message.regenerate", message_regenerate},
    {"message.commit", message_commit},
    {"turn.fail", turn_fail},
    {"turn.get", turn_get},
    {"usage.summary", usage_summary},
    {"conversation.usage", conversation_usage},
    {"usage.record", usage_record},
};

static int start(struct worker *w, struct err *e)
{
    sweep_start(w);
    return database_start(w, e);
}

static void stop(void)
{
    database_stop();
    sweep_stop();
}

int main(int argc, char **argv)
{
    const struct config_section sections[] = {database_section, persistence_section, sweep_section};
    const struct worker_kind kind = {
        .name = "persistence",
        .purpose = "keeps conversations, messages, turns and their cost in PostgreSQL",
        .operations = operations,
        .operations_count = sizeof(operations) / sizeof(operations[0]),
        .settings = sections,
        .settings_count = sizeof(sections) / sizeof(sections[0]),
        .start = start,
        .stop = stop,
        .healthy = database_healthy,
    };

    return worker_main(&kind, argc, argv);
}
