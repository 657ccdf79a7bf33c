/* chatfleet dlq export: dead letters as lines of JSON; they stay where they are. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "ctl/dlq.h"
#include "ctl/dlq_browse.h"
#include "ctl/dlq_file.h"

struct export
{
    struct ctl_session session; /* the first member: a session is its export */
    const struct dlq_options *o;
    struct browse *browse;
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

static void ended(void *arg)
{
    struct export *x = arg;

    browse_close(x->browse, EXIT_DONE);
}

static void opened(struct ctl_session *s)
{
    static const struct browse_events events = {NULL, letter_came, ended};
    struct export *x = (struct export *)(void *)s;

    x->browse = browse_new(s, &x->o->filter, BROWSE_WINDOW_MAX, &events, x);
}

static void fini(struct ctl_session *s)
{
    browse_free(((struct export *)(void *)s)->browse);
}

/* Of persons, as the letters are: for nobody else to read. */
static FILE *create(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    return fd < 0 ? NULL : fdopen(fd, "w");
}

int dlq_export(const struct dlq_options *o, const char *path)
{
    struct export x = {
        .session = {.opened = opened, .fini = fini, .message_max = BROWSE_MESSAGE_MAX}, .o = o};
    bool to_file = strcmp(path, "-") != 0, bad;
    int code;

    x.file = to_file ? create(path) : stdout;
    if (!x.file) {
        fprintf(stderr, "chatfleet: %s: %s\n", path, strerror(errno));
        return EXIT_REFUSED;
    }
    code = ctl_session_run(&x.session);
    bad = fflush(x.file) != 0 || ferror(x.file);
    if (to_file)
        bad = fclose(x.file) != 0 || bad;
    if (bad) {
        fprintf(stderr, "chatfleet: %s: not all could be written\n", path);
        return EXIT_REFUSED;
    }
    if (code)
        return code;
    fprintf(stderr, "exported %ld dead letters\n", x.written);
    if (x.left_out)
        fprintf(stderr, "chatfleet: left out %ld whose bodies are too large\n", x.left_out);
    return x.left_out ? EXIT_FAILED : EXIT_DONE;
}
