#include "gateway-shim/gateway.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/program.h"
#include "common/chat/problem.h"
#include "common/chat/topology.h"
#include "common/io/notify.h"
#include "gateway-shim/auth.h"
#include "gateway-shim/call.h"
#include "gateway-shim/health.h"
#include "gateway-shim/respond.h"
#include "gateway-shim/routes.h"
#include "gateway-shim/rpc.h"

enum {
    START_GRACE_MS = 1000, /* how long clients wait for the first connection to the broker */
    DRAIN_TICK_MS = 50,
    KEEPALIVE_GRACE_US = 2000000, /* how long a drain waits for idle connections to come back */
    DESCRIPTORS_RESERVED = 64,    /* beside the clients' connections */
};

struct gateway_settings gateway_settings;

#define SETTING(member) offsetof(struct gateway_settings, member)

static const struct config_key http_keys[] = {
    {"PORT", CONFIG_INT, SETTING(port), "3006", 0, 65535, NULL, NULL, false,
     "The port of the HTTP interface; 0 takes a free one. Not used with an inherited socket."},
    {"BIND_ADDRESS", CONFIG_STRING, SETTING(address), "0.0.0.0", 2, 64, NULL, NULL, false,
     "The numeric address to listen on."},
    {"HTTP_BODY_MAX_BYTES", CONFIG_INT, SETTING(body_max), "262144", 1024, 67108864, NULL, NULL,
     false, "The largest body of a request; more is answered with 413."},
    {"HTTP_HEADERS_MAX_BYTES", CONFIG_INT, SETTING(headers_max), "16384", 1024, 1048576, NULL, NULL,
     false, "The largest request line and headers."},
    {"HTTP_CONNECTIONS_MAX", CONFIG_INT, SETTING(connections_max), "12000", 1, 1000000, NULL, NULL,
     false, "Clients at once; more wait until one leaves."},
    {"HTTP_IDLE_TIMEOUT_SECONDS", CONFIG_INT, SETTING(idle_timeout_s), "75", 1, 86400, NULL, NULL,
     false, "After this a connection without a request is closed."},
    {"HTTP_REQUEST_TIMEOUT_SECONDS", CONFIG_INT, SETTING(request_timeout_s), "15", 1, 3600, NULL,
     NULL, false, "From the first byte of a request to its last."},
    {"HTTP_STREAM_OUTPUT_MAX_BYTES", CONFIG_INT, SETTING(stream_output_max), "262144", 1024,
     67108864, NULL, NULL, false,
     "A client that has more of a stream than this waiting when more comes is cut off."},
    {"HTTP_STREAM_PING_SECONDS", CONFIG_INT, SETTING(stream_ping_s), "15", 1, 3600, NULL, NULL,
     false, "How often a stream gets a comment, so that nobody on the way takes it for dead."},
    {"CORS_ORIGINS", CONFIG_STRING, SETTING(cors_origins), "*", 0, 8192, NULL, NULL, false,
     "Origins of pages that may call, with commas between or as a JSON array; * for all."},
    {"INTERNAL_SERVICE_KEY", CONFIG_STRING, SETTING(internal_key), "", 0, 1024, NULL, NULL, true,
     "What X-Internal-Service-Key must be for details that are not public. Empty: nobody."},
};
static const struct config_section http_section = {
    "HTTP", http_keys, sizeof(http_keys) / sizeof(http_keys[0]), &gateway_settings};

/* ---- what the shim answers itself ---- */

static json_t *operations_list(void)
{
    json_t *list = json_array();
    const struct route *route;
    size_t i;

    for (i = 0; i < operations_count; i++)
        for (route = operations[i].routes; route && route->method; route++)
            json_array_append_new(list,
                                  json_pack("{s:s, s:s+, s:s, s:s}", "method", route->method,
                                            "path", ROUTES_PREFIX, route->path, "operation",
                                            operations[i].name, "summary", operations[i].summary));
    return list;
}

static void serve_info(struct request *r)
{
    respond_json(r, 200,
                 json_pack("{s:s, s:s, s:o, s:[s,s,s]}", "service", "chatfleet-gateway", "version",
                           program_version(), "operations", operations_list(), "endpoints",
                           "/health", "/health/live", "/metrics"));
}

static void serve_live(struct request *r)
{
    char now[CLOCK_ISO_SIZE];

    respond_json(
        r, 200,
        json_pack("{s:s, s:s}", "status", "alive", "timestamp", clock_iso(clock_wall_ms(), now)));
}

