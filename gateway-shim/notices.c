#include "gateway-shim/notices.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_BYTES = 120 };

/* "TYPE CORRELATION-ID EPOCH OFFSET", all of the line. */
static bool read_head(const char *line, size_t n, struct notice *out)
{
    char text[LINE_MAX_BYTES + 1];
    int end = -1;

    if (n > LINE_MAX_BYTES)
        return false;
    memcpy(text, line, n);
    text[n] = '\0';
    return sscanf(text, "%15s %36s %" SCNd64 " %" SCNd64 "%n", out->type, out->correlation_id,
                  &out->epoch, &out->offset, &end) == 4 &&
           end == (int)n;
}

void notices_read(const char *bytes, size_t n, notice_cb *cb, void *arg)
{
    const char *at = bytes, *end = bytes + n, *head_end, *body_end;
    struct notice notice;

    while (at < end) {
        head_end = memchr(at, '\n', (size_t)(end - at));
        body_end = head_end ? memchr(head_end + 1, '\n', (size_t)(end - head_end - 1)) : NULL;
        if (!body_end || !read_head(at, (size_t)(head_end - at), &notice))
            return;
        notice.body = head_end + 1;
        notice.body_len = (size_t)(body_end - notice.body);
        cb(arg, &notice);
        at = body_end + 1;
    }
}
