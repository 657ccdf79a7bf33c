/* When a model is left alone, and when it is asked again. */
#include "workers/inference/breaker.h"

#include "tests/unit/unit.h"

static const struct breaker_rules rules = {
    .open_ms = 1000, .open_max_ms = 60000, .failed_percent = 50, .least = 4};

static uint32_t ask(struct breaker *b, int64_t now_ms)
{
    uint32_t ticket = 0;

    CU_ASSERT_TRUE(breaker_allows(b, now_ms, &ticket));
    return ticket;
}

static bool is_closed_to(struct breaker *b, int64_t now_ms)
{
    uint32_t ticket;

    return !breaker_allows(b, now_ms, &ticket);
}

static void fail(struct breaker *b, int64_t now_ms)
{
    breaker_failed(b, ask(b, now_ms), &rules, now_ms, 0, 0);
}

static void succeed(struct breaker *b, int64_t now_ms)
{
    breaker_succeeded(b, ask(b, now_ms));
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

static void fail_until_open(struct breaker *b, int64_t now_ms)
{
    int i;

    for (i = 0; i < rules.least; i++)
        fail(b, now_ms);
    CU_ASSERT_EQUAL(b->state, BREAKER_OPEN);
}

static void lets_one_through_after_a_while(void)
{
    struct breaker b = {.state = BREAKER_CLOSED};
    uint32_t trial;
    int i;

    fail_until_open(&b, 100);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 100), 1000);
    CU_ASSERT_TRUE(is_closed_to(&b, 1099));
    trial = ask(&b, 1100);
    CU_ASSERT_EQUAL(b.state, BREAKER_HALF_OPEN);
    CU_ASSERT_TRUE(is_closed_to(&b, 1100)); /* one at a time */
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 1100), BREAKER_TRIAL_MS);
    breaker_unknown(&b, trial);
    trial = ask(&b, 1100); /* it told nothing: the next tries */
    breaker_succeeded(&b, trial);
    CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 1100), 0);
    for (i = 0; i < 3; i++) /* what was before is forgotten */
        fail(&b, 1200);
    CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
}

static void may_stay_open_longer_each_time(void)
{
    struct breaker b = {.state = BREAKER_CLOSED};
    int64_t now = 0;
    int i;

    fail_until_open(&b, now);
    for (i = 0; i < 20; i++) {
        int64_t top = b.open_ms * 3 < rules.open_max_ms ? b.open_ms * 3 : rules.open_max_ms;
        uint32_t trial;

        now = b.until_ms;
        trial = ask(&b, now);
        breaker_failed(&b, trial, &rules, now, 0, (uint32_t)(b.open_ms * 3 - rules.open_ms));
        CU_ASSERT_EQUAL(b.state, BREAKER_OPEN);
        CU_ASSERT_EQUAL(b.open_ms, top); /* by that chance */
    }
    now = b.until_ms;
    breaker_failed(&b, ask(&b, now), &rules, now, 0, 0);
    CU_ASSERT_EQUAL(b.open_ms, rules.open_ms); /* by this one */
}

static void obeys_the_server(void)
{
    struct breaker b = {.state = BREAKER_CLOSED};

    breaker_failed(&b, ask(&b, 0), &rules, 0, 7000, 0);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 0), 7000);
    CU_ASSERT_TRUE(is_closed_to(&b, 6999));
    b = (struct breaker){.state = BREAKER_CLOSED};
    breaker_failed(&b, ask(&b, 0), &rules, 0, 86400000, 0);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 0), 60000); /* not for ever */
}

/* What was begun before an opening ends while it is open, or half open. */
static void late_outcomes_change_nothing(void)
{
    struct breaker b = {.state = BREAKER_CLOSED};
    uint32_t early = ask(&b, 0), trial;

    fail_until_open(&b, 0);
    breaker_succeeded(&b, early);
    breaker_failed(&b, early, &rules, 500, 0, 0);
    CU_ASSERT_EQUAL(b.state, BREAKER_OPEN);
    CU_ASSERT_EQUAL(breaker_wait_ms(&b, 500), 500);
    trial = ask(&b, 1000);
    breaker_succeeded(&b, early);
    CU_ASSERT_EQUAL(b.state, BREAKER_HALF_OPEN);
    breaker_failed(&b, early, &rules, 1000, 0, 0);
    CU_ASSERT_EQUAL(b.state, BREAKER_HALF_OPEN);
    breaker_unknown(&b, early);
    CU_ASSERT_TRUE(is_closed_to(&b, 1000));
    breaker_succeeded(&b, trial);
    CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
}

static void may_be_off(void)
{
    const struct breaker_rules off = {.failed_percent = 1, .least = 1};
    struct breaker b = {.state = BREAKER_CLOSED};
    int i;

    for (i = 0; i < 100; i++)
        breaker_failed(&b, ask(&b, 0), &off, 0, 5000, 0);
    CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"opens by the share of failures", opens_by_the_share_of_failures},
        {"lets one through after a while", lets_one_through_after_a_while},
        {"may stay open longer each time", may_stay_open_longer_each_time},
        {"obeys the server", obeys_the_server},
        {"late outcomes change nothing", late_outcomes_change_nothing},
        {"may be off", may_be_off},
        CU_TEST_INFO_NULL,
    };

    return unit_main("breaker", tests);
}
