#include "ctl/dlq_count.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "ctl/dlq_print.h"

enum { BY_CAUSE, BY_OPERATION, BY_TENANT, DIMENSIONS };

enum {
    WORDS_MAX = 1000, /* of one dimension; what comes after them is counted as others */
    WORDS_SHOWN = 5,
};

static const char *const dimension_names[DIMENSIONS] = {"cause", "operation", "tenant"};

struct word {
    char *text;
    long count;
};

struct count_queue {
    struct count_queue *next;
    const char *name;
    long count, uncertain, others;
    int64_t oldest_ms, newest_ms; /* 0: not known */
    struct map *words[DIMENSIONS];
};

static struct count_queue *find(struct counts *c, const char *name)
{
    struct count_queue *q;
    int i;

    for (q = c->queues; q; q = q->next)
        if (strcmp(q->name, name) == 0)
            return q;
    q = mem_alloc(sizeof(*q));
    q->name = name;
    for (i = 0; i < DIMENSIONS; i++)
        q->words[i] = map_new();
    q->next = c->queues;
    c->queues = q;
    return q;
}

void counts_queue(struct counts *c, const char *queue, long others)
{
    find(c, queue)->others = others;
}

static void count_word(struct map *words, const char *text)
{
    struct word *w = map_get(words, text, strlen(text));

    if (!w && map_count(words) >= WORDS_MAX) {
        text = "(others)";
        w = map_get(words, text, strlen(text));
    }
    if (!w) {
        w = mem_alloc(sizeof(*w));
        w->text = mem_strdup(text);
        map_put(words, text, strlen(text), w);
    }
    w->count++;
}

void counts_add(struct counts *c, const struct letter *l, bool uncertain)
{
    struct count_queue *q = find(c, l->queue);
    char *cause = mem_printf("%s%s%s", l->error_kind ? l->error_kind : "",
                             l->error_kind ? ": " : "", l->error ? l->error : "(no cause)");

    q->count++;
    q->uncertain += uncertain;
    if (l->failed_ms && (!q->oldest_ms || l->failed_ms < q->oldest_ms))
        q->oldest_ms = l->failed_ms;
    if (l->failed_ms > q->newest_ms)
        q->newest_ms = l->failed_ms;
    count_word(q->words[BY_CAUSE], cause);
    count_word(q->words[BY_OPERATION], l->operation ? l->operation : "(none)");
    count_word(q->words[BY_TENANT], l->tenant ? l->tenant : "(none)");
    free(cause);
}

long counts_total(const struct counts *c)
{
    const struct count_queue *q;
    long n = 0;

    for (q = c->queues; q; q = q->next)
        n += q->count;
    return n;
}

/* ---- the most frequent words ---- */

struct top {
    const struct word *words[WORDS_SHOWN];
    int n;
};

static void consider(void *value, void *arg)
{
    const struct word *w = value;
    struct top *t = arg;
    int i, at;

    for (at = 0; at < t->n; at++)
        if (w->count > t->words[at]->count ||
            (w->count == t->words[at]->count && strcmp(w->text, t->words[at]->text) < 0))
            break;
    if (at == WORDS_SHOWN)
        return;
    t->n += t->n < WORDS_SHOWN;
    for (i = t->n - 1; i > at; i--)
        t->words[i] = t->words[i - 1];
    t->words[at] = w;
}

static struct top top_of(const struct count_queue *q, int dimension)
{
    struct top t = {.n = 0};

    map_each(q->words[dimension], consider, &t);
    return t;
}

static void print_queue_words(const struct count_queue *q)
{
    int d, i;

    for (d = 0; d < DIMENSIONS; d++) {
        struct top t = top_of(q, d);

        for (i = 0; i < t.n; i++) {
            printf("    %-10s %7ld  ", dimension_names[d], t.words[i]->count);
            print_words(t.words[i]->text);
            putchar('\n');
        }
    }
}

static void print_queue(const struct count_queue *q)
{
    char oldest[CLOCK_ISO_SIZE], newest[CLOCK_ISO_SIZE];

    if (!q)
        return;
    print_queue(q->next); /* the first is the last */
    printf("%-20s %8ld  %-24s  %-24s %9ld\n", q->name, q->count,
           q->oldest_ms ? clock_iso(q->oldest_ms, oldest) : "-",
           q->newest_ms ? clock_iso(q->newest_ms, newest) : "-", q->uncertain);
    print_queue_words(q);
}

void counts_print(const struct counts *c)
{
    printf("%-20s %8s  %-24s  %-24s %9s\n", "QUEUE", "LETTERS", "OLDEST", "NEWEST", "UNCERTAIN");
    print_queue(c->queues);
}

/* ---- for machines ---- */

static json_t *words_json(const struct count_queue *q, int dimension)
{
    json_t *list = json_array();
    struct top t = top_of(q, dimension);
    int i;

    for (i = 0; i < t.n; i++)
        json_array_append_new(list, json_pack("{s:o, s:I}", "text", print_text(t.words[i]->text),
                                              "count", (json_int_t)t.words[i]->count));
    return list;
}

static json_t *time_json(int64_t ms)
{
    char at[CLOCK_ISO_SIZE];

    return ms ? json_string(clock_iso(ms, at)) : json_null();
}

void counts_print_json(const struct counts *c, bool with_ledger)
{
    const struct count_queue *q;
    json_t *list = json_array();

    for (q = c->queues; q; q = q->next)
        json_array_insert_new(
            list, 0,
            json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "queue", q->name, "count",
                      (json_int_t)q->count, "oldest", time_json(q->oldest_ms), "newest",
                      time_json(q->newest_ms), "uncertain",
                      with_ledger ? json_integer(q->uncertain) : json_null(), "other_tools",
                      q->others < 0 ? json_null() : json_integer(q->others), "causes",
                      words_json(q, BY_CAUSE), "operations", words_json(q, BY_OPERATION), "tenants",
                      words_json(q, BY_TENANT)));
    json_dumpf(list, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(list);
}

static void free_word(void *value, void *arg)
{
    struct word *w = value;

    (void)arg;
    free(w->text);
    free(w);
}

void counts_free(struct counts *c)
{
    struct count_queue *q;
    int i;

    while ((q = c->queues)) {
        c->queues = q->next;
        for (i = 0; i < DIMENSIONS; i++) {
            map_each(q->words[i], free_word, NULL);
            map_free(q->words[i]);
        }
        free(q);
    }
}
