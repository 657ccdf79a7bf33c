#include "common/io/token.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>
#include <jwt.h>
#include <openssl/evp.h>

#include "common/base/buf.h"

enum { ROLES_MAX = 1024 };

const struct config_key token_keys[] = {
    {"JWT_SECRET", CONFIG_STRING, offsetof(struct token_rules, secret), NULL, TOKEN_SECRET_MIN,
     4096, NULL, "JWT_SECRET_KEY", true,
     "The HS256 secret that tokens are signed with: 16 bytes at least, 32 or more are advised."},
    {"JWT_ISSUER", CONFIG_STRING, offsetof(struct token_rules, issuer), "", 0, 1024, NULL, NULL,
     false, "The iss that a token must have. Empty: any."},
    {"JWT_AUDIENCE", CONFIG_STRING, offsetof(struct token_rules, audience), "", 0, 1024, NULL, NULL,
     false, "The aud that a token must have, alone or in a list. Empty: any."},
    {"JWT_REQUIRE_EXPIRY", CONFIG_BOOL, offsetof(struct token_rules, need_expiry), "false", 0, 0,
     NULL, NULL, false, "Whether a token without exp is refused."},
};
const size_t token_keys_count = sizeof(token_keys) / sizeof(token_keys[0]);

static int refuse(struct err *e, const char *why)
{
    return err_set(e, ERR_REJECT, 401, "%s", why);
}

/* The bytes of n base64url characters, ended by NUL, or NULL. The caller frees them. */
static char *decode_base64url(const char *s, size_t n)
{
    size_t padded = (n + 3) / 4 * 4, i;
    unsigned char *in = mem_alloc(padded + 1), *out = mem_alloc(padded + 1);
    int length = -1;

    memset(in, '=', padded);
    for (i = 0; i < n; i++)
        in[i] = (unsigned char)(s[i] == '-' ? '+' : s[i] == '_' ? '/' : s[i]);
    if (n % 4 != 1)
        length = EVP_DecodeBlock(out, in, (int)padded);
    free(in);
    if (length < 0) {
        free(out);
        return NULL;
    }
    out[(size_t)length - (padded - n)] = '\0';
    return (char *)out;
}

/* The header is read before any key is used: the algorithm is ours to choose, not the sender's. */
static int check_header(const char *token, struct err *e)
{
    const char *end = strchr(token, '.'), *algorithm, *type;
    char *text;
    json_t *header;
    int failed = 0;

    if (!end || !strchr(end + 1, '.'))
        return refuse(e, "the token is not a JWT");
    text = decode_base64url(token, (size_t)(end - token));
    header = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    free(text);
    if (!json_is_object(header)) {
        json_decref(header);
        return refuse(e, "the token's header cannot be read");
    }
    algorithm = json_string_value(json_object_get(header, "alg"));
    type = json_string_value(json_object_get(header, "typ"));
    if (!algorithm || strcmp(algorithm, "HS256") != 0)
        failed = refuse(e, "the token's algorithm is not accepted, only HS256 is");
    else if (json_object_get(header, "crit"))
        failed = refuse(e, "the token asks for an extension (crit) that is not known here");
    else if (type && strcasecmp(type, "JWT") != 0)
        failed = refuse(e, "the token's type is not JWT");
    json_decref(header);
    return failed;
}

/* A time claim: fails when it is there and no number. */
static int time_claim(json_t *claims, const char *name, int64_t otherwise, int64_t *out,
                      struct err *e)
{
    json_t *v = json_object_get(claims, name);
    double seconds = json_number_value(v);

    *out = otherwise;
    if (!v)
        return 0;
    if (!json_is_number(v) || seconds < 0 || seconds > 1e12)
        return err_set(e, ERR_REJECT, 401, "the token's %s is not a time", name);
    *out = (int64_t)seconds;
    return 0;
}

static int check_times(const struct token_rules *rules, json_t *claims, int64_t now,
                       int64_t *expires, struct err *e)
{
    int64_t before, issued;

    if (time_claim(claims, "exp", INT64_MAX, expires, e) ||
        time_claim(claims, "nbf", 0, &before, e) || time_claim(claims, "iat", 0, &issued, e))
        return -1;
    if (*expires == INT64_MAX && rules->need_expiry)
        return refuse(e, "the token has no expiry (exp)");
    if (*expires != INT64_MAX && now >= *expires + TOKEN_LEEWAY_S)
        return refuse(e, "the token has expired");
    if (before > now + TOKEN_LEEWAY_S)
        return refuse(e, "the token is not valid yet");
    if (issued > now + TOKEN_LEEWAY_S)
        return refuse(e, "the token was issued in the future");
    return 0;
}

static bool audience_matches(json_t *aud, const char *wanted)
{
    json_t *one;
    size_t i;

    if (json_is_string(aud))
        return strcmp(json_string_value(aud), wanted) == 0;
    json_array_foreach (aud, i, one)
        if (json_is_string(one) && strcmp(json_string_value(one), wanted) == 0)
            return true;
    return false;
}

static int check_parties(const struct token_rules *rules, json_t *claims, struct err *e)
{
    const char *issuer = json_string_value(json_object_get(claims, "iss"));

    if (*rules->issuer && (!issuer || strcmp(issuer, rules->issuer) != 0))
        return refuse(e, "the token is from another issuer");
    if (*rules->audience && !audience_matches(json_object_get(claims, "aud"), rules->audience))
        return refuse(e, "the token is for another audience");
    return 0;
}

