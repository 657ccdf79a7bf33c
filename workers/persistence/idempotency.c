#include "workers/persistence/idempotency.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/uuid.h"

const char *idempotency_hash(struct job *job)
{
    json_t *args = json_copy(job_body(job));
    char *text, id[UUID_TEXT];

    json_object_del(args, "stream");
    json_object_del(args, "async");
    text = json_dumps(args, JSON_COMPACT | JSON_SORT_KEYS);
    uuid_v5(job_envelope(job)->type, text, id);
    free(text);
    json_decref(args);
    return arena_strdup(job_arena(job), id);
}

int idempotency_judge(const struct pg_segment *s, int statement, const char **first, struct err *e)
{
    *first = NULL;
    if (pg_rows(s, statement) == 0)
        return 0;
    if (strcmp(pg_text(s, statement, 0, 1), "t") != 0)
        return err_set(e, ERR_REJECT, 422,
                       "the idempotency key was used before, with other arguments");
    *first = pg_text(s, statement, 0, 0);
    return 0;
}
