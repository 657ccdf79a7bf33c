/* Who calls: the bearer token of a request, checked, and remembered while it is good. */
#ifndef GATEWAY_AUTH_H
#define GATEWAY_AUTH_H

#include "gateway-shim/gateway.h"

struct auth;

struct auth *auth_new(void);
void auth_free(struct auth *a);

/* Fill r->identity. On failure e is a 401 (no or no good token) or a 403 (another tenant). */
int auth_check(struct auth *a, struct request *r, struct err *e);

/* Does the request bear INTERNAL_SERVICE_KEY in X-Internal-Service-Key? */
bool auth_is_internal(const struct request *r);

#endif
