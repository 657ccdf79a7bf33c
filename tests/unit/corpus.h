/* The lines of a corpus in tests/data: a JSON object each. */
#ifndef UNIT_CORPUS_H
#define UNIT_CORPUS_H

#include <jansson.h>

/* Calls each() for every line of the file; ends the program when it cannot be read. Returns how
 * many there were. */
size_t corpus_each(const char *name, void (*each)(const json_t *line));

#endif
