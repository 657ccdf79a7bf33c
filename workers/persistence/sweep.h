/*
 * Turns that nobody ends: the broker itself dead-lettered one of their steps (its body ended the
 * worker each time, say), or turn.fail was lost to a bug. After TURN_EXPIRES_SECONDS they become failed,
 * so that their idempotency keys are free again and whoever asks is told. A step that is replayed
 * later still completes such a turn.
 */
#ifndef PERSISTENCE_SWEEP_H
#define PERSISTENCE_SWEEP_H

#include "common/base/config.h"
#include "common/worker/worker.h"

extern const struct config_section sweep_section;

void sweep_start(struct worker *w); /* before the database */
void sweep_stop(void);              /* after it */

#endif
