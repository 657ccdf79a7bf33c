#include "common/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What others wrote (a broker's reason, a setting) may hold line ends and terminal escapes. */
static void keep_to_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

int err_set(struct err *e, enum err_kind kind, int status, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return -1;
    e->kind = kind;
    e->status = status;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof(e->text), fmt, ap);
    va_end(ap);
    keep_to_one_line(e->text);
    return -1;
}

int err_context(struct err *e, const char *fmt, ...)
{
    char text[sizeof(e->text)];
    va_list ap;
    size_t n;

    if (!e)
        return -1;
    memcpy(text, e->text, sizeof(text));
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof(e->text), fmt, ap);
    va_end(ap);
    n = strlen(e->text);
    snprintf(e->text + n, sizeof(e->text) - n, ": %s", text);
    keep_to_one_line(e->text);
    return -1;
}

const char *err_kind_name(enum err_kind kind)
{
    switch (kind) {
    case ERR_RETRY:
        return "retry";
    case ERR_REJECT:
        return "reject";
    case ERR_FATAL:
        break;
    }
    return "fatal";
}
