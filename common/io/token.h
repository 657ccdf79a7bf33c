/*
 * Bearer tokens (JWT, RFC 7519), by libjwt, which checks a signature and nothing else: all other
 * rules are kept here. The only place that calls libjwt.
 */
#ifndef IO_TOKEN_H
#define IO_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/config.h"
#include "common/base/err.h"
#include "common/base/mem.h"

enum {
    TOKEN_MAX_BYTES = 8192, /* a longer one is refused unread */
    TOKEN_SECRET_MIN = 16,  /* bytes; RFC 7518 asks for 32 */
    TOKEN_LEEWAY_S = 30,    /* how far the clocks may differ */
};

/* What is accepted, and what tokens are made with. */
struct token_rules {
    char *secret;   /* HS256 */
    char *issuer;   /* "": any */
    char *audience; /* "": any */
    bool need_expiry;
};
extern const struct config_key token_keys[];
extern const size_t token_keys_count;

struct token_claims {
    const char *subject;
    const char *tenant; /* NULL: the token names none */
    const char *roles;  /* comma-separated, "" for none */
    const char *scope;  /* "" for none */
    const char *tier;   /* NULL: the token names none */
    int64_t expires;    /* seconds since the epoch; INT64_MAX: never */
};

/* Check a token; the claims live in the arena. On failure the error is ERR_REJECT 401 and says
 * what is wrong without quoting the token. */
int token_verify(const struct token_rules *rules, const char *token, int64_t now_s, struct arena *a,
                 struct token_claims *out, struct err *e);

/* A signed token with these claims; the caller frees it. */
char *token_issue(const struct token_rules *rules, const struct token_claims *claims, int64_t now_s,
                  struct err *e);

#endif
