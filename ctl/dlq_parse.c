#include "ctl/dlq_parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT_MAX = 1000000000, RATE_MAX = 1000000 };

/* Exactly so many digits; moves on. */
static int digits(const char **p, int n, int *number)
{
    int i, value = 0;

    for (i = 0; i < n; i++) {
        if (!isdigit((unsigned char)(*p)[i]))
            return -1;
        value = value * 10 + ((*p)[i] - '0');
    }
    *p += n;
    *number = value;
    return 0;
}

static int fraction(const char **p, int *ms)
{
    int scale = 100;

    *ms = 0;
    if (**p != '.')
        return 0;
    if (!isdigit((unsigned char)*++*p))
        return -1;
    for (; isdigit((unsigned char)**p); ++*p, scale /= 10)
        *ms += (**p - '0') * scale;
    return 0;
}

/* Minutes east of Greenwich. */
static int zone(const char **p, int *minutes)
{
    int sign = **p == '-' ? -1 : 1, h, m;

    *minutes = 0;
    if (**p == 'Z' || **p == 'z') {
        ++*p;
        return 0;
    }
    if (**p != '+' && **p != '-')
        return 0;
    ++*p;
    if (digits(p, 2, &h))
        return -1;
    if (**p == ':')
        ++*p;
    if (digits(p, 2, &m) || h > 23 || m > 59)
        return -1;
    *minutes = sign * (h * 60 + m);
    return 0;
}

/* The hours and what comes behind them. */
static int day_time(const char *p, struct tm *tm, int *ms, int *east)
{
    if (digits(&p, 2, &tm->tm_hour) || *p++ != ':' || digits(&p, 2, &tm->tm_min))
        return -1;
    if (*p == ':') {
        p++;
        if (digits(&p, 2, &tm->tm_sec) || fraction(&p, ms))
            return -1;
    }
    if (zone(&p, east) || *p || tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60)
        return -1;
    return 0;
}

int dlq_parse_time(const char *text, int64_t *ms)
{
    const char *p = text;
    int year, month, day, millis = 0, east = 0, leap;
    struct tm tm = {0}, again;
    time_t t;

    if (digits(&p, 4, &year) || *p++ != '-' || digits(&p, 2, &month) || *p++ != '-' ||
        digits(&p, 2, &day))
        return -1;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    tm.tm_mday = day;
    if (*p && ((*p != 'T' && *p != 't' && *p != ' ') || day_time(p + 1, &tm, &millis, &east)))
        return -1;
    leap = tm.tm_sec == 60;
    tm.tm_sec -= leap;
    again = tm;
    t = timegm(&again);
    if (again.tm_mon != month - 1) /* there is no 30th of February */
        return -1;
    *ms = ((int64_t)t + leap - east * 60) * 1000 + millis;
    return 0;
}

int dlq_parse_moment(const char *text, int64_t now_ms, int64_t *ms)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    char *end;
    long n;
    size_t i;

    if (dlq_parse_time(text, ms) == 0)
        return 0;
    if (!isdigit((unsigned char)*text))
        return -1;
    errno = 0;
    n = strtol(text, &end, 10);
    if (errno || n > COUNT_MAX || !end[0] || end[1])
        return -1;
    for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (units[i].unit == *end) {
            *ms = now_ms - n * units[i].ms;
            return 0;
        }
    }
    return -1;
}

int dlq_parse_rate(const char *text, double *per_second)
{
    char *end;
    double n, seconds = 1;

    if (!isdigit((unsigned char)*text) || strpbrk(text, "xXeEpP"))
        return -1;
    n = strtod(text, &end);
    if (strcmp(end, "/m") == 0)
        seconds = 60;
    else if (strcmp(end, "/h") == 0)
        seconds = 3600;
    else if (*end && strcmp(end, "/s") != 0)
        return -1;
    if (n <= 0 || n > RATE_MAX)
        return -1;
    *per_second = n / seconds;
    return 0;
}

/* A number, and what ends it. */
static int count_at(const char *text, long *n, char **end)
{
    if (!isdigit((unsigned char)*text))
        return -1;
    errno = 0;
    *n = strtol(text, end, 10);
    return errno || *n < 1 || *n > COUNT_MAX ? -1 : 0;
}

int dlq_parse_count(const char *text, long *n)
{
    char *end;
    long value;

    if (count_at(text, &value, &end) || *end)
        return -1;
    *n = value;
    return 0;
}

int dlq_parse_counts(const char *text, long *numbers, size_t max, size_t *n)
{
    char *end;
    size_t i;

    for (i = 0; i < max; i++, text = end + 1) {
        if (count_at(text, &numbers[i], &end))
            return -1;
        if (!*end) {
            *n = i + 1;
            return 0;
        }
        if (*end != ',')
            return -1;
    }
    return -1;
}
