/* What worker.c (the process), job.c (one message), settle.c (its end), control.c and gather.c share. */
#ifndef WORKER_INTERNAL_H
#define WORKER_INTERNAL_H

#include <sys/queue.h>

#include "common/base/metrics.h"
#include "common/chat/operations.h"
#include "common/chat/topology.h"
#include "common/io/mq.h"
#include "common/worker/process.h"
#include "common/worker/worker.h"

/* What a confirm, a nack and a return of it mean (docs/ARCHITECTURE.md, Settling). */
enum output_class {
    OUTPUT_EVENT,
    OUTPUT_ASIDE,
    OUTPUT_STEP,
    OUTPUT_RETRY,
    OUTPUT_DEAD_LETTER,
    OUTPUT_REPLY
};

struct output {
    enum output_class class;
    struct mq_message message; /* in the job's arena */
    bool done;
    int64_t publish; /* the mq's number while its confirm is awaited, else 0 */
    int losses;      /* how often the connection went before its confirm */
    struct job *job;
};

enum { OUTPUTS_MAX = EVENTS_MAX + 2 }; /* a dead letter and an answer, say */

struct subscription; /* to one queue */

struct job {
    TAILQ_ENTRY(job) link; /* in worker.jobs */
    TAILQ_ENTRY(job) stalled_link;
    bool stalled; /* in worker.stalled: outputs wait until they can be published */
    struct worker *worker;
    struct subscription *from;
    struct arena *arena;
    struct mq_message message; /* as it came */
    struct envelope envelope;
    const struct operation *operation; /* NULL while unknown */
    const struct worker_operation *handler;
    json_t *body;
    uint64_t tag;
    unsigned epoch;
    int64_t started_us;
    struct output outputs[OUTPUTS_MAX];
    size_t outputs_count;
    struct output aside; /* beside them, whatever becomes of them */
    bool has_aside;
    json_t *handed_on;   /* what was forwarded, when it is a turn's */
    json_t *partly;      /* what a failed step came to; NULL: nothing */
    const char *ends_by; /* the operation that gets that */
    const char *outcome; /* for log and metrics */
    struct err why;      /* of a failure */
    bool failed;
    bool refused; /* the broker is to dead-letter the input itself, whole */
};

struct subscription {
    struct worker *worker;
    const struct work_queue *queue;
    struct mq_consumer *consumer; /* NULL: not consuming */
    bool confirmed;               /* the broker said consume-ok */
};

enum { SUBSCRIPTIONS_MAX = 4 };

enum worker_state { WORKER_RUNNING, WORKER_DRAINING, WORKER_CLOSING };

struct worker {
    const struct worker_kind *kind;
    struct loop *loop;
    struct process *process;
    struct mq *publish, *consume;
    struct mq_channel *publish_channel, *reply_channel, *consume_channel;
    struct subscription subscriptions[SUBSCRIPTIONS_MAX];
    size_t subscriptions_count;
    enum worker_state state;
    bool cannot_serve;        /* the kind said so */
    bool declaring, declared; /* the topology, on this connection */
    int cancelling;           /* consumers whose end the broker has not confirmed */
    bool ever_served;         /* so that a wrong topology later does not stop us */
    TAILQ_HEAD(, job) jobs;
    size_t jobs_count;
    TAILQ_HEAD(, job) stalled;
    struct timer *unstall, *finish, *drain_deadline;
    struct timer *count;              /* of the processes; NULL: nobody wants to know */
    struct mq_channel *count_channel; /* its own: a queue that is missing closes it */
    bool counting;
    long processes;                     /* 0: not known */
    struct mq_channel *control_channel; /* NULL: the kind does not listen on chat.control */
    bool control_comes;                 /* the broker said consume-ok */
    struct gather *gather;              /* NULL: nothing was gathered yet */
    int exit_code;
    int open_connections;
};

/* job.c */
void job_start(struct worker *w, struct subscription *from, const struct mq_delivery *d);
void job_free(struct job *job);

/* settle.c: publish the job's outputs, and when they are safe ack its input and free it. */
void settle_notice(struct job *job, const struct follower *to, const char *type, json_t *body,
                   int epoch, int64_t offset);
void settle_control(struct job *job, const char *type, json_t *body);
void settle_event(struct job *job, const char *type, const char *subject, json_t *data);
void settle_aside(struct job *job, const char *operation, json_t *body);
bool settle_aside_now(struct job *job, const char *operation, json_t *body);
void settle_reply(struct job *job, int status, json_t *body);
void settle_problem(struct job *job, int status, json_t *problem);
/* answer: for the caller, whose answer this is then, with 202; or NULL. */
void settle_forward(struct job *job, const char *operation, const char *slip, json_t *body,
                    json_t *answer);
void settle_failure(struct job *job, const struct err *e, json_t *errors);
/* Tell the caller, and let the broker dead-letter the input: for one that cannot be published again. */
void settle_refusal(struct job *job, const struct err *e);
void settle_hold(struct job *job); /* a message of an unknown version: back after a delay */
void settle_drop(struct job *job, const char *outcome); /* ack it, nothing else */
void settle_stalled(struct worker *w);                  /* try again what waits */

/* control.c: listen on chat.control, on the connection that consumes; again after each loss */
void control_listen(struct worker *w);
/* gather.c: notices to shims, of several jobs in one message. What waits goes before a job's outputs, so
 * that an answer comes behind its notices. The body is compact JSON; the correlation id is a UUID. False
 * when it is too large to be one of several; it can go alone then, behind what was gathered. */
bool gather_notice(struct worker *w, const struct mq_message *m, int epoch, int64_t offset);
void gather_flush(struct worker *w);
void gather_free(struct worker *w);

/* worker.c */
void worker_serves(struct worker *w);   /* what the process serves may be all there now */
void worker_job_done(struct worker *w); /* a job was freed */
void worker_update(struct worker *w);   /* start or stop consuming, as things are now */
void worker_declare(struct worker *w);  /* the topology; again, if something of it is missing */

#endif
