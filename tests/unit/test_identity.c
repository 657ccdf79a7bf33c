#include "common/chat/identity.h"

#include "common/base/uuid.h"
#include "tests/unit/unit.h"

static struct arena *arena;

static const char *id(const char *tenant, const char *subject)
{
    return identity_user_id(arena, tenant, subject);
}

static void a_uuid_is_itself_in_lower_case(void)
{
    CU_ASSERT_STRING_EQUAL(id("acme", "2ED6657D-E927-568B-95e1-2665A8AEA6A2"),
                           "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    CU_ASSERT_STRING_EQUAL(id("acme", "00000000-0000-0000-0000-000000000000"),
                           "00000000-0000-0000-0000-000000000000");
    /* In any tenant. */
    CU_ASSERT_STRING_EQUAL(id("other", "2ed6657d-e927-568b-95e1-2665a8aea6a2"),
                           "2ed6657d-e927-568b-95e1-2665a8aea6a2");
}

/* Rows in databases bear these ids: they must not change from one release to the next. */
static void others_are_derived(void)
{
    CU_ASSERT_STRING_EQUAL(id("default", "alice"), "64c267ee-ff03-5d30-9ebb-7f56e9dd3ce2");
    CU_ASSERT_STRING_EQUAL(id("acme", "alice"), "3fce1ec7-7785-5293-a6ba-20559d0f6688");
    CU_ASSERT_STRING_EQUAL(id("default", ""), "7505d64a-54e0-51b7-acd5-4ccd58b49dc4");
    CU_ASSERT_EQUAL(uuid_version(id("default", "alice")), 5);
    CU_ASSERT_STRING_EQUAL(id("default", "alice"), id("default", "alice"));
    CU_ASSERT_STRING_NOT_EQUAL(id("default", "alice"), id("default", "Alice"));
    CU_ASSERT_STRING_NOT_EQUAL(id("default", "alice"), id("default", "bob"));
    CU_ASSERT_STRING_NOT_EQUAL(id("default", "alice"), id("acme", "alice"));
    /* Nearly a UUID is none. */
    CU_ASSERT_EQUAL(uuid_version(id("acme", "2ed6657d-e927-768b-95e1-2665a8aea6a2 ")), 5);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a UUID is itself in lower case", a_uuid_is_itself_in_lower_case},
        {"others are derived", others_are_derived},
        CU_TEST_INFO_NULL,
    };
    int failed;

    arena = arena_new();
    failed = unit_main("identity", tests);
    arena_free(arena);
    return failed;
}
