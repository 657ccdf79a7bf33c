/* The worker's operations, each in the file that its name begins with. */
#ifndef PERSISTENCE_HANDLERS_H
#define PERSISTENCE_HANDLERS_H

#include "common/base/config.h"
#include "common/worker/worker.h"

/* conversations.c */
void conversation_create(struct job *job);
void conversation_list(struct job *job);
void conversation_get(struct job *job);
void conversation_update(struct job *job);
void conversation_delete(struct job *job);

/* messages.c */
void message_list(struct job *job);

/* turns.c */
void message_send(struct job *job);
void message_regenerate(struct job *job);

/* commit.c */
void message_commit(struct job *job);
void turn_fail(struct job *job);
void turn_get(struct job *job);

/* usage.c */
void usage_summary(struct job *job);
void conversation_usage(struct job *job);

/* requests.c */
void usage_record(struct job *job);

/* Settings of all of them. */
struct persistence_settings {
    bool auto_provision;
    long history_messages;
};
extern struct persistence_settings persistence_settings;
extern const struct config_section persistence_section;

#endif
