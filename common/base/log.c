#include "common/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log_writer.h"
#include "common/base/mem.h"

enum {
    LINE_MAX_BYTES = 16384,
    LINE_END_BYTES = 2,
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static struct {
    enum log_level level;
    const char *service;
    char *file;
    int fd;
    bool plain; /* a terminal: text for people */
    struct buf line;
    bool background;
    long dropped; /* lines, since the last that was not */
} state = {.level = LOG_INFO, .service = "", .fd = STDERR_FILENO};

struct log_field log_str(const char *name, const char *text)
{
    return (struct log_field){.name = name, .text = text, .absent = !text || !*text};
}

struct log_field log_num(const char *name, long number)
{
    return (struct log_field){.name = name, .number = number};
}

bool log_wanted(enum log_level level)
{
    return level >= state.level;
}

/* A descriptor to append to LOG_FILE, or -1. */
static int open_file(struct err *e)
{
    int fd = open(state.file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

    if (fd < 0)
        err_set(e, ERR_FATAL, 500, "LOG_FILE %s cannot be opened: %s", state.file, strerror(errno));
    return fd;
}

int log_open(const char *service, const char *level, const char *file, struct err *e)
{
    int i;

    state.service = service;
    for (i = 0; i <= LOG_ERROR; i++)
        if (strcasecmp(level, level_names[i]) == 0)
            state.level = (enum log_level)i;
    if (file && *file) {
        state.file = mem_strdup(file);
        state.fd = open_file(e);
        if (state.fd < 0) {
            state.fd = STDERR_FILENO;
            return -1;
        }
    }
    state.plain = isatty(state.fd) == 1;
    return 0;
}

/* The descriptor keeps its number: the thread may be writing to it. */
void log_reopen(void)
{
    struct err e;
    int fd;

    if (!state.file)
        return;
    fd = open_file(&e);
    if (fd < 0 || dup3(fd, state.fd, O_CLOEXEC) < 0)
        log_event(LOG_ERROR, "log file not reopened",
                  LOG_STR("error", fd < 0 ? e.text : strerror(errno)));
    if (fd >= 0)
        close(fd);
}

static void plain_line(enum log_level level, const char *event, const struct log_field *f, int n)
{
    struct buf *b = &state.line;
    char time[CLOCK_ISO_SIZE];
    int i;

    clock_iso(clock_wall_ms(), time);
    buf_printf(b, "%.12s %-5s %s", time + 11, level_names[level], event);
    for (i = 0; i < n; i++) {
        if (f[i].absent)
            continue;
        buf_printf(b, "  %s=", f[i].name);
        if (!f[i].text)
            buf_printf(b, "%ld", f[i].number);
        else if (strpbrk(f[i].text, " \"\n\r\t\x1b"))
            buf_json_string(b, f[i].text);
        else
            buf_puts(b, f[i].text);
    }
}

static int json_field(struct buf *b, const struct log_field *f)
{
    if (buf_printf(b, ",\"%s\":", f->name))
        return -1;
    return f->text ? buf_json_string(b, f->text) : buf_printf(b, "%ld", f->number);
}

/* All but the end of it. */
static void json_line(enum log_level level, const char *event, const struct log_field *f, int n)
{
    struct buf *b = &state.line;
    char time[CLOCK_ISO_SIZE];
    size_t before;
    int i;

    buf_printf(b, "{\"time\":\"%s\",\"level\":\"%s\",\"service\":\"%s\",\"event\":",
               clock_iso(clock_wall_ms(), time), level_names[level], state.service);
    if (buf_json_string(b, event))
        buf_puts(b, "\"(too long)\"");
    for (i = 0; i < n; i++) {
        before = b->len;
        if (f[i].absent || json_field(b, &f[i]) == 0)
            continue;
        b->len = before;
        buf_printf(b, ",\"%s\":\"(too long)\"", f[i].name); /* or left out, if even that is */
    }
}

/* A full disk or a closed pipe must not stop the service; there is nowhere to say so. */
static void put_line(void)
{
    long dropped;

    if (!state.background) {
        if (write(state.fd, state.line.data, state.line.len) < 0)
            return;
    } else if (log_writer_add(state.line.data, state.line.len)) {
        state.dropped++;
    } else if (state.dropped) {
        dropped = state.dropped;
        state.dropped = 0;
        log_event(LOG_WARN, "log lines dropped", LOG_NUM("lines", dropped));
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, int n)
{
    if (state.line.max == 0)
        buf_init(&state.line, LINE_MAX_BYTES);
    buf_clear(&state.line);
    state.line.max = LINE_MAX_BYTES - LINE_END_BYTES;
    if (state.plain)
        plain_line(level, event, fields, n);
    else
        json_line(level, event, fields, n);
    state.line.max = LINE_MAX_BYTES;
    buf_puts(&state.line, state.plain ? "\n" : "}\n");
    put_line();
}

static void abort_came(int signo)
{
    (void)signo;
    log_writer_last_words(); /* abort() then goes on */
}

void log_background(bool on)
{
    if (on == state.background)
        return;
    if (on)
        log_writer_start(state.fd);
    else
        log_writer_stop();
    state.background = on;
    signal(SIGABRT, on ? abort_came : SIG_DFL);
}
