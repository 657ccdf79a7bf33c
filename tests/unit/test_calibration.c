/* What is learnt of how a model counts tokens. */
#include "common/chat/calibration.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

static const struct token_counts prose = {.cost = {[TOKENS_WORDS] = 20000, [TOKENS_MARKS] = 2000}};
static const struct token_counts numbers = {
    .cost = {[TOKENS_NUMBERS] = 5000, [TOKENS_DIGITS] = 5000, [TOKENS_MARKS] = 8000}};

static struct calibration fresh(void)
{
    struct calibration c;

    calibration_init(&c);
    return c;
}

static void starts_with_the_estimate(void)
{
    const char text[] = "Saya lulus tahun 2019, 😀 dan 我 bekerja.\n\n\t{\"a\": [1.5]}";
    struct token_counts counts = {.cost = {0}};
    struct calibration c = fresh();

    tokens_count(text, strlen(text), &counts);
    CU_ASSERT_EQUAL(calibration_estimate(&c, &counts), calibration_estimate(NULL, &counts));
    CU_ASSERT_EQUAL(calibration_estimate(&c, &prose), 220);
}

/* Down slowly, to a little above the count; never below it. */
static void comes_down_slowly(void)
{
    struct calibration c = fresh();
    size_t before = 220, now;
    int i;

    calibration_learn(&c, &prose, 180);
    CU_ASSERT(calibration_estimate(&c, &prose) > 215);
    for (i = 0; i < 300; i++) {
        calibration_learn(&c, &prose, 180);
        now = calibration_estimate(&c, &prose);
        CU_ASSERT(now <= before);
        CU_ASSERT(now >= 180);
        before = now;
    }
    CU_ASSERT(before <= 192);
    CU_ASSERT_EQUAL(c.prompts, 301);
}

static void goes_up_at_once(void)
{
    struct calibration c = fresh();

    calibration_learn(&c, &prose, 230);
    CU_ASSERT(calibration_estimate(&c, &prose) >= 230);
}

/* What a model was not seen to count stays as it was. */
static void leaves_other_classes(void)
{
    struct calibration c = fresh();
    int i;

    for (i = 0; i < 300; i++)
        calibration_learn(&c, &prose, 180);
    CU_ASSERT_EQUAL(c.weights[TOKENS_NUMBERS], 1);
    CU_ASSERT_EQUAL(c.weights[TOKENS_DIGITS], 1);
    CU_ASSERT(c.weights[TOKENS_MARKS] > 0.95); /* its share was small */
    CU_ASSERT(calibration_estimate(&c, &numbers) >= 175);
}

static void is_not_fooled(void)
{
    static const long odd[] = {0, 1, 19, 70, 700, 100000000, -5};
    const struct token_counts nothing = {.cost = {0}};
    struct calibration c = fresh();
    size_t i;

    for (i = 0; i < COUNT(odd); i++)
        calibration_learn(&c, &prose, odd[i]);
    calibration_learn(&c, &nothing, 50);
    CU_ASSERT_EQUAL(c.prompts, 0);
    CU_ASSERT_EQUAL(calibration_estimate(&c, &prose), 220);
    for (i = 0; i < 1000; i++)
        calibration_learn(&c, &prose, i % 2 ? 600 : 80);
    for (i = 0; i < TOKEN_CLASSES; i++)
        CU_ASSERT(c.weights[i] >= 0.25 && c.weights[i] <= 1.25);
}

static struct calibration after(int prompts, long tokens)
{
    struct calibration c = fresh();
    int i;

    for (i = 0; i < prompts; i++)
        calibration_learn(&c, &prose, tokens);
    return c;
}

