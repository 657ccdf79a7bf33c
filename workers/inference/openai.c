/*
 * Chat completions of OpenAI-compatible servers, OpenRouter among them, streamed or not.
 *
 * An answer is complete when its protocol says so, by a finish_reason or [DONE], never because the
 * connection ended. What goes wrong before the first piece of text may be tried again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/program.h"
#include "common/base/text.h"
#include "common/io/http.h"
#include "workers/inference/completion.h"
#include "workers/inference/models.h"
#include "workers/inference/privacy.h"
#include "workers/inference/provider.h"
#include "workers/inference/refusal.h"
#include "workers/inference/settings.h"
#include "workers/inference/sse.h"

enum {
    HEADERS = 4,
    ESCAPED = 6,            /* bytes of JSON that a byte of text may take */
    OVERHEAD = 65536,       /* bytes of JSON around a text */
    CHUNK_OVERHEAD = 512,   /* bytes of a stream for each byte of text, at most */
    AFTER_FINISH_MS = 2000, /* how long usage and [DONE] are waited for after the last word */
    DAY_S = 86400,
    LOOK_UP_MS = 15000,
    AFTER_DONE_MS = 250, /* how long the connection's end is, to be able to use it again */
};

static const char completions[] = "/chat/completions"; /* behind a server's address */

struct server;

/* One request to a server. */
struct ask {
    const struct server *server;
    struct generation *generation;
    struct http_call *call; /* NULL: ended */
    struct timer *timer;    /* of a streamed answer: for its next word */
    int64_t heard_us;       /* when the last word came, or the beginning; monotonic */
    bool heard;             /* any word, also of the model's thoughts */
    bool events;            /* the body is a stream of events */
    bool sent;              /* the request was, when the call ended */
    bool ended, done;       /* finish_reason or [DONE] came; [DONE] came */
    struct sse sse;
    struct buf body; /* of an answer or error that comes in one piece */
};

/* Where to ask, and what differs between servers. */
static struct server {
    struct loop *loop;
    struct http_client *client;
    const char *key;
    char *url;
    char *headers[HEADERS + 1];
    size_t headers_count;
    char user_agent[64];
} openrouter, openai, llamacpp;

/* ---- the end of a request ---- */

static void ask_free(struct ask *ask)
{
    if (ask->call)
        http_call_cancel(ask->call);
    timer_free(ask->timer);
    sse_fini(&ask->sse);
    buf_free(&ask->body);
    free(ask);
}

static void fail_refused(struct ask *ask, const struct failure *f)
{
    struct generation *g = ask->generation;

    ask_free(ask);
    generation_fail(g, f);
}

/* Not refused, so that it may have cost something. */
static void fail(struct ask *ask, const struct failure *f)
{
    struct failure in_doubt = *f;

    in_doubt.in_doubt = ask->call ? http_call_sent(ask->call) : ask->sent;
    fail_refused(ask, &in_doubt);
}

/* The service's own fault if it may pass, else the model's. */
static void fail_text(struct ask *ask, const char *status, enum err_kind kind, int code,
                      const char *text)
{
    struct failure f = {.status = status, .blame = kind == ERR_RETRY ? BLAME_SERVICE : BLAME_MODEL};

    err_set(&f.why, kind, code, "%s", text);
    fail(ask, &f);
}

static bool is_blank(const struct buf *text)
{
    return strspn(text->data, " \t\r\n") == text->len;
}

/* The protocol's end has come. */
static void complete(struct ask *ask)
{
    struct generation *g = ask->generation;
    const char *reason = g->answer.finish_reason;

    generation_text_ended(g);
    if (!is_blank(&g->text)) {
        ask_free(ask);
        generation_done(g);
        return;
    }
    if (reason && strcmp(reason, "length") == 0)
        fail_text(ask, "empty", ERR_FATAL, 502,
                  "the model used up MAX_TOKENS before the first word of its answer");
    else if (reason && strcmp(reason, "content_filter") == 0)
        fail_text(ask, "empty", ERR_FATAL, 502, "the model's answer was withheld by a filter");
    else
        fail_text(ask, "empty", ERR_RETRY, 502, "the model gave an empty answer");
}

