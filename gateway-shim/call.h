/* From an HTTP request for an operation to a call over AMQP. */
#ifndef GATEWAY_CALL_H
#define GATEWAY_CALL_H

#include "gateway-shim/routes.h"

/* Check the request, call the operation, and have the request answered, now or later. */
void call_operation(struct request *r, const struct match *m);

#endif
