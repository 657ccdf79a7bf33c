#include "common/base/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/mem.h"

enum { FILE_MAX_BYTES = 65536 };

/* A value and where it came from, for the message when it is wrong. */
struct found {
    char *value; /* owned; NULL: not given */
    char *from;  /* owned */
};

static int read_value_file(const char *path, const char *from, char **value, struct err *e)
{
    FILE *f = fopen(path, "re");
    char *text;
    size_t n;

    if (!f)
        return err_set(e, ERR_FATAL, 500, "%s: %s cannot be read: %s", from, path, strerror(errno));
    text = mem_alloc(FILE_MAX_BYTES + 1);
    n = fread(text, 1, FILE_MAX_BYTES + 1, f);
    if (ferror(f) || n > FILE_MAX_BYTES || memchr(text, '\0', n)) {
        fclose(f);
        free(text);
        return err_set(e, ERR_FATAL, 500, "%s: %s is not a readable text file of at most %d bytes",
                       from, path, FILE_MAX_BYTES);
    }
    fclose(f);
    text[n] = '\0';
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) /* as editors end files */
        text[--n] = '\0';
    *value = text;
    return 0;
}

/* Take a value for the key unless one is there already, which must then be the same. */
static int offer(struct found *f, char *value, const char *from, struct err *e)
{
    if (f->value && strcmp(f->value, value) != 0) {
        free(value);
        return err_set(e, ERR_FATAL, 500, "%s and %s disagree: set only one of them", f->from,
                       from);
    }
    if (f->value) {
        free(value);
        return 0;
    }
    f->value = value;
    f->from = mem_strdup(from);
    return 0;
}

/* Look for one name: the variable itself, then NAME_FILE, then the credentials directory. */
static int look_for(const char *name, struct found *f, struct err *e)
{
    const char *text, *directory = getenv("CREDENTIALS_DIRECTORY");
    char path[4096], file_name[128], *value;

    text = getenv(name);
    if (text && *text && offer(f, mem_strdup(text), name, e))
        return -1;
    snprintf(file_name, sizeof(file_name), "%s_FILE", name);
    text = getenv(file_name);
    /* LOG_FILE is a key of its own and not the file of a key LOG: only known keys come here. */
    if (text && *text) {
        if (read_value_file(text, file_name, &value, e) || offer(f, value, file_name, e))
            return -1;
    }
    if (directory && *directory) {
        FILE *there;

        snprintf(path, sizeof(path), "%s/%s", directory, name);
        there = fopen(path, "re");
        if (there) {
            fclose(there);
            if (read_value_file(path, name, &value, e) || offer(f, value, path, e))
                return -1;
        }
    }
    return 0;
}

static int find(const struct config_key *key, struct found *f, struct err *e)
{
    char names[256], *rest = names, *name;

    memset(f, 0, sizeof(*f));
    if (look_for(key->name, f, e))
        return -1;
    snprintf(names, sizeof(names), "%s", key->aliases ? key->aliases : "");
    while ((name = strsep(&rest, " ")))
        if (*name && look_for(name, f, e))
            return -1;
    return 0;
}

static int parse_int(const struct config_key *key, const char *text, long *out)
{
    char *end;

    errno = 0;
    *out = strtol(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text))
        return -1;
    return *out < key->min || *out > key->max ? -1 : 0;
}

/* Digits with a point, and nothing else that strtod() knows: no hexadecimals, no infinity. */
static int parse_real(const struct config_key *key, const char *text, double *out)
{
    char *end;

    if (text[strspn(text, "0123456789.-")])
        return -1;
    *out = strtod(text, &end);
    if (end == text || *end)
        return -1;
    return *out < (double)key->min || *out > (double)key->max ? -1 : 0;
}

static int parse_bool(const char *text, bool *out)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    size_t i;

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return 0;
        }
    }
    return -1;
}

/* The choice that text names in any case, or NULL; the result is the caller's. */
static char *parse_choice(const struct config_key *key, const char *text)
{
    char *words = mem_strdup(key->choices), *rest = words, *word, *match = NULL;

    while (!match && (word = strsep(&rest, " ")))
        if (strcasecmp(word, text) == 0)
            match = mem_strdup(word);
    free(words);
    return match;
}

static int wrong(const struct config_key *key, const struct found *f, struct err *e)
{
    const char *from = f->from ? f->from : key->name;
    const char *shown = key->secret ? "(secret)" : f->value;

    switch (key->type) {
    case CONFIG_INT:
        return err_set(e, ERR_FATAL, 500, "%s=%.60s: a whole number from %ld to %ld is wanted",
                       from, shown, key->min, key->max);
    case CONFIG_REAL:
        return err_set(e, ERR_FATAL, 500, "%s=%.60s: a number from %ld to %ld is wanted", from,
                       shown, key->min, key->max);
    case CONFIG_BOOL:
        return err_set(e, ERR_FATAL, 500, "%s=%.60s: true or false is wanted", from, shown);
    case CONFIG_CHOICE:
        return err_set(e, ERR_FATAL, 500, "%s=%.60s: one of %s is wanted", from, shown,
                       key->choices);
    case CONFIG_STRING:
        break;
    }
    return err_set(e, ERR_FATAL, 500, "%s: a text of %ld to %ld bytes is wanted, this has %zu",
                   from, key->min, key->max, strlen(f->value));
}

