/* What was hidden comes back byte by byte, in one piece and in any others. */
#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"
#include "tests/fuzz/fuzz.h"
#include "workers/inference/pseudonym.h"

static void hide_all(struct pseudonym *p, const char *text, size_t n, struct buf *out)
{
    buf_init(out, n * PSEUDONYM_EXPANSION + 1);
    fuzz_must(pseudonym_hide(p, text, n, out) == 0, "there is room for what is hidden");
    buf_add(out, "", 0);
}

static int is_same(const struct buf *a, const char *b, size_t n)
{
    return a->len == n && (n == 0 || memcmp(a->data, b, n) == 0);
}

static void in_pieces(const struct pseudonym *p, const struct buf *hidden, const char *text,
                      size_t n, uint32_t state)
{
    struct pseudonym_stream s = {.n = 0};
    size_t at = 0, piece;
    struct buf out;

    buf_init(&out, n);
    while (at < hidden->len) {
        char *copy;

        piece = fuzz_piece(&state);
        if (piece > hidden->len - at)
            piece = hidden->len - at;
        copy = fuzz_exactly(hidden->data + at, piece);
        fuzz_must(pseudonym_feed(p, &s, copy, piece, &out) == 0, "a piece fits");
        fuzz_must(s.n < PSEUDONYM_BYTES, "little is held back");
        free(copy);
        at += piece;
    }
    fuzz_must(pseudonym_flush(&s, &out) == 0 && is_same(&out, text, n), "pieces are the whole");
    buf_free(&out);
}

/* The text as what a model says, which may write any placeholders. */
static void as_answer(const struct pseudonym *p, const char *text, size_t n, uint32_t state)
{
    struct buf said, restored;

    buf_init(&said, n);
    buf_add(&said, text, n);
    buf_init(&restored, n * n + n + 1);
    fuzz_must(pseudonym_restore(p, text, n, &restored) == 0, "an answer can be restored");
    in_pieces(p, &said, restored.data, restored.len, state);
    buf_free(&said);
    buf_free(&restored);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char name[] = "Siti Rahayu Jos\xc3\xa9";
    struct pii_names names = {.count = 0};
    struct buf hidden, again, back;
    struct pseudonym *p;
    uint32_t state;
    char *text;
    size_t n;

    if (size < sizeof(state))
        return 0;
    memcpy(&state, data, sizeof(state));
    n = size - sizeof(state);
    text = fuzz_exactly((const char *)data + sizeof(state), n);
    pii_names_add(&names, name, sizeof(name) - 1);
    p = pseudonym_new(&names);
    hide_all(p, text, n, &hidden);
    hide_all(p, text, n, &again);
    fuzz_must(is_same(&again, hidden.data, hidden.len), "the same text is hidden alike");
    fuzz_must(text_utf8_length(text, n) < 0 || text_utf8_length(hidden.data, hidden.len) >= 0,
              "no character is cut");
    buf_init(&back, n);
    fuzz_must(pseudonym_restore(p, hidden.data, hidden.len, &back) == 0 && is_same(&back, text, n),
              "what was hidden comes back");
    in_pieces(p, &hidden, text, n, state);
    as_answer(p, text, n, state);
    buf_free(&back);
    buf_free(&again);
    buf_free(&hidden);
    pseudonym_free(p);
    free(text);
    return 0;
}
