#include "tests/unit/corpus.h"

#include <stdio.h>
#include <stdlib.h>

size_t corpus_each(const char *name, void (*each)(const json_t *line))
{
    char path[4096], line[16384];
    json_error_t why;
    size_t count = 0;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", TEST_DATA, name);
    f = fopen(path, "re");
    if (!f) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    while (fgets(line, sizeof(line), f)) {
        json_t *object = json_loads(line, 0, &why);

        count++;
        if (!object) {
            fprintf(stderr, "%s:%zu: %s\n", path, count, why.text);
            exit(EXIT_FAILURE);
        }
        each(object);
        json_decref(object);
    }
    fclose(f);
    return count;
}
