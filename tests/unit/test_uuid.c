#include "common/base/uuid.h"

#include <ctype.h>
#include <string.h>

#include "tests/unit/unit.h"

/* The clock of this program: --wrap puts it in the place of the real one. */
static int64_t now_ms = 1750000000000;

int64_t __wrap_clock_wall_ms(void);

int64_t __wrap_clock_wall_ms(void)
{
    return now_ms;
}

static void version_7_carries_the_time(void)
{
    char id[UUID_TEXT];

    now_ms += 1000;
    CU_ASSERT_PTR_EQUAL(uuid_v7(id), id);
    CU_ASSERT_TRUE(uuid_valid(id));
    CU_ASSERT_EQUAL(uuid_version(id), 7);
    CU_ASSERT_EQUAL(uuid_time_ms(id), now_ms);
    CU_ASSERT_PTR_NOT_NULL(strchr("89ab", id[19])); /* the variant of RFC 9562 */
}

/* Far more than the counter of one millisecond holds. */
static void version_7_is_monotonic_within_a_millisecond(void)
{
    char last[UUID_TEXT], id[UUID_TEXT];
    long i, backwards = 0, malformed = 0;
    int64_t start;

    now_ms += 1000;
    start = now_ms;
    uuid_v7(last);
    for (i = 0; i < 20000; i++) {
        uuid_v7(id);
        backwards += strcmp(last, id) >= 0;
        malformed += uuid_version(id) != 7 || !strchr("89ab", id[19]);
        memcpy(last, id, sizeof(last));
    }
    CU_ASSERT_EQUAL(backwards, 0);
    CU_ASSERT_EQUAL(malformed, 0);
    CU_ASSERT(uuid_time_ms(last) > start); /* it borrowed */
    CU_ASSERT(uuid_time_ms(last) <= start + 10);
}

static void version_7_survives_a_clock_that_steps_back(void)
{
    char before[UUID_TEXT], after[UUID_TEXT];

    now_ms += 1000;
    uuid_v7(before);
    now_ms -= 500;
    uuid_v7(after);
    CU_ASSERT(strcmp(before, after) < 0);
    now_ms += 1000;
    uuid_v7(before);
    CU_ASSERT(strcmp(after, before) < 0);
    CU_ASSERT_EQUAL(uuid_time_ms(before), now_ms);
}

/* By more than a minute: the new time counts. */
static void version_7_follows_a_clock_that_was_wrong(void)
{
    char before[UUID_TEXT], after[UUID_TEXT], next[UUID_TEXT];

    now_ms += 3600000;
    uuid_v7(before);
    now_ms -= 60000;
    uuid_v7(after);
    CU_ASSERT_EQUAL(uuid_time_ms(after), uuid_time_ms(before));
    CU_ASSERT(strcmp(before, after) < 0);
    now_ms -= 3540000;
    uuid_v7(after);
    CU_ASSERT_EQUAL(uuid_time_ms(after), now_ms);
    uuid_v7(next);
    CU_ASSERT(strcmp(after, next) < 0);
}

/* The last 62 bits are random: none of their hex digits stays the same. */
static void version_7_is_random(void)
{
    char first[UUID_TEXT], id[UUID_TEXT];
    bool changed[UUID_TEXT] = {false};
    int i, k;

    uuid_v7(first);
    for (i = 0; i < 1000; i++) {
        uuid_v7(id);
        for (k = 19; k < 36; k++)
            changed[k] |= id[k] != first[k];
    }
    for (k = 19; k < 36; k++)
        CU_ASSERT_EQUAL(changed[k], first[k] != '-');
}

