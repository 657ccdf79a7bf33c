/* Placeholders for personal data: what becomes of texts, and that nothing is lost on the way back,
 * however the text is cut. */
#include "workers/inference/pseudonym.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/unit/unit.h"

enum { MAX = 1 << 24 };

/* In memory of exactly its size, so that a sanitizer sees each byte too many. */
static char *exactly(const char *text, size_t n)
{
    char *copy = malloc(n ? n : 1);

    memcpy(copy, text, n);
    return copy;
}

static struct buf hidden(struct pseudonym *p, const char *text, size_t n)
{
    char *copy = exactly(text, n);
    struct buf out;

    buf_init(&out, MAX);
    buf_add(&out, "", 0);
    CU_ASSERT_EQUAL(pseudonym_hide(p, copy, n, &out), 0);
    free(copy);
    return out;
}

static void check_text(const struct buf *got, const char *want, size_t n)
{
    if (got->len != n || memcmp(got->data, want, n) != 0)
        fprintf(stderr, "want: %.*s\n got: %.*s\n", (int)n, want, (int)got->len, got->data);
    CU_ASSERT_EQUAL(got->len, n);
    CU_ASSERT_EQUAL(memcmp(got->data, want, n), 0);
}

/* In pieces: all cuts in two, and steady ones. */
static void check_pieces(const struct pseudonym *p, const struct buf *text, const char *want,
                         size_t n)
{
    size_t cut, size, at;
    struct buf out;

    buf_init(&out, MAX);
    for (cut = 0; cut <= text->len; cut++) {
        struct pseudonym_stream s = {.n = 0};
        char *a = exactly(text->data, cut), *b = exactly(text->data + cut, text->len - cut);

        buf_clear(&out);
        CU_ASSERT_EQUAL(pseudonym_feed(p, &s, a, cut, &out), 0);
        CU_ASSERT_EQUAL(pseudonym_feed(p, &s, b, text->len - cut, &out), 0);
        CU_ASSERT_EQUAL(pseudonym_flush(&s, &out), 0);
        check_text(&out, want, n);
        free(a);
        free(b);
    }
    for (size = 1; size <= 5; size++) {
        struct pseudonym_stream s = {.n = 0};

        buf_clear(&out);
        for (at = 0; at < text->len; at += size)
            pseudonym_feed(p, &s, text->data + at, text->len - at < size ? text->len - at : size,
                           &out);
        pseudonym_flush(&s, &out);
        check_text(&out, want, n);
    }
    buf_free(&out);
}

static void becomes_named(const char *const *names, const char *text, const char *want)
{
    struct pii_names list = {.count = 0};
    struct pseudonym *p;
    struct buf out, back;

    for (; names && *names; names++)
        pii_names_add(&list, *names, strlen(*names));
    p = pseudonym_new(&list);
    out = hidden(p, text, strlen(text));
    check_text(&out, want, strlen(want));
    buf_init(&back, MAX);
    CU_ASSERT_EQUAL(pseudonym_restore(p, out.data, out.len, &back), 0);
    check_text(&back, text, strlen(text));
    check_pieces(p, &out, text, strlen(text));
    buf_free(&back);
    buf_free(&out);
    pseudonym_free(p);
}

static void becomes(const char *text, const char *want)
{
    becomes_named(NULL, text, want);
}

static void stays(const char *text)
{
    becomes(text, text);
}

/* ---- kinds ---- */

static void test_emails(void)
{
    becomes("Write to ada@example.org, or b.c+d@mail.example.co.id.",
            "Write to [EMAIL_1], or [EMAIL_2].");
    becomes("<mailto:x_y@a-b.museum>", "<mailto:[EMAIL_1]>");
    becomes("\"email\":\"ada@example.org\"", "\"email\":\"[EMAIL_1]\"");
    becomes("“ada@example.org”", "“[EMAIL_1]”");
    stays("user@localhost a@b a@b.1 @example.org a@.org x@a..b");
}

