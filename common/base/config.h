/*
 * Configuration from the environment, by typed tables.
 *
 * A module names what it wants in a table of struct config_key whose offsets point into a struct
 * of its own; a process concatenates the tables of its modules as sections. The value of NAME
 * comes from the first of: the variable NAME, one of its aliases, the file that NAME_FILE names,
 * the file $CREDENTIALS_DIRECTORY/NAME, the default. Two of them that disagree stop the start.
 * The tables also make --help and --check-config.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/base/err.h"

enum config_type {
    CONFIG_STRING, /* into a char *; min and max bound its bytes */
    CONFIG_INT,    /* into a long; min and max bound it */
    CONFIG_REAL,   /* into a double, as in 0.7; min and max bound it */
    CONFIG_BOOL,   /* into a bool; true, false, yes, no, on, off, 1, 0 */
    CONFIG_CHOICE, /* into a char *; one of the words in choices, kept in lower case */
};

struct config_key {
    const char *name;
    enum config_type type;
    size_t offset;        /* into the section's struct */
    const char *fallback; /* the default as text; NULL: must be given */
    long min, max;
    const char *choices; /* CONFIG_CHOICE: words with a space between */
    const char *aliases; /* other names, with a space between, or NULL */
    bool secret;         /* never printed */
    const char *help;    /* one sentence, with the unit */
};

struct config_section {
    const char *title;
    const struct config_key *keys;
    size_t count;
    void *into; /* the struct that offsets point into */
};

/* Fill the structs of all sections. The strings are owned by the sections: config_free(). On
 * failure e->text is the one line to show. */
int config_load(const struct config_section *sections, size_t n, struct err *e);
void config_free(const struct config_section *sections, size_t n);

void config_print_help(FILE *out, const struct config_section *sections, size_t n);

/* NAME=value lines of what is in force, secrets masked. */
void config_print_values(FILE *out, const struct config_section *sections, size_t n);

#endif
