/* The free models' quota: never more than the limit in any span, however many processes share it. */
#include "workers/inference/quota.h"

#include "tests/unit/unit.h"

enum { MINUTE = 60000 };

/* Requests as fast as they may go, for a while; the most that any span saw, of all processes. */
static int most_in_a_span(long limit, long processes)
{
    static struct quota q[40];
    static int64_t times[10000];
    int n = 0, most = 0, i, j;
    int64_t now;

    for (i = 0; i < processes; i++)
        q[i] = (struct quota){.span_ms = MINUTE};
    for (now = 0; now < 5 * MINUTE; now += 100)
        for (i = 0; i < processes; i++)
            while (quota_wait_ms(&q[i], limit, processes, now) == 0) {
                quota_take(&q[i], now);
                times[n++] = now;
            }
    for (i = 0; i < n; i++) {
        for (j = i; j < n && times[j] < times[i] + MINUTE; j++)
            ;
        most = j - i > most ? j - i : most;
    }
    return most;
}

static void never_exceeds_the_limit(void)
{
    CU_ASSERT_EQUAL(most_in_a_span(20, 1), 20);
    CU_ASSERT_EQUAL(most_in_a_span(20, 2), 20);
    CU_ASSERT_EQUAL(most_in_a_span(20, 3), 18);
    CU_ASSERT_EQUAL(most_in_a_span(20, 20), 20);
    CU_ASSERT_TRUE(most_in_a_span(1, 1) == 1);
}

/* More processes than room: those that begin at once are too many, but it is made up for. */
static void longer_waits_for_many(void)
{
    struct quota q = {.span_ms = MINUTE};

    quota_take(&q, 0);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 40, 0), 2 * MINUTE);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 40, 2 * MINUTE), 0);
}

static void tells_how_long(void)
{
    struct quota q = {.span_ms = MINUTE};

    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, 0), 0);
    quota_take(&q, 0);
    quota_take(&q, 1000);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, 5000), MINUTE - 5000);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, MINUTE), 0);
    quota_take(&q, MINUTE);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, MINUTE), 1000);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 0, 1, MINUTE), 0); /* no limit */
}

static void obeys_the_server(void)
{
    struct quota q = {.span_ms = MINUTE};

    quota_close(&q, 7000);
    quota_close(&q, 3000);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 1, 1000), 6000);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 0, 1, 1000), 6000);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 1, 7000), 0);
}

static void goes_on_for_long(void)
{
    struct quota q = {.span_ms = 10};
    int64_t now;

    for (now = 0; now < 5000; now++) {
        if (quota_wait_ms(&q, 2000, 1, now) == 0)
            quota_take(&q, now);
    }
    CU_ASSERT_EQUAL(q.taken, 5000);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"never exceeds the limit", never_exceeds_the_limit},
        {"longer waits for many", longer_waits_for_many},
        {"tells how long", tells_how_long},
        {"obeys the server", obeys_the_server},
        {"goes on for long", goes_on_for_long},
        CU_TEST_INFO_NULL,
    };

    return unit_main("quota", tests);
}
