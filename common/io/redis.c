#include "common/io/redis.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/util.h>
#include <hiredis/hiredis.h>
#include <openssl/evp.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/text.h"
#include "common/io/backoff.h"
#include "common/io/hosts.h"

enum {
    DEFAULT_PORT = 6379,
    DATABASE_MAX = 1000000,
    LASTING_US = 1000000,     /* after this a connection counts as a good one */
    ANSWER_MAX = 1024 * 1024, /* bytes of an answer that is not whole yet */
    EVAL_WORDS = 3,           /* EVALSHA, the hash, the number of keys */
    LOGIN_WORDS_MAX = 3,
    LABELS_MAX = 128,
};

enum redis_state { REDIS_DOWN, REDIS_LOOKUP, REDIS_CONNECTING, REDIS_LOGIN, REDIS_UP };

struct redis_call {
    TAILQ_ENTRY(redis_call) link;
    struct arena *arena;         /* holds this, too */
    struct redis_script *script; /* NULL: part of the login */
    bool optional;               /* an error as the answer does no harm */
    bool whole;                  /* with the script's text */
    const char **words;
    int count;
    int64_t began_us, sent_us;
    redis_done *done;
    void *arg;
};

TAILQ_HEAD(redis_calls, redis_call);

struct redis {
    struct loop *loop;
    struct redis_config config;
    struct redis_events events;
    void *arg;
    char *host, *user, *password, *name;
    int port, database;
    enum redis_state state;
    struct hosts *hosts;
    struct bufferevent *bev;
    redisReader *reader;
    struct redis_calls sent; /* in the order in which their answers come */
    struct timer *retry, *deadline;
    unsigned attempts; /* the last one's number is the connection's */
    unsigned failures; /* in a row */
    int64_t up_since_us;
};

static struct metric_family up_gauge = {"redis_up", METRIC_GAUGE, "1 while Redis takes calls", NULL,
                                        NULL};
static struct metric_family connections_total = {"redis_connections_total", METRIC_COUNTER,
                                                 "How often Redis was connected", NULL, NULL};
static struct metric_family calls_total = {"redis_calls_total", METRIC_COUNTER,
                                           "Scripts run in Redis, by how they ended", NULL, NULL};
static struct metric_family call_seconds = {"redis_call_duration_seconds", METRIC_HISTOGRAM,
                                            "From a script's call to its answer", NULL, NULL};

static void connect_now(void *arg);

/* ---- the URL ---- */

static int unreadable(struct err *e, const char *why)
{
    return err_set(e, ERR_FATAL, 500,
                   "%s: redis://[[user]:password@]host[:port][/database] is wanted", why);
}

/* A host in brackets is an address of version 6. */
static char *host_of(const struct evhttp_uri *uri)
{
    const char *host = evhttp_uri_get_host(uri);
    size_t n = host ? strlen(host) : 0;

    if (n == 0)
        return NULL;
    return host[0] == '[' && host[n - 1] == ']' ? mem_strndup(host + 1, n - 2) : mem_strdup(host);
}

static int database_of(const struct evhttp_uri *uri)
{
    const char *path = evhttp_uri_get_path(uri);
    char *end;
    long n;

    if (!path || strcmp(path, "") == 0 || strcmp(path, "/") == 0)
        return 0;
    n = strtol(path + 1, &end, 10);
    return *end || path[1] < '0' || path[1] > '9' || n > DATABASE_MAX ? -1 : (int)n;
}

static struct evhttp_uri *parse(const char *url, struct err *e)
{
    struct evhttp_uri *uri = NULL;
    const char *scheme;

    if (text_starts_with(url, "rediss:")) {
        err_set(e, ERR_FATAL, 500, "rediss: TLS to Redis is not supported");
        return NULL;
    }
    uri = evhttp_uri_parse(url);
    scheme = uri ? evhttp_uri_get_scheme(uri) : NULL;
    if (scheme && strcmp(scheme, "redis") == 0 && !evhttp_uri_get_query(uri) &&
        !evhttp_uri_get_fragment(uri) && database_of(uri) >= 0 && evhttp_uri_get_port(uri) != 0)
        return uri;
    if (uri)
        evhttp_uri_free(uri);
    unreadable(e, "no address of a Redis");
    return NULL;
}

