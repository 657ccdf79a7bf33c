#include "common/chat/problem.h"

#include "tests/unit/unit.h"

static const char *text_of(const json_t *p, const char *name)
{
    const char *text = json_string_value(json_object_get(p, name));

    return text ? text : "(none)";
}

static void shape(void)
{
    json_t *errors = json_pack("[{s:s, s:s}]", "field", "a", "message", "is required");
    json_t *p = problem_new(404, "there is nothing here", "c-1", errors);

    CU_ASSERT_EQUAL(json_object_size(p), 7);
    CU_ASSERT_STRING_EQUAL(text_of(p, "type"), "about:blank");
    CU_ASSERT_STRING_EQUAL(text_of(p, "title"), "Not Found");
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(p, "status")), 404);
    CU_ASSERT_STRING_EQUAL(text_of(p, "detail"), "there is nothing here");
    CU_ASSERT_STRING_EQUAL(text_of(p, "instance"), "c-1");
    CU_ASSERT_PTR_EQUAL(json_object_get(p, "errors"), errors);
    CU_ASSERT_STRING_EQUAL(text_of(p, "error"), "Not Found");
    json_decref(p);
    json_decref(errors);
}

static void what_is_not_there_is_left_out(void)
{
    json_t *p = problem_new(500, "", NULL, NULL);

    CU_ASSERT_EQUAL(json_object_size(p), 5);
    CU_ASSERT_PTR_NULL(json_object_get(p, "instance"));
    CU_ASSERT_PTR_NULL(json_object_get(p, "errors"));
    CU_ASSERT_STRING_EQUAL(text_of(p, "detail"), "");
    json_decref(p);
}

/* The caller's array is the caller's still, before and after the problem's end. */
static void errors_are_borrowed(void)
{
    json_t *errors = json_array(), *p;

    p = problem_new(400, "x", NULL, errors);
    CU_ASSERT_EQUAL(errors->refcount, 2);
    json_decref(p);
    CU_ASSERT_EQUAL(errors->refcount, 1);
    CU_ASSERT_EQUAL(json_array_append_new(errors, json_null()), 0);
    json_decref(errors);
}

/* Details quote what came from outside, and correlation ids do come from there. */
static void broken_text_is_mended(void)
{
    const char detail[] = "no operation \xff\xc3 is here, \xe2\x82\xac is, cut\xe2\x82";
    json_t *p = problem_new(400, detail, "c-\xfe", NULL);

    CU_ASSERT_STRING_EQUAL(text_of(p, "detail"), "no operation ?? is here, \xe2\x82\xac is, cut??");
    CU_ASSERT_STRING_EQUAL(text_of(p, "instance"), "c-?");
    CU_ASSERT_EQUAL((unsigned char)detail[13], 0xff); /* in a copy */
    json_decref(p);
}

static void titles(void)
{
    CU_ASSERT_STRING_EQUAL(problem_title(400), "Bad Request");
    CU_ASSERT_STRING_EQUAL(problem_title(413), "Content Too Large");
    CU_ASSERT_STRING_EQUAL(problem_title(503), "Service Unavailable");
    CU_ASSERT_STRING_EQUAL(problem_title(505), "HTTP Version Not Supported");
    /* The class of a status speaks for one that has no row. */
    CU_ASSERT_STRING_EQUAL(problem_title(418), "Bad Request");
    CU_ASSERT_STRING_EQUAL(problem_title(499), "Bad Request");
    CU_ASSERT_STRING_EQUAL(problem_title(599), "Internal Server Error");
}

static void page(void)
{
    struct buf out;
    json_t *p;

    buf_init(&out, 4096);
    CU_ASSERT_STRING_EQUAL(problem_page(501, "no \"such\" method \xff", &out), PROBLEM_TYPE);
    CU_ASSERT_STRING_EQUAL(PROBLEM_TYPE, "application/problem+json");
    p = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(p, "status")), 501);
    CU_ASSERT_STRING_EQUAL(text_of(p, "detail"), "no \"such\" method ?");
    CU_ASSERT_PTR_NULL(json_object_get(p, "instance"));
    json_decref(p);
    buf_free(&out);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"shape", shape},
        {"what is not there is left out", what_is_not_there_is_left_out},
        {"errors are borrowed", errors_are_borrowed},
        {"broken text is mended", broken_text_is_mended},
        {"titles", titles},
        {"page", page},
        CU_TEST_INFO_NULL,
    };

    return unit_main("problem", tests);
}
