#include "common/io/token.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/uuid.h"
#include "ctl/ctl.h"

enum { EXPIRES_MAX_S = 10 * 365 * 86400 };

int ctl_token(int argc, char **argv)
{
    const char *user = NULL, *tenant = NULL, *role = "", *expires = "3600";
    struct token_claims claims = {.scope = ""};
    const struct option_value options[] = {
        {"--user", &user, NULL},        {"--tenant", &tenant, NULL},   {"--role", &role, NULL},
        {"--tier", &claims.tier, NULL}, {"--expires", &expires, NULL}, {0}};
    struct token_rules rules = {0};
    const struct config_section section = {"Tokens", token_keys, token_keys_count, &rules};
    char id[UUID_TEXT], *token, *end;
    struct err e;
    long seconds;

    if (ctl_options(options, argc, argv) != 0) {
        fputs("usage: chatfleet token [--user U] [--tenant T] [--role R] [--tier T] "
              "[--expires SECONDS]\n",
              stderr);
        return EXIT_USAGE;
    }
    seconds = strtol(expires, &end, 10);
    if (*end || seconds < 1 || seconds > EXPIRES_MAX_S) {
        fprintf(stderr, "chatfleet: --expires wants 1 to %d seconds\n", EXPIRES_MAX_S);
        return EXIT_USAGE;
    }
    if (config_load(&section, 1, &e)) {
        fprintf(stderr, "chatfleet: %s\n", e.text);
        return EXIT_CONFIG;
    }
    claims.subject = user ? user : uuid_v7(id);
    claims.tenant = tenant;
    claims.roles = role;
    claims.expires = clock_wall_ms() / 1000 + seconds;
    token = token_issue(&rules, &claims, clock_wall_ms() / 1000, &e);
    config_free(&section, 1);
    if (!token) {
        fprintf(stderr, "chatfleet: %s\n", e.text);
        return EXIT_SOFTWARE;
    }
    puts(token);
    free(token);
    return EXIT_DONE;
}