static void version_5_by_the_vectors(void)
{
    static const char dns[] = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    char id[UUID_TEXT], other[UUID_TEXT];

    /* RFC 9562, A.4, and Python's documentation of uuid5(). */
    CU_ASSERT_STRING_EQUAL(uuid_v5(dns, "www.example.com", id),
                           "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    CU_ASSERT_STRING_EQUAL(uuid_v5(dns, "python.org", id), "886313e1-3b8a-5372-9b90-0c9aee199e5d");
    CU_ASSERT_STRING_EQUAL(uuid_v5("6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "python.org", id),
                           "886313e1-3b8a-5372-9b90-0c9aee199e5d");
    CU_ASSERT_EQUAL(uuid_version(id), 5);
    CU_ASSERT_TRUE(uuid_valid(uuid_v5(dns, "", id)));
    /* A namespace that is no UUID counts by its bytes: sha1("no uuid" "name"). */
    CU_ASSERT_STRING_EQUAL(uuid_v5("no uuid", "name", id), "8a19ef92-8757-593a-838a-a6774afd6705");
    CU_ASSERT_STRING_NOT_EQUAL(uuid_v5("no uuid", "names", other), id);
}

static void derived_from_version_7(void)
{
    static const char base[] = "01a1fc31-d6a8-7760-a87d-7279e795addf";
    char a[UUID_TEXT], b[UUID_TEXT], other[UUID_TEXT];

    CU_ASSERT_PTR_EQUAL(uuid_v7_derived(base, "question", a), a);
    CU_ASSERT_STRING_EQUAL(uuid_v7_derived(base, "question", b), a);
    CU_ASSERT_STRING_NOT_EQUAL(uuid_v7_derived(base, "answer", b), a);
    CU_ASSERT_STRING_NOT_EQUAL(a, base);
    CU_ASSERT_TRUE(uuid_valid(a));
    CU_ASSERT_EQUAL(uuid_version(a), 7);
    CU_ASSERT_EQUAL(uuid_time_ms(a), uuid_time_ms(base));
    CU_ASSERT(strchr("89ab", a[19]) != NULL); /* the variant */
    uuid_v7_derived("01a1fc31-d6a8-7760-a87d-7279e795adde", "question", other);
    CU_ASSERT_STRING_NOT_EQUAL(other, a); /* the same time, another id */
    CU_ASSERT_STRING_EQUAL(uuid_v7_derived("01A1FC31-D6A8-7760-A87D-7279E795ADDF", "question", b),
                           a);
}

static void floors(void)
{
    char id[UUID_TEXT], low[UUID_TEXT], next[UUID_TEXT];

    CU_ASSERT_STRING_EQUAL(uuid_v7_floor(0, low), "00000000-0000-0000-0000-000000000000");
    CU_ASSERT_STRING_EQUAL(uuid_v7_floor(0x01a1fc31d6a8, low),
                           "01a1fc31-d6a8-0000-0000-000000000000");
    uuid_v7(id);
    uuid_v7_floor(uuid_time_ms(id), low);
    uuid_v7_floor(uuid_time_ms(id) + 1, next);
    CU_ASSERT(strcmp(low, id) < 0 && strcmp(id, next) < 0);
}

static void validity(void)
{
    static const char *const good[] = {"00000000-0000-0000-0000-000000000000",
                                       "2ed6657d-e927-568b-95e1-2665a8aea6a2",
                                       "2ED6657D-E927-568B-95E1-2665A8AEA6A2"};
    static const char *const bad[] = {"",
                                      "2ed6657d",
                                      "2ed6657d-e927-568b-95e1-2665a8aea6a",
                                      "2ed6657d-e927-568b-95e1-2665a8aea6a22",
                                      "2ed6657d-e927-568b-95e1-2665a8aea6a2 ",
                                      " 2ed6657d-e927-568b-95e1-2665a8aea6a2",
                                      "{2ed6657d-e927-568b-95e1-2665a8aea6a}",
                                      "2ed6657de927-568b-95e1-2665a8aea6a2-",
                                      "2ed6657d-e927-568b-95e1-2665a8aea6ag",
                                      "2ed6657d_e927_568b_95e1_2665a8aea6a2",
                                      "------------------------------------",
                                      "2ed6657d-e927-568b-95e1-2665a8aea6\xc3\xbc"};
    char cut[UUID_TEXT];
    size_t i;

    for (i = 0; i < COUNT(good); i++)
        CU_ASSERT_TRUE(uuid_valid(good[i]));
    for (i = 0; i < COUNT(bad); i++) {
        CU_ASSERT_FALSE(uuid_valid(bad[i]));
        CU_ASSERT_EQUAL(uuid_version(bad[i]), 0);
        CU_ASSERT_EQUAL(uuid_time_ms(bad[i]), -1);
    }
    CU_ASSERT_FALSE(uuid_valid(NULL));
    for (i = 0; i < 36; i++) { /* every length that is too short */
        memcpy(cut, good[1], i);
        cut[i] = '\0';
        CU_ASSERT_FALSE(uuid_valid(cut));
    }
    CU_ASSERT_EQUAL(uuid_version("2ed6657d-e927-F68b-95e1-2665a8aea6a2"), 15);
    CU_ASSERT_EQUAL(uuid_time_ms(good[1]), -1); /* version 5 has no time */
    CU_ASSERT_EQUAL(uuid_time_ms("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), 1645557742000);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"version 7 carries the time", version_7_carries_the_time},
        {"version 7: monotonic within a millisecond", version_7_is_monotonic_within_a_millisecond},
        {"version 7: a clock that steps back", version_7_survives_a_clock_that_steps_back},
        {"version 7: a clock that was wrong", version_7_follows_a_clock_that_was_wrong},
        {"version 7: random", version_7_is_random},
        {"version 5: the vectors", version_5_by_the_vectors},
        {"derived from version 7", derived_from_version_7},
        {"floors", floors},
        {"validity", validity},
        CU_TEST_INFO_NULL,
    };

    return unit_main("uuid", tests);
}
