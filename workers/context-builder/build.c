#include "workers/context-builder/build.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "workers/context-builder/prompt.h"

static struct prompt_settings settings;
/* Of the model that is asked first, by what the inference workers say. */
static struct calibration calibration;
static struct calibration_pool pool;

static const struct config_key keys[] = {
    {"MAX_CONVERSATION_HISTORY_TOKENS", CONFIG_INT,
     offsetof(struct prompt_settings, history_tokens), "6000", 0, 10000000, NULL, NULL, false,
     "Estimated tokens that the earlier messages may have in a prompt; the oldest "
     "are left out first."},
    {"DEFAULT_MODEL", CONFIG_STRING, offsetof(struct prompt_settings, default_model),
     "qwen/qwen3-235b-a22b-07-25:free", 1, 255, NULL, NULL, false,
     "The model that is asked first; one whose name has :free in it is asked for concise answers."},
    {"INJECTION_FILTER", CONFIG_CHOICE, offsetof(struct prompt_settings, injection_filter), "flag",
     0, 0, "off flag redact block", NULL, false,
     "A message that is to change the instructions: told of in the log, also cut, or refused."},
};
const struct config_section build_section = {"Prompts", keys, sizeof(keys) / sizeof(keys[0]),
                                             &settings};

static struct metric_family injections_total = {
    "context_injections_total", METRIC_COUNTER,
    "Questions that look as if they were to change the instructions, by what they look like", NULL,
    NULL};

static struct metric_family calibration_prompts = {
    "context_calibration_prompts", METRIC_GAUGE,
    "Prompts whose tokens the model's server counted, by which the estimate is calibrated", NULL,
    NULL};

/* Count and log what the filter found; the text itself is in neither. */
static void tell_of_injection(struct job *job, const json_t *kinds)
{
    char labels[64], all[64] = "";
    json_t *kind;
    size_t i;

    json_array_foreach (kinds, i, kind) {
        size_t n = strlen(all);

        snprintf(labels, sizeof(labels), "kind=\"%s\"", json_string_value(kind));
        metric_add(metric_get(&injections_total, labels), 1);
        snprintf(all + n, sizeof(all) - n, "%s%s", n > 0 ? " " : "", json_string_value(kind));
    }
    log_event(LOG_WARN, "possible prompt injection", LOG_STR("kinds", all),
              LOG_STR("filter", settings.injection_filter),
              LOG_STR("correlation_id", job_envelope(job)->correlation_id));
}

int build_start(struct worker *w, struct err *e)
{
    (void)w;
    (void)e;
    calibration_init(&calibration);
    settings.calibration = &calibration;
    worker_can_serve(w, true);
    return 0;
}

void build_hear(const struct envelope *env, const json_t *body)
{
    struct calibration heard;
    const char *source, *model;
    struct err e;

    if (strcmp(env->type, CONTROL_CALIBRATION) != 0)
        return;
    if (calibration_read(&heard, &source, &model, body, &e)) {
        log_event(LOG_WARN, "calibration not read", LOG_STR("error", e.text));
        return;
    }
    if (strcmp(model, settings.default_model) != 0)
        return; /* the prompts are measured for the model that is asked first */
    calibration_hear(&pool, source, &heard, clock_monotonic_us() / 1000, &calibration);
    metric_set(metric_get(&calibration_prompts, ""), (double)calibration.prompts);
}

void build_handle(struct job *job)
{
    struct err e;
    json_t *body = prompt_build(job_body(job), &settings, &e), *kinds;

    if (!body) {
        job_fail(job, &e);
        return;
    }
    kinds = json_object_get(json_object_get(body, "prompt"), "injection");
    if (kinds)
        tell_of_injection(job, kinds);
    if (!kinds || strcmp(settings.injection_filter, "block") != 0) {
        job_forward(job, body);
        return;
    }
    json_decref(body);
    job_reject(job, 422,
               "the message looks like an attempt to change the assistant's instructions");
}
