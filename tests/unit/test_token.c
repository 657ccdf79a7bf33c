#include "common/io/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "tests/unit/unit.h"

/* The tokens here are made by hand, so that what checks them is not what made them. */

#define SECRET "a secret of more than 32 bytes, for tests"
#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define NOW    1750000000

static struct arena *arena;
static char secret[] = SECRET, nothing[] = "";

static struct token_rules rules(void)
{
    return (struct token_rules){.secret = secret, .issuer = nothing, .audience = nothing};
}

static const char *base64url(const void *data, size_t n)
{
    char *out = arena_alloc(arena, n * 4 / 3 + 5), *p;

    EVP_EncodeBlock((unsigned char *)out, data, (int)n);
    for (p = out; *p; p++)
        *p = (char)(*p == '+' ? '-' : *p == '/' ? '_' : *p);
    out[strcspn(out, "=")] = '\0';
    return out;
}

/* The HMAC of the text by one of OpenSSL's digests, as a third part. */
static const char *signature(const EVP_MD *digest, const char *key, const char *text)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned n;

    HMAC(digest, key, (int)strlen(key), (const unsigned char *)text, strlen(text), mac, &n);
    return base64url(mac, n);
}

/* Signed as it should be, whatever the header says. */
static const char *token_of(const char *header, const char *claims)
{
    const char *text = arena_printf(arena, "%s.%s", base64url(header, strlen(header)),
                                    base64url(claims, strlen(claims)));

    return arena_printf(arena, "%s.%s", text, signature(EVP_sha256(), SECRET, text));
}

/* "" when it is taken, else why not. */
static const char *verify_by(const struct token_rules *by, const char *token,
                             struct token_claims *out)
{
    struct token_claims own;
    struct err e = {0};

    if (token_verify(by, token, NOW, arena, out ? out : &own, &e) == 0)
        return "";
    CU_ASSERT_EQUAL(e.kind, ERR_REJECT);
    CU_ASSERT_EQUAL(e.status, 401);
    CU_ASSERT_NOT_EQUAL(strlen(e.text), 0);
    if (strlen(token) > 20)
        CU_ASSERT_PTR_NULL(strstr(e.text, token)); /* logs must not hold it */
    return arena_strdup(arena, e.text);
}

static const char *verify(const char *token)
{
    const struct token_rules any = rules();

    return verify_by(&any, token, NULL);
}

static bool says(const char *text, const char *what)
{
    bool as_wanted = strstr(text, what);

    if (!as_wanted)
        fprintf(stderr, "\n\"%s\" (wanted: %s)", text, what);
    return as_wanted;
}

#define REFUSED(token, why) CU_ASSERT_TRUE(says(verify(token), why))
#define TAKEN(token)        CU_ASSERT_STRING_EQUAL(verify(token), "")

/* Claims with these members beside the subject. */
static const char *claims_with(const char *members)
{
    return arena_printf(arena, "{\"sub\":\"alice\"%s%s}", *members ? "," : "", members);
}

static const char *with(const char *members)
{
    return token_of(HEADER, claims_with(members));
}

static void a_good_token(void)
{
    static const char example[] =
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
        "cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const struct token_rules any = rules();
    struct token_claims c;
    const char *token =
        with("\"tenant_id\":\"acme\",\"roles\":[\"admin\"],\"scope\":\"a b\","
             "\"tier\":\"premium\",\"exp\":1750000100,\"nbf\":1749999900,\"iat\":1749999900");

    memset(&c, 0x5a, sizeof(c));
    CU_ASSERT_STRING_EQUAL(verify_by(&any, token, &c), "");
    CU_ASSERT_STRING_EQUAL(c.subject, "alice");
    CU_ASSERT_STRING_EQUAL(c.tenant, "acme");
    CU_ASSERT_STRING_EQUAL(c.roles, "admin");
    CU_ASSERT_STRING_EQUAL(c.scope, "a b");
    CU_ASSERT_STRING_EQUAL(c.tier, "premium");
    CU_ASSERT_EQUAL(c.expires, 1750000100);

    CU_ASSERT_STRING_EQUAL(verify_by(&any, with(""), &c), "");
    CU_ASSERT_STRING_EQUAL(c.subject, "alice");
    CU_ASSERT_PTR_NULL(c.tenant);
    CU_ASSERT_STRING_EQUAL(c.roles, "");
    CU_ASSERT_STRING_EQUAL(c.scope, "");
    CU_ASSERT_PTR_NULL(c.tier);
    CU_ASSERT_EQUAL(c.expires, INT64_MAX);

    TAKEN(token_of("{\"alg\":\"HS256\"}", "{\"sub\":\"alice\"}")); /* typ may be left out */
    REFUSED(example, "signature"); /* RFC 7515, A.1: good, but by another key */
}

