/* What the files of the shim share: its settings, the process, and a request on its way. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include <jansson.h>

#include "common/base/config.h"
#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "common/chat/operations.h"
#include "common/io/httpd.h"
#include "common/io/token.h"
#include "common/worker/process.h"

struct gateway_settings {
    char *address;
    long port;
    long body_max, headers_max, connections_max, idle_timeout_s, request_timeout_s;
    long stream_output_max, stream_ping_s;
    char *cors_origins;
    char *internal_key;
    struct token_rules tokens;
};
extern struct gateway_settings gateway_settings;

struct gateway {
    struct loop *loop;
    struct process *process;
    struct httpd *httpd;
    struct rpc *rpc;
    struct auth *auth;
    struct health *health;
    struct timer *doors, *drain;
    int64_t draining_since; /* monotonic us; 0: serving */
    bool closing;
    int exit_code;
};

/* Who calls: from the verified token. The texts live in the request's arena. */
struct identity {
    const char *user_id; /* a UUID */
    const char *subject; /* what it was made from, where that is no UUID, else NULL */
    const char *tenant_id;
    const char *roles;
    const char *scope;
    const char *tier; /* NULL: the token names none */
};

/* One HTTP request, from its arrival to its answer. Owned by whoever will answer it. */
struct request {
    struct gateway *gateway;
    struct http_request *http;
    struct arena *arena;
    const struct operation *operation; /* NULL: none matched, or served by the shim itself */
    const char *route;                 /* for metrics: the pattern, never the path */
    char correlation_id[UUID_TEXT];
    struct identity identity;
    const char *idempotency_key; /* NULL: none was given */
    bool prefers_async;          /* said by a Prefer header */
    int64_t started_us;
};

/* gateway.c: the handler of every request */
void gateway_handle(void *arg, struct http_request *http);

int gateway_main(int argc, char **argv);

#endif
