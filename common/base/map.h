/* A hash map from byte strings to pointers. It owns copies of the keys, not the values. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>

struct map;

struct map *map_new(void);
void map_free(struct map *m); /* NULL is allowed */

void *map_get(const struct map *m, const void *key, size_t n);       /* NULL: not there */
void map_put(struct map *m, const void *key, size_t n, void *value); /* replaces; value not NULL */
void *map_remove(struct map *m, const void *key, size_t n);          /* what was there, or NULL */
size_t map_count(const struct map *m);

/* Call cb for each value; cb may remove the key it is called for, and no other. */
void map_each(struct map *m, void (*cb)(void *value, void *arg), void *arg);

#endif
