/* Answering HTTP requests: headers that every answer bears, problems, the access log. */
#ifndef GATEWAY_RESPOND_H
#define GATEWAY_RESPOND_H

#include "gateway-shim/gateway.h"

enum { RETRY_AFTER_S = 1 }; /* what the client is told to wait, where repeating can help */

/* Each answers and frees the request. */
void respond(struct request *r, int status, const char *content_type, const void *body, size_t n);
void respond_json(struct request *r, int status, json_t *body); /* takes the body */
/* errors (borrowed, may be NULL): field by field. */
void respond_problem(struct request *r, int status, const char *detail, json_t *errors);

void respond_details(struct request *r, int status, json_t *problem); /* takes the problem */

/* An answer piece by piece (http_stream_…()): its head with status 200, and its end, which frees the
 * request; error is for the log, or NULL. */
void respond_stream_start(struct request *r, const char *content_type, http_closed *closed,
                          void *arg);
void respond_stream_end(struct request *r, const char *error);

/* A browser's question before the real request (CORS); allow: the path's methods. */
void respond_preflight(struct request *r, const char *allow);

/* Check CORS_ORIGINS once at the start. */
int respond_init(struct err *e);
void respond_free(void);

#endif