static void algorithms(void)
{
    static const char *const others[] = {"RS256", "HS384",  "HS512", "ES256", "PS256",
                                         "hs256", "HS256 ", "None",  "",      "nonsense"};
    const char *text, *claims = claims_with("");
    size_t i;

    text = arena_printf(arena, "%s.%s", base64url("{\"alg\":\"none\"}", 14),
                        base64url(claims, strlen(claims)));
    REFUSED(arena_printf(arena, "%s.", text), "algorithm");
    REFUSED(arena_printf(arena, "%s.%s", text, signature(EVP_sha256(), SECRET, text)), "algorithm");
    for (i = 0; i < COUNT(others); i++)
        REFUSED(token_of(arena_printf(arena, "{\"alg\":\"%s\"}", others[i]), claims), "algorithm");
    REFUSED(token_of("{\"typ\":\"JWT\"}", claims), "algorithm");
    REFUSED(token_of("{\"alg\":256}", claims), "algorithm");
    REFUSED(token_of("{\"alg\":[\"HS256\"]}", claims), "algorithm");

    /* Rightly signed by what its header says, which is not for the sender to choose. */
    text = arena_printf(arena, "%s.%s", base64url("{\"alg\":\"HS512\"}", 15),
                        base64url(claims, strlen(claims)));
    REFUSED(arena_printf(arena, "%s.%s", text, signature(EVP_sha512(), SECRET, text)), "algorithm");
}

static void signatures(void)
{
    const char *good = with(""), *last = strrchr(good, '.');
    const char *text = arena_strndup(arena, good, (size_t)(last - good));
    const char *mac = last + 1, *claims = base64url("{\"sub\":\"mallory\"}", 17);
    char *changed;
    size_t i;

    TAKEN(good);
    REFUSED(arena_printf(arena, "%s.%s", text, signature(EVP_sha256(), "another", text)),
            "signature");
    REFUSED(arena_printf(arena, "%s.%s", text, signature(EVP_sha256(), "", text)), "signature");
    REFUSED(arena_printf(arena, "%s.%s", text, signature(EVP_sha512(), SECRET, text)), "signature");
    REFUSED(arena_printf(arena, "%s.", text), "signature");
    REFUSED(arena_printf(arena, "%s.%.20s", text, mac), "signature");
    REFUSED(arena_printf(arena, "%s.%sAA", text, mac), "signature");
    REFUSED(arena_printf(arena, "%s.x", good), "signature");
    REFUSED(arena_printf(arena, "%.*s.%s.%s", (int)strcspn(good, "."), good, claims, mac),
            "signature");
    for (i = 0; i < 42; i++) { /* of the 43rd character two bits are not used */
        changed = arena_strdup(arena, good);
        changed[strlen(text) + 1 + i] = mac[i] == 'A' ? 'B' : 'A';
        REFUSED(changed, "signature");
    }
}

