#include "common/chat/validate.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "tests/unit/unit.h"

/* ---- the parser ---- */

static json_t *parse(const char *text, size_t n, struct err *e)
{
    memset(e, 0, sizeof(*e));
    return validate_parse(text, n, e);
}

/* Is it refused with a 400 that says so? */
static bool refused(const char *text, size_t n, const char *why)
{
    struct err e;
    json_t *root = parse(text, n, &e);
    bool as_wanted = !root && e.kind == ERR_REJECT && e.status == 400 && strstr(e.text, why);

    if (!as_wanted)
        fprintf(stderr, "\n%.60s: %s (wanted: %s)", text, root ? "taken" : e.text, why);
    json_decref(root);
    return as_wanted;
}

static bool taken(const char *text, size_t n)
{
    struct err e;
    json_t *root = parse(text, n, &e);
    bool is_object = json_is_object(root);

    if (!is_object)
        fprintf(stderr, "\n%.60s: %s", text, e.text);
    json_decref(root);
    return is_object;
}

#define REFUSED(text, why) CU_ASSERT_TRUE(refused(text, sizeof(text) - 1, why))
#define TAKEN(text)        CU_ASSERT_TRUE(taken(text, sizeof(text) - 1))

static void parses_an_object(void)
{
    static const char text[] = "{\"a\": [1, \"\xc3\xbc\"]}, not ours";
    struct err e;
    json_t *root = parse(text, strcspn(text, ",") + 8, &e); /* no NUL behind it */

    CU_ASSERT_PTR_NOT_NULL_FATAL(root);
    CU_ASSERT_EQUAL(json_object_size(root), 1);
    CU_ASSERT_STRING_EQUAL(json_string_value(json_array_get(json_object_get(root, "a"), 1)),
                           "\xc3\xbc");
    json_decref(root);
    TAKEN("{}");
    TAKEN(" \r\n\t{ } ");
}

static void refuses_what_is_no_object(void)
{
    REFUSED("", "not valid JSON");
    REFUSED("   ", "not valid JSON");
    REFUSED("[]", "must be a JSON object");
    REFUSED("[{}]", "must be a JSON object");
    REFUSED("null", "not valid JSON"); /* only arrays and objects are read as a whole text */
    REFUSED("\"text\"", "not valid JSON");
    REFUSED("1", "not valid JSON");
    REFUSED("{", "not valid JSON");
    REFUSED("{\"a\":1,}", "not valid JSON");
    REFUSED("{\"a\":1} x", "not valid JSON");
    REFUSED("{} {}", "not valid JSON");
    REFUSED("{'a':1}", "not valid JSON");
    REFUSED("{\"a\":1", "not valid JSON");
    REFUSED("{\"a\":NaN}", "not valid JSON");
    REFUSED("{\"a\":9223372036854775808}", "not valid JSON");
    REFUSED("{\"a\":\"a\nb\"}", "not valid JSON");
    REFUSED("\xef\xbb\xbf{}", "not valid JSON"); /* a byte order mark */
    TAKEN("{\"a\":9223372036854775807}");
}

static void refuses_duplicates(void)
{
    REFUSED("{\"a\":1,\"a\":1}", "duplicate");
    REFUSED("{\"a\":1,\"\\u0061\":1}", "duplicate");
    REFUSED("{\"b\":[{\"a\":1,\"c\":2,\"a\":3}]}", "duplicate");
    TAKEN("{\"a\":1,\"A\":1,\"b\":{\"a\":1}}");
}

