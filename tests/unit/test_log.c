#include "common/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "common/base/mem.h"
#include "tests/unit/unit.h"

static char *path;
static FILE *lines;
static char *line;
static size_t line_room;

/* The next line of the log; NULL when there is none. */
static const char *next_line(void)
{
    clearerr(lines);
    return getline(&line, &line_room, lines) > 0 ? line : NULL;
}

/* The same as an object: it must be JSON and one line. NULL: no line. */
static json_t *next_object(void)
{
    const char *text = next_line();
    json_error_t e;
    json_t *object;

    if (!text)
        return NULL;
    CU_ASSERT_EQUAL(text[strlen(text) - 1], '\n');
    object = json_loads(text, JSON_REJECT_DUPLICATES, &e);
    CU_ASSERT_PTR_NOT_NULL(object);
    if (!object)
        fprintf(stderr, "%s: %.100s ... %s\n", e.text, text,
                text + (strlen(text) > 50 ? strlen(text) - 50 : 0));
    return object;
}

static const char *text_of(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "(none)";
}

static void what_a_line_holds(void)
{
    json_t *o;

    log_event(LOG_INFO, "listening", LOG_STR("address", "::1"), LOG_NUM("port", 8080),
              LOG_NUM("less", -3), LOG_STR("none", NULL), LOG_STR("empty", ""));
    o = next_object();
    CU_ASSERT_STRING_EQUAL(text_of(o, "event"), "listening");
    CU_ASSERT_STRING_EQUAL(text_of(o, "level"), "info");
    CU_ASSERT_STRING_EQUAL(text_of(o, "service"), "chatfleet-unit");
    CU_ASSERT_STRING_EQUAL(text_of(o, "address"), "::1");
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(o, "port")), 8080);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(o, "less")), -3);
    CU_ASSERT_EQUAL(strlen(text_of(o, "time")), 24);
    CU_ASSERT_EQUAL(text_of(o, "time")[23], 'Z');
    CU_ASSERT_EQUAL(json_object_size(o), 7); /* and nothing for the absent ones */
    json_decref(o);
    CU_ASSERT_PTR_NULL(next_line());
}

static void hostile_text(void)
{
    static const char *const texts[] = {
        "\"}\n{\"level\":\"error\"}",
        "\\",
        "\\\"",
        "\r\n\t\b\f\v\a\x01\x1f\x7f",
        "\x1b[2J\x1b]0;title\x07",
        "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80",
        "\xff\xfe\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80",
        "cut \xf0\x9f\x98",
        "\xe2\x80\xa8 line separator",
        "%s%n%99999d",
    };
    const char *raw;
    size_t i;

    for (i = 0; i < COUNT(texts); i++) {
        json_t *o;

        log_event(LOG_WARN, texts[i], LOG_STR("text", texts[i]), LOG_NUM("after", 1));
        o = next_object();
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(o, "after")), 1);
        CU_ASSERT_STRING_EQUAL(text_of(o, "level"), "warn");
        if (json_string_value(json_object_get(o, "text")) && !strchr(texts[i], '\xff') && i != 7)
            CU_ASSERT_STRING_EQUAL(text_of(o, "text"), texts[i]);
        CU_ASSERT_STRING_EQUAL(text_of(o, "text"), text_of(o, "event"));
        json_decref(o);
    }
    /* No control character reaches the file but the line's end. */
    log_event(LOG_WARN, "raw", LOG_STR("text", texts[3]), LOG_STR("more", texts[4]));
    raw = next_line();
    CU_ASSERT_PTR_NOT_NULL_FATAL(raw);
    for (i = 0; raw[i + 1]; i++)
        CU_ASSERT((unsigned char)raw[i] >= 0x20 && raw[i] != 0x7f);
}

/* However long the texts are, the line is JSON and ends. */
static void long_text(void)
{
    static char text[40000];
    size_t n;

    memset(text, '"', sizeof(text) - 1); /* two bytes each when escaped */
    for (n = 200; n < sizeof(text); n += n >= 7900 && n < 8300 ? 1 : 700) {
        char *cut = strndup(text, n);
        json_t *o;

        log_event(LOG_INFO, "long", LOG_STR("one", cut), LOG_STR("two", cut), LOG_NUM("n", 12345),
                  LOG_STR("three", "a short one"));
        o = next_object();
        CU_ASSERT_STRING_EQUAL(text_of(o, "event"), "long");
        if (n > 200 && n < 4000)
            CU_ASSERT_STRING_EQUAL(text_of(o, "two"), cut);
        if (n > 9000)
            CU_ASSERT_STRING_EQUAL(text_of(o, "two"), "(too long)");
        json_decref(o);
        free(cut);
    }
    log_event(LOG_INFO, text, LOG_NUM("n", 12345)); /* even the event */
    json_decref(next_object());
    CU_ASSERT_PTR_NULL(next_line());
}

