#include "common/chat/topology.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"

static void print_line(void *arg, const struct topology_line *line)
{
    (void)arg;
    printf("%-9s %-28s %s\n", line->what, line->name, line->detail);
}

static void add_line(void *arg, const struct topology_line *line)
{
    json_array_append_new(arg, json_pack("{s:s, s:s, s:s}", "what", line->what, "name", line->name,
                                         "detail", line->detail));
}

static int show(bool json)
{
    json_t *list;

    if (!json) {
        topology_list(NULL, print_line, NULL);
        return EXIT_DONE;
    }
    list = json_array();
    topology_list(NULL, add_line, list);
    json_dumpf(list, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(list);
    return EXIT_DONE;
}

static void count_line(void *arg, const struct topology_line *line)
{
    size_t *counts = arg;

    counts[*line->what == 'e' ? 0 : *line->what == 'q' ? 1 : 2]++;
}

static void declared(void *arg, const struct err *e)
{
    struct ctl_session *s = arg;
    size_t counts[3] = {0};

    if (e) {
        fprintf(stderr, "chatfleet: topology not declared: %s\n", e->text);
        s->exit_code = EXIT_REFUSED; /* the channel's end follows */
        return;
    }
    topology_list(NULL, count_line, counts);
    printf("%zu exchanges, %zu queues and %zu bindings are in place\n", counts[0], counts[1],
           counts[2]);
    ctl_session_end(s, EXIT_DONE);
}

static void apply(struct ctl_session *s)
{
    topology_declare(s->mq, s->channel, NULL, declared, s);
}

int ctl_topology(int argc, char **argv)
{
    bool json = false;
    const struct option_value options[] = {{"--json", NULL, &json}, {0}};
    struct ctl_session session = {.opened = apply};
    int n = ctl_options(options, argc, argv);

    if (n == 1 && strcmp(argv[0], "show") == 0)
        return show(json);
    if (n == 1 && strcmp(argv[0], "apply") == 0 && !json)
        return ctl_session_run(&session);
    if (n >= 0)
        fputs("usage: chatfleet topology show [--json] | topology apply\n", stderr);
    return EXIT_USAGE;
}
