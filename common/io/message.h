/*
 * AMQP messages and their tables of headers, as structs of our own: what came can be sent on (to a
 * dead-letter queue, say) without loss, since every field keeps its wire type. Strings end with
 * NUL; a NUL byte within a short string of a foreign message cuts it.
 */
#ifndef IO_MESSAGE_H
#define IO_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/mem.h"

struct mq_value;

struct mq_field;

struct mq_table {
    struct mq_field *fields;
    size_t n, room;
};

struct mq_value {
    char kind; /* the wire's own letter: 't' boolean, 'b' 'B' 's' 'u' 'I' 'i' 'l' 'L' integers,
                  'f' 'd' floats, 'D' decimal, 'S' string, 'x' bytes, 'T' time, 'F' table,
                  'A' array, 'V' nothing */
    union {
        int64_t integer; /* also booleans, times and the digits of decimals */
        double real;
        struct {
            const char *data; /* NUL after len bytes */
            size_t len;
        } text;
        struct mq_table table;
        struct {
            struct mq_value *items;
            size_t n;
        } array;
    };
    uint8_t scale; /* decimals: digits after the point */
};

struct mq_field {
    const char *name;
    struct mq_value value;
};

/* A message. NULL or 0 means that a property is not there. */
struct mq_message {
    const char *exchange, *routing_key;
    const char *content_type, *content_encoding, *correlation_id, *reply_to, *expiration,
        *message_id, *type, *user_id, *app_id;
    uint64_t timestamp;    /* seconds since the epoch */
    uint8_t delivery_mode; /* 2: survives a restart of the broker in a durable queue */
    uint8_t priority;
    struct mq_table headers;
    const char *body;
    size_t body_len;
};

/* The value of a name, or NULL. */
const struct mq_value *mq_table_get(const struct mq_table *t, const char *name);
const char *mq_table_string(const struct mq_table *t, const char *name); /* NULL: none */
int64_t mq_table_int(const struct mq_table *t, const char *name, int64_t otherwise);

/* Set a field, replacing one of the same name. The strings are not copied. */
void mq_table_put_string(struct arena *a, struct mq_table *t, const char *name, const char *text);
void mq_table_put_int(struct arena *a, struct mq_table *t, const char *name, int64_t number);
void mq_table_put_bool(struct arena *a, struct mq_table *t, const char *name, bool flag);
void mq_table_put_table(struct arena *a, struct mq_table *t, const char *name,
                        const struct mq_table *table);
void mq_table_remove(struct mq_table *t, const char *name);

/* A deep copy whose strings, tables and body live in the arena. */
void mq_message_copy(struct arena *a, struct mq_message *to, const struct mq_message *from);

#endif
