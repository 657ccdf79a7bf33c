#include "common/base/program.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"

static struct {
    char *level;
    char *file;
} settings;

static const struct config_key log_keys[] = {
    {"LOG_LEVEL", CONFIG_CHOICE, offsetof(__typeof__(settings), level), "info", 0, 0,
     "debug info warn error", NULL, false, "The least severe lines that are written."},
    {"LOG_FILE", CONFIG_STRING, offsetof(__typeof__(settings), file), "", 0, 4096, NULL, NULL,
     false, "A file that lines are appended to; SIGHUP opens it anew. Empty: standard error."},
};

static const struct config_section log_section = {
    "Logs", log_keys, sizeof(log_keys) / sizeof(log_keys[0]), &settings};

const char *program_version(void)
{
    return CHATFLEET_VERSION;
}

static void print_help(const struct program *p, const struct config_section *all, size_t n)
{
    printf("%s: %s\n\n"
           "usage: %s [--help | --version | --check-config]\n\n"
           "  --help          print this and end\n"
           "  --version       print the version and end\n"
           "  --check-config  read the configuration, print what is in force and end\n\n",
           p->name, p->purpose, p->name);
    config_print_help(stdout, all, n);
}

void program_start(const struct program *p, int argc, char **argv)
{
    struct config_section *all = mem_alloc((p->count + 1) * sizeof(*all));
    const char *option = argc > 1 ? argv[1] : "";
    size_t n = p->count + 1;
    struct err e;

    memcpy(all, p->sections, p->count * sizeof(*all));
    all[p->count] = log_section;
    if (argc > 2 || (*option && strcmp(option, "--help") != 0 && strcmp(option, "--version") != 0 &&
                     strcmp(option, "--check-config") != 0)) {
        fprintf(stderr, "%s: unknown argument %s; try --help\n", p->name, argv[argc - 1]);
        exit(EXIT_USAGE);
    }
    if (strcmp(option, "--help") == 0) {
        print_help(p, all, n);
        exit(0);
    }
    if (strcmp(option, "--version") == 0) {
        printf("%s %s\n", p->name, program_version());
        exit(0);
    }
    if (config_load(all, n, &e)) {
        fprintf(stderr, "%s: %s\n", p->name, e.text);
        exit(EXIT_CONFIG);
    }
    if (strcmp(option, "--check-config") == 0) {
        config_print_values(stdout, all, n);
        exit(0);
    }
    if (log_open(p->name, settings.level, settings.file, &e)) {
        fprintf(stderr, "%s: %s\n", p->name, e.text);
        exit(EXIT_CONFIG);
    }
    free(all);
}
