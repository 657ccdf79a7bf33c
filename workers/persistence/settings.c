#include "workers/persistence/handlers.h"

struct persistence_settings persistence_settings;

static const struct config_key keys[] = {
    {"AUTH_AUTO_PROVISION", CONFIG_BOOL, offsetof(struct persistence_settings, auto_provision),
     "false", 0, 0, NULL, NULL, false,
     "Whether a user that auth.users does not know yet is put there on first sight."},
    {"HISTORY_MESSAGES", CONFIG_INT, offsetof(struct persistence_settings, history_messages), "30",
     0, 1000, NULL, NULL, false,
     "Messages before the question that are read for the prompt, at most."},
    {"ALLOWED_MODELS", CONFIG_STRING, offsetof(struct persistence_settings, allowed_models), "", 0,
     4096, NULL, NULL, false, "Models that a request may name, with commas between."},
    {"PAID_TIERS", CONFIG_STRING, offsetof(struct persistence_settings, paid_tiers),
     "premium,enterprise", 0, 1024, NULL, NULL, false,
     "Tiers of users who may choose models that cost: by name, or by a complex task."},
    {"LLAMACPP_MODEL", CONFIG_STRING, offsetof(struct persistence_settings, local_model), "local",
     1, 256, NULL, NULL, false,
     "The local model's name; it and those that have :free in theirs are for all tiers."},
    {"BUDGET_RESERVE_CREDITS", CONFIG_REAL, offsetof(struct persistence_settings, reserve_credits),
     "0.05", 0, 1000000, NULL, NULL, false,
     "What a turn under way is taken to cost, of tenants with a budget that do not say it."},
    {"BUDGET_RESERVE_TOKENS", CONFIG_INT, offsetof(struct persistence_settings, reserve_tokens),
     "10000", 0, 100000000, NULL, NULL, false,
     "And the tokens that it is taken to need, prompt and answer."},
    {"TENANTS_REFRESH_MS", CONFIG_INT, offsetof(struct persistence_settings, tenants_refresh_ms),
     "1000", 10, 60000, NULL, NULL, false,
     "How often the settings of tenants are looked for that were changed, in ms."},
};
const struct config_section persistence_section = {
    "Conversations and tenants", keys, sizeof(keys) / sizeof(keys[0]), &persistence_settings};
