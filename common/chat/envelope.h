/*
 * The envelope of a message: what its AMQP properties and headers say (docs/PROTOCOL.md). The body
 * is JSON and not looked at here.
 */
#ifndef CHAT_ENVELOPE_H
#define CHAT_ENVELOPE_H

#include <stdint.h>

#include "common/io/amqp.h"

/* Of the message format; this and the one before are accepted. */
enum { ENVELOPE_VERSION = 1, ENVELOPE_VERSION_OLDEST = 1 };

/* Names of the headers. */
#define HEADER_USER        "x-user-id"
#define HEADER_TENANT      "x-tenant-id"
#define HEADER_ROLES       "x-roles"
#define HEADER_SCOPE       "x-scope"
#define HEADER_TIER        "x-tier"
#define HEADER_DEADLINE    "x-deadline"
#define HEADER_ATTEMPT     "x-attempt"
#define HEADER_EPOCH       "x-epoch"
#define HEADER_SLIP        "x-slip"
#define HEADER_VERSION     "x-version"
#define HEADER_TRACE       "traceparent"
#define HEADER_STATUS      "x-status"
#define HEADER_DEAD_LETTER "x-dead-letter-id"
#define HEADER_ERROR_KIND  "x-error-kind"
#define HEADER_ERROR       "x-error"
#define HEADER_FAILED_AT   "x-failed-at"
#define HEADER_FAILED_BY   "x-failed-by"
#define HEADER_FIRST_FAIL  "x-first-failed-at"
#define HEADER_QUEUE       "x-queue"
#define HEADER_IDEMPOTENCY "x-idempotency-key"
#define HEADER_OFFSET      "x-offset"
#define HEADER_SUBJECT     "x-subject"
#define HEADER_HELD        "x-held"
#define HEADER_REPLAY_OF   "x-replay-of"

/* The type property of answers; that of a request is its operation. */
#define TYPE_REPLY "reply"
#define TYPE_ERROR "error"
/* Of what comes before the answer to a caller that asked for a stream. */
#define TYPE_ACCEPTED "accepted"
#define TYPE_DELTA    "delta"
#define TYPE_INTERIM  "interim"
/* To who follows a turn that he did not begin: its text is whole. */
#define TYPE_GENERATED "generated"

/* Of messages on chat.control. */
#define CONTROL_STOP   "stop"
#define CONTROL_RESUME "resume"
#define CONTROL_LEAVE  "leave"

enum { MESSAGE_PERSISTENT = 2, MESSAGE_TRANSIENT = 1 };

/* Texts are NULL where the message has none or an empty one, numbers 0. They live as long as the message. */
struct envelope {
    const char *type, *message_id, *correlation_id, *reply_to;
    const char *user_id, *tenant_id, *roles, *scope, *traceparent;
    const char *tier; /* what the user pays for, by which models are chosen */
    const char *slip; /* the steps left, with a space between */
    const char *idempotency_key;
    const char *subject; /* what the user's id was made from, where that is no UUID */
    const char
        *replay_of;      /* the dead letter that it was; read only, since it ends with this step */
    int64_t deadline_ms; /* since the epoch; 0: none */
    int attempt;         /* 1 is the first */
    int epoch;           /* of the turn's generation; 0: not said */
    int deliveries;      /* how often the broker delivered it before */
    int version;
    int held; /* how often it was put aside for a worker that knows its version */
};

/* Is this the type of something that comes before an answer? NULL is none. */
bool envelope_is_notice(const char *type);

void envelope_decode(const struct mq_message *m, struct envelope *out);

/* A persistent JSON message with these properties and headers; exchange, routing key and body are
 * the caller's to set. The arena holds the headers; the texts are not copied. */
void envelope_encode(struct arena *a, const struct envelope *env, const char *app_id,
                     struct mq_message *out);

#endif
