/* The worker that keeps conversations: the only one that touches PostgreSQL. */
#include "common/worker/worker.h"
#include "workers/persistence/database.h"
#include "workers/persistence/handlers.h"

struct persistence_settings persistence_settings;

static const struct config_key keys[] = {
    {"AUTH_AUTO_PROVISION", CONFIG_BOOL, offsetof(struct persistence_settings, auto_provision),
     "false", 0, 0, NULL, NULL, false,
     "Whether a user that auth.users does not know yet is put there on first sight."},
    {"HISTORY_MESSAGES", CONFIG_INT, offsetof(struct persistence_settings, history_messages), "30",
     0, 1000, NULL, NULL, false,
     "Messages before the question that are read for the prompt, at most."},
};
const struct config_section persistence_section = {
    "Conversations", keys, sizeof(keys) / sizeof(keys[0]), &persistence_settings};

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
};

int main(int argc, char **argv)
{
    const struct config_section sections[] = {database_section, persistence_section};
    const struct worker_kind kind = {
        .name = "persistence",
        .purpose = "keeps conversations, messages, turns and their cost in PostgreSQL",
        .operations = operations,
        .operations_count = sizeof(operations) / sizeof(operations[0]),
        .settings = sections,
        .settings_count = sizeof(sections) / sizeof(sections[0]),
        .start = database_start,
        .stop = database_stop,
        .healthy = database_healthy,
    };

    return worker_main(&kind, argc, argv);
}
