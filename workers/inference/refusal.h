/* What it means for a turn when a model's server refuses or fails, by HTTP status. */
#ifndef INFERENCE_REFUSAL_H
#define INFERENCE_REFUSAL_H

#include "common/base/err.h"
#include "workers/inference/provider.h"

/*
 * Fill *e by the status (of the answer, or of an error within one) and the server's own words, which
 * may be NULL: they are cut and stand at the end of the text, but not if they might show the key.
 * Returns whose fault it is.
 *
 *   retry 503  it takes no more for now: 429, 503, 529
 *   retry 502  it failed: other 5xx
 *   fatal 504  it gave up waiting for the model: 408, 504, 524
 *   fatal 502  all else: the request, the key or the account is not accepted
 *
 * Keys are the account's fault (401); what takes too long, is overloaded or fails (408, 429, 5xx)
 * is the service's; all else the model's: another may have room, or still exist.
 */
enum blame refusal_explain(int status, const char *words, const char *key, struct err *e);

#endif
