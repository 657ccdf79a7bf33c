#include "gateway-shim/call.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/text.h"
#include "common/chat/body.h"
#include "common/chat/envelope.h"
#include "common/chat/validate.h"
#include "gateway-shim/answer.h"
#include "gateway-shim/auth.h"
#include "gateway-shim/follow.h"
#include "gateway-shim/respond.h"
#include "gateway-shim/rpc.h"
#include "gateway-shim/stream.h"

/* "application/json", alone or with charset=utf-8. */
static bool is_json(const char *type)
{
    size_t n = strcspn(type, "; ");
    const char *charset = strcasestr(type, "charset=");

    if (n != strlen("application/json") || strncasecmp(type, "application/json", n) != 0)
        return false;
    return !charset || strncasecmp(charset + 8, "utf-8", 5) == 0 ||
           strncasecmp(charset + 8, "\"utf-8\"", 7) == 0;
}

/* The body as an object; no body is an empty one. */
static json_t *read_body(struct request *r, struct err *e)
{
    const char *type = http_header(r->http, "Content-Type");
    const char *encoding = http_header(r->http, "Content-Encoding");
    size_t n;
    const char *body = http_body(r->http, &n);

    if (n == 0)
        return json_object();
    if (encoding && strcasecmp(encoding, "identity") != 0) {
        err_set(e, ERR_REJECT, 415, "the body's Content-Encoding is not accepted");
        return NULL;
    }
    if (!type || !is_json(type)) {
        err_set(e, ERR_REJECT, 415, "the body's Content-Type must be application/json");
        return NULL;
    }
    return validate_parse(body, n, e);
}

static const struct arg *find_arg(const struct operation *op, const char *name,
                                  enum arg_place place)
{
    const struct arg *arg;

    for (arg = op->args; arg->name; arg++)
        if (arg->place == place && strcmp(arg->name, name) == 0)
            return arg;
    return NULL;
}

/* Add the arguments of path and query. */
static void add_args(struct request *r, const struct match *m, json_t *args)
{
    const char *name, *value;
    const struct arg *arg;
    size_t i;

    for (i = 0; i < m->args_count; i++) {
        arg = find_arg(r->operation, m->args[i].name, ARG_IN_PATH);
        if (arg)
            json_object_set_new(args, arg->name, validate_from_text(arg, m->args[i].value));
    }
    for (i = 0; http_query(r->http, i, &name, &value); i++) {
        arg = find_arg(r->operation, name, ARG_IN_QUERY);
        if (arg)
            json_object_set_new(args, arg->name, validate_from_text(arg, value));
    }
}

/* The client's trace goes on. Without one nothing is sent: who reports spans takes the correlation
 * id for the trace, and a header less is broker time saved on every hop. */
static const char *trace_parent(struct request *r)
{
    const char *given = http_header(r->http, "traceparent");

    if (given && strlen(given) == 55 && strspn(given, "0123456789abcdef-") == 55 &&
        given[2] == '-' && given[35] == '-' && given[52] == '-')
        return arena_strdup(r->arena, given);
    return NULL;
}

/* ---- what headers ask for ---- */

/* Does a header like Accept or Prefer list it, with a weight other than 0? */
static bool lists(const struct request *r, const char *header, const char *wanted)
{
    char *rest = arena_strdup(r->arena, http_header(r->http, header)), *item, *weight;

    while (rest && (item = text_next_item(&rest))) {
        size_t n = strcspn(item, "; \t");

        if (n != strlen(wanted) || strncasecmp(item, wanted, n) != 0)
            continue;
        weight = strcasestr(item + n, "q=");
        return !weight || strtod(weight + 2, NULL) > 0;
    }
    return false;
}

/* Set a flag among the arguments, unless what is there is for validate_args() to refuse. Returns
 * whether a header asks for it; of an operation that does not know the flag none does. */
static bool wishes(const struct request *r, json_t *args, const char *name, const char *header,
                   const char *wanted)
{
    const json_t *given = json_object_get(args, name);

    if (!find_arg(r->operation, name, ARG_IN_BODY) || !lists(r, header, wanted))
        return false;
    if (!given || json_is_null(given) || json_is_false(given))
        json_object_set_new(args, name, json_true());
    return true;
}

static void add_wishes(struct request *r, json_t *args)
{
    r->prefers_async = wishes(r, args, "async", "Prefer", "respond-async");
    wishes(r, args, "stream", "Accept", "text/event-stream");
}

/* The worker would refuse it as well, but here it is said field by field. */
static int check_wishes(const json_t *args, json_t **errors, struct err *e)
{
    if (!json_is_true(json_object_get(args, "stream")) ||
        !json_is_true(json_object_get(args, "async")))
        return 0;
    *errors = json_pack("[{s:s, s:s}]", "field", "async", "message",
                        "excludes stream, also where headers ask for them");
    return err_set(e, ERR_REJECT, 400, "an answer is either streamed or not waited for");
}

static int read_idempotency_key(struct request *r, struct err *e)
{
    const char *key = http_header(r->http, "Idempotency-Key");

    if (!key || strcmp(http_method(r->http), "POST") != 0)
        return 0;
    if (validate_idempotency_key(key, e))
        return -1;
    r->idempotency_key = arena_strdup(r->arena, key);
    return 0;
}

/* ---- the call ---- */

static void answered(void *arg, const struct rpc_result *result, bool last)
{
    (void)last;
    answer_result(arg, result);
}

static void publish(struct request *r, const json_t *args)
{
    struct envelope env = {.correlation_id = r->correlation_id,
                           .user_id = r->identity.user_id,
                           .tenant_id = r->identity.tenant_id,
                           .roles = r->identity.roles,
                           .scope = r->identity.scope,
                           .tier = r->identity.tier,
                           .subject = r->operation->introduces ? r->identity.subject : NULL,
                           .idempotency_key = r->idempotency_key,
                           .traceparent = trace_parent(r)};
    struct err e;
    size_t n;
    const char *body = body_text(r->arena, args, &n);

    if (n > (size_t)process_settings.message_max)
        respond_problem(r, 413, "the arguments are larger than a message may be", NULL);
    else if (r->operation->events && strcmp(r->route, r->operation->events) == 0)
        follow_call(r, &env, json_string_value(json_object_get(args, "turn_id")));
    else if (json_is_true(json_object_get(args, "stream")) &&
             find_arg(r->operation, "stream", ARG_IN_BODY))
        stream_call(r, &env, body, n);
    else if (!rpc_call(r->gateway->rpc, r->operation, r->arena, &env, body, n, RPC_ONE, answered, r,
                       &e))
        respond_problem(r, e.status, e.text, NULL);
}

void call_operation(struct request *r, const struct match *m)
{
    json_t *args, *errors = NULL;
    struct err e;

    r->operation = m->operation;
    r->route = m->route->path;
    if (auth_check(r->gateway->auth, r, &e) || read_idempotency_key(r, &e) ||
        !(args = read_body(r, &e))) {
        respond_problem(r, e.status, e.text, NULL);
        return;
    }
    add_args(r, m, args);
    add_wishes(r, args);
    if (validate_args(r->operation, args, &errors, &e) || check_wishes(args, &errors, &e)) {
        respond_problem(r, e.status, e.text, errors);
        json_decref(errors);
    } else {
        publish(r, args);
    }
    json_decref(args);
}
