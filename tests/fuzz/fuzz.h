/* What the fuzz targets share: numbers out of the input, and an end that libFuzzer notices. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next length of a piece, 0 to 31, from a generator whose state the input sets. */
size_t fuzz_piece(uint32_t *state);

/* End the process with one line unless what must be so is so. */
void fuzz_must(int holds, const char *what);

/* n bytes in memory of exactly that size, for free(). */
char *fuzz_exactly(const char *bytes, size_t n);

#endif
