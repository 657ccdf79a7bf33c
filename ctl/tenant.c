/* chatfleet tenant: budgets and models of tenants, by the operations tenant.list, .get and .set. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/text.h"
#include "common/chat/identity.h"
#include "common/chat/operations.h"
#include "common/chat/validate.h"
#include "ctl/ctl.h"

static const char usage[] =
    "usage: chatfleet tenant list [--json] | tenant show T [--json] | tenant set T NAME=VALUE …\n"
    "       | tenant unset T NAME …\n";

/* ---- asking ---- */

struct answer {
    json_t *body; /* of a success */
};

static void answered(void *arg, int status, const char *body, size_t n, bool last)
{
    struct answer *a = arg;
    json_t *json = json_loadb(body, n, 0, NULL);
    const char *detail = json_string_value(json_object_get(json, "detail"));

    (void)last;
    if (status < 400) {
        a->body = json;
        return;
    }
    fprintf(stderr, "chatfleet: %s\n", detail ? detail : "the fleet refuses it");
    json_decref(json);
}

/* Takes the arguments. Returns an exit code; the answer is the caller's to free. */
static int ask(const char *operation, json_t *args, struct answer *a)
{
    char *body = json_dumps(args, JSON_COMPACT);
    const struct ctl_request r = {.operation = operation,
                                  .body = body,
                                  .role = ROLE_NAME_SERVICE,
                                  .answered = answered,
                                  .arg = a};
    int code;

    a->body = NULL;
    code = ctl_request(&r);
    free(body);
    json_decref(args);
    return code == EXIT_DONE && !a->body ? EXIT_REFUSED : code;
}

/* ---- printing ---- */

/* A budget of credits or tokens; "-": none. */
static const char *limit_text(char out[32], const json_t *limit)
{
    if (json_is_number(limit))
        snprintf(out, 32, "%.15g", json_number_value(limit));
    else
        snprintf(out, 32, "-");
    return out;
}

static void print_budget(const char *what, const json_t *used, const json_t *credits,
                         const json_t *tokens)
{
    char limit[2][32], spent[2][32];

    printf("%-12s %s of %s credits, %s of %s tokens\n", what,
           limit_text(spent[0], json_object_get(used, "cost")), limit_text(limit[0], credits),
           limit_text(spent[1], json_object_get(used, "tokens")), limit_text(limit[1], tokens));
}

static void print_names(const char *what, const json_t *names, const char *otherwise)
{
    const json_t *name;
    size_t i;

    printf("%-12s", what);
    if (!json_is_array(names))
        printf(" %s", otherwise);
    json_array_foreach (names, i, name)
        printf(" %s", json_string_value(name));
    putchar('\n');
}

static void print_tenant(const json_t *t)
{
    const json_t *spent = json_object_get(t, "spent"),
                 *reserved = json_object_get(spent, "reserved");
    char text[4][32];

    printf("%-12s %s\n", "tenant", json_string_value(json_object_get(t, "tenant_id")));
    print_budget("day", json_object_get(spent, "day"), json_object_get(t, "day_budget"),
                 json_object_get(t, "day_token_budget"));
    print_budget("month", json_object_get(spent, "month"), json_object_get(t, "month_budget"),
                 json_object_get(t, "month_token_budget"));
    printf("%-12s %s credits, %s tokens\n", "under way",
           limit_text(text[0], json_object_get(reserved, "cost")),
           limit_text(text[1], json_object_get(reserved, "tokens")));
    printf("%-12s %s credits, %s tokens (-: as configured)\n", "a turn",
           limit_text(text[2], json_object_get(t, "reserve")),
           limit_text(text[3], json_object_get(t, "token_reserve")));
    print_names("models", json_object_get(t, "models"), "as configured");
    print_names("providers", json_object_get(t, "providers"), "all");
}

static void print_row(const json_t *t)
{
    const json_t *spent = json_object_get(t, "spent");
    const json_t *day = json_object_get(spent, "day"), *month = json_object_get(spent, "month");
    char text[4][32];

    printf("%-24s %12s %12s %12s %12s  %s%s\n", json_string_value(json_object_get(t, "tenant_id")),
           limit_text(text[0], json_object_get(day, "cost")),
           limit_text(text[1], json_object_get(t, "day_budget")),
           limit_text(text[2], json_object_get(month, "cost")),
           limit_text(text[3], json_object_get(t, "month_budget")),
           json_is_array(json_object_get(t, "models")) ? "models " : "",
           json_is_array(json_object_get(t, "providers")) ? "providers" : "");
}

