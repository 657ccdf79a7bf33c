/* Notices that a worker has gathered into one message (docs/PROTOCOL.md, Streaming). */
#ifndef GATEWAY_NOTICES_H
#define GATEWAY_NOTICES_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/uuid.h"

struct notice {
    char type[16];
    char correlation_id[UUID_TEXT];
    int64_t epoch, offset;
    const char *body; /* JSON, as it came; lives as long as the message */
    size_t body_len;
};

typedef void notice_cb(void *arg, const struct notice *n);

/* Tell each of the n bytes in order. Stops at what cannot be read: what is missing, the answer has. */
void notices_read(const char *bytes, size_t n, notice_cb *cb, void *arg);

#endif
