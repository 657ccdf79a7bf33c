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
