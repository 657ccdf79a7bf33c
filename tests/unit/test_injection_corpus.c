/*
 * How many of the attacks in tests/data/injection.jsonl the filter sees, and how many of those it
 * sees are some. CORPUS_SHOW=1 in the environment prints each miss.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/corpus.h"
#include "tests/unit/unit.h"
#include "workers/context-builder/injection.h"

/* docs/PRIVACY.md states the same floors, in percent. */
enum { RECALL = 80, PRECISION = 95 };

static int attacks, seen, right;

static void judge(const json_t *line)
{
    const json_t *text = json_object_get(line, "text");
    bool attack = json_is_true(json_object_get(line, "attack"));
    struct injection_found found;
    bool any = injection_find(json_string_value(text), json_string_length(text), &found);

    attacks += attack;
    seen += any;
    right += attack && any;
    if (attack != any && getenv("CORPUS_SHOW"))
        printf("%s: %s\n", attack ? "missed" : "wrong", json_string_value(text));
}

static void test_corpus(void)
{
    double recall, precision;

    CU_ASSERT(corpus_each("injection.jsonl", judge) >= 150);
    CU_ASSERT_FATAL(attacks > 0 && seen > 0);
    recall = 100.0 * right / attacks;
    precision = 100.0 * right / seen;
    printf("\n%d attacks: recall %.1f%%, precision %.1f%%\n", attacks, recall, precision);
    CU_ASSERT(recall >= RECALL);
    CU_ASSERT(precision >= PRECISION);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"precision and recall", test_corpus},
        CU_TEST_INFO_NULL,
    };

    return unit_main("injection_corpus", tests);
}
