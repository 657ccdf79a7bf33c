#include "common/worker/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/program.h"
#include "common/chat/problem.h"
#include "common/io/httpd.h"
#include "common/io/notify.h"

enum {
    CONNECTIONS = 4, /* to the broker, per process */
    METRICS_MAX = 4 * 1024 * 1024,
};

struct process_settings process_settings;

#define SETTING(member) offsetof(struct process_settings, member)

static const struct config_key broker_keys[] = {
    {"RABBITMQ_URL", CONFIG_STRING, SETTING(rabbitmq_url), "amqp://guest:guest@127.0.0.1:5672/", 7,
     2048, NULL, NULL, true, "The broker, amqp[s]://user:password@host:port/vhost."},
    {"RABBITMQ_CA_FILE", CONFIG_STRING, SETTING(rabbitmq_ca_file), "", 0, 4096, NULL, NULL, false,
     "With amqps: the authorities that may sign the broker's certificate, as PEM. Empty: the "
     "system's."},
    {"AMQP_HEARTBEAT_SECONDS", CONFIG_INT, SETTING(heartbeat_s), "10", 1, 3600, NULL, NULL, false,
     "A broker that is silent for twice as long is taken for dead."},
    {"AMQP_CONNECT_TIMEOUT_MS", CONFIG_INT, SETTING(connect_timeout_ms), "10000", 100, 600000, NULL,
     NULL, false, "Milliseconds for address, TCP, TLS and login together."},
    {"AMQP_RECONNECT_MAX_MS", CONFIG_INT, SETTING(reconnect_max_ms), "2000", 100, 600000, NULL,
     NULL, false, "The longest pause between two attempts to reach the broker, in milliseconds."},
    {"AMQP_OUTPUT_MAX_BYTES", CONFIG_INT, SETTING(output_max), "8388608", 65536, 1073741824, NULL,
     NULL, false, "Bytes waiting for the broker before publishing is refused."},
    {"MAX_MESSAGE_BYTES", CONFIG_INT, SETTING(message_max), "1048576", 1024, 134217728, NULL, NULL,
     false, "The largest body of a message, in bytes."},
    {"DRAIN_TIMEOUT_SECONDS", CONFIG_INT, SETTING(drain_timeout_s), "30", 1, 3600, NULL, NULL,
     false, "How long SIGTERM lets the work under way finish."},
};
static const struct config_key admin_keys[] = {
    {"ADMIN_ADDRESS", CONFIG_STRING, SETTING(admin_address), "127.0.0.1", 2, 64, NULL, NULL, false,
     "Where /health, /health/live and /metrics of this process are served."},
    {"ADMIN_PORT", CONFIG_INT, SETTING(admin_port), "0", 0, 65535, NULL, NULL, false,
     "Its port; 0 takes a free one."},
    {"STATE_FILE", CONFIG_STRING, SETTING(state_file), "", 0, 4096, NULL, NULL, false,
     "A file that says, as JSON, the pid and admin address once the process is ready. Empty: "
     "none."},
};
const struct config_section process_broker_section = {
    "Broker", broker_keys, sizeof(broker_keys) / sizeof(broker_keys[0]), &process_settings};
const struct config_section process_admin_section = {
    "Administration", admin_keys, sizeof(admin_keys) / sizeof(admin_keys[0]), &process_settings};

static struct metric_family connections_total = {"amqp_connections_total", METRIC_COUNTER,
                                                 "How often the broker was connected", NULL, NULL};
static struct metric_family connection_up = {"amqp_connection_up", METRIC_GAUGE,
                                             "1 when messages can be published", NULL, NULL};
static struct metric_family output_bytes = {
    "amqp_output_bytes", METRIC_GAUGE, "Bytes waiting to be written to the broker", NULL, NULL};
static struct metric_family memory_bytes = {"process_resident_memory_bytes", METRIC_GAUGE,
                                            "Resident memory", NULL, NULL};

