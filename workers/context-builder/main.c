/* The worker that makes the prompts of chat turns; also serves the echo that proves the way. */
#include "common/worker/worker.h"
#include "workers/context-builder/build.h"
#include "workers/context-builder/echo.h"

static const struct worker_operation operations[] = {
    {"system.echo", echo_handle},
    {"context.build", build_handle},
};

int main(int argc, char **argv)
{
    const struct worker_kind kind = {
        .name = "context-builder",
        .purpose = "makes the prompts of chat turns, and serves system.echo",
        .operations = operations,
        .operations_count = sizeof(operations) / sizeof(operations[0]),
        .settings = &build_section,
        .settings_count = 1,
        .start = build_start,
        .control = build_hear,
    };

    return worker_main(&kind, argc, argv);
}
