/* What every unit program does: run its table of tests and tell by the exit code. */
#ifndef UNIT_UNIT_H
#define UNIT_UNIT_H

#include <CUnit/CUnit.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The table ends with CU_TEST_INFO_NULL. Returns what main() shall return. */
int unit_main(const char *module, CU_TestInfo *tests);

/* A new empty directory, and its end with everything in it. */
char *unit_directory(void); /* owned by the caller, free() */
void unit_remove_directory(const char *path);

/* Write a file in the directory. Returns its path, which is the caller's, free(). */
char *unit_file(const char *directory, const char *name, const char *text, size_t n);

#endif
