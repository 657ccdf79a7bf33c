#include "gateway-shim/routes.h"

#include <stdio.h>
#include <string.h>

static const char prefix[] = ROUTES_PREFIX;

static const char *without_prefix(const char *path)
{
    size_t n = sizeof(prefix) - 1;

    if (strncmp(path, prefix, n) == 0 && (path[n] == '/' || path[n] == '\0'))
        return path + n;
    return path;
}

/* Does the path fit the pattern, segment by segment? Takes the path arguments on the way. */
static bool fits(struct arena *a, const char *pattern, const char *path, struct match *m)
{
    size_t p, n, count = 0;

    for (;;) {
        if (*pattern != '/' || *path != '/')
            return *pattern == *path && (m->args_count = count, true);
        p = strcspn(++pattern, "/");
        n = strcspn(++path, "/");
        if (*pattern == '{' && n > 0 && count < PATH_ARGS_MAX) {
            m->args[count].name = arena_strndup(a, pattern + 1, p - 2);
            m->args[count++].value = arena_strndup(a, path, n);
        } else if (p != n || strncmp(pattern, path, n) != 0) {
            return false;
        }
        pattern += p;
        path += n;
    }
}

static void allow(struct match *m, const char *method)
{
    size_t n = strlen(m->allow);

    snprintf(m->allow + n, sizeof(m->allow) - n, "%s%s", n ? ", " : "", method);
}

void routes_match(struct arena *a, const char *method, const char *path, struct match *out)
{
    const struct route *route;
    struct match tried = {0};
    size_t i;

    memset(out, 0, sizeof(*out));
    path = without_prefix(path);
    for (i = 0; i < operations_count; i++) {
        for (route = operations[i].routes; route && route->method; route++) {
            if (!fits(a, route->path, path, &tried))
                continue;
            allow(out, route->method);
            if (strcmp(route->method, method) != 0)
                continue;
            memcpy(out->args, tried.args, sizeof(out->args));
            out->args_count = tried.args_count;
            out->operation = &operations[i];
            out->route = route;
        }
    }
    if (*out->allow)
        allow(out, "OPTIONS");
}
