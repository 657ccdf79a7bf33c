#include "tests/unit/unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/Basic.h>

int unit_main(const char *module, CU_TestInfo *tests)
{
    CU_SuiteInfo suites[] = {{module, NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    unsigned failures;

    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        fprintf(stderr, "%s: CUnit: %s\n", module, CU_get_error_msg());
        return EXIT_FAILURE;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    /* A program that ran nothing has proved nothing. */
    failures = CU_get_number_of_failures() + (CU_get_number_of_tests_run() == 0);
    CU_cleanup_registry();
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void give_up(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

char *unit_directory(void)
{
    const char *where = getenv("TMPDIR");
    char *path;

    if (asprintf(&path, "%s/chatfleet-unit-XXXXXX", where && *where ? where : "/tmp") < 0)
        give_up("asprintf");
    if (!mkdtemp(path))
        give_up(path);
    return path;
}

void unit_remove_directory(const char *path)
{
    DIR *d = opendir(path);
    const struct dirent *entry;

    while (d && (entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(d), entry->d_name, 0);
    if (d)
        closedir(d);
    rmdir(path);
}

char *unit_file(const char *directory, const char *name, const char *text, size_t n)
{
    char *path;
    FILE *f;

    if (asprintf(&path, "%s/%s", directory, name) < 0)
        give_up("asprintf");
    f = fopen(path, "we");
    if (!f || fwrite(text, 1, n, f) != n || fclose(f))
        give_up(path);
    return path;
}
