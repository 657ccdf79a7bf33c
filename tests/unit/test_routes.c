#include "gateway-shim/routes.h"

#include <string.h>

#include "tests/unit/unit.h"

/* A table of this program's own stands in the place of the real one. */
static const struct arg no_args[] = {{0}};
static const struct route list_routes[] = {{"GET", "/things"}, {"POST", "/things/search"}, {0}};
static const struct route create_routes[] = {{"POST", "/things"}, {0}};
static const struct route one_routes[] = {{"GET", "/things/{thing_id}"}, {0}};
static const struct route remove_routes[] = {{"DELETE", "/things/{id}"}, {0}};
static const struct route part_routes[] = {{"PUT", "/things/{thing_id}/parts/{part}"}, {0}};
static const struct route four_routes[] = {{"GET", "/four/{a}/{b}/{c}/{d}"}, {0}};

#define ROW(n, r)                                                                                  \
    {                                                                                              \
        .name = n, .summary = "Tests", .routes = r, .args = no_args, .slip = ""                    \
    }

const struct operation operations[] = {
    ROW("hidden", NULL),      ROW("list", list_routes),     ROW("create", create_routes),
    ROW("one", one_routes),   ROW("remove", remove_routes), ROW("part", part_routes),
    ROW("four", four_routes),
};
const size_t operations_count = COUNT(operations);

static struct arena *arena;

/* The operation's name, or the path's methods in parentheses, or "404". */
static const char *match(const char *method, const char *path, struct match *m)
{
    struct match own;

    m = m ? m : &own;
    memset(m, 0x5a, sizeof(*m)); /* nothing of it may stay */
    routes_match(arena, method, path, m);
    if (m->operation) {
        CU_ASSERT_PTR_NOT_NULL_FATAL(m->route);
        CU_ASSERT_STRING_EQUAL(m->route->method, method);
        CU_ASSERT_PTR_NOT_NULL(strstr(m->allow, method));
        return m->operation->name;
    }
    CU_ASSERT_PTR_NULL(m->route);
    CU_ASSERT_EQUAL(m->args_count, 0);
    return *m->allow ? arena_printf(arena, "(%s)", m->allow) : "404";
}

#define LEADS(method, path, to) CU_ASSERT_STRING_EQUAL(match(method, path, NULL), to)

static void with_the_prefix_or_without(void)
{
    LEADS("GET", "/api/chat/things", "list");
    LEADS("GET", "/things", "list");
    LEADS("POST", "/api/chat/things/search", "list");
    LEADS("GET", "/api/chatx/things", "404");
    LEADS("GET", "/api/chat_/things", "404");
    LEADS("GET", "/api/chatthings", "404");
    LEADS("GET", "/api/things", "404");
    LEADS("GET", "/API/chat/things", "404");
    LEADS("GET", "/x/api/chat/things", "404");
    LEADS("GET", "/api/chat/api/chat/things", "404");
    LEADS("GET", "/api/chat//things", "404");
    LEADS("GET", "/api/chat", "404");
    LEADS("GET", "/api/chat/", "404");
    LEADS("GET", "/", "404");
    LEADS("GET", "", "404");
    LEADS("OPTIONS", "*", "404");
}

static void segment_by_segment(void)
{
    LEADS("GET", "/things/", "404");
    LEADS("GET", "/api/chat/things/", "404");
    LEADS("GET", "//things", "404");
    LEADS("GET", "things", "404");
    LEADS("GET", "/thing", "404");
    LEADS("GET", "/thingss", "404");
    LEADS("GET", "/Things", "404");
    LEADS("GET", "/things?x=1", "404"); /* the query is cut off before */
    LEADS("PUT", "/things/1/parts", "404");
    LEADS("PUT", "/things/1/parts/2/", "404");
    LEADS("PUT", "/things/1/parts/2/3", "404");
    LEADS("PUT", "/things/1/part/2", "404");
    LEADS("PUT", "/things//parts/2", "404");
    LEADS("PUT", "/things/1/parts/", "404");
}

static void takes_the_arguments(void)
{
    struct match m;

    CU_ASSERT_STRING_EQUAL(match("GET", "/api/chat/things/42", &m), "one");
    CU_ASSERT_EQUAL(m.args_count, 1);
    CU_ASSERT_STRING_EQUAL(m.args[0].name, "thing_id");
    CU_ASSERT_STRING_EQUAL(m.args[0].value, "42");

    /* The same path, another method: the argument has that row's name. */
    CU_ASSERT_STRING_EQUAL(match("DELETE", "/things/a b\xc3\xbc{}", &m), "remove");
    CU_ASSERT_EQUAL(m.args_count, 1);
    CU_ASSERT_STRING_EQUAL(m.args[0].name, "id");
    CU_ASSERT_STRING_EQUAL(m.args[0].value, "a b\xc3\xbc{}");

    CU_ASSERT_STRING_EQUAL(match("PUT", "/things/x/parts/y", &m), "part");
    CU_ASSERT_EQUAL(m.args_count, 2);
    CU_ASSERT_STRING_EQUAL(m.args[0].name, "thing_id");
    CU_ASSERT_STRING_EQUAL(m.args[0].value, "x");
    CU_ASSERT_STRING_EQUAL(m.args[1].name, "part");
    CU_ASSERT_STRING_EQUAL(m.args[1].value, "y");

    CU_ASSERT_STRING_EQUAL(match("GET", "/four/1/2/3/4", &m), "four");
    CU_ASSERT_EQUAL(m.args_count, PATH_ARGS_MAX);
    CU_ASSERT_STRING_EQUAL(m.args[3].name, "d");
    CU_ASSERT_STRING_EQUAL(m.args[3].value, "4");

    CU_ASSERT_STRING_EQUAL(match("GET", "/things", &m), "list");
    CU_ASSERT_EQUAL(m.args_count, 0);
}

static void says_which_methods_there_are(void)
{
    struct match m;

    LEADS("PUT", "/things", "(GET, POST, OPTIONS)");
    LEADS("OPTIONS", "/api/chat/things", "(GET, POST, OPTIONS)");
    LEADS("POST", "/things/1", "(GET, DELETE, OPTIONS)");
    LEADS("GET", "/things/1/parts/2", "(PUT, OPTIONS)");
    LEADS("get", "/things", "(GET, POST, OPTIONS)"); /* methods have a case */
    LEADS("", "/things", "(GET, POST, OPTIONS)");
    LEADS("PUT", "/nothing", "404");
    match("GET", "/things", &m); /* also when it fits */
    CU_ASSERT_STRING_EQUAL(m.allow, "GET, POST, OPTIONS");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"with the prefix or without", with_the_prefix_or_without},
        {"segment by segment", segment_by_segment},
        {"takes the arguments", takes_the_arguments},
        {"says which methods there are", says_which_methods_there_are},
        CU_TEST_INFO_NULL,
    };
    int failed;

    arena = arena_new();
    failed = unit_main("routes", tests);
    arena_free(arena);
    return failed;
}
