/* What servers say of an account's limits. */
#include "workers/inference/limits.h"

#include <stddef.h>

#include "tests/unit/unit.h"

#define NOW  INT64_C(1741300000000) /* 2025-03-06, 22:26:40 UTC */
#define REST 5600000                /* of that day, in milliseconds */

static void figures(void)
{
    static const struct {
        const char *left, *reset;
        long want_left;
        int64_t want_ms;
    } cases[] = {
        {"0", "1741300005000", 0, 5000},
        {"7", "1741300005000", 7, 5000},
        {"7", "1741300005", 7, 5000},
        {"7", "2.5", 7, 2500},
        {"0", "1741399999000", 0, 86400000},
        {"3", "1741299999000", -1, 0}, /* past */
        {"3", "0", -1, 0},
        {"3", NULL, -1, 0},
        {NULL, "1741300005000", -1, 0},
        {"-3", "5", -1, 0},
        {"", "5", -1, 0},
        {"many", "5", -1, 0},
        {"3", "soon", -1, 0},
        {"3", "1e3", -1, 0},
        {"3", "1.2.3", -1, 0},
        {"99999999999999999999", "5", 1000000, 5000},
        {NULL, NULL, -1, 0},
    };
    size_t i;

    for (i = 0; i < COUNT(cases); i++) {
        struct limits l = limits_read(cases[i].left, cases[i].reset, NULL, NOW);

        CU_ASSERT_EQUAL(l.left, cases[i].want_left);
        CU_ASSERT_EQUAL(l.reset_ms, cases[i].want_ms);
    }
}

static void words(void)
{
    const char day[] = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more";
    struct limits l = limits_read(NULL, NULL, day, NOW);

    CU_ASSERT_EQUAL(l.left, 0);
    CU_ASSERT_EQUAL(l.reset_ms, REST);
    l = limits_read(NULL, NULL, "Rate limit exceeded: free-models-per-min", NOW);
    CU_ASSERT_EQUAL(l.left, 0);
    CU_ASSERT_EQUAL(l.reset_ms, 60000);
    l = limits_read(NULL, NULL, "Provider returned error", NOW);
    CU_ASSERT_EQUAL(l.left, -1);
    l = limits_read("0", "1741300005000", day, NOW); /* the figures say it better */
    CU_ASSERT_EQUAL(l.reset_ms, 5000);
}

int main(void)
{
    CU_TestInfo tests[] = {{"figures", figures}, {"words", words}, CU_TEST_INFO_NULL};

    return unit_main("limits", tests);
}
