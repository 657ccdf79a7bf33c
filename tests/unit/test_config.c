#include "common/base/config.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct {
    char *url, *password, *level, *note;
    long prefetch, delta;
    bool durable, quiet;
    double warmth;
} into;

static struct {
    long workers, pin;
} more;

#define AT(member) offsetof(__typeof__(into), member)

static const struct config_key keys[] = {
    {"T_URL", CONFIG_STRING, AT(url), NULL, 1, 40, NULL, "T_URI T_OLD_URL", false, "Where to."},
    {"T_PASSWORD", CONFIG_STRING, AT(password), "", 0, 20, NULL, NULL, true, "The word."},
    {"T_LEVEL", CONFIG_CHOICE, AT(level), "info", 0, 0, "debug info warn", NULL, false,
     "How much."},
    {"T_NOTE", CONFIG_STRING, AT(note), "a b", 0, 100000, NULL, NULL, false, "Anything."},
    {"T_PREFETCH", CONFIG_INT, AT(prefetch), "50", 1, 1000, NULL, "T_QOS", false, "Messages."},
    {"T_DELTA", CONFIG_INT, AT(delta), "-5", -10, 10, NULL, NULL, false, "Milliseconds."},
    {"T_DURABLE", CONFIG_BOOL, AT(durable), "true", 0, 0, NULL, NULL, false, "Kept."},
    {"T_QUIET", CONFIG_BOOL, AT(quiet), "no", 0, 0, NULL, NULL, false, "Silent."},
    {"T_WARMTH", CONFIG_REAL, AT(warmth), "0.7", -1, 2, NULL, NULL, false, "How warm."},
};

static const struct config_key more_keys[] = {
    {"T_WORKERS", CONFIG_INT, offsetof(__typeof__(more), workers), "2", 1, 8, NULL, NULL, false,
     "Processes."},
    {"T_PIN", CONFIG_INT, offsetof(__typeof__(more), pin), "0", 0, 9999, NULL, NULL, true,
     "The number."},
};

static const struct config_section sections[] = {{"First", keys, COUNT(keys), &into},
                                                 {"Second", more_keys, COUNT(more_keys), &more}};

static const char *const variables[] = {"T_URL",
                                        "T_URI",
                                        "T_OLD_URL",
                                        "T_URL_FILE",
                                        "T_URI_FILE",
                                        "T_LEVEL",
                                        "T_NOTE",
                                        "T_PASSWORD",
                                        "T_NOTE_FILE",
                                        "T_PASSWORD_FILE",
                                        "T_DELTA",
                                        "T_DURABLE",
                                        "T_QUIET",
                                        "T_PREFETCH",
                                        "T_QOS",
                                        "T_PIN",
                                        "T_WORKERS",
                                        "T_QOS_FILE",
                                        "CREDENTIALS_DIRECTORY",
                                        "T_WARMTH"};

static char *directory;
static struct err e;

/* Nothing is set but T_URL, which must be. */
static void start_afresh(void)
{
    size_t i;

    for (i = 0; i < COUNT(variables); i++)
        unsetenv(variables[i]);
    setenv("T_URL", "amqp://a", 1);
    memset(&e, 0, sizeof(e));
}

static int load(void)
{
    return config_load(sections, COUNT(sections), &e);
}

static void done(void)
{
    config_free(sections, COUNT(sections));
}

static void file(const char *variable, const char *text, size_t n)
{
    char *path = unit_file(directory, variable, text, n);

    setenv(variable, path, 1);
    free(path);
}

/* The start fails with one line that says both. */
static void refused(const char *one, const char *two)
{
    CU_ASSERT_EQUAL(load(), -1);
    CU_ASSERT_EQUAL(e.kind, ERR_FATAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, one));
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, two));
    CU_ASSERT_PTR_NULL(strchr(e.text, '\n'));
    CU_ASSERT_PTR_NULL(into.url); /* nothing of it stays */
    CU_ASSERT_PTR_NULL(into.level);
    start_afresh();
}

static void refused_value(const char *name, const char *value, const char *says)
{
    setenv(name, value, 1);
    refused(name, says);
}

static void defaults(void)
{
    start_afresh();
    CU_ASSERT_EQUAL_FATAL(load(), 0);
    CU_ASSERT_STRING_EQUAL(into.url, "amqp://a");
    CU_ASSERT_STRING_EQUAL(into.password, "");
    CU_ASSERT_STRING_EQUAL(into.level, "info");
    CU_ASSERT_STRING_EQUAL(into.note, "a b");
    CU_ASSERT_EQUAL(into.prefetch, 50);
    CU_ASSERT_EQUAL(into.delta, -5);
    CU_ASSERT_TRUE(into.durable);
    CU_ASSERT_FALSE(into.quiet);
    CU_ASSERT_EQUAL(more.workers, 2);
    CU_ASSERT_EQUAL(into.warmth, 0.7);
    done();
    CU_ASSERT_PTR_NULL(into.url);
    done(); /* again is harmless */
}

