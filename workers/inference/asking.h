/*
 * Whom a generation asks: the models of its chain, one after the other. One that is left alone, or has no room
 * in its quota, is passed over, or waited for a little; where all are left alone the first that comes back is
 * waited for, as long as the caller waits.
 */
#ifndef INFERENCE_ASKING_H
#define INFERENCE_ASKING_H

struct generation;

/* Asks the next model behind g->model (NULL: the first), now or when there is room for it; if there is none,
 * gives the generation up. So this may end it. */
void asking_next(struct generation *g);

/* Nobody is asked any more: frees what was waited with. */
void asking_end(struct generation *g);

#endif