/* ---- errors of the server ---- */

/* waits: what the server asked for; NULL: nothing. */
static void fail_status(struct ask *ask, int code, const char *words, const struct failure *waits)
{
    char status[16];
    struct failure f = {.status = NULL};

    if (waits)
        f = *waits;
    f.status = status;
    f.blame = refusal_explain(code, words, ask->server->key, &f.why);
    snprintf(status, sizeof(status), "%d", code);
    fail_refused(ask, &f);
}

/* An error that the server tells within a 200. */
static void fail_completion(struct ask *ask, const struct completion *c)
{
    fail_status(ask, c->error_status ? c->error_status : 502, c->error, NULL);
}

/* Seconds, or a date as HTTP has it, a day at most; what is neither, or has passed, asks for nothing. */
static int64_t wait_asked_ms(const char *retry_after)
{
    struct tm tm = {0};
    char *end;
    double seconds;

    if (!retry_after)
        return 0;
    seconds = strtod(retry_after, &end);
    if (end == retry_after || *end)
        seconds = strptime(retry_after, "%a, %d %b %Y %H:%M:%S GMT", &tm)
                      ? (double)timegm(&tm) - (double)clock_wall_ms() / 1000
                      : 0;
    if (!(seconds > 0))
        return 0;
    return seconds < DAY_S ? (int64_t)(seconds * 1000) : DAY_S * 1000;
}

/* How long OpenRouter's account has no request left: the end is told in milliseconds since 1970. */
static int64_t quota_ended_ms(const struct http_call *call)
{
    const char *left = http_call_header(call, "X-RateLimit-Remaining");
    const char *reset = http_call_header(call, "X-RateLimit-Reset");
    int64_t now_ms = clock_wall_ms(), until_ms;
    char *end;

    if (!left || strcmp(left, "0") != 0 || !reset)
        return 0;
    until_ms = strtoll(reset, &end, 10);
    return *end || until_ms <= now_ms ? 0 : until_ms - now_ms;
}

/* The answer to a request that the server refused. */
static void fail_answer(struct ask *ask)
{
    int code = http_call_status(ask->call);
    const char *retry_after = http_call_header(ask->call, "Retry-After");
    const struct failure waits = {.retry_after_ms = wait_asked_ms(retry_after),
                                  .no_free_ms = code == 429 ? quota_ended_ms(ask->call) : 0};
    struct completion c;

    log_event(LOG_WARN, "model server refused", LOG_NUM("status", code),
              LOG_STR("retry_after", retry_after));
    if (completion_read(&c, ask->body.data ? ask->body.data : "", ask->body.len))
        memset(&c, 0, sizeof(c));
    fail_status(ask, code, c.error, &waits);
    completion_fini(&c);
}

/* ---- what is in an answer ---- */

static const char *keep(struct generation *g, const char *before, const char *text)
{
    return before || !text ? before : arena_strdup(g->arena, text);
}

/* Take over what a chunk or a whole answer says. Returns -1 when the request has ended by it. */
static int take(struct ask *ask, const struct completion *c)
{
    struct generation *g = ask->generation;
    struct answer *a = &g->answer;
    struct failure f = {.status = "too_large", .blame = BLAME_MODEL};

    if (c->failed) {
        fail_completion(ask, c);
        return -1;
    }
    a->generation_id = keep(g, a->generation_id, c->id);
    if (a->generation_id && ask->events && !c->finish_reason)
        generation_named(g);
    a->model = keep(g, a->model, c->model);
    a->finish_reason = keep(g, a->finish_reason, c->finish_reason);
    if (c->has_usage) {
        a->has_usage = true;
        a->prompt_tokens = c->prompt_tokens;
        a->completion_tokens = c->completion_tokens;
        a->total_tokens = c->total_tokens;
        a->has_cost = c->has_cost;
        a->cost = c->cost;
    }
    if (generation_text(g, c->text, c->text_len, &f.why)) {
        fail(ask, &f);
        return -1;
    }
    return 0;
}

/* ---- a streamed answer ---- */

