/* When a model is left alone, and when it is asked again. */
#include "workers/inference/breaker.h"

#include "tests/unit/unit.h"

static const struct breaker_rules rules = {
    .open_ms = 1000, .open_max_ms = 60000, .failed_percent = 50, .least = 4};

static void fail(struct breaker *b, int64_t now_ms)
{
    CU_ASSERT_TRUE(breaker_allows(b, now_ms));
    breaker_failed(b, &rules, now_ms, 0, 0);
}

static void succeed(struct breaker *b, int64_t now_ms)
{
    CU_ASSERT_TRUE(breaker_allows(b, now_ms));
    breaker_succeeded(b);
}

static void opens_by_the_share_of_failures(void)
{
    struct breaker b = {.state = BREAKER_CLOSED};
    int i;

    for (i = 0; i < 3; i++)
        fail(&b, 0);
    CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED); /* too few to judge by */
    fail(&b, 0);
    CU_ASSERT_EQUAL(b.state, BREAKER_OPEN);

    b = (struct breaker){.state = BREAKER_CLOSED};
    for (i = 0; i < 40; i++) { /* every third fails */
        succeed(&b, 0);
        if (i % 3 != 0)
            fail(&b, 0);
        else
            succeed(&b, 0);
    }
    CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
    for (i = 0; i < 5; i++) /* ten of the last twenty, with the last of these */
        fail(&b, 0);
    CU_ASSERT_EQUAL(b.state, BREAKER_OPEN);
}

static void lets_one_through_after_a_while(void)
{
    struct breaker b = {.state = BREAKER_CLOSED};
    int i;

    for (i = 0; i < 4; i++)
        fail(&b, 100);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 100), 1000);
    CU_ASSERT_FALSE(breaker_allows(&b, 1099));
    CU_ASSERT_TRUE(breaker_allows(&b, 1100));
    CU_ASSERT_EQUAL(b.state, BREAKER_HALF_OPEN);
    CU_ASSERT_FALSE(breaker_allows(&b, 1100)); /* one at a time */
    breaker_unknown(&b);
    CU_ASSERT_TRUE(breaker_allows(&b, 1100)); /* it told nothing: the next tries */
    breaker_succeeded(&b);
    CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 1100), 0);
    for (i = 0; i < 3; i++) /* what was before is forgotten */
        fail(&b, 1200);
    CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
}

static void stays_open_longer_each_time(void)
{
    struct breaker b = {.state = BREAKER_CLOSED};
    int64_t now = 0;
    int i;

    for (i = 0; i < 4; i++)
        fail(&b, now);
    for (i = 0; i < 20; i++) {
        int64_t before = b.open_ms;

        now = b.until_ms;
        CU_ASSERT_TRUE(breaker_allows(&b, now));
        breaker_failed(&b, &rules, now, 0, UINT32_MAX - (uint32_t)i);
        CU_ASSERT_EQUAL(b.state, BREAKER_OPEN);
        CU_ASSERT_TRUE(b.open_ms >= rules.open_ms);
        CU_ASSERT_TRUE(b.open_ms <= before * 3 && b.open_ms <= rules.open_max_ms);
    }
}

static void obeys_the_server(void)
{
    struct breaker b = {.state = BREAKER_CLOSED};

    CU_ASSERT_TRUE(breaker_allows(&b, 0));
    breaker_failed(&b, &rules, 0, 7000, 0);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 0), 7000);
    CU_ASSERT_FALSE(breaker_allows(&b, 6999));
    b = (struct breaker){.state = BREAKER_CLOSED};
    CU_ASSERT_TRUE(breaker_allows(&b, 0));
    breaker_failed(&b, &rules, 0, 86400000, 0);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 0), 60000); /* not for ever */
}

static void late_outcomes_change_nothing(void)
{
    struct breaker b = {.state = BREAKER_CLOSED};
    int i;

    for (i = 0; i < 4; i++)
        fail(&b, 0);
    breaker_succeeded(&b);
    breaker_failed(&b, &rules, 500, 0, 0);
    CU_ASSERT_EQUAL(b.state, BREAKER_OPEN);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 500), 500);
}

static void may_be_off(void)
{
    const struct breaker_rules off = {.failed_percent = 1, .least = 1};
    struct breaker b = {.state = BREAKER_CLOSED};
    int i;

    for (i = 0; i < 100; i++) {
        CU_ASSERT_TRUE(breaker_allows(&b, 0));
        breaker_failed(&b, &off, 0, 5000, 0);
    }
    CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"opens by the share of failures", opens_by_the_share_of_failures},
        {"lets one through after a while", lets_one_through_after_a_while},
        {"stays open longer each time", stays_open_longer_each_time},
        {"obeys the server", obeys_the_server},
        {"late outcomes change nothing", late_outcomes_change_nothing},
        {"may be off", may_be_off},
        CU_TEST_INFO_NULL,
    };

    return unit_main("breaker", tests);
}
