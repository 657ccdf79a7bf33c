#include "common/chat/operations.h"

#include <stdio.h>
#include <string.h>

#include "common/chat/topology.h"
#include "gateway-shim/routes.h"
#include "tests/unit/unit.h"

enum { NAME_MAX_BYTES = 127, TIMEOUT_MAX_MS = 600000 };

/*
 * The rules of the house, each a function that returns what is wrong with a row, or NULL. They are
 * run over the real table, and over rows that break them, to see that they find it.
 */
struct table {
    const struct operation *rows;
    size_t count;
};

static bool is_name(const char *s)
{
    return s && *s && strlen(s) <= NAME_MAX_BYTES &&
           s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.-")] == '\0';
}

static const struct operation *find_in(const struct table *t, const char *name, size_t n)
{
    size_t i;

    for (i = 0; i < t->count; i++)
        if (strlen(t->rows[i].name) == n && strncmp(t->rows[i].name, name, n) == 0)
            return &t->rows[i];
    return NULL;
}

static const char *wrong_with_basics(const struct table *t, const struct operation *op)
{
    if (!is_name(op->name))
        return "the name";
    if (find_in(t, op->name, strlen(op->name)) != op)
        return "the name is there twice";
    if (!op->summary || !*op->summary)
        return "no summary";
    if (!op->args)
        return "no table of arguments";
    if (op->timeout_ms <= 0 || op->timeout_ms > TIMEOUT_MAX_MS)
        return "the time-out";
    if (op->max_attempts < 1)
        return "no attempt";
    return NULL;
}

static const char *wrong_with_queue(const struct operation *op)
{
    size_t i;

    for (i = 0; op->queue && i < work_queues_count; i++)
        if (strcmp(work_queues[i].name, op->queue) == 0)
            return NULL;
    return op->queue ? "a queue that does not exist" : NULL;
}

/* Each step is an operation, with one space between. */
static const char *wrong_with_slip(const struct table *t, const struct operation *op)
{
    const char *step = op->slip;
    size_t n;

    if (!step)
        return "no slip";
    while (*step) {
        n = strcspn(step, " ");
        if (!find_in(t, step, n))
            return "a step that is no operation";
        step += n;
        if (*step && !*++step)
            return "a space behind the slip";
    }
    return NULL;
}

static const struct arg *find_arg(const struct operation *op, const char *name, size_t n)
{
    const struct arg *arg;

    for (arg = op->args; arg->name; arg++)
        if (strlen(arg->name) == n && strncmp(arg->name, name, n) == 0)
            return arg;
    return NULL;
}

static const char *wrong_with_args(const struct operation *op)
{
    const struct arg *arg;

    for (arg = op->args; arg->name; arg++) {
        if (!*arg->name || find_arg(op, arg->name, strlen(arg->name)) != arg)
            return "an argument is there twice";
        if ((arg->type == ARG_CHOICE) != (arg->choices && *arg->choices))
            return "choices";
        if (arg->type == ARG_INTEGER && !arg->max_setting && arg->min >= arg->max)
            return "bounds of a number";
        if (arg->min < 0 && arg->type != ARG_INTEGER)
            return "a negative length";
        if (arg->max && arg->max < arg->min)
            return "bounds that cross";
        if (arg->place != ARG_IN_BODY && (arg->type == ARG_OBJECT || arg->type == ARG_ARRAY))
            return "an object or array that would have to come as text";
        if (!arg->help || !*arg->help)
            return "an argument without help";
    }
    return NULL;
}

/* Every {name} of the path is a required argument ARG_IN_PATH; *count says how many there are. */
static const char *wrong_with_path(const struct operation *op, const char *path, size_t *count)
{
    const struct arg *arg;
    const char *p;
    size_t n;

    *count = 0;
    if (*path != '/' || path[strlen(path) - 1] == '/' || strstr(path, "//") || strchr(path, '?'))
        return "the form of a path";
    if (strncmp(path, "/api", 4) == 0)
        return "a path with the prefix";
    for (p = path; (p = strchr(p, '{')); p += n + 2, ++*count) {
        n = strcspn(p + 1, "}/");
        if (p[-1] != '/' || p[1 + n] != '}' || (p[2 + n] && p[2 + n] != '/'))
            return "the form of a path argument";
        arg = find_arg(op, p + 1, n);
        if (!arg || arg->place != ARG_IN_PATH || !arg->required)
            return "a path argument without its row";
    }
    return *count > PATH_ARGS_MAX ? "too many path arguments" : NULL;
}

