/* context.build: the step of a turn that makes the prompt. */
#ifndef CONTEXT_BUILDER_BUILD_H
#define CONTEXT_BUILDER_BUILD_H

#include "common/base/config.h"
#include "common/worker/worker.h"

extern const struct config_section build_section;

int build_start(struct worker *w, struct err *e);
void build_handle(struct job *job);

/* What inference says on chat.control of how the model counts. */
void build_hear(const struct envelope *env, const json_t *body);

#endif