/* By the prompts that each has seen. */
static void hears_of_several(void)
{
    static struct calibration_pool pool;
    struct calibration old = after(600, 180), young = after(6, 200), mean;
    size_t of_old = calibration_estimate(&old, &prose), n;

    memset(&pool, 0, sizeof(pool));
    calibration_hear(&pool, "old", &old, 0, &mean);
    CU_ASSERT_EQUAL(calibration_estimate(&mean, &prose), of_old);
    CU_ASSERT_EQUAL(mean.prompts, 600);
    calibration_hear(&pool, "young", &young, 1000, &mean);
    n = calibration_estimate(&mean, &prose);
    CU_ASSERT(n >= of_old && n <= of_old + 1);
    CU_ASSERT_EQUAL(mean.prompts, 606);
    young = after(600, 200);
    calibration_hear(&pool, "young", &young, 2000, &mean);
    n = calibration_estimate(&mean, &prose);
    CU_ASSERT(n > of_old + 5 && n < calibration_estimate(&young, &prose));
    CU_ASSERT_EQUAL(pool.count, 2);
    calibration_hear(&pool, "young", &young, 3600500, &mean); /* the other is silent for an hour */
    CU_ASSERT_EQUAL(calibration_estimate(&mean, &prose), calibration_estimate(&young, &prose));
    CU_ASSERT_EQUAL(pool.count, 1);
}

static void bounds_the_sources(void)
{
    static struct calibration_pool pool;
    struct calibration one = after(10, 180), mean;
    char name[300];
    int i;

    memset(&pool, 0, sizeof(pool));
    for (i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "%0*d", i % 250 + 1, i);
        calibration_hear(&pool, name, &one, i, &mean);
    }
    CU_ASSERT_EQUAL(pool.count, CALIBRATION_SOURCES);
    CU_ASSERT_EQUAL(calibration_estimate(&mean, &prose), calibration_estimate(&one, &prose));
}

static int reads(json_t *body)
{
    const char *source, *model;
    struct calibration c;
    struct err e;

    return calibration_read(&c, &source, &model, body, &e);
}

static void tells_and_reads(void)
{
    struct calibration c = after(10, 180), read = fresh();
    const char *source, *model;
    struct err e;
    json_t *body = calibration_tell(&c, "here", "some/model"), *weights;
    static const char *const needed[] = {"source", "model", "prompts", "weights"};
    size_t i;

    CU_ASSERT_EQUAL_FATAL(calibration_read(&read, &source, &model, body, &e), 0);
    CU_ASSERT_STRING_EQUAL(source, "here");
    CU_ASSERT_STRING_EQUAL(model, "some/model");
    CU_ASSERT_EQUAL(read.prompts, 10);
    for (i = 0; i < TOKEN_CLASSES; i++)
        CU_ASSERT(fabs(read.weights[i] - c.weights[i]) < 1e-9);
    weights = json_object_get(body, "weights");
    json_object_set_new(weights, "words", json_real(1.3));
    CU_ASSERT_EQUAL(reads(body), -1);
    json_object_set_new(weights, "words", json_real(0));
    CU_ASSERT_EQUAL(reads(body), -1);
    json_object_set_new(weights, "words", json_string("1"));
    CU_ASSERT_EQUAL(reads(body), -1);
    json_object_set_new(weights, "words", json_integer(1));
    CU_ASSERT_EQUAL(reads(body), 0);
    for (i = 0; i < COUNT(needed); i++) {
        json_t *without = json_copy(body);

        json_object_del(without, needed[i]);
        CU_ASSERT_EQUAL(reads(without), -1);
        json_decref(without);
    }
    json_decref(body);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"starts with the estimate", starts_with_the_estimate},
        {"comes down slowly", comes_down_slowly},
        {"goes up at once", goes_up_at_once},
        {"leaves other classes", leaves_other_classes},
        {"is not fooled", is_not_fooled},
        {"hears of several", hears_of_several},
        {"bounds the sources", bounds_the_sources},
        {"tells and reads", tells_and_reads},
        CU_TEST_INFO_NULL,
    };

    return unit_main("calibration", tests);
}
