/* chatfleet dlq: dead letters looked at, replayed, kept in files, dropped. */
#include "ctl/dlq.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "ctl/dlq_parse.h"

static const char help[] =
    "usage: chatfleet dlq list [FILTER…] [--ids] [--json]\n"
    "       chatfleet dlq show ID [FILTER…] [--json]\n"
    "       chatfleet dlq replay FILTER… | --all [--dry-run] [--rate N/s] [--canary 1,10,100]\n"
    "                [--to OPERATION] [--edit FILE] [--resume] [--no-wait] [--timeout SECONDS] "
    "[--json]\n"
    "       chatfleet dlq export [FILTER…] [FILE|-]\n"
    "       chatfleet dlq import [FILE|-] [--json]\n"
    "       chatfleet dlq drop FILTER… | --all [--dry-run] [--yes] [--json]\n"
    "\n"
    "FILTER: --id ID,ID…, --queue Q, --operation GLOB, --error GLOB, --since TIME, --until TIME "
    "(2026-11-20T23:45Z,\n"
    "or how long ago: 90s, 30m, 2h, 7d), --tenant T, --user UUID, --where JSONPOINTER=VALUE (in "
    "the\n"
    "body), --limit N.\n"
    "\n"
    "Exit codes: 0 all went well, 1 something failed again or was not taken, 2 of something it is\n"
    "not known what became of it, 64 wrong usage or file, 69 broker or database not reachable.\n";

/* As given; NULL: not given. */
struct texts {
    struct filter_text filter;
    const char *rate, *canary, *to, *edit, *timeout;
};

enum takes {
    TAKES_FILTER = 1,
    TAKES_REPLAY = 2, /* the options of a replay */
    TAKES_ALL = 4,    /* and wants a filter or --all */
    TAKES_JSON = 8,
    TAKES_YES = 16,
    TAKES_IDS = 32,
};

static int replay(const struct dlq_options *o, const char *word)
{
    (void)word;
    return dlq_replay(o);
}

static int drop(const struct dlq_options *o, const char *word)
{
    (void)word;
    return dlq_drop(o);
}

static int list(const struct dlq_options *o, const char *word)
{
    (void)word;
    return dlq_list(o);
}

static int show(const struct dlq_options *o, const char *word)
{
    if (uuid_valid(word))
        return dlq_show(o, word);
    fprintf(stderr, "chatfleet: %s is no id of a dead letter\n", word);
    return EXIT_USAGE;
}

static const struct command {
    const char *name;
    int (*run)(const struct dlq_options *o, const char *word);
    unsigned takes;
    int words_min, words_max;
} commands[] = {
    {"list", list, TAKES_FILTER | TAKES_IDS | TAKES_JSON, 0, 0},
    {"show", show, TAKES_FILTER | TAKES_JSON, 1, 1},
    {"replay", replay, TAKES_FILTER | TAKES_REPLAY | TAKES_ALL | TAKES_JSON, 0, 0},
    {"export", dlq_export, TAKES_FILTER, 0, 1},
    {"import", dlq_import, TAKES_JSON, 0, 1},
    {"drop", drop, TAKES_FILTER | TAKES_ALL | TAKES_JSON | TAKES_YES, 0, 0},
};

static int complain(const char *text)
{
    fprintf(stderr, "chatfleet: %s\n", text);
    return -1;
}

static int parse_to(const char *name, struct dlq_options *o)
{
    o->to = operation_find(name);
    if (o->to)
        return 0;
    fprintf(stderr, "chatfleet: --to: the fleet has no operation %s\n", name);
    return -1;
}

static int parse_edit(const char *path, struct dlq_options *o)
{
    json_error_t at;

    o->edit = json_load_file(path, JSON_REJECT_DUPLICATES, &at);
    if (!o->edit && at.line < 0)
        fprintf(stderr, "chatfleet: --edit: %s\n", at.text); /* not even opened */
    else if (!o->edit)
        fprintf(stderr, "chatfleet: --edit: %s, line %d: %s\n", path, at.line, at.text);
    else if (json_is_object(o->edit))
        return 0;
    else
        fprintf(stderr, "chatfleet: --edit: %s: a merge patch is a JSON object\n", path);
    return -1;
}

