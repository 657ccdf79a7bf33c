#include "common/base/text.h"

#include <string.h>

#include "tests/unit/unit.h"

/* Is it well-formed? By table 3-7 of the Unicode standard, which is not how text.c does it. */
static size_t by_the_table(const unsigned char *p, size_t n)
{
    static const struct {
        unsigned char first, last, low, high; /* bounds of the second byte */
        size_t length;
    } rows[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    size_t i, k;

    if (n > 0 && p[0] < 0x80)
        return 1;
    for (i = 0; i < COUNT(rows); i++) {
        if (n < rows[i].length || p[0] < rows[i].first || p[0] > rows[i].last)
            continue;
        if (p[1] < rows[i].low || p[1] > rows[i].high)
            return 0;
        for (k = 2; k < rows[i].length; k++)
            if (p[k] < 0x80 || p[k] > 0xbf)
                return 0;
        return rows[i].length;
    }
    return 0;
}

/* Every first and second byte, with the third and fourth at and around their bounds. */
static void every_character(void)
{
    static const unsigned char edges[] = {0x00, 0x41, 0x7f, 0x80, 0x81, 0xbe, 0xbf, 0xc0, 0xff};
    unsigned long wrong = 0, good = 0;
    unsigned first, second;
    size_t i, k, n;

    for (first = 0; first < 256; first++) {
        for (second = 0; second < 256; second++) {
            for (i = 0; i < COUNT(edges); i++) {
                for (k = 0; k < COUNT(edges); k++) {
                    const unsigned char p[4] = {(unsigned char)first, (unsigned char)second,
                                                edges[i], edges[k]};

                    for (n = 0; n <= 4; n++) {
                        size_t expected = by_the_table(p, n);

                        good += expected > 0;
                        wrong += text_utf8_char((const char *)p, n) != expected;
                    }
                }
            }
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT(good > 1000000);
}

static void boundaries(void)
{
    static const struct {
        const char *bytes;
        size_t n, expected;
    } rows[] = {
        {"\x00", 1, 1},
        {"\x7f", 1, 1},
        {"\xc2\x80", 2, 2},
        {"\xdf\xbf", 2, 2},
        {"\xe0\xa0\x80", 3, 3},
        {"\xed\x9f\xbf", 3, 3},
        {"\xee\x80\x80", 3, 3},
        {"\xef\xbf\xbf", 3, 3},
        {"\xf0\x90\x80\x80", 4, 4},
        {"\xf4\x8f\xbf\xbf", 4, 4},
        {"\x80", 1, 0},
        {"\xbf", 1, 0},
        {"\xc0\x80", 2, 0},
        {"\xc1\xbf", 2, 0}, /* overlong */
        {"\xe0\x9f\xbf", 3, 0},
        {"\xf0\x8f\xbf\xbf", 4, 0},
        {"\xed\xa0\x80", 3, 0},
        {"\xed\xbf\xbf", 3, 0}, /* surrogates */
        {"\xf4\x90\x80\x80", 4, 0},
        {"\xf5\x80\x80\x80", 4, 0},
        {"\xff", 1, 0},
        {"\xc2", 1, 0},
        {"\xe2\x82", 2, 0},
        {"\xf0\x9f\x98", 3, 0}, /* cut */
    };
    size_t i;

    for (i = 0; i < COUNT(rows); i++)
        CU_ASSERT_EQUAL(text_utf8_char(rows[i].bytes, rows[i].n), rows[i].expected);
    CU_ASSERT_EQUAL(text_utf8_char("a", 0), 0);
}

static void lengths(void)
{
    CU_ASSERT_EQUAL(text_utf8_length("", 0), 0);
    CU_ASSERT_EQUAL(text_utf8_length("abc", 3), 3);
    CU_ASSERT_EQUAL(text_utf8_length("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", 10), 4);
    CU_ASSERT_EQUAL(text_utf8_length("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", 9), -1);
    CU_ASSERT_EQUAL(text_utf8_length("ab\xff", 3), -1);
    CU_ASSERT_EQUAL(text_utf8_length("a\0b", 3), 3);
}

static void prefixes(void)
{
    CU_ASSERT_TRUE(text_starts_with("message.send", "message."));
    CU_ASSERT_TRUE(text_starts_with("message", "message"));
    CU_ASSERT_TRUE(text_starts_with("", ""));
    CU_ASSERT_FALSE(text_starts_with("mess", "message"));
    CU_ASSERT_FALSE(text_starts_with("Message", "message"));
}

static void lists(void)
{
    char text[] = " one,two words ,, \t ,\tthree\n,", only[] = ", ,", empty[] = "";
    char *list = text;

    CU_ASSERT_STRING_EQUAL(text_next_item(&list), "one");
    CU_ASSERT_STRING_EQUAL(text_next_item(&list), "two words");
    CU_ASSERT_STRING_EQUAL(text_next_item(&list), "three");
    CU_ASSERT_PTR_NULL(text_next_item(&list));
    CU_ASSERT_PTR_NULL(text_next_item(&list));
    list = only;
    CU_ASSERT_PTR_NULL(text_next_item(&list));
    list = empty;
    CU_ASSERT_PTR_NULL(text_next_item(&list));
    list = NULL;
    CU_ASSERT_PTR_NULL(text_next_item(&list));
}

static void items_of_lists(void)
{
    static const char list[] = " one,two words ,, \t ,\tthree\n,";

    CU_ASSERT_TRUE(text_is_listed(list, "one"));
    CU_ASSERT_TRUE(text_is_listed(list, "two words"));
    CU_ASSERT_TRUE(text_is_listed(list, "three"));
    CU_ASSERT_TRUE(text_is_listed("one", "one"));
    CU_ASSERT_FALSE(text_is_listed(list, "two"));
    CU_ASSERT_FALSE(text_is_listed(list, "words"));
    CU_ASSERT_FALSE(text_is_listed(list, "thre"));
    CU_ASSERT_FALSE(text_is_listed(list, "one,two words"));
    CU_ASSERT_FALSE(text_is_listed(list, ""));
    CU_ASSERT_FALSE(text_is_listed("", "one"));
    CU_ASSERT_FALSE(text_is_listed("", ""));
    CU_ASSERT_FALSE(text_is_listed(" \t", "one"));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"UTF-8: as the table of the standard", every_character},
        {"UTF-8: boundaries, overlong forms, surrogates", boundaries},
        {"UTF-8: characters of a text", lengths},
        {"prefixes", prefixes},
        {"lists", lists},
        {"what is in a list", items_of_lists},
        CU_TEST_INFO_NULL,
    };

    return unit_main("text", tests);
}