/* Does every path that fits b fit a too? The order of the rows must not decide. */
static bool covers(const char *a, const char *b)
{
    size_t n, m;

    while (*a == '/' && *b == '/') {
        n = strcspn(++a, "/");
        m = strcspn(++b, "/");
        if (*a != '{' && (n != m || strncmp(a, b, n) != 0))
            return false;
        a += n;
        b += m;
    }
    return *a == *b;
}

static bool is_taken(const struct table *t, const struct route *route)
{
    const struct route *other;
    size_t i;

    for (i = 0; i < t->count; i++)
        for (other = t->rows[i].routes; other && other->method; other++)
            if (other != route && strcmp(other->method, route->method) == 0 &&
                (covers(other->path, route->path) || covers(route->path, other->path)))
                return true;
    return false;
}

static const char *wrong_with_routes(const struct table *t, const struct operation *op)
{
    static const char methods[] = " GET POST PUT PATCH DELETE ";
    const struct route *route;
    const struct arg *arg;
    size_t count, in_path = 0;
    const char *wrong;
    char word[16];

    for (arg = op->args; arg->name; arg++)
        in_path += arg->place == ARG_IN_PATH;
    if (op->routes && !op->routes->method)
        return "a list of routes with none in it";
    for (route = op->routes; route && route->method; route++) {
        snprintf(word, sizeof(word), " %s ", route->method);
        if (!strstr(methods, word))
            return "a method";
        if ((wrong = wrong_with_path(op, route->path, &count)))
            return wrong;
        if (count != in_path)
            return "an argument ARG_IN_PATH that the path lacks";
        if (is_taken(t, route))
            return "a route that is taken";
    }
    return NULL;
}

static const char *wrong_with(const struct table *t, const struct operation *op)
{
    const char *wrong = wrong_with_basics(t, op);

    wrong = wrong ? wrong : wrong_with_queue(op);
    wrong = wrong ? wrong : wrong_with_slip(t, op);
    wrong = wrong ? wrong : wrong_with_args(op);
    return wrong ? wrong : wrong_with_routes(t, op);
}

static void every_row_keeps_the_rules(void)
{
    const struct table real = {operations, operations_count};
    const char *wrong;
    size_t i;

    CU_ASSERT(operations_count > 0);
    for (i = 0; i < operations_count; i++) {
        wrong = wrong_with(&real, &operations[i]);
        if (wrong)
            fprintf(stderr, "\n%s: %s", operations[i].name, wrong);
        CU_ASSERT_PTR_NULL(wrong);
    }
}

/* ---- the rules themselves ---- */

static const struct arg none[] = {{0}};
static const struct arg id_arg[] = {
    {.name = "id", .type = ARG_UUID, .place = ARG_IN_PATH, .required = true, .help = "."}, {0}};
static const struct arg body_id[] = {
    {.name = "id", .type = ARG_UUID, .required = true, .help = "."}, {0}};
static const struct arg twice[] = {{.name = "a", .help = "."}, {.name = "a", .help = "."}, {0}};
static const struct arg no_choices[] = {{.name = "a", .type = ARG_CHOICE, .help = "."}, {0}};
static const struct arg no_bounds[] = {{.name = "a", .type = ARG_INTEGER, .help = "."}, {0}};
static const struct arg text_object[] = {
    {.name = "a", .type = ARG_OBJECT, .place = ARG_IN_QUERY, .help = "."}, {0}};

static const struct route with_id[] = {{"GET", "/things/{id}"}, {0}};
static const struct route other_id[] = {{"GET", "/things/{name}"}, {0}};
static const struct route other_word[] = {{"GET", "/things/all"}, {0}};
static const struct route slashed[] = {{"GET", "/things/"}, {0}};
static const struct route prefixed[] = {{"GET", "/api/chat/things"}, {0}};
static const struct route strange[] = {{"HEAD", "/things"}, {0}};

