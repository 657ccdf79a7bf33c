#include "workers/persistence/sweep.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/chat/problem.h"
#include "common/io/loop.h"
#include "workers/persistence/budget.h"
#include "workers/persistence/database.h"

enum { AGAIN_MS = 1000 };

#define BATCH "100" /* turns of one transaction */

static struct {
    long expires_s, every_s;
} settings;

#define SETTING(member) offsetof(__typeof__(settings), member)

static const struct config_key keys[] = {
    {"TURN_EXPIRES_SECONDS", CONFIG_INT, SETTING(expires_s), "3600", 1, 604800, NULL, NULL, false,
     "When a turn without an end becomes failed. More than retries take (40 minutes), and waits in "
     "queues."},
    {"TURN_SWEEP_SECONDS", CONFIG_INT, SETTING(every_s), "60", 1, 86400, NULL, NULL, false,
     "How often such turns are looked for."},
};
const struct config_section sweep_section = {"Turns without an end", keys,
                                             sizeof(keys) / sizeof(keys[0]), &settings};

static struct metric_family expired = {"persistence_turns_expired_total", METRIC_COUNTER,
                                       "Turns that had no end in time and were failed", NULL, NULL};

static struct timer *timer;
static bool was_up; /* at the last look */
static int ended_row, mark_row;

/* An hour at a time, however long nobody has looked. $1 seconds. Empty while another process looks. */
#define MARK                                                                                       \
    "WITH mark AS (SELECT s.name, s.swept_until, least(now() - make_interval(secs => $1::int), "   \
    "s.swept_until + interval '1 hour') AS until FROM chat.sweeps s WHERE s.name = 'turns' "       \
    "FOR UPDATE SKIP LOCKED), "
/* Five minutes back: for turns whose transaction was a long one, or that began while the server's
 * clock was set back. */
#define IN_WINDOW                                                                                  \
    "t.created_at >= (SELECT swept_until - interval '5 minutes' FROM mark) "                       \
    "AND t.created_at < (SELECT until FROM mark)"

/* $2 problem. Whoever ends a turn has locked its conversation, so those are skipped, and no lock is
 * waited for. */
static const char sql_end[] =
    MARK "late AS (SELECT t.id, t.tenant_id, t.user_id, t.idempotency_key, t.question_id "
         "FROM chat.turns t JOIN chat.conversations c ON c.id = t.conversation_id WHERE " IN_WINDOW
         " AND t.state = 'accepted' ORDER BY t.created_at LIMIT " BATCH
         " FOR NO KEY UPDATE SKIP LOCKED), "
         "released AS (DELETE FROM chat.idempotency_keys k USING late WHERE k.tenant_id = "
         "late.tenant_id AND k.user_id = late.user_id AND k.key = late.idempotency_key AND "
         "k.message_id = late.id) "
         "UPDATE chat.turns t SET state = 'failed', finished_at = now(), problem = $2::jsonb || "
         "jsonb_build_object('turn_id', t.id, 'user_message_id', t.question_id) FROM late "
         "WHERE t.id = late.id RETURNING t.id, t.conversation_id, t.user_id, t.tenant_id";

/* Not past one that is left for the next look, be it only that it still reserves something. Tells whether
 * there is more to look at. */
static const char sql_move_mark[] =
    MARK "first AS (SELECT min(t.created_at) AS at FROM chat.turns t WHERE " IN_WINDOW
         " AND (t.state = 'accepted' OR t.reserved_cost IS NOT NULL)) "
         "UPDATE chat.sweeps s SET swept_until = greatest(s.swept_until, "
         "coalesce((SELECT at FROM first), mark.until)) FROM mark WHERE s.name = mark.name "
         "RETURNING mark.until < now() - make_interval(secs => $1::int) "
         "OR (SELECT at FROM first) IS NOT NULL";

static void tell(const struct pg_segment *s)
{
    int i;

    for (i = 0; i < pg_rows(s, ended_row); i++)
        log_event(LOG_WARN, "turn expired", LOG_STR("turn_id", pg_text(s, ended_row, i, 0)),
                  LOG_STR("conversation_id", pg_text(s, ended_row, i, 1)),
                  LOG_STR("user_id", pg_text(s, ended_row, i, 2)),
                  LOG_STR("tenant_id", pg_text(s, ended_row, i, 3)));
    metric_add(metric_get(&expired, ""), pg_rows(s, ended_row));
}

static void swept(void *arg, const struct pg_segment *s, const struct err *e)
{
    bool more = false;

    (void)arg;
    if (e) {
        log_event(LOG_ERROR, "turns without an end not looked for", LOG_STR("error", e->text));
    } else {
        tell(s);
        more = pg_rows(s, mark_row) && *pg_text(s, mark_row, 0, 0) == 't';
    }
    timer_set(timer, more ? AGAIN_MS : settings.every_s * 1000);
}

static void send_sweep(void)
{
    struct pg_segment *s = database_system_segment();
    json_t *problem = problem_new(
        504, "the turn did not end in time; its message may be among the dead letters", NULL, NULL);
    char *text = json_dumps(problem, JSON_COMPACT), seconds[24];

    snprintf(seconds, sizeof(seconds), "%ld", settings.expires_s);
    ended_row = pg_add(s, sql_end, 2, (const char *const[]){seconds, text});
    budget_settle_swept(s);
    mark_row = pg_add(s, sql_move_mark, 1, (const char *const[]){seconds});
    free(text);
    json_decref(problem);
    pg_send(s, swept, NULL);
}

/* Not at once when the database has come back: what waited for it ends its turns first. */
static void look(void *arg)
{
    bool is_up = database_is_up(), now = is_up && was_up;

    (void)arg;
    was_up = is_up;
    if (now)
        send_sweep();
    else
        timer_set(timer, settings.every_s * 1000);
}

void sweep_start(struct worker *w)
{
    timer = timer_new(worker_loop(w), look, NULL);
    metric_add(metric_get(&expired, ""), 0);
    timer_set(timer, settings.every_s * 1000);
}

void sweep_stop(void)
{
    timer_free(timer);
    timer = NULL;
}
