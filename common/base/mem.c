#include "common/base/mem.h"

#include <stdarg.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARENA_BLOCK = 4000,
    SPARE_MAX = 64, /* blocks kept for the next arenas */
};

/* The head of a block; the pieces follow it. */
struct block {
    struct block *next;
    size_t used, size;
    alignas(max_align_t) char data[];
};

struct arena {
    struct block *blocks; /* the newest first; only that one has room */
};

static void out_of_memory(size_t n)
{
    fprintf(stderr, "out of memory: %zu bytes refused\n", n);
    abort();
}

void *mem_alloc(size_t n)
{
    void *p = calloc(1, n ? n : 1);

    if (!p)
        out_of_memory(n);
    return p;
}

void *mem_resize(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);

    if (!q)
        out_of_memory(n);
    return q;
}

char *mem_strndup(const char *s, size_t n)
{
    char *p;

    if (!s)
        return NULL;
    p = mem_alloc(n + 1);
    memcpy(p, s, n);
    return p;
}

char *mem_strdup(const char *s)
{
    return s ? mem_strndup(s, strlen(s)) : NULL;
}

char *mem_printf(const char *fmt, ...)
{
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        out_of_memory(0);
    p = mem_alloc((size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

/* A message takes several arenas, and malloc() is slow in this size. Under a sanitizer nothing is
 * kept, so that it sees who uses what is freed. */
static struct {
    struct block *first;
    size_t count, max;
} spare = {
#ifdef __SANITIZE_ADDRESS__
    .max = 0,
#else
    .max = SPARE_MAX,
#endif
};

static struct block *block_new(size_t size)
{
    struct block *b = spare.first;

    if (b && size == ARENA_BLOCK) {
        spare.first = b->next;
        spare.count--;
    } else {
        b = malloc(sizeof(*b) + size);
    }
    if (!b)
        out_of_memory(size);
    b->next = NULL;
    b->used = 0;
    b->size = size;
    return b;
}

static void block_free(struct block *b)
{
    if (b->size != ARENA_BLOCK || spare.count >= spare.max) {
        free(b);
        return;
    }
    b->next = spare.first;
    spare.first = b;
    spare.count++;
}

struct arena *arena_new(void)
{
    struct block *b = block_new(ARENA_BLOCK);
    struct arena *a = (struct arena *)(void *)b->data; /* the arena lives in its first block */

    b->used = sizeof(*a) + (size_t)(-(intptr_t)sizeof(*a) & (intptr_t)(alignof(max_align_t) - 1));
    a->blocks = b;
    return a;
}

void arena_free(struct arena *a)
{
    struct block *b, *next;

    if (!a)
        return;
    for (b = a->blocks; b; b = next) {
        next = b->next;
        block_free(b);
    }
}

void *arena_alloc(struct arena *a, size_t n)
{
    struct block *b = a->blocks;
    void *p;

    n = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (b->size - b->used < n) {
        b = block_new(n > ARENA_BLOCK ? n : ARENA_BLOCK);
        b->next = a->blocks;
        a->blocks = b;
    }
    p = b->data + b->used;
    b->used += n;
    memset(p, 0, n);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *p;

    if (!s)
        return NULL;
    p = arena_alloc(a, n + 1);
    memcpy(p, s, n);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return s ? arena_strndup(a, s, strlen(s)) : NULL;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        out_of_memory(0);
    p = arena_alloc(a, (size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}
