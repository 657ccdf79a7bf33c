#include "workers/context-builder/build.h"

#include "workers/context-builder/prompt.h"

static struct prompt_settings settings;

static const struct config_key keys[] = {
    {"MAX_CONVERSATION_HISTORY_TOKENS", CONFIG_INT,
     offsetof(struct prompt_settings, history_tokens), "6000", 0, 10000000, NULL, NULL, false,
     "Estimated tokens that the earlier messages may have in a prompt; the oldest "
     "are left out first."},
    {"DEFAULT_MODEL", CONFIG_STRING, offsetof(struct prompt_settings, default_model),
     "qwen/qwen3-235b-a22b-07-25:free", 1, 255, NULL, NULL, false,
     "The model that is asked first; one whose name has :free in it is asked for concise answers."},
};
const struct config_section build_section = {"Prompts", keys, sizeof(keys) / sizeof(keys[0]),
                                             &settings};

void build_handle(struct job *job)
{
    struct err e;
    json_t *body = prompt_build(job_body(job), &settings, &e);

    if (body)
        job_forward(job, body);
    else
        job_fail(job, &e);
}
