/* chatfleet dlq list and show: what is there, without a change. */
#include <stdio.h>
#include <strings.h>

#include "ctl/dlq.h"
#include "ctl/dlq_browse.h"
#include "ctl/dlq_count.h"
#include "ctl/dlq_file.h"
#include "ctl/dlq_print.h"

struct look {
    const struct dlq_options *o;
    struct ledger_view *ledger; /* NULL: not to be had */
    struct err no_ledger;
    struct counts counts;
    const char *id; /* wanted */
    long shown;
    long others; /* tools at work; -1: not known */
};

/* ---- list ---- */

static void queue_found(void *arg, const char *queue, long ready, long others)
{
    struct look *k = arg;

    (void)ready;
    counts_queue(&k->counts, queue, others);
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
    static const struct browse_events counting = {queue_found, counted, NULL};
    static const struct browse_events naming = {NULL, named, NULL};
    struct look k = {.o = o};
    int code;

    if (o->ids)
        return browse_read(&o->filter, &naming, &k);
    k.ledger = ledger_view_open(&k.no_ledger);
    code = browse_read(&o->filter, &counting, &k);
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

static void others_counted(void *arg, const char *queue, long ready, long others)
{
    (void)queue;
    (void)ready;
    ((struct look *)arg)->others = others;
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
    static const struct browse_events events = {others_counted, looked_at, NULL};
    struct look k = {.o = o, .id = id};
    int code;

    k.ledger = ledger_view_open(&k.no_ledger);
    code = browse_read(&o->filter, &events, &k);
    if (code == EXIT_DONE && k.shown == 0) {
        fprintf(stderr, "chatfleet: there is no dead letter %s%s\n", id,
                k.others > 0 ? " among those that nobody else holds" : "");
        code = EXIT_REFUSED;
    }
    ledger_view_free(k.ledger);
    return code;
}