static void serve_metrics(struct request *r)
{
    struct buf out;

    process_render_metrics(r->gateway->process, &out);
    respond(r, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len);
    buf_free(&out);
}

static void serve_health(struct request *r)
{
    health_serve(r->gateway->health, r);
}

static const struct {
    const char *path;
    void (*serve)(struct request *r);
} own_paths[] = {
    {"/", serve_info},
    {"/health", serve_health},
    {"/health/live", serve_live},
    {"/metrics", serve_metrics},
};

/* Serve what is ours. Returns false for all other paths. */
static bool serve_own(struct request *r)
{
    const char *path = http_path(r->http), *method = http_method(r->http);
    size_t i;

    for (i = 0; i < sizeof(own_paths) / sizeof(own_paths[0]); i++) {
        if (strcmp(path, own_paths[i].path) != 0)
            continue;
        r->route = own_paths[i].path;
        if (strcmp(method, "OPTIONS") == 0) {
            respond_preflight(r, "GET, HEAD, OPTIONS");
        } else if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
            http_add_header(r->http, "Allow", "GET, HEAD, OPTIONS");
            respond_problem(r, 405, "this path knows GET only", NULL);
        } else {
            own_paths[i].serve(r);
        }
        return true;
    }
    return false;
}

/* ---- requests ---- */

static void serve_path(struct request *r)
{
    const char *method = http_method(r->http);
    struct match m;

    routes_match(r->arena, method, http_path(r->http), &m);
    if (m.operation) {
        call_operation(r, &m);
    } else if (!*m.allow) {
        respond_problem(r, 404, "there is nothing at this path", NULL);
    } else if (strcmp(method, "OPTIONS") == 0) {
        respond_preflight(r, m.allow);
    } else {
        http_add_header(r->http, "Allow", m.allow);
        respond_problem(r, 405, "this path does not know the method", NULL);
    }
}

void gateway_handle(void *arg, struct http_request *http)
{
    struct arena *a = arena_new();
    struct request *r = arena_alloc(a, sizeof(*r));

    r->gateway = arg;
    r->http = http;
    r->arena = a;
    r->route = "none";
    r->started_us = clock_monotonic_us();
    uuid_v7(r->correlation_id);
    if (http_version_minor(http) < 0) {
        http_close_after(http);
        respond_problem(r, 505, "HTTP/1.1 is spoken here", NULL);
    } else if (http_defect(http)) {
        http_close_after(http);
        respond_problem(r, 400, http_defect(http), NULL);
    } else if (!serve_own(r)) {
        serve_path(r);
    }
}

/* ---- the drain ---- */

static void all_closed(void *arg)
{
    struct gateway *g = arg;

    loop_stop(g->loop);
}

/* Every answer now says "Connection: close"; who keeps a connection idle is waited for a while,
 * so that no request meets a closed socket. */
static void drain_step(void *arg)
{
    struct gateway *g = arg;
    int64_t waited = clock_monotonic_us() - g->draining_since;
    bool late = waited > process_settings.drain_timeout_s * 1000000;

    if (g->closing)
        return;
    if (waited > KEEPALIVE_GRACE_US && httpd_requests(g->httpd) == 0)
        httpd_close_idle(g->httpd, KEEPALIVE_GRACE_US);
    if (httpd_connections(g->httpd) > 0 && !late) {
        timer_set(g->drain, DRAIN_TICK_MS);
        return;
    }
    if (httpd_requests(g->httpd) > 0) {
        log_event(LOG_WARN, "requests given up",
                  LOG_NUM("requests", (long)httpd_requests(g->httpd)));
        rpc_abandon(g->rpc, "the service is stopping");
    }
    g->closing = true;
    rpc_close(g->rpc, all_closed, g);
}

static void drain(void *arg)
{
    struct gateway *g = arg;

    if (g->draining_since)
        return;
    g->draining_since = clock_monotonic_us();
    process_stopping(g->process);
    httpd_drain(g->httpd);
    drain_step(g);
}

/* ---- life ---- */

static bool admin_health(void *arg, json_t *out)
{
    struct gateway *g = arg;
    bool ready = rpc_is_ready(g->rpc);

    json_object_set_new(
        out, "dependencies",
        json_pack("{s:{s:s}}", "rabbitmq", "status", ready ? "healthy" : "unhealthy"));
    json_object_set_new(out, "connections", json_integer((json_int_t)httpd_connections(g->httpd)));
    json_object_set_new(out, "calls_pending", json_integer((json_int_t)rpc_pending(g->rpc)));
    return ready;
}

