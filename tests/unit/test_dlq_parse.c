#include "ctl/dlq_parse.h"

#include "tests/unit/unit.h"

static void times(void)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1970-01-01", 0},
        {"1970-01-02", 86400000},
        {"2026-11-20T23:45:10.123Z", 1795218310123},
        {"2026-11-20T23:45:10.1Z", 1795218310100},
        {"2026-11-20T23:45:10.1239Z", 1795218310123},
        {"2026-11-20T23:45", 1795218300000},
        {"2026-11-20 23:45Z", 1795218300000},
        {"2026-11-21T06:45:00+07:00", 1795218300000},
        {"2026-11-20T18:15:00-0530", 1795218300000},
        {"2024-02-29", 1709164800000},
        {"2016-12-31T23:59:60Z", 1483228800000},
    };
    static const char *const bad[] = {
        "",
        "2026",
        "2026-13-01",
        "2026-02-30",
        "2025-02-29",
        "2026-1-1",
        "2026-01-01T",
        "2026-01-01T24:00",
        "2026-01-01x",
        "2026-01-01T10:60",
        "tomorrow",
        "2026-01-01T10",
        "2026-01-01T10:00+",
        "2026-01-01T10:00+25:00",
        "2026-00-10",
        "2026-01-01T10:00:00.Z",
        "2026-01-01T10:00ZZ",
        "99999999999999999999",
    };
    int64_t ms;
    size_t i;

    for (i = 0; i < COUNT(good); i++) {
        ms = -1;
        CU_ASSERT_EQUAL(dlq_parse_time(good[i].text, &ms), 0);
        CU_ASSERT_EQUAL(ms, good[i].ms);
    }
    for (i = 0; i < COUNT(bad); i++) {
        ms = 42;
        CU_ASSERT_EQUAL(dlq_parse_time(bad[i], &ms), -1);
        CU_ASSERT_EQUAL(ms, 42);
    }
}

static void moments(void)
{
    static const struct {
        const char *text;
        int64_t ago;
    } good[] = {{"90s", 90000}, {"30m", 1800000}, {"2h", 7200000}, {"7d", 604800000}, {"0s", 0}};
    static const char *const bad[] = {"",    "h",  "2",    "-2h",         "2 h",
                                      "2hh", "2w", "1.5h", "99999999999d"};
    const int64_t now = 1795218310123;
    int64_t ms;
    size_t i;

    for (i = 0; i < COUNT(good); i++) {
        CU_ASSERT_EQUAL(dlq_parse_moment(good[i].text, now, &ms), 0);
        CU_ASSERT_EQUAL(now - ms, good[i].ago);
    }
    for (i = 0; i < COUNT(bad); i++)
        CU_ASSERT_EQUAL(dlq_parse_moment(bad[i], now, &ms), -1);
    CU_ASSERT_EQUAL(dlq_parse_moment("1970-01-02", now, &ms), 0);
    CU_ASSERT_EQUAL(ms, 86400000);
}

static void rates(void)
{
    static const char *const bad[] = {"",    "0",    "-1",   "x",       "5/d", "5/", "/s",
                                      "1e3", "0x10", "5 /s", "2000000", "inf", "nan"};
    double rate;
    size_t i;

    CU_ASSERT_EQUAL(dlq_parse_rate("5", &rate), 0);
    CU_ASSERT_DOUBLE_EQUAL(rate, 5, 1e-9);
    CU_ASSERT_EQUAL(dlq_parse_rate("0.5/s", &rate), 0);
    CU_ASSERT_DOUBLE_EQUAL(rate, 0.5, 1e-9);
    CU_ASSERT_EQUAL(dlq_parse_rate("300/m", &rate), 0);
    CU_ASSERT_DOUBLE_EQUAL(rate, 5, 1e-9);
    CU_ASSERT_EQUAL(dlq_parse_rate("3600/h", &rate), 0);
    CU_ASSERT_DOUBLE_EQUAL(rate, 1, 1e-9);
    for (i = 0; i < COUNT(bad); i++)
        CU_ASSERT_EQUAL(dlq_parse_rate(bad[i], &rate), -1);
}

static void counts(void)
{
    static const char *const bad[] = {"",    "0",   "1,",      ",1", "1,,2",
                                      "1,0", "1;2", "1,2,3,4", "-1", "1, 2"};
    long numbers[3], n = 7;
    size_t got, i;

    CU_ASSERT_EQUAL(dlq_parse_counts("1,10,100", numbers, 3, &got), 0);
    CU_ASSERT_EQUAL(got, 3);
    CU_ASSERT_EQUAL(numbers[0] + numbers[1] + numbers[2], 111);
    CU_ASSERT_EQUAL(dlq_parse_counts("5", numbers, 3, &got), 0);
    CU_ASSERT_EQUAL(got, 1);
    for (i = 0; i < COUNT(bad); i++)
        CU_ASSERT_EQUAL(dlq_parse_counts(bad[i], numbers, 3, &got), -1);
    CU_ASSERT_EQUAL(dlq_parse_count("12", &n), 0);
    CU_ASSERT_EQUAL(n, 12);
    CU_ASSERT_EQUAL(dlq_parse_count("0", &n), -1);
    CU_ASSERT_EQUAL(dlq_parse_count("1x", &n), -1);
    CU_ASSERT_EQUAL(dlq_parse_count("9999999999999999999999", &n), -1);
    CU_ASSERT_EQUAL(n, 12);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"times", times},   {"moments", moments}, {"rates", rates},
        {"counts", counts}, CU_TEST_INFO_NULL,
    };

    return unit_main("dlq_parse", tests);
}