int redis_url_read(const char *url, char **host, int *port, int *database, struct err *e)
{
    struct evhttp_uri *uri = parse(url, e);

    if (!uri)
        return -1;
    *host = host_of(uri);
    *port = evhttp_uri_get_port(uri) > 0 ? evhttp_uri_get_port(uri) : DEFAULT_PORT;
    *database = database_of(uri);
    evhttp_uri_free(uri);
    return *host ? 0 : unreadable(e, "no host");
}

static void read_login(struct redis *r, const char *url)
{
    struct evhttp_uri *uri = evhttp_uri_parse(url); /* that it can be was seen before */
    const char *login = uri ? evhttp_uri_get_userinfo(uri) : NULL;
    const char *colon = login ? strchr(login, ':') : NULL;
    char *user;

    if (colon) {
        user = mem_strndup(login, (size_t)(colon - login));
        if (*user)
            r->user = evhttp_uridecode(user, 0, NULL);
        free(user);
        if (colon[1])
            r->password = evhttp_uridecode(colon + 1, 0, NULL);
    }
    if (uri)
        evhttp_uri_free(uri);
}

/* ---- calls ---- */

static void count_call(const struct redis_call *c, const char *outcome)
{
    char labels[LABELS_MAX];

    if (!c->script)
        return;
    snprintf(labels, sizeof(labels), "script=\"%s\",outcome=\"%s\"", c->script->name, outcome);
    metric_add(metric_get(&calls_total, labels), 1);
    snprintf(labels, sizeof(labels), "script=\"%s\"", c->script->name);
    metric_observe(metric_get(&call_seconds, labels),
                   (double)(clock_monotonic_us() - c->began_us) / 1e6);
}

/* The server answers in order, so it is the first one's answer that must come in time. */
static void watch(struct redis *r)
{
    const struct redis_call *first = TAILQ_FIRST(&r->sent);
    int64_t waited_ms;

    if (r->state != REDIS_UP)
        return; /* the login as a whole has its time */
    timer_stop(r->deadline);
    if (!first)
        return;
    waited_ms = (clock_monotonic_us() - first->sent_us) / 1000;
    timer_set(r->deadline, waited_ms < r->config.answer_timeout_ms
                               ? r->config.answer_timeout_ms - waited_ms
                               : 0);
}

static void send_call(struct redis *r, struct redis_call *c)
{
    char *bytes = NULL;
    int n = redisFormatCommandArgv(&bytes, c->count, c->words, NULL);

    if (n < 0)
        abort(); /* out of memory */
    bufferevent_write(r->bev, bytes, (size_t)n);
    redisFreeCommand(bytes);
    c->sent_us = clock_monotonic_us();
    TAILQ_INSERT_TAIL(&r->sent, c, link);
    watch(r);
}

static struct redis_call *call_new(int words)
{
    struct arena *a = arena_new();
    struct redis_call *c = arena_alloc(a, sizeof(*c));

    c->arena = a;
    c->words = arena_alloc(a, (size_t)words * sizeof(*c->words));
    c->began_us = clock_monotonic_us();
    return c;
}

static void hash_script(struct redis_script *s)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0, i;

    if (s->hash[0])
        return;
    if (!EVP_Digest(s->text, strlen(s->text), digest, &n, EVP_sha1(), NULL) || n != 20)
        abort(); /* a library without SHA-1 */
    for (i = 0; i < n; i++)
        snprintf(s->hash + 2 * (size_t)i, 3, "%02x", digest[i]);
}

