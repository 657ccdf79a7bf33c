/* The table of prices: which price is a model's, what it comes to, and tables that are none. */
#include "workers/inference/prices.h"

#include <string.h>

#include "tests/unit/unit.h"

static double cost_of(const char *name, long prompt, long completion)
{
    double cost = -1;

    return prices_of(name, prompt, completion, &cost) ? cost : -1;
}

static void none(void)
{
    struct err e;

    CU_ASSERT_EQUAL_FATAL(prices_start("", &e), 0);
    CU_ASSERT_EQUAL(cost_of("any", 1, 1), -1);
    CU_ASSERT_FALSE(prices_know("any"));
    prices_stop();
}

static void longest_pattern(void)
{
    struct err e;

    CU_ASSERT_EQUAL_FATAL(prices_start("{\"gpt-4o*\": {\"prompt\": 2.5, \"completion\": 10},"
                                       " \"*\": {\"prompt\": 1, \"completion\": 1},"
                                       " \"gpt-4o-mini*\": {\"prompt\": 0.15, \"completion\": 0.6},"
                                       " \"a/[bc]?\": {\"prompt\": 0, \"completion\": 7}}",
                                       &e),
                          0);
    CU_ASSERT_DOUBLE_EQUAL(cost_of("gpt-4o", 1000000, 0), 2.5, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(cost_of("gpt-4o-mini", 1, 1), 0.75e-6, 1e-18);
    CU_ASSERT_DOUBLE_EQUAL(cost_of("gpt-4o-mini-2024", 3, 0), 0.45e-6, 1e-18);
    CU_ASSERT_DOUBLE_EQUAL(cost_of("a/b1", 500, 2), 14e-6, 1e-18);
    CU_ASSERT_DOUBLE_EQUAL(cost_of("a/d1", 500, 2), 502e-6, 1e-18);
    CU_ASSERT_DOUBLE_EQUAL(cost_of("x/y:z", 0, 0), 0, 1e-18);
    CU_ASSERT_TRUE(prices_know("x/y:z"));
    prices_stop();
    CU_ASSERT_FALSE(prices_know("x/y:z"));
}

static void bad_tables(void)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{", "MODEL_PRICES cannot be read"},
        {"[3]", "MODEL_PRICES must be a JSON object"},
        {"{\"m\": 3}", "the price of m"},
        {"{\"m\": {\"prompt\": 1}}", "completion"},
        {"{\"m\": {\"prompt\": \"1\", \"completion\": 1}}", "the price of m"},
        {"{\"m\": {\"prompt\": 1, \"completion\": 1, \"cached\": 1}}", "the price of m"},
        {"{\"a\": {\"prompt\": 1, \"completion\": 1}, \"m\": {\"prompt\": -1, \"completion\": 1}}",
         "the price of m must be between 0 and 1000000"},
        {"{\"m\": {\"prompt\": 1, \"completion\": 1e9}}", "must be between"},
        {"{\"\": {\"prompt\": 1, \"completion\": 1}}", "a price for no model"},
        {"{\"m\": {\"prompt\": 1, \"completion\": 1}, \"m\": {\"prompt\": 1, \"completion\": 1}}",
         "duplicate"},
    };
    struct err e;
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CU_ASSERT_EQUAL_FATAL(prices_start(cases[i].text, &e), -1);
        CU_ASSERT_EQUAL(e.kind, ERR_FATAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, cases[i].says));
        CU_ASSERT_FALSE(prices_know("m"));
        CU_ASSERT_FALSE(prices_know("a"));
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"none", none},
        {"the longest pattern counts", longest_pattern},
        {"bad tables", bad_tables},
        CU_TEST_INFO_NULL,
    };

    return unit_main("prices", tests);
}
