/* Passages are within the text, in order and apart, and cut no character. */
#include <stdlib.h>

#include "common/base/text.h"
#include "tests/fuzz/fuzz.h"
#include "workers/context-builder/injection.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_exactly((const char *)data, size);
    struct injection_found found;
    size_t at = 0, i;
    struct buf out;

    fuzz_must(injection_find(text, size, &found) == (found.count > 0), "what is found is there");
    for (i = 0; i < found.count; i++) {
        fuzz_must(found.spans[i].at >= at && found.spans[i].length > 0, "passages are in order");
        at = found.spans[i].at + found.spans[i].length;
        fuzz_must(at <= size, "a passage is within the text");
    }
    buf_init(&out, size + INJECTION_FOUND_MAX * 16);
    fuzz_must(injection_redact(text, size, &found, &out) == 0, "there is room for what is left");
    fuzz_must(text_utf8_length(text, size) < 0 || out.len == 0 ||
                  text_utf8_length(out.data, out.len) >= 0,
              "no character is cut");
    buf_free(&out);
    free(text);
    return 0;
}
