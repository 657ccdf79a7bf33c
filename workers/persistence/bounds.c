#include "workers/persistence/bounds.h"

#include "common/base/clock.h"

/* A day: it costs a partition more at the turn of a month, and a clock that was set back by less hides
 * nothing that was written before. */
enum { SLACK_MS = 24 * 60 * 60 * 1000 };

void bounds_of(const char *conversation_id, struct bounds *b)
{
    int64_t begin = uuid_time_ms(conversation_id); /* negative: of another version, so unknown */

    uuid_v7_floor(begin < SLACK_MS ? 0 : begin - SLACK_MS, b->low);
    uuid_v7_floor(clock_wall_ms() + SLACK_MS, b->high);
}

bool bounds_hold(const char *conversation_id, const char *id)
{
    return uuid_time_ms(id) >= uuid_time_ms(conversation_id) - SLACK_MS;
}