static void levels(void)
{
    static const char *const names[] = {"debug", "INFO", "Warn", "error"};
    int i, k, seen;

    for (i = 0; i <= LOG_ERROR; i++) {
        CU_ASSERT_EQUAL(log_open("chatfleet-unit", names[i], NULL, NULL), 0);
        for (k = 0; k <= LOG_ERROR; k++) {
            CU_ASSERT_EQUAL(log_wanted((enum log_level)k), k >= i);
            log_event((enum log_level)k, "level", LOG_NUM("k", k));
        }
        for (seen = 0; next_line(); seen++)
            ;
        CU_ASSERT_EQUAL(seen, LOG_ERROR + 1 - i);
    }
    log_open("chatfleet-unit", "debug", "", NULL);
}

static void opens_its_file_anew(void)
{
    char *moved;

    CU_ASSERT(asprintf(&moved, "%s.1", path) > 0);
    CU_ASSERT_EQUAL(rename(path, moved), 0);
    log_event(LOG_INFO, "before", LOG_NUM("n", 1));
    CU_ASSERT_PTR_NOT_NULL(strstr(next_line(), "before")); /* into the file that was moved */
    log_reopen();
    log_event(LOG_INFO, "after", LOG_NUM("n", 1));
    CU_ASSERT_PTR_NULL(next_line());
    fclose(lines);
    lines = fopen(path, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(lines);
    CU_ASSERT_PTR_NOT_NULL(strstr(next_line(), "after"));
    unlink(moved);
    free(moved);
}

static void written_in_the_background(void)
{
    json_t *o;
    long i;

    log_background(true);
    for (i = 0; i < 1000; i++)
        log_event(LOG_INFO, "numbered", LOG_NUM("i", i));
    log_background(false); /* returns when all is written */
    for (i = 0; i < 1000; i++) {
        o = next_object();
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(o, "i")), i);
        json_decref(o);
    }
    CU_ASSERT_PTR_NULL(next_line());
}

/* Let a child copy what comes out of the pipe into a file, until its other ends are closed. */
static pid_t read_in_child(const int pipe_fds[2], const char *to)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (!freopen(to, "w", stdout) || dup2(pipe_fds[0], STDIN_FILENO) < 0)
            _exit(1);
        close(pipe_fds[1]);
        execlp("cat", "cat", NULL);
        _exit(1);
    }
    return pid;
}

/* Nobody reads: the caller goes on, and what had to be dropped is counted. */
static void a_full_pipe_holds_nobody_up(void)
{
    char *to = mem_printf("%s.read", path), *end = NULL;
    long sent = 0, dropped = 0, come = 0, i;
    char text[1000];
    int fds[2], status;
    json_t *o;
    pid_t pid;

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
    end = mem_printf("/proc/self/fd/%d", fds[1]);
    CU_ASSERT_EQUAL_FATAL(unlink(path) || symlink(end, path), 0);
    log_reopen();
    log_background(true);
    for (; sent < 12000; sent++) /* more than both of the writer's buffers hold */
        log_event(LOG_INFO, "filler", LOG_STR("text", text));
    pid = read_in_child(fds, to);
    log_background(false);
    log_background(true);
    log_event(LOG_INFO, "last", LOG_NUM("sent", sent));
    log_background(false);

    CU_ASSERT_EQUAL_FATAL(unlink(path), 0); /* an ordinary file again, and the pipe ends */
    log_reopen();
    close(fds[0]);
    close(fds[1]);
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    fclose(lines);
    lines = fopen(to, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(lines);
    while ((o = next_object())) {
        come += strcmp(text_of(o, "event"), "filler") == 0;
        i = (long)json_integer_value(json_object_get(o, "lines"));
        dropped += i;
        json_decref(o);
    }
    CU_ASSERT_TRUE(dropped > 0);
    CU_ASSERT_EQUAL(come + dropped, sent);
    fclose(lines);
    lines = fopen(path, "re");
    unlink(to);
    free(to);
    free(end);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"what a line holds", what_a_line_holds},
        {"hostile text stays JSON", hostile_text},
        {"long text stays JSON", long_text},
        {"levels", levels},
        {"the file is opened anew", opens_its_file_anew},
        {"written in the background", written_in_the_background},
        {"a full pipe holds nobody up", a_full_pipe_holds_nobody_up},
        CU_TEST_INFO_NULL,
    };
    char *directory = unit_directory();
    struct err e;
    int failed;

    path = unit_file(directory, "log", "", 0);
    lines = fopen(path, "re");
    if (!lines || log_open("chatfleet-unit", "debug", path, &e))
        return EXIT_FAILURE;
    failed = unit_main("log", tests);
    fclose(lines);
    free(line);
    free(path);
    unit_remove_directory(directory);
    free(directory);
    return failed;
}
