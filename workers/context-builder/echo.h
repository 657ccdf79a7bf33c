/* system.echo: the arguments come back as the answer. Shows that the whole way works. */
#ifndef CONTEXT_BUILDER_ECHO_H
#define CONTEXT_BUILDER_ECHO_H

#include "common/worker/worker.h"

void echo_handle(struct job *job);

#endif
