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
#include "common/base/mem.h"

enum {
    LINE_MAX_BYTES = 16384,
    LINE_END_BYTES = 2,
    KEPT_BYTES = 32768, /* lines that wait for log_flush() */
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static struct {
    enum log_level level;
    const char *service;
    char *file;
    int fd;
    bool plain; /* a terminal: text for people */
    struct buf line, kept;
    bool keep_back;
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

static int open_file(struct err *e)
{
    int fd = open(state.file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

    if (fd < 0)
        return err_set(e, ERR_FATAL, 500, "LOG_FILE %s cannot be opened: %s", state.file,
                       strerror(errno));
    state.fd = fd;
    return 0;
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
        if (open_file(e))
            return -1;
    }
    state.plain = isatty(state.fd) == 1;
    return 0;
}

void log_reopen(void)
{
    int old = state.fd;
    struct err e;

    if (!state.file)
        return;
    log_flush();
    if (open_file(&e))
        log_event(LOG_ERROR, "log file not reopened", LOG_STR("error", e.text));
    else
        close(old);
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

void log_write(enum log_level level, const char *event, const struct log_field *fields, int n)
{
    if (state.line.max == 0) {
        buf_init(&state.line, LINE_MAX_BYTES);
        buf_init(&state.kept, KEPT_BYTES);
    }
    buf_clear(&state.line);
    state.line.max = LINE_MAX_BYTES - LINE_END_BYTES;
    if (state.plain)
        plain_line(level, event, fields, n);
    else
        json_line(level, event, fields, n);
    state.line.max = LINE_MAX_BYTES;
    buf_puts(&state.line, state.plain ? "\n" : "}\n");
    if (state.kept.max - state.kept.len < state.line.len)
        log_flush();
    buf_add(&state.kept, state.line.data, state.line.len);
    if (!state.keep_back || level >= LOG_WARN)
        log_flush();
}

static void abort_came(int signo)
{
    (void)signo;
    log_flush(); /* only write(); abort() then goes on */
}

void log_keep_back(bool on)
{
    state.keep_back = on;
    signal(SIGABRT, on ? abort_came : SIG_DFL);
    if (!on)
        log_flush();
}

void log_flush(void)
{
    /* A full disk or a closed pipe must not stop the service; there is nowhere to say so. */
    if (state.kept.len && write(state.fd, state.kept.data, state.kept.len) < 0)
        state.kept.len = 0;
    buf_clear(&state.kept);
}
