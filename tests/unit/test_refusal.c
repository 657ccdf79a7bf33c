/* What a refusal of a model's server means for a turn, and what is told of it. */
#include "workers/inference/refusal.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

static const char key[] = "sk-or-v1-0123456789";
static struct err e;

static void kinds(void)
{
    static const struct {
        int status;
        enum err_kind kind;
        int told;
        enum blame blame;
    } cases[] = {
        {400, ERR_FATAL, 502, BLAME_MODEL},   {401, ERR_FATAL, 502, BLAME_ACCOUNT},
        {402, ERR_FATAL, 502, BLAME_MODEL},   {403, ERR_FATAL, 502, BLAME_MODEL},
        {404, ERR_FATAL, 502, BLAME_MODEL},   {408, ERR_FATAL, 504, BLAME_SERVICE},
        {413, ERR_FATAL, 502, BLAME_MODEL},   {422, ERR_FATAL, 502, BLAME_MODEL},
        {429, ERR_RETRY, 503, BLAME_SERVICE}, {500, ERR_RETRY, 502, BLAME_SERVICE},
        {502, ERR_RETRY, 502, BLAME_SERVICE}, {503, ERR_RETRY, 503, BLAME_SERVICE},
        {504, ERR_FATAL, 504, BLAME_SERVICE}, {524, ERR_FATAL, 504, BLAME_SERVICE},
        {529, ERR_RETRY, 503, BLAME_SERVICE}, {599, ERR_RETRY, 502, BLAME_SERVICE},
        {302, ERR_FATAL, 502, BLAME_MODEL},   {204, ERR_FATAL, 502, BLAME_MODEL},
    };
    char code[8];
    size_t i;

    for (i = 0; i < COUNT(cases); i++) {
        CU_ASSERT_EQUAL(refusal_explain(cases[i].status, NULL, key, &e), cases[i].blame);
        CU_ASSERT_EQUAL(e.kind, cases[i].kind);
        CU_ASSERT_EQUAL(e.status, cases[i].told);
        snprintf(code, sizeof(code), "(%d)", cases[i].status);
        CU_ASSERT_STRING_EQUAL(e.text + strlen(e.text) - strlen(code), code);
    }
}

static void words(void)
{
    char text[1000];

    refusal_explain(400, "too many\r\ntokens\x7f", key, &e);
    CU_ASSERT_STRING_EQUAL(e.text,
                           "the model's server refused the request (400): too many  tokens ");
    refusal_explain(429, "", "", &e);
    CU_ASSERT_STRING_EQUAL(e.text, "the model takes no more requests for now (429)");
    memset(text, 'x', sizeof(text));
    memcpy(text + 118, "\xe2\x82\xac", 3); /* cut in the middle of a character */
    text[sizeof(text) - 1] = '\0';
    refusal_explain(400, text, key, &e);
    CU_ASSERT_TRUE(strlen(e.text) < 200);
    CU_ASSERT_STRING_EQUAL(e.text + strlen(e.text) - 3, "x??");
}

static void the_key_is_not_shown(void)
{
    char text[1000];

    refusal_explain(400, "your key sk-or-v1-0123456789 is odd", key, &e);
    CU_ASSERT_STRING_EQUAL(e.text, "the model's server refused the request (400)");
    refusal_explain(401, "Incorrect API key provided: sk-or-***6789", key, &e);
    CU_ASSERT_STRING_EQUAL(e.text, "the model's server does not accept our key (401)");
    refusal_explain(403, "sk-or-***6789", key, &e);
    CU_ASSERT_PTR_NULL(strstr(e.text, "6789"));
    memset(text, 'x', sizeof(text)); /* so that the cut goes through the key */
    memcpy(text + 110, key, sizeof(key));
    refusal_explain(500, text, key, &e);
    CU_ASSERT_PTR_NULL(strstr(e.text, "sk-or"));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"kinds", kinds},
        {"the server's words", words},
        {"the key is not shown", the_key_is_not_shown},
        CU_TEST_INFO_NULL,
    };

    return unit_main("refusal", tests);
}
