#include "common/base/log_writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"

enum {
    GATHER_NS = 5000000, /* how long the thread lets lines gather, to write them at once */
    STACK_BYTES = 65536,
};

static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct buf waiting; /* under the lock */
    struct buf writing; /* the thread's own */
    bool idle, stopping;
    int fd;
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* A full disk or a closed pipe must not stop the service; there is nowhere to say so. */
static void write_all(int fd, const struct buf *b)
{
    size_t done = 0;
    ssize_t n;

    while (done < b->len) {
        n = write(fd, b->data + done, b->len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        done += (size_t)n;
    }
}

/* With the lock: wait for lines, then a little longer for those behind them. */
static void gather(void)
{
    struct timespec until;

    writer.idle = true;
    while (writer.waiting.len == 0 && !writer.stopping)
        pthread_cond_wait(&writer.changed, &writer.lock);
    writer.idle = false;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += GATHER_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (!writer.stopping &&
           pthread_cond_timedwait(&writer.changed, &writer.lock, &until) != ETIMEDOUT)
        ;
}

static void *write_lines(void *arg)
{
    struct buf other;
    bool last;

    (void)arg;
    do {
        pthread_mutex_lock(&writer.lock);
        gather();
        last = writer.stopping;
        other = writer.writing;
        writer.writing = writer.waiting;
        writer.waiting = other;
        pthread_mutex_unlock(&writer.lock);
        write_all(writer.fd, &writer.writing);
        buf_clear(&writer.writing);
    } while (!last);
    return NULL;
}

void log_writer_start(int fd)
{
    sigset_t all, before;
    pthread_attr_t attr;

    writer.fd = fd;
    writer.stopping = false;
    buf_init(&writer.waiting, LOG_WRITER_MAX);
    buf_init(&writer.writing, LOG_WRITER_MAX);
    sigfillset(&all); /* signals are for the loop's thread */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (pthread_create(&writer.thread, &attr, write_lines, NULL))
        abort(); /* out of memory */
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void log_writer_stop(void)
{
    pthread_mutex_lock(&writer.lock);
    writer.stopping = true;
    pthread_cond_signal(&writer.changed);
    pthread_mutex_unlock(&writer.lock);
    pthread_join(writer.thread, NULL);
    buf_free(&writer.waiting);
    buf_free(&writer.writing);
}

int log_writer_add(const char *data, size_t n)
{
    int failed;

    pthread_mutex_lock(&writer.lock);
    failed = buf_add(&writer.waiting, data, n);
    if (writer.idle)
        pthread_cond_signal(&writer.changed);
    pthread_mutex_unlock(&writer.lock);
    return failed;
}

void log_writer_last_words(void)
{
    write_all(writer.fd, &writer.waiting);
}
