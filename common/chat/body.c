#include "common/chat/body.h"

enum { USUAL_BYTES = 1024 }; /* room that is tried first, so that most values are written once */

const char *body_text(struct arena *a, const json_t *value, size_t *n)
{
    char *text = arena_alloc(a, USUAL_BYTES + 1);

    *n = json_dumpb(value, text, USUAL_BYTES, JSON_COMPACT);
    if (*n > USUAL_BYTES) {
        text = arena_alloc(a, *n + 1);
        json_dumpb(value, text, *n, JSON_COMPACT);
    }
    text[*n] = '\0';
    return text;
}
