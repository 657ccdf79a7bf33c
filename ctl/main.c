/* chatfleet: the operator's command line. */
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/chat/operations.h"
#include "common/chat/topology.h"
#include "common/worker/process.h"
#include "ctl/ctl.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
} commands[] = {
    {"call", ctl_call,
     "call OPERATION [--user U] [--tenant T] [--role R] [--tier T] ['{json}']\n"
     "      call an operation over AMQP and print its answer"},
    {"topology", ctl_topology,
     "topology show [--json] | topology apply\n"
     "      print the exchanges, queues and bindings, or declare them"},
    {"schema", ctl_schema,
     "schema status [--json] | schema apply\n"
     "      show which migrations the database has, or apply those that it lacks"},
    {"dlq", ctl_dlq,
     "dlq list|show|replay|export|import|drop …\n"
     "      look at dead letters, replay them, keep them in files, drop them; dlq --help says "
     "more"},
    {"tenant", ctl_tenant,
     "tenant list [--json] | tenant show T [--json] | tenant set T NAME=VALUE … | tenant unset T "
     "NAME …\n"
     "      budgets and models of tenants: look at them, change them, take them away"},
    {"token", ctl_token,
     "token [--user U] [--tenant T] [--role R] [--tier T] [--expires SECONDS]\n"
     "      make a bearer token, signed with JWT_SECRET"},
};

static const struct config_section *sections(size_t *n)
{
    static struct config_section all[4];

    all[0] = process_broker_section;
    all[1] = chat_names_section;
    all[2] = chat_limits_section;
    all[3] = ctl_schema_section;
    *n = 4;
    return all;
}

static void print_help(void)
{
    size_t i, n;
    const struct config_section *all = sections(&n);

    puts("chatfleet: the operator's command line of the fleet\n\nusage:");
    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        printf("  chatfleet %s\n", commands[i].usage);
    puts(
        "  chatfleet --help | --version | --check-config\n\n"
        "Exit codes: 0 done, 1 refused by the fleet or the database, 2 migrations are pending (of\n"
        "dlq: something is not known), 64 wrong usage, 69 broker or database not reachable or\n"
        "operation not served, 75 no answer in time, 78 wrong configuration.\n");
    config_print_help(stdout, all, n);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    const struct config_section *all;
    struct err e;
    size_t i, n;

    all = sections(&n);
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
        print_help();
        return EXIT_DONE;
    }
    if (strcmp(name, "--version") == 0) {
        printf("chatfleet %s\n", program_version());
        return EXIT_DONE;
    }
    if (config_load(all, n, &e) || log_open("chatfleet", "error", NULL, &e)) {
        fprintf(stderr, "chatfleet: %s\n", e.text);
        return EXIT_CONFIG;
    }
    if (strcmp(name, "--check-config") == 0) {
        config_print_values(stdout, all, n);
        config_free(all, n);
        return EXIT_DONE;
    }
    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            int code;

            if (argc > 2 && strcmp(argv[2], "--help") == 0 && commands[i].run != ctl_dlq) {
                printf("usage: chatfleet %s\n", commands[i].usage);
                config_free(all, n);
                return EXIT_DONE;
            }
            code = commands[i].run(argc - 1, argv + 1);

            config_free(all, n);
            return code;
        }
    }
    config_free(all, n);
    fprintf(stderr, "chatfleet: there is no command %s; try --help\n", name);
    return EXIT_USAGE;
}
