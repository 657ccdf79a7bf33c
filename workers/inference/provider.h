/*
 * What a provider of answers is, and what it sees of a generation: one answer that is being made.
 *
 * begin() starts the work. The provider gives the text piece by piece to generation_text() and ends
 * the attempt by exactly one of generation_done() and generation_fail(), now or later, having freed
 * what is its own before: the generation is gone then, or begun anew with another model.
 */
#ifndef INFERENCE_PROVIDER_H
#define INFERENCE_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "common/chat/tokens.h"
#include "common/io/loop.h"
#include "workers/inference/chain.h"
#include "workers/inference/free_quota.h"

struct following;
struct http_call;
struct http_call_events;
struct job;
struct model;
struct privacy;

/* What the provider knows about an answer besides its text. The texts live in the arena. */
struct answer {
    const char *model;         /* NULL: the one that was asked */
    const char *finish_reason; /* NULL: not said */
    const char *generation_id; /* NULL: has none */
    bool has_usage;            /* the figures below were told; else they are estimated */
    long prompt_tokens, completion_tokens, total_tokens;
    bool has_cost; /* was told, too */
    double cost;   /* in the provider's currency */
};

struct generation {
    TAILQ_ENTRY(generation) link; /* under way, or waiting */
    struct job *job;
    struct arena *arena; /* lives as long as the generation */

    /* the prompt, borrowed from the job */
    json_t *messages;         /* an array of {"role", "content"}, valid */
    const char *context_type; /* NULL: not said */
    const char *user_id;
    json_int_t tokens_estimated, history_dropped;
    json_t *personal;    /* the user's names as an array; NULL: not said */
    bool stream;         /* the pieces are wanted as they come, or may be */
    bool caller_streams; /* by the caller */

    struct chain chain;             /* whom to ask, one after the other */
    struct model *model;            /* that is asked, or was last; NULL before the first */
    const struct provider *without; /* has shown that it does not take us; or NULL */
    struct err why;                 /* the last one's failure */
    struct model *passed;           /* the last that was passed over since then; or NULL */
    bool passed_over;               /* one that might be asked later was */
    struct model *wanted;           /* has a place, or is to get one, in its quota; or NULL */
    struct place place;
    struct timer *pause;        /* until that, or until there is a model to ask */
    int64_t quota_waited_ms;    /* in all */
    uint32_t ticket;            /* of this request, for its breaker */
    bool asking;                /* the model is at work */
    struct privacy *privacy;    /* what the server has not seen; NULL: it has seen all */
    struct buf text;            /* so far, of this model, with personal data restored */
    struct token_counts counts; /* of the prompt as this server sees it */
    struct answer answer;
    void *work; /* the provider's own */

    /* what was paid */
    char request_id[UUID_TEXT]; /* of the request to this model */
    json_t *charges;            /* of requests before it; NULL: none */
    struct timer *noter;        /* until it is told of before its end */
    bool note_due, noted;

    /* the deltas */
    int epoch;
    size_t told;     /* bytes of the text */
    int64_t told_us; /* when the last went; monotonic */
    struct timer *teller;
    bool teller_set;

    /* what others want of it (control.h, followers.h, interim.h) */
    const char *turn_id; /* borrowed from the job; NULL: it is of no turn */
    char *key;           /* by which they mean it; NULL: they cannot */
    TAILQ_HEAD(, following) followers;
    size_t followers_count;
    struct timer *interim; /* NULL: nobody waits for pieces */
    bool interim_due;

    int64_t came_us; /* the prompt did; monotonic */
    bool begun;
    int64_t begun_us; /* monotonic */
    int64_t asked_us; /* this model was; monotonic */
    int64_t first_us; /* its first word came; 0: none yet */
    bool may_pass;    /* one of the models that were asked before may answer later */
};

/* The model has begun to answer, with thoughts perhaps; the first piece of text says so, too. */
void generation_heard(struct generation *g);

/* Add n bytes of UTF-8, of whole characters. Returns -1 when the answer is too long. */
int generation_text(struct generation *g, const char *text, size_t n, struct err *e);

/* g->answer.generation_id has become known. */
void generation_named(struct generation *g);

/* The text has ended: add what was held back of it. The generation's end does so, too. */
void generation_text_ended(struct generation *g);

/* Tell those who wait for pieces what was not told yet, unless it is white space alone: then another
 * model may still be asked. */
void generation_tell(struct generation *g);

/* Nobody wants more of it: what came is the answer, which goes on as a stopped one. */
void generation_interrupt(struct generation *g);

/* How long answers took of late, in milliseconds; 0: there were none. */
long generation_usual_ms(void);
struct loop *generation_loop(void);

/* The answer is complete; g->answer says the rest. */
void generation_done(struct generation *g);

/* Whose fault it was that there is no answer, which says who is asked next. */
enum blame {
    BLAME_MODEL,   /* the model's: the next one */
    BLAME_ACCOUNT, /* ours, with the provider: the next provider's first model */
    BLAME_SERVICE, /* the service's: the next model, and the breaker counts it */
};

struct failure {
    const char *status; /* the label of the metric: an HTTP status, or a word of a fixed set */
    enum blame blame;
    int64_t retry_after_ms; /* as the service asked for; 0: it did not */
    bool in_doubt;          /* it was sent, and not refused: it may have cost something */
    struct err why;         /* for the job, if no other model is asked */
};

/* There will be no answer of this model. The next one is asked, if nothing of the text was told yet and
 * the caller still waits; else the job fails, and once something was told, for good. */
void generation_fail(struct generation *g, const struct failure *f);

/* Nobody is left to be asked: the job fails by g->why, with what came if something was told. */
void generation_give_up(struct generation *g);

struct provider {
    const char *name;
    int (*start)(struct loop *l, struct err *e); /* once, with the settings loaded */
    void (*stop)(void);                          /* once, when no generation is left */
    void (*begin)(struct generation *g);         /* asks g->model */
    void (*cancel)(struct generation *g); /* free what is its own; nothing is called any more */
    /* Ask what a generation has cost (lookup.c reads the answer); NULL: the provider cannot be asked. */
    struct http_call *(*look_up)(const char *generation_id, const struct http_call_events *events,
                                 void *arg);
};

extern const struct provider provider_llamacpp, provider_openrouter, provider_openai,
    provider_offline;

#endif
