/* However a stream is cut, the same events come of it, and the same end. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "workers/inference/sse.h"

enum { LINE_MAX_BYTES = 256, EVENTS_MAX_BYTES = 1 << 20 };

struct heard {
    struct buf events; /* each followed by two NULs */
    int left;          /* until no more are wanted */
};

static bool event(void *arg, const char *data, size_t n)
{
    struct heard *h = arg;

    fuzz_must(n <= LINE_MAX_BYTES && data[n] == '\0', "an event is bounded and ended");
    fuzz_must(!memchr(data, '\r', n), "no line end of the stream is in an event");
    buf_add(&h->events, data, n);
    buf_add(&h->events, "\0", 2);
    return --h->left > 0;
}

/* In pieces as the state has them; 0: in one. */
static int hear(const char *text, size_t n, uint32_t state, int wanted, struct heard *h)
{
    size_t at = 0, piece;
    struct sse s;
    int failed = 0;

    h->left = wanted;
    buf_init(&h->events, EVENTS_MAX_BYTES);
    sse_init(&s, LINE_MAX_BYTES);
    while (at < n && !failed && h->left > 0) {
        char *copy;

        piece = state ? fuzz_piece(&state) : n;
        if (piece > n - at)
            piece = n - at;
        copy = fuzz_exactly(text + at, piece);
        failed = sse_read(&s, copy, piece, event, h);
        free(copy);
        at += piece;
    }
    sse_fini(&s);
    return failed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heard whole, pieces;
    uint32_t state;
    int wanted, failed;

    if (size < sizeof(state) + 1)
        return 0;
    memcpy(&state, data, sizeof(state));
    wanted = data[sizeof(state)] + 1;
    data += sizeof(state) + 1;
    size -= sizeof(state) + 1;
    failed = hear((const char *)data, size, 0, wanted, &whole);
    fuzz_must(hear((const char *)data, size, state | 1, wanted, &pieces) == failed,
              "the end is the same");
    fuzz_must(whole.events.len == pieces.events.len &&
                  (whole.events.len == 0 ||
                   memcmp(whole.events.data, pieces.events.data, whole.events.len) == 0),
              "the events are the same");
    buf_free(&whole.events);
    buf_free(&pieces.events);
    return 0;
}
