/* chatfleet dlq replay --dry-run. */
#include "ctl/dlq_rehearse.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "ctl/dlq_again.h"
#include "ctl/dlq_browse.h"
#include "ctl/dlq_ledger.h"
#include "ctl/dlq_print.h"

/* What would become of a letter. */
enum fate { WOULD_REPLAY, WOULD_REMOVE, WOULD_LEAVE, WOULD_REFUSE, FATES };

static const char *const fates[FATES] = {"replay", "remove", "leave", "refuse"};

struct rehearsal {
    const struct dlq_options *o;
    struct ledger_view *ledger;
    struct err no_ledger;
    long counts[FATES];
};

static enum fate judge(struct rehearsal *r, const struct letter *l, const char **why)
{
    struct ledger_row row = {0};
    struct err e;

    *why = NULL;
    if (!r->ledger || ledger_look(r->ledger, l, &row, &e) || row.state == LEDGER_NOTHING)
        return WOULD_REPLAY;
    *why = ledger_state_name(row.state);
    if (!l->indistinct && ledger_same_failure(&row, l))
        return WOULD_REMOVE;
    return r->o->resume ? WOULD_REPLAY : WOULD_LEAVE;
}

static void print(const struct rehearsal *r, const struct letter *l, enum fate fate,
                  const struct mq_message *again, const char *why)
{
    const char *body = fate == WOULD_REPLAY && r->o->edit ? again->body : NULL;
    const char *target = fate == WOULD_REPLAY ? again->routing_key : NULL;
    json_t *out;

    if (!r->o->json) {
        printf("%-7s ", fates[fate]);
        print_line(l);
        if (target && strcmp(target, l->queue) != 0)
            printf("  → %s", target);
        if (why)
            printf("  (%s)", why);
        putchar('\n');
        if (body)
            printf("        %s\n", body);
        return;
    }
    out = json_pack("{s:s, s:s, s:s, s:o, s:s?, s:s?}", "id", l->id, "would", fates[fate], "queue",
                    l->queue, "operation", print_text(l->operation), "target", target, "why", why);
    if (body)
        json_object_set_new(out, "body", json_loads(body, JSON_DECODE_ANY, NULL));
    json_dumpf(out, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(out);
}

static enum browse_fate letter_came(void *arg, const struct mq_delivery *d, const struct letter *l)
{
    struct rehearsal *r = arg;
    struct arena *a = arena_new();
    struct mq_message again = {0};
    const char *why;
    enum fate fate = judge(r, l, &why);
    struct err e;

    if (d->oversized) {
        fate = WOULD_REFUSE;
        why = "the body is too large to be read here";
    } else if (again_make(a, l, r->o, NULL, &again, &e)) {
        fate = WOULD_REFUSE;
        why = e.text;
    }
    r->counts[fate]++;
    print(r, l, fate, &again, why);
    arena_free(a);
    return BROWSE_HOLD;
}

static void print_end(const struct rehearsal *r)
{
    if (r->o->json) {
        printf("{\"would_replay\":%ld,\"would_remove\":%ld,\"would_leave\":%ld,"
               "\"would_refuse\":%ld}\n",
               r->counts[WOULD_REPLAY], r->counts[WOULD_REMOVE], r->counts[WOULD_LEAVE],
               r->counts[WOULD_REFUSE]);
        return;
    }
    printf("nothing was done: would replay %ld, remove %ld that were replayed or dropped, leave "
           "%ld that are uncertain, refuse %ld\n",
           r->counts[WOULD_REPLAY], r->counts[WOULD_REMOVE], r->counts[WOULD_LEAVE],
           r->counts[WOULD_REFUSE]);
    if (!r->ledger)
        printf("the ledger is not known: %s\n", r->no_ledger.text);
}

int dlq_rehearse(const struct dlq_options *o)
{
    static const struct browse_events events = {NULL, letter_came, NULL};
    struct rehearsal r = {.o = o};
    int code;

    r.ledger = ledger_view_open(&r.no_ledger);
    code = browse_read(&o->filter, &events, &r);
    if (code == EXIT_DONE)
        print_end(&r);
    ledger_view_free(r.ledger);
    return code;
}
