#include "common/base/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct metric_family jobs = {
    .name = "t_jobs_total", .type = METRIC_COUNTER, .help = "Jobs done."};
static struct metric_family depth = {
    .name = "t_depth", .type = METRIC_GAUGE, .help = "Jobs that wait."};
static struct metric_family wait_time = {
    .name = "t_wait_seconds", .type = METRIC_HISTOGRAM, .help = "How long."};
static struct metric_family never = {
    .name = "t_never_total", .type = METRIC_COUNTER, .help = "Nothing."};

static struct buf page;

static const char *render(void)
{
    buf_free(&page);
    buf_init(&page, 100000);
    CU_ASSERT_EQUAL(metrics_render(&page), 0);
    return page.data ? page.data : "";
}

static int count(const char *text, const char *what)
{
    int n = 0;

    while ((text = strstr(text, what))) {
        n++;
        text++;
    }
    return n;
}

/* The whole line stands in the page once. */
static void has(const char *line)
{
    char with_ends[300];
    const char *text = render();
    int n;

    snprintf(with_ends, sizeof(with_ends), "\n%s\n", line);
    n = count(text, with_ends) + (strncmp(text, with_ends + 1, strlen(with_ends + 1)) == 0);
    CU_ASSERT_EQUAL(n, 1);
    if (n != 1)
        fprintf(stderr, "not there once: %s\n%s", line, text);
}

static void counters_and_gauges(void)
{
    struct metric *a = metric_get(&jobs, "queue=\"a\""), *b = metric_get(&jobs, "queue=\"b\"");

    CU_ASSERT_PTR_NOT_EQUAL(a, b);
    CU_ASSERT_PTR_EQUAL(metric_get(&jobs, "queue=\"a\""), a);
    metric_add(a, 1);
    metric_add(a, 2);
    metric_add(b, 0.5);
    metric_add(metric_get(&depth, ""), 7);
    metric_set(metric_get(&depth, ""), 3);
    metric_add(metric_get(&depth, ""), -1);
    has("t_jobs_total{queue=\"a\"} 3");
    has("t_jobs_total{queue=\"b\"} 0.5");
    has("t_depth{} 2");
    metric_set(a, 123456789012.0);
    has("t_jobs_total{queue=\"a\"} 123456789012");
}

static void help_and_type_once(void)
{
    has("# HELP t_jobs_total Jobs done.");
    has("# TYPE t_jobs_total counter");
    has("# HELP t_depth Jobs that wait.");
    has("# TYPE t_depth gauge");
    CU_ASSERT_EQUAL(count(render(), never.name), 0);
    CU_ASSERT_EQUAL(page.data[page.len - 1], '\n');
    CU_ASSERT_EQUAL(count(page.data, "\n\n"), 0);
}

/* The buckets of a series in their order: each at least as large as the one before. */
static void check_buckets(const char *labels, unsigned long expected)
{
    unsigned long last = 0, value = 0;
    char start[100];
    const char *p;
    double bound, last_bound = 0;
    int n = 0;

    snprintf(start, sizeof(start), "t_wait_seconds_bucket{%sle=\"", labels);
    for (p = strstr(render(), start); p; p = strstr(p + 1, start)) {
        bound = strtod(p + strlen(start), NULL);
        value = strtoul(strchr(p, '}') + 2, NULL, 10);
        CU_ASSERT(bound > last_bound);
        CU_ASSERT(value >= last);
        last_bound = bound;
        last = value;
        n++;
    }
    CU_ASSERT(n > 10);
    CU_ASSERT(last_bound > 1e300); /* +Inf comes last, and is the count */
    CU_ASSERT_EQUAL(last, expected);
}

static void histograms(void)
{
    struct metric *m = metric_get(&wait_time, "op=\"x\""), *bare = metric_get(&wait_time, "");

    metric_observe(m, 0.0005);
    metric_observe(m, 0.001); /* a bound belongs to its bucket */
    metric_observe(m, 0.3);
    metric_observe(m, 60);
    metric_observe(m, 61);
    metric_observe(bare, 2);
    check_buckets("op=\"x\",", 5);
    check_buckets("", 1);
    has("# TYPE t_wait_seconds histogram");
    has("t_wait_seconds_bucket{op=\"x\",le=\"0.001\"} 2");
    has("t_wait_seconds_bucket{op=\"x\",le=\"0.25\"} 2");
    has("t_wait_seconds_bucket{op=\"x\",le=\"0.5\"} 3");
    has("t_wait_seconds_bucket{op=\"x\",le=\"60\"} 4");
    has("t_wait_seconds_bucket{op=\"x\",le=\"+Inf\"} 5");
    has("t_wait_seconds_sum{op=\"x\"} 121.3015");
    has("t_wait_seconds_count{op=\"x\"} 5");
    has("t_wait_seconds_bucket{le=\"+Inf\"} 1");
    has("t_wait_seconds_count{} 1");
}

static void a_full_buffer_is_told(void)
{
    size_t whole = strlen(render());
    struct buf small;

    buf_init(&small, whole);
    CU_ASSERT_EQUAL(metrics_render(&small), 0);
    buf_free(&small);
    buf_init(&small, whole - 1);
    CU_ASSERT_EQUAL(metrics_render(&small), -1);
    buf_free(&small);
}

/* All of it goes that has the label, whatever family it is of; an emptied family can come back. */
static void what_is_forgotten_is_gone(void)
{
    static struct metric_family kept = {"t_kept", METRIC_GAUGE, "Kept", NULL, NULL};
    static struct metric_family emptied = {"t_emptied", METRIC_COUNTER, "Emptied", NULL, NULL};

    metric_set(metric_get(&kept, "a=\"1\",b=\"2\""), 7);
    metric_set(metric_get(&kept, "b=\"2\",c=\"3\""), 7);
    metric_set(metric_get(&kept, "bb=\"2\""), 7);
    metric_set(metric_get(&kept, "a=\"22\""), 7);
    metric_add(metric_get(&emptied, "b=\"2\""), 7);
    metrics_forget("b=\"2\"");
    CU_ASSERT_PTR_NULL(strstr(render(), "b=\"2\",c"));
    CU_ASSERT_PTR_NULL(strstr(render(), ",b=\"2\""));
    CU_ASSERT_PTR_NULL(strstr(render(), "t_emptied"));
    has("t_kept{bb=\"2\"} 7");
    has("t_kept{a=\"22\"} 7");
    metric_add(metric_get(&emptied, "b=\"2\""), 1);
    has("t_emptied{b=\"2\"} 1");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"counters and gauges", counters_and_gauges},
        {"HELP and TYPE stand once", help_and_type_once},
        {"histograms", histograms},
        {"a full buffer is told", a_full_buffer_is_told},
        {"what is forgotten is gone", what_is_forgotten_is_gone},
        CU_TEST_INFO_NULL,
    };
    int failed = unit_main("metrics", tests);

    buf_free(&page);
    return failed;
}