static int store(const struct config_key *key, const struct found *f, void *into, struct err *e)
{
    char *place = (char *)into + key->offset;
    size_t length;
    char *text;

    switch (key->type) {
    case CONFIG_INT:
        if (parse_int(key, f->value, (long *)(void *)place))
            return wrong(key, f, e);
        return 0;
    case CONFIG_REAL:
        if (parse_real(key, f->value, (double *)(void *)place))
            return wrong(key, f, e);
        return 0;
    case CONFIG_BOOL:
        if (parse_bool(f->value, (bool *)place))
            return wrong(key, f, e);
        return 0;
    case CONFIG_CHOICE:
        text = parse_choice(key, f->value);
        break;
    case CONFIG_STRING:
    default:
        length = strlen(f->value);
        text = length < (size_t)key->min || length > (size_t)key->max ? NULL : mem_strdup(f->value);
    }
    if (!text)
        return wrong(key, f, e);
    free(*(char **)(void *)place);
    *(char **)(void *)place = text;
    return 0;
}

static int load_key(const struct config_key *key, void *into, struct err *e)
{
    struct found f;
    int failed = find(key, &f, e);

    if (!failed && !f.value) {
        if (!key->fallback)
            failed = err_set(e, ERR_FATAL, 500, "%s is not set: %s", key->name, key->help);
        else
            f.value = mem_strdup(key->fallback);
    }
    if (!failed)
        failed = store(key, &f, into, e);
    free(f.value);
    free(f.from);
    return failed;
}

int config_load(const struct config_section *sections, size_t n, struct err *e)
{
    size_t i, k;

    for (i = 0; i < n; i++) {
        for (k = 0; k < sections[i].count; k++) {
            if (load_key(&sections[i].keys[k], sections[i].into, e)) {
                config_free(sections, n);
                return -1;
            }
        }
    }
    return 0;
}

static bool is_text(const struct config_key *key)
{
    return key->type == CONFIG_STRING || key->type == CONFIG_CHOICE;
}

void config_free(const struct config_section *sections, size_t n)
{
    size_t i, k;

    for (i = 0; i < n; i++) {
        for (k = 0; k < sections[i].count; k++) {
            const struct config_key *key = &sections[i].keys[k];
            char **place = (char **)(void *)((char *)sections[i].into + key->offset);

            if (!is_text(key))
                continue;
            free(*place);
            *place = NULL;
        }
    }
}

void config_print_help(FILE *out, const struct config_section *sections, size_t n)
{
    size_t i, k;

    fputs("Every setting is an environment variable. A value can also stand in the file that\n"
          "NAME_FILE names, or in $CREDENTIALS_DIRECTORY/NAME.\n",
          out);
    for (i = 0; i < n; i++) {
        fprintf(out, "\n%s:\n", sections[i].title);
        for (k = 0; k < sections[i].count; k++) {
            const struct config_key *key = &sections[i].keys[k];

            fprintf(out, "  %s", key->name);
            if (key->aliases)
                fprintf(out, " (or %s)", key->aliases);
            fprintf(out, "\n      %s", key->help);
            if (key->choices)
                fprintf(out, " One of: %s.", key->choices);
            if (key->type == CONFIG_INT || key->type == CONFIG_REAL)
                fprintf(out, " %ld to %ld.", key->min, key->max);
            if (!key->fallback)
                fputs(" Must be set.", out);
            else if (*key->fallback)
                fprintf(out, " Default: %s.", key->fallback);
            fputc('\n', out);
        }
    }
}

/* A secret, or of a URL with a login all but the password. */
static void print_masked(FILE *out, const char *name, const char *text)
{
    const char *login = text ? strstr(text, "://") : NULL, *at, *colon;

    at = login ? strrchr(login, '@') : NULL;
    colon = login ? strchr(login + 3, ':') : NULL;
    if (at && colon && colon < at)
        fprintf(out, "%s=%.*s:********%s\n", name, (int)(colon - text), text, at);
    else
        fprintf(out, "%s=********\n", name);
}

static void print_value(FILE *out, const struct config_key *key, const void *place)
{
    const char *text = is_text(key) ? *(char *const *)place : NULL;

    if (key->secret && (!text || *text)) { /* that there is none may be seen */
        print_masked(out, key->name, text);
        return;
    }
    switch (key->type) {
    case CONFIG_INT:
        fprintf(out, "%s=%ld\n", key->name, *(const long *)place);
        return;
    case CONFIG_REAL:
        fprintf(out, "%s=%.15g\n", key->name, *(const double *)place);
        return;
    case CONFIG_BOOL:
        fprintf(out, "%s=%s\n", key->name, *(const bool *)place ? "true" : "false");
        return;
    case CONFIG_CHOICE:
    case CONFIG_STRING:
        fprintf(out, "%s=%s\n", key->name, text);
    }
}

void config_print_values(FILE *out, const struct config_section *sections, size_t n)
{
    size_t i, k;

    for (i = 0; i < n; i++)
        for (k = 0; k < sections[i].count; k++)
            print_value(out, &sections[i].keys[k],
                        (const char *)sections[i].into + sections[i].keys[k].offset);
}
