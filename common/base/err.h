/*
 * Errors.
 *
 * A function that can fail returns 0 or -1 (or a pointer or NULL) and fills a struct err where the
 * failure is first seen; callers add context with err_context() and pass it up. The kind alone
 * decides what becomes of a message:
 *
 *   ERR_RETRY   it may work later (a time-out, a refused connection): tried again with delays
 *   ERR_REJECT  the caller asked for something that cannot be done: answered, never tried again
 *   ERR_FATAL   a bug or an unreadable message: to the dead-letter queue at once
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err_kind { ERR_RETRY = 1, ERR_REJECT, ERR_FATAL };

struct err {
    enum err_kind kind;
    int status;     /* the HTTP status a caller is told */
    char text[256]; /* one sentence, no line end; cut at 255 bytes */
};

/* Fill *e (may be NULL) and return -1, so that a caller can write: return err_set(...). */
int err_set(struct err *e, enum err_kind kind, int status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Put context before the text: "context: text". Returns -1. */
int err_context(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "retry", "reject" or "fatal": the word in logs and in x-error-kind. */
const char *err_kind_name(enum err_kind kind);

#endif
