/*
 * Redis: one connection that keeps itself alive, and scripts that run in the server. The only place
 * that knows hiredis, and of that only its codec (bytes to answers, arguments to bytes): the socket is
 * a libevent bufferevent, so that nothing here ever blocks.
 *
 * Redis is a help and never a need: while it is away nothing waits for it. A call is refused at once
 * then, and one that is under way fails with the connection, or when its answer takes too long. Whether
 * it was done is then not known. After a loss it is tried again, with jittered back-off.
 *
 * It does not notice by itself that a server which nobody asks has fallen silent.
 */
#ifndef IO_REDIS_H
#define IO_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/io/loop.h"

struct redis;

struct redis_config {
    const char *url;         /* redis://[[user]:password@]host[:port][/db], percent-encoded */
    const char *name;        /* shown by CLIENT LIST; no blanks */
    long connect_timeout_ms; /* for the address, the connection and the login */
    long answer_timeout_ms;  /* a server that takes longer is taken for gone */
    long backoff_max_ms;     /* between attempts; the waits grow up to it and are jittered */
};

struct redis_events {
    void (*up)(void *arg); /* it takes calls (again) */
    /* Lost, or not reached at all; told for each attempt. Calls that were under way have failed
     * before. */
    void (*down)(void *arg, const struct err *why);
};

/* Fails only when the URL cannot be read. The strings of the config are copied. Connecting starts in
 * the next turn of the loop. All callbacks come from the loop, never from within a call. */
struct redis *redis_open(struct loop *l, const struct redis_config *config,
                         const struct redis_events *events, void *arg, struct err *e);
/* At once; no callback is called any more. Not from within one. NULL is allowed. */
void redis_free(struct redis *r);
bool redis_is_up(const struct redis *r);

/* Where the URL leads: a host to be freed, port and database. Returns -1 for one that is none. */
int redis_url_read(const char *url, char **host, int *port, int *database, struct err *e);

/* A script in Lua, static: the first call on a connection brings the text, further ones its hash alone, and
 * when the server has forgotten it the text once more. */
struct redis_script {
    const char *name; /* for metrics */
    const char *text;
    char hash[41];       /* internal: start with "" */
    unsigned connection; /* internal: start with 0 */
    bool failing;        /* internal: start with false */
};

struct redis_answer;
/* The integers of a script's answer; what is not there reads as 0. */
int64_t redis_integer(const struct redis_answer *a, size_t i);

/* e is NULL when the script has run, else ERR_RETRY; a is then NULL. */
typedef void redis_done(void *arg, const struct redis_answer *a, const struct err *e);

struct redis_call;
/* Run a script with n arguments, the first of which are its keys; they are copied. done is called once.
 * Returns NULL when the server is away: nothing was sent, nothing is called. */
struct redis_call *redis_eval(struct redis *r, struct redis_script *script, int keys, int n,
                              const char *const *args, redis_done *done, void *arg);
void redis_forget(struct redis_call *c); /* before done: it will not be called */

#endif
