/* What a replay would do, without doing any of it. */
#ifndef CTL_DLQ_REHEARSE_H
#define CTL_DLQ_REHEARSE_H

#include "ctl/dlq.h"

int dlq_rehearse(const struct dlq_options *o); /* returns an exit code */

#endif