struct redis_call *redis_eval(struct redis *r, struct redis_script *script, int keys, int n,
                              const char *const *args, redis_done *done, void *arg)
{
    struct redis_call *c;
    int i;

    if (r->state != REDIS_UP)
        return NULL;
    hash_script(script);
    c = call_new(EVAL_WORDS + n);
    c->script = script;
    c->done = done;
    c->arg = arg;
    c->whole = script->connection != r->attempts;
    script->connection = r->attempts;
    c->words[c->count++] = c->whole ? "EVAL" : "EVALSHA";
    c->words[c->count++] = c->whole ? script->text : script->hash;
    c->words[c->count++] = arena_printf(c->arena, "%d", keys);
    for (i = 0; i < n; i++)
        c->words[c->count++] = arena_strdup(c->arena, args[i]);
    send_call(r, c);
    return c;
}

void redis_forget(struct redis_call *c)
{
    c->done = NULL;
}

int64_t redis_integer(const struct redis_answer *a, size_t i)
{
    const redisReply *all = (const redisReply *)(const void *)a;

    if (all->type == REDIS_REPLY_INTEGER && i == 0)
        return all->integer;
    if (all->type != REDIS_REPLY_ARRAY || i >= all->elements ||
        all->element[i]->type != REDIS_REPLY_INTEGER)
        return 0;
    return all->element[i]->integer;
}

/* It has left the list. */
static void end_call(struct redis_call *c, const redisReply *reply, const struct err *e)
{
    if (c->done)
        c->done(c->arg, e ? NULL : (const struct redis_answer *)(const void *)reply, e);
    arena_free(c->arena);
}

/* ---- the end of a connection, and the next attempt ---- */

static void drop(struct redis *r)
{
    hosts_free(r->hosts);
    r->hosts = NULL;
    if (r->bev)
        bufferevent_free(r->bev);
    r->bev = NULL;
    if (r->reader)
        redisReaderFree(r->reader);
    r->reader = NULL;
    timer_stop(r->deadline);
    timer_stop(r->retry);
    r->state = REDIS_DOWN;
    metric_set(metric_get(&up_gauge, ""), 0);
}

static void lost(struct redis *r, const struct err *why)
{
    bool was_up = r->state == REDIS_UP;
    struct redis_calls calls = TAILQ_HEAD_INITIALIZER(calls);
    struct redis_call *c;
    int64_t wait;

    if (was_up && clock_monotonic_us() - r->up_since_us > LASTING_US)
        r->failures = 0;
    TAILQ_CONCAT(&calls, &r->sent, link);
    drop(r);
    wait = backoff_ms(r->failures, r->config.backoff_max_ms);
    /* It may be away for days: only the first of its failures in a row is news. */
    log_event(was_up || r->failures == 0 ? LOG_WARN : LOG_DEBUG,
              was_up ? "redis connection lost" : "redis not reached", LOG_STR("host", r->host),
              LOG_NUM("port", r->port), LOG_STR("error", why->text),
              LOG_NUM("retry_ms", (long)wait));
    r->failures++;
    timer_set(r->retry, wait);
    while ((c = TAILQ_FIRST(&calls))) {
        TAILQ_REMOVE(&calls, c, link);
        count_call(c, "lost");
        end_call(c, NULL, why);
    }
    if (r->events.down)
        r->events.down(r->arg, why);
}

static void too_late(void *arg)
{
    struct redis *r = arg;
    struct err e;

    /* It may be here already, and this process have been slow to look. */
    if (r->state == REDIS_UP && evbuffer_get_length(bufferevent_get_input(r->bev)) > 0) {
        timer_set(r->deadline, 1);
        return;
    }
    err_set(&e, ERR_RETRY, 503, "no answer within %ld ms",
            r->state == REDIS_UP ? r->config.answer_timeout_ms : r->config.connect_timeout_ms);
    lost(r, &e);
}

/* ---- answers ---- */

static void came_up(struct redis *r)
{
    r->state = REDIS_UP;
    r->up_since_us = clock_monotonic_us();
    timer_stop(r->deadline);
    metric_set(metric_get(&up_gauge, ""), 1);
    metric_add(metric_get(&connections_total, ""), 1);
    log_event(LOG_INFO, "redis connected", LOG_STR("host", r->host), LOG_NUM("port", r->port));
    if (r->events.up)
        r->events.up(r->arg);
}