static void refuses_nul_and_broken_utf8(void)
{
    REFUSED("{\"a\":\"x\\u0000y\"}", "not valid JSON");
    REFUSED("{\"a\\u0000\":1}", "not valid JSON");
    REFUSED("{\"a\":\"x\0y\"}", "not valid JSON");
    REFUSED("{\"a\":1}\0", "not valid JSON");
    REFUSED("{}\0{}", "not valid JSON");
    REFUSED("{\"a\":\"\xff\"}", "not valid JSON");
    REFUSED("{\"a\":\"\xc3\"}", "not valid JSON");         /* cut */
    REFUSED("{\"a\":\"\xc0\xaf\"}", "not valid JSON");     /* longer than need be */
    REFUSED("{\"a\":\"\xed\xa0\x80\"}", "not valid JSON"); /* half a surrogate pair */
    REFUSED("{\"a\":\"\\ud800\"}", "not valid JSON");
    REFUSED("{\"\x80\":1}", "not valid JSON");
    TAKEN("{\"a\":\"\xf0\x9f\x98\x80 \\ud83d\\ude00\"}");
}

/* {"a": and then so many arrays in each other, with the text in the innermost. */
static void nested(struct buf *b, int depth, const char *inner)
{
    int i;

    buf_clear(b);
    buf_puts(b, "{\"a\":");
    for (i = 1; i < depth; i++)
        buf_puts(b, "[");
    buf_puts(b, inner);
    for (i = 1; i < depth; i++)
        buf_puts(b, "]");
    buf_puts(b, "}");
}

static void bounds_the_depth(void)
{
    static const char in_text[] = "\"[[[[ \\\" [{[{ \\\\\", \"]]\", \"\\\\\"";
    struct buf b;
    int i;

    buf_init(&b, 1 << 22);
    nested(&b, JSON_DEPTH_MAX, "");
    CU_ASSERT_TRUE(taken(b.data, b.len));
    nested(&b, JSON_DEPTH_MAX + 1, "");
    CU_ASSERT_TRUE(refused(b.data, b.len, "nested deeper than 64"));
    nested(&b, JSON_DEPTH_MAX, "{}");
    CU_ASSERT_TRUE(refused(b.data, b.len, "nested deeper than 64"));

    /* Brackets in strings are text, however the quotes around them are escaped. */
    nested(&b, JSON_DEPTH_MAX, in_text);
    CU_ASSERT_TRUE(taken(b.data, b.len));
    nested(&b, JSON_DEPTH_MAX, "\"]\", []");
    CU_ASSERT_TRUE(refused(b.data, b.len, "nested deeper than 64"));
    nested(&b, JSON_DEPTH_MAX, "\"\\\\\", []");
    CU_ASSERT_TRUE(refused(b.data, b.len, "nested deeper than 64"));

    /* Many beside each other are not deep; very many in each other do not reach the parser. */
    buf_clear(&b);
    buf_puts(&b, "{\"a\":[0");
    for (i = 0; i < 1000; i++)
        buf_puts(&b, ",[{}]");
    buf_puts(&b, "]}");
    CU_ASSERT_TRUE(taken(b.data, b.len));
    buf_clear(&b);
    for (i = 0; i < 1000000; i++)
        buf_puts(&b, "[");
    CU_ASSERT_TRUE(refused(b.data, b.len, "nested deeper than 64"));
    buf_free(&b);
}

/* ---- the arguments ---- */

static long setting = 3;

static const struct arg every_type[] = {
    {.name = "string", .type = ARG_STRING, .min = 2, .max = 4},
    {.name = "free", .type = ARG_STRING},
    {.name = "configured", .type = ARG_STRING, .max = 1, .max_setting = &setting},
    {.name = "integer", .type = ARG_INTEGER, .min = -5, .max = 10},
    {.name = "setting", .type = ARG_INTEGER, .min = 1, .max_setting = &setting},
    {.name = "huge", .type = ARG_INTEGER, .min = LONG_MIN, .max = LONG_MAX},
    {.name = "number", .type = ARG_NUMBER, .min = -5, .max = 10},
    {.name = "boolean", .type = ARG_BOOLEAN},
    {.name = "object", .type = ARG_OBJECT},
    {.name = "array", .type = ARG_ARRAY, .min = 1, .max = 3},
    {.name = "uuid", .type = ARG_UUID},
    {.name = "choice", .type = ARG_CHOICE, .choices = "red green blue-green a"},
    {0}};