static void print_json(const json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* ---- list and show ---- */

/* Page by page, until there are no more. */
static int all_tenants(json_t *list)
{
    const char *after = NULL;
    struct answer a;
    bool more = true;
    int code;

    while (more) {
        code = ask("tenant.list", json_pack("{s:s*}", "after", after), &a);
        if (code != EXIT_DONE)
            return code;
        more = json_is_true(json_object_get(a.body, "has_more"));
        json_array_extend(list, json_object_get(a.body, "tenants"));
        json_decref(a.body);
        after = json_string_value(
            json_object_get(json_array_get(list, json_array_size(list) - 1), "tenant_id"));
        more = more && after;
    }
    return EXIT_DONE;
}

static int list_tenants(bool as_json)
{
    json_t *list = json_array(), *tenant;
    int code = all_tenants(list);
    size_t i;

    if (code == EXIT_DONE && as_json) {
        print_json(list);
    } else if (code == EXIT_DONE) {
        printf("%-24s %12s %12s %12s %12s  %s\n", "tenant", "day", "of", "month", "of",
               "has its own");
        json_array_foreach (list, i, tenant)
            print_row(tenant);
    }
    json_decref(list);
    return code;
}

static int show(const char *tenant, bool as_json)
{
    struct answer a;
    int code = ask("tenant.get", json_pack("{s:s}", "tenant_id", tenant), &a);

    if (code != EXIT_DONE)
        return code;
    if (as_json)
        print_json(a.body);
    else
        print_tenant(a.body);
    json_decref(a.body);
    return EXIT_DONE;
}

/* ---- set and unset ---- */

/* A setting is an argument of tenant.set, but for the tenant's name. */
static const struct arg *find_setting(const char *name, size_t n)
{
    const struct arg *arg;

    for (arg = operation_find("tenant.set")->args; arg->name; arg++)
        if (strlen(arg->name) == n && memcmp(arg->name, name, n) == 0 &&
            strcmp(arg->name, "tenant_id") != 0)
            return arg;
    fprintf(stderr, "chatfleet: %.*s is no setting of a tenant; there are", (int)n, name);
    for (arg = operation_find("tenant.set")->args; arg->name; arg++)
        if (strcmp(arg->name, "tenant_id") != 0)
            fprintf(stderr, " %s", arg->name);
    fputc('\n', stderr);
    return NULL;
}

/* What stands behind NAME=, as the argument wants it. */
static json_t *value_of(const struct arg *arg, const char *text)
{
    char *copy, *rest, *item;
    json_t *list;

    if (arg->type != ARG_ARRAY)
        return validate_from_text(arg, text);
    list = json_array();
    copy = rest = mem_strdup(text);
    while ((item = text_next_item(&rest)))
        json_array_append_new(list, json_string(item));
    free(copy);
    return list;
}

/* Every word is NAME=VALUE, or NAME alone when it is to be taken away. */
static int read_settings(json_t *args, bool unset, char **words)
{
    const struct arg *arg;

    for (; *words; words++) {
        const char *equals = strchr(*words, '=');
        size_t n = equals ? (size_t)(equals - *words) : strlen(*words);

        if (!equals != unset) {
            fprintf(stderr, "chatfleet: %s is not %s\n", *words, unset ? "a name" : "NAME=VALUE");
            return -1;
        }
        arg = find_setting(*words, n);
        if (!arg)
            return -1;
        json_object_set_new(args, arg->name, unset ? json_null() : value_of(arg, equals + 1));
    }
    return 0;
}

/* The fleet would say it as well, but here it is wrong usage. */
static int check(json_t *args)
{
    const json_t *error;
    json_t *errors = NULL;
    struct err e;
    size_t i;

    if (validate_args(operation_find("tenant.set"), args, &errors, &e) == 0)
        return 0;
    json_array_foreach (errors, i, error)
        fprintf(stderr, "chatfleet: %s %s\n", json_string_value(json_object_get(error, "field")),
                json_string_value(json_object_get(error, "message")));
    json_decref(errors);
    return -1;
}

static int change(const char *tenant, bool unset, char **words)
{
    json_t *args = json_pack("{s:s}", "tenant_id", tenant);
    struct answer a;
    int code;

    if (!args || read_settings(args, unset, words) || check(args)) {
        json_decref(args);
        return EXIT_USAGE;
    }
    code = ask("tenant.set", args, &a);
    if (code == EXIT_DONE)
        print_tenant(a.body);
    json_decref(a.body);
    return code;
}

int ctl_tenant(int argc, char **argv)
{
    bool as_json = false;
    const struct option_value options[] = {{"--json", NULL, &as_json}, {0}};
    int n = ctl_options(options, argc, argv);

    if (n == 1 && strcmp(argv[0], "list") == 0)
        return list_tenants(as_json);
    if (n == 2 && strcmp(argv[0], "show") == 0)
        return show(argv[1], as_json);
    if (n >= 3 && !as_json && (strcmp(argv[0], "set") == 0 || strcmp(argv[0], "unset") == 0)) {
        argv[n] = NULL;
        return change(argv[1], strcmp(argv[0], "unset") == 0, argv + 2);
    }
    if (n >= 0)
        fputs(usage, stderr);
    return EXIT_USAGE;
}
