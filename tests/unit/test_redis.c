/* The client of Redis against a server that says what it is told. */
#include "common/io/redis.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "common/base/log.h"
#include "tests/unit/unit.h"

enum { TIMEOUT_MS = 20000, LONG_MS = 15000, SHORT_MS = 400 };

#define LOGIN_DONE "+OK\r\n+PONG\r\n" /* to CLIENT SETNAME and PING */

/* The server: each answer is sent when its text has been heard (anything, if that is empty). */
struct turn {
    const char *heard, *answer; /* NULL: it hangs up */
};

static struct {
    struct loop *loop;
    struct evconnlistener *listener;
    struct bufferevent *client;
    const struct turn *turns;
    size_t count, next;
    char url[64];
    struct redis *redis;
    int ups, downs, dones, failures;
    int64_t integers[3];
    char why[256], error[256];
    struct timer *deadline;
    bool late;
} t;

static struct redis_script script = {.name = "test", .text = "return {1, 2}"};

static void talk(struct bufferevent *client, void *arg)
{
    struct evbuffer *input = bufferevent_get_input(client);

    (void)arg;
    while (t.next < t.count) {
        const struct turn *turn = &t.turns[t.next];
        struct evbuffer_ptr at = evbuffer_search(input, turn->heard, strlen(turn->heard), NULL);

        if (at.pos < 0)
            return;
        evbuffer_drain(input, (size_t)at.pos + strlen(turn->heard));
        t.next++;
        if (turn->answer) {
            bufferevent_write(client, turn->answer, strlen(turn->answer));
        } else {
            bufferevent_free(client);
            t.client = NULL;
            return;
        }
    }
}

static void gone(struct bufferevent *client, short what, void *arg)
{
    (void)what;
    (void)arg;
    bufferevent_free(client);
    if (t.client == client)
        t.client = NULL;
}

