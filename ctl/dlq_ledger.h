/*
 * The ledger of replays (chat.replay_ledger): a letter is claimed before it is published, and marked
 * when the broker has confirmed that. Whoever finds a claim that is not his leaves the letter alone,
 * since it may have been published; --resume takes such a claim over.
 */
#ifndef CTL_DLQ_LEDGER_H
#define CTL_DLQ_LEDGER_H

#include <stddef.h>

#include "common/base/err.h"
#include "common/io/loop.h"
#include "ctl/ctl.h"
#include "ctl/dlq_letter.h"

/* What stands in the ledger about a letter. */
enum ledger_state { LEDGER_NOTHING, LEDGER_CLAIMED, LEDGER_REPLAYED, LEDGER_DROPPED };

enum { LEDGER_WHO = 128 };

struct ledger_row {
    enum ledger_state state;
    char claim[UUID_TEXT], run[UUID_TEXT];
    char claimed_by[LEDGER_WHO];
    char claimed_at[32], done_at[32]; /* ISO 8601, or "" */
    int64_t claimed_ms;
    int64_t failed_ms; /* of the letter that was meant; 0: not known */
};

const char *ledger_state_name(enum ledger_state state);

/* Is this letter the one that the row says to be done with? A later failure of the same message, under the same
 * id, is not. */
bool ledger_same_failure(const struct ledger_row *row, const struct letter *l);

/* ---- on the loop ---- */

struct ledger;

/* ready is called once, when the database is there. If it is not reached in time, or is without the
 * table, the session ends with a message; so it does before a NULL. A connection that is lost later
 * comes back; what is under way waits for it. */
struct ledger *ledger_open(struct ctl_session *s, loop_cb *ready, void *arg);
void ledger_free(struct ledger *l); /* NULL is allowed; no callback is called any more */
const char *ledger_run(const struct ledger *l); /* the UUID of this run */

/* row is what stands there now; it is the caller's claim if row->claim is. e: nothing is known. */
typedef void ledger_cb(void *arg, const struct ledger_row *row, const struct err *e);

struct ledger_claim {
    const char *claim;       /* a new UUID */
    enum ledger_state state; /* LEDGER_CLAIMED or LEDGER_DROPPED */
    const char *target;      /* or NULL */
    bool edited;
    const char *in_place_of; /* a claim that is taken over if it still stands there; or NULL */
};
void ledger_put(struct ledger *l, const struct letter *letter, const struct ledger_claim *c,
                ledger_cb *cb, void *arg);
/* The letter was published. */
void ledger_done(struct ledger *l, const char *id, const char *print, const char *claim,
                 ledger_cb *cb, void *arg);
/* It was not, and nobody must think so. */
void ledger_release(struct ledger *l, const char *id, const char *print, const char *claim,
                    ledger_cb *cb, void *arg);

/* ---- looking, which blocks ---- */

struct ledger_view;

/* NULL with *why (for people) when there is no database or no ledger. */
struct ledger_view *ledger_view_open(struct err *why);
void ledger_view_free(struct ledger_view *v); /* NULL is allowed */
int ledger_look(struct ledger_view *v, const struct letter *l, struct ledger_row *row,
                struct err *e);
/* Is it claimed, and not said to be done? What was so at the first call. */
bool ledger_is_claimed(struct ledger_view *v, const struct letter *l);
/* Take back that it was dropped: it is to be imported again. */
int ledger_undrop(struct ledger_view *v, const struct letter *l, struct err *e);

#endif