static int parse_replay(const struct texts *t, struct dlq_options *o)
{
    long seconds = 60;

    if (t->rate && dlq_parse_rate(t->rate, &o->rate))
        return complain("--rate wants a number above 0, as in 5/s, 300/m");
    if (t->canary && dlq_parse_counts(t->canary, o->canary, CANARY_MAX, &o->canary_count))
        return complain("--canary wants the sizes of its batches, as in 1,10,100");
    if (t->canary && o->no_wait)
        return complain("--canary has to know the outcomes, which --no-wait does not wait for");
    if (t->timeout && (dlq_parse_count(t->timeout, &seconds) || seconds > 86400))
        return complain("--timeout wants 1 to 86400 seconds");
    o->timeout_ms = seconds * 1000;
    if (t->to && parse_to(t->to, o))
        return -1;
    return t->edit ? parse_edit(t->edit, o) : 0;
}

static int parse(const struct command *c, const struct texts *t, struct dlq_options *o)
{
    struct err e;

    if (filter_parse(&o->filter, &t->filter, clock_wall_ms(), &e))
        return complain(e.text);
    if ((c->takes & TAKES_ALL) && !o->filter.any && !o->all) {
        fprintf(stderr, "chatfleet: %s without a filter means all dead letters: say --all\n",
                c->name);
        return -1;
    }
    return parse_replay(t, o);
}

/* The options that a command takes, out of argv. Returns the number of the other words, or -1. */
static int read_options(const struct command *c, int argc, char **argv, struct texts *t,
                        struct dlq_options *o)
{
    const struct {
        unsigned takes;
        struct option_value option;
    } all[] = {
        {TAKES_FILTER, {"--id", &t->filter.ids, NULL}},
        {TAKES_FILTER, {"--queue", &t->filter.queue, NULL}},
        {TAKES_FILTER, {"--operation", &t->filter.operation, NULL}},
        {TAKES_FILTER, {"--error", &t->filter.error, NULL}},
        {TAKES_FILTER, {"--since", &t->filter.since, NULL}},
        {TAKES_FILTER, {"--until", &t->filter.until, NULL}},
        {TAKES_FILTER, {"--tenant", &t->filter.tenant, NULL}},
        {TAKES_FILTER, {"--user", &t->filter.user, NULL}},
        {TAKES_FILTER, {"--where", &t->filter.where, NULL}},
        {TAKES_FILTER, {"--limit", &t->filter.limit, NULL}},
        {TAKES_JSON, {"--json", NULL, &o->json}},
        {TAKES_IDS, {"--ids", NULL, &o->ids}},
        {TAKES_ALL, {"--all", NULL, &o->all}},
        {TAKES_ALL, {"--dry-run", NULL, &o->dry_run}},
        {TAKES_YES, {"--yes", NULL, &o->yes}},
        {TAKES_REPLAY, {"--rate", &t->rate, NULL}},
        {TAKES_REPLAY, {"--canary", &t->canary, NULL}},
        {TAKES_REPLAY, {"--to", &t->to, NULL}},
        {TAKES_REPLAY, {"--edit", &t->edit, NULL}},
        {TAKES_REPLAY, {"--timeout", &t->timeout, NULL}},
        {TAKES_REPLAY, {"--resume", NULL, &o->resume}},
        {TAKES_REPLAY, {"--no-wait", NULL, &o->no_wait}},
    };
    struct option_value taken[sizeof(all) / sizeof(all[0]) + 1] = {{0}};
    size_t i, n = 0;

    for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (c->takes & all[i].takes)
            taken[n++] = all[i].option;
    return ctl_options(taken, argc, argv);
}

static const struct command *find(const char *name)
{
    size_t i;

    for (i = 0; name && i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static int misused(const char *word, const char *what)
{
    fprintf(stderr, "chatfleet: %s %s\ntry: chatfleet dlq --help\n", word, what);
    return EXIT_USAGE;
}

int ctl_dlq(int argc, char **argv)
{
    const struct command *c = find(argc > 1 ? argv[1] : NULL);
    struct texts t = {.rate = NULL};
    struct dlq_options o = {.rate = 0};
    int n, code = EXIT_USAGE;

    if (argc > 1 &&
        (strcmp(argv[1], "--help") == 0 || (argc > 2 && strcmp(argv[2], "--help") == 0))) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (!c)
        return argc > 1 ? misused(argv[1], "is no command of dlq")
                        : misused("dlq", "wants list, show, replay, export, import or drop");
    n = read_options(c, argc - 1, argv + 1, &t, &o);
    if (n >= 0 && n < c->words_min)
        misused(c->name, "wants the id of a dead letter");
    else if (n > c->words_max)
        misused(argv[1 + c->words_max], "is one argument too many");
    else if (n >= 0 && parse(c, &t, &o) == 0)
        code = c->run(&o, n > 0 ? argv[1] : "-");
    filter_free(&o.filter);
    json_decref(o.edit);
    return code;
}
