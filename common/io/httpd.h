/*
 * The HTTP/1.1 server, by libevent's evhttp, with its limits set and its gaps closed: a cap on
 * connections, a time limit on requests that trickle in, refusal of requests that two servers in
 * a row could read differently, and errors in the body format of the caller.
 */
#ifndef IO_HTTPD_H
#define IO_HTTPD_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/config.h"
#include "common/base/err.h"
#include "common/io/loop.h"

struct httpd;
struct http_request;

struct httpd_config {
    long body_max;          /* bytes */
    long headers_max;       /* bytes of request line and headers */
    long connections_max;   /* more wait in the kernel's queue */
    long idle_timeout_s;    /* a connection without a request */
    long request_timeout_s; /* from the first byte of a request to its last */
    long stream_output_max; /* bytes of a stream that may wait for its client to read them */
};

/* Calls with a complete request, which must be answered, now or later, by http_reply() or by a
 * stream. */
typedef void httpd_handler(void *arg, struct http_request *r);

/* Makes the body and the type of an answer to what is no readable request at all. */
typedef const char *httpd_error_page(int status, const char *detail, struct buf *out);

/* The page is one for the whole process (evhttp has no place for more). */
struct httpd *httpd_new(struct loop *l, const struct httpd_config *config, httpd_handler *handler,
                        void *arg, httpd_error_page *page);
void httpd_free(struct httpd *h); /* closes all connections; no request may be unanswered */

/* Listen on a numeric address; port 0 takes a free one. Returns the port or -1. */
int httpd_listen(struct httpd *h, const char *address, int port, struct err *e);
/* Listen on an inherited socket. */
int httpd_listen_inherited(struct httpd *h, int fd, struct err *e);

/* Start taking connections. Before, they wait in the socket's queue (or are taken by others who
 * share it), so that a server can listen before it is ready. */
void httpd_accept(struct httpd *h);

/* Take no new connections and close each one after its next answer. The socket's queue stays for
 * those who share it. */
void httpd_drain(struct httpd *h);
/* Close the connections that wait for a request; those with one under way stay, and those whose last
 * stream ended less than idle_us ago. */
void httpd_close_idle(struct httpd *h, int64_t idle_us);

size_t httpd_connections(const struct httpd *h);
size_t httpd_requests(const struct httpd *h); /* given to the handler and not answered yet */

/* ---- a request ---- */

const char *http_method(const struct http_request *r); /* "GET" */
const char *http_path(const struct http_request *r);   /* decoded; without the query */
const char *http_remote(const struct http_request *r); /* the peer's address */
const char *http_header(const struct http_request *r, const char *name); /* NULL: none */
/* The n-th pair of the query, decoded; false when there are no more. */
bool http_query(const struct http_request *r, size_t n, const char **name, const char **value);
const char *http_body(const struct http_request *r, size_t *n); /* not ended by NUL */
/* Why it must not be trusted (400), or NULL: ambiguous lengths, bad names, NUL characters, … */
const char *http_defect(const struct http_request *r);
int http_version_minor(const struct http_request *r); /* of HTTP/1.x; -1: another major version */

/* Headers of the answer; the strings are copied. */
void http_add_header(struct http_request *r, const char *name, const char *value);
void http_close_after(struct http_request *r);

/* Send the answer and free the request. A HEAD request gets the length without the body. */
void http_reply(struct http_request *r, int status, const char *content_type, const void *body,
                size_t n);

/* ---- streams: answers sent piece by piece, chunked to HTTP/1.1, ended by the connection's end to
 * HTTP/1.0. They count as requests until their end. ---- */

/* The client is gone, or (slow) is cut off. Called from the loop, at most once, never from within a
 * call of ours; http_stream_end() is still to be called. */
typedef void http_closed(void *arg, bool slow);

/* Send the head of the answer. From now on the client's leaving is noticed (also one that only
 * closes its sending side: the two look the same), and the idle time-out does not count. */
void http_stream_start(struct http_request *r, int status, const char *content_type,
                       http_closed *closed, void *arg);
/* Send a piece. A client that has more than stream_output_max bytes waiting by now is cut off in
 * the next turn of the loop. Nothing is sent to one that is gone. */
void http_stream_write(struct http_request *r, const void *data, size_t n);
size_t http_stream_waiting(const struct http_request *r); /* bytes that the socket did not take */
/* The answer is complete. Frees the request. */
void http_stream_end(struct http_request *r);

#endif
