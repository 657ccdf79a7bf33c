#include "gateway-shim/follow.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/chat/body.h"
#include "common/chat/problem.h"
#include "gateway-shim/answer.h"
#include "gateway-shim/events.h"
#include "gateway-shim/respond.h"
#include "gateway-shim/rpc.h"
#include "gateway-shim/sse.h"

enum {
    LOOK_SOON_MS = 50,   /* after which the turn is looked at again, twice as long each time, */
    LOOK_MS = 1000,      /* up to this; also how long nothing may be heard */
    PATIENCE_MS = 60000, /* how long the turn may not be found out about */
    DIGITS_MAX = 10,     /* of a number in Last-Event-ID */
};

struct follow {
    struct sse sse;
    struct request *request;
    struct envelope envelope; /* whose it is */
    const char *turn_id;      /* in lower case */
    char id[UUID_TEXT];       /* by which the worker's pieces come */
    struct rpc_call *asked;   /* turn.get under way, else NULL */
    struct rpc_call *pieces;  /* NULL: not following yet */
    struct timer *look;
    int64_t wait_ms;  /* until the next look */
    bool whole;       /* the worker has told all of the text */
    int64_t known_us; /* when the turn's state was last known; monotonic */
};

/* ---- where the client is ---- */

/* Of the client's text. Returns where the number ends, NULL when there is none. */
static const char *read_number(const char *text, int64_t *n)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > DIGITS_MAX)
        return NULL;
    *n = strtoll(text, NULL, 10);
    return text + digits;
}

/* NULL: the client has nothing yet. A page cannot set the header for its first request. */
static const char *last_event_id(const struct request *r)
{
    const char *id = http_header(r->http, "Last-Event-ID"), *name, *value;
    size_t i;

    for (i = 0; !id && http_query(r->http, i, &name, &value); i++)
        if (strcmp(name, "last_event_id") == 0)
            id = value;
    return id && *id ? id : NULL;
}

static struct events *read_place(const struct request *r, const char *turn_id, struct err *e)
{
    const char *id = last_event_id(r), *rest;
    size_t max = (size_t)process_settings.message_max;
    int64_t epoch, offset;

    if (!id)
        return events_new(turn_id, max);
    if (strlen(id) < UUID_TEXT || id[UUID_TEXT - 1] != ':' ||
        !(rest = read_number(id + UUID_TEXT, &epoch)) || *rest != ':' ||
        !(rest = read_number(rest + 1, &offset)) || *rest != '\0' || epoch == 0) {
        err_set(e, ERR_REJECT, 400, "Last-Event-ID is no id of an event, <turn>:<epoch>:<offset>");
        return NULL;
    }
    if (strncasecmp(id, turn_id, UUID_TEXT - 1) != 0) {
        err_set(e, ERR_REJECT, 400, "Last-Event-ID is of another turn");
        return NULL;
    }
    return events_resume(turn_id, epoch, (size_t)offset, max);
}

/* ---- the worker that makes the answer ---- */

static bool tell_workers(struct follow *f, const char *type)
{
    struct envelope env = f->envelope;
    struct arena *a = arena_new();
    json_t *body = json_pack("{s:s, s:I, s:I}", "turn_id", f->turn_id, "epoch",
                             (json_int_t)events_epoch(f->sse.events), "offset",
                             (json_int_t)events_offset(f->sse.events));
    const char *text;
    size_t n;
    bool told;

    env.type = type;
    env.correlation_id = f->id;
    text = body_text(a, body, &n);
    told = rpc_control(f->request->gateway->rpc, a, &env, text, n);
    json_decref(body);
    arena_free(a);
    return told;
}

/* What the end of the request has to free beside it. */
static void let_go(struct follow *f)
{
    if (f->asked)
        rpc_end(f->asked);
    if (f->pieces) {
        rpc_end(f->pieces);
        tell_workers(f, CONTROL_LEAVE);
    }
    timer_free(f->look);
}

static void client_left(void *arg, bool slow)
{
    struct follow *f = arg;

    let_go(f);
    sse_end_left(&f->sse, slow);
}

static void look_after(struct follow *f, int64_t ms)
{
    f->wait_ms = ms;
    if (!f->asked)
        timer_set(f->look, ms);
}

static void give_up(struct follow *f, const struct rpc_result *result)
{
    const char *error;
    struct buf out;

    sse_buffer(&out);
    error = sse_problem(&f->sse, answer_problem(f->request, result), &out);
    sse_send(&f->sse, &out);
    let_go(f);
    sse_end(&f->sse, error);
}

static void piece_came(void *arg, const struct rpc_result *result, bool last)
{
    struct follow *f = arg;
    struct buf out;

    if (last) { /* the shim is stopping */
        f->pieces = NULL;
        give_up(f, result);
        return;
    }
    if (result->type == RPC_GENERATED) { /* and is being saved */
        f->whole = true;
        look_after(f, LOOK_SOON_MS);
        return;
    }
    sse_buffer(&out);
    if (result->type == RPC_INTERIM)
        events_interim(f->sse.events, result->body, result->body_len, &out);
    else if (result->type == RPC_DELTA)
        sse_delta(&f->sse, result, &out);
    sse_send(&f->sse, &out);
    if (!f->whole)
        look_after(f, LOOK_MS);
}

/* ---- what became of the turn ---- */

static void begin(struct follow *f)
{
    if (!sse_started(&f->sse))
        sse_start(&f->sse, client_left, f);
}

