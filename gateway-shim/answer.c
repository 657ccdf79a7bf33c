#include "gateway-shim/answer.h"

#include <string.h>

#include "common/chat/problem.h"
#include "gateway-shim/respond.h"
#include "gateway-shim/routes.h"

/* An operation of several steps is a turn, which has the id of its message and a record to ask. */
static bool is_turn(const struct request *r)
{
    return r->operation->write && *r->operation->slip;
}

static const char *turn_url(const struct request *r, const char *turn_id)
{
    return arena_printf(r->arena, "%s/turns/%s", ROUTES_PREFIX, turn_id);
}

/* ---- no answer ---- */

/* What to do about an outcome that is not known. */
static const char *advice(const struct request *r)
{
    if (!r->operation->write)
        return "";
    if (strcmp(http_method(r->http), "POST") != 0 || r->operation->repeatable)
        return "; repeating the request is safe";
    if (r->idempotency_key)
        return "; repeating the request with the same Idempotency-Key is safe";
    return "; repeating a request is safe only with an Idempotency-Key, and this one had none";
}

json_t *answer_problem(const struct request *r, const struct rpc_result *result)
{
    const char *url = turn_url(r, r->correlation_id), *detail = result->why;
    bool turn = result->open && is_turn(r);
    json_t *problem;

    if (result->open && strcmp(http_method(r->http), "GET") != 0)
        detail = arena_printf(r->arena, "%s; the outcome is open%s%s%s", result->why,
                              turn ? ", and told at " : "", turn ? url : "", advice(r));
    problem = problem_new(result->status, detail, r->correlation_id, NULL);
    if (turn) {
        json_object_set_new(problem, "turn_id", json_string(r->correlation_id));
        json_object_set_new(problem, "status_url", json_string(url));
    }
    return problem;
}

/* ---- an answer ---- */

static const char *text_of(const struct request *r, const json_t *body, const char *name)
{
    return arena_strdup(r->arena, json_string_value(json_object_get(body, name)));
}

/* Where what was made, or what is under way, is to be found. */
static void add_location(struct request *r, const struct rpc_result *result)
{
    json_t *body = json_loadb(result->body, result->body_len, 0, NULL);
    const char *id = text_of(r, body, result->status == 201 ? "id" : "turn_id");

    json_decref(body);
    if (!id || !uuid_valid(id))
        return;
    if (result->status == 202)
        http_add_header(r->http, "Location", turn_url(r, id));
    else if (!strchr(r->route, '{'))
        http_add_header(r->http, "Location",
                        arena_printf(r->arena, "%s%s/%s", ROUTES_PREFIX, r->route, id));
}

void answer_result(struct request *r, const struct rpc_result *result)
{
    if (result->type == RPC_NONE) {
        respond_details(r, result->status, answer_problem(r, result));
        return;
    }
    if (result->status == 201 || result->status == 202)
        add_location(r, result);
    if (result->status == 202 && r->prefers_async)
        http_add_header(r->http, "Preference-Applied", "respond-async");
    respond(r, result->status, result->type == RPC_ERROR ? PROBLEM_TYPE : "application/json",
            result->body, result->body_len);
}
