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
                quota_take(&q[i], now, 0);
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

    quota_take(&q, 0, 1);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 40, 0), 2 * MINUTE);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 40, 2 * MINUTE), 0);
}

static void tells_how_long(void)
{
    struct quota q = {.span_ms = MINUTE};

    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, 0), 0);
    quota_take(&q, 0, 1);
    quota_take(&q, 1000, 2);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, 5000), MINUTE - 5000);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, MINUTE), 0);
    quota_take(&q, MINUTE, 3);
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
            quota_take(&q, now, (uint64_t)now);
    }
    CU_ASSERT_EQUAL(q.count, QUOTA_MAX);
    CU_ASSERT_EQUAL(q.slots[QUOTA_MAX - 1].at_ms, 4999);
}

/* Who waits has its place: those behind it wait for the next. */
static void keeps_places(void)
{
    struct quota q = {.span_ms = MINUTE};

    quota_take(&q, 0, 1);
    quota_take(&q, 1000, 2);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, 5000), MINUTE - 5000);
    quota_take(&q, MINUTE, 3);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, 5000), MINUTE + 1000 - 5000);
    quota_give_back(&q, 3);
    quota_give_back(&q, 7); /* which it does not know */
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 2, 1, 5000), MINUTE - 5000);
}

/* However places are taken and given back, no span has more than the limit. */
static void given_back_places(void)
{
    enum { LIMIT = 5, SPAN = 100, STEPS = 20000 };
    static struct quota q;
    static int64_t gone[STEPS];
    struct {
        int64_t at;
        uint64_t number;
    } waiting[LIMIT * 8];
    int n = 0, waits = 0, i, j, given_back = 0;
    uint32_t chance = 7;
    int64_t now, wait;

    q = (struct quota){.span_ms = SPAN};
    for (now = 0; now < STEPS; now++) {
        chance = chance * 1664525 + 1013904223;
        for (i = 0; i < waits; i++)
            if (waiting[i].at <= now) {
                gone[n++] = waiting[i].at;
                waiting[i--] = waiting[--waits];
            }
        if (chance >> 28 < 4 && waits < LIMIT * 8) {
            wait = quota_wait_ms(&q, LIMIT, 1, now);
            if (wait > SPAN)
                continue;
            quota_take(&q, now + wait, (uint64_t)now);
            waiting[waits].at = now + wait;
            waiting[waits++].number = (uint64_t)now;
        } else if (chance >> 28 == 4 && waits > 0) {
            i = (int)(chance >> 8) % waits;
            quota_give_back(&q, waiting[i].number);
            waiting[i] = waiting[--waits];
            given_back++;
        }
    }
    CU_ASSERT(given_back > 100);
    CU_ASSERT(n > STEPS / SPAN);
    for (i = 0; i < n; i++) {
        int in_span = 0;

        for (j = 0; j < n; j++)
            in_span += gone[j] >= gone[i] && gone[j] < gone[i] + SPAN;
        if (in_span > LIMIT) {
            CU_FAIL("more than the limit in a span");
            break;
        }
    }
}

/* What little is left of a count that was lost, whatever the own log says. */
static void only_few(void)
{
    struct quota q = {.span_ms = MINUTE};

    quota_few(&q, 2, 50000);
    quota_take(&q, 1000, 1);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 1, 1000), 0);
    quota_take(&q, 2000, 2);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 1, 3000), 47000);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 0, 1, 3000), 47000);
    quota_give_back(&q, 2);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 1, 3000), 0);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 1, 50000), 0);
    quota_few(&q, 0, 0);
    CU_ASSERT_EQUAL(quota_wait_ms(&q, 20, 1, 3000), 0);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"never exceeds the limit", never_exceeds_the_limit},
        {"longer waits for many", longer_waits_for_many},
        {"tells how long", tells_how_long},
        {"obeys the server", obeys_the_server},
        {"keeps places", keeps_places},
        {"given back places", given_back_places},
        {"only few", only_few},
        {"goes on for long", goes_on_for_long},
        CU_TEST_INFO_NULL,
    };

    return unit_main("quota", tests);
}