static const struct operation closed_op = {.name = "test.closed", .args = every_type};
static const struct operation open_op = {.name = "test.open", .args = every_type, .open = true};

static const struct arg must_haves[] = {
    {.name = "name", .type = ARG_STRING, .required = true, .max = 10},
    {.name = "count", .type = ARG_INTEGER, .required = true, .max = 10},
    {.name = "flag", .type = ARG_BOOLEAN, .required = true},
    {0}};
static const struct operation required_op = {.name = "test.required", .args = must_haves};

/* The errors as "field: message; field: message", or "" when the arguments are taken. */
static const char *complaints(const struct operation *op, const char *args)
{
    static char out[8192];
    struct err e = {0};
    json_t *root = validate_parse(args, strlen(args), &e), *errors = NULL, *one;
    int failed;
    size_t i, n = 0;

    CU_ASSERT_PTR_NOT_NULL_FATAL(root);
    out[0] = '\0';
    failed = validate_args(op, root, &errors, &e);
    CU_ASSERT_EQUAL(failed, errors ? -1 : 0);
    if (failed) {
        CU_ASSERT_EQUAL(e.kind, ERR_REJECT);
        CU_ASSERT_EQUAL(e.status, 400);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, op->name));
        CU_ASSERT(json_array_size(errors) > 0);
    }
    json_array_foreach (errors, i, one) {
        const char *field = "?", *message = "?";

        CU_ASSERT_EQUAL(json_object_size(one), 2);
        json_unpack(one, "{s:s, s:s}", "field", &field, "message", &message);
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%s: %s", i ? "; " : "", field, message);
    }
    json_decref(errors);
    json_decref(root);
    return out;
}

#define GOOD(args)      CU_ASSERT_STRING_EQUAL(complaints(&closed_op, args), "")
#define BAD(args, says) CU_ASSERT_STRING_EQUAL(complaints(&closed_op, args), says)

static void strings(void)
{
    GOOD("{\"string\":\"ab\"}");
    GOOD("{\"string\":\"abcd\"}");
    BAD("{\"string\":\"a\"}", "string: must have at least 2 characters, has 1");
    BAD("{\"string\":\"\"}", "string: must have at least 2 characters, has 0");
    BAD("{\"string\":\"abcde\"}", "string: must have at most 4 characters, has 5");
    BAD("{\"string\":12}", "string: must be a string");
    BAD("{\"string\":true}", "string: must be a string");
    BAD("{\"string\":[\"ab\"]}", "string: must be a string");
    BAD("{\"string\":{}}", "string: must be a string");
    GOOD("{\"free\":\"\"}");
    GOOD("{\"free\":\"no maximum at all, of any kind, however long it may be\"}");
}

/* Code points count, not bytes, nor what a reader takes for one character. */
static void strings_count_characters(void)
{
    GOOD("{\"string\":\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xbc\"}");
    GOOD("{\"string\":\"\\ud83d\\ude00\\ud83d\\ude00\\u20ac\\u00fc\"}");
    BAD("{\"string\":\"\xf0\x9f\x98\x80\"}", "string: must have at least 2 characters, has 1");
    BAD("{\"string\":\"\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\"}",
        "string: must have at most 4 characters, has 5");
    BAD("{\"string\":\"e\xcc\x81"
        "e\xcc\x81"
        "e\xcc\x81\"}",
        "string: must have at most 4 characters, has 6");
}

static void a_configured_maximum(void)
{
    setting = 3;
    GOOD("{\"configured\":\"abc\"}"); /* the setting counts, not .max */
    BAD("{\"configured\":\"abcd\"}", "configured: must have at most 3 characters, has 4");
    GOOD("{\"setting\":3}");
    BAD("{\"setting\":4}", "setting: must be from 1 to 3");
    BAD("{\"setting\":0}", "setting: must be from 1 to 3");
    setting = 5;
    GOOD("{\"configured\":\"abcde\",\"setting\":5}");
    BAD("{\"configured\":\"abcdef\"}", "configured: must have at most 5 characters, has 6");
}

