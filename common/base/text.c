#include "common/base/text.h"

#include <ctype.h>
#include <string.h>

size_t text_utf8_char(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t len, i;
    unsigned long c;

    if (n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        len = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        len = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (n < len)
        return 0;
    c = p[0] & (0xffu >> (len + 1));
    for (i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if ((len == 3 && c < 0x800) || (len == 4 && c < 0x10000)) /* longer than need be */
        return 0;
    if ((c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff) /* surrogates; past the end */
        return 0;
    return len;
}

long text_utf8_length(const char *s, size_t n)
{
    long count = 0;
    size_t step;

    while (n > 0) {
        step = text_utf8_char(s, n);
        if (step == 0)
            return -1;
        s += step;
        n -= step;
        count++;
    }
    return count;
}

void text_utf8_mend(char *s)
{
    size_t n = strlen(s), step;

    for (; n > 0; s += step, n -= step) {
        step = text_utf8_char(s, n);
        if (step == 0) {
            *s = '?';
            step = 1;
        }
    }
}

bool text_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

void text_lower(char *s)
{
    for (; *s; s++)
        if (*s >= 'A' && *s <= 'Z')
            *s = (char)(*s - 'A' + 'a');
}

char *text_next_item(char **list)
{
    char *item, *end;

    do {
        if (!*list || !**list)
            return NULL;
        item = *list;
        end = strchr(item, ',');
        *list = end ? end + 1 : item + strlen(item);
        if (end)
            *end = '\0';
        while (isspace((unsigned char)*item))
            item++;
        for (end = item + strlen(item); end > item && isspace((unsigned char)end[-1]); end--)
            ;
        *end = '\0';
    } while (!*item);
    return item;
}

static bool is_blank(const char *s, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if (!isspace((unsigned char)s[i]))
            return false;
    return true;
}

bool text_is_listed(const char *list, const char *item)
{
    size_t wanted = strlen(item), n;

    if (wanted == 0) /* there are no empty items */
        return false;
    for (; *list; list += n + (list[n] == ',')) {
        while (isspace((unsigned char)*list))
            list++;
        n = strcspn(list, ",");
        if (n >= wanted && memcmp(list, item, wanted) == 0 && is_blank(list + wanted, n - wanted))
            return true;
    }
    return false;
}
