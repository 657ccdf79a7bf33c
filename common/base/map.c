#include "common/base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/mem.h"

struct entry {
    struct entry *next;
    uint64_t hash;
    void *value;
    size_t n;
    char key[];
};

struct map {
    struct entry **slots;
    size_t room, count; /* room is a power of two */
    uint64_t seed;
};

/* FNV-1a from a secret start, so that a client who chooses keys cannot choose collisions. */
static uint64_t hash_of(const struct map *m, const void *key, size_t n)
{
    const unsigned char *p = key;
    uint64_t h = m->seed;
    size_t i;

    for (i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

struct map *map_new(void)
{
    struct map *m = mem_alloc(sizeof(*m));

    m->room = 64;
    m->slots = mem_alloc(m->room * sizeof(struct entry *));
    if (getrandom(&m->seed, sizeof(m->seed), 0) != sizeof(m->seed))
        abort();
    return m;
}

void map_free(struct map *m)
{
    struct entry *e, *next;
    size_t i;

    if (!m)
        return;
    for (i = 0; i < m->room; i++) {
        for (e = m->slots[i]; e; e = next) {
            next = e->next;
            free(e);
        }
    }
    free(m->slots);
    free(m);
}

/* The link that points to the key's entry, or to the NULL where it would stand. */
static struct entry **find(const struct map *m, uint64_t hash, const void *key, size_t n)
{
    struct entry **p = &m->slots[hash & (m->room - 1)];

    while (*p && ((*p)->hash != hash || (*p)->n != n || memcmp((*p)->key, key, n) != 0))
        p = &(*p)->next;
    return p;
}

void *map_get(const struct map *m, const void *key, size_t n)
{
    struct entry *e = *find(m, hash_of(m, key, n), key, n);

    return e ? e->value : NULL;
}

static void grow(struct map *m)
{
    size_t room = m->room * 2, i;
    struct entry **slots = mem_alloc(room * sizeof(struct entry *)), *e, *next;

    for (i = 0; i < m->room; i++) {
        for (e = m->slots[i]; e; e = next) {
            next = e->next;
            e->next = slots[e->hash & (room - 1)];
            slots[e->hash & (room - 1)] = e;
        }
    }
    free(m->slots);
    m->slots = slots;
    m->room = room;
}

void map_put(struct map *m, const void *key, size_t n, void *value)
{
    uint64_t hash = hash_of(m, key, n);
    struct entry **p = find(m, hash, key, n), *e;

    if (*p) {
        (*p)->value = value;
        return;
    }
    e = mem_alloc(sizeof(*e) + n);
    e->hash = hash;
    e->value = value;
    e->n = n;
    memcpy(e->key, key, n);
    *p = e;
    if (++m->count > m->room)
        grow(m);
}

void *map_remove(struct map *m, const void *key, size_t n)
{
    struct entry **p = find(m, hash_of(m, key, n), key, n), *e = *p;
    void *value;

    if (!e)
        return NULL;
    value = e->value;
    *p = e->next;
    free(e);
    m->count--;
    return value;
}

size_t map_count(const struct map *m)
{
    return m->count;
}

void map_each(struct map *m, void (*cb)(void *value, void *arg), void *arg)
{
    struct entry *e, *next;
    size_t i;

    for (i = 0; i < m->room; i++) {
        for (e = m->slots[i]; e; e = next) {
            next = e->next;
            cb(e->value, arg);
        }
    }
}
