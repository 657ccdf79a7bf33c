/* context.build: the step of a turn that makes the prompt. */
#ifndef CONTEXT_BUILDER_BUILD_H
#define CONTEXT_BUILDER_BUILD_H

#include "common/base/config.h"
#include "common/worker/worker.h"

extern const struct config_section build_section;

void build_handle(struct job *job);

#endif
