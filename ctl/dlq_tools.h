/*
 * Who else is at work on the dead letters. Every tool consumes a queue to which nothing is sent,
 * PREFIX.dlq.tools, for as long as its connection lasts; the broker's count of that queue's
 * consumers tells how many there are.
 */
#ifndef CTL_DLQ_TOOLS_H
#define CTL_DLQ_TOOLS_H

#include "ctl/ctl.h"

struct tools;
typedef void tools_cb(void *arg);

/* Be counted, on an open session; joined follows from the loop, also when the broker does not let us:
 * then that is said, and the others are not known. */
struct tools *tools_join(struct ctl_session *s, tools_cb *joined, void *arg);
void tools_free(struct tools *t);

/* Count the others; counted follows, from the loop or from within the call. That there are some is said
 * on standard error, once. One at a time. */
void tools_count(struct tools *t, tools_cb *counted, void *arg);
long tools_others(const struct tools *t); /* the most that were counted; -1: not known */

#endif