static void test_phones(void)
{
    becomes("HP: 0812-3456-7890 atau +62 811 2345 678", "HP: [PHONE_1] atau [PHONE_2]");
    becomes("6281234567890", "[PHONE_1]");
    becomes("📞081234567890", "📞[PHONE_1]");
    becomes("(021) 555 1234; +1 (415) 555-2671; 0044 20 7946 0958",
            "[PHONE_1]; [PHONE_2]; [PHONE_3]");
    becomes("call 415-555-2671!", "call [PHONE_1]!");
    becomes("https://wa.me/6281234567890", "https://wa.me/[PHONE_1]");
    becomes("telp 5551 2345", "telp [PHONE_1]");
    stays("5551 2345");
    stays("Rp 081234567890, $081234567890, 2024-0812345678, 0.081234567890");
    stays("+10 000 000");
}

static void test_numbers_of_identity(void)
{
    becomes("NIK 3174012304950001.", "NIK [NIK_1].");
    becomes("3174016304950001", "[NIK_1]"); /* a woman's day is 40 more */
    becomes("31.74.01.230495.0001", "[NIK_1]");
    becomes("KTP: 9974013304950001", "KTP: [NIK_1]"); /* none, but said to be one */
    stays("9974012304950001");                        /* no such province */
    stays("3174013204950001");                        /* no such day */
    becomes("NPWP 09.254.294.3-407.000", "NPWP [NPWP_1]");
    becomes("npwp: 123456789012345", "npwp: [NPWP_1]");
    becomes("0092542943407000", "[NPWP_1]");
    stays("123456789012345");
}

static void test_money(void)
{
    becomes("4111 1111 1111 1111", "[CARD_1]");
    becomes("4111-1111-1111-1111", "[CARD_1]");
    becomes("378282246310005 5555555555554444", "[CARD_1] [CARD_2]");
    stays("4111 1111 1111 1112");
    stays("1234567812345670");
    becomes("DE89 3704 0044 0532 0130 00", "[IBAN_1]");
    becomes("gb29nwbk60161331926819.", "[IBAN_1].");
    stays("DE89370400440532013001");
    stays("XX89370400440532013000");
}

static void test_addresses(void)
{
    becomes("from 203.0.113.7:8080", "from [IP_1]:8080");
    becomes("from 2001:db8::8a2e:370:7334.", "from [IP_1].");
    becomes("fe80::1, ::ffff:192.0.2.1", "[IP_1], [IP_2]");
    stays("version 1.2.3.4, v1.2.3.4, 1.2.3, 256.1.1.1, 1.2.3.4.5, 12:30:45, std::string, a::b");
    becomes("https://ada:secret@example.org/x?y=1.", "[URL_1].");
    becomes("(see http://h/p?a=1&token=abc)", "(see [URL_1])");
    stays("https://example.org/a?b=c, ftp://x/");
}

static void test_dates_of_birth(void)
{
    becomes("I was born on 2 April 1999 in Bandung.", "I was born on [BIRTHDATE_1] in Bandung.");
    becomes("Tanggal lahir: 02/04/1999", "Tanggal lahir: [BIRTHDATE_1]");
    becomes("TTL: Bandung, 2 Apr. 1999", "TTL: Bandung, [BIRTHDATE_1]");
    becomes("April 2nd, 1999 is my birthday", "[BIRTHDATE_1] is my birthday");
    becomes("{\"dateOfBirth\":\"1999-04-02T00:00:00Z\",\"created\":\"2024-01-01\"}",
            "{\"dateOfBirth\":\"[BIRTHDATE_1]T00:00:00Z\",\"created\":\"2024-01-01\"}");
    becomes("DOB 19990402", "DOB [BIRTHDATE_1]");
    stays("I was born in Bandung. The exam is on 2024-05-02.");
    stays("airborne on 2024-05-02");
    stays("2 April 1999");
}

