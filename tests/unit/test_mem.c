#include "common/base/mem.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static size_t nonzero(const char *p, size_t n)
{
    size_t i, count = 0;

    for (i = 0; i < n; i++)
        count += p[i] != 0;
    return count;
}

static void heap(void)
{
    char *p, *q;
    int i;

    /* Leave dirt behind for the zeroing to find. */
    for (i = 0; i < 20; i++) {
        p = malloc(700);
        CU_ASSERT_PTR_NOT_NULL_FATAL(p);
        memset(p, 0x55, 700);
        free(p);
    }
    p = mem_alloc(700);
    CU_ASSERT_EQUAL(nonzero(p, 700), 0);
    memset(p, 'a', 700);
    p = mem_resize(p, 100000);
    CU_ASSERT_EQUAL(p[0], 'a');
    CU_ASSERT_EQUAL(p[699], 'a');
    free(p);
    q = mem_alloc(0);
    CU_ASSERT_PTR_NOT_NULL(q);
    free(q);
    q = mem_resize(NULL, 0);
    CU_ASSERT_PTR_NOT_NULL(q);
    free(q);
}

static void strings(void)
{
    char *p = mem_strdup("turn");

    CU_ASSERT_STRING_EQUAL(p, "turn");
    free(p);
    CU_ASSERT_PTR_NULL(mem_strdup(NULL));
    CU_ASSERT_PTR_NULL(mem_strndup(NULL, 0));
    p = mem_strndup("turning", 4);
    CU_ASSERT_STRING_EQUAL(p, "turn");
    free(p);
    p = mem_strndup("a\0b", 3); /* bytes, not up to the first NUL */
    CU_ASSERT_EQUAL(memcmp(p, "a\0b\0", 4), 0);
    free(p);
    p = mem_printf("%s-%0500d", "x", 7);
    CU_ASSERT_EQUAL(strlen(p), 502);
    CU_ASSERT_EQUAL(p[501], '7');
    free(p);
}

static void arena_pieces(void)
{
    struct arena *a = arena_new();
    char *pieces[300];
    size_t n;

    for (n = 0; n < COUNT(pieces); n++) {
        pieces[n] = arena_alloc(a, n);
        CU_ASSERT_EQUAL((uintptr_t)pieces[n] % alignof(max_align_t), 0);
        CU_ASSERT_EQUAL(nonzero(pieces[n], n), 0);
        memset(pieces[n], (int)n, n);
    }
    /* None of them runs into another. */
    for (n = 0; n < COUNT(pieces); n++) {
        size_t i, wrong = 0;

        for (i = 0; i < n; i++)
            wrong += pieces[n][i] != (char)n;
        CU_ASSERT_EQUAL(wrong, 0);
    }
    arena_free(a);
    arena_free(NULL);
}

static void arena_large_pieces(void)
{
    static const size_t sizes[] = {3999, 4000, 4001, 4096, 1, 1000000, 1, 3968, 3984, 16, 17};
    struct arena *a = arena_new();
    char *last = NULL;
    size_t i;

    for (i = 0; i < COUNT(sizes); i++) {
        char *p = arena_alloc(a, sizes[i]);

        CU_ASSERT_EQUAL(nonzero(p, sizes[i]), 0);
        memset(p, 0x55, sizes[i]); /* the sanitizer tells if that is too much */
        if (last)
            CU_ASSERT_EQUAL(*last, 0x55);
        last = p;
    }
    arena_free(a);
}

static void arena_strings(void)
{
    struct arena *a = arena_new();
    char *one = arena_strdup(a, "one"), *two = arena_strndup(a, "two and more", 3);
    char *three = arena_printf(a, "%s+%s=%05000d", one, two, 3);

    CU_ASSERT_STRING_EQUAL(one, "one");
    CU_ASSERT_STRING_EQUAL(two, "two");
    CU_ASSERT_EQUAL(strlen(three), 5008);
    CU_ASSERT_EQUAL(strncmp(three, "one+two=000", 11), 0);
    CU_ASSERT_EQUAL(three[5007], '3');
    CU_ASSERT_PTR_NULL(arena_strdup(a, NULL));
    CU_ASSERT_PTR_NULL(arena_strndup(a, NULL, 0));
    CU_ASSERT_STRING_EQUAL(arena_strndup(a, "", 0), "");
    arena_free(a);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"memory is zeroed and keeps on growing", heap},
        {"strings", strings},
        {"pieces of an arena are aligned, zeroed, apart", arena_pieces},
        {"pieces larger than a block", arena_large_pieces},
        {"strings in an arena", arena_strings},
        CU_TEST_INFO_NULL,
    };

    return unit_main("mem", tests);
}
