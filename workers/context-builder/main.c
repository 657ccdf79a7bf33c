/* The worker that builds a turn's prompt; so far it serves the echo that proves the way. */
#include "common/worker/worker.h"
#include "workers/context-builder/echo.h"

static const struct worker_operation operations[] = {
    {"system.echo", echo_handle},
};

int main(int argc, char **argv)
{
    static const struct worker_kind kind = {
        .name = "context-builder",
        .purpose = "serves system.echo, and later builds the prompts of chat turns",
        .operations = operations,
        .operations_count = sizeof(operations) / sizeof(operations[0]),
    };

    return worker_main(&kind, argc, argv);
}
