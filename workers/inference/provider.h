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
#include "common/io/loop.h"

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
    json_t *personal; /* the user's names as an array; NULL: not said */
    bool stream;      /* the pieces are wanted as they come */

    struct model *model;            /* that is asked, or was last; NULL before the first */
    const struct provider *without; /* has shown that it does not take us; or NULL */
    struct err why;                 /* the last one's failure */
    struct timer *pause;            /* until the next one's quota has room */
    int64_t quota_waited_ms;        /* in all */
    uint32_t ticket;                /* of this request, for its breaker */
    bool asking;                    /* the model is at work */
    struct privacy *privacy;        /* what the server has not seen; NULL: it has seen all */
    struct buf text;                /* so far, of this model, with personal data restored */
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
    int64_t no_free_ms;     /* the account has no free requests for so long; 0: not said */
    struct err why;         /* for the job, if no other model is asked */
};

/* There will be no answer of this model. The next one is asked, if nothing of the text was told yet and
 * the caller still waits; else the job fails, and once something was told, for good. */
void generation_fail(struct generation *g, const struct failure *f);

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
