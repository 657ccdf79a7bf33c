#include "gateway-shim/respond.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/text.h"
#include "common/chat/problem.h"

static struct metric_family request_duration = {
    "http_request_duration_seconds", METRIC_HISTOGRAM,
    "From a complete request to its answer, by route pattern", NULL, NULL};

static json_t *origins; /* the allowed ones, as an array; ["*"]: all */

/* A list with commas, or a JSON array of texts. */
int respond_init(struct err *e)
{
    char *list, *rest, *one;
    json_t *origin;
    size_t i;

    if (*gateway_settings.cors_origins != '[') {
        list = rest = mem_strdup(gateway_settings.cors_origins);
        origins = json_array();
        while ((one = text_next_item(&rest)))
            json_array_append_new(origins, json_string(one));
        free(list);
    } else {
        origins = json_loads(gateway_settings.cors_origins, 0, NULL);
    }
    if (!json_is_array(origins))
        return err_set(e, ERR_FATAL, 500, "CORS_ORIGINS is no list and no JSON array");
    json_array_foreach (origins, i, origin) {
        const char *text = json_string_value(origin);

        if (!text || (strcmp(text, "*") != 0 && !strstr(text, "://")))
            return err_set(e, ERR_FATAL, 500,
                           "CORS_ORIGINS: %.80s is no origin like https://app.example.org",
                           text ? text : "an entry");
    }
    return 0;
}

void respond_free(void)
{
    json_decref(origins);
    origins = NULL;
}

/* What to say to a page of this origin: "*", the origin itself, or NULL for nothing. */
static const char *allowed_origin(const char *origin)
{
    json_t *one;
    size_t i;

    json_array_foreach (origins, i, one) {
        if (strcmp(json_string_value(one), "*") == 0)
            return "*";
        if (strcmp(json_string_value(one), origin) == 0)
            return origin;
    }
    return NULL;
}

static void add_cors(struct request *r)
{
    const char *origin = http_header(r->http, "Origin");
    const char *allowed = origin ? allowed_origin(origin) : NULL;

    if (origin)
        http_add_header(r->http, "Vary", "Origin");
    if (!allowed)
        return;
    http_add_header(r->http, "Access-Control-Allow-Origin", allowed);
    http_add_header(r->http, "Access-Control-Expose-Headers",
                    "X-Correlation-ID, Retry-After, Location, Preference-Applied");
}

/* With an Idempotency-Key a conflict is most likely with an earlier request under way. */
static bool may_come_again(const struct request *r, int status)
{
    return status == 429 || status == 503 || (status == 409 && r->idempotency_key);
}

static void add_headers(struct request *r, int status)
{
    static const char *const fixed[][2] = {
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
        {"Cache-Control", "no-store"},
    };
    char seconds[16];
    size_t i;

    if (may_come_again(r, status)) {
        snprintf(seconds, sizeof(seconds), "%d", RETRY_AFTER_S);
        http_add_header(r->http, "Retry-After", seconds);
    }
    http_add_header(r->http, "X-Correlation-ID", r->correlation_id);
    for (i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        http_add_header(r->http, fixed[i][0], fixed[i][1]);
    add_cors(r);
}

static void count(const struct request *r, int status, double seconds)
{
    static struct { /* most requests are like the one before; the texts are constants */
        const char *method, *route;
        int status;
        struct metric *series;
    } last;
    const char *method = http_method(r->http);
    char labels[192];

    if (last.method != method || last.route != r->route || last.status != status) {
        snprintf(labels, sizeof(labels), "method=\"%s\",route=\"%s\",status_code=\"%d\"", method,
                 r->route, status);
        last.method = method;
        last.route = r->route;
        last.status = status;
        last.series = metric_get(&request_duration, labels);
    }
    metric_observe(last.series, seconds);
}

static void account(const struct request *r, int status, const char *error)
{
    int64_t us = clock_monotonic_us() - r->started_us;
    const char *method = http_method(r->http);

    count(r, status, (double)us / 1e6);
    log_event(status >= 500 ? LOG_WARN : LOG_INFO, "request", LOG_STR("method", method),
              LOG_STR("route", r->route), LOG_NUM("status", status),
              LOG_STR("operation", r->operation ? r->operation->name : NULL),
              LOG_STR("correlation_id", r->correlation_id), LOG_STR("user_id", r->identity.user_id),
              LOG_STR("tenant_id", r->identity.tenant_id), LOG_STR("remote", http_remote(r->http)),
              LOG_NUM("duration_us", (long)us), LOG_STR("error", error));
}

/* error: for the log, or NULL. */
static void answer(struct request *r, int status, const char *content_type, const void *body,
                   size_t n, const char *error)
{
    bool empty = status == 204 || status == 304; /* whatever a worker sent */

    add_headers(r, status);
    account(r, status, error);
    http_reply(r->http, status, empty ? NULL : content_type, body, empty ? 0 : n);
    arena_free(r->arena); /* the request lives in it */
}

void respond(struct request *r, int status, const char *content_type, const void *body, size_t n)
{
    answer(r, status, content_type, body, n, NULL);
}

static void respond_text(struct request *r, int status, const char *content_type, json_t *body,
                         const char *error)
{
    char *text = json_dumps(body, JSON_COMPACT);

    json_decref(body);
    answer(r, status, content_type, text, strlen(text), error);
    free(text);
}

void respond_json(struct request *r, int status, json_t *body)
{
    respond_text(r, status, "application/json", body, NULL);
}

void respond_problem(struct request *r, int status, const char *detail, json_t *errors)
{
    if (status == 401)
        http_add_header(r->http, "WWW-Authenticate", "Bearer");
    respond_details(r, status, problem_new(status, detail, r->correlation_id, errors));
}

void respond_details(struct request *r, int status, json_t *problem)
{
    const char *detail = json_string_value(json_object_get(problem, "detail"));

    respond_text(r, status, PROBLEM_TYPE, problem, arena_strdup(r->arena, detail));
}

void respond_stream_start(struct request *r, const char *content_type, http_closed *closed,
                          void *arg)
{
    add_headers(r, 200);
    http_add_header(r->http, "X-Accel-Buffering", "no"); /* to nginx, which else would collect it */
    http_stream_start(r->http, 200, content_type, closed, arg);
}

void respond_stream_end(struct request *r, const char *error)
{
    account(r, 200, error);
    http_stream_end(r->http);
    arena_free(r->arena);
}

void respond_preflight(struct request *r, const char *allow)
{
    http_add_header(r->http, "Allow", allow);
    if (http_header(r->http, "Origin")) {
        http_add_header(r->http, "Access-Control-Allow-Methods", allow);
        http_add_header(r->http, "Access-Control-Allow-Headers",
                        "Authorization, Content-Type, X-Tenant-ID, traceparent, Idempotency-Key, "
                        "Prefer, Accept, Last-Event-ID");
        http_add_header(r->http, "Access-Control-Max-Age", "600");
    }
    respond(r, 204, NULL, NULL, 0);
}
