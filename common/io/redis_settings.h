/* Where Redis is, by configuration: REDIS_URL, or REDIS_HOST and REDIS_PORT. */
#ifndef IO_REDIS_SETTINGS_H
#define IO_REDIS_SETTINGS_H

#include "common/base/config.h"
#include "common/base/err.h"
#include "common/io/redis.h"

struct redis_settings {
    char *url, *host;
    long port;
    long connect_timeout_ms, answer_timeout_ms, reconnect_max_ms;
};
extern struct redis_settings redis_settings;
extern const struct config_section redis_section;

/* Open the connection that is configured. *r stays NULL if none is. Returns -1 when what is configured
 * cannot be read, or disagrees. */
int redis_settings_open(struct redis **r, struct loop *l, const char *name,
                        const struct redis_events *events, void *arg, struct err *e);

#endif
