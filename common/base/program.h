/*
 * What every server process does first: --help, --version, --check-config, configuration, logs.
 */
#ifndef BASE_PROGRAM_H
#define BASE_PROGRAM_H

#include "common/base/config.h"

/* Exit codes of all our programs (sysexits.h has the same numbers). */
enum { EXIT_USAGE = 64, EXIT_SOFTWARE = 70, EXIT_CONFIG = 78 };

struct program {
    const char *name;    /* of the binary, as in "chatfleet-gateway" */
    const char *purpose; /* one sentence for --help */
    const struct config_section *sections;
    size_t count;
};

/* Returns when the program shall run, with its configuration loaded and the log open; otherwise
 * it has printed what was asked or what is wrong, and ends the process. */
void program_start(const struct program *p, int argc, char **argv);

/* The version, as in "0.1.0". */
const char *program_version(void);

#endif
