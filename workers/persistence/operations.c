/* Which operation is whose. */
#include "workers/persistence/handlers.h"

const struct worker_operation persistence_operations[] = {
    {"conversation.create", conversation_create},
    {"conversation.list", conversation_list},
    {"conversation.get", conversation_get},
    {"conversation.update", conversation_update},
    {"conversation.delete", conversation_delete},
    {"message.list", message_list},
    {"message.send", message_send},
    {"message.regenerate", message_regenerate},
    {"message.commit", message_commit},
    {"message.stop", message_stop},
    {"turn.fail", turn_fail},
    {"turn.get", turn_get},
    {"usage.summary", usage_summary},
    {"conversation.usage", conversation_usage},
    {"usage.record", usage_record},
    {"tenant.get", tenant_get},
    {"tenant.set", tenant_set},
    {"tenant.list", tenant_list},
};
const size_t persistence_operations_count =
    sizeof(persistence_operations) / sizeof(persistence_operations[0]);
