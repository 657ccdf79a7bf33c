/*
 * Requests to providers of models, as the inference worker tells of them, and their rows in
 * chat.usage_tracking: one each, whatever became of it and however often it is told. The row of a turn's
 * answer has the turn's id; any other has the request's, and says in turn_id for which turn it was.
 */
#ifndef PERSISTENCE_REQUESTS_H
#define PERSISTENCE_REQUESTS_H

#include <jansson.h>

#include "workers/persistence/database.h"

/* The texts live as long as the job's body. */
struct request {
    const char *id; /* of the fleet's own; see request_of_epoch() */
    const char *model, *provider, *generation_id;
    int free_model;
    json_int_t ms, prompt_tokens, completion_tokens, total_tokens;
    double cost;
    int cost_known, tokens_estimated;
    int noted;   /* it was told before its end */
    int look_up; /* the provider tells later what it cost */
};

/* Read the fields that an answer and a further request have in common; the id may be NULL then. */
int request_read(json_t *from, struct request *r, struct err *e);

/* Which generation of the turn's answer the message tells of. (Its own deliveries do not count.) */
int request_epoch(const struct job *job);

/* An id where the request has none: the same each time. */
const char *request_of_epoch(struct job *job, const char *turn_id);

/* "usage" as callers see it. */
json_t *request_usage(const struct request *r);

/* A number for a statement, in the job's arena. */
const char *number_text(struct job *job, json_int_t n);
const char *cost_text(struct job *job, const struct request *r);

struct turn_ids {
    const char *turn, *conversation, *answer;
};

/* Add a row, unless it is the one of the turn's answer. What was known of it only by its beginning is
 * replaced. */
void requests_add(struct job *job, struct transaction *t, const struct turn_ids *of,
                  const struct request *r, const char *status, int epoch);

/* The request is the one of the turn's answer: what was told of it before goes. */
void requests_drop_note(struct transaction *t, const struct turn_ids *of, const struct request *r);

/* Of deliveries that were taken for lost and of which something was heard after all: the row that only said
 * so goes. */
void requests_drop_lost(struct transaction *t, const struct turn_ids *of);

/* Have the costs looked up of those that are not known; takes the list of {"request_id", "provider",
 * "generation_id", …}. */
void requests_look_up(struct job *job, const struct turn_ids *of, json_t *list);
/* To that list, if it is one of those. */
void requests_put_unknown(json_t *list, const struct request *r);

#endif