/* It is there, but cannot do what it is for: it loads its data, or is not the master any more. */
static bool is_useless(const char *words)
{
    return text_starts_with(words, "LOADING") || text_starts_with(words, "READONLY") ||
           text_starts_with(words, "MASTERDOWN") || text_starts_with(words, "NOAUTH");
}

/* Take the answer to the call, which has left the list. Returns -1 when the connection is of no use. */
static int answered(struct redis *r, struct redis_call *c, const redisReply *reply, struct err *e)
{
    bool failed = reply->type == REDIS_REPLY_ERROR;

    if (failed && c->script && !c->whole && text_starts_with(reply->str, "NOSCRIPT")) {
        c->whole = true;
        c->words[0] = "EVAL";
        c->words[1] = c->script->text;
        send_call(r, c);
        return 0;
    }
    if (failed)
        err_set(e, ERR_RETRY, 503, "redis: %s", reply->str);
    if (failed && ((!c->script && !c->optional) || is_useless(reply->str))) {
        TAILQ_INSERT_HEAD(&r->sent, c, link); /* it fails with the connection */
        return -1;
    }
    count_call(c, failed ? "error" : "success");
    if (c->script) {
        if (failed && !c->script->failing)
            log_event(LOG_ERROR, "redis script failed", LOG_STR("script", c->script->name),
                      LOG_STR("error", e->text));
        c->script->failing = failed;
    }
    end_call(c, reply, failed ? e : NULL);
    return 0;
}

static int take(struct redis *r, redisReply *reply, struct err *e)
{
    struct redis_call *c = TAILQ_FIRST(&r->sent);

    if (!c)
        return err_set(e, ERR_RETRY, 503, "redis answered what nobody asked");
    TAILQ_REMOVE(&r->sent, c, link);
    if (answered(r, c, reply, e))
        return -1;
    if (r->state == REDIS_LOGIN && TAILQ_EMPTY(&r->sent))
        came_up(r);
    watch(r);
    return 0;
}

static void readable(struct bufferevent *bev, void *arg)
{
    struct redis *r = arg;
    struct evbuffer *input = bufferevent_get_input(bev);
    size_t n = evbuffer_get_length(input);
    void *reply = NULL;
    struct err e;
    int failed = 0;

    redisReaderFeed(r->reader, (const char *)evbuffer_pullup(input, -1), n);
    evbuffer_drain(input, n);
    while (!failed) {
        if (redisReaderGetReply(r->reader, &reply))
            failed = err_set(&e, ERR_RETRY, 503, "redis: %s", r->reader->errstr);
        else if (!reply)
            break;
        else
            failed = take(r, reply, &e);
        if (reply)
            freeReplyObject(reply);
        reply = NULL;
    }
    if (!failed && r->reader->len - r->reader->pos > ANSWER_MAX)
        failed = err_set(&e, ERR_RETRY, 503, "redis: an answer of more than %d bytes", ANSWER_MAX);
    if (failed)
        lost(r, &e);
}

/* ---- connecting ---- */

static void add_login(struct redis *r, bool optional, const char *first, const char *second,
                      const char *third)
{
    struct redis_call *c = call_new(LOGIN_WORDS_MAX);
    const char *const words[] = {first, second, third};
    size_t i;

    c->optional = optional;
    for (i = 0; i < LOGIN_WORDS_MAX && words[i]; i++)
        c->words[c->count++] = arena_strdup(c->arena, words[i]);
    send_call(r, c);
}

static void log_in(struct redis *r)
{
    char database[16];

    r->state = REDIS_LOGIN;
    r->reader = redisReaderCreate();
    if (!r->reader)
        abort(); /* out of memory */
    if (r->password && r->user)
        add_login(r, false, "AUTH", r->user, r->password);
    else if (r->password)
        add_login(r, false, "AUTH", r->password, NULL);
    if (r->database > 0) {
        snprintf(database, sizeof(database), "%d", r->database);
        add_login(r, false, "SELECT", database, NULL);
    }
    add_login(r, true, "CLIENT", "SETNAME", r->name);
    add_login(r, false, "PING", NULL, NULL);
}

