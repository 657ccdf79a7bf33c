/*
 * Memory. Out of memory ends the process with one line: the broker delivers its messages again.
 * What comes from outside is bounded before memory is asked for.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t n);           /* zeroed; never NULL; owned by the caller, free() */
void *mem_resize(void *p, size_t n); /* like realloc(); never NULL */
char *mem_strdup(const char *s);     /* NULL gives NULL */
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * An arena: many small pieces that live exactly as long as one thing (a message, say) and are
 * freed with it at once.
 */
struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *a);                   /* NULL is allowed */
void *arena_alloc(struct arena *a, size_t n);       /* zeroed, aligned for any object; never NULL */
char *arena_strdup(struct arena *a, const char *s); /* NULL gives NULL */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