static void headers(void)
{
    const char *claims = claims_with("");

    REFUSED(token_of("{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", claims), "crit");
    REFUSED(token_of("{\"alg\":\"HS256\",\"crit\":[]}", claims), "crit");
    REFUSED(token_of("{\"alg\":\"HS256\",\"crit\":null}", claims), "crit");
    REFUSED(token_of("{\"alg\":\"HS256\",\"typ\":\"JWE\"}", claims), "type");
    REFUSED(token_of("{\"alg\":\"HS256\",\"typ\":\"\"}", claims), "type");
    TAKEN(token_of("{\"alg\":\"HS256\",\"typ\":\"jwt\"}", claims));
    TAKEN(token_of("{\"typ\":\"JWT\",\"alg\":\"HS256\",\"kid\":\"1\"}", claims));
    REFUSED(token_of("{\"alg\":\"HS256\",\"alg\":\"HS256\"}", claims), "header");
    REFUSED(token_of("{\"alg\":\"none\",\"alg\":\"HS256\"}", claims), "header");
    REFUSED(token_of("{\"alg\":\"HS256\",\"\\u0061lg\":\"none\"}", claims), "header");
    REFUSED(token_of("HS256", claims), "header");
    REFUSED(token_of("[\"HS256\"]", claims), "header");
    REFUSED(token_of("{\"alg\":\"HS256\"", claims), "header");
    REFUSED(token_of("", claims), "header");
}

/* The two characters in which base64url is not base64, and a length that neither can have. */
static void encoding(void)
{
    const char *header = base64url("{\"alg\":\"HS256\",\"kid\":\"a?bc>de\"}", 31), *text;

    CU_ASSERT_PTR_NOT_NULL(strchr(header, '_'));
    CU_ASSERT_PTR_NOT_NULL(strchr(header, '-'));
    TAKEN(token_of("{\"alg\":\"HS256\",\"kid\":\"a?bc>de\"}", claims_with("")));
    header = base64url("{\"alg\":\"HS256\"}", 15);
    CU_ASSERT_EQUAL_FATAL(strlen(header) % 4, 0);
    text = arena_printf(arena, "%sA.%s", header, base64url("{\"sub\":\"alice\"}", 15));
    REFUSED(arena_printf(arena, "%s.%s", text, signature(EVP_sha256(), SECRET, text)), "header");
}

static void what_is_no_token(void)
{
    const char *good = with(""), *claims = strchr(good, '.');
    const char *header = arena_strndup(arena, good, (size_t)(claims - good));

    REFUSED("", "not a JWT");
    REFUSED("x", "not a JWT");
    REFUSED(header, "not a JWT");
    REFUSED(arena_strndup(arena, good, strlen(good) - strlen(strrchr(good, '.'))), "not a JWT");
    REFUSED("..", "header");
    REFUSED(claims, "header");
    REFUSED(arena_printf(arena, "%s\xff%s", header, claims), "header");
    REFUSED(arena_printf(arena, "!!!!%s", claims), "header");
    REFUSED(arena_printf(arena, "A%s", claims), "header");
    REFUSED(arena_printf(arena, "    %s", claims), "header");
    REFUSED(arena_printf(arena, "==%s", claims), "header");
    REFUSED(arena_printf(arena, "%s..%s", header, strrchr(good, '.') + 1), "signature");
    REFUSED(token_of(HEADER, "no JSON"), "signature"); /* libjwt's word for it */
    REFUSED(token_of(HEADER, "[\"sub\"]"), "the token");
    REFUSED(token_of(HEADER, "\"sub\""), "the token");
    REFUSED(token_of(HEADER, "{\"sub\":\"al\\u0000ice\"}"), "the token");
    REFUSED(token_of(HEADER, "{\"sub\":\"\xff\"}"), "the token");
}

/* With a claim of n bytes. */
static const char *filled(size_t n)
{
    char *fill = arena_alloc(arena, n + 1);

    memset(fill, 'x', n);
    return with(arena_printf(arena, "\"x\":\"%s\"", fill));
}

static void length(void)
{
    const char *last = NULL, *token;
    size_t n;

    for (n = 6000; (token = filled(n)) && strlen(token) <= TOKEN_MAX_BYTES; n++)
        last = token;
    CU_ASSERT_PTR_NOT_NULL_FATAL(last);
    CU_ASSERT(strlen(last) >= TOKEN_MAX_BYTES - 1);
    TAKEN(last);
    CU_ASSERT(strlen(token) <= TOKEN_MAX_BYTES + 2);
    REFUSED(token, "too long");
}

/* ---- times ---- */

static const char *at(const char *claim, long seconds)
{
    return with(arena_printf(arena, "\"%s\":%ld", claim, seconds));
}

