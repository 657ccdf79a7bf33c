/* What servers with OpenAI's interface say, in all the shapes that are known of them. */
#include "workers/inference/completion.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct completion c;

/* In memory of exactly its size, so that a sanitizer sees each byte too many. */
static int read_bytes(const char *text, size_t n)
{
    char *copy = malloc(n ? n : 1);
    int failed;

    memcpy(copy, text, n);
    completion_fini(&c);
    failed = completion_read(&c, copy, n);
    free(copy);
    return failed;
}

static void reads(const char *text)
{
    CU_ASSERT_EQUAL_FATAL(read_bytes(text, strlen(text)), 0);
}

static void has_text(const char *want, size_t n)
{
    CU_ASSERT_PTR_NOT_NULL_FATAL(c.text);
    CU_ASSERT_EQUAL(c.text_len, n);
    CU_ASSERT_EQUAL(memcmp(c.text, want, n + 1), 0);
}

static void says(const char *want)
{
    has_text(want, strlen(want));
}

static void fails(int status, const char *words)
{
    CU_ASSERT_TRUE(c.failed);
    CU_ASSERT_EQUAL(c.error_status, status);
    if (words) {
        CU_ASSERT_PTR_NOT_NULL_FATAL(c.error);
        CU_ASSERT_STRING_EQUAL(c.error, words);
    } else {
        CU_ASSERT_PTR_NULL(c.error);
    }
}

static void whole_answers(void)
{
    reads("{\"id\":\"gen-1\",\"model\":\"m\",\"choices\":[{\"message\":{\"role\":\"assistant\","
          "\"content\":\"hello\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,"
          "\"completion_tokens\":4,\"total_tokens\":7,\"cost\":0.25}}");
    says("hello");
    CU_ASSERT_STRING_EQUAL(c.id, "gen-1");
    CU_ASSERT_STRING_EQUAL(c.model, "m");
    CU_ASSERT_STRING_EQUAL(c.finish_reason, "stop");
    CU_ASSERT_EQUAL(c.choices, 1);
    CU_ASSERT_TRUE(c.has_usage);
    CU_ASSERT_EQUAL(c.prompt_tokens, 3);
    CU_ASSERT_EQUAL(c.completion_tokens, 4);
    CU_ASSERT_EQUAL(c.total_tokens, 7);
    CU_ASSERT_EQUAL(c.cost, 0.25);
    CU_ASSERT_FALSE(c.failed);
    reads("\n \n {\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"a \"},"
          "{\"type\":\"image\"},7,{\"text\":\"b\"}]}},{\"message\":{\"content\":\"second\"}}]}");
    says("a b");
    reads("{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"no\"}}]}");
    says("no");
}

static void chunks(void)
{
    reads("{\"choices\":[{\"delta\":{\"content\":\" w\"},\"finish_reason\":null}],\"usage\":null,"
          "\"error\":null}");
    says(" w");
    CU_ASSERT_PTR_NULL(c.finish_reason);
    CU_ASSERT_FALSE(c.has_usage);
    CU_ASSERT_FALSE(c.failed);
    reads("{\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}");
    CU_ASSERT_PTR_NULL(c.text);
    CU_ASSERT_STRING_EQUAL(c.finish_reason, "length");
    reads("{\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}");
    CU_ASSERT_EQUAL(c.choices, 0);
    CU_ASSERT_TRUE(c.has_usage);
    CU_ASSERT_EQUAL(c.total_tokens, 0);
    reads("{\"choices\":[{\"delta\":{\"reasoning\":\"hm\",\"content\":\"\"}}]}");
    CU_ASSERT_TRUE(c.thinks);
    CU_ASSERT_PTR_NULL(c.text);
    reads("{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":null}}]}");
    CU_ASSERT_TRUE(c.thinks);
    reads("{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"reasoning\":null}}]}");
    CU_ASSERT_FALSE(c.thinks);
}

static void errors(void)
{
    reads("{\"error\":{\"code\":429,\"message\":\"slow\"}}");
    fails(429, "slow");
    reads("{\"error\":{\"code\":\"503\",\"message\":\"\"}}");
    fails(503, NULL);
    reads("{\"error\":{\"code\":\"rate_limit_exceeded\"}}");
    fails(429, NULL);
    reads("{\"error\":{\"message\":\"m\",\"metadata\":{\"error_type\":\"provider_overloaded\"}}}");
    fails(503, "m");
    reads("{\"error\":{\"code\":null,\"type\":\"exceed_context_size_error\"}}");
    fails(400, NULL);
    reads("{\"error\":{\"code\":7,\"type\":\"who knows\"}}");
    fails(0, NULL);
    reads("{\"error\":{\"code\":429,\"metadata\":{\"headers\":{\"X-RateLimit-Remaining\":\"0\","
          "\"X-RateLimit-Reset\":\"1741305600000\"}}}}");
    CU_ASSERT_STRING_EQUAL(c.limit_left, "0");
    CU_ASSERT_STRING_EQUAL(c.limit_reset, "1741305600000");
    reads("{\"error\":{\"code\":429,\"metadata\":{\"headers\":[]}}}");
    CU_ASSERT_PTR_NULL(c.limit_left);
    reads("{\"error\":\"just words\"}");
    fails(0, "just words");
    reads("{\"choices\":[{\"error\":{\"code\":502,\"message\":\"broke\"}}]}");
    fails(502, "broke");
    reads("{\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}");
    fails(0, NULL);
    reads("{\"object\":\"error\",\"message\":\"no such model\",\"code\":404}");
    CU_ASSERT_FALSE(c.failed);
    CU_ASSERT_STRING_EQUAL(c.error, "no such model");
    reads("{\"detail\":\"Not Found\"}");
    CU_ASSERT_STRING_EQUAL(c.error, "Not Found");
}