static void given_values(void)
{
    start_afresh();
    setenv("T_PREFETCH", "1000", 1);
    setenv("T_DELTA", "-10", 1);
    setenv("T_LEVEL", "WaRn", 1);
    setenv("T_DURABLE", "Off", 1);
    setenv("T_QUIET", "YES", 1);
    setenv("T_NOTE", " spaces stay ", 1);
    setenv("T_WORKERS", "", 1); /* empty is as if it were not set */
    CU_ASSERT_EQUAL_FATAL(load(), 0);
    CU_ASSERT_EQUAL(into.prefetch, 1000);
    CU_ASSERT_EQUAL(into.delta, -10);
    CU_ASSERT_STRING_EQUAL(into.level, "warn");
    CU_ASSERT_FALSE(into.durable);
    CU_ASSERT_TRUE(into.quiet);
    CU_ASSERT_STRING_EQUAL(into.note, " spaces stay ");
    CU_ASSERT_EQUAL(more.workers, 2);
    done();
}

static void booleans(void)
{
    static const char *const yes[] = {"true", "TRUE", "yes", "on", "1"};
    static const char *const no[] = {"false", "False", "no", "off", "0"};
    size_t i;

    for (i = 0; i < COUNT(yes); i++) {
        start_afresh();
        setenv("T_QUIET", yes[i], 1);
        setenv("T_DURABLE", no[i], 1);
        CU_ASSERT_EQUAL(load(), 0);
        CU_ASSERT_TRUE(into.quiet);
        CU_ASSERT_FALSE(into.durable);
        done();
    }
}

static void real_numbers(void)
{
    static const struct {
        const char *text;
        double is;
    } right[] = {{"0", 0},       {"2", 2},    {"2.0", 2}, {"-1", -1},
                 {"1.25", 1.25}, {".5", 0.5}, {"1.", 1}};
    static const char *const wrong[] = {"2.1", "-1.001", "warm", "0.7x", " 0.7",
                                        "0,7", "nan",    "inf",  "0x1",  "1e0",
                                        "-",   ".",      "1.2.", "--1",  "1 2"};
    size_t i;

    for (i = 0; i < COUNT(right); i++) {
        start_afresh();
        setenv("T_WARMTH", right[i].text, 1);
        CU_ASSERT_EQUAL(load(), 0);
        CU_ASSERT_EQUAL(into.warmth, right[i].is);
        done();
    }
    start_afresh();
    for (i = 0; i < COUNT(wrong); i++)
        refused_value("T_WARMTH", wrong[i], "a number from -1 to 2");
}

static void wrong_values(void)
{
    start_afresh();
    unsetenv("T_URL");
    refused("T_URL is not set", "Where to.");
    refused_value("T_URL", "amqp://0123456789012345678901234567890123", "1 to 40 bytes");
    refused_value("T_PREFETCH", "0", "1 to 1000");
    refused_value("T_PREFETCH", "1001", "1 to 1000");
    refused_value("T_PREFETCH", "ten", "ten");
    refused_value("T_PREFETCH", "10x", "10x");
    refused_value("T_PREFETCH", " 10", "whole number");
    refused_value("T_PREFETCH", "10 ", "whole number");
    refused_value("T_PREFETCH", "1.5", "whole number");
    refused_value("T_PREFETCH", "99999999999999999999", "whole number");
    refused_value("T_DELTA", "-11", "-10 to 10");
    refused_value("T_LEVEL", "loud", "debug info warn");
    refused_value("T_LEVEL", "debug info", "debug info warn");
    refused_value("T_LEVEL", "inf", "debug info warn");
    refused_value("T_LEVEL", "two\nlines", "debug info warn");
    refused_value("T_DURABLE", "maybe", "true or false");
    refused_value("T_DURABLE", "2", "true or false");
    refused_value("T_WORKERS", "9", "1 to 8"); /* in a later section */
    setenv("T_PASSWORD", "correct horse battery staple", 1);
    CU_ASSERT_EQUAL(load(), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "T_PASSWORD"));
    CU_ASSERT_PTR_NULL(strstr(e.text, "horse"));
    start_afresh();
    setenv("T_PIN", "47110815", 1);
    CU_ASSERT_EQUAL(load(), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "T_PIN"));
    CU_ASSERT_PTR_NULL(strstr(e.text, "4711"));
}

static void aliases(void)
{
    start_afresh();
    unsetenv("T_URL");
    setenv("T_OLD_URL", "amqp://b", 1);
    setenv("T_QOS", "7", 1);
    CU_ASSERT_EQUAL_FATAL(load(), 0);
    CU_ASSERT_STRING_EQUAL(into.url, "amqp://b");
    CU_ASSERT_EQUAL(into.prefetch, 7);
    done();
    setenv("T_URI", "amqp://b", 1); /* the same twice is no harm */
    CU_ASSERT_EQUAL(load(), 0);
    done();
    setenv("T_URL", "amqp://c", 1);
    refused("T_URL and T_URI disagree", "only one");
    setenv("T_URI", "amqp://a", 1);
    setenv("T_OLD_URL", "amqp://c", 1);
    refused("T_URL and T_OLD_URL disagree", "only one");
    setenv("T_QOS", "many", 1); /* the name that was used is the one to show */
    refused("T_QOS=many", "whole number");
}

