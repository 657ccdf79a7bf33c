/*
 * Problem details (RFC 9457): the body of every error, on HTTP and on AMQP alike.
 */
#ifndef CHAT_PROBLEM_H
#define CHAT_PROBLEM_H

#include <jansson.h>

#include "common/base/buf.h"

#define PROBLEM_TYPE "application/problem+json"

/* "Not Found" for 404, and so on. */
const char *problem_title(int status);

/* {"type", "title", "status", "detail", "instance", "errors", "error"}. instance is the
 * correlation id and may be NULL; errors (borrowed, may be NULL) is an array of {"field",
 * "message"}. Never NULL; the caller frees it. */
json_t *problem_new(int status, const char *detail, const char *instance, json_t *errors);

/* The same as text, for what is answered without a correlation id; returns its content type. */
const char *problem_page(int status, const char *detail, struct buf *out);

#endif