static void test_names(void)
{
    const char *const names[] = {"Siti Rahayu binti Ahmad", "José", "李小龍", "Al", NULL};

    becomes_named(names, "Siti Rahayu binti Ahmad; SITI's, rahayu.",
                  "[NAME_1]; [NAME_2]'s, [NAME_3].");
    becomes_named(names, "Sitinjak, binti, al, Alif", "Sitinjak, binti, al, Alif");
    becomes_named(names, "JOSÉ, Al: 我是李小龍。", "[NAME_1], [NAME_2]: 我是[NAME_3]。");
}

/* ---- placeholders ---- */

static void test_the_same_value_has_the_same_placeholder(void)
{
    struct pseudonym *p = pseudonym_new(NULL);
    struct buf a = hidden(p, "a@x.id b@x.id", 13), b = hidden(p, "b@x.id c@x.id", 13);

    check_text(&a, "[EMAIL_1] [EMAIL_2]", 19);
    check_text(&b, "[EMAIL_2] [EMAIL_3]", 19);
    CU_ASSERT_EQUAL(pseudonym_count(p, PII_EMAIL), 4);
    CU_ASSERT_EQUAL(pseudonym_count(p, PII_PHONE), 0);
    buf_free(&a);
    buf_free(&b);
    pseudonym_free(p);
}

static void test_what_looks_like_a_placeholder(void)
{
    becomes("[EMAIL_1] a@x.id", "[TEXT_1] [EMAIL_1]");
    becomes("[[IP_9]] [TEXT_1] [EMAIL_01] [EMAIL_1234567] [email_1] [EMAIL_",
            "[[TEXT_1]] [TEXT_2] [EMAIL_01] [EMAIL_1234567] [email_1] [EMAIL_");
    becomes("[EMAIL_a@x.id] [EMAIL_+6281234567890]", "[[EMAIL_1]] [EMAIL_[PHONE_1]]");
}

static void test_restores_what_a_model_writes(void)
{
    static const char written[] = "**[EMAIL_1]**, [EMAIL_2] [PHONE_1] [NPWP_1 [[EMAIL_1] [EMAIL",
                      want[] = "**a@x.id**, [EMAIL_2] [PHONE_1] [NPWP_1 [a@x.id [EMAIL";
    struct pseudonym *p = pseudonym_new(NULL);
    struct buf out = hidden(p, "a@x.id", 6);

    buf_clear(&out);
    buf_puts(&out, written);
    check_pieces(p, &out, want, strlen(want));
    buf_free(&out);
    pseudonym_free(p);
}

/* Only what can become a placeholder is held back. */
static void test_holds_back_no_more_than_it_must(void)
{
    static const char text[] = "See [Nice](x) and [NAME";
    struct pseudonym *p = pseudonym_new(NULL);
    struct pseudonym_stream s = {.n = 0};
    struct buf out;
    size_t i;

    buf_init(&out, MAX);
    for (i = 0; i < strlen(text); i++) {
        pseudonym_feed(p, &s, text + i, 1, &out);
        CU_ASSERT_EQUAL(out.len + s.n, i + 1);
        CU_ASSERT_EQUAL(s.n, i == 4 || i == 18 ? 1 : i == 5 || i == 19 ? 2 : i > 19 ? i - 17 : 0);
    }
    buf_free(&out);
    pseudonym_free(p);
}

static void test_bounds(void)
{
    struct pseudonym *p = pseudonym_new(NULL);
    struct buf out;

    buf_init(&out, 12);
    CU_ASSERT_EQUAL(pseudonym_hide(p, "to a@x.id", 9, &out), 0);
    CU_ASSERT_EQUAL(pseudonym_hide(p, "a@x.id", 6, &out), -1);
    buf_clear(&out);
    CU_ASSERT_EQUAL(pseudonym_restore(p, "[EMAIL_1] [EMAIL_1]", 19, &out), -1);
    buf_free(&out);
    pseudonym_free(p);
}

/* ---- hostile texts ---- */

