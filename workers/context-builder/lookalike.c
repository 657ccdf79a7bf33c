#include "workers/context-builder/lookalike.h"

#include <stdbool.h>
#include <string.h>

#include "common/base/text.h"

/* From code points in a row, the plain letter of each; '_': none. */
static const struct range {
    uint32_t first;
    const char *plain;
} ranges[] = {
    {0xc0, "aaaaaa_ceeeeiiii_nooooo_ouuuuy__aaaaaa_ceeeeiiii_nooooo_ouuuuy_y"}, /* Latin-1 */
    {0x100, "aaaaaaccccccccdddd"},
    {0x112, "eeeeeeeeeegggggggghhhhiiiiiiiiii"},
    {0x391, "ab__ezh_ik_mn_o_p__ty_x"}, /* Greek */
    {0x3b1, "aby_e_n_ik_uv_o_p__tu_x_w"},
    {0x405, "s"}, /* Cyrillic */
    {0x406, "i"},
    {0x408, "j"},
    {0x410, "a_b__e____k_mho_pcty_x"},
    {0x430, "a_b__e____k_mho_pcty_x"},
    {0x455, "si_j"},
    {0x4bb, "h"},
    {0x501, "d"},
    {0x51b, "q"},
    {0x51d, "w"},
    {0x251, "a"},
    {0x261, "g"},
    {0x269, "i"},
    {0x28f, "y"},
    {0x1d00, "a"},
    {0x1d04, "c"},
    {0x1d07, "e"},
    {0x1d0f, "o"},
};

static bool is_invisible(uint32_t c)
{
    return c == 0xad || c == 0x34f || c == 0x180e || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x202a && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           (c >= 0xfe00 && c <= 0xfe0f) || (c >= 0x300 && c <= 0x36f) || c == 0xe0001 ||
           c == 0xe007f || (c >= 0xe0100 && c <= 0xe01ef) || c == 0x115f || c == 0x3164;
}

static char small(uint32_t c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : (char)c;
}

/* Letters and digits that are there again in another style. */
static char styled(uint32_t c)
{
    if (c >= 0xff01 && c <= 0xff5e) /* full width */
        return small(c - 0xfee0);
    if (c >= 0xe0020 && c <= 0xe007e) /* tags, which no one sees */
        return small(c - 0xe0000);
    if (c >= 0x1d400 && c < 0x1d6a4) /* mathematical */
        return (char)('a' + (c - 0x1d400) % 26);
    if (c >= 0x1d7ce && c <= 0x1d7ff)
        return (char)('0' + (c - 0x1d7ce) % 10);
    if (c >= 0x24b6 && c <= 0x24e9) /* circled */
        return (char)('a' + (c - 0x24b6) % 26);
    if (c >= 0x1f130 && c <= 0x1f189) /* squared */
        return (char)('a' + (c - 0x1f130) % 32 % 26);
    return ' ';
}

static char plain_of(uint32_t c)
{
    size_t i;

    if (c < 0x80)
        return c < ' ' && c != '\n' ? ' ' : small(c);
    for (i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        uint32_t k = c - ranges[i].first;

        if (c >= ranges[i].first && k < strlen(ranges[i].plain))
            return ranges[i].plain[k] == '_' ? ' ' : ranges[i].plain[k];
    }
    return styled(c);
}

static uint32_t code_point(const char *s, size_t length)
{
    static const unsigned char masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = (unsigned char)*s & masks[length];
    size_t i;

    for (i = 1; i < length; i++)
        c = c << 6 | ((unsigned char)s[i] & 0x3f);
    return c;
}

size_t lookalike_plain(const char *text, size_t n, char *plain, uint32_t *origin)
{
    size_t at, length, count = 0;

    for (at = 0; at < n; at += length) {
        uint32_t c = ' ';

        length = text_utf8_char(text + at, n - at);
        if (length > 0)
            c = code_point(text + at, length);
        else
            length = 1;
        if (is_invisible(c))
            continue;
        origin[count] = (uint32_t)at;
        plain[count++] = plain_of(c);
    }
    origin[count] = (uint32_t)n;
    plain[count] = '\0';
    return count;
}
