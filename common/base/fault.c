/* Compiled into test builds only. */
#include "common/base/fault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char body_prefix[] = "job.body=";

/* Nothing is flushed, closed or said: that is what is tried. */
static void die(void)
{
    raise(SIGKILL);
}

void fault_point(const char *name)
{
    static unsigned long passed;
    const char *wanted = getenv("CHATFLEET_FAULT");
    size_t n = strlen(name);
    unsigned long at = 1;

    if (!wanted || strncmp(wanted, name, n) != 0 || (wanted[n] && wanted[n] != ':'))
        return;
    if (wanted[n])
        at = strtoul(wanted + n + 1, NULL, 10);
    if (++passed == at)
        die();
}

void fault_body(const char *body, size_t n)
{
    const char *wanted = getenv("CHATFLEET_FAULT");

    if (!wanted || strncmp(wanted, body_prefix, sizeof(body_prefix) - 1) != 0)
        return;
    wanted += sizeof(body_prefix) - 1;
    if (*wanted && memmem(body, n, wanted, strlen(wanted)))
        die();
}

int64_t fault_clock_ms(void)
{
    const char *path = getenv("CHATFLEET_FAULT_CLOCK");
    FILE *file = path ? fopen(path, "re") : NULL;
    long long ms = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%lld", &ms) != 1)
        ms = 0;
    fclose(file);
    return ms;
}
