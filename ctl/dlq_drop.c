/*
 * chatfleet dlq drop: shows what would go, asks, writes it into the ledger, and acks. What was shown
 * is what goes: the letters are held in between.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "ctl/dlq.h"
#include "ctl/dlq_browse.h"
#include "ctl/dlq_count.h"
#include "ctl/dlq_ledger.h"

enum { UNDER_WAY_MAX = 200, ASK_MS = 100 };

/* Without its body: there may be many. */
struct entry {
    STAILQ_ENTRY(entry) link;
    struct drop *drop;
    struct letter letter;
    struct mq_message message;
    uint64_t tag;
    unsigned epoch;
};

struct drop {
    struct ctl_session session; /* the first member: a session is its drop */
    const struct dlq_options *o;
    struct ledger *ledger;
    struct browse *browse;
    struct arena *arena;
    STAILQ_HEAD(, entry) entries;
    struct counts counts;
    struct timer *ask;
    bool ledger_ready, browsed;
    long under_way, dropped, uncertain;
    long others; /* tools at work; -1: not known */
};

static void finish(struct drop *d)
{
    if (d->under_way == 0 && !d->session.ended)
        browse_close(d->browse, d->uncertain ? EXIT_OPEN : EXIT_DONE);
}

static void drop_some(struct drop *d);

static void recorded(void *arg, const struct ledger_row *row, const struct err *e)
{
    struct entry *x = arg;
    struct drop *d = x->drop;

    d->under_way--;
    if (d->session.ended)
        return;
    if (e) {
        fprintf(stderr, "chatfleet: the ledger: %s\n", e->text);
        ctl_session_end(&d->session, EXIT_UNAVAILABLE);
        return;
    }
    if (row->state == LEDGER_DROPPED || row->state == LEDGER_REPLAYED) {
        browse_remove(d->browse, x->tag, x->epoch);
        d->dropped++;
    } else { /* somebody may just be replaying it */
        d->uncertain++;
    }
    drop_some(d);
}

static void drop_some(struct drop *d)
{
    char id[UUID_TEXT];
    struct entry *x;

    while (d->under_way < UNDER_WAY_MAX && (x = STAILQ_FIRST(&d->entries))) {
        const struct ledger_claim c = {.claim = uuid_v7(id), .state = LEDGER_DROPPED};

        STAILQ_REMOVE_HEAD(&d->entries, link);
        d->under_way++;
        ledger_put(d->ledger, &x->letter, &c, recorded, x);
    }
    finish(d);
}

/* ---- asking ---- */

static void give_up(struct drop *d)
{
    fputs("nothing was dropped\n", stderr);
    browse_close(d->browse, EXIT_REFUSED);
}

/* The loop goes on meanwhile, so that the broker hears from us. */
static void ask_again(void *arg)
{
    struct drop *d = arg;
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char line[16];

    if (d->session.ended)
        return;
    if (poll(&in, 1, 0) <= 0) {
        timer_set(d->ask, ASK_MS);
        return;
    }
    if (!fgets(line, sizeof(line), stdin) || strcmp(line, "yes\n") != 0)
        give_up(d);
    else
        drop_some(d);
}

static void ask(struct drop *d)
{
    long total = counts_total(&d->counts);

    if (!d->browsed || !d->ledger_ready || d->session.ended)
        return;
    if (!d->o->json)
        counts_print(&d->counts);
    if (total == 0 || d->o->dry_run) {
        finish(d);
    } else if (d->o->yes) {
        drop_some(d);
    } else {
        if (total == 1)
            printf("Drop this letter for good? (yes) ");
        else
            printf("Drop these %ld letters for good? (yes) ", total);
        fflush(stdout);
        timer_set(d->ask, 0);
    }
}

/* ---- what would go ---- */

static const char *keep(struct drop *d, const char *text)
{
    return arena_strdup(d->arena, text);
}

static enum browse_fate letter_came(void *arg, const struct mq_delivery *m, const struct letter *l)
{
    struct drop *d = arg;
    struct entry *x = arena_alloc(d->arena, sizeof(*x));

    counts_add(&d->counts, l, false);
    x->drop = d;
    x->letter = *l;
    x->letter.message = &x->message;
    x->letter.operation = keep(d, l->operation);
    x->letter.tenant = keep(d, l->tenant);
    x->message.message_id = keep(d, l->message->message_id);
    x->tag = m->tag;
    x->epoch = m->epoch;
    STAILQ_INSERT_TAIL(&d->entries, x, link);
    return BROWSE_HOLD;
}

static void queue_found(void *arg, const char *queue, long ready, long others)
{
    (void)queue;
    (void)ready;
    ((struct drop *)arg)->others = others;
}

static void browsed(void *arg)
{
    struct drop *d = arg;

    d->browsed = true;
    ask(d);
}

static void ledger_is_there(void *arg)
{
    struct drop *d = arg;

    d->ledger_ready = true;
    ask(d);
}

static void opened(struct ctl_session *s)
{
    static const struct browse_events events = {queue_found, letter_came, browsed};
    struct drop *d = (struct drop *)(void *)s;

    d->ask = timer_new(s->loop, ask_again, d);
    d->ledger = ledger_open(s, ledger_is_there, d);
    if (!d->ledger)
        return;
    d->browse = browse_new(s, &d->o->filter, BROWSE_WINDOW_MAX, &events, d);
}

static void fini(struct ctl_session *s)
{
    struct drop *d = (struct drop *)(void *)s;

    browse_free(d->browse);
    ledger_free(d->ledger);
    timer_free(d->ask);
}

static void print_json(const struct drop *d)
{
    json_t *out =
        json_pack("{s:I, s:I, s:I, s:o}", "matched", (json_int_t)counts_total(&d->counts),
                  "dropped", (json_int_t)d->dropped, "uncertain", (json_int_t)d->uncertain,
                  "other_tools", d->others < 0 ? json_null() : json_integer(d->others));

    json_dumpf(out, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(out);
}

int dlq_drop(const struct dlq_options *o)
{
    struct drop d = {.session = {.opened = opened, .fini = fini, .message_max = BROWSE_MESSAGE_MAX},
                     .o = o};
    int code;

    if (!o->yes && !o->dry_run && (o->json || !isatty(STDIN_FILENO))) {
        fputs("chatfleet: nobody can be asked here; drop wants --yes\n", stderr);
        return EXIT_USAGE;
    }
    STAILQ_INIT(&d.entries);
    d.arena = arena_new();
    code = ctl_session_run(&d.session);
    if (o->json)
        print_json(&d);
    else if (d.dropped || d.uncertain)
        printf("dropped %ld, left %ld that are uncertain\n", d.dropped, d.uncertain);
    counts_free(&d.counts);
    arena_free(d.arena);
    return code;
}