static void times_have_a_leeway(void)
{
    CU_ASSERT_EQUAL(TOKEN_LEEWAY_S, 30);
    TAKEN(at("exp", NOW + 1));
    TAKEN(at("exp", NOW));
    TAKEN(at("exp", NOW - 29));
    REFUSED(at("exp", NOW - 30), "expired");
    REFUSED(at("exp", NOW - 31), "expired");
    REFUSED(at("exp", 0), "expired");
    TAKEN(at("nbf", NOW - 1));
    TAKEN(at("nbf", NOW + 30));
    REFUSED(at("nbf", NOW + 31), "not valid yet");
    TAKEN(at("iat", 0));
    TAKEN(at("iat", NOW + 30));
    REFUSED(at("iat", NOW + 31), "future");
    TAKEN(with("\"exp\":1750000000.5")); /* fractions are allowed (NumericDate) */
    TAKEN(with("\"exp\":1.75e9"));
}

static void times_are_numbers(void)
{
    static const char *const names[] = {"exp", "nbf", "iat"};
    static const char *const values[] = {
        "\"1750000100\"", "null", "true", "[]", "{}", "-1", "1e13", "9223372036854775807"};
    size_t i, k;

    for (i = 0; i < COUNT(names); i++)
        for (k = 0; k < COUNT(values); k++)
            REFUSED(with(arena_printf(arena, "\"%s\":%s", names[i], values[k])),
                    arena_printf(arena, "%s is not a time", names[i]));
}

static void an_expiry_can_be_demanded(void)
{
    struct token_rules strict = rules();

    strict.need_expiry = true;
    CU_ASSERT_TRUE(says(verify_by(&strict, with(""), NULL), "no expiry"));
    CU_ASSERT_STRING_EQUAL(verify_by(&strict, at("exp", NOW), NULL), "");
}

/* ---- parties ---- */

static void issuer(void)
{
    static char ours[] = "https://id.example.com";
    struct token_rules r = rules();

    TAKEN(with("\"iss\":\"anybody\""));
    r.issuer = ours;
    CU_ASSERT_STRING_EQUAL(verify_by(&r, with("\"iss\":\"https://id.example.com\""), NULL), "");
    CU_ASSERT_TRUE(says(verify_by(&r, with(""), NULL), "issuer"));
    CU_ASSERT_TRUE(
        says(verify_by(&r, with("\"iss\":\"https://id.example.com/\""), NULL), "issuer"));
    CU_ASSERT_TRUE(says(verify_by(&r, with("\"iss\":\"\""), NULL), "issuer"));
    CU_ASSERT_TRUE(
        says(verify_by(&r, with("\"iss\":[\"https://id.example.com\"]"), NULL), "issuer"));
    CU_ASSERT_TRUE(says(verify_by(&r, with("\"iss\":1"), NULL), "issuer"));
}

static void audience(void)
{
    static const char *const good[] = {"\"aud\":\"chat\"", "\"aud\":[\"chat\"]",
                                       "\"aud\":[\"web\",1,\"chat\"]"};
    static const char *const bad[] = {"",
                                      "\"aud\":\"web\"",
                                      "\"aud\":\"chatter\"",
                                      "\"aud\":\"web chat\"",
                                      "\"aud\":\"\"",
                                      "\"aud\":[]",
                                      "\"aud\":[\"web\",\"Chat\"]",
                                      "\"aud\":[[\"chat\"]]",
                                      "\"aud\":{\"chat\":\"chat\"}",
                                      "\"aud\":null"};
    static char ours[] = "chat";
    struct token_rules r = rules();
    size_t i;

    TAKEN(with("\"aud\":\"anybody\""));
    r.audience = ours;
    for (i = 0; i < COUNT(good); i++)
        CU_ASSERT_STRING_EQUAL(verify_by(&r, with(good[i]), NULL), "");
    for (i = 0; i < COUNT(bad); i++)
        CU_ASSERT_TRUE(says(verify_by(&r, with(bad[i]), NULL), "audience"));
}

/* ---- who it is ---- */