static void numbers(void)
{
    GOOD("{\"number\":-5}");
    GOOD("{\"number\":10.0}");
    GOOD("{\"number\":0.000001}");
    GOOD("{\"number\":null}");
    BAD("{\"number\":10.000001}", "number: must be from -5 to 10");
    BAD("{\"number\":-5.1}", "number: must be from -5 to 10");
    BAD("{\"number\":\"1\"}", "number: must be a number");
    BAD("{\"number\":true}", "number: must be a number");
}

static void integers(void)
{
    GOOD("{\"integer\":-5}");
    GOOD("{\"integer\":0}");
    GOOD("{\"integer\":10}");
    BAD("{\"integer\":-6}", "integer: must be from -5 to 10");
    BAD("{\"integer\":11}", "integer: must be from -5 to 10");
    BAD("{\"integer\":4294967296}", "integer: must be from -5 to 10"); /* 0 in 32 bits */
    BAD("{\"integer\":1.0}", "integer: must be a whole number");
    BAD("{\"integer\":1e0}", "integer: must be a whole number");
    BAD("{\"integer\":\"1\"}", "integer: must be a whole number");
    BAD("{\"integer\":true}", "integer: must be a whole number");
    GOOD("{\"huge\":9223372036854775807}");
    GOOD("{\"huge\":-9223372036854775808}");
}

static void booleans_objects_arrays(void)
{
    GOOD("{\"boolean\":true}");
    GOOD("{\"boolean\":false}");
    BAD("{\"boolean\":1}", "boolean: must be true or false");
    BAD("{\"boolean\":\"true\"}", "boolean: must be true or false");
    GOOD("{\"object\":{}}");
    GOOD("{\"object\":{\"any\":[1]}}");
    BAD("{\"object\":[]}", "object: must be an object");
    BAD("{\"object\":\"{}\"}", "object: must be an object");
    GOOD("{\"array\":[1]}");
    GOOD("{\"array\":[1,\"a\",null]}");
    BAD("{\"array\":[]}", "array: must have at least 1 items, has 0");
    BAD("{\"array\":[1,2,3,4]}", "array: must have at most 3 items, has 4");
    BAD("{\"array\":{}}", "array: must be an array");
    BAD("{\"array\":\"abc\"}", "array: must be an array");
}

static void uuids(void)
{
    GOOD("{\"uuid\":\"2ed6657d-e927-568b-95e1-2665a8aea6a2\"}");
    GOOD("{\"uuid\":\"2ED6657D-E927-568B-95E1-2665A8AEA6A2\"}");
    BAD("{\"uuid\":\"2ed6657d-e927-568b-95e1-2665a8aea6a\"}", "uuid: must be a UUID");
    BAD("{\"uuid\":\"2ed6657d-e927-568b-95e1-2665a8aea6a2 \"}", "uuid: must be a UUID");
    BAD("{\"uuid\":\"\"}", "uuid: must be a UUID");
    BAD("{\"uuid\":5}", "uuid: must be a string");
}

#define NO_CHOICE "choice: must be one of: red green blue-green a"

static void choices(void)
{
    static const char *const good[] = {"red", "green", "blue-green", "a"};
    static const char *const bad[] = {"",
                                      "re",
                                      "ed",
                                      "r",
                                      "redd",
                                      "gree",
                                      "reen",
                                      "blue",
                                      "-green",
                                      "Red",
                                      "red green",
                                      " ",
                                      "red ",
                                      " green",
                                      "green blue-",
                                      "blue-green a",
                                      "red green blue-green a",
                                      "e"};
    char args[64];
    size_t i;

    for (i = 0; i < COUNT(good); i++) {
        snprintf(args, sizeof(args), "{\"choice\":\"%s\"}", good[i]);
        GOOD(args);
    }
    for (i = 0; i < COUNT(bad); i++) {
        snprintf(args, sizeof(args), "{\"choice\":\"%s\"}", bad[i]);
        BAD(args, NO_CHOICE);
    }
    BAD("{\"choice\":1}", "choice: must be a string");
}

