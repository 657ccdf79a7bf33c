/* chatfleet dlq export: dead letters as lines of JSON; they stay where they are. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "ctl/dlq.h"
#include "ctl/dlq_browse.h"
#include "ctl/dlq_file.h"

struct export
{
    FILE *file;
    long written, left_out;
};

static enum browse_fate letter_came(void *arg, const struct mq_delivery *d, const struct letter *l)
{
    struct export *x = arg;
    json_t *line;

    if (d->oversized) {
        x->left_out++;
        return BROWSE_HOLD;
    }
    line = file_from_letter(l);
    json_dumpf(line, x->file, JSON_COMPACT);
    putc('\n', x->file);
    json_decref(line);
    x->written++;
    return BROWSE_HOLD;
}

/* Of persons, as the letters are: for nobody else to read. */
static FILE *create(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    return fd < 0 ? NULL : fdopen(fd, "w");
}

/* Where it is written first, so that an earlier file stays what it was until this one is whole; NULL for
 * what is no file: standard output, a device, a pipe. */
static char *name_part(const char *path)
{
    struct stat st;

    if (strcmp(path, "-") == 0 || (stat(path, &st) == 0 && !S_ISREG(st.st_mode)))
        return NULL;
    return mem_printf("%s.part", path);
}

static int take_place(struct export *x, const char *part, const char *path, int code)
{
    int bad = x->file == stdout ? 0 : fclose(x->file);

    if (!part)
        return bad;
    if (bad || code) {
        unlink(part);
        return bad;
    }
    return rename(part, path);
}

int dlq_export(const struct dlq_options *o, const char *path)
{
    static const struct browse_events events = {NULL, letter_came, NULL};
    struct export x = {.written = 0};
    char *part = name_part(path);
    bool bad;
    int code;

    x.file = strcmp(path, "-") == 0 ? stdout : create(part ? part : path);
    if (!x.file) {
        fprintf(stderr, "chatfleet: %s: %s\n", path, strerror(errno));
        free(part);
        return EXIT_USAGE;
    }
    code = browse_read(&o->filter, &events, &x);
    bad = fflush(x.file) != 0 || ferror(x.file);
    bad = take_place(&x, part, path, code) || bad;
    free(part);
    if (bad) {
        fprintf(stderr, "chatfleet: %s: not all could be written\n", path);
        return EXIT_REFUSED;
    }
    if (code)
        return code;
    fprintf(stderr, "exported %ld dead letter%s\n", x.written, x.written == 1 ? "" : "s");
    if (x.left_out)
        fprintf(stderr, "chatfleet: left out %ld whose bodies are too large\n", x.left_out);
    return x.left_out ? EXIT_FAILED : EXIT_DONE;
}
