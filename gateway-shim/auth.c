#include "gateway-shim/auth.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/chat/identity.h"

enum {
    REMEMBERED = 1024, /* tokens; a power of two */
    SECRET_ADVISED = 32,
    TENANT_MAX = 128, /* bytes; longer names of tenants are refused */
    SUBJECT_MAX = 255,
    SCOPE_MAX = 1024,
    TIER_MAX = 64,
};

/* A verified token. Its place follows from its hash; a newer one there takes over. */
struct remembered {
    struct arena *arena; /* of all that follows; NULL: the place is free */
    const char *token;
    struct identity identity;
    int64_t expires;
};

struct auth {
    struct remembered tokens[REMEMBERED];
};

struct auth *auth_new(void)
{
    if (strlen(gateway_settings.tokens.secret) < SECRET_ADVISED)
        log_event(LOG_WARN, "JWT_SECRET is short", LOG_NUM("advised_bytes", SECRET_ADVISED));
    return mem_alloc(sizeof(struct auth));
}

void auth_free(struct auth *a)
{
    size_t i;

    if (!a)
        return;
    for (i = 0; i < REMEMBERED; i++)
        arena_free(a->tokens[i].arena);
    free(a);
}

/* The token of "Authorization: Bearer …", or NULL with the reason. */
static const char *bearer(const struct request *r, struct err *e)
{
    const char *header = http_header(r->http, "Authorization");

    if (!header) {
        err_set(e, ERR_REJECT, 401, "an Authorization header with a bearer token is wanted");
        return NULL;
    }
    if (strncasecmp(header, "Bearer ", 7) != 0) {
        err_set(e, ERR_REJECT, 401, "the Authorization header is not of the kind Bearer");
        return NULL;
    }
    for (header += 7; *header == ' '; header++)
        ;
    return header;
}

static bool is_plain(const char *s, size_t max)
{
    size_t n = 0;

    for (; *s; s++, n++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return n > 0 && n <= max;
}

static int identify(struct arena *a, const struct token_claims *claims, struct identity *out,
                    struct err *e)
{
    const char *tenant = claims->tenant ? claims->tenant : TENANT_DEFAULT;

    if (!is_plain(tenant, TENANT_MAX) || !is_plain(claims->subject, SUBJECT_MAX) ||
        strlen(claims->scope) > SCOPE_MAX || (claims->tier && !is_plain(claims->tier, TIER_MAX)))
        return err_set(e, ERR_REJECT, 401,
                       "the token's tenant, subject, scope or tier is not "
                       "usable: too long, or with control characters");
    out->tenant_id = tenant;
    out->user_id = identity_user_id(a, tenant, claims->subject);
    out->subject = uuid_valid(claims->subject) ? NULL : arena_strdup(a, claims->subject);
    out->roles = claims->roles;
    out->scope = claims->scope;
    out->tier = claims->tier;
    return 0;
}

/* FNV-1a. Nobody gains from tokens that share a place: they are compared whole. */
static uint32_t hash_of(const char *token)
{
    uint32_t h = 0x811c9dc5u;

    for (; *token; token++)
        h = (h ^ (unsigned char)*token) * 0x01000193u;
    return h ^ h >> 16;
}

/* Check a token that is not remembered, and remember it in the place given. */
static int verify(struct remembered *place, const char *token, int64_t now, struct err *e)
{
    struct arena *arena = arena_new();
    struct token_claims claims;
    struct identity identity;

    if (token_verify(&gateway_settings.tokens, token, now, arena, &claims, e) ||
        identify(arena, &claims, &identity, e)) {
        arena_free(arena);
        return -1;
    }
    arena_free(place->arena);
    place->arena = arena;
    place->token = arena_strdup(arena, token);
    place->identity = identity;
    place->expires = claims.expires;
    return 0;
}

int auth_check(struct auth *a, struct request *r, struct err *e)
{
    const char *token = bearer(r, e), *tenant = http_header(r->http, "X-Tenant-ID");
    int64_t now = clock_wall_ms() / 1000;
    struct remembered *place;

    if (!token)
        return -1;
    place = &a->tokens[hash_of(token) & (REMEMBERED - 1)];
    if (!place->arena || strcmp(place->token, token) != 0 || place->expires <= now) {
        if (verify(place, token, now, e))
            return -1;
    }
    /* Copied: the place may be taken over while the request is under way. */
    r->identity.user_id = arena_strdup(r->arena, place->identity.user_id);
    r->identity.subject = arena_strdup(r->arena, place->identity.subject);
    r->identity.tenant_id = arena_strdup(r->arena, place->identity.tenant_id);
    r->identity.roles = arena_strdup(r->arena, place->identity.roles);
    r->identity.scope = arena_strdup(r->arena, place->identity.scope);
    r->identity.tier = arena_strdup(r->arena, place->identity.tier);
    if (tenant && strcmp(tenant, r->identity.tenant_id) != 0)
        return err_set(e, ERR_REJECT, 403, "X-Tenant-ID is not the token's tenant");
    return 0;
}

bool auth_is_internal(const struct request *r)
{
    const char *key = http_header(r->http, "X-Internal-Service-Key");
    const char *ours = gateway_settings.internal_key;

    return key && *ours && strlen(key) == strlen(ours) &&
           CRYPTO_memcmp(key, ours, strlen(ours)) == 0;
}
