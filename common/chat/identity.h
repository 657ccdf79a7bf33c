/* Whose a request is. */
#ifndef CHAT_IDENTITY_H
#define CHAT_IDENTITY_H

#include <stdbool.h>

#include "common/base/mem.h"

#define TENANT_DEFAULT "default" /* where a token names none */

/* Roles that the fleet knows. */
#define ROLE_NAME_ADMIN   "admin"   /* of one tenant, his own */
#define ROLE_NAME_SERVICE "service" /* a program beside the fleet, or its operator */

/* The UUID of a subject: itself in lower case if it is one, else one that is always the same for
 * this subject in this tenant (version 5). Lives in the arena. */
const char *identity_user_id(struct arena *a, const char *tenant, const char *subject);

/* Is it among the roles, a list with commas between (NULL: none)? */
bool identity_has_role(const char *roles, const char *role);

#endif
