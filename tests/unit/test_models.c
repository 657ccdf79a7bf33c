/* The table of models: who joins it by being named, and who leaves it. */
#include "workers/inference/models.h"

#include <stdio.h>
#include <string.h>

#include "common/base/metrics.h"
#include "tests/unit/unit.h"
#include "workers/inference/free_quota.h"
#include "workers/inference/prices.h"
#include "workers/inference/provider.h"
#include "workers/inference/settings.h"

enum { ROOM = 256, CONFIGURED = 3 };

static int start(struct loop *l, struct err *e)
{
    (void)l;
    (void)e;
    return 0;
}

static void stop(void)
{
}

const struct provider provider_llamacpp = {.name = "llamacpp", .start = start, .stop = stop};
const struct provider provider_openrouter = {.name = "openrouter", .start = start, .stop = stop};
const struct provider provider_openai = {.name = "openai", .start = start, .stop = stop};
const struct provider provider_offline = {.name = "offline", .start = start, .stop = stop};

struct loop *worker_loop(struct worker *w)
{
    (void)w;
    return NULL;
}

bool prices_know(const char *name)
{
    (void)name;
    return false;
}

void free_quota_correct(long left, int64_t reset_ms)
{
    (void)left;
    (void)reset_ms;
}

int64_t free_quota_wait_ms(void)
{
    return 0;
}

/* Two that are configured, and one of PAID_MODELS. */
static void begin(void)
{
    static char key[] = "any", none[] = "", main_model[] = "main", second[] = "second:free";
    static char emergency[] = "none", paid[] = "paid";
    struct err e;

    inference_settings = (struct inference_settings){.openrouter_key = key,
                                                     .openai_key = none,
                                                     .openai_url = none,
                                                     .openai_model = none,
                                                     .llamacpp_url = none,
                                                     .default_model = main_model,
                                                     .fallback_model = second,
                                                     .emergency_model = emergency,
                                                     .paid_models = paid};
    CU_ASSERT_EQUAL_FATAL(models_start(NULL, &e), 0);
    CU_ASSERT_PTR_NULL(models_at(CONFIGURED));
}

static struct model *name(int i)
{
    char text[32];

    snprintf(text, sizeof(text), "named/%d", i);
    return models_named(text);
}

static size_t size(void)
{
    size_t n = 0;

    while (models_at(n))
        n++;
    return n;
}

static void fill(void)
{
    int i;

    begin();
    for (i = CONFIGURED; i < ROOM; i++)
        CU_ASSERT_PTR_NOT_NULL_FATAL(name(i));
    CU_ASSERT_EQUAL(size(), ROOM);
}

static bool is_shown(const char *label)
{
    struct buf page;
    bool shown;

    buf_init(&page, 1024 * 1024);
    metrics_render(&page);
    buf_add(&page, "", 1);
    shown = strstr(page.data, label) != NULL;
    buf_free(&page);
    return shown;
}

static void to_be_described_is_not_to_join(void)
{
    struct model m;

    begin();
    CU_ASSERT_TRUE(models_describe("some/one:free", &m));
    CU_ASSERT_PTR_EQUAL(m.provider, &provider_openrouter);
    CU_ASSERT_TRUE(m.free);
    CU_ASSERT_TRUE(models_describe("main", &m));
    CU_ASSERT_TRUE(m.is_default && !m.free);
    CU_ASSERT_EQUAL(size(), CONFIGURED);
    CU_ASSERT_PTR_EQUAL(models_named("main"), models_at(0));
    CU_ASSERT_PTR_EQUAL(models_named("some/one:free"), models_at(CONFIGURED));
    CU_ASSERT_EQUAL(size(), CONFIGURED + 1);
    models_stop();
}

static void a_new_one_takes_the_place_of_the_oldest(void)
{
    struct model *m, *oldest;
    int i;

    fill();
    for (i = ROOM - 1; i >= CONFIGURED; i--) { /* the last of the table was asked first */
        models_hold(name(i));
        models_release(name(i));
        models_at((size_t)i)->used_us = ROOM - i; /* whatever the clock's steps are */
    }
    oldest = models_at(ROOM - 1);
    oldest->breaker.state = BREAKER_OPEN;
    CU_ASSERT_TRUE(is_shown("model=\"named/255\""));
    m = models_named("new/one:free");
    CU_ASSERT_PTR_EQUAL(m, oldest);
    CU_ASSERT_STRING_EQUAL(m->name, "new/one:free");
    CU_ASSERT_TRUE(m->free && m->breaker.state == BREAKER_CLOSED);
    CU_ASSERT_FALSE(is_shown("model=\"named/255\""));
    CU_ASSERT_TRUE(is_shown("model=\"new/one:free\""));
    CU_ASSERT_TRUE(is_shown("model=\"named/25\""));
    CU_ASSERT_EQUAL(size(), ROOM);
    models_stop();
}

static void who_is_in_use_stays(void)
{
    int i;

    fill();
    for (i = CONFIGURED; i < ROOM; i++)
        models_hold(name(i));
    CU_ASSERT_PTR_NULL(models_named("new/one"));
    models_hold(name(100));
    models_release(name(100)); /* one of its two chains */
    CU_ASSERT_PTR_NULL(models_named("new/one"));
    models_release(name(100));
    CU_ASSERT_PTR_EQUAL(models_named("new/one"), models_at(100));
    CU_ASSERT_STRING_EQUAL(models_at(99)->name, "named/99");
    models_stop();
}

static void who_is_configured_stays(void)
{
    int i;

    fill();
    for (i = 0; i < 2 * ROOM; i++)
        CU_ASSERT_PTR_NOT_NULL(name(1000 + i));
    CU_ASSERT_STRING_EQUAL(models_at(0)->name, "main");
    CU_ASSERT_STRING_EQUAL(models_at(1)->name, "second:free");
    CU_ASSERT_STRING_EQUAL(models_at(2)->name, "paid");
    models_stop();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"to be described is not to join", to_be_described_is_not_to_join},
        {"a new one takes the place of the oldest", a_new_one_takes_the_place_of_the_oldest},
        {"who is in use stays", who_is_in_use_stays},
        {"who is configured stays", who_is_configured_stays},
        CU_TEST_INFO_NULL,
    };

    return unit_main("models", tests);
}
