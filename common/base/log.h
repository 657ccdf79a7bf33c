/*
 * Logs: one line an event on standard error (or LOG_FILE), JSON for machines and plain text on a
 * terminal. A line names what happened; its fields say to what. Secrets and message contents are
 * never given to it.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

#include "common/base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *name;
    const char *text; /* NULL: the number is meant */
    long number;
    bool absent; /* left out of the line */
};

/* A field whose text is NULL or "" is left out of the line. */
#define LOG_STR(name, text)   log_str((name), (text))
#define LOG_NUM(name, number) log_num((name), (number))

struct log_field log_str(const char *name, const char *text);
struct log_field log_num(const char *name, long number);

/* log_event(LOG_INFO, "listening", LOG_STR("address", a), LOG_NUM("port", p)); */
#define log_event(level, event, ...)                                                               \
    do {                                                                                           \
        if (log_wanted(level)) {                                                                   \
            const struct log_field log_fields_[] = {__VA_ARGS__};                                  \
            log_write((level), (event), log_fields_,                                               \
                      (int)(sizeof(log_fields_) / sizeof(log_fields_[0])));                        \
        }                                                                                          \
    } while (0)

bool log_wanted(enum log_level level);
void log_write(enum log_level level, const char *event, const struct log_field *fields, int n);

/* Name and level come before the first line; file may be NULL or "" for standard error. */
int log_open(const char *service, const char *level, const char *file, struct err *e);
void log_reopen(void); /* after a rotation of LOG_FILE */

/*
 * Lines are written at once, or, between log_background(true) and (false), by a thread, so that a
 * slow disk or a full pipe never holds up the caller. If too many wait, further ones are dropped
 * and later counted in a line of their own. (false) returns when all is written; abort() writes
 * what waits, too.
 */
void log_background(bool on);

#endif
