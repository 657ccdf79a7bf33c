/*
 * The HTTP client, by libcurl: requests to other services without blocking the loop. HTTP/1.1,
 * connections kept for the next request, certificates always checked, no redirects, only http and
 * https, no proxy. (Name resolution runs in a thread of its own for each new connection.) A body
 * that comes gzipped, which is not asked for, is unpacked; its limit is that of what comes out.
 *
 * A call is one request. Its callbacks run in the loop, never from within http_call_start(), and
 * never inside libcurl: each may start and cancel calls. All times are milliseconds, 0 means no
 * limit.
 */
#ifndef IO_HTTP_H
#define IO_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"
#include "common/io/loop.h"

struct http_client; /* one for each service */
struct http_call;

struct http_client_config {
    const char *ca_file;    /* authorities as PEM; NULL or "": the system's */
    long connections_max;   /* kept open for later calls; calls at once are not limited here */
    const char *user_agent; /* lives as long as the client */
};

struct http_client *http_client_new(struct loop *l, const struct http_client_config *config,
                                    struct err *e);
/* Ends the calls under way without calling anybody. Not from within a call's callback. NULL is
 * allowed. */
void http_client_free(struct http_client *c);

size_t http_client_calls(const struct http_client *c); /* under way */

struct http_call_request {
    const char *url;
    const char *const *headers; /* "Name: value" each, NULL at the end; or NULL */
    char *body;                 /* POSTed; taken, freed by the call; NULL: a GET */
    size_t body_len;
    size_t response_max;     /* bytes of the answer's body */
    long connect_timeout_ms; /* name, TCP and TLS */
    long total_timeout_ms;   /* from the start to the last byte */
    long first_timeout_ms;   /* from the start to the first byte of the answer's body */
    long idle_timeout_ms;    /* then between two bytes */
};

/* Any may be NULL but done. */
struct http_call_events {
    /* The status and headers are there; called once, before data and done. */
    void (*answered)(void *arg, struct http_call *call);
    /* A piece of the body, cut anywhere; valid until the callback returns. */
    void (*data)(void *arg, struct http_call *call, const char *bytes, size_t n);
    /*
     * The end; the call is freed afterwards. e is NULL when the whole answer came, whatever its
     * status; else its kind and status say:
     *
     *   retry 502  not reached, the connection was lost, not HTTP
     *   retry 504  no answer in time
     *   fatal 502  the answer is larger than response_max
     *   fatal 500  the URL or a header cannot be used
     *
     * The text names neither URL nor headers.
     */
    void (*done)(void *arg, struct http_call *call, const struct err *e);
};

/* Start a request. events lives as long as the call; the rest of the request is copied. */
struct http_call *http_call_start(struct http_client *c, const struct http_call_request *request,
                                  const struct http_call_events *events, void *arg);

/* End it now: nothing is called any more, and the call is freed. */
void http_call_cancel(struct http_call *call);

int http_call_status(const struct http_call *call); /* 0 while there is none */

/* Whether any of the request went out: it may have been carried out then, even if no answer came. */
bool http_call_sent(const struct http_call *call);

/* A header of the answer, or NULL; lives as long as the call. */
const char *http_call_header(const struct http_call *call, const char *name);

#endif