static const char *subject_of(const char *claims)
{
    const struct token_rules any = rules();
    struct token_claims c;
    const char *why = verify_by(&any, token_of(HEADER, claims), &c);

    return *why ? why : c.subject;
}

static const char *tenant_of(const char *members)
{
    const struct token_rules any = rules();
    struct token_claims c;

    CU_ASSERT_STRING_EQUAL_FATAL(verify_by(&any, with(members), &c), "");
    return c.tenant ? c.tenant : "(none)";
}

static void subjects_and_tenants(void)
{
    static const char none[] = "the token names no subject (sub)";

    CU_ASSERT_STRING_EQUAL(subject_of("{\"sub\":\"alice\",\"id\":\"bob\"}"), "alice");
    CU_ASSERT_STRING_EQUAL(subject_of("{\"sub\":42}"), "42");
    CU_ASSERT_STRING_EQUAL(subject_of("{\"sub\":-9223372036854775808}"), "-9223372036854775808");
    CU_ASSERT_STRING_EQUAL(subject_of("{\"user_id\":7}"), "7");
    CU_ASSERT_STRING_EQUAL(subject_of("{\"userId\":\"carol\",\"id\":\"bob\"}"), "carol");
    CU_ASSERT_STRING_EQUAL(subject_of("{\"id\":\"bob\"}"), "bob");
    CU_ASSERT_STRING_EQUAL(subject_of("{\"sub\":\"\",\"id\":\"bob\"}"), "bob");
    CU_ASSERT_STRING_EQUAL(subject_of("{}"), none);
    CU_ASSERT_STRING_EQUAL(subject_of("{\"sub\":\"\"}"), none);
    CU_ASSERT_STRING_EQUAL(subject_of("{\"sub\":null}"), none);
    CU_ASSERT_STRING_EQUAL(subject_of("{\"sub\":true}"), none);
    CU_ASSERT_STRING_EQUAL(subject_of("{\"sub\":1.5}"), none);
    CU_ASSERT_STRING_EQUAL(subject_of("{\"sub\":[\"alice\"]}"), none);
    CU_ASSERT_STRING_EQUAL(subject_of("{\"Sub\":\"alice\"}"), none);

    CU_ASSERT_STRING_EQUAL(tenant_of("\"tenant_id\":\"a\",\"tenant\":\"c\""), "a");
    CU_ASSERT_STRING_EQUAL(tenant_of("\"tenantId\":\"b\",\"tenant\":\"c\""), "b");
    CU_ASSERT_STRING_EQUAL(tenant_of("\"tenant\":12"), "12");
    CU_ASSERT_STRING_EQUAL(tenant_of("\"tenant\":\"\""), "(none)");
    CU_ASSERT_STRING_EQUAL(tenant_of("\"tenant\":{}"), "(none)");
}

static const char *roles_of(const char *members)
{
    const struct token_rules any = rules();
    struct token_claims c;

    CU_ASSERT_STRING_EQUAL_FATAL(verify_by(&any, with(members), &c), "");
    return c.roles;
}

static void roles(void)
{
    const struct token_rules any = rules();
    char many[2400] = "\"roles\":[\"x\"";
    struct token_claims c;
    size_t i;

    CU_ASSERT_STRING_EQUAL(roles_of("\"role\":\"admin\""), "admin");
    CU_ASSERT_STRING_EQUAL(roles_of("\"roles\":\"a,b\""), "a,b");
    CU_ASSERT_STRING_EQUAL(roles_of("\"roles\":[\"a\",\"b\"]"), "a,b");
    CU_ASSERT_STRING_EQUAL(roles_of("\"realm_access\":{\"roles\":[\"a\",\"b\"]}"), "a,b");
    CU_ASSERT_STRING_EQUAL(
        roles_of("\"realm_access\":{\"roles\":[\"c\"]},\"roles\":[\"b\"],\"role\":\"a\""), "a,b,c");
    CU_ASSERT_STRING_EQUAL(roles_of("\"roles\":[]"), "");
    CU_ASSERT_STRING_EQUAL(roles_of("\"roles\":[1,null,\"a\",[\"b\"],{}]"), "a");
    CU_ASSERT_STRING_EQUAL(roles_of("\"roles\":{\"admin\":true}"), "");
    CU_ASSERT_STRING_EQUAL(roles_of("\"realm_access\":\"admin\""), "");
    CU_ASSERT_STRING_EQUAL(roles_of("\"realm_access\":[\"admin\"]"), "");
    /* One role with a comma in it must not become two. */
    CU_ASSERT_STRING_EQUAL(roles_of("\"roles\":[\"user,admin\",\"guest\"]"), "guest");

    /* More than there is room for: refused, rather than some of them lost. */
    for (i = 0; i < 200; i++)
        strcat(many, ",\"roleX\"");
    strcat(many, "]");
    CU_ASSERT_STRING_EQUAL(verify_by(&any, with(many), &c), "the token names too many roles");
}

