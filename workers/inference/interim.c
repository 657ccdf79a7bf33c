#include "workers/inference/interim.h"

#include <string.h>

#include "common/base/clock.h"
#include "workers/inference/followers.h"
#include "workers/inference/language.h"
#include "workers/inference/provider.h"
#include "workers/inference/settings.h"

/* The last thing that the user said. */
static const char *question_of(const struct generation *g)
{
    const char *question = "", *role, *content;
    const json_t *message;
    size_t i;

    json_array_foreach (g->messages, i, message) {
        role = json_string_value(json_object_get(message, "role"));
        content = json_string_value(json_object_get(message, "content"));
        if (role && content && strcmp(role, "user") == 0)
            question = content;
    }
    return question;
}

static int64_t waited_ms(const struct generation *g)
{
    return (clock_monotonic_us() - g->came_us) / 1000;
}

static json_t *notice(const struct generation *g)
{
    const char *text = language_is_indonesian(question_of(g))
                           ? "Jawabannya butuh waktu lebih lama dari biasanya; saya masih "
                             "mengerjakannya."
                           : "The answer takes longer than usual; I am still working on it.";
    long usual_ms = generation_usual_ms();
    json_t *body = json_pack("{s:s?, s:s, s:n}", "turn_id", g->turn_id, "text", text,
                             "estimated_response_time");

    if (usual_ms > waited_ms(g)) /* else it is known to be wrong */
        json_object_set_new(body, "estimated_response_time", json_integer(usual_ms));
    return body;
}

static void due(void *arg)
{
    struct generation *g = arg;
    json_t *body;

    g->interim_due = true;
    if (g->told > 0)
        return;
    body = notice(g);
    if (g->caller_streams)
        job_notice(g->job, TYPE_INTERIM, json_incref(body));
    followers_notice(g, TYPE_INTERIM, body);
    json_decref(body);
}

void interim_watch(struct generation *g, const struct follower *who)
{
    int64_t left_ms = inference_settings.interim_s * 1000 - waited_ms(g);

    if (inference_settings.interim_s == 0 || g->told > 0)
        return;
    if (who && g->interim_due) {
        job_notice_to(g->job, who, TYPE_INTERIM, notice(g));
    } else if (!g->interim) {
        g->interim = timer_new(generation_loop(), due, g);
        timer_set(g->interim, left_ms > 0 ? left_ms : 0);
    }
}