static void came(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *a, int n, void *arg)
{
    (void)l;
    (void)a;
    (void)n;
    (void)arg;
    t.client = bufferevent_socket_new(loop_base(t.loop), fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(t.client, talk, NULL, gone, NULL);
    bufferevent_enable(t.client, EV_READ | EV_WRITE);
    if (t.next < t.count && !*t.turns[t.next].heard)
        talk(t.client, NULL);
}

static void too_late(void *arg)
{
    (void)arg;
    t.late = true;
    loop_stop(t.loop);
}

static void up(void *arg)
{
    (void)arg;
    t.ups++;
    loop_stop(t.loop);
}

static void down(void *arg, const struct err *why)
{
    (void)arg;
    t.downs++;
    snprintf(t.why, sizeof(t.why), "%s", why->text);
    loop_stop(t.loop);
}

static void done(void *arg, const struct redis_answer *a, const struct err *e)
{
    size_t i;

    CU_ASSERT_PTR_EQUAL(arg, &t);
    t.dones++;
    t.failures += e != NULL;
    if (e)
        snprintf(t.error, sizeof(t.error), "%s", e->text);
    for (i = 0; a && i < COUNT(t.integers); i++)
        t.integers[i] = redis_integer(a, i);
    loop_stop(t.loop);
}

/* Until one of the callbacks above. */
static void run(void)
{
    timer_set(t.deadline, TIMEOUT_MS);
    loop_run(t.loop);
    CU_ASSERT_FALSE_FATAL(t.late);
}

/* is_silent: the server is, and is not waited for long. */
static void begin(const struct turn *turns, size_t count, const char *login, const char *path,
                  bool is_silent)
{
    static const struct redis_events events = {up, down};
    struct redis_config config = {.name = "tester", .backoff_max_ms = 100};
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(here);
    struct err e;

    memset(&t, 0, sizeof(t));
    config.connect_timeout_ms = config.answer_timeout_ms = is_silent ? SHORT_MS : LONG_MS;
    t.turns = turns;
    t.count = count;
    t.loop = loop_new();
    t.deadline = timer_new(t.loop, too_late, NULL);
    t.listener = evconnlistener_new_bind(loop_base(t.loop), came, NULL, LEV_OPT_CLOSE_ON_FREE, -1,
                                         (struct sockaddr *)&here, sizeof(here));
    CU_ASSERT_PTR_NOT_NULL_FATAL(t.listener);
    getsockname(evconnlistener_get_fd(t.listener), (struct sockaddr *)&here, &n);
    snprintf(t.url, sizeof(t.url), "redis://%s127.0.0.1:%d%s", login, ntohs(here.sin_port), path);
    config.url = t.url;
    t.redis = redis_open(t.loop, &config, &events, &t, &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(t.redis);
}

static void end(void)
{
    redis_free(t.redis);
    if (t.client)
        bufferevent_free(t.client);
    evconnlistener_free(t.listener);
    timer_free(t.deadline);
    loop_free(t.loop);
}

static struct redis_call *eval(void)
{
    const char *const args[] = {"key", "one", "two words"};

    return redis_eval(t.redis, &script, 1, 3, args, done, &t);
}

static void urls(void)
{
    static const struct {
        const char *url, *host; /* NULL: refused */
        int port, database;
    } cases[] = {
        {"redis://localhost", "localhost", 6379, 0},
        {"redis://h:1234/", "h", 1234, 0},
        {"redis://:pw@h:1/15", "h", 1, 15},
        {"redis://u:p%40w@10.0.0.1/0", "10.0.0.1", 6379, 0},
        {"redis://[::1]:7000/2", "::1", 7000, 2},
        {"localhost:6379", NULL, 0, 0},
        {"http://localhost", NULL, 0, 0},
        {"rediss://localhost", NULL, 0, 0},
        {"redis://", NULL, 0, 0},
        {"redis://h:0", NULL, 0, 0},
        {"redis://h:70000", NULL, 0, 0},
        {"redis://h/x", NULL, 0, 0},
        {"redis://h/-1", NULL, 0, 0},
        {"redis://h/1/2", NULL, 0, 0},
        {"redis://h/99999999999999999999", NULL, 0, 0},
        {"redis://h?a=b", NULL, 0, 0},
        {"redis://h#a", NULL, 0, 0},
        {"", NULL, 0, 0},
    };
    size_t i;

    for (i = 0; i < COUNT(cases); i++) {
        char *host = NULL;
        int port = 0, database = 0;
        struct err e;
        int failed = redis_url_read(cases[i].url, &host, &port, &database, &e);

        CU_ASSERT_EQUAL(failed, cases[i].host ? 0 : -1);
        if (!failed && cases[i].host) {
            CU_ASSERT_STRING_EQUAL(host, cases[i].host);
            CU_ASSERT_EQUAL(port, cases[i].port);
            CU_ASSERT_EQUAL(database, cases[i].database);
        }
        free(host);
    }
}

static void logs_in(void)
{
    static const struct turn turns[] = {
        {"*3\r\n$4\r\nAUTH\r\n$3\r\nada\r\n$6\r\np@ss/ \r\n", "+OK\r\n"},
        {"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n", "+OK\r\n"},
        {"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$6\r\ntester\r\n", "-ERR not allowed\r\n"},
        {"*1\r\n$4\r\nPING\r\n", "+PONG\r\n"},
    };

    begin(turns, COUNT(turns), "ada:p%40ss%2F%20@", "/3", false);
    CU_ASSERT_PTR_NULL(eval());
    run();
    CU_ASSERT_EQUAL(t.ups, 1); /* the name is not needed */
    CU_ASSERT_TRUE(redis_is_up(t.redis));
    end();
}

/* Each is told with the server's words, and tried again. */
static void servers_of_no_use(void)
{
    static const struct {
        struct turn turn;
        const char *why;
    } cases[] = {
        {{"AUTH", "-WRONGPASS invalid password\r\n"}, "WRONGPASS"},
        {{"PING", "+OK\r\n+OK\r\n-LOADING the dataset\r\n"}, "LOADING"},
        {{"PING", "HTTP/1.1 400 Bad Request\r\n\r\n"}, "Protocol error"},
        {{"PING", NULL}, "closed the connection"},
        {{"PING", "+OK\r\n+OK\r\n"}, "no answer within"},
        {{"", "+what\r\n+nobody\r\n+asked\r\n+for\r\n+all\r\n+this\r\n"}, "nobody asked"},
    };
    size_t i;

    for (i = 0; i < COUNT(cases); i++) {
        begin(&cases[i].turn, 1, ":wrong@", "", strstr(cases[i].why, "no answer") != NULL);
        while (t.downs == 0 && !t.late)
            run();
        CU_ASSERT_PTR_NOT_NULL(strstr(t.why, cases[i].why));
        CU_ASSERT_FALSE(redis_is_up(t.redis));
        end();
    }
}

static void runs_scripts(void)
{
    static const struct turn turns[] = {
        {"PING", LOGIN_DONE},
        {"*6\r\n$4\r\nEVAL\r\n$13\r\nreturn {1, 2}\r\n$1\r\n1\r\n$3\r\nkey\r\n$3\r\none\r\n"
         "$9\r\ntwo words\r\n",
         "*2\r\n:7\r\n:-8\r\n"},
        {"EVALSHA", ":9\r\n"},
        {"EVALSHA", "-NOSCRIPT No matching script\r\n"},
        {"EVAL\r\n$13\r\nreturn {1, 2}", "*1\r\n:10\r\n"},
        {"EVALSHA", "-ERR it went wrong\r\n"},
        {"EVALSHA", "*2\r\n$3\r\ntwo\r\n:11\r\n"},
    };

    script.connection = 0;
    begin(turns, COUNT(turns), "", "", false);
    run();
    CU_ASSERT_PTR_NOT_NULL(eval());
    run();
    CU_ASSERT_EQUAL(t.integers[0], 7);
    CU_ASSERT_EQUAL(t.integers[1], -8);
    CU_ASSERT_EQUAL(t.integers[2], 0);
    eval();
    run();
    CU_ASSERT_EQUAL(t.integers[0], 9);
    eval();
    run();
    CU_ASSERT_EQUAL(t.integers[0], 10);
    CU_ASSERT_EQUAL(t.failures, 0);
    eval();
    run();
    CU_ASSERT_EQUAL(t.failures, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(t.error, "it went wrong"));
    CU_ASSERT_TRUE(redis_is_up(t.redis));
    eval();
    run();
    CU_ASSERT_EQUAL(t.integers[0], 0);
    CU_ASSERT_EQUAL(t.integers[1], 11);
    CU_ASSERT_EQUAL(t.dones, 5);
    end();
}

/* All calls under way fail; then it is there again, and brings its scripts anew. */
static void loses_calls(const char *answer, const char *why)
{
    const struct turn turns[] = {
        {"PING", LOGIN_DONE}, {"EVAL", answer}, {"PING", LOGIN_DONE}, {"EVAL\r\n", ":5\r\n"}};

    script.connection = 0;
    begin(turns, COUNT(turns), "", "", strstr(why, "no answer") != NULL);
    run();
    eval();
    eval();
    redis_forget(eval());
    while (t.downs == 0 && !t.late)
        run();
    CU_ASSERT_EQUAL(t.dones, 2);
    CU_ASSERT_EQUAL(t.failures, 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(t.error, why));
    CU_ASSERT_PTR_NULL(eval());
    while (t.ups < 2 && !t.late)
        run();
    eval();
    run();
    CU_ASSERT_EQUAL(t.integers[0], 5);
    end();
}

static void losses(void)
{
    loses_calls(NULL, "closed the connection");
    loses_calls("", "no answer within");
    loses_calls("-READONLY You can't write against a read only replica.\r\n", "READONLY");
    loses_calls("?\r\n", "Protocol error");
}

static void ends_with_calls(void)
{
    static const struct turn turns[] = {{"PING", LOGIN_DONE}};

    begin(turns, COUNT(turns), "", "", false);
    run();
    eval();
    eval();
    end();
    CU_ASSERT_EQUAL(t.dones, 0);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"URLs", urls},
        {"logs in", logs_in},
        {"servers of no use", servers_of_no_use},
        {"runs scripts", runs_scripts},
        {"losses", losses},
        {"ends with calls", ends_with_calls},
        CU_TEST_INFO_NULL,
    };

    if (log_open("test_redis", "error", "/dev/null", NULL))
        return 1;
    return unit_main("redis", tests);
}