static void connection_event(struct bufferevent *bev, short what, void *arg)
{
    struct redis *r = arg;
    int on = 1;
    struct err e;

    if (what & BEV_EVENT_CONNECTED) {
        setsockopt(bufferevent_getfd(bev), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        log_in(r);
        return;
    }
    if (what & BEV_EVENT_ERROR)
        err_set(&e, ERR_RETRY, 503, "%s", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    else
        err_set(&e, ERR_RETRY, 503, "redis closed the connection");
    lost(r, &e);
}

/* The first address that was found; a further attempt begins with the next one. */
static void found(void *arg, const struct hosts_found *hosts, const struct err *why)
{
    struct redis *r = arg;
    struct sockaddr_storage to;
    char address[128];
    int n = sizeof(to);
    struct err e;

    if (!hosts) {
        e = *why;
        lost(r, &e);
        return;
    }
    snprintf(address, sizeof(address), "%.*s", (int)strcspn(hosts->addresses, ","),
             hosts->addresses);
    hosts_free(r->hosts);
    r->hosts = NULL;
    r->state = REDIS_CONNECTING;
    if (evutil_parse_sockaddr_port(address, (struct sockaddr *)&to, &n)) {
        err_set(&e, ERR_RETRY, 503, "the host has no address");
        lost(r, &e);
        return;
    }
    if (to.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&to)->sin6_port = htons((uint16_t)r->port);
    else
        ((struct sockaddr_in *)&to)->sin_port = htons((uint16_t)r->port);
    r->bev = bufferevent_socket_new(loop_base(r->loop), -1,
                                    BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (!r->bev)
        abort(); /* out of memory */
    bufferevent_setcb(r->bev, readable, NULL, connection_event, r);
    bufferevent_enable(r->bev, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect(r->bev, (struct sockaddr *)&to, n)) {
        err_set(&e, ERR_RETRY, 503, "%s", strerror(errno));
        lost(r, &e);
    }
}

static void connect_now(void *arg)
{
    struct redis *r = arg;
    char port[8];

    r->state = REDIS_LOOKUP;
    timer_set(r->deadline, r->config.connect_timeout_ms);
    snprintf(port, sizeof(port), "%d", r->port);
    r->hosts = hosts_find(r->loop, r->host, port, r->attempts++, found, r);
}

/* ---- life ---- */

bool redis_is_up(const struct redis *r)
{
    return r->state == REDIS_UP;
}

struct redis *redis_open(struct loop *l, const struct redis_config *config,
                         const struct redis_events *events, void *arg, struct err *e)
{
    struct redis *r = mem_alloc(sizeof(*r));

    if (redis_url_read(config->url, &r->host, &r->port, &r->database, e)) {
        free(r);
        return NULL;
    }
    read_login(r, config->url);
    r->loop = l;
    r->config = *config;
    r->config.url = r->config.name = NULL;
    r->events = *events;
    r->arg = arg;
    r->name = mem_strdup(config->name);
    TAILQ_INIT(&r->sent);
    r->retry = timer_new(l, connect_now, r);
    r->deadline = timer_new(l, too_late, r);
    metric_set(metric_get(&up_gauge, ""), 0);
    timer_set(r->retry, 0);
    return r;
}

/* What was said last, that something is given back, say, leaves still if the socket takes it. */
static void write_rest(struct redis *r)
{
    struct evbuffer *output = r->state == REDIS_UP ? bufferevent_get_output(r->bev) : NULL;

    if (output && evbuffer_get_length(output) > 0) {
        evbuffer_unfreeze(output, 1);
        evbuffer_write(output, bufferevent_getfd(r->bev));
    }
}

void redis_free(struct redis *r)
{
    struct redis_call *c;

    if (!r)
        return;
    write_rest(r);
    drop(r);
    while ((c = TAILQ_FIRST(&r->sent))) {
        TAILQ_REMOVE(&r->sent, c, link);
        arena_free(c->arena);
    }
    timer_free(r->retry);
    timer_free(r->deadline);
    free(r->host);
    free(r->user);
    free(r->password);
    free(r->name);
    free(r);
}
