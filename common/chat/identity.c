#include "common/chat/identity.h"

#include <string.h>

#include "common/base/text.h"
#include "common/base/uuid.h"

const char *identity_user_id(struct arena *a, const char *tenant, const char *subject)
{
    char name_space[UUID_TEXT], id[UUID_TEXT], *lower;

    if (!uuid_valid(subject)) {
        uuid_v5("chatfleet tenant", tenant, name_space);
        return arena_strdup(a, uuid_v5(name_space, subject, id));
    }
    lower = arena_strdup(a, subject);
    text_lower(lower);
    return lower;
}

bool identity_has_role(const char *roles, const char *role)
{
    size_t n = strlen(role), m;

    for (; roles && *roles; roles += m + (roles[m] == ',')) {
        m = strcspn(roles, ",");
        if (m == n && memcmp(roles, role, n) == 0)
            return true;
    }
    return false;
}