static void files(void)
{
    char long_text[70000];

    start_afresh();
    unsetenv("T_URL");
    file("T_URL_FILE", "amqp://f\n", 9);
    file("T_NOTE_FILE", "one\ntwo \r\n\n", 11);
    file("T_QOS_FILE", "8", 1);
    CU_ASSERT_EQUAL_FATAL(load(), 0);
    CU_ASSERT_STRING_EQUAL(into.url, "amqp://f");
    CU_ASSERT_STRING_EQUAL(into.note, "one\ntwo ");
    CU_ASSERT_EQUAL(into.prefetch, 8);
    done();
    setenv("T_URL", "amqp://f", 1);
    CU_ASSERT_EQUAL(load(), 0);
    done();
    setenv("T_URL", "amqp://other", 1);
    refused("T_URL and T_URL_FILE disagree", "only one");
    setenv("T_PASSWORD_FILE", "/does/not/exist", 1);
    refused("T_PASSWORD_FILE", "/does/not/exist cannot be read");
    file("T_NOTE_FILE", "a\0b", 3);
    refused("T_NOTE_FILE", "text file");
    memset(long_text, 'x', sizeof(long_text));
    file("T_NOTE_FILE", long_text, sizeof(long_text));
    refused("T_NOTE_FILE", "65536 bytes");
    file("T_NOTE_FILE", long_text, 65536);
    CU_ASSERT_EQUAL(load(), 0);
    CU_ASSERT_EQUAL(strlen(into.note), 65536);
    done();
    setenv("T_NOTE_FILE", directory, 1); /* opens, but does not read */
    refused("T_NOTE_FILE", "text file");
}

static void credentials(void)
{
    char *path = unit_file(directory, "T_PASSWORD", "from systemd\n", 13);

    start_afresh();
    free(path);
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    CU_ASSERT_EQUAL_FATAL(load(), 0);
    CU_ASSERT_STRING_EQUAL(into.password, "from systemd");
    CU_ASSERT_EQUAL(into.prefetch, 50);
    done();
    setenv("T_PASSWORD", "from the hand", 1);
    refused("T_PASSWORD", "disagree");
    setenv("CREDENTIALS_DIRECTORY", "/does/not/exist", 1);
    CU_ASSERT_EQUAL(load(), 0);
    CU_ASSERT_STRING_EQUAL(into.password, "");
    done();
}

static void prints_what_is_in_force(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out;

    start_afresh();
    setenv("T_PASSWORD", "hunter2", 1);
    setenv("T_QUIET", "on", 1);
    CU_ASSERT_EQUAL_FATAL(load(), 0);
    out = open_memstream(&text, &n);
    config_print_values(out, sections, COUNT(sections));
    fclose(out);
    CU_ASSERT_STRING_EQUAL(text, "T_URL=amqp://a\nT_PASSWORD=********\nT_LEVEL=info\n"
                                 "T_NOTE=a b\nT_PREFETCH=50\nT_DELTA=-5\nT_DURABLE=true\n"
                                 "T_QUIET=true\nT_WARMTH=0.7\nT_WORKERS=2\nT_PIN=********\n");
    free(text);
    out = open_memstream(&text, &n);
    config_print_help(out, sections, COUNT(sections));
    fclose(out);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "T_URL (or T_URI T_OLD_URL)"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "Must be set."));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "One of: debug info warn. Default: info."));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "1 to 1000. Default: 50."));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "-1 to 2. Default: 0.7."));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\nSecond:\n"));
    CU_ASSERT_PTR_NULL(strstr(text, "hunter2"));
    free(text);
    done();
    start_afresh();
    CU_ASSERT_EQUAL_FATAL(load(), 0);
    out = open_memstream(&text, &n);
    config_print_values(out, sections, COUNT(sections));
    fclose(out);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "T_PASSWORD=\n")); /* that it is empty may be seen */
    free(text);
    done();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"defaults", defaults},
        {"values that are given", given_values},
        {"booleans", booleans},
        {"numbers with a point", real_numbers},
        {"wrong values are told in one line", wrong_values},
        {"aliases, and when they disagree", aliases},
        {"NAME_FILE", files},
        {"$CREDENTIALS_DIRECTORY", credentials},
        {"what is in force, secrets masked", prints_what_is_in_force},
        CU_TEST_INFO_NULL,
    };
    int failed;

    directory = unit_directory();
    failed = unit_main("config", tests);
    unit_remove_directory(directory);
    free(directory);
    return failed;
}
