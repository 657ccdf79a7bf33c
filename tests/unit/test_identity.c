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
    CU_ASSERT_STRING_EQUAL(id("default", "alice"), "c735d278-6e00-5bb1-a806-febf6c569d36");
    CU_ASSERT_STRING_EQUAL(id("acme", "alice"), "b294057e-b112-50eb-b3fd-d37044f48c0e");
    CU_ASSERT_STRING_EQUAL(id("default", ""), "b109a51b-e668-52b2-89ce-a080783f69c0");
    CU_ASSERT_EQUAL(uuid_version(id("default", "alice")), 5);
    CU_ASSERT_STRING_EQUAL(id("default", "alice"), id("default", "alice"));
    CU_ASSERT_STRING_NOT_EQUAL(id("default", "alice"), id("default", "Alice"));
    CU_ASSERT_STRING_NOT_EQUAL(id("default", "alice"), id("default", "bob"));
    CU_ASSERT_STRING_NOT_EQUAL(id("default", "alice"), id("acme", "alice"));
    CU_ASSERT_STRING_NOT_EQUAL(id("ab", "c"), id("a", "bc"));
    /* Nearly a UUID is none. */
    CU_ASSERT_EQUAL(uuid_version(id("acme", "2ed6657d-e927-768b-95e1-2665a8aea6a2 ")), 5);
}

static void roles_are_whole_words(void)
{
    CU_ASSERT_TRUE(identity_has_role("admin", "admin"));
    CU_ASSERT_TRUE(identity_has_role("user,admin", "admin"));
    CU_ASSERT_TRUE(identity_has_role("admin,user", "admin"));
    CU_ASSERT_TRUE(identity_has_role(",,admin,", "admin"));
    CU_ASSERT_FALSE(identity_has_role("administrator", "admin"));
    CU_ASSERT_FALSE(identity_has_role("no admin", "admin"));
    CU_ASSERT_FALSE(identity_has_role("adm,in", "admin"));
    CU_ASSERT_FALSE(identity_has_role("", "admin"));
    CU_ASSERT_FALSE(identity_has_role(NULL, "admin"));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a UUID is itself in lower case", a_uuid_is_itself_in_lower_case},
        {"others are derived", others_are_derived},
        {"roles are whole words", roles_are_whole_words},
        CU_TEST_INFO_NULL,
    };
    int failed;

    arena = arena_new();
    failed = unit_main("identity", tests);
    arena_free(arena);
    return failed;
}
