/* How a look at dead letters ends, against a broker that puts them back when the test says so. */
#include "ctl/dlq_browse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/base/log.h"
#include "tests/fakes/fake_broker.h"
#include "tests/fakes/wire.h"
#include "tests/unit/unit.h"

enum { GUARD_MS = 20000, LETTERS = 3, CODE = 7 };

static struct {
    struct ctl_session session;
    struct timer *guard;
    bool late;
    struct fake_broker *fake;
    struct filter filter;
    struct browse *browse;
    struct mq_delivery last; /* its message is not kept */
    int seen, ended;
} w;

static void guard(void *arg)
{
    (void)arg;
    w.late = true;
}

/* Run the loop until it is so; a test that waits in vain ends there. */
#define WAIT(condition)                                                                            \
    do {                                                                                           \
        w.late = false;                                                                            \
        timer_set(w.guard, GUARD_MS);                                                              \
        while (!(condition) && !w.late)                                                            \
            event_base_loop(loop_base(w.session.loop), EVLOOP_ONCE);                               \
        timer_stop(w.guard);                                                                       \
        CU_ASSERT_FATAL(condition);                                                                \
    } while (0)

static void finish(void)
{
    browse_free(w.browse);
    mq_free(w.session.mq);
    if (w.fake)
        fake_broker_free(w.fake);
    timer_free(w.guard);
    timer_free(w.session.deadline);
    loop_free(w.session.loop);
    memset(&w, 0, sizeof(w));
}

static void nothing(void *arg)
{
    (void)arg;
}

static enum browse_fate letter_came(void *arg, const struct mq_delivery *d, const struct letter *l)
{
    (void)arg;
    (void)l;
    w.seen++;
    w.last = *d;
    return BROWSE_HOLD;
}

static void ended(void *arg)
{
    (void)arg;
    w.ended++;
}

/* All letters of one queue were looked at, and are held. */
static void begin(void)
{
    static const struct browse_events events = {NULL, letter_came, ended};
    struct ctl_session *s = &w.session;
    struct mq_config config = {.name = "unit",
                               .ca_file = "",
                               .heartbeat = 30,
                               .connect_timeout_ms = 10000,
                               .backoff_max_ms = 20,
                               .output_max = 1000000,
                               .message_max = 10000};
    char url[100];
    struct err e;
    int i;

    finish(); /* of a test that failed */
    s->loop = loop_new();
    w.guard = timer_new(s->loop, guard, NULL);
    s->deadline = timer_new(s->loop, nothing, NULL);
    w.fake = fake_broker_new(s->loop);
    w.fake->ready = LETTERS;
    snprintf(url, sizeof(url), "amqp://unit:sesame@127.0.0.1:%d/", w.fake->port);
    config.url = url;
    s->mq = mq_open(s->loop, &config, NULL, NULL, &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s->mq);
    WAIT(mq_is_up(s->mq));
    w.filter.queue = "inference";
    w.browse = browse_new(s, &w.filter, BROWSE_WINDOW_MAX, &events, NULL);
    WAIT(fake_count(w.fake, "consume 1 inference.dlq"));
    w.fake->ready = 0;
    for (i = 1; i <= LETTERS; i++)
        fake_deliver(w.fake, 1, w.fake->consumer, (uint64_t)i, "{}");
    WAIT(w.ended == 1);
    CU_ASSERT_EQUAL(w.seen, LETTERS);
    CU_ASSERT_FALSE(w.session.ended);
}

static int asked(void)
{
    return fake_count(w.fake, "inference.dlq 3\n"); /* passive declares */
}

static void ends_when_all_are_back(void)
{
    int before;

    begin();
    browse_close(w.browse, CODE);
    WAIT(fake_count(w.fake, "channel.close 1\n") == 1);
    before = asked();
    WAIT(asked() == before + 3);
    CU_ASSERT_FALSE(w.session.ended);
    w.fake->ready = LETTERS - 1; /* some */
    WAIT(asked() == before + 6);
    CU_ASSERT_FALSE(w.session.ended);
    w.fake->ready = LETTERS;
    WAIT(w.session.ended);
    CU_ASSERT_EQUAL(w.session.exit_code, CODE);
    CU_ASSERT_EQUAL(w.fake->bad, 0);
    finish();
}

static void others_letters_do_not_count(void)
{
    int before;

    begin();
    w.fake->ready = LETTERS; /* as many came meanwhile */
    browse_close(w.browse, CODE);
    WAIT(fake_count(w.fake, "channel.close 1\n") == 1);
    before = asked();
    WAIT(asked() == before + 3);
    CU_ASSERT_FALSE(w.session.ended);
    w.fake->ready = 2 * LETTERS;
    WAIT(w.session.ended);
    finish();
}

static void what_was_removed_is_not_waited_for(void)
{
    int before;

    begin();
    browse_remove(w.browse, 3, w.last.epoch);
    browse_close(w.browse, CODE);
    WAIT(fake_count(w.fake, "channel.close 1\n") == 1);
    CU_ASSERT_EQUAL(fake_count(w.fake, "\nack 1 3 single\n"), 1);
    before = asked();
    w.fake->ready = LETTERS - 2;
    WAIT(asked() == before + 3);
    CU_ASSERT_FALSE(w.session.ended);
    w.fake->ready = LETTERS - 1;
    WAIT(w.session.ended);
    finish();

    begin();
    browse_remove(w.browse, 1, w.last.epoch);
    browse_remove(w.browse, 2, w.last.epoch);
    browse_remove(w.browse, 3, w.last.epoch);
    before = asked();
    browse_close(w.browse, CODE); /* nothing is held: nothing to wait for */
    CU_ASSERT_TRUE(w.session.ended);
    CU_ASSERT_EQUAL(w.session.exit_code, CODE);
    CU_ASSERT_EQUAL(asked(), before);
    finish();
}

static void a_queue_that_is_gone_is_not_waited_for(void)
{
    begin();
    browse_close(w.browse, CODE);
    WAIT(fake_count(w.fake, "channel.close 1\n") == 1);
    w.fake->closes_404 = 1;
    WAIT(w.session.ended);
    CU_ASSERT_EQUAL(w.session.exit_code, CODE);
    finish();
}

/* The letters go back all the same, and the work was done. */
static void a_loss_ends_it(void)
{
    begin();
    w.fake->deaf = true;
    browse_close(w.browse, CODE);
    fake_say(w.fake, 1, WIRE(20, 40), "hshh", 406, "PRECONDITION_FAILED - timeout", 0, 0);
    WAIT(w.session.ended);
    CU_ASSERT_EQUAL(w.session.exit_code, CODE);
    finish();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a look ends when all letters are back", ends_when_all_are_back},
        {"letters of others do not count", others_letters_do_not_count},
        {"what was removed is not waited for", what_was_removed_is_not_waited_for},
        {"a queue that is gone is not waited for", a_queue_that_is_gone_is_not_waited_for},
        {"a loss ends it", a_loss_ends_it},
        CU_TEST_INFO_NULL,
    };
    int failed;

    if (!getenv("UNIT_LOG"))
        log_open("chatfleet-unit", "error", "/dev/null", NULL);
    failed = unit_main("dlq_browse", tests);
    finish();
    return failed;
}
