#include "common/io/redis_settings.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

struct redis_settings redis_settings;

#define SETTING(member) offsetof(struct redis_settings, member)

static const struct config_key keys[] = {
    {"REDIS_URL", CONFIG_STRING, SETTING(url), "", 0, 2048, NULL, NULL, true,
     "Redis, redis://[[user]:password@]host[:port][/database], shared by all processes. "
     "Empty: none, each takes its part of the limits."},
    {"REDIS_HOST", CONFIG_STRING, SETTING(host), "", 0, 255, NULL, NULL, false,
     "Its host, instead of REDIS_URL; if both are set they must agree."},
    {"REDIS_PORT", CONFIG_INT, SETTING(port), "0", 0, 65535, NULL, NULL, false,
     "And its port; 0: 6379, or that of REDIS_URL."},
    {"REDIS_CONNECT_TIMEOUT_MS", CONFIG_INT, SETTING(connect_timeout_ms), "1000", 10, 60000, NULL,
     NULL, false, "For address, connection and login of Redis together."},
    {"REDIS_TIMEOUT_MS", CONFIG_INT, SETTING(answer_timeout_ms), "100", 1, 60000, NULL, NULL, false,
     "A Redis that takes longer for an answer is done without, until it is back."},
    {"REDIS_RECONNECT_MAX_MS", CONFIG_INT, SETTING(reconnect_max_ms), "2000", 100, 600000, NULL,
     NULL, false, "The longest pause between two attempts to reach Redis."},
};
const struct config_section redis_section = {"Redis", keys, sizeof(keys) / sizeof(keys[0]),
                                             &redis_settings};

static int disagree(struct err *e, const char *name)
{
    return err_set(e, ERR_FATAL, 500, "REDIS_URL and %s disagree: set only one of them", name);
}

static int check_agreement(const struct redis_settings *s, struct err *e)
{
    int port, database, failed = 0;
    char *host;

    if (redis_url_read(s->url, &host, &port, &database, e))
        return err_context(e, "REDIS_URL");
    if (*s->host && strcmp(s->host, host) != 0)
        failed = disagree(e, "REDIS_HOST");
    else if (s->port != 0 && s->port != port)
        failed = disagree(e, "REDIS_PORT");
    free(host);
    return failed;
}

static char *url_of(const struct redis_settings *s)
{
    const char *open = strchr(s->host, ':') ? "[" : "", *close = *open ? "]" : "";

    if (*s->url)
        return mem_strdup(s->url);
    return mem_printf("redis://%s%s%s:%ld", open, s->host, close, s->port ? s->port : 6379);
}

int redis_settings_open(struct redis **r, struct loop *l, const char *name,
                        const struct redis_events *events, void *arg, struct err *e)
{
    const struct redis_settings *s = &redis_settings;
    struct redis_config config = {.name = name,
                                  .connect_timeout_ms = s->connect_timeout_ms,
                                  .answer_timeout_ms = s->answer_timeout_ms,
                                  .backoff_max_ms = s->reconnect_max_ms};
    char *url;

    *r = NULL;
    if (!*s->url && !*s->host)
        return s->port == 0 ? 0 : err_set(e, ERR_FATAL, 500, "REDIS_PORT without REDIS_HOST");
    if (*s->url && check_agreement(s, e))
        return -1;
    url = url_of(s);
    config.url = url;
    *r = redis_open(l, &config, events, arg, e);
    free(url);
    return *r ? 0 : err_context(e, *s->url ? "REDIS_URL" : "REDIS_HOST");
}
