#include "common/base/map.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

enum { MANY = 5000 };

static int values[MANY]; /* only their addresses count */

static size_t key_of(int i, char *key)
{
    return (size_t)sprintf(key, "key %d", i);
}

static void put_get_replace_remove(void)
{
    struct map *m = map_new();
    char key[8] = "one";

    CU_ASSERT_EQUAL(map_count(m), 0);
    CU_ASSERT_PTR_NULL(map_get(m, "one", 3));
    CU_ASSERT_PTR_NULL(map_remove(m, "one", 3));

    map_put(m, key, 3, &values[1]);
    memcpy(key, "two", 3); /* the map has a copy of its own */
    map_put(m, key, 3, &values[2]);
    CU_ASSERT_EQUAL(map_count(m), 2);
    CU_ASSERT_PTR_EQUAL(map_get(m, "one", 3), &values[1]);
    CU_ASSERT_PTR_EQUAL(map_get(m, "two", 3), &values[2]);

    map_put(m, "one", 3, &values[3]);
    CU_ASSERT_EQUAL(map_count(m), 2);
    CU_ASSERT_PTR_EQUAL(map_get(m, "one", 3), &values[3]);

    CU_ASSERT_PTR_EQUAL(map_remove(m, "one", 3), &values[3]);
    CU_ASSERT_EQUAL(map_count(m), 1);
    CU_ASSERT_PTR_NULL(map_get(m, "one", 3));
    CU_ASSERT_PTR_NULL(map_remove(m, "one", 3));
    CU_ASSERT_PTR_EQUAL(map_get(m, "two", 3), &values[2]);
    map_free(m);
    map_free(NULL);
}

static void keys_are_bytes(void)
{
    static const struct {
        const char *key;
        size_t n;
    } keys[] = {{"", 0},     {"\0", 1}, {"\0\0", 2}, {"a", 1},    {"a\0", 2},  {"a\0b", 3},
                {"a\0c", 3}, {"ab", 2}, {"\0a", 2},  {"\xff", 1}, {"\x7f", 1}, {"\xff\0", 2}};
    struct map *m = map_new();
    size_t i;

    for (i = 0; i < COUNT(keys); i++)
        map_put(m, keys[i].key, keys[i].n, &values[i]);
    CU_ASSERT_EQUAL(map_count(m), COUNT(keys));
    for (i = 0; i < COUNT(keys); i++)
        CU_ASSERT_PTR_EQUAL(map_get(m, keys[i].key, keys[i].n), &values[i]);
    CU_ASSERT_PTR_NULL(map_get(m, "a\0d", 3));
    CU_ASSERT_PTR_NULL(map_get(m, "a\0b\0", 4));
    CU_ASSERT_PTR_EQUAL(map_remove(m, "a\0b", 3), &values[5]);
    CU_ASSERT_PTR_EQUAL(map_get(m, "a\0c", 3), &values[6]);
    CU_ASSERT_PTR_EQUAL(map_get(m, "a", 1), &values[3]);
    map_free(m);
}

/* Through several growths, and down again in another order. */
static void grows_and_forgets_nothing(void)
{
    struct map *m = map_new();
    char key[32];
    int i, wrong = 0;

    for (i = 0; i < MANY; i++) {
        map_put(m, key, key_of(i, key), &values[i]);
        wrong += map_get(m, key, key_of(0, key)) != &values[0];
    }
    CU_ASSERT_EQUAL(map_count(m), MANY);
    for (i = 0; i < MANY; i++)
        wrong += map_get(m, key, key_of(i, key)) != &values[i];
    for (i = 0; i < MANY; i += 2)
        wrong += map_remove(m, key, key_of(i, key)) != &values[i];
    CU_ASSERT_EQUAL(map_count(m), MANY / 2);
    for (i = 0; i < MANY; i++)
        wrong += map_get(m, key, key_of(i, key)) != (i % 2 ? &values[i] : NULL);
    for (i = MANY - 1; i > 0; i -= 2)
        wrong += map_remove(m, key, key_of(i, key)) != &values[i];
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(map_count(m), 0);
    map_free(m);
}

/* ---- map_each ---- */

struct visit {
    struct map *m;
    int seen[MANY];
    int strangers;
};

static void look(void *value, void *arg)
{
    struct visit *v = arg;
    int *at = value;

    if (at >= values && at < values + MANY)
        v->seen[at - values]++;
    else
        v->strangers++;
}

static void look_and_remove_even(void *value, void *arg)
{
    struct visit *v = arg;
    int i = (int)((int *)value - values);
    char key[32];

    look(value, arg);
    if (i % 2 == 0)
        map_remove(v->m, key, key_of(i, key));
}

static void remove_all(void *value, void *arg)
{
    char key[32];

    map_remove(arg, key, key_of((int)((int *)value - values), key));
}

static void each_is_called_once(void)
{
    static struct visit first, second;
    struct map *m = map_new();
    char key[32];
    int i, wrong = 0;

    map_each(m, look, &first);
    for (i = 0; i < MANY; i++)
        wrong += first.seen[i] != 0;
    for (i = 0; i < MANY; i++)
        map_put(m, key, key_of(i, key), &values[i]);
    first.m = m;
    map_each(m, look_and_remove_even, &first);
    CU_ASSERT_EQUAL(map_count(m), MANY / 2);
    map_each(m, look, &second);
    for (i = 0; i < MANY; i++)
        wrong += first.seen[i] != 1 || second.seen[i] != i % 2;
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(first.strangers + second.strangers, 0);

    map_each(m, remove_all, m);
    CU_ASSERT_EQUAL(map_count(m), 0);
    map_free(m);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"put, get, replace, remove", put_get_replace_remove},
        {"keys are bytes", keys_are_bytes},
        {"growth", grows_and_forgets_nothing},
        {"each, with removal", each_is_called_once},
        CU_TEST_INFO_NULL,
    };

    return unit_main("map", tests);
}
