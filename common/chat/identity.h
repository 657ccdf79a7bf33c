/* Whose a request is. */
#ifndef CHAT_IDENTITY_H
#define CHAT_IDENTITY_H

#include "common/base/mem.h"

#define TENANT_DEFAULT "default" /* where a token names none */

/* The UUID of a subject: itself in lower case if it is one, else one that is always the same for
 * this subject in this tenant (version 5). Lives in the arena. */
const char *identity_user_id(struct arena *a, const char *tenant, const char *subject);

#endif