static void odd_types(void)
{
    static const char *const texts[] = {
        "{}",
        "{\"choices\":7,\"usage\":\"much\",\"id\":1,\"model\":null}",
        "{\"choices\":[]}",
        "{\"choices\":[null]}",
        "{\"choices\":[[]]}",
        "{\"choices\":[{}]}",
        "{\"choices\":[{\"message\":\"hello\"}]}",
        "{\"choices\":[{\"message\":{\"content\":7},\"finish_reason\":7}]}",
        "{\"choices\":[{\"message\":{\"content\":{\"text\":\"x\"}}}]}",
        "{\"choices\":[{\"message\":{\"content\":[1,null,{\"text\":2}]}}]}",
        "{\"usage\":{\"prompt_tokens\":\"3\",\"completion_tokens\":4}}",
    };
    size_t i;

    for (i = 0; i < COUNT(texts); i++) {
        reads(texts[i]);
        CU_ASSERT_PTR_NULL(c.text);
        CU_ASSERT_PTR_NULL(c.finish_reason);
        CU_ASSERT_PTR_NULL(c.model);
        CU_ASSERT_FALSE(c.has_usage);
        CU_ASSERT_FALSE(c.failed);
    }
    reads("{\"usage\":{\"prompt_tokens\":-5,\"completion_tokens\":1e300,\"total_tokens\":2.9,"
          "\"cost\":-1}}");
    CU_ASSERT_FALSE(c.has_usage);
    CU_ASSERT_FALSE(c.has_cost);
    CU_ASSERT_EQUAL(c.prompt_tokens, 0);
    CU_ASSERT_EQUAL(c.completion_tokens, 1000000000);
    CU_ASSERT_EQUAL(c.total_tokens, 2);
    CU_ASSERT_EQUAL(c.cost, 0);
}

/* Nor may they take the text away. */
static void numbers_that_are_none(void)
{
    static const char *const costs[] = {
        "NaN",  "-Infinity", "1e400", "1e12", "\"abc\"", "-1",  "{}",
        "None", "0x1f",      "1.2.3", "-",    "+1",      "nan", "01",
    };
    size_t i;
    char text[300];

    for (i = 0; i < sizeof(costs) / sizeof(costs[0]); i++) {
        snprintf(text, sizeof(text),
                 "{\"choices\":[{\"message\":{\"content\":\"NaN \\\" 1e400 x\"}}],\"usage\":"
                 "{\"prompt_tokens\":3,\"completion_tokens\":4,\"cost\":%s}}",
                 costs[i]);
        reads(text);
        CU_ASSERT_STRING_EQUAL(c.text, "NaN \" 1e400 x");
        CU_ASSERT_TRUE(c.has_usage);
        CU_ASSERT_FALSE(c.has_cost);
        CU_ASSERT_EQUAL(c.cost, 0);
    }
    reads("{\"usage\":{\"prompt_tokens\":99999999999999999999999,\"completion_tokens\":4}}");
    CU_ASSERT_FALSE(c.has_usage);
}

static void no_objects(void)
{
    static const char *const texts[] = {"",        " ",      "[]",  "null",          "\"text\"",
                                        "{",       "{}{}",   "{x}", "<html></html>", "[DONE]",
                                        "{\"a\":", "{\"a\\", "\\",  "\\u",           "\xff"};
    size_t i;

    for (i = 0; i < COUNT(texts); i++) {
        CU_ASSERT_EQUAL(read_bytes(texts[i], strlen(texts[i])), -1);
        CU_ASSERT_PTR_NULL(c.json);
    }
}

#define ANSWER(text) "{\"choices\":[{\"message\":{\"content\":\"" text "\"}}]}"

static void text_that_is_none(void)
{
    static const char with_nul[] = ANSWER("a\\u0000b");
    static const struct {
        const char *said, *means;
    } cases[] = {
        {ANSWER("a\xff"
                "b"),
         "a\xef\xbf\xbd"
         "b"},
        {ANSWER("\xe2\x82"), "\xef\xbf\xbd\xef\xbf\xbd"},                 /* cut off */
        {ANSWER("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate in UTF-8 */
        {ANSWER("\\ud83d"), "\xef\xbf\xbd"},
        {ANSWER("\\ude00!"), "\xef\xbf\xbd!"},
        {ANSWER("\\ud83dx\\ude80"), "\xef\xbf\xbdx\xef\xbf\xbd"},
        {ANSWER("\\ud83d\\ud83d\\ude80"), "\xef\xbf\xbd\xf0\x9f\x9a\x80"},
        {ANSWER("\\ud83d\\ude80 \\uD800 \\u00e9 \\\\ud83d \\\" \\n"),
         "\xf0\x9f\x9a\x80 \xef\xbf\xbd \xc3\xa9 \\ud83d \" \n"},
        {ANSWER("\xe2\x82\xac \xf0\x9f\x9a\x80 \xff"),
         "\xe2\x82\xac \xf0\x9f\x9a\x80 \xef\xbf\xbd"},
    };
    size_t i;

    for (i = 0; i < COUNT(cases); i++) {
        reads(cases[i].said);
        says(cases[i].means);
    }
    reads(with_nul);
    has_text("a\0b", 3);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"whole answers", whole_answers},
        {"chunks of a stream", chunks},
        {"errors", errors},
        {"fields of other types", odd_types},
        {"numbers that are none", numbers_that_are_none},
        {"what is no object", no_objects},
        {"text that is none", text_that_is_none},
        CU_TEST_INFO_NULL,
    };
    int failed = unit_main("completion", tests);

    completion_fini(&c);
    return failed;
}
