/*
 * The table of operations: everything the fleet can do, each in one row. The shim routes by it,
 * workers validate by it, the topology is bound by it. A new operation is one row here and one
 * handler in a worker.
 */
#ifndef CHAT_OPERATIONS_H
#define CHAT_OPERATIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/config.h"

enum arg_type {
    ARG_STRING,  /* min and max bound its characters */
    ARG_INTEGER, /* min and max bound it */
    ARG_NUMBER,  /* with a fraction perhaps; min and max bound it */
    ARG_BOOLEAN,
    ARG_OBJECT,
    ARG_ARRAY, /* min and max bound its items */
    ARG_UUID,
    ARG_CHOICE, /* a string, one of the words in choices */
};

/* Where the HTTP request carries it. On AMQP all arguments stand in the body. */
enum arg_place { ARG_IN_BODY, ARG_IN_PATH, ARG_IN_QUERY };

struct arg {
    const char *name;
    enum arg_type type;
    enum arg_place place;
    bool required;
    long min, max;
    const long *max_setting; /* a limit that is configured, instead of max; or NULL */
    const char *choices;     /* ARG_CHOICE: words with a space between */
    const char *help;
};

struct route {
    const char *method;
    const char *path; /* behind the prefix; "{name}" stands for a path argument */
};

/* Who may call it. Of x-roles only ROLE_ADMIN is looked at: admin or service must be among them. */
enum operation_role { ROLE_USER, ROLE_SERVICE, ROLE_ADMIN };

struct operation {
    const char *name; /* the routing key, and the type property of its messages */
    const char *summary;
    const struct route *routes; /* ends with a NULL method; NULL: not on HTTP */
    const char *events;     /* the path of routes that is answered by a turn's events, or NULL */
    const struct arg *args; /* ends with a NULL name */
    bool open;              /* other arguments than these are let through */
    bool write;             /* false: a read; dropped when its deadline has passed */
    bool step;              /* a later step of a turn, not an operation that callers begin */
    bool personal;          /* needs to know whose it is: x-user-id */
    bool repeatable;        /* a write that does the same again, also as another request */
    bool introduces;        /* a user's first: his token's subject comes along */
    const char *queue;      /* its first queue; NULL: each kind's first queue (system.health) */
    const char *slip;       /* the steps after the first, with a space between; "" for none */
    long timeout_ms;        /* how long a caller waits */
    int max_attempts;       /* including the first */
    enum operation_role role;
};

extern const struct operation operations[];
extern const size_t operations_count;

/* The step that ends a turn whose other steps failed; the worker's runtime publishes it. */
#define OPERATION_TURN_FAIL "turn.fail"

/* NULL: there is none of that name. */
const struct operation *operation_find(const char *name);

/* Limits that the table refers to; a section of every process's configuration. */
struct chat_limits {
    long message_length; /* characters */
    long write_age_days; /* how old a write's message_id may be */
};
extern struct chat_limits chat_limits;
extern const struct config_section chat_limits_section;

#endif
