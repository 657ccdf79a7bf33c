#include "common/chat/identity.h"

#include <ctype.h>

#include "common/base/uuid.h"

const char *identity_user_id(struct arena *a, const char *tenant, const char *subject)
{
    char id[UUID_TEXT], *lower, *p;

    if (!uuid_valid(subject))
        return arena_strdup(a, uuid_v5(tenant, subject, id));
    lower = arena_strdup(a, subject);
    for (p = lower; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return lower;
}
