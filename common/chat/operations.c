#include "common/chat/operations.h"

#include <string.h>

struct chat_limits chat_limits;

static const struct config_key limit_keys[] = {
    {"MAX_MESSAGE_LENGTH", CONFIG_INT, offsetof(struct chat_limits, message_length), "4000", 1,
     100000, NULL, NULL, false, "Characters that a message's text may have."},
    {"MESSAGE_RETENTION_DAYS", CONFIG_INT, offsetof(struct chat_limits, write_age_days), "365", 1,
     36500, NULL, NULL, false,
     "How long messages are kept; a write whose message_id is older is refused."},
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

/* ---- conversations ---- */

#define CONVERSATION_ID                                                                            \
    {                                                                                              \
        .name = "conversation_id", .type = ARG_UUID, .place = ARG_IN_PATH, .required = true,       \
        .help = "Of a conversation of the user."                                                   \
    }

static const struct route conversations_post[] = {{"POST", "/conversations"}, {0}};
static const struct arg conversation_create_args[] = {
    {.name = "title",
     .type = ARG_STRING,
     .min = 1,
     .max = 255,
     .help = "Else \"New Conversation\"."},
    {.name = "context_type",
     .type = ARG_CHOICE,
     .choices = "general assessment career_guidance",
     .help = "What the assistant is for; general when not given."},
    {.name = "context_data", .type = ARG_OBJECT, .help = "What the assistant is to know."},
    {.name = "metadata", .type = ARG_OBJECT, .help = "The caller's own; kept as it is."},
    {0}};

static const struct route conversations_get[] = {{"GET", "/conversations"}, {0}};
static const struct arg conversation_list_args[] = {
    {.name = "status",
     .type = ARG_CHOICE,
     .place = ARG_IN_QUERY,
     .choices = "active archived deleted",
     .help = "active when not given; of deleted ones none are shown."},
    {.name = "limit",
     .type = ARG_INTEGER,
     .place = ARG_IN_QUERY,
     .min = 1,
     .max = 100,
     .help = "Conversations of a page; 20 when not given."},
    {.name = "offset",
     .type = ARG_INTEGER,
     .place = ARG_IN_QUERY,
     .min = 0,
     .max = 1000000,
     .help = "How many to pass over; for long lists cursor is faster."},
    {.name = "cursor",
     .type = ARG_STRING,
     .place = ARG_IN_QUERY,
     .min = 1,
     .max = 100,
     .help = "next_cursor of the page before."},
    {0}};

static const struct route conversation_get[] = {{"GET", "/conversations/{conversation_id}"}, {0}};
static const struct route conversation_delete[] = {{"DELETE", "/conversations/{conversation_id}"},
                                                   {0}};
static const struct arg conversation_args[] = {CONVERSATION_ID, {0}};

static const struct route conversation_put[] = {{"PUT", "/conversations/{conversation_id}"}, {0}};
static const struct arg conversation_update_args[] = {
    CONVERSATION_ID,
    {.name = "title", .type = ARG_STRING, .min = 1, .max = 255, .help = "The new title."},
    {.name = "status",
     .type = ARG_CHOICE,
     .choices = "active archived deleted",
     .help = "archived ones take no messages; deleted ones are gone for the user."},
    {.name = "metadata", .type = ARG_OBJECT, .help = "In the place of the earlier."},
    {0}};

/* ---- messages ---- */

static const char turn_slip[] = "context.build inference.generate message.commit";

#define STREAM                                                                                     \
    {                                                                                              \
        .name = "stream", .type = ARG_BOOLEAN,                                                     \
        .help = "Whether the answer comes in pieces before it comes whole."                        \
    }
#define ASYNC                                                                                      \
    {                                                                                              \
        .name = "async", .type = ARG_BOOLEAN,                                                      \
        .help = "Answer 202 when the message is saved; the turn tells the rest."                   \
    }

static const struct route messages_post[] = {{"POST", "/conversations/{conversation_id}/messages"},
                                             {0}};
static const struct arg message_send_args[] = {
    CONVERSATION_ID,
    {.name = "content",
     .type = ARG_STRING,
     .required = true,
     .min = 1,
     .max_setting = &chat_limits.message_length,
     .help = "The message's text."},
    {.name = "content_type",
     .type = ARG_CHOICE,
     .choices = "text image file",
     .help = "text when not given; of image and file the content is an address."},
    {.name = "parent_message_id",
     .type = ARG_UUID,
     .help = "A message of the conversation to which this one belongs."},
    STREAM,
    ASYNC,
    {0}};

static const struct route messages_get[] = {{"GET", "/conversations/{conversation_id}/messages"},
                                            {0}};
static const struct arg message_list_args[] = {CONVERSATION_ID,
                                               {.name = "limit",
                                                .type = ARG_INTEGER,
                                                .place = ARG_IN_QUERY,
                                                .min = 1,
                                                .max = 100,
                                                .help = "Messages of a page; 50 when not given."},
                                               {.name = "before_id",
                                                .type = ARG_UUID,
                                                .place = ARG_IN_QUERY,
                                                .help = "Those just before this message."},
                                               {.name = "after_id",
                                                .type = ARG_UUID,
                                                .place = ARG_IN_QUERY,
                                                .help = "Those just after this message."},
                                               {0}};

static const struct route regenerate_post[] = {
    {"POST", "/conversations/{conversation_id}/messages/{message_id}/regenerate"}, {0}};
static const struct arg message_regenerate_args[] = {
    CONVERSATION_ID,
    {.name = "message_id",
     .type = ARG_UUID,
     .place = ARG_IN_PATH,
     .required = true,
     .help = "The answer to be given anew, or its question."},
    STREAM,
    ASYNC,
    {0}};

static const struct route turn_get[] = {{"GET", "/turns/{turn_id}"}, {0}};
static const struct arg turn_args[] = {{.name = "turn_id",
                                        .type = ARG_UUID,
                                        .place = ARG_IN_PATH,
                                        .required = true,
                                        .help = "From the answer, a 202 or a 504."},
                                       {0}};

/* ---- usage ---- */

static const struct route usage_summary_get[] = {{"GET", "/usage/summary"}, {0}};
static const struct arg usage_summary_args[] = {
    {.name = "period",
     .type = ARG_CHOICE,
     .place = ARG_IN_QUERY,
     .choices = "day week month year",
     .help = "What the series counts by; month when not given."},
    {.name = "year",
     .type = ARG_INTEGER,
     .place = ARG_IN_QUERY,
     .min = 1970,
     .max = 9998, /* so that its end has four digits, too */
     .help = "In UTC; this year when not given, and all years when the period is year."},
    {.name = "month",
     .type = ARG_INTEGER,
     .place = ARG_IN_QUERY,
     .min = 1,
     .max = 12,
     .help = "That month alone; the whole year when not given."},
    {0}};

static const struct route conversation_usage_get[] = {
    {"GET", "/conversations/{conversation_id}/usage"}, {0}};

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
    {.name = "conversation.create",
     .summary = "Creates a conversation",
     .routes = conversations_post,
     .args = conversation_create_args,
     .write = true,
     .personal = true,
     .introduces = true,
     .queue = "persistence",
     .slip = "",
     .timeout_ms = 10000,
     .max_attempts = 5,
     .role = ROLE_USER},
    {.name = "conversation.list",
     .summary = "The user's conversations, the latest first",
     .routes = conversations_get,
     .args = conversation_list_args,
     .personal = true,
     .queue = "persistence.read",
     .slip = "",
     .timeout_ms = 10000,
     .max_attempts = 1,
     .role = ROLE_USER},
    {.name = "conversation.get",
     .summary = "A conversation with its newest messages",
     .routes = conversation_get,
     .args = conversation_args,
     .personal = true,
     .queue = "persistence.read",
     .slip = "",
     .timeout_ms = 10000,
     .max_attempts = 1,
     .role = ROLE_USER},
    {.name = "conversation.update",
     .summary = "Changes a conversation's title, status or metadata",
     .routes = conversation_put,
     .args = conversation_update_args,
     .write = true,
     .personal = true,
     .queue = "persistence",
     .slip = "",
     .timeout_ms = 10000,
     .max_attempts = 5,
     .role = ROLE_USER},
    {.name = "conversation.delete",
     .summary = "Deletes a conversation; its rows stay until they are erased",
     .routes = conversation_delete,
     .args = conversation_args,
     .write = true,
     .personal = true,
     .queue = "persistence",
     .slip = "",
     .timeout_ms = 10000,
     .max_attempts = 5,
     .role = ROLE_USER},
    {.name = "message.send",
     .summary = "Sends a message and answers with the model's",
     .routes = messages_post,
     .args = message_send_args,
     .write = true,
     .personal = true,
     .queue = "persistence",
     .slip = turn_slip,
     .timeout_ms = 60000,
     .max_attempts = 5,
     .role = ROLE_USER},
    {.name = "message.list",
     .summary = "A conversation's messages, page by page",
     .routes = messages_get,
     .args = message_list_args,
     .personal = true,
     .queue = "persistence.read",
     .slip = "",
     .timeout_ms = 10000,
     .max_attempts = 1,
     .role = ROLE_USER},
    {.name = "message.regenerate",
     .summary = "Answers a message anew; the earlier answers stay",
     .routes = regenerate_post,
     .args = message_regenerate_args,
     .write = true,
     .personal = true,
     .queue = "persistence",
     .slip = turn_slip,
     .timeout_ms = 60000,
     .max_attempts = 5,
     .role = ROLE_USER},
    {.name = "turn.get",
     .summary = "What became of a turn (a sent or regenerated message)",
     .routes = turn_get,
     .args = turn_args,
     .personal = true,
     .queue = "persistence.read",
     .slip = "",
     .timeout_ms = 10000,
     .max_attempts = 1,
     .role = ROLE_USER},
    {.name = "usage.summary",
     .summary = "What the user's answers took and cost, by time and by model",
     .routes = usage_summary_get,
     .args = usage_summary_args,
     .personal = true,
     .queue = "persistence.read",
     .slip = "",
     .timeout_ms = 10000,
     .max_attempts = 1,
     .role = ROLE_USER},
    {.name = "conversation.usage",
     .summary = "What a conversation's answers took and cost, by model",
     .routes = conversation_usage_get,
     .args = conversation_args,
     .personal = true,
     .queue = "persistence.read",
     .slip = "",
     .timeout_ms = 10000,
     .max_attempts = 1,
     .role = ROLE_USER},
    {.name = "context.build",
     .summary = "Makes the prompt of a turn",
     .args = no_args,
     .open = true,
     .write = true,
     .step = true,
     .personal = true,
     .queue = "context-builder",
     .slip = "",
     .timeout_ms = 60000,
     .max_attempts = 3,
     .role = ROLE_SERVICE},
    {.name = "inference.generate",
     .summary = "Has a model answer a prompt",
     .args = no_args,
     .open = true,
     .write = true,
     .step = true,
     .personal = true,
     .queue = "inference",
     .slip = "",
     .timeout_ms = 60000,
     .max_attempts = 3,
     .role = ROLE_SERVICE},
    {.name = "message.commit",
     .summary = "Saves a turn's answer and its usage",
     .args = no_args,
     .open = true,
     .write = true,
     .step = true,
     .personal = true,
     .queue = "persistence.commit",
     .slip = "",
     .timeout_ms = 60000,
     .max_attempts = 10,
     .role = ROLE_SERVICE},
    {.name = "turn.fail",
     .summary = "Ends a turn that got no answer, and tells its caller",
     .args = no_args,
     .open = true,
     .write = true,
     .step = true,
     .personal = true,
     .queue = "persistence.commit",
     .slip = "",
     .timeout_ms = 60000,
     .max_attempts = 10,
     .role = ROLE_SERVICE},
    {.name = "usage.record",
     .summary = "Notes what requests to providers took, beside those of saved answers",
     .args = no_args,
     .open = true,
     .write = true,
     .step = true,
     .personal = true,
     .queue = "persistence.commit",
     .slip = "",
     .timeout_ms = 60000,
     .max_attempts = 10,
     .role = ROLE_SERVICE},
    {.name = "usage.lookup",
     .summary = "Asks a provider what requests have cost",
     .args = no_args,
     .open = true,
     .write = true,
     .step = true,
     .personal = true,
     .queue = "inference",
     .slip = "",
     .timeout_ms = 60000,
     .max_attempts = 6,
     .role = ROLE_SERVICE},
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
