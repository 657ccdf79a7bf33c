/*
 * How much of the personal data in tests/data/pii.jsonl is found, and how much of what is found is
 * personal. In the texts {{KIND:…}} marks what is; PERSON and ADDRESS are what nobody looks for.
 *
 * Recall: of what is marked, the share of which every byte is hidden, whatever it was taken for.
 * Precision: of what was found as a kind, the share that touches what is marked as that kind.
 * CORPUS_SHOW=1 in the environment prints each miss.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/corpus.h"
#include "tests/unit/unit.h"
#include "workers/inference/pii.h"

enum { PERSON = PII_KINDS, ADDRESS, KINDS, SPANS_MAX = 64, TEXT_MAX = 16384 };

/* docs/PRIVACY.md states the same floors, in percent. */
static const struct {
    int recall, precision;
} floors[KINDS] = {
    [PII_EMAIL] = {95, 100}, [PII_PHONE] = {95, 98},  [PII_NIK] = {100, 100},
    [PII_NPWP] = {100, 100}, [PII_CARD] = {100, 100}, [PII_IBAN] = {100, 100},
    [PII_IP] = {100, 100},   [PII_URL] = {100, 100},  [PII_BIRTHDATE] = {85, 95},
    [PII_NAME] = {95, 80},
};

static struct {
    int marked, hidden, found, right;
} score[KINDS];

struct text {
    char plain[TEXT_MAX];
    size_t n, count;
    struct {
        int kind;
        size_t at, end;
    } spans[SPANS_MAX];
};

static const char *name_of(int kind)
{
    return kind == PERSON    ? "PERSON"
           : kind == ADDRESS ? "ADDRESS"
                             : pii_kind_name((enum pii_kind)kind);
}

static int kind_of(const char *name, size_t n)
{
    int kind;

    for (kind = 0; kind < KINDS; kind++)
        if (strlen(name_of(kind)) == n && strncmp(name_of(kind), name, n) == 0)
            return kind;
    CU_FAIL_FATAL("an unknown kind is marked");
    return 0;
}

/* The text without its marks, and where they were. */
static void unmark(const char *marked, struct text *t)
{
    const char *open, *colon, *close;

    t->n = t->count = 0;
    while ((open = strstr(marked, "{{"))) {
        colon = strchr(open, ':');
        close = strstr(open, "}}");
        CU_ASSERT_FATAL(colon && close && colon < close && t->count < SPANS_MAX);
        memcpy(t->plain + t->n, marked, (size_t)(open - marked));
        t->n += (size_t)(open - marked);
        t->spans[t->count].kind = kind_of(open + 2, (size_t)(colon - open - 2));
        t->spans[t->count].at = t->n;
        memcpy(t->plain + t->n, colon + 1, (size_t)(close - colon - 1));
        t->n += (size_t)(close - colon - 1);
        t->spans[t->count++].end = t->n;
        marked = close + 2;
    }
    memcpy(t->plain + t->n, marked, strlen(marked));
    t->n += strlen(marked);
}

static void show(const char *what, int kind, const struct text *t, size_t at, size_t end)
{
    if (getenv("CORPUS_SHOW"))
        printf("%s %s: %.*s | %.*s\n", what, name_of(kind), (int)(end - at), t->plain + at,
               (int)t->n, t->plain);
}

static void judge_found(const struct text *t, const struct pii_span *f)
{
    bool right = false;
    size_t i;

    for (i = 0; i < t->count; i++)
        right |= t->spans[i].kind == (int)f->kind && t->spans[i].at < f->at + f->length &&
                 f->at < t->spans[i].end;
    score[f->kind].found++;
    score[f->kind].right += right;
    if (!right)
        show("wrong", (int)f->kind, t, f->at, f->at + f->length);
}

static void judge(const json_t *line)
{
    static char hidden[TEXT_MAX];
    static struct text t;
    struct pii_names names = {.count = 0};
    struct pii_span f;
    struct pii_scan scan;
    json_t *name;
    size_t i;

    json_array_foreach (json_object_get(line, "names"), i, name)
        pii_names_add(&names, json_string_value(name), json_string_length(name));
    unmark(json_string_value(json_object_get(line, "text")), &t);
    memset(hidden, 0, t.n);
    pii_scan_init(&scan, t.plain, t.n, &names);
    while (pii_scan_next(&scan, &f)) {
        memset(hidden + f.at, 1, f.length);
        judge_found(&t, &f);
    }
    for (i = 0; i < t.count; i++) {
        bool all = !memchr(hidden + t.spans[i].at, 0, t.spans[i].end - t.spans[i].at);

        score[t.spans[i].kind].marked++;
        score[t.spans[i].kind].hidden += all;
        if (!all)
            show("missed", t.spans[i].kind, &t, t.spans[i].at, t.spans[i].end);
    }
}

static void test_corpus(void)
{
    int kind;

    CU_ASSERT(corpus_each("pii.jsonl", judge) >= 150);
    printf("\n%-10s %7s %7s %9s\n", "", "marked", "recall", "precision");
    for (kind = 0; kind < KINDS; kind++) {
        int marked = score[kind].marked, found = score[kind].found;
        double recall = marked ? 100.0 * score[kind].hidden / marked : 0,
               precision = found ? 100.0 * score[kind].right / found : 0;

        printf("%-10s %7d %6.1f%% %8.1f%%\n", name_of(kind), marked, recall, precision);
        CU_ASSERT(marked > 0);
        CU_ASSERT(recall >= floors[kind].recall);
        CU_ASSERT(precision >= floors[kind].precision);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"precision and recall", test_corpus},
        CU_TEST_INFO_NULL,
    };

    return unit_main("pii_corpus", tests);
}