static int64_t patience_ms(const struct ask *ask)
{
    if (ask->done)
        return AFTER_DONE_MS;
    if (ask->ended)
        return AFTER_FINISH_MS;
    return (ask->heard ? inference_settings.idle_timeout_s
                       : inference_settings.first_token_timeout_s) *
           1000;
}

static int64_t patience_left_ms(const struct ask *ask)
{
    return patience_ms(ask) - (clock_monotonic_us() - ask->heard_us) / 1000;
}

static void silent(void *arg)
{
    struct ask *ask = arg;
    struct failure f = {.status = "timeout", .blame = BLAME_SERVICE};

    if (patience_left_ms(ask) > 0) {
        timer_set(ask->timer, patience_left_ms(ask));
        return;
    }
    if (ask->ended) { /* only what comes after an answer is missing */
        complete(ask);
        return;
    }
    err_set(&f.why, ERR_FATAL, 504,
            ask->heard ? "the model fell silent for %lld s in the middle of its answer"
                       : "the model gave no word within %lld s",
            (long long)patience_ms(ask) / 1000);
    fail(ask, &f);
}

/* The timer is not set anew for every word: when it fires, it looks how long ago the last was. But a
 * shorter patience than before must be set. */
static void heard(struct ask *ask)
{
    int64_t before_ms = patience_ms(ask);

    ask->heard = true;
    ask->heard_us = clock_monotonic_us();
    generation_heard(ask->generation);
    if (patience_ms(ask) < before_ms)
        timer_set(ask->timer, patience_ms(ask));
}

static void has_ended(struct ask *ask, bool by_done)
{
    ask->heard_us = clock_monotonic_us();
    ask->heard = true;
    ask->ended = true;
    ask->done |= by_done;
    timer_set(ask->timer, patience_ms(ask));
}

static bool event_came(void *arg, const char *data, size_t n)
{
    struct ask *ask = arg;
    struct completion c;
    bool goes_on;

    if (strcmp(data, "[DONE]") == 0) {
        has_ended(ask, true);
        return true;
    }
    if (n == 0)
        return true;
    if (completion_read(&c, data, n)) {
        fail_text(ask, "unreadable", ERR_RETRY, 502,
                  "the model's server streamed something that is no JSON object");
        return false;
    }
    goes_on = take(ask, &c) == 0;
    if (goes_on && c.finish_reason)
        has_ended(ask, false);
    else if (goes_on && (c.text || c.thinks))
        heard(ask);
    completion_fini(&c);
    return goes_on;
}

static void whole_came(struct ask *ask)
{
    struct completion c;

    if (completion_read(&c, ask->body.data ? ask->body.data : "", ask->body.len)) {
        fail_text(ask, "unreadable", ERR_RETRY, 502,
                  "the model's server answered with something that is no JSON object");
        return;
    }
    if (take(ask, &c) == 0) {
        if (c.choices > 0)
            complete(ask);
        else
            fail_text(ask, "empty", ERR_RETRY, 502, "the model's server answered with no choices");
    }
    completion_fini(&c);
}

/* ---- the call ---- */

static void on_answered(void *arg, struct http_call *call)
{
    const char *type = http_call_header(call, "Content-Type");
    struct ask *ask = arg;
    struct answer *a = &ask->generation->answer;

    if (ask->server == &openrouter) {
        a->generation_id =
            keep(ask->generation, a->generation_id, http_call_header(call, "X-Generation-Id"));
        if (a->generation_id)
            generation_named(ask->generation);
    }

    ask->events =
        http_call_status(call) == 200 && type && strncasecmp(type, "text/event-stream", 17) == 0;
    /* What is asked for in one piece, or comes so, has its whole time. */
    if (!ask->events)
        timer_stop(ask->timer);
}

static void on_data(void *arg, struct http_call *call, const char *bytes, size_t n)
{
    struct ask *ask = arg;

    (void)call;
    if (!ask->events) {
        buf_add(&ask->body, bytes, n); /* what does not fit of an error is not missed */
        return;
    }
    if (sse_read(&ask->sse, bytes, n, event_came, ask)) /* 0 also when the request is gone */
        fail_text(ask, "too_large", ERR_FATAL, 502,
                  "a line of the model's answer is longer than allowed");
}

