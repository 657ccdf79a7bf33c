#include "workers/inference/measure.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/chat/calibration.h"
#include "workers/inference/models.h"
#include "workers/inference/provider.h"

enum { TELL_US = 2000000 }; /* at most so often for each model */

static const char *source; /* this process's name, by which others know who tells them */

void measure_start(const char *instance)
{
    source = instance;
}

void measure_messages(struct generation *g, const json_t *messages)
{
    const json_t *message;
    size_t i;

    memset(&g->counts, 0, sizeof(g->counts));
    json_array_foreach (messages, i, message) {
        const json_t *content = json_object_get(message, "content");

        if (!json_is_string(content)) { /* parts that may be no texts teach nothing */
            memset(&g->counts, 0, sizeof(g->counts));
            return;
        }
        tokens_count(json_string_value(content), json_string_length(content), &g->counts);
        g->counts.cost[TOKENS_FRAME] += MESSAGE_TOKENS * TOKEN_COST;
    }
    g->counts.cost[TOKENS_FRAME] += ANSWER_TOKENS * TOKEN_COST;
}

/* Where a service chooses who answers, it is another model's count. Names of versions and of prices are
 * behind the model's. */
static bool is_of_the_one_asked(const struct generation *g)
{
    const char *asked = g->model->name, *answered = g->answer.model;

    return !answered || strncmp(answered, asked, strcspn(asked, ":")) == 0;
}

void measure_learn(struct generation *g)
{
    struct model *m = g->model;
    int64_t now_us = clock_monotonic_us();

    if (!g->answer.has_usage || g->counts.cost[TOKENS_FRAME] == 0 || !is_of_the_one_asked(g))
        return;
    calibration_learn(&m->calibration, &g->counts, g->answer.prompt_tokens);
    if (m->calibration.prompts == 0 || (m->told_us != 0 && now_us - m->told_us < TELL_US))
        return;
    m->told_us = now_us;
    job_control(g->job, CONTROL_CALIBRATION, calibration_tell(&m->calibration, source, m->name));
}

long measure_prompt(const struct generation *g)
{
    if (g->tokens_estimated > 0) /* the context builder has counted */
        return (long)g->tokens_estimated;
    return (long)calibration_estimate(&g->model->calibration, &g->counts);
}

long measure_answer(const struct generation *g)
{
    struct token_counts counts = {.cost = {0}};

    tokens_count(g->text.data, g->text.len, &counts);
    return (long)calibration_estimate(&g->model->calibration, &counts);
}