static void required_and_null(void)
{
    CU_ASSERT_STRING_EQUAL(complaints(&required_op, "{\"name\":\"\",\"count\":0,\"flag\":false}"),
                           "");
    CU_ASSERT_STRING_EQUAL(complaints(&required_op, "{}"),
                           "name: is required; count: is required; flag: is required");
    CU_ASSERT_STRING_EQUAL(complaints(&required_op, "{\"name\":\"a\",\"count\":1}"),
                           "flag: is required");
    CU_ASSERT_STRING_EQUAL(
        complaints(&required_op, "{\"name\":null,\"count\":null,\"flag\":null}"),
        "name: must be a string; count: must be a whole number; flag: must be true or false");
    /* An optional argument that is null is not there. */
    GOOD("{\"string\":null,\"integer\":null,\"boolean\":null,\"object\":null,\"array\":null,"
         "\"uuid\":null,\"choice\":null}");
}

static void unknown_fields(void)
{
    GOOD("{}");
    BAD("{\"strin\":1}", "strin: is not known");
    BAD("{\"String\":\"ab\"}", "String: is not known");
    BAD("{\"\":null}", ": is not known");
    BAD("{\"integer\":99,\"x\":1}", "integer: must be from -5 to 10; x: is not known");
    CU_ASSERT_STRING_EQUAL(complaints(&open_op, "{\"x\":1,\"y\":{\"z\":[]}}"), "");
    CU_ASSERT_STRING_EQUAL(complaints(&open_op, "{\"x\":1,\"uuid\":\"x\"}"),
                           "uuid: must be a UUID");
}

static size_t errors_of(int unknown)
{
    json_t *args = json_object(), *errors = NULL;
    char name[16];
    struct err e;
    size_t n;
    int i;

    for (i = 0; i < unknown; i++) {
        snprintf(name, sizeof(name), "x%d", i);
        json_object_set_new(args, name, json_null());
    }
    CU_ASSERT_EQUAL(validate_args(&closed_op, args, &errors, &e), unknown ? -1 : 0);
    n = json_array_size(errors);
    json_decref(errors);
    json_decref(args);
    return n;
}

static void at_most_twenty_errors(void)
{
    CU_ASSERT_EQUAL(errors_of(0), 0);
    CU_ASSERT_EQUAL(errors_of(19), 19);
    CU_ASSERT_EQUAL(errors_of(20), 20);
    CU_ASSERT_EQUAL(errors_of(21), 20);
    CU_ASSERT_EQUAL(errors_of(500), 20);
}

/* ---- arguments out of a path or query ---- */

/* What a text becomes, as JSON text. */
static const char *from_text(enum arg_type type, const char *text)
{
    static char out[128];
    const struct arg arg = {.name = "x", .type = type};
    json_t *v = validate_from_text(&arg, text);
    size_t n;

    CU_ASSERT_PTR_NOT_NULL_FATAL(v);
    n = json_dumpb(v, out, sizeof(out) - 1, JSON_ENCODE_ANY);
    out[n] = '\0';
    json_decref(v);
    return out;
}

static void numbers_from_text(void)
{
    static const char *const none[] = {"", " 1", "1 ", "0x1p3", "nan", "inf", "1e999", "1,5", "a"};
    char quoted[64];
    size_t i;

    CU_ASSERT_STRING_EQUAL(from_text(ARG_NUMBER, "0.5"), "0.5");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_NUMBER, "-2"), "-2.0");
    for (i = 0; i < COUNT(none); i++) {
        snprintf(quoted, sizeof(quoted), "\"%s\"", none[i]);
        CU_ASSERT_STRING_EQUAL(from_text(ARG_NUMBER, none[i]), quoted);
    }
}

