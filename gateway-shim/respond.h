/* Answering HTTP requests: headers that every answer bears, problems, the access log. */
#ifndef GATEWAY_RESPOND_H
#define GATEWAY_RESPOND_H

#include "gateway-shim/gateway.h"

enum { RETRY_AFTER_S = 1 }; /* what 429 and 503 tell the client to wait */

/* Each answers and frees the request. */
void respond(struct request *r, int status, const char *content_type, const void *body, size_t n);
void respond_json(struct request *r, int status, json_t *body); /* takes the body */
/* errors (borrowed, may be NULL): field by field. */
void respond_problem(struct request *r, int status, const char *detail, json_t *errors);

/* A browser's question before the real request (CORS); allow: the path's methods. */
void respond_preflight(struct request *r, const char *allow);

/* Check CORS_ORIGINS once at the start. */
int respond_init(struct err *e);
void respond_free(void);

#endif