/* ---- our own ---- */

static void issued_and_verified(void)
{
    static char iss[] = "us", aud[] = "chat";
    struct token_rules r = {.secret = secret, .issuer = iss, .audience = aud, .need_expiry = true};
    struct token_rules other = r;
    const struct token_claims in = {"alice",      "acme",    "admin,user",
                                    "read write", "premium", NOW + 60};
    const struct token_claims least = {"bob", NULL, "", "", NULL, INT64_MAX};
    struct token_claims out;
    struct err e;
    char *token = token_issue(&r, &in, NOW, &e);

    CU_ASSERT_PTR_NOT_NULL_FATAL(token);
    CU_ASSERT_STRING_EQUAL(verify_by(&r, token, &out), "");
    CU_ASSERT_STRING_EQUAL(out.subject, "alice");
    CU_ASSERT_STRING_EQUAL(out.tenant, "acme");
    CU_ASSERT_STRING_EQUAL(out.roles, "admin,user");
    CU_ASSERT_STRING_EQUAL(out.scope, "read write");
    CU_ASSERT_EQUAL(out.expires, NOW + 60);
    CU_ASSERT_EQUAL(token_verify(&r, token, NOW + 89, arena, &out, &e), 0);
    CU_ASSERT_EQUAL(token_verify(&r, token, NOW + 90, arena, &out, &e), -1);
    CU_ASSERT_EQUAL(token_verify(&r, token, NOW - 31, arena, &out, &e), -1); /* its iat */
    other.issuer = aud;
    CU_ASSERT_TRUE(says(verify_by(&other, token, NULL), "issuer"));
    free(token);

    r = rules();
    token = token_issue(&r, &least, NOW, &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(token);
    CU_ASSERT_STRING_EQUAL(verify_by(&r, token, &out), "");
    CU_ASSERT_STRING_EQUAL(out.subject, "bob");
    CU_ASSERT_PTR_NULL(out.tenant);
    CU_ASSERT_STRING_EQUAL(out.roles, "");
    CU_ASSERT_STRING_EQUAL(out.scope, "");
    CU_ASSERT_EQUAL(out.expires, INT64_MAX);
    free(token);
}

/* What cannot be said in JSON makes no token. */
static void not_issued(void)
{
    const struct token_claims in = {"\xff", NULL, "", "", NULL, INT64_MAX};
    const struct token_rules r = rules();
    struct err e = {0};

    CU_ASSERT_PTR_NULL(token_issue(&r, &in, NOW, &e));
    CU_ASSERT_EQUAL(e.kind, ERR_FATAL);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a good token", a_good_token},
        {"algorithms", algorithms},
        {"signatures", signatures},
        {"headers", headers},
        {"encoding", encoding},
        {"what is no token", what_is_no_token},
        {"length", length},
        {"times have a leeway", times_have_a_leeway},
        {"times are numbers", times_are_numbers},
        {"an expiry can be demanded", an_expiry_can_be_demanded},
        {"issuer", issuer},
        {"audience", audience},
        {"subjects and tenants", subjects_and_tenants},
        {"roles", roles},
        {"issued and verified", issued_and_verified},
        {"not issued", not_issued},
        CU_TEST_INFO_NULL,
    };
    int failed;

    arena = arena_new();
    failed = unit_main("token", tests);
    arena_free(arena);
    return failed;
}