struct process {
    struct loop *loop;
    char *kind, *instance, *names[CONNECTIONS];
    size_t names_count;
    process_health_cb *health;
    void *arg;
    struct httpd *admin;
    int port;
    bool ready;
    struct timer *watchdog;
    struct {
        const char *purpose;
        struct mq *mq;
    } watched[CONNECTIONS];
    size_t watched_count;
};

/* ---- the admin endpoint ---- */

static void reply_json(struct http_request *r, int status, const char *type, json_t *body)
{
    char *text = json_dumps(body, JSON_COMPACT);

    json_decref(body);
    http_reply(r, status, type, text, strlen(text));
    free(text);
}

static void serve_health(struct process *p, struct http_request *r)
{
    char now[CLOCK_ISO_SIZE];
    json_t *health = json_object();
    bool well = p->health(p->arg, health) && p->ready;

    json_object_set_new(health, "status", json_string(well ? "healthy" : "unhealthy"));
    json_object_set_new(health, "timestamp", json_string(clock_iso(clock_wall_ms(), now)));
    json_object_set_new(health, "service", json_string(p->kind));
    json_object_set_new(health, "instance", json_string(p->instance));
    json_object_set_new(health, "version", json_string(program_version()));
    reply_json(r, well ? 200 : 503, "application/json", health);
}

static double resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;

    if (f && fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void refresh_metrics(struct process *p)
{
    char labels[64];
    size_t i;

    metric_set(metric_get(&memory_bytes, ""), resident_bytes());
    for (i = 0; i < p->watched_count; i++) {
        struct mq *m = p->watched[i].mq;

        snprintf(labels, sizeof(labels), "connection=\"%s\"", p->watched[i].purpose);
        metric_set(metric_get(&connections_total, labels), (double)mq_connections(m));
        metric_set(metric_get(&connection_up, labels), mq_can_publish(m));
        metric_set(metric_get(&output_bytes, labels), (double)mq_output(m));
    }
}

void process_render_metrics(struct process *p, struct buf *out)
{
    refresh_metrics(p);
    buf_init(out, METRICS_MAX);
    if (metrics_render(out))
        log_event(LOG_ERROR, "metrics cut", LOG_NUM("limit_bytes", METRICS_MAX));
}

static void serve_metrics(struct process *p, struct http_request *r)
{
    struct buf out;

    process_render_metrics(p, &out);
    http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len);
    buf_free(&out);
}

static void serve(void *arg, struct http_request *r)
{
    struct process *p = arg;
    const char *path = http_path(r);
    bool reads = strcmp(http_method(r), "GET") == 0 || strcmp(http_method(r), "HEAD") == 0;

    if (http_defect(r))
        reply_json(r, 400, PROBLEM_TYPE, problem_new(400, http_defect(r), NULL, NULL));
    else if (!reads)
        reply_json(r, 405, PROBLEM_TYPE, problem_new(405, "only GET is served here", NULL, NULL));
    else if (strcmp(path, "/health") == 0)
        serve_health(p, r);
    else if (strcmp(path, "/health/live") == 0)
        reply_json(r, 200, "application/json", json_pack("{s:s}", "status", "alive"));
    else if (strcmp(path, "/metrics") == 0)
        serve_metrics(p, r);
    else
        reply_json(r, 404, PROBLEM_TYPE,
                   problem_new(404, "here are /health, /health/live and /metrics", NULL, NULL));
}

/* ---- readiness ---- */

static void write_state(struct process *p)
{
    char *part = mem_printf("%s.part", process_settings.state_file);
    FILE *f = fopen(part, "we");
    bool failed = !f;

    if (f) {
        failed |= fprintf(f, "{\"pid\":%ld,\"name\":\"chatfleet-%s\",\"admin\":\"%s:%d\"}\n",
                          (long)getpid(), p->kind, process_settings.admin_address, p->port) < 0;
        failed |= fclose(f) != 0;
    }
    if (failed || rename(part, process_settings.state_file))
        log_event(LOG_ERROR, "state file not written", LOG_STR("file", process_settings.state_file),
                  LOG_STR("error", strerror(errno)));
    free(part);
}

