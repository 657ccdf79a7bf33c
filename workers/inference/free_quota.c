#include "workers/inference/free_quota.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/uuid.h"
#include "common/io/redis.h"
#include "common/io/redis_settings.h"
#include "workers/inference/quota.h"
#include "workers/inference/settings.h"

enum {
    MINUTE_MS = 60000,
    DAY_MS = 86400000,
    LATENESS_MS = 500, /* more than a minute, since the last of a span may be on its way longer */
    BEAT_MS = 1000,
    SETTLE_MS = 3000, /* in which all processes tell a Redis that has forgotten */
    KEYS = 4,
    KEY_MAX = 80,
    FIGURES = 4, /* limits and spans */
    TOLD_FIGURES = 8,
};

#define NO_NAMESPACE "00000000-0000-0000-0000-000000000000"

enum mode {
    ALONE,  /* each takes its part */
    SHARED, /* Redis counts for all */
};

static struct {
    struct worker *worker;
    void (*begun)(struct worker *w); /* NULL: it was called */
    struct redis *redis;             /* NULL: none is configured */
    enum mode mode;
    bool was_away;
    bool telling;     /* a call is under way */
    uint64_t told;    /* how many of the requests granted it knows of */
    int64_t since_ms; /* of the count, by the server's clock, as last heard */
    struct timer *beat;
    char keys[KEYS][KEY_MAX];
    char id[UUID_TEXT];         /* of this process, in the names of its requests */
    uint64_t asked, granted;    /* requests */
    struct quota minute, day;   /* of this process alone */
    long minute_used, day_used; /* of all, as last heard */
    int64_t shared_free_ms;     /* monotonic: when there is room again, as last heard */
    struct {
        int window; /* 1: minute, 2: day; 0: it has said nothing that is not told yet */
        long left;
        int64_t until_ms;
    } correction; /* by the provider */
} state;

static struct metric_family shared_gauge = {
    "free_quota_shared", METRIC_GAUGE,
    "1 while Redis counts the requests to free models for all processes", NULL, NULL};
static struct metric_family used_gauge = {
    "free_quota_used", METRIC_GAUGE,
    "Requests to free models in the last minute and day, of all processes as Redis last told", NULL,
    NULL};

static int64_t now_ms(void)
{
    return clock_monotonic_us() / 1000;
}

static const struct inference_settings *limits(void)
{
    return &inference_settings;
}

/* ---- scripts; times are the server's, so that the clocks of the processes do not matter ---- */

#define LUA_NOW                                                                                    \
    "local time = redis.call('TIME')\n"                                                            \
    "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"

/* KEYS: the requests of the last minute and of the last day, by the time at which they go; until when
 * there is no room. ARGV: the request's name, how long it may wait, limit and span of both. */
static struct redis_script take_script = {
    .name = "take_free",
    .text = LUA_NOW
    "local at = math.max(now, tonumber(redis.call('GET', KEYS[3]) or 0))\n"
    "local used = {0, 0}\n"
    "for i = 1, 2 do\n"
    "  local limit, span = tonumber(ARGV[1 + 2 * i]), tonumber(ARGV[2 + 2 * i])\n"
    "  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now - span))\n"
    "  used[i] = redis.call('ZCARD', KEYS[i])\n"
    "  if limit > 0 and used[i] >= limit then\n"
    "    local last = redis.call('ZREVRANGE', KEYS[i], limit - 1, limit - 1, 'WITHSCORES')\n"
    "    at = math.max(at, last[2] + span)\n"
    "  end\n"
    "end\n"
    "local wait = at - now\n"
    "local room = wait <= tonumber(ARGV[2])\n"
    "for i = 1, 2 do\n"
    "  if room and tonumber(ARGV[1 + 2 * i]) > 0 then\n"
    "    redis.call('ZADD', KEYS[i], string.format('%.0f', at), ARGV[1])\n"
    "    redis.call('PEXPIRE', KEYS[i], ARGV[2 + 2 * i] + 70000)\n"
    "    used[i] = used[i] + 1\n"
    "  end\n"
    "end\n"
    "return {room and 1 or 0, wait, used[1], used[2]}\n"};

/* KEYS: as above, and since when there is a count. ARGV: limit and span of both; for how long the
 * provider has no room; of which of both it said how much is left, how much, and for how long (then
 * those that are not known here leave the count); then names and ages of requests, those in the future
 * having a negative age. What is known already is not counted again. */
