/* The files of schema/, which the build puts into the binary (schema/embed.cmake). */
#ifndef CTL_SCHEMA_FILES_H
#define CTL_SCHEMA_FILES_H

#include <stddef.h>

struct schema_file {
    int version; /* from its name; 0 runs at every apply and is no migration */
    const char *name;
    const char *checksum;      /* SHA-256, hexadecimal */
    const unsigned char *text; /* with a NUL at its end */
};

extern const struct schema_file schema_files[]; /* in the order of their versions */
extern const size_t schema_files_count;

#endif