void process_ready(struct process *p)
{
    notify_send("READY=1");
    if (p->ready)
        return;
    p->ready = true;
    if (*process_settings.state_file)
        write_state(p);
    log_event(LOG_INFO, "ready", LOG_STR("instance", p->instance),
              LOG_STR("admin_address", process_settings.admin_address),
              LOG_NUM("admin_port", p->port));
}

void process_stopping(struct process *p)
{
    p->ready = false;
    notify_send("STOPPING=1");
    log_event(LOG_INFO, "draining", LOG_NUM("timeout_s", process_settings.drain_timeout_s));
}

static void pet_watchdog(void *arg)
{
    struct process *p = arg;

    notify_send("WATCHDOG=1");
    timer_set(p->watchdog, notify_watchdog_ms());
}

static void reopen_log(void *arg)
{
    (void)arg;
    log_reopen();
}

/* ---- life ---- */

const char *process_instance(const struct process *p)
{
    return p->instance;
}

struct mq_config process_mq_config(struct process *p, const char *purpose)
{
    char *name = mem_printf("chatfleet %s %s", p->instance, purpose);

    if (p->names_count == CONNECTIONS)
        abort();
    p->names[p->names_count++] = name;
    return (struct mq_config){.url = process_settings.rabbitmq_url,
                              .name = name,
                              .ca_file = process_settings.rabbitmq_ca_file,
                              .heartbeat = (int)process_settings.heartbeat_s,
                              .connect_timeout_ms = process_settings.connect_timeout_ms,
                              .backoff_max_ms = process_settings.reconnect_max_ms,
                              .output_max = (size_t)process_settings.output_max,
                              .message_max = (size_t)process_settings.message_max};
}

void process_watch_mq(struct process *p, const char *purpose, struct mq *m)
{
    if (p->watched_count == CONNECTIONS)
        abort();
    p->watched[p->watched_count].purpose = purpose;
    p->watched[p->watched_count++].mq = m;
}

struct process *process_new(struct loop *l, const char *kind, process_health_cb *health, void *arg,
                            struct err *e)
{
    static const struct httpd_config limits = {.body_max = 1024,
                                               .headers_max = 8192,
                                               .connections_max = 64,
                                               .idle_timeout_s = 60,
                                               .request_timeout_s = 10};
    struct process *p = mem_alloc(sizeof(*p));
    char host[256] = "";

    gethostname(host, sizeof(host) - 1);
    p->loop = l;
    p->kind = mem_strdup(kind);
    p->instance = mem_printf("%s@%s:%ld", kind, host, (long)getpid());
    p->health = health;
    p->arg = arg;
    p->admin = httpd_new(l, &limits, serve, p, problem_page);
    p->port =
        httpd_listen(p->admin, process_settings.admin_address, (int)process_settings.admin_port, e);
    p->watchdog = timer_new(l, pet_watchdog, p);
    loop_on_signal(l, SIGHUP, reopen_log, NULL);
    httpd_accept(p->admin);
    if (p->port < 0) {
        err_context(e, "ADMIN_ADDRESS, ADMIN_PORT");
        process_free(p);
        return NULL;
    }
    if (notify_watchdog_ms() > 0)
        timer_set(p->watchdog, notify_watchdog_ms());
    return p;
}

void process_free(struct process *p)
{
    size_t i;

    if (!p)
        return;
    if (*process_settings.state_file)
        unlink(process_settings.state_file);
    httpd_free(p->admin);
    timer_free(p->watchdog);
    for (i = 0; i < p->names_count; i++)
        free(p->names[i]);
    free(p->kind);
    free(p->instance);
    free(p);
}
