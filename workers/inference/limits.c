#include "workers/inference/limits.h"

#include <stdlib.h>
#include <string.h>

enum { MINUTE_MS = 60000, DAY_MS = 86400000 };

static const double epoch_ms = 1e12; /* in milliseconds 2001, in seconds the year 33658 */
static const double epoch_s = 1e9;

/* -1: no number. */
static double number_of(const char *text)
{
    char *end;
    double n;

    if (!text || !*text || text[strspn(text, "0123456789.")])
        return -1;
    n = strtod(text, &end);
    return *end ? -1 : n;
}

/* From now on; 0: not said, or past. */
static int64_t reset_in(const char *reset, int64_t now_ms)
{
    double n = number_of(reset), ms;

    if (n < 0)
        return 0;
    ms = n >= epoch_ms ? n - (double)now_ms : n >= epoch_s ? n * 1000 - (double)now_ms : n * 1000;
    if (ms < 1)
        return 0;
    return ms < DAY_MS ? (int64_t)ms : DAY_MS;
}

struct limits limits_read(const char *left, const char *reset, const char *words, int64_t now_ms)
{
    struct limits l = {.left = -1, .reset_ms = reset_in(reset, now_ms)};
    double n = number_of(left);

    if (n >= 0 && l.reset_ms > 0) {
        l.left = n < 1e6 ? (long)n : 1000000;
        return l;
    }
    l.reset_ms = 0;
    if (words && strstr(words, "free-models-per-day"))
        l = (struct limits){.left = 0, .reset_ms = DAY_MS - now_ms % DAY_MS};
    else if (words && strstr(words, "free-models-per-min"))
        l = (struct limits){.left = 0, .reset_ms = MINUTE_MS};
    return l;
}
