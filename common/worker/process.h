/*
 * What every server process of the fleet has: broker settings, an admin endpoint, readiness told
 * to systemd and in a file, a name. Workers get it through worker.h; the shim uses it directly.
 */
#ifndef WORKER_PROCESS_H
#define WORKER_PROCESS_H

#include <jansson.h>

#include "common/base/config.h"
#include "common/io/loop.h"
#include "common/io/mq.h"

struct process_settings {
    char *rabbitmq_url, *rabbitmq_ca_file;
    long heartbeat_s, connect_timeout_ms, reconnect_max_ms, output_max, message_max;
    long drain_timeout_s;
    char *admin_address;
    long admin_port;
    char *state_file;
};
extern struct process_settings process_settings;
extern const struct config_section process_broker_section, process_admin_section;

struct process;

/* Adds to the answer of the admin endpoint's /health; returns whether all is well. */
typedef bool process_health_cb(void *arg, json_t *health);

/* kind: "context-builder"; the admin endpoint listens when this returns. NULL on failure. */
struct process *process_new(struct loop *l, const char *kind, process_health_cb *health, void *arg,
                            struct err *e);
void process_free(struct process *p);

/* Ready to serve, for the first time or again; tells systemd and writes STATE_FILE. */
void process_ready(struct process *p);
void process_stopping(struct process *p); /* the drain begins */

const char *process_instance(const struct process *p); /* "context-builder@HOST:PID" */

/* A connection's settings; purpose is "publish" or "consume". The name lives with p. */
struct mq_config process_mq_config(struct process *p, const char *purpose);

/* The metrics of a connection: ups and downs, blocked, bytes waiting. Called before /metrics. */
void process_watch_mq(struct process *p, const char *purpose, struct mq *m);

/* All metrics of the process as Prometheus text; the caller frees the buffer. */
void process_render_metrics(struct process *p, struct buf *out);

#endif