static struct redis_script tell_script = {
    .name = "tell_free",
    .text = LUA_NOW
    "local closed = tonumber(redis.call('GET', KEYS[3]) or 0)\n"
    "if tonumber(ARGV[5]) > 0 and now + ARGV[5] > closed then\n"
    "  closed = now + ARGV[5]\n"
    "  redis.call('SET', KEYS[3], string.format('%.0f', closed), 'PX', ARGV[5])\n"
    "end\n"
    "redis.call('SET', KEYS[4], string.format('%.0f', now), 'NX')\n"
    "redis.call('PEXPIRE', KEYS[4], 172800000)\n"
    "local used = {0, 0}\n"
    "for i = 1, 2 do\n"
    "  local limit, span = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])\n"
    "  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now - span))\n"
    "  for j = 9, #ARGV, 2 do\n"
    "    if limit > 0 and tonumber(ARGV[j + 1]) < span then\n"
    "      redis.call('ZADD', KEYS[i], 'NX', string.format('%.0f', now - ARGV[j + 1]), ARGV[j])\n"
    "    end\n"
    "  end\n"
    "  local missing = limit - redis.call('ZCARD', KEYS[i]) - ARGV[7]\n"
    "  if limit > 0 and tonumber(ARGV[6]) == i then\n"
    "    for j = 1, missing do\n"
    "      local at = math.min(now - span + ARGV[8], now)\n"
    "      local name = string.format('provider:%.0f:%d', now, j)\n"
    "      redis.call('ZADD', KEYS[i], string.format('%.0f', at), name)\n"
    "    end\n"
    "  end\n"
    "  redis.call('PEXPIRE', KEYS[i], span + 70000)\n"
    "  used[i] = redis.call('ZCARD', KEYS[i])\n"
    "end\n"
    "local since = tonumber(redis.call('GET', KEYS[4]))\n"
    "return {math.max(closed - now, 0), used[1], used[2], now - since, since}\n"};

static struct redis_script give_back_script = {.name = "give_back_free",
                                               .text =
                                                   "redis.call('ZREM', KEYS[1], ARGV[1])\n"
                                                   "return redis.call('ZREM', KEYS[2], ARGV[1])\n"};

/* Words of a script's call, its keys first. */
struct words {
    struct arena *arena;
    const char **all;
    int count;
};

static void begin_words(struct words *w, size_t room)
{
    int i;

    w->arena = arena_new();
    w->all = arena_alloc(w->arena, (KEYS + room) * sizeof(*w->all));
    for (w->count = i = 0; i < KEYS; i++)
        w->all[w->count++] = state.keys[i];
}

static void add_number(struct words *w, int64_t n)
{
    w->all[w->count++] = arena_printf(w->arena, "%lld", (long long)n);
}

static void add_name(struct words *w, uint64_t number)
{
    w->all[w->count++] = arena_printf(w->arena, "%s:%llu", state.id, (unsigned long long)number);
}

static void add_limits(struct words *w)
{
    add_number(w, limits()->free_per_minute);
    add_number(w, state.minute.span_ms);
    add_number(w, limits()->free_per_day);
    add_number(w, state.day.span_ms);
}

static struct redis_call *call(struct words *w, struct redis_script *script, redis_done *done,
                               void *arg)
{
    struct redis_call *c = redis_eval(state.redis, script, KEYS, w->count, w->all, done, arg);

    arena_free(w->arena);
    return c;
}

/* ---- shared or alone ---- */

static void heard(int64_t minute_used, int64_t day_used)
{
    state.minute_used = (long)minute_used;
    state.day_used = (long)day_used;
    metric_set(metric_get(&used_gauge, "window=\"minute\""), (double)minute_used);
    metric_set(metric_get(&used_gauge, "window=\"day\""), (double)day_used);
}

static void set_mode(enum mode mode)
{
    if (mode != state.mode)
        log_event(mode == SHARED ? LOG_INFO : LOG_WARN,
                  mode == SHARED ? "free models' quota shared" : "free models' quota divided",
                  LOG_NUM("processes", worker_processes(state.worker)));
    state.mode = mode;
    metric_set(metric_get(&shared_gauge, ""), mode == SHARED);
}

/* What all have taken leaves room for so few, of which this process takes its part. */
static void take_part_of(struct quota *q, long limit, long used)
{
    long room = limit - used;

    if (limit > 0)
        quota_few(q, room > 0 ? room / worker_processes(state.worker) : 0, now_ms() + q->span_ms);
}