/* Each client takes a descriptor; ask for as many as are allowed. */
static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur >= (rlim_t)gateway_settings.connections_max + DESCRIPTORS_RESERVED)
        return;
    log_event(LOG_WARN, "descriptors short of HTTP_CONNECTIONS_MAX",
              LOG_NUM("descriptors", (long)limit.rlim_cur));
    if ((rlim_t)gateway_settings.connections_max + DESCRIPTORS_RESERVED > limit.rlim_cur)
        gateway_settings.connections_max = limit.rlim_cur > 2 * DESCRIPTORS_RESERVED
                                               ? (long)limit.rlim_cur - DESCRIPTORS_RESERVED
                                               : DESCRIPTORS_RESERVED;
}

static int listen_http(struct gateway *g, struct err *e)
{
    struct httpd_config limits = {.body_max = gateway_settings.body_max,
                                  .headers_max = gateway_settings.headers_max,
                                  .connections_max = gateway_settings.connections_max,
                                  .idle_timeout_s = gateway_settings.idle_timeout_s,
                                  .request_timeout_s = gateway_settings.request_timeout_s,
                                  .stream_output_max = gateway_settings.stream_output_max};
    int inherited = notify_listen_fd(), port;

    g->httpd = httpd_new(g->loop, &limits, gateway_handle, g, problem_page);
    if (inherited >= 0) {
        log_event(LOG_INFO, "listening", LOG_STR("socket", "inherited"));
        return httpd_listen_inherited(g->httpd, inherited, e);
    }
    port = httpd_listen(g->httpd, gateway_settings.address, (int)gateway_settings.port, e);
    if (port < 0)
        return -1;
    log_event(LOG_INFO, "listening", LOG_STR("address", gateway_settings.address),
              LOG_NUM("port", port));
    return 0;
}

static void open_doors(void *arg)
{
    struct gateway *g = arg;

    timer_stop(g->doors);
    if (g->httpd && !g->draining_since)
        httpd_accept(g->httpd);
}

static void ready(void *arg)
{
    struct gateway *g = arg;

    open_doors(g);
    if (!g->draining_since)
        process_ready(g->process);
}

static int start(struct gateway *g, struct err *e)
{
    raise_descriptors();
    if (respond_init(e))
        return -1;
    g->auth = auth_new();
    g->health = health_new(g);
    g->process = process_new(g->loop, "gateway", admin_health, g, e);
    if (!g->process)
        return -1;
    g->rpc = rpc_new(g->loop, g->process, ready, g, e);
    if (!g->rpc)
        return -1;
    timer_set(g->doors, START_GRACE_MS); /* without a broker clients are told so */
    return listen_http(g, e);
}

static void gateway_free(struct gateway *g)
{
    rpc_free(g->rpc);
    httpd_free(g->httpd);
    process_free(g->process);
    auth_free(g->auth);
    health_free(g->health);
    respond_free();
    timer_free(g->drain);
    timer_free(g->doors);
    loop_free(g->loop);
}

int gateway_main(int argc, char **argv)
{
    const struct config_section token_section = {"Tokens", token_keys, token_keys_count,
                                                 &gateway_settings.tokens};
    const struct config_section sections[] = {http_section,           token_section,
                                              process_broker_section, process_admin_section,
                                              chat_names_section,     chat_limits_section};
    const struct program program = {"chatfleet-gateway",
                                    "the shim between HTTP and the fleet's message queues",
                                    sections, sizeof(sections) / sizeof(sections[0])};
    struct gateway g = {0};
    struct err e;

    program_start(&program, argc, argv);
    g.loop = loop_new();
    g.drain = timer_new(g.loop, drain_step, &g);
    g.doors = timer_new(g.loop, open_doors, &g);
    if (start(&g, &e)) {
        log_event(LOG_ERROR, "start refused", LOG_STR("error", e.text));
        g.exit_code = EXIT_CONFIG;
    } else {
        loop_on_signal(g.loop, SIGTERM, drain, &g);
        loop_on_signal(g.loop, SIGINT, drain, &g);
        loop_run(g.loop);
    }
    gateway_free(&g);
    config_free(sections, program.count);
    return g.exit_code;
}
