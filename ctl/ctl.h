/* What the commands of chatfleet share. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/base/program.h"
#include "common/io/loop.h"
#include "common/io/mq.h"

/* Exit codes, beside those of common/base/program.h. */
enum {
    EXIT_DONE = 0,
    EXIT_REFUSED = 1,      /* the fleet answered with an error */
    EXIT_PENDING = 2,      /* there is something left to apply */
    EXIT_UNAVAILABLE = 69, /* the broker, the database or a worker cannot be reached */
    EXIT_TIMEOUT = 75,     /* no answer in time */
};

/* An option of a command: "--user U". */
struct option_value {
    const char *name;   /* with its dashes */
    const char **value; /* set when given; NULL for a flag */
    bool *flag;
};

/* Take the options out of argv, from argv[1] on; what is left are the other arguments. Returns
 * their number, or -1 after a message when an option is unknown, lacks its value or comes twice. */
int ctl_options(const struct option_value *options, int argc, char **argv);

/* A broker connection for one short task: opened() is called once its channel is open. It ends
 * with a message when the broker is not reached within AMQP_CONNECT_TIMEOUT_MS, or goes away. */
struct ctl_session {
    void (*opened)(struct ctl_session *s); /* set by the caller; the rest is zero, */
    void (*fini)(struct ctl_session *s); /* but for these: what it has on the loop ends; or NULL */
    size_t message_max;                  /* bytes of a delivered body; 0: MAX_MESSAGE_BYTES */
    struct mq_channel *channel;
    struct loop *loop;
    struct mq *mq;
    struct timer *deadline;
    struct err last;       /* why the broker was not reached */
    const char *late_text; /* what to say when the deadline comes, */
    int late_code;         /* and how to end */
    bool open, ended;
    bool finished; /* the task is done, only tidying is left: a loss then is no failure */
    int exit_code;
};
int ctl_session_run(struct ctl_session *s); /* returns the exit code of ctl_session_end() */
void ctl_session_end(struct ctl_session *s, int exit_code);
/* A channel of the task is lost, and so is the session. For closed(); the session's own has it. */
void ctl_session_lost(struct ctl_session *s, const struct err *why);
/* From now on the task has so many ms; text (which stays the caller's) says what did not come. */
void ctl_session_deadline(struct ctl_session *s, long ms, const char *text, int exit_code);

/* One call of an operation over AMQP. */
struct ctl_request {
    const char *operation, *body; /* a JSON object */
    const char *user, *tenant, *role,
        *tier; /* who calls; NULL: not said. user may be any subject */
    /* What came back: the answer, or with final false something that comes before it. */
    void (*answered)(void *arg, int status, const char *body, size_t n, bool final);
    void *arg;
};
int ctl_request(const struct ctl_request *r); /* returns an exit code */
/* Print an answer as JSON. */
void ctl_print_answer(const char *body, size_t n);

extern const struct config_section ctl_schema_section; /* its settings */
const char *ctl_admin_url(void);                       /* DATABASE_ADMIN_URL; "" if not set */

/* The commands: argv[0] is the command's name. Each returns an exit code. */
int ctl_call(int argc, char **argv);
int ctl_dlq(int argc, char **argv);
int ctl_schema(int argc, char **argv);
int ctl_tenant(int argc, char **argv);
int ctl_topology(int argc, char **argv);
int ctl_token(int argc, char **argv);

#endif
