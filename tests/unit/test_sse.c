/* Server-sent events: every text is fed in every way that two cuts, or steady pieces, can make. */
#include "workers/inference/sse.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/unit/unit.h"

enum { MAX = 64 };

static struct {
    struct buf got; /* each event as "<data>|" */
    int events, stop_after;
} w;

static bool event(void *arg, const char *data, size_t n)
{
    CU_ASSERT_PTR_EQUAL(arg, &w);
    CU_ASSERT_EQUAL(data[n], '\0');
    buf_add(&w.got, data, n);
    buf_add(&w.got, "|", 1);
    return ++w.events != w.stop_after;
}

static void begin(struct sse *s)
{
    sse_init(s, MAX);
    buf_free(&w.got);
    buf_init(&w.got, 4096);
    buf_add(&w.got, "", 0);
    w.events = 0;
}

/* In memory of exactly its size, so that a sanitizer sees each byte too many. */
static int feed(struct sse *s, const char *bytes, size_t n)
{
    char *piece = malloc(n ? n : 1);
    int failed;

    memcpy(piece, bytes, n);
    failed = sse_read(s, piece, n, event, &w);
    free(piece);
    return failed;
}

static void check(const char *want, size_t n)
{
    CU_ASSERT_EQUAL(w.got.len, n);
    CU_ASSERT_EQUAL(memcmp(w.got.data, want, n), 0);
}

static void reads_bytes(const char *text, size_t n, const char *want, size_t want_n)
{
    size_t first, second, at, size;
    struct sse s;

    for (first = 0; first <= n; first++) {
        for (second = first; second <= n; second++) {
            begin(&s);
            CU_ASSERT_EQUAL(feed(&s, text, first), 0);
            CU_ASSERT_EQUAL(feed(&s, text + first, second - first), 0);
            CU_ASSERT_EQUAL(feed(&s, text + second, n - second), 0);
            check(want, want_n);
            sse_fini(&s);
        }
    }
    for (size = 1; size <= 4; size++) {
        begin(&s);
        for (at = 0; at < n; at += size)
            CU_ASSERT_EQUAL(feed(&s, text + at, n - at < size ? n - at : size), 0);
        check(want, want_n);
        sse_fini(&s);
    }
}

static void reads(const char *text, const char *want)
{
    reads_bytes(text, strlen(text), want, strlen(want));
}

static void events(void)
{
    reads("", "");
    reads("data: one\n\n", "one|");
    reads("data: one\n\ndata: two\n\n", "one|two|");
    reads("data:one\n\n", "one|");
    reads("data:  one \n\n", " one |");
    reads("data: {\"a\": \"b:c\"}\n\ndata: [DONE]\n\n", "{\"a\": \"b:c\"}|[DONE]|");
    reads("data: \xe2\x82\xac \xf0\x9f\x9a\x80\n\n", "\xe2\x82\xac \xf0\x9f\x9a\x80|");
    reads("\n\n\n", "");
}

static void line_ends(void)
{
    reads("data: a\r\rdata: b\r\r", "a|b|");
    reads("data: a\r\n\r\ndata: b\r\n\r\n", "a|b|");
    reads("data: a\n\r\ndata: b\r\n\ndata: c\r\n\r", "a|b|c|");
    reads("data: a\r\ndata: b\rdata: c\ndata: d\n\n", "a\nb\nc\nd|");
}

static void several_lines(void)
{
    reads("data: a\ndata: b\n\n", "a\nb|");
    reads("data\ndata\n\n", "\n|");
    reads("data:\n\n", "|");
    reads("data\n\n", "|");
    reads("data: a\ndata:\ndata: c\n\n", "a\n\nc|");
}

static void what_is_passed_over(void)
{
    reads(": OPENROUTER PROCESSING\n\ndata: a\n\n", "a|");
    reads(":\n:\r:\r\ndata: a\n: in the middle\ndata: b\n\n", "a\nb|");
    reads("event: x\nid: 7\nretry: 10\ndata: a\n\nevent: y\n\n", "a|");
    reads("date: x\ndatabase: x\n data: x\nDATA: x\ndat\nx\ndata: a\n\n", "a|");
}

