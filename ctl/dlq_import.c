/*
 * chatfleet dlq import: lines that export wrote become dead letters again, with the same ids. All lines
 * are checked before the first is published, and then the queues are read: what is there already is not
 * put there again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/chat/envelope.h"
#include "ctl/dlq.h"
#include "ctl/dlq_browse.h"
#include "ctl/dlq_file.h"
#include "ctl/dlq_ledger.h"

enum { UNDER_WAY_MAX = 200, WAIT_MS = 100 };

struct import {
    struct ctl_session session; /* the first member: a session is its import */
    const char *path;
    FILE *file;
    struct ledger_view *ledger;
    struct filter filter; /* the queue that all lines are of, if there is one */
    struct browse *browse;
    struct map *known; /* of each letter of the file: struct known */
    char *line;        /* getline()'s */
    size_t line_room;
    struct arena *arena; /* of the one that waits for the broker, or NULL */
    struct mq_message message;
    struct timer *wait;
    bool at_end;
    long lines, under_way, imported, already, present, refused;
    long others; /* tools at work; -1: not known */
};

struct known {
    long there; /* in its queue */
};

/* One that is on its way. */
struct sent {
    struct import *import;
    char queue[64];
    char id[UUID_TEXT];
};

/* ---- the file ---- */

/* The next line as a letter; 1, 0 at the end, or -1 with what is wrong. */
static int read_letter(struct import *x, struct arena *a, struct mq_message *m, struct letter *l,
                       struct err *e)
{
    ssize_t n = getline(&x->line, &x->line_room, x->file);
    json_error_t at;
    json_t *json;
    int code;

    if (n < 0)
        return ferror(x->file) ? err_set(e, ERR_RETRY, 500, "%s", strerror(errno)) : 0;
    json = json_loadb(x->line, (size_t)n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at);
    if (!json)
        return err_set(e, ERR_REJECT, 400, "%s", at.text);
    code = file_to_letter(a, json, m, l, e);
    json_decref(json);
    return code ? -1 : 1;
}

/* A letter and its failure: one of another time is another one. */
static struct known *known(struct import *x, const struct letter *l, bool make)
{
    char key[256];
    int n = snprintf(key, sizeof(key), "%s %s %s %lld", l->queue, l->id, l->print,
                     (long long)l->failed_ms);
    struct known *k = map_get(x->known, key, (size_t)n);

    if (!k && make) {
        k = mem_alloc(sizeof(*k));
        map_put(x->known, key, (size_t)n, k);
    }
    return k;
}

static void note(struct import *x, const struct letter *l)
{
    known(x, l, true);
    if (x->lines++ == 0)
        x->filter.queue = l->queue;
    else if (x->filter.queue && strcmp(x->filter.queue, l->queue) != 0)
        x->filter.queue = NULL;
}

static int check_all(struct import *x)
{
    struct mq_message m;
    struct letter l;
    struct err e;
    long line = 0;
    int code;

    do {
        struct arena *a = arena_new();

        line++;
        code = read_letter(x, a, &m, &l, &e);
        if (code > 0)
            note(x, &l);
        arena_free(a);
    } while (code > 0);
    if (code < 0) {
        fprintf(stderr, "chatfleet: %s, line %ld: %s; nothing was imported\n", x->path, line,
                e.text);
        return -1;
    }
    rewind(x->file);
    return 0;
}

/* A copy, since the lines are read twice: a pipe can be read once only, and a file may change meanwhile.
 * NULL with errno. */
static FILE *spool(FILE *from)
{
    FILE *file = tmpfile();
    char part[65536];
    size_t n;
    int why;

    while (file && (n = fread(part, 1, sizeof(part), from)) > 0)
        if (fwrite(part, 1, n, file) != n)
            break;
    if (!file || (!ferror(from) && !ferror(file) && fflush(file) == 0)) {
        if (file)
            rewind(file);
        return file;
    }
    why = errno;
    fclose(file);
    errno = why;
    return NULL;
}

/* ---- publishing ---- */

static void go_on(struct import *x);

static void outcome_known(void *arg, enum mq_outcome outcome)
{
    struct sent *s = arg;
    struct import *x = s->import;

    if (outcome != MQ_LOST)
        x->under_way--;
    if (outcome == MQ_CONFIRMED) {
        x->imported++;
    } else if (outcome != MQ_LOST) {
        x->refused++;
        fprintf(stderr, "chatfleet: %s: %s %s\n", s->id,
                outcome == MQ_RETURNED ? "there is no queue" : "no room in the queue", s->queue);
    }
    free(s);
    if (!x->session.ended && outcome != MQ_LOST)
        go_on(x);
}

/* Where it was, as it was; but for what would have it vanish, go elsewhere or be refused there. */
static void prepare(struct import *x, const struct letter *l, struct sent *s)
{
    struct mq_message *m = &x->message;

    snprintf(s->queue, sizeof(s->queue), "%s.dlq", l->queue);
    memcpy(s->id, l->id, sizeof(s->id));
    m->exchange = "";
    m->routing_key = arena_strdup(x->arena, s->queue);
    m->delivery_mode = MESSAGE_PERSISTENT;
    m->expiration = m->user_id = NULL;
    mq_table_remove(&m->headers, "CC");
    mq_table_remove(&m->headers, "BCC");
    if (!l->indistinct) /* a broker that drops our x-death would else have it lose its id */
        mq_table_put_string(x->arena, &m->headers, HEADER_DEAD_LETTER,
                            arena_strdup(x->arena, l->id));
}

