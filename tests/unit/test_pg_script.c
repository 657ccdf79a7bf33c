#include "common/io/pg_script.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

/* The statements of a script, with a bar after each. */
static const char *statements(const char *sql)
{
    static char out[512];
    size_t n, used = 0;

    for (; (n = pg_script_statement(&sql)) > 0; sql += n) {
        memcpy(out + used, sql, n);
        out[used + n] = '|';
        used += n + 1;
    }
    out[used] = '\0';
    return out;
}

static void splits(void)
{
    static const char *const cases[][2] = {
        {"", ""},
        {" \n\t", ""},
        {"-- only a comment", ""},
        {"/* only /* a nested */ one */ ", ""},
        {"a", "a|"},
        {"a;", "a;|"},
        {"a; b;\n", "a;|b;|"},
        {";;", ";|;|"},
        {"-- x;\na; /* y; */ b -- z;\n; c", "a;|b -- z;\n;|c|"},
        {"a /* /* ; */ ; */; b", "a /* /* ; */ ; */;|b|"},
        {"a ';' \";\"; b", "a ';' \";\";|b|"},
        {"a 'it''s; ' ; b", "a 'it''s; ' ;|b|"},
        {"a '-- ' ; b", "a '-- ' ;|b|"},
        {"a - b; c / d;", "a - b;|c / d;|"},
        {"do $$ x; $y$ ; $$; b", "do $$ x; $y$ ; $$;|b|"},
        {"do $f$ x; $$ ; $$; $f$; b", "do $f$ x; $$ ; $$; $f$;|b|"},
        {"do $f$ x; $F$; $f$; b", "do $f$ x; $F$; $f$;|b|"},
        {"a $1; b $2; c", "a $1;|b $2;|c|"},
        {"a x$y$z; b x$y$z; c", "a x$y$z;|b x$y$z;|c|"},
        {"gr\xc3\xbc$x$; b", "gr\xc3\xbc$x$;|b|"},
        /* What does not end goes to the end; the server will say so. */
        {"a ' ; b", "a ' ; b|"},
        {"a $$ ; b", "a $$ ; b|"},
        {"a /* ; b", "a /* ; b|"},
    };
    size_t i;

    for (i = 0; i < COUNT(cases); i++)
        CU_ASSERT_STRING_EQUAL(statements(cases[i][0]), cases[i][1]);
}

static void users(void)
{
    static const char *const cases[][2] = {
        {"postgresql://ann:x@h:1/d", "ann"},
        {"postgres://ann@h/d", "ann"},
        {"postgresql+asyncpg://ann@h/d", "ann"},
        {"postgresql://a%40b:x@h/d", "a@b"},
        {"postgresql://h/d?user=ann", "ann"},
        {"postgresql://h/d", NULL},
        {"postgresql://h:x:y/d", NULL},
        {"mysql://ann@h/d", NULL},
        {"user=ann", NULL},
        {"", NULL},
    };
    size_t i;

    for (i = 0; i < COUNT(cases); i++) {
        char *user = pg_script_url_user(cases[i][0]);

        if (cases[i][1])
            CU_ASSERT_STRING_EQUAL(user, cases[i][1])
        else
            CU_ASSERT_PTR_NULL(user)
        free(user);
    }
}

static void refusals(void)
{
    struct err e = {0};

    CU_ASSERT_PTR_NULL(pg_script_open("mysql://ann:secret@h/d", "test", 1, &e));
    CU_ASSERT_EQUAL(e.kind, ERR_FATAL);
    CU_ASSERT_PTR_NULL(strstr(e.text, "secret"));
    /* Nobody listens on port 1. */
    CU_ASSERT_PTR_NULL(pg_script_open("postgresql://ann:secret@127.0.0.1:1/d", "test", 1, &e));
    CU_ASSERT_EQUAL(e.kind, ERR_RETRY);
    CU_ASSERT_PTR_NULL(strstr(e.text, "secret"));
    CU_ASSERT_PTR_NULL(strchr(e.text, '\n'));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"scripts are split into statements", splits},
        {"the user of an URL", users},
        {"URLs that cannot be read, servers that are not there", refusals},
        CU_TEST_INFO_NULL,
    };

    return unit_main("pg_script", tests);
}
