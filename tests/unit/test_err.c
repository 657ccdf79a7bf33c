#include "common/base/err.h"

#include <string.h>

#include "tests/unit/unit.h"

static void sets_all_of_it(void)
{
    struct err e;

    memset(&e, 0x55, sizeof(e));
    CU_ASSERT_EQUAL(err_set(&e, ERR_REJECT, 404, "no %s %d", "conversation", 7), -1);
    CU_ASSERT_EQUAL(e.kind, ERR_REJECT);
    CU_ASSERT_EQUAL(e.status, 404);
    CU_ASSERT_STRING_EQUAL(e.text, "no conversation 7");
}

static void takes_nobody_who_listens(void)
{
    CU_ASSERT_EQUAL(err_set(NULL, ERR_RETRY, 503, "unheard"), -1);
    CU_ASSERT_EQUAL(err_context(NULL, "unheard"), -1);
}

static void cuts_long_text(void)
{
    char word[400];
    struct err e;

    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    err_set(&e, ERR_FATAL, 500, "%s", word);
    CU_ASSERT_EQUAL(strlen(e.text), sizeof(e.text) - 1);
    CU_ASSERT_EQUAL(strncmp(e.text, word, sizeof(e.text) - 1), 0);
    err_context(&e, "%.100s", word);
    CU_ASSERT_EQUAL(strlen(e.text), sizeof(e.text) - 1);
    CU_ASSERT_EQUAL(strncmp(e.text + 100, ": xxx", 5), 0);
    err_context(&e, "%s", word);
    CU_ASSERT_EQUAL(strlen(e.text), sizeof(e.text) - 1);
}

static void context_goes_before(void)
{
    struct err e;

    err_set(&e, ERR_RETRY, 503, "refused");
    CU_ASSERT_EQUAL(err_context(&e, "host %s", "a"), -1);
    CU_ASSERT_STRING_EQUAL(e.text, "host a: refused");
    CU_ASSERT_EQUAL(err_context(&e, "turn %d", 3), -1);
    CU_ASSERT_STRING_EQUAL(e.text, "turn 3: host a: refused");
    CU_ASSERT_EQUAL(e.kind, ERR_RETRY);
    CU_ASSERT_EQUAL(e.status, 503);
}

/* What others say ends up in texts: a broker's reason, a wrong setting. It stays one line. */
static void is_one_line(void)
{
    struct err e;

    err_set(&e, ERR_FATAL, 500, "%s", "one\ntwo\r\nthree\tfour\x1b[31m\x7f");
    CU_ASSERT_STRING_EQUAL(e.text, "one two  three four [31m ");
    err_context(&e, "%s", "zero\n");
    CU_ASSERT_STRING_EQUAL(e.text, "zero : one two  three four [31m ");
    err_set(&e, ERR_FATAL, 500, "%s",
            "Gr\xc3\xbc\xc3\x9f"
            "e");
    CU_ASSERT_STRING_EQUAL(e.text, "Gr\xc3\xbc\xc3\x9f"
                                   "e");
}

static void kinds_have_names(void)
{
    CU_ASSERT_STRING_EQUAL(err_kind_name(ERR_RETRY), "retry");
    CU_ASSERT_STRING_EQUAL(err_kind_name(ERR_REJECT), "reject");
    CU_ASSERT_STRING_EQUAL(err_kind_name(ERR_FATAL), "fatal");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"sets kind, status and text", sets_all_of_it},
        {"NULL is allowed", takes_nobody_who_listens},
        {"long texts are cut", cuts_long_text},
        {"context goes before the text", context_goes_before},
        {"a text is one line", is_one_line},
        {"kinds have names", kinds_have_names},
        CU_TEST_INFO_NULL,
    };

    return unit_main("err", tests);
}
