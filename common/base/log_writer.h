/*
 * The thread that writes log lines. A disk that is busy syncing for somebody else can hold up a
 * write() for a hundred milliseconds, and a full pipe for ever: an event loop must not wait for it.
 * For log.c only.
 */
#ifndef BASE_LOG_WRITER_H
#define BASE_LOG_WRITER_H

#include <stddef.h>

void log_writer_start(int fd);
void log_writer_stop(void); /* after writing all that waits */

/* Returns -1 when LOG_WRITER_MAX bytes wait already; nothing of it will be written then. */
enum { LOG_WRITER_MAX = 4 * 1024 * 1024 };
int log_writer_add(const char *data, size_t n);

/* Write what waits, from a signal handler of a process that is about to die. */
void log_writer_last_words(void);

#endif