/* What the ledger says of it: 1 to import it, 0 to leave it out, -1 with an error. */
static int judge(struct import *x, const struct letter *l, struct err *e)
{
    struct ledger_row row;

    if (ledger_look(x->ledger, l, &row, e))
        return -1;
    if (row.state != LEDGER_DROPPED && ledger_same_failure(&row, l))
        return 0;
    return row.state == LEDGER_DROPPED && ledger_undrop(x->ledger, l, e) ? -1 : 1;
}

static int publish(struct import *x, struct sent *s, struct err *e)
{
    if (mq_publish(x->session.channel, &x->message, true, outcome_known, s, e) > 0) {
        x->under_way++;
        return 0;
    }
    free(s);
    return -1;
}

/* Of those that look the same as many are to be there as the file has. */
static bool is_there(struct import *x, const struct letter *l)
{
    struct known *k = known(x, l, false);

    if (k->there == 0) {
        k->there = !l->indistinct; /* from now on */
        return false;
    }
    k->there -= l->indistinct;
    x->present++;
    return true;
}

/* The next letter; 1, 0 when there is no more, -1 with an error. */
static int import_one(struct import *x, struct err *e)
{
    struct letter l;
    struct sent *s;
    int code = read_letter(x, x->arena, &x->message, &l, e);

    if (code <= 0)
        return code;
    code = judge(x, &l, e);
    if (code <= 0) {
        x->already += code == 0;
        return code < 0 ? -1 : 1;
    }
    if (is_there(x, &l))
        return 1;
    s = mem_alloc(sizeof(*s));
    s->import = x;
    prepare(x, &l, s);
    return publish(x, s, e) ? -1 : 1;
}

static void give_up(struct import *x, const struct err *e)
{
    fprintf(stderr, "chatfleet: %s\n", e->text);
    x->refused++;
    x->at_end = true;
}

static void go_on(struct import *x)
{
    struct err e;
    int code;

    while (!x->at_end && x->under_way < UNDER_WAY_MAX) {
        if (!mq_can_publish(x->session.mq)) {
            timer_set(x->wait, WAIT_MS);
            return;
        }
        x->arena = arena_new();
        code = import_one(x, &e);
        arena_free(x->arena);
        if (code < 0)
            give_up(x, &e);
        x->at_end = x->at_end || code == 0;
    }
    if (x->at_end && x->under_way == 0)
        browse_close(x->browse, x->refused ? EXIT_FAILED : EXIT_DONE);
}

static void waited(void *arg)
{
    struct import *x = arg;

    if (!x->session.ended)
        go_on(x);
}

/* ---- what is there ---- */

static enum browse_fate letter_came(void *arg, const struct mq_delivery *d, const struct letter *l)
{
    struct known *k = known(arg, l, false);

    (void)d;
    if (k)
        k->there++;
    return BROWSE_HOLD;
}

static void queue_found(void *arg, const char *queue, long ready, long others)
{
    (void)queue;
    (void)ready;
    ((struct import *)arg)->others = others;
}

static void browsed(void *arg)
{
    go_on(arg);
}

static void opened(struct ctl_session *s)
{
    static const struct browse_events events = {queue_found, letter_came, browsed};
    struct import *x = (struct import *)(void *)s;

    x->wait = timer_new(s->loop, waited, x);
    x->browse = browse_new(s, &x->filter, BROWSE_WINDOW_MAX, &events, x);
}

static void fini(struct ctl_session *s)
{
    struct import *x = (struct import *)(void *)s;

    browse_free(x->browse);
    timer_free(x->wait);
}

static void print(const struct import *x, bool json)
{
    json_t *out;

    if (!json) {
        printf("imported %ld, left out %ld that were replayed already and %ld that are there\n",
               x->imported, x->already, x->present);
        return;
    }
    out = json_pack("{s:I, s:I, s:I, s:I, s:o}", "imported", (json_int_t)x->imported,
                    "already_replayed", (json_int_t)x->already, "already_there",
                    (json_int_t)x->present, "refused", (json_int_t)x->refused, "other_tools",
                    x->others < 0 ? json_null() : json_integer(x->others));
    json_dumpf(out, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(out);
}

static int run(struct import *x, bool json)
{
    struct err e;
    int code;

    if (check_all(x))
        return EXIT_USAGE;
    x->ledger = ledger_view_open(&e);
    if (!x->ledger) {
        fprintf(stderr, "chatfleet: the ledger: %s\n", e.text);
        return e.kind == ERR_RETRY ? EXIT_UNAVAILABLE : EXIT_CONFIG;
    }
    code = ctl_session_run(&x->session);
    print(x, json);
    if (code == EXIT_UNAVAILABLE)
        fprintf(stderr,
                "chatfleet: %ld more may have been imported; those of them that are "
                "imported again are told by their ids\n",
                x->under_way);
    return code;
}

static FILE *open_lines(const char *path)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re"), *copy;
    int why;

    if (!file)
        return NULL;
    copy = spool(file);
    why = errno;
    if (file != stdin)
        fclose(file);
    errno = why;
    return copy;
}

static void forget(void *value, void *arg)
{
    (void)arg;
    free(value);
}

int dlq_import(const struct dlq_options *o, const char *path)
{
    struct import x = {
        .session = {.opened = opened, .fini = fini, .message_max = BROWSE_MESSAGE_MAX},
        .path = path};
    int code;

    x.file = open_lines(path);
    if (!x.file) {
        fprintf(stderr, "chatfleet: %s: %s\n", path, strerror(errno));
        return EXIT_USAGE;
    }
    x.known = map_new();
    code = run(&x, o->json);
    ledger_view_free(x.ledger);
    map_each(x.known, forget, NULL);
    map_free(x.known);
    fclose(x.file);
    free(x.line);
    return code;
}