#define GOOD_ROW                                                                                   \
    .name = "test.row", .summary = "Tests", .args = none, .slip = "", .timeout_ms = 1000,          \
    .max_attempts = 1

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
static const struct operation broken[] = {
    {GOOD_ROW, .name = NULL},
    {GOOD_ROW, .name = "Test Row"},
    {GOOD_ROW, .name = "test.get"}, /* the other row's */
    {GOOD_ROW, .summary = NULL},
    {GOOD_ROW, .args = NULL},
    {GOOD_ROW, .timeout_ms = 0},
    {GOOD_ROW, .max_attempts = 0},
    {GOOD_ROW, .queue = "nobody"},
    {GOOD_ROW, .slip = NULL},
    {GOOD_ROW, .slip = "test.get test.ge"},
    {GOOD_ROW, .slip = "test.get "},
    {GOOD_ROW, .args = twice},
    {GOOD_ROW, .args = no_choices},
    {GOOD_ROW, .args = no_bounds},
    {GOOD_ROW, .args = text_object},
    {GOOD_ROW, .routes = strange},
    {GOOD_ROW, .routes = slashed},
    {GOOD_ROW, .routes = prefixed},
    {GOOD_ROW, .routes = other_id},                   /* {name} has no row */
    {GOOD_ROW, .routes = with_id, .args = body_id},   /* {id} has one, but in the body */
    {GOOD_ROW, .routes = other_word, .args = id_arg}, /* the row's argument is not in the path */
    {GOOD_ROW, .routes = other_word},                 /* also fits the other row's /things/{id} */
    {GOOD_ROW, .routes = (const struct route[]){{0}}},
};
#pragma GCC diagnostic pop

static void the_rules_find_what_breaks_them(void)
{
    struct operation rows[2] = {{GOOD_ROW}, {GOOD_ROW}};
    const struct table t = {rows, 2};
    size_t i;

    rows[0].name = "test.get";
    rows[0].args = id_arg;
    rows[0].routes = with_id;
    CU_ASSERT_PTR_NULL(wrong_with(&t, &rows[0]));
    CU_ASSERT_PTR_NULL(wrong_with(&t, &rows[1]));
    rows[1].slip = "test.get test.row";
    rows[1].queue = work_queues[0].name;
    CU_ASSERT_PTR_NULL(wrong_with(&t, &rows[1]));
    for (i = 0; i < COUNT(broken); i++) {
        rows[1] = broken[i];
        if (!wrong_with(&t, &rows[1]))
            fprintf(stderr, "\nbroken row %zu is not found", i);
        CU_ASSERT_PTR_NOT_NULL(wrong_with(&t, &rows[1]));
    }
}

/* ---- finding ---- */

static void finds_by_the_whole_name(void)
{
    size_t i;

    for (i = 0; i < operations_count; i++)
        CU_ASSERT_PTR_EQUAL(operation_find(operations[i].name), &operations[i]);
    CU_ASSERT_PTR_NULL(operation_find(""));
    CU_ASSERT_PTR_NULL(operation_find("system"));
    CU_ASSERT_PTR_NULL(operation_find("system.ech"));
    CU_ASSERT_PTR_NULL(operation_find("system.echoes"));
    CU_ASSERT_PTR_NULL(operation_find("System.Echo"));
}

/* The shim finds each route of the table, by the pattern as its own example. */
static void every_route_leads_to_its_operation(void)
{
    struct arena *a = arena_new();
    const struct route *route;
    struct match m;
    size_t i;

    for (i = 0; i < operations_count; i++)
        for (route = operations[i].routes; route && route->method; route++) {
            routes_match(a, route->method, arena_printf(a, "/api/chat%s", route->path), &m);
            CU_ASSERT_PTR_EQUAL(m.operation, &operations[i]);
            CU_ASSERT_PTR_EQUAL(m.route, route);
            routes_match(a, route->method, route->path, &m);
            CU_ASSERT_PTR_EQUAL(m.operation, &operations[i]);
        }
    routes_match(a, "POST", "/api/chat/echo", &m);
    CU_ASSERT_PTR_EQUAL(m.operation, operation_find("system.echo"));
    arena_free(a);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"every row keeps the rules", every_row_keeps_the_rules},
        {"the rules find what breaks them", the_rules_find_what_breaks_them},
        {"found by the whole name", finds_by_the_whole_name},
        {"every route leads to its operation", every_route_leads_to_its_operation},
        CU_TEST_INFO_NULL,
    };

    return unit_main("operations", tests);
}
