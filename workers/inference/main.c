/* The worker that has a model answer the prompts of chat turns. */
#include "workers/inference/generation.h"
#include "workers/inference/lookup.h"
#include "workers/inference/settings.h"

static const struct worker_operation operations[] = {
    {"inference.generate", generation_handle},
    {"usage.lookup", lookup_handle},
};

int main(int argc, char **argv)
{
    const struct worker_kind kind = {
        .name = "inference",
        .purpose = "has a model answer the prompts of chat turns",
        .operations = operations,
        .operations_count = sizeof(operations) / sizeof(operations[0]),
        .settings = &inference_section,
        .settings_count = 1,
        .start = generation_start,
        .stop = generation_stop,
        .healthy = generation_healthy,
    };

    return worker_main(&kind, argc, argv);
}