static void become_alone(void)
{
    if (state.mode == ALONE)
        return;
    take_part_of(&state.minute, limits()->free_per_minute, state.minute_used);
    take_part_of(&state.day, limits()->free_per_day, state.day_used);
    set_mode(ALONE);
}

static void begin(void)
{
    void (*begun)(struct worker * w) = state.begun;

    state.begun = NULL;
    if (begun)
        begun(state.worker);
}

/* ---- telling, and hearing ---- */

static void tell(void);

/* It has forgotten: somebody emptied it, or another one has taken its place. */
static void forgotten(void)
{
    state.was_away = true;
    become_alone();
    tell();
}

static void told(void *arg, const struct redis_answer *a, const struct err *e)
{
    bool other = a && redis_integer(a, 4) != state.since_ms;

    (void)arg;
    state.telling = false;
    if (e) {
        become_alone();
        begin();
        return;
    }
    state.since_ms = redis_integer(a, 4);
    if (state.mode == SHARED && other) {
        forgotten();
        return;
    }
    heard(redis_integer(a, 1), redis_integer(a, 2));
    if (redis_integer(a, 0) > 0) {
        quota_close(&state.minute, now_ms() + redis_integer(a, 0));
        quota_close(&state.day, now_ms() + redis_integer(a, 0));
    }
    /* One that has forgotten is not relied on until it was told by all. */
    if (state.mode == ALONE && (!state.was_away || redis_integer(a, 3) >= SETTLE_MS)) {
        if (state.told != state.granted) {
            tell(); /* of those that were taken meanwhile, too */
            return;
        }
        quota_few(&state.minute, 0, 0);
        quota_few(&state.day, 0, 0);
        set_mode(SHARED);
    }
    begin();
}

/* While Redis counts it knows all; else it is told what was taken here. The log of the day has all that
 * of the minute has. */
static void add_requests(struct words *w)
{
    int i;

    for (i = 0; i < state.day.count && state.mode == ALONE; i++) {
        add_name(w, state.day.slots[i].number);
        add_number(w, now_ms() - state.day.slots[i].at_ms);
    }
}

static void tell(void)
{
    int64_t closed_ms = state.day.until_ms - now_ms(), left_ms;
    struct words w;

    if (state.telling || !state.redis || !redis_is_up(state.redis))
        return;
    begin_words(&w, TOLD_FIGURES + 2 * QUOTA_MAX);
    add_limits(&w);
    add_number(&w, closed_ms > 0 ? closed_ms : 0);
    left_ms = state.correction.until_ms - now_ms();
    add_number(&w, left_ms > 0 ? state.correction.window : 0);
    add_number(&w, state.correction.left);
    add_number(&w, left_ms);
    add_requests(&w);
    state.correction.window = 0;
    state.told = state.granted;
    state.telling = call(&w, &tell_script, told, NULL) != NULL;
}

static void beat(void *arg)
{
    (void)arg;
    timer_set(state.beat, BEAT_MS);
    tell();
}

static void redis_up(void *arg)
{
    (void)arg;
    tell();
}

static void redis_down(void *arg, const struct err *why)
{
    (void)arg;
    (void)why;
    state.was_away = true;
    become_alone();
    begin();
}

/* ---- taking ---- */

static int64_t alone_wait_ms(void)
{
    long processes = worker_processes(state.worker);
    int64_t minute = quota_wait_ms(&state.minute, limits()->free_per_minute, processes, now_ms());
    int64_t day = quota_wait_ms(&state.day, limits()->free_per_day, processes, now_ms());

    return minute > day ? minute : day;
}

static void took(struct place *p, int64_t wait_ms)
{
    p->wait_ms = wait_ms <= p->wait_max_ms ? wait_ms : -1;
    if (p->wait_ms < 0)
        return;
    state.granted++;
    quota_take(&state.minute, now_ms() + wait_ms, p->number);
    quota_take(&state.day, now_ms() + wait_ms, p->number);
}

static void answered(void *arg, const struct redis_answer *a, const struct err *e)
{
    struct place *p = arg;

    p->call = NULL;
    if (e) {
        become_alone();
        took(p, alone_wait_ms());
    } else {
        heard(redis_integer(a, 2), redis_integer(a, 3));
        if (redis_integer(a, 0) == 0)
            state.shared_free_ms = now_ms() + redis_integer(a, 1);
        took(p, redis_integer(a, 0) ? redis_integer(a, 1) : INT64_MAX);
    }
    p->done(p->arg);
}

