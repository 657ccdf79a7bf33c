/* chatfleet dlq list and show: what is there, without a change. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "ctl/dlq.h"
#include "ctl/dlq_browse.h"
#include "ctl/dlq_count.h"
#include "ctl/dlq_file.h"
#include "ctl/dlq_print.h"

struct look {
    struct ctl_session session; /* the first member: a session is its look */
    const struct dlq_options *o;
    struct ledger_view *ledger; /* NULL: not to be had */
    struct err no_ledger;
    const struct browse_events *events;
    struct browse *browse;
    struct counts counts;
    const char *id; /* wanted */
    long shown;
    long others; /* tools at work; -1: not known */
};

static void ended(void *arg)
{
    struct look *k = arg;

    k->others = browse_others(k->browse);
    browse_close(k->browse, EXIT_DONE);
}

static void opened(struct ctl_session *s)
{
    struct look *k = (struct look *)(void *)s;

    k->browse = browse_new(s, &k->o->filter, BROWSE_WINDOW_MAX, k->events, k);
}

static void fini(struct ctl_session *s)
{
    struct look *k = (struct look *)(void *)s;

    browse_free(k->browse);
}

static int look(struct look *k)
{
    k->session.opened = opened;
    k->session.fini = fini;
    k->session.message_max = BROWSE_MESSAGE_MAX;
    if (!k->o->ids)
        k->ledger = ledger_view_open(&k->no_ledger);
    return ctl_session_run(&k->session);
}

/* ---- list ---- */

static void queue_found(void *arg, const char *queue, long ready)
{
    struct look *k = arg;

    (void)ready;
    counts_queue(&k->counts, queue, browse_others(k->browse));
}

static enum browse_fate counted(void *arg, const struct mq_delivery *d, const struct letter *l)
{
    struct look *k = arg;

    (void)d;
    counts_add(&k->counts, l, k->ledger && ledger_is_claimed(k->ledger, l));
    return BROWSE_HOLD;
}

/* As they come: there may be many. */
static enum browse_fate named(void *arg, const struct mq_delivery *d, const struct letter *l)
{
    struct look *k = arg;
    json_t *out;

    (void)d;
    if (!k->o->json) {
        print_line(l);
        putchar('\n');
        return BROWSE_HOLD;
    }
    out = print_line_json(l);
    json_dumpf(out, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(out);
    return BROWSE_HOLD;
}

int dlq_list(const struct dlq_options *o)
{
    static const struct browse_events counting = {queue_found, counted, ended};
    static const struct browse_events naming = {NULL, named, ended};
    struct look k = {.o = o, .events = o->ids ? &naming : &counting};
    int code = look(&k);

    if (o->ids)
        return code;
    if (code == EXIT_DONE && o->json)
        counts_print_json(&k.counts, k.ledger != NULL);
    else if (code == EXIT_DONE)
        counts_print(&k.counts);
    if (code == EXIT_DONE && !k.ledger && !o->json)
        printf("the ledger is not known: %s\n", k.no_ledger.text);
    counts_free(&k.counts);
    ledger_view_free(k.ledger);
    return code;
}

/* ---- show ---- */

static void show_one(struct look *k, const struct letter *l)
{
    struct ledger_row row;
    bool known = k->ledger && ledger_look(k->ledger, l, &row, &k->no_ledger) == 0;
    json_t *out;

    if (!k->o->json) {
        if (k->shown > 1)
            putchar('\n');
        print_letter(l, known ? &row : NULL);
        if (!known)
            printf("the ledger is not known: %s\n", k->no_ledger.text);
        return;
    }
    out = file_from_letter(l);
    json_object_set_new(out, "ledger", print_ledger(known ? &row : NULL));
    json_dumpf(out, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(out);
}

static enum browse_fate looked_at(void *arg, const struct mq_delivery *d, const struct letter *l)
{
    struct look *k = arg;

    (void)d;
    if (strcasecmp(l->id, k->id) == 0) {
        k->shown++;
        show_one(k, l);
    }
    return BROWSE_HOLD;
}

int dlq_show(const struct dlq_options *o, const char *id)
{
    static const struct browse_events events = {NULL, looked_at, ended};
    struct look k = {.o = o, .events = &events, .id = id};
    int code = look(&k);

    if (code == EXIT_DONE && k.shown == 0) {
        fprintf(stderr, "chatfleet: there is no dead letter %s%s\n", id,
                k.others > 0 ? " among those that nobody else holds" : "");
        code = EXIT_REFUSED;
    }
    ledger_view_free(k.ledger);
    return code;
}
