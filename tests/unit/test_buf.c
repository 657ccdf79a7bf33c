#include "common/base/buf.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tests/unit/unit.h"

static void grows_to_its_maximum(void)
{
    struct buf b;
    size_t i;

    buf_init(&b, 1000);
    CU_ASSERT_PTR_NULL(b.data);
    for (i = 0; i < 1000; i++) {
        CU_ASSERT_EQUAL(buf_add(&b, &"0123456789"[i % 10], 1), 0);
        CU_ASSERT_EQUAL(b.data[b.len], '\0');
    }
    CU_ASSERT_EQUAL(b.len, 1000);
    CU_ASSERT_EQUAL(buf_add(&b, "x", 1), -1);
    CU_ASSERT_EQUAL(buf_puts(&b, "x"), -1);
    CU_ASSERT_EQUAL(buf_printf(&b, "x"), -1);
    CU_ASSERT_EQUAL(buf_json_string(&b, ""), -1);
    CU_ASSERT_EQUAL(buf_add(&b, "", 0), 0); /* nothing always fits */
    CU_ASSERT_EQUAL(b.len, 1000);
    CU_ASSERT_EQUAL(strlen(b.data), 1000);
    CU_ASSERT_EQUAL(b.data[999], '9');
    CU_ASSERT(b.cap <= b.max + 1);
    buf_free(&b);
    CU_ASSERT_PTR_NULL(b.data);
    CU_ASSERT_EQUAL(b.max, 1000);
    CU_ASSERT_EQUAL(buf_puts(&b, "again"), 0);
    buf_free(&b);
}

static void fails_without_a_change(void)
{
    struct buf b;

    buf_init(&b, 10);
    CU_ASSERT_EQUAL(buf_puts(&b, "12345"), 0);
    CU_ASSERT_EQUAL(buf_puts(&b, "678901"), -1);
    CU_ASSERT_EQUAL(buf_printf(&b, "%s", "678901"), -1);
    CU_ASSERT_EQUAL(buf_add(&b, "", (size_t)-1), -1); /* no sum overflows */
    CU_ASSERT_EQUAL(buf_json_string(&b, "6789"), -1);
    CU_ASSERT_STRING_EQUAL(b.data, "12345");
    CU_ASSERT_EQUAL(b.len, 5);
    CU_ASSERT_EQUAL(buf_json_string(&b, "678"), 0);
    CU_ASSERT_STRING_EQUAL(b.data, "12345\"678\"");
    buf_free(&b);
    buf_init(&b, 0);
    CU_ASSERT_EQUAL(buf_puts(&b, ""), 0);
    CU_ASSERT_EQUAL(buf_puts(&b, "1"), -1);
    buf_free(&b);
}

static void clears_and_keeps_memory(void)
{
    struct buf b;
    char *data;

    buf_init(&b, 100);
    buf_clear(&b); /* before the first append too */
    buf_puts(&b, "text");
    data = b.data;
    buf_clear(&b);
    CU_ASSERT_EQUAL(b.len, 0);
    CU_ASSERT_STRING_EQUAL(b.data, "");
    CU_ASSERT_PTR_EQUAL(b.data, data);
    buf_free(&b);
}

static void prints(void)
{
    struct buf b;

    buf_init(&b, 300);
    CU_ASSERT_EQUAL(buf_printf(&b, "%s %d", "a", 1), 0);
    CU_ASSERT_EQUAL(buf_printf(&b, "%0297d", 2), 0); /* to the last byte */
    CU_ASSERT_EQUAL(b.len, 300);
    CU_ASSERT_EQUAL(b.data[299], '2');
    CU_ASSERT_EQUAL(strncmp(b.data, "a 1000", 6), 0);
    buf_free(&b);
}

/* Parsed by another library the string is what it was, with U+FFFD for each byte that is none. */
static void quotes(const char *text, const char *expected)
{
    struct buf b;
    json_t *parsed;

    buf_init(&b, 10000);
    CU_ASSERT_EQUAL(buf_json_string(&b, text), 0);
    parsed = json_loads(b.data, JSON_DECODE_ANY, NULL);
    CU_ASSERT_PTR_NOT_NULL(parsed);
    if (parsed)
        CU_ASSERT_STRING_EQUAL(json_string_value(parsed), expected);
    json_decref(parsed);
    buf_free(&b);
}

#define BAD "\xef\xbf\xbd"

static void makes_json_strings(void)
{
    char every[256];
    int i;

    for (i = 1; i < 128; i++)
        every[i - 1] = (char)i;
    every[127] = '\0';
    quotes(every, every);
    quotes("", "");
    quotes("\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80");
    quotes("\xff\xfe", BAD BAD);
    quotes("a\xc3", "a" BAD); /* cut in the middle, at the end */
    quotes("\xe2\x82", BAD BAD);
    quotes("\xc3(", BAD "(");
    quotes("\xc0\xaf", BAD BAD);                      /* overlong */
    quotes("\xed\xa0\x80", BAD BAD BAD);              /* a surrogate */
    quotes("\xf4\x90\x80\x80", BAD BAD BAD BAD);      /* past the end */
    quotes("\"},{\"level\":\"", "\"},{\"level\":\""); /* an escape from its quotes */
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"grows to its maximum", grows_to_its_maximum},
        {"fails without a change", fails_without_a_change},
        {"clear keeps the memory", clears_and_keeps_memory},
        {"printf", prints},
        {"JSON strings", makes_json_strings},
        CU_TEST_INFO_NULL,
    };

    return unit_main("buf", tests);
}
