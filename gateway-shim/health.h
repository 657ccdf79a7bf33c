/* GET /health: asks every kind of worker by system.health, at most once a second. */
#ifndef GATEWAY_HEALTH_H
#define GATEWAY_HEALTH_H

#include "gateway-shim/gateway.h"

struct health;

struct health *health_new(struct gateway *g);
void health_free(struct health *h);

/* Answers the request, at once or when the workers have answered (a second at most). */
void health_serve(struct health *h, struct request *r);

#endif