static void integers_from_text(void)
{
    static const char *const none[] = {"",
                                       " 1",
                                       "1 ",
                                       "+1",
                                       "1.0",
                                       "1e3",
                                       "0x1",
                                       "abc",
                                       "1a",
                                       "--1",
                                       "-",
                                       "true",
                                       "9223372036854775808",
                                       "-9223372036854775809",
                                       "99999999999999999999999999"};
    char quoted[64];
    size_t i;

    CU_ASSERT_STRING_EQUAL(from_text(ARG_INTEGER, "0"), "0");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_INTEGER, "42"), "42");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_INTEGER, "-7"), "-7");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_INTEGER, "007"), "7");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_INTEGER, "9223372036854775807"), "9223372036854775807");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_INTEGER, "-9223372036854775808"), "-9223372036854775808");
    for (i = 0; i < COUNT(none); i++) {
        snprintf(quoted, sizeof(quoted), "\"%s\"", none[i]);
        CU_ASSERT_STRING_EQUAL(from_text(ARG_INTEGER, none[i]), quoted);
    }
    CU_ASSERT_STRING_EQUAL(from_text(ARG_INTEGER, "\t1"), "\"\\t1\"");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_INTEGER, "\n1"), "\"\\n1\"");
}

static void others_from_text(void)
{
    CU_ASSERT_STRING_EQUAL(from_text(ARG_BOOLEAN, "true"), "true");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_BOOLEAN, "false"), "false");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_BOOLEAN, "TRUE"), "\"TRUE\"");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_BOOLEAN, "1"), "\"1\"");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_BOOLEAN, ""), "\"\"");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_STRING, "true"), "\"true\"");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_STRING, "12"), "\"12\"");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_UUID, "x"), "\"x\"");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_CHOICE, "red"), "\"red\"");
    CU_ASSERT_STRING_EQUAL(from_text(ARG_OBJECT, "{}"), "\"{}\"");
}

/* What is no UTF-8 cannot be a JSON string; no type takes what comes instead. */
static void broken_text_is_refused(void)
{
    json_t *args, *errors, *v;
    struct err e;
    size_t i;

    for (i = 0; every_type[i].name; i++) {
        v = validate_from_text(&every_type[i], "ab\xff");
        CU_ASSERT_PTR_NOT_NULL(v);
        args = json_object();
        json_object_set_new(args, every_type[i].name, v);
        CU_ASSERT_EQUAL(validate_args(&open_op, args, &errors, &e), -1);
        CU_ASSERT_EQUAL(json_array_size(errors), 1);
        json_decref(errors);
        json_decref(args);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"parser: an object", parses_an_object},
        {"parser: what is no object", refuses_what_is_no_object},
        {"parser: duplicates", refuses_duplicates},
        {"parser: NUL and broken UTF-8", refuses_nul_and_broken_utf8},
        {"parser: depth", bounds_the_depth},
        {"strings", strings},
        {"strings count characters", strings_count_characters},
        {"a configured maximum", a_configured_maximum},
        {"integers", integers},
        {"numbers", numbers},
        {"booleans, objects, arrays", booleans_objects_arrays},
        {"UUIDs", uuids},
        {"choices", choices},
        {"required and null", required_and_null},
        {"unknown fields", unknown_fields},
        {"at most twenty errors", at_most_twenty_errors},
        {"from text: integers", integers_from_text},
        {"from text: numbers", numbers_from_text},
        {"from text: the others", others_from_text},
        {"from text: broken UTF-8", broken_text_is_refused},
        CU_TEST_INFO_NULL,
    };

    return unit_main("validate", tests);
}