static void connection_failed(struct ask *ask, const struct err *why)
{
    bool in_time = why->status != 504;
    struct failure f = {.why = *why};

    if (!in_time)
        f.why.kind = ERR_FATAL; /* who waits has waited long enough */
    err_context(&f.why, "the model's server");
    f.status = !in_time ? "timeout" : why->kind == ERR_RETRY ? "unreachable" : "too_large";
    f.blame = !in_time || why->kind == ERR_RETRY ? BLAME_SERVICE : BLAME_MODEL;
    fail(ask, &f);
}

static void on_done(void *arg, struct http_call *call, const struct err *e)
{
    struct ask *ask = arg;

    if (!e && http_call_status(call) != 200) {
        fail_answer(ask);
        return;
    }
    ask->sent = http_call_sent(call);
    ask->call = NULL; /* freed by the client */
    if (ask->ended)
        complete(ask);
    else if (e)
        connection_failed(ask, e);
    else if (ask->events)
        fail_text(ask, "truncated", ERR_RETRY, 502, "the model's answer broke off");
    else
        whole_came(ask);
}

static const struct http_call_events events = {on_answered, on_data, on_done};

/* Takes the messages. */
static char *request_body(const struct server *server, const struct generation *g, json_t *messages)
{
    const struct inference_settings *s = &inference_settings;
    json_t *request =
        json_pack("{s:s, s:o, s:I, s:f}", "model", g->model->name, "messages", messages,
                  "max_tokens", (json_int_t)s->max_tokens, "temperature", s->temperature);
    char *text;

    if (g->user_id)
        json_object_set_new(request, "user", json_string(g->user_id));
    if (g->stream)
        json_object_set_new(request, "stream", json_true());
    if (server == &openrouter)
        json_object_set_new(request, "usage", json_pack("{s:b}", "include", true));
    else if (g->stream)
        json_object_set_new(request, "stream_options", json_pack("{s:b}", "include_usage", true));
    text = json_dumps(request, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(request);
    return text;
}

static void begin(const struct server *server, struct generation *g)
{
    const struct inference_settings *s = &inference_settings;
    size_t text_max = (size_t)s->answer_max * ESCAPED + OVERHEAD;
    struct http_call_request request = {
        .url = server->url,
        .headers = (const char *const *)server->headers,
        .response_max = g->stream ? (size_t)s->answer_max * CHUNK_OVERHEAD + OVERHEAD : text_max,
        .connect_timeout_ms = s->connect_timeout_s * 1000,
        .total_timeout_ms = s->timeout_s * 1000,
    };
    struct failure f = {.status = "withheld", .blame = BLAME_MODEL};
    json_t *messages = privacy_messages(&g->privacy, g->messages, g->personal, server->url, &f.why);
    struct ask *ask;

    if (!messages) {
        generation_fail(g, &f);
        return;
    }
    ask = mem_alloc(sizeof(*ask));
    request.body = request_body(server, g, messages);
    request.body_len = strlen(request.body);
    g->work = ask;
    ask->server = server;
    ask->generation = g;
    ask->heard_us = clock_monotonic_us();
    ask->timer = timer_new(server->loop, silent, ask);
    sse_init(&ask->sse, text_max);
    buf_init(&ask->body, text_max);
    if (g->stream)
        timer_set(ask->timer, patience_ms(ask));
    ask->call = http_call_start(server->client, &request, &events, ask);
}

static void cancel(struct generation *g)
{
    ask_free(g->work);
}

/* ---- life ---- */

static void stop(struct server *server)
{
    size_t i;

    http_client_free(server->client);
    free(server->url);
    for (i = 0; i < server->headers_count; i++)
        free(server->headers[i]);
    memset(server, 0, sizeof(*server));
}

static void add_header(struct server *server, const char *name, const char *value)
{
    if (*value)
        server->headers[server->headers_count++] = mem_printf("%s: %s", name, value);
}

static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

static int check(const char *url_name, const char *url, const char *key_name, const char *key,
                 struct err *e)
{
    if ((!text_starts_with(url, "http://") && !text_starts_with(url, "https://")) || !is_plain(url))
        return err_set(e, ERR_FATAL, 500, "%s must be an address as in https://host/v1", url_name);
    if (!is_plain(key))
        return err_set(e, ERR_FATAL, 500, "%s has a character that no key has", key_name);
    return 0;
}

static int start(struct server *server, struct loop *l, const char *url, const char *key,
                 struct err *e)
{
    const struct inference_settings *s = &inference_settings;
    struct http_client_config config = {
        .ca_file = s->ca_file, .connections_max = s->concurrency, .user_agent = server->user_agent};
    size_t n = strlen(url);

    while (n > 0 && url[n - 1] == '/')
        n--;
    server->loop = l;
    server->key = key;
    server->url = mem_printf("%.*s%s", (int)n, url, completions);
    snprintf(server->user_agent, sizeof(server->user_agent), "chatfleet/%s", program_version());
    add_header(server, "Content-Type", "application/json");
    if (*key)
        server->headers[server->headers_count++] = mem_printf("Authorization: Bearer %s", key);
    server->client = http_client_new(l, &config, e);
    if (server->client)
        return 0;
    stop(server);
    return -1;
}

/* ---- OpenRouter ---- */

static int start_openrouter(struct loop *l, struct err *e)
{
    const struct inference_settings *s = &inference_settings;

    if (check("OPENROUTER_BASE_URL", s->openrouter_url, "OPENROUTER_API_KEY", s->openrouter_key, e))
        return -1;
    add_header(&openrouter, "HTTP-Referer", s->openrouter_referer);
    add_header(&openrouter, "X-Title", s->openrouter_title);
    return start(&openrouter, l, s->openrouter_url, s->openrouter_key, e);
}

static void stop_openrouter(void)
{
    stop(&openrouter);
}

static void begin_openrouter(struct generation *g)
{
    begin(&openrouter, g);
}

static struct http_call *look_up(const char *generation_id, const struct http_call_events *told,
                                 void *arg)
{
    const struct inference_settings *s = &inference_settings;
    char *url =
        mem_printf("%.*s/generation?id=%s", (int)(strlen(openrouter.url) - strlen(completions)),
                   openrouter.url, generation_id);
    struct http_call_request request = {
        .url = url,
        .headers = (const char *const *)openrouter.headers,
        .response_max = OVERHEAD,
        .connect_timeout_ms = s->connect_timeout_s * 1000,
        .total_timeout_ms = LOOK_UP_MS,
    };
    struct http_call *call = http_call_start(openrouter.client, &request, told, arg);

    free(url);
    return call;
}

const struct provider provider_openrouter = {"openrouter",     start_openrouter, stop_openrouter,
                                             begin_openrouter, cancel,           look_up};

/* ---- any compatible server ---- */

static int start_openai(struct loop *l, struct err *e)
{
    const struct inference_settings *s = &inference_settings;
    const char *url = *s->openai_url ? s->openai_url : "https://api.openai.com/v1";

    if (check("OPENAI_BASE_URL", url, "OPENAI_API_KEY", s->openai_key, e))
        return -1;
    return start(&openai, l, url, s->openai_key, e);
}

static void stop_openai(void)
{
    stop(&openai);
}

static void begin_openai(struct generation *g)
{
    begin(&openai, g);
}

const struct provider provider_openai = {"openai",     start_openai, stop_openai,
                                         begin_openai, cancel,       NULL};

/* ---- llama.cpp's server ---- */

static int start_llamacpp(struct loop *l, struct err *e)
{
    const struct inference_settings *s = &inference_settings;

    if (check("LLAMACPP_BASE_URL", s->llamacpp_url, "LLAMACPP_API_KEY", s->llamacpp_key, e))
        return -1;
    return start(&llamacpp, l, s->llamacpp_url, s->llamacpp_key, e);
}

static void stop_llamacpp(void)
{
    stop(&llamacpp);
}

static void begin_llamacpp(struct generation *g)
{
    begin(&llamacpp, g);
}

const struct provider provider_llamacpp = {"llamacpp",     start_llamacpp, stop_llamacpp,
                                           begin_llamacpp, cancel,         NULL};
