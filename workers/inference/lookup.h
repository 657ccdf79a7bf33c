/*
 * usage.lookup: asks a provider what requests have cost whose answers did not say so. What is found goes to
 * persistence (usage.record). A provider may know of a generation only some seconds after its end, so it
 * is asked again with the delays of every retry; what it does not know in the end stays unknown.
 */
#ifndef INFERENCE_LOOKUP_H
#define INFERENCE_LOOKUP_H

#include "common/worker/worker.h"

void lookup_handle(struct job *job);
void lookup_stop(void); /* when no call can come back any more */

#endif
