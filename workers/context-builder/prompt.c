#include "workers/context-builder/prompt.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/chat/tokens.h"
#include "workers/context-builder/instructions.h"
#include "workers/context-builder/personal.h"
#include "workers/context-builder/screen.h"

enum {
    LABEL_TOKENS = 4, /* "[image] " before a reference */
};

/* What came in, borrowed from the body. */
struct request {
    const char *title, *context_type; /* the title may be NULL */
    json_t *context_data;             /* may be NULL */
    json_t *history;                  /* an array */
    json_t *question;                 /* a string */
    const char *question_type;
};

struct message {
    const char *role, *type; /* the content's type; NULL: text */
    json_t *content;         /* a string */
};

static int malformed(struct err *e, const char *what)
{
    return err_set(e, ERR_FATAL, 400, "the body of context.build: %s", what);
}

static int read_request(json_t *body, struct request *r, struct err *e)
{
    json_t *title = NULL;
    json_error_t why;

    memset(r, 0, sizeof(*r));
    if (json_unpack_ex(body, &why, 0, "{s:{s:s, s?o, s?o}, s:{s:o, s?s}, s:o}", "conversation",
                       "context_type", &r->context_type, "title", &title, "context_data",
                       &r->context_data, "user_message", "content", &r->question, "content_type",
                       &r->question_type, "history", &r->history))
        return malformed(e, why.text);
    if (!json_is_string(r->question))
        return malformed(e, "the question's content is no string");
    if (!json_is_array(r->history))
        return malformed(e, "history is no array");
    r->title = json_string_value(title);
    return 0;
}

static bool is_role(const char *role)
{
    return strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0 ||
           strcmp(role, "system") == 0;
}

static int read_message(json_t *history, size_t i, struct message *m, struct err *e)
{
    json_error_t why;

    m->type = NULL;
    if (json_unpack_ex(json_array_get(history, i), &why, 0, "{s:s, s:o, s?s}", "role", &m->role,
                       "content", &m->content, "content_type", &m->type))
        return malformed(e, why.text);
    if (!is_role(m->role) || !json_is_string(m->content))
        return malformed(e, "a message of the history has no known role or no content");
    return 0;
}

/* Images and files are references, passed as text so far; the label says what the reference is. */
static const char *label_of(const char *content_type)
{
    if (content_type && strcmp(content_type, "image") == 0)
        return "[image]";
    if (content_type && strcmp(content_type, "file") == 0)
        return "[file]";
    return NULL;
}

/* In tokens, as estimated for the model. */
static size_t cost_of(const struct message *m, const struct prompt_settings *settings)
{
    struct token_counts counts = {.cost = {0}};

    tokens_count(json_string_value(m->content), json_string_length(m->content), &counts);
    counts.cost[TOKENS_FRAME] += MESSAGE_TOKENS * TOKEN_COST;
    if (label_of(m->type))
        counts.cost[TOKENS_MARKS] += LABEL_TOKENS * TOKEN_COST;
    return calibration_estimate(settings->calibration, &counts);
}

static void append(json_t *messages, const struct message *m, bool screened)
{
    const char *label = label_of(m->type);
    json_t *text = screened && strcmp(m->role, "user") == 0 ? screen_redacted(m->content)
                                                            : json_incref(m->content);
    json_t *content =
        label ? json_sprintf("%s %s", label, json_string_value(text)) : json_incref(text);

    json_array_append_new(messages, json_pack("{s:s, s:o}", "role", m->role, "content", content));
    json_decref(text);
}

/* The index of the first message of the newest ones that fit into the budget, and what they use of
 * it; -1 on failure. */
static long first_within(json_t *history, const struct prompt_settings *settings, size_t *used,
                         struct err *e)
{
    size_t i = json_array_size(history), budget = (size_t)settings->history_tokens, cost;
    struct message m;

    for (*used = 0; i > 0; i--) {
        if (read_message(history, i - 1, &m, e))
            return -1;
        cost = cost_of(&m, settings);
        if (cost > budget - *used)
            break;
        *used += cost;
    }
    return (long)i;
}

static bool is_screened(const struct prompt_settings *settings)
{
    return strcmp(settings->injection_filter, "redact") == 0 ||
           strcmp(settings->injection_filter, "block") == 0;
}

/* Append what stays of the history. Returns how many messages do not, or -1. */
static long add_history(json_t *messages, json_t *history, const struct prompt_settings *settings,
                        size_t *tokens, struct err *e)
{
    size_t used, i;
    long first = first_within(history, settings, &used, e), dropped = first;
    bool asked = false;
    struct message m;

    if (first < 0)
        return -1;
    for (i = (size_t)first; i < json_array_size(history); i++) {
        if (read_message(history, i, &m, e))
            return -1;
        asked |= strcmp(m.role, "user") == 0;
        if (asked || strcmp(m.role, "assistant") != 0) {
            append(messages, &m, is_screened(settings));
        } else { /* its question is not there */
            used -= cost_of(&m, settings);
            dropped++;
        }
    }
    *tokens += used;
    return dropped;
}

static void add_system(json_t *messages, const struct request *r,
                       const struct prompt_settings *settings, size_t *tokens)
{
    char *text =
        instructions_write(r->context_type, r->title, r->context_data, settings->default_model);
    struct message m = {.role = "system", .content = json_string(text)};

    free(text);
    *tokens += cost_of(&m, settings);
    append(messages, &m, false);
    json_decref(m.content);
}

static json_t *make_prompt(const struct request *r, const struct prompt_settings *settings,
                           struct err *e)
{
    struct message question = {"user", r->question_type, r->question};
    size_t tokens = ANSWER_TOKENS + cost_of(&question, settings);
    json_t *messages = json_array();
    long dropped;

    add_system(messages, r, settings, &tokens);
    dropped = add_history(messages, r->history, settings, &tokens, e);
    if (dropped < 0) {
        json_decref(messages);
        return NULL;
    }
    append(messages, &question, is_screened(settings));
    return json_pack("{s:o, s:I, s:I, s:s, s:o*, s:o*}", "messages", messages, "tokens_estimated",
                     (json_int_t)tokens, "history_dropped", (json_int_t)dropped, "context_type",
                     instructions_type(r->context_type), "personal",
                     personal_names(r->context_data), "injection",
                     strcmp(settings->injection_filter, "off") != 0 ? screen_kinds(r->question)
                                                                    : NULL);
}

json_t *prompt_build(json_t *body, const struct prompt_settings *settings, struct err *e)
{
    struct request request;
    json_t *prompt, *out;

    if (read_request(body, &request, e))
        return NULL;
    prompt = make_prompt(&request, settings, e);
    if (!prompt)
        return NULL;
    out = json_copy(body);
    json_object_del(out, "conversation");
    json_object_del(out, "history");
    json_object_set_new(out, "prompt", prompt);
    return out;
}
