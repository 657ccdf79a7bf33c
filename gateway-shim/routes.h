/* From a method and a path to an operation, by the table of operations. */
#ifndef GATEWAY_ROUTES_H
#define GATEWAY_ROUTES_H

#include "gateway-shim/gateway.h"

#define ROUTES_PREFIX "/api/chat"

enum { PATH_ARGS_MAX = 4 };

struct match {
    const struct operation *operation; /* NULL: no such path, or not with this method */
    const struct route *route;
    struct {
        const char *name, *value; /* in the arena given */
    } args[PATH_ARGS_MAX];
    size_t args_count;
    char allow[64]; /* the path's methods; "": there is no such path */
};

/* The path may bear the prefix or none, as behind an API gateway that takes it away. */
void routes_match(struct arena *a, const char *method, const char *path, struct match *out);

#endif
