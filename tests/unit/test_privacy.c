/* What of a prompt a server may see, and its answer with what it did not see. */
#include "workers/inference/privacy.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "workers/inference/settings.h"

static const char outside[] = "https://models.example.com/v1",
                  inside[] = "http://127.0.0.1:8080/v1";

static void protect(const char *whom)
{
    static char word[16];

    snprintf(word, sizeof(word), "%s", whom);
    inference_settings.pii_protection = word;
}

static json_t *ask(struct privacy **p, const char *url, json_t *messages, json_t *names)
{
    struct err e;
    json_t *seen = privacy_messages(p, messages, names, url, &e);

    CU_ASSERT_PTR_NOT_NULL_FATAL(seen);
    json_decref(messages);
    json_decref(names);
    return seen;
}

static json_t *talk(const char *system, const char *question)
{
    return json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content", system, "role",
                     "user", "content", question);
}

static const char *content_of(const json_t *messages, size_t i)
{
    return json_string_value(json_object_get(json_array_get(messages, i), "content"));
}

static void test_who_is_outside(void)
{
    static const char *const external[] = {"https://openrouter.ai/api/v1",
                                           "http://8.8.8.8/",
                                           "http://172.32.0.1",
                                           "http://[2001:db8::1]:80/v1",
                                           "http://localhost.example.com",
                                           "http://127.0.0.1@example.com/v1",
                                           "http://llama:8080",
                                           "http://192.169.0.1",
                                           "http://[::ffff:8.8.8.8]/",
                                           "http://127.0.0.1.example.com/"};
    static const char *const internal[] = {
        "http://127.0.0.1:8080/v1",  "http://LocalHost/v1", "http://10.1.2.3",
        "http://172.16.0.1:1",       "http://192.168.1.1/", "http://169.254.1.1",
        "http://[::1]:8080/v1",      "http://[fd00::1]",    "http://u:p@127.9.9.9/",
        "http://[::ffff:10.0.0.1]/", "http://[fe80::1]"};
    size_t i;

    for (i = 0; i < COUNT(external); i++)
        CU_ASSERT(privacy_is_external(external[i]));
    for (i = 0; i < COUNT(internal); i++)
        CU_ASSERT(!privacy_is_external(internal[i]));
}

static void sees_all(const char *whom, const char *url)
{
    json_t *messages = talk("s", "a@x.id"), *seen;
    struct privacy *p = NULL;

    protect(whom);
    json_incref(messages);
    seen = ask(&p, url, messages, NULL);
    CU_ASSERT_PTR_EQUAL(seen, messages);
    CU_ASSERT_PTR_NULL(p);
    json_decref(seen);
    json_decref(messages);
}

static void test_who_sees_all(void)
{
    sees_all("off", outside);
    sees_all("off", inside);
    sees_all("external", inside);
}

static void test_messages(void)
{
    json_t *names = json_pack("[s, s, n]", "Siti Rahayu", ""), *seen;
    json_t *messages = talk("Siti's data", "I am siti, a@x.id; write to a@x.id");
    struct privacy *p = NULL;

    protect("external");
    json_incref(messages);
    seen = ask(&p, outside, messages, names);
    CU_ASSERT_EQUAL(json_array_size(seen), 2);
    CU_ASSERT_EQUAL(strncmp(content_of(seen, 0), "[NAME_1]'s data\n\nWords in square", 31), 0);
    CU_ASSERT_STRING_EQUAL(content_of(seen, 1), "I am [NAME_2], [EMAIL_1]; write to [EMAIL_1]");
    CU_ASSERT_STRING_EQUAL(content_of(messages, 0), "Siti's data"); /* the prompt stays */
    json_decref(seen);
    seen = ask(&p, outside, talk("s", "nothing"), NULL); /* asked again: the old map is gone */
    CU_ASSERT_STRING_EQUAL(content_of(seen, 0), "s");
    json_decref(seen);
    privacy_free(p);
    json_decref(messages);
}

static void test_parts_and_no_system_message(void)
{
    json_t *messages = json_pack("[{s:s, s:[{s:s, s:s}, {s:s, s:{s:s}}]}]", "role", "user",
                                 "content", "type", "text", "text", "+6281234567890", "type",
                                 "image_url", "image_url", "url", "http://x/y");
    json_t *seen, *parts;
    struct privacy *p = NULL;

    protect("all");
    seen = ask(&p, inside, messages, NULL);
    CU_ASSERT_EQUAL(json_array_size(seen), 2);
    CU_ASSERT_EQUAL(strncmp(content_of(seen, 0), "Words in square", 15), 0);
    parts = json_object_get(json_array_get(seen, 1), "content");
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(json_array_get(parts, 0), "text")),
                           "[PHONE_1]");
    CU_ASSERT_EQUAL(json_array_size(parts), 2);
    json_decref(seen);
    privacy_free(p);
}

static void gives(struct privacy *p, const char *piece, const char *want)
{
    const struct buf *got = privacy_restore(p, piece, strlen(piece), 100);

    CU_ASSERT_PTR_NOT_NULL_FATAL(got);
    CU_ASSERT_EQUAL(got->len, strlen(want));
    CU_ASSERT_EQUAL(memcmp(got->data ? got->data : "", want, strlen(want)), 0);
}

static void test_answer(void)
{
    struct privacy *p = NULL;
    const struct buf *rest;

    protect("external");
    json_decref(ask(&p, outside, talk("s", "a@x.id"), NULL));
    gives(p, "[EM", "");
    gives(p, "AIL_1]! [", "a@x.id! ");
    gives(p, "EMA", "");
    rest = privacy_rest(p);
    CU_ASSERT_EQUAL(rest->len, 4);
    CU_ASSERT_EQUAL(memcmp(rest->data, "[EMA", 4), 0);
    CU_ASSERT_EQUAL(privacy_rest(p)->len, 0);
    CU_ASSERT_PTR_NULL(privacy_restore(p, "[EMAIL_1]", 9, 5));
    privacy_free(p);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"who is outside", test_who_is_outside},
        {"who sees all", test_who_sees_all},
        {"messages with placeholders", test_messages},
        {"parts, and no system message", test_parts_and_no_system_message},
        {"an answer in pieces", test_answer},
        CU_TEST_INFO_NULL,
    };

    return unit_main("privacy", tests);
}
