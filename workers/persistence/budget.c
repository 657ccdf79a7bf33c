#include "workers/persistence/budget.h"

#include <stdio.h>

#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/chat/problem.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/tenant_cache.h"

static struct metric_family refusals = {
    "persistence_budget_refusals_total", METRIC_COUNTER,
    "Turns that were refused since their tenant's budget is used up", NULL, NULL};

/* There from the first turn on that could be refused, so that a rise from nothing is seen. */
static struct metric *refused(const char *unit)
{
    struct metric *of_credits = metric_get(&refusals, "unit=\"credits\"");
    struct metric *of_tokens = metric_get(&refusals, "unit=\"tokens\"");

    return *unit == 'c' ? of_credits : of_tokens;
}

/* ---- reserve ---- */

static const char sql_reserve[] =
    "SELECT chat.budget_reserve($1::uuid, $2::numeric, $3::bigint)"; /* TB402: over budget */

/* What chat.budget_excess() says. */
struct excess {
    const char *period, *unit, *resets_at;
    double budget, spent, reserved, needed;
};

static int read_excess(json_t *excess, struct excess *x)
{
    return json_unpack(excess, "{s:s, s:s, s:s, s:F, s:F, s:F, s:F}", "period", &x->period, "unit",
                       &x->unit, "resets_at", &x->resets_at, "budget", &x->budget, "spent",
                       &x->spent, "reserved", &x->reserved, "needed", &x->needed);
}

static void over_budget(struct job *job, const char *detail)
{
    const struct envelope *env = job_envelope(job);
    json_t *excess = json_loads(detail, 0, NULL), *problem;
    const char *text = "the tenant's budget is used up";
    struct excess x = {.unit = "credits"};

    if (read_excess(excess, &x) == 0)
        text = arena_printf(job_arena(job),
                            "the tenant's budget for this %s is used up: of %.15g %s %.15g are "
                            "spent and %.15g reserved by turns under way, and a turn reserves "
                            "%.15g; it begins anew at %s",
                            x.period, x.budget, x.unit, x.spent, x.reserved, x.needed, x.resets_at);
    metric_add(refused(x.unit), 1);
    log_event(LOG_WARN, "budget used up", LOG_STR("tenant_id", env->tenant_id),
              LOG_STR("correlation_id", env->correlation_id), LOG_STR("period", x.period),
              LOG_STR("unit", x.unit));
    if (env->reply_to) {
        problem = problem_new(402, text, env->correlation_id, NULL);
        json_object_set(problem, "budget", excess);
        job_refuse(job, 402, problem);
    } else {
        job_reject(job, 402, "%s", text);
    }
    json_decref(excess);
}

void budget_reserve(struct transaction *t, struct job *job, const char *turn_id)
{
    const struct tenant *tenant = tenant_known(job_envelope(job)->tenant_id);
    struct arena *a = job_arena(job);

    if (!tenant || !tenant->has_budget)
        return;
    metric_add(refused("credits"), 0);
    transaction_alone(t);
    transaction_catch(t, "TB402", over_budget);
    transaction_add(t, sql_reserve, 3,
                    (const char *const[]){
                        turn_id, arena_printf(a, "%.6f", persistence_settings.reserve_credits),
                        arena_printf(a, "%ld", persistence_settings.reserve_tokens)});
}

/* ---- settle ---- */

static const char sql_settle[] = "SELECT chat.budget_settle($1::uuid)";

void budget_settle(struct transaction *t, struct job *job, const char *turn_id)
{
    const struct tenant *tenant = tenant_known(job_envelope(job)->tenant_id);

    if (!tenant || !tenant->is_metered)
        return;
    transaction_alone(t);
    transaction_add(t, sql_settle, 1, (const char *const[]){turn_id});
}

/* Those that this transaction ended, and those whose end knew nothing of a budget that was new: the process
 * that ended such a turn, maybe not the one that began it, had not heard of it yet. Who tells what a turn cost
 * holds the turn: it is skipped, and no lock is waited for but that of a tenant's row, tenant by tenant. */
static const char sql_settle_swept[] =
    "WITH ended AS MATERIALIZED (SELECT t.id FROM chat.sweeps m JOIN chat.turns t "
    "ON t.created_at >= m.swept_until - interval '5 minutes' "
    "AND t.created_at < m.swept_until + interval '1 hour' "
    "LEFT JOIN chat.tenant_spending s ON s.tenant_id = t.tenant_id "
    "AND t.finished_at BETWEEN s.since AND s.since + interval '5 minutes' "
    "WHERE m.name = 'turns' AND EXISTS (SELECT 1 FROM chat.tenant_spending) "
    "AND t.state <> 'accepted' AND (t.reserved_cost IS NOT NULL "
    "OR (t.charged_cost IS NULL AND s.tenant_id IS NOT NULL)) "
    "ORDER BY t.tenant_id FOR NO KEY UPDATE OF t SKIP LOCKED) "
    "SELECT count(chat.budget_settle(e.id)) FROM ended e";

void budget_settle_swept(struct pg_segment *s)
{
    pg_alone(s);
    pg_add(s, sql_settle_swept, 0, NULL);
}