/* What would be slow if anything looked at all of the text for each of its bytes. */
static void repeats(const char *unit)
{
    size_t n = strlen(unit), times = (1 << 16) / n, i;
    char *text = malloc(n * times);
    struct pseudonym *p = pseudonym_new(NULL);
    struct buf out, back;

    for (i = 0; i < times; i++)
        memcpy(text + i * n, unit, n);
    buf_init(&out, n * times * PSEUDONYM_EXPANSION);
    buf_init(&back, n * times);
    CU_ASSERT_EQUAL(pseudonym_hide(p, text, n * times, &out), 0);
    CU_ASSERT_EQUAL(pseudonym_restore(p, out.data, out.len, &back), 0);
    CU_ASSERT_EQUAL(back.len, n * times);
    CU_ASSERT_EQUAL(memcmp(back.data, text, back.len), 0);
    buf_free(&back);
    buf_free(&out);
    free(text);
    pseudonym_free(p);
}

static void test_hostile_texts(void)
{
    static const char *const units[] = {
        "a",
        "a.",
        "a@",
        "1",
        "1-",
        "1 ",
        "+1(",
        "a://",
        "a://a?",
        "a://?key=&",
        "[",
        "[EMAIL_",
        "[EMAIL_1]",
        "::",
        "1:",
        "1.1.1.1 ",
        "DE89 ",
        "born 1/1/1999 ",
        "0812345678901",
        "\xc3",
        "\x80",
        "a@b.",
        "lahir ",
        "00",
    };
    size_t i;

    for (i = 0; i < COUNT(units); i++)
        repeats(units[i]);
}

/* Texts made of what matters, at random: a fixed seed, so that a failure comes again. */
static void test_random_texts(void)
{
    static const char *const parts[] = {"[",          "]",
                                        "_",          "1",
                                        "0",          "[EMAIL_1]",
                                        "[TEXT_",     "a@x.id",
                                        " ",          "EMAIL",
                                        "NAME",       "Siti",
                                        "+62",        "0812345678",
                                        "-",          "::",
                                        "10.0.0.1",   "http://u:p@h/",
                                        "\xc3\xa9",   "\xe2\x80\x9c",
                                        "\xff",       "born ",
                                        "1999-04-02", "4111111111111111"};
    struct pii_names names = {.count = 0};
    unsigned seed = 7;
    int round;

    pii_names_add(&names, "Siti NAME", 9);
    for (round = 0; round < 3000; round++) {
        struct pseudonym *p = pseudonym_new(&names);
        struct buf text, out, back;
        int i;

        buf_init(&text, MAX);
        for (i = 0; i < 12; i++)
            buf_puts(&text, parts[(size_t)rand_r(&seed) % COUNT(parts)]);
        out = hidden(p, text.data, text.len);
        buf_init(&back, MAX);
        pseudonym_restore(p, out.data, out.len, &back);
        check_text(&back, text.data, text.len);
        if (round < 100)
            check_pieces(p, &out, text.data, text.len);
        buf_free(&text);
        buf_free(&out);
        buf_free(&back);
        pseudonym_free(p);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"finds e-mail addresses", test_emails},
        {"finds telephone numbers", test_phones},
        {"finds NIK and NPWP", test_numbers_of_identity},
        {"finds cards and accounts", test_money},
        {"finds IP addresses and URLs that open something", test_addresses},
        {"finds dates of birth and no other dates", test_dates_of_birth},
        {"finds the names it was given", test_names},
        {"the same value has the same placeholder", test_the_same_value_has_the_same_placeholder},
        {"what looks like a placeholder becomes one", test_what_looks_like_a_placeholder},
        {"restores what a model writes, in pieces", test_restores_what_a_model_writes},
        {"holds back no more than it must", test_holds_back_no_more_than_it_must},
        {"a full buffer is an error", test_bounds},
        {"hostile texts", test_hostile_texts},
        {"random texts come back whole", test_random_texts},
        CU_TEST_INFO_NULL,
    };

    return unit_main("pseudonym", tests);
}