/* The first of several names that holds a text; numbers count as text (ids often are). */
static const char *text_claim(struct arena *a, json_t *claims, const char *const *names)
{
    json_t *v;

    for (; *names; names++) {
        v = json_object_get(claims, *names);
        if (json_is_string(v) && json_string_length(v) > 0)
            return arena_strdup(a, json_string_value(v));
        if (json_is_integer(v))
            return arena_printf(a, "%lld", (long long)json_integer_value(v));
    }
    return NULL;
}

static int add_role(struct buf *out, json_t *role)
{
    if (!json_is_string(role))
        return 0;
    return buf_printf(out, "%s%s", out->len ? "," : "", json_string_value(role));
}

/* One text, which may be a list with commas, or an array of texts without. */
static int add_roles(struct buf *out, json_t *roles)
{
    int failed = add_role(out, roles);
    const char *text;
    json_t *one;
    size_t i;

    json_array_foreach (roles, i, one) {
        text = json_string_value(one);
        if (text && !strchr(text, ','))
            failed |= add_role(out, one);
    }
    return failed;
}

/* role, roles, and Keycloak's realm_access.roles, as one list; NULL when it is too long. */
static const char *role_claims(struct arena *a, json_t *claims)
{
    const char *list = NULL;
    struct buf out;

    buf_init(&out, ROLES_MAX);
    if (!add_roles(&out, json_object_get(claims, "role")) &&
        !add_roles(&out, json_object_get(claims, "roles")) &&
        !add_roles(&out, json_object_get(json_object_get(claims, "realm_access"), "roles")))
        list = arena_strdup(a, out.len ? out.data : "");
    buf_free(&out);
    return list;
}

static int read_claims(const struct token_rules *rules, json_t *claims, int64_t now_s,
                       struct arena *a, struct token_claims *out, struct err *e)
{
    static const char *const subjects[] = {"sub", "user_id", "userId", "id", NULL};
    static const char *const tenants[] = {"tenant_id", "tenantId", "tenant", NULL};
    static const char *const scopes[] = {"scope", NULL};
    static const char *const tiers[] = {"tier", NULL};

    if (check_times(rules, claims, now_s, &out->expires, e) || check_parties(rules, claims, e))
        return -1;
    out->subject = text_claim(a, claims, subjects);
    if (!out->subject)
        return refuse(e, "the token names no subject (sub)");
    out->tenant = text_claim(a, claims, tenants);
    out->roles = role_claims(a, claims);
    if (!out->roles)
        return refuse(e, "the token names too many roles");
    out->scope = text_claim(a, claims, scopes);
    if (!out->scope)
        out->scope = "";
    out->tier = text_claim(a, claims, tiers);
    return 0;
}

int token_verify(const struct token_rules *rules, const char *token, int64_t now_s, struct arena *a,
                 struct token_claims *out, struct err *e)
{
    jwt_t *jwt = NULL;
    json_t *claims;
    char *text;
    int failed;

    if (strlen(token) > TOKEN_MAX_BYTES)
        return refuse(e, "the token is too long");
    if (check_header(token, e))
        return -1;
    if (jwt_decode(&jwt, token, (const unsigned char *)rules->secret, (int)strlen(rules->secret)))
        return refuse(e, "the token's signature is not ours");
    if (jwt_get_alg(jwt) != JWT_ALG_HS256) {
        jwt_free(jwt);
        return refuse(e, "the token's algorithm is not accepted, only HS256 is");
    }
    text = jwt_get_grants_json(jwt, NULL);
    jwt_free(jwt);
    claims = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (json_is_object(claims))
        failed = read_claims(rules, claims, now_s, a, out, e);
    else
        failed = refuse(e, "the token's claims cannot be read");
    json_decref(claims);
    return failed;
}

/* The roles as an array of texts. */
static json_t *roles_array(const char *roles)
{
    json_t *array = json_array();
    char *list = mem_strdup(roles), *rest = list, *one;

    while ((one = strsep(&rest, ",")))
        if (*one)
            json_array_append_new(array, json_string(one));
    free(list);
    return array;
}

char *token_issue(const struct token_rules *rules, const struct token_claims *claims, int64_t now_s,
                  struct err *e)
{
    json_t *grants =
        json_pack("{s:s, s:s*, s:o, s:s*, s:s*, s:I, s:s*, s:s*}", "sub", claims->subject,
                  "tenant_id", claims->tenant, "roles", roles_array(claims->roles), "scope",
                  *claims->scope ? claims->scope : NULL, "tier", claims->tier, "iat",
                  (json_int_t)now_s, "iss", *rules->issuer ? rules->issuer : NULL, "aud",
                  *rules->audience ? rules->audience : NULL);
    char *text = NULL, *token = NULL;
    jwt_t *jwt = NULL;

    if (grants && claims->expires != INT64_MAX)
        json_object_set_new(grants, "exp", json_integer((json_int_t)claims->expires));
    if (grants)
        text = json_dumps(grants, JSON_COMPACT);
    if (text && jwt_new(&jwt) == 0 && jwt_add_grants_json(jwt, text) == 0 &&
        jwt_set_alg(jwt, JWT_ALG_HS256, (const unsigned char *)rules->secret,
                    (int)strlen(rules->secret)) == 0)
        token = jwt_encode_str(jwt);
    json_decref(grants);
    free(text);
    jwt_free(jwt);
    if (!token)
        err_set(e, ERR_FATAL, 500, "the token could not be made");
    return token;
}