static void under_way(struct follow *f, const json_t *turn)
{
    json_t *notice;
    struct buf out;
    char *text;

    begin(f);
    if (!f->pieces) {
        notice = json_pack("{s:s, s:O*, s:O*, s:s}", "turn_id", f->turn_id, "conversation_id",
                           json_object_get(turn, "conversation_id"), "user_message_id",
                           json_object_get(turn, "user_message_id"), "state", "accepted");
        text = json_dumps(notice, JSON_COMPACT);
        sse_buffer(&out);
        events_accepted(f->sse.events, text, strlen(text), &out); /* unless the client has it */
        sse_send(&f->sse, &out);
        free(text);
        json_decref(notice);
        f->pieces = rpc_follow(f->request->gateway->rpc, f->id, piece_came, f);
    }
    if (!f->whole ||
        f->wait_ms == LOOK_MS) /* whoever had it all may have gone before it was safe */
        tell_workers(f, CONTROL_RESUME);
    look_after(f, f->wait_ms * 2 < LOOK_MS ? f->wait_ms * 2 : LOOK_MS);
}

static int64_t epoch_of(const json_t *message)
{
    return json_integer_value(json_object_get(json_object_get(message, "metadata"), "epoch"));
}

static const json_t *answer_of(const json_t *result)
{
    const json_t *answer = json_object_get(result, "assistant_message");

    return answer ? answer : json_object_get(result, "new_message");
}

/* It is over. Returns what went wrong, NULL for nothing. */
static const char *tell_end(struct follow *f, const json_t *turn, struct buf *out)
{
    json_t *result = json_object_get(turn, "result"), *problem = json_object_get(turn, "problem");
    const json_t *answer = answer_of(result);
    char *text;

    if (json_is_object(problem)) {
        sse_problem(&f->sse, json_incref(problem), out);
        return "the turn failed";
    }
    if (!json_is_object(result))
        return sse_problem(
            &f->sse,
            problem_new(500, "the turn's outcome cannot be read", f->request->correlation_id, NULL),
            out);
    text = json_dumps(result, JSON_COMPACT);
    events_completed(f->sse.events, epoch_of(answer), text, strlen(text), out);
    free(text);
    return NULL;
}

static void ended(struct follow *f, const json_t *turn)
{
    const char *error;
    struct buf out;

    begin(f);
    sse_buffer(&out);
    error = tell_end(f, turn, &out);
    sse_send(&f->sse, &out);
    let_go(f);
    sse_end(&f->sse, error);
}

/* What kept us from knowing may pass: broker or database are away, say. */
static void unknown(struct follow *f, const struct rpc_result *result)
{
    int64_t silent_ms = (clock_monotonic_us() - f->known_us) / 1000;

    if (!sse_started(&f->sse)) {
        let_go(f);
        sse_fini(&f->sse);
        answer_result(f->request, result);
    } else if (result->status < 500) { /* deleted meanwhile */
        give_up(f, &(struct rpc_result){.status = result->status,
                                        .why = "the turn is not there any more"});
    } else if (silent_ms > PATIENCE_MS) {
        give_up(f, &(struct rpc_result){.status = 503,
                                        .why = "nothing is to be heard of the turn at the moment"});
    } else {
        look_after(f, LOOK_MS);
    }
}

static void told(void *arg, const struct rpc_result *result, bool last)
{
    struct follow *f = arg;
    const char *state;
    json_t *turn;

    (void)last;
    f->asked = NULL;
    if (result->type != RPC_REPLY || result->status != 200) {
        unknown(f, result);
        return;
    }
    turn = json_loadb(result->body, result->body_len, 0, NULL);
    state = json_string_value(json_object_get(turn, "state"));
    if (!state) {
        unknown(f, &(struct rpc_result){.status = 502, .why = "a worker's answer cannot be read"});
    } else if (strcmp(state, "accepted") == 0) {
        f->known_us = clock_monotonic_us();
        under_way(f, turn);
    } else {
        ended(f, turn);
    }
    json_decref(turn);
}

/* Each time with an id of its own: answers to an earlier look may still come. */
static bool ask(struct follow *f, const char *correlation_id, struct err *e)
{
    struct request *r = f->request;
    struct envelope env = f->envelope;
    json_t *args = json_pack("{s:s}", "turn_id", f->turn_id);
    struct arena *a = arena_new();
    const char *text;
    size_t n;

    env.correlation_id = correlation_id;
    text = body_text(a, args, &n);
    f->asked = rpc_call(r->gateway->rpc, r->operation, a, &env, text, n, RPC_ONE, told, f, e);
    json_decref(args);
    arena_free(a);
    return f->asked != NULL;
}

static void look_again(void *arg)
{
    struct follow *f = arg;
    char id[UUID_TEXT];
    struct err e;

    if (!f->asked && !ask(f, uuid_v7(id), &e))
        unknown(f, &(struct rpc_result){.status = e.status, .why = e.text});
}

void follow_call(struct request *r, const struct envelope *env, const char *turn_id)
{
    struct follow *f = arena_alloc(r->arena, sizeof(*f));
    struct events *events;
    struct err e;
    char *id = arena_strdup(r->arena, turn_id);

    text_lower(id);
    events = read_place(r, id, &e);
    if (!events) {
        respond_problem(r, e.status, e.text, NULL);
        return;
    }
    f->request = r;
    f->envelope = *env;
    f->turn_id = id;
    f->wait_ms = LOOK_SOON_MS;
    f->known_us = clock_monotonic_us();
    uuid_v7(f->id);
    sse_init(&f->sse, r, events);
    f->look = timer_new(r->gateway->loop, look_again, f);
    if (!ask(f, r->correlation_id, &e)) {
        let_go(f);
        sse_fini(&f->sse);
        respond_problem(r, e.status, e.text, NULL);
    }
}
