/* From what came of a call to the answer of its HTTP request. */
#ifndef GATEWAY_ANSWER_H
#define GATEWAY_ANSWER_H

#include "gateway-shim/gateway.h"
#include "gateway-shim/rpc.h"

/* Answer with a reply or an error, or tell why there is none. Frees the request. */
void answer_result(struct request *r, const struct rpc_result *result);

/* Problem details of a result without an answer: with the turn, and where to ask for its outcome,
 * where that is open. The caller owns them. */
json_t *answer_problem(const struct request *r, const struct rpc_result *result);

#endif
