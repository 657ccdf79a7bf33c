#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t fuzz_piece(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 27;
}

void fuzz_must(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

char *fuzz_exactly(const char *bytes, size_t n)
{
    char *copy = malloc(n ? n : 1);

    if (n > 0)
        memcpy(copy, bytes, n);
    return copy;
}
