#include "common/chat/operations.h"

#include <string.h>

struct chat_limits chat_limits;

static const struct config_key limit_keys[] = {
    {"MAX_MESSAGE_LENGTH", CONFIG_INT, offsetof(struct chat_limits, message_length), "4000", 1,
     100000, NULL, NULL, false, "Characters that a message's text may have."},
};
const struct config_section chat_limits_section = {
    "Limits of arguments", limit_keys, sizeof(limit_keys) / sizeof(limit_keys[0]), &chat_limits};

static const struct arg no_args[] = {{0}};

static const struct route echo_routes[] = {{"POST", "/echo"}, {0}};
static const struct arg echo_args[] = {{.name = "message",
                                        .type = ARG_STRING,
                                        .max_setting = &chat_limits.message_length,
                                        .help = "Any text; comes back as it is."},
                                       {0}};

const struct operation operations[] = {
    {.name = "system.echo",
     .summary = "Sends the arguments through the fleet and back",
     .routes = echo_routes,
     .args = echo_args,
     .open = true,
     .queue = "context-builder",
     .slip = "",
     .timeout_ms = 5000,
     .max_attempts = 1,
     .role = ROLE_USER},
    {.name = "system.health",
     .summary = "One process of every kind tells how it is; each kind answers once",
     .args = no_args,
     .open = true,
     .slip = "",
     .timeout_ms = 1000,
     .max_attempts = 1,
     .role = ROLE_SERVICE},
};
const size_t operations_count = sizeof(operations) / sizeof(operations[0]);

const struct operation *operation_find(const char *name)
{
    size_t i;

    for (i = 0; i < operations_count; i++)
        if (strcmp(operations[i].name, name) == 0)
            return &operations[i];
    return NULL;
}