static bool has_limits(void)
{
    return limits()->free_per_minute > 0 || limits()->free_per_day > 0;
}

bool free_quota_take(struct place *p, int64_t wait_max_ms, void (*done)(void *arg), void *arg)
{
    struct words w;

    *p = (struct place){
        .number = ++state.asked, .wait_max_ms = wait_max_ms, .done = done, .arg = arg};
    if (state.mode == SHARED && has_limits()) {
        begin_words(&w, 2 + FIGURES);
        add_name(&w, p->number);
        add_number(&w, wait_max_ms);
        add_limits(&w);
        p->call = call(&w, &take_script, answered, p);
    }
    if (!p->call)
        took(p, alone_wait_ms());
    return !p->call;
}

void free_quota_give_back(struct place *p)
{
    struct words w;

    if (p->call)
        redis_forget(p->call);
    p->call = NULL;
    quota_give_back(&state.minute, p->number);
    quota_give_back(&state.day, p->number);
    if (!state.redis || !redis_is_up(state.redis))
        return;
    begin_words(&w, 1);
    add_name(&w, p->number);
    call(&w, &give_back_script, NULL, NULL);
}

int64_t free_quota_wait_ms(void)
{
    int64_t wait_ms;

    if (state.mode == ALONE || !has_limits())
        return alone_wait_ms();
    wait_ms = state.shared_free_ms - now_ms();
    return wait_ms > 0 ? wait_ms : 0;
}

/* ---- the provider's word ---- */

static void correct_alone(struct quota *q, long left, int64_t until_ms)
{
    long part = left / worker_processes(state.worker);

    if (q->few_until_ms <= now_ms() || part < q->few)
        quota_few(q, part, until_ms);
}

void free_quota_correct(long left, int64_t reset_ms)
{
    bool of_minute = reset_ms <= state.minute.span_ms;
    int64_t until_ms = now_ms() + reset_ms;

    if (left == 0) {
        quota_close(&state.minute, until_ms);
        quota_close(&state.day, until_ms);
        log_event(LOG_WARN, "free models left alone", LOG_NUM("ms", (long)reset_ms));
    } else {
        if (state.mode == ALONE)
            correct_alone(of_minute ? &state.minute : &state.day, left, until_ms);
        state.correction.window = of_minute ? 1 : 2;
        state.correction.left = left;
        state.correction.until_ms = until_ms;
    }
    tell();
}

/* ---- life ---- */

/* Of the account, so that all that use it share a count, and nobody learns its key. */
static void name_keys(void)
{
    static const char *const names[KEYS] = {"minute", "day", "closed", "since"};
    char *account = mem_printf("%s\n%s", limits()->openrouter_url, limits()->openrouter_key);
    char hash[UUID_TEXT];
    size_t i;

    uuid_v5(NO_NAMESPACE, account, hash);
    for (i = 0; i < KEYS; i++)
        snprintf(state.keys[i], KEY_MAX, "chatfleet:free:{%s}:%s", hash, names[i]);
    free(account);
}

int free_quota_start(struct worker *w, void (*begun)(struct worker *w), struct err *e)
{
    static const struct redis_events events = {redis_up, redis_down};

    state.worker = w;
    state.begun = begun;
    state.minute.span_ms = MINUTE_MS + LATENESS_MS;
    state.day.span_ms = DAY_MS;
    uuid_v7(state.id);
    name_keys();
    worker_processes(w); /* so that they are counted from now on */
    if (redis_settings_open(&state.redis, worker_loop(w), worker_instance(w), &events, NULL, e))
        return -1;
    if (!state.redis) {
        begin();
        return 0;
    }
    metric_set(metric_get(&shared_gauge, ""), 0);
    state.beat = timer_new(worker_loop(w), beat, NULL);
    timer_set(state.beat, BEAT_MS);
    return 0;
}

void free_quota_stop(void)
{
    redis_free(state.redis);
    timer_free(state.beat);
    memset(&state, 0, sizeof(state));
}

void free_quota_health(json_t *dependencies)
{
    bool up = state.redis && redis_is_up(state.redis);

    if (state.redis)
        json_object_set_new(dependencies, "redis",
                            json_pack("{s:s, s:b}", "status", up ? "healthy" : "unhealthy",
                                      "shared", state.mode == SHARED));
}
