#include <stdio.h>
#include <string.h>

#include "common/worker/process.h"
#include "ctl/ctl.h"

int ctl_options(const struct option_value *options, int argc, char **argv)
{
    const struct option_value *o;
    unsigned long given = 0; /* a bit for each option */
    int i, left = 0;

    for (i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            argv[left++] = argv[i];
            continue;
        }
        for (o = options; o->name && strcmp(o->name, argv[i]) != 0; o++)
            ;
        if (!o->name || (o->value && i + 1 == argc)) {
            fprintf(stderr, "chatfleet: %s %s\n", argv[i],
                    o->name ? "wants a value" : "is not an option of this command; try --help");
            return -1;
        }
        if (given & 1ul << (o - options)) {
            fprintf(stderr, "chatfleet: %s is given twice\n", argv[i]);
            return -1;
        }
        given |= 1ul << (o - options);
        if (o->value)
            *o->value = argv[++i];
        else
            *o->flag = true;
    }
    return left;
}

static void opened(void *arg, struct mq_channel *ch)
{
    struct ctl_session *s = arg;

    s->channel = ch;
    if (s->open)
        return;
    s->open = true;
    timer_stop(s->deadline);
    s->opened(s);
}

void ctl_session_lost(struct ctl_session *s, const struct err *why)
{
    if (s->ended)
        return;
    if (s->finished) {
        ctl_session_end(s, s->exit_code);
        return;
    }
    if (s->exit_code == EXIT_DONE) /* else the reason has been told */
        fprintf(stderr, "chatfleet: the broker ended the session: %s\n", why->text);
    ctl_session_end(s, s->exit_code ? s->exit_code : EXIT_UNAVAILABLE);
}

static void closed(void *arg, struct mq_channel *ch, const struct err *why)
{
    (void)ch;
    ctl_session_lost(arg, why);
}

/* Not reached yet; a refused login or virtual host will not be better in a moment. */
static void down(void *arg, const struct err *why)
{
    struct ctl_session *s = arg;

    s->last = *why;
    if (s->open || s->ended || why->kind != ERR_FATAL)
        return;
    fprintf(stderr, "chatfleet: %s\n", why->text);
    ctl_session_end(s, EXIT_UNAVAILABLE);
}

static void too_late(void *arg)
{
    struct ctl_session *s = arg;

    fprintf(stderr, "chatfleet: %s%s%s\n", s->late_text, *s->last.text ? ": " : "", s->last.text);
    ctl_session_end(s, s->late_code);
}

void ctl_session_deadline(struct ctl_session *s, long ms, const char *text, int exit_code)
{
    s->late_text = text;
    s->late_code = exit_code;
    timer_set(s->deadline, ms);
}

static void stop(void *arg)
{
    loop_stop(arg);
}

void ctl_session_end(struct ctl_session *s, int exit_code)
{
    s->ended = true;
    s->exit_code = exit_code;
    timer_stop(s->deadline);
    mq_close(s->mq, stop, s->loop);
}

int ctl_session_run(struct ctl_session *s)
{
    static const struct mq_channel_events events = {opened, closed};
    static const struct mq_events broker_events = {NULL, down, NULL};
    const size_t message_max = (size_t)process_settings.message_max;
    const struct mq_config config = {.url = process_settings.rabbitmq_url,
                                     .name = "chatfleet command line",
                                     .ca_file = process_settings.rabbitmq_ca_file,
                                     .heartbeat = (int)process_settings.heartbeat_s,
                                     .connect_timeout_ms = process_settings.connect_timeout_ms,
                                     .backoff_max_ms = process_settings.reconnect_max_ms,
                                     .output_max = (size_t)process_settings.output_max,
                                     .message_max = s->message_max ? s->message_max : message_max};
    struct err e;

    s->loop = loop_new();
    s->mq = mq_open(s->loop, &config, &broker_events, s, &e);
    if (!s->mq) {
        fprintf(stderr, "chatfleet: %s\n", e.text);
        loop_free(s->loop);
        return EXIT_CONFIG;
    }
    s->deadline = timer_new(s->loop, too_late, s);
    ctl_session_deadline(s, process_settings.connect_timeout_ms,
                         "the broker of RABBITMQ_URL was not reached in time", EXIT_UNAVAILABLE);
    mq_channel_new(s->mq, MQ_CONFIRMS_EACH, &events, s);
    loop_run(s->loop);
    if (s->fini)
        s->fini(s);
    mq_free(s->mq);
    timer_free(s->deadline);
    loop_free(s->loop);
    return s->exit_code;
}