static void byte_order_marks(void)
{
    reads("\xef\xbb\xbf"
          "data: a\n\n",
          "a|");
    reads("\xef\xbb\xbf\xef\xbb\xbf"
          "data: a\n\ndata: b\n\n",
          "b|"); /* only one */
    reads("data: a\n\n\xef\xbb\xbf"
          "data: b\n\n",
          "a|"); /* only at the beginning */
    reads("\xef\xbb"
          "data: x\ndata: a\n\n",
          "a|");
    reads("\xef\n"
          "data: a\n\n",
          "a|");
}

static void what_breaks_off(void)
{
    reads("data: a\n\ndata: b\n", "a|");
    reads("data: a\n\ndata: b", "a|");
    reads("data: a", "");
    reads("data: a\r\n\r\ndata: b\r\n", "a|");
}

static void bytes_of_all_kinds(void)
{
    static const char text[] = "data: a\0b\xff\xfe\n\n\0\n\n";

    reads_bytes(text, sizeof(text) - 1, "a\0b\xff\xfe|", 6);
}

static void bounds(void)
{
    char text[256];
    struct sse s;
    int i;

    memset(text, 'x', sizeof(text));
    memcpy(text, "data: ", 6);
    text[MAX] = text[MAX + 1] = '\n';
    begin(&s); /* a line that just fits */
    CU_ASSERT_EQUAL(feed(&s, text, MAX + 2), 0);
    CU_ASSERT_EQUAL(w.got.len, MAX - 6 + 1);
    sse_fini(&s);
    memset(text + 6, 'x', sizeof(text) - 6);
    for (i = 0; i < 3; i++) { /* one too long: at once, in pieces, without an end */
        size_t cut = i == 1 ? 20 : 0;

        begin(&s);
        text[MAX + 1] = i == 2 ? 'x' : '\n';
        CU_ASSERT_EQUAL(feed(&s, text, cut), 0);
        CU_ASSERT_EQUAL(feed(&s, text + cut, MAX + 2 - cut), -1);
        CU_ASSERT_EQUAL(w.events, 0);
        sse_fini(&s);
    }
    begin(&s); /* lines that fit, of an event that does not */
    for (i = 0; i < 6; i++)
        CU_ASSERT_EQUAL(feed(&s, "data: 123456789\n", 16), 0);
    CU_ASSERT_EQUAL(feed(&s, "data: 12345\n", 12), -1);
    sse_fini(&s);
    begin(&s); /* what was said before is not kept */
    for (i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(feed(&s, "data: 123456789\n\n: 123456789 123456789\n", 39), 0);
    CU_ASSERT_EQUAL(w.events, 100);
    sse_fini(&s);
}

static struct sse *own;

static bool free_it(void *arg, const char *data, size_t n)
{
    (void)data;
    (void)n;
    w.events++;
    sse_fini(own);
    free(own);
    own = NULL;
    return *(bool *)arg;
}

static void stops_when_told(void)
{
    static const char text[] = "data: a\n\ndata: b\n\ndata: c\n\n";
    bool go_on = false;
    struct sse s;

    begin(&s);
    w.stop_after = 2;
    CU_ASSERT_EQUAL(feed(&s, text, sizeof(text) - 1), 0);
    check("a|b|", 4);
    w.stop_after = 0;
    sse_fini(&s);
    begin(&s);
    sse_fini(&s);
    own = mem_alloc(sizeof(*own)); /* who stops may free the reader */
    sse_init(own, MAX);
    CU_ASSERT_EQUAL(sse_read(own, "data: ", 6, free_it, &go_on), 0);
    CU_ASSERT_EQUAL(sse_read(own, "a\n\ndata: b\n\n", 12, free_it, &go_on), 0);
    CU_ASSERT_EQUAL(w.events, 1);
    CU_ASSERT_PTR_NULL(own);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"events", events},
        {"line ends", line_ends},
        {"several lines of data", several_lines},
        {"what is passed over", what_is_passed_over},
        {"byte order marks", byte_order_marks},
        {"what breaks off", what_breaks_off},
        {"bytes of all kinds", bytes_of_all_kinds},
        {"bounds", bounds},
        {"stops when told", stops_when_told},
        CU_TEST_INFO_NULL,
    };
    int failed = unit_main("sse", tests);

    buf_free(&w.got);
    return failed;
}
