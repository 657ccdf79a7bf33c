/* Numbers: telephones, identity and tax numbers, cards, IPv4 addresses; and dates. */
#include <string.h>

#include "workers/inference/pii.h"

enum {
    GROUPS_MAX = 8,
    DIGITS_MAX = 24,
    PHONE_MIN = 7,   /* digits, of a number that is said to be one */
    CUE_BEFORE = 28, /* bytes that may be between a number and what it is */
};

/* Digits in groups, as in +62 812-3456-789. */
struct number {
    char digits[DIGITS_MAX + 1];
    bool plus, opened; /* begins with +; with a parenthesis */
    size_t groups;
    struct {
        size_t length, end; /* digits of the group; the byte of the text behind it */
        size_t total;       /* digits up to its end */
        char separator;     /* before it; '\0' before the first */
    } group[GROUPS_MAX];
};

/* ---- reading ---- */

/* The bytes between two groups at i; 0: none. */
static size_t separator_length(const struct pii_scan *s, size_t i, char *separator)
{
    size_t n = 0;

    *separator = pii_at(s, i);
    if (*separator == '(') {
        n = 1;
        *separator = ' ';
    } else if (*separator == ')') {
        n = 1;
        if (pii_at(s, i + 1) == ' ' || pii_at(s, i + 1) == '-')
            n = 2;
    } else if (*separator == ' ' || *separator == '-' || *separator == '.' || *separator == '/') {
        n = 1;
        if (*separator == ' ' && (pii_at(s, i + 1) == '(' || pii_at(s, i + 1) == '-'))
            n = 2;
        if (n == 2 && pii_at(s, i + 2) == ' ' && pii_at(s, i + 1) == '-')
            n = 3;
    }
    return n > 0 && pii_digit(pii_at(s, i + n)) ? n : 0;
}

static void read_number(const struct pii_scan *s, size_t i, struct number *number)
{
    size_t total = 0, between = 0;
    char separator = '\0';

    memset(number, 0, sizeof(*number));
    if ((number->opened = pii_at(s, i) == '('))
        i++;
    if ((number->plus = pii_at(s, i) == '+'))
        i++;
    if (number->plus && pii_at(s, i) == '(')
        i++;
    while (number->groups < GROUPS_MAX && pii_digit(pii_at(s, i))) {
        size_t begin = i;

        for (; pii_digit(pii_at(s, i)); i++)
            if (total + (i - begin) < DIGITS_MAX)
                number->digits[total + (i - begin)] = s->text[i];
        if (total + (i - begin) > DIGITS_MAX)
            return;
        total += i - begin;
        number->group[number->groups].length = i - begin;
        number->group[number->groups].end = i;
        number->group[number->groups].total = total;
        number->group[number->groups++].separator = separator;
        between = separator_length(s, i, &separator);
        if (between == 0)
            return;
        i += between;
    }
}

/* May a number end with its first g groups? */
static bool ends_well(const struct pii_scan *s, const struct number *number, size_t g)
{
    size_t end = number->group[g - 1].end;
    char next = pii_at(s, end);

    if (pii_word(s, end) || next == '_')
        return false;
    return !(next == '-' || next == '.' || next == ':') || !pii_word(s, end + 1);
}

/* The value of n digits. */
static unsigned value(const char *digits, size_t n)
{
    unsigned v = 0;

    while (n-- > 0)
        v = v * 10 + (unsigned)(*digits++ - '0');
    return v;
}

static bool luhn(const char *digits, size_t n)
{
    unsigned sum = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        unsigned d = (unsigned)(digits[n - 1 - i] - '0');

        sum += i % 2 == 0 ? d : d * 2 - (d > 4 ? 9 : 0);
    }
    return sum % 10 == 0;
}

/* Are the first g groups of these lengths, written as in "4444"? */
static bool has_lengths(const struct number *number, size_t g, const char *lengths)
{
    size_t i;

    if (strlen(lengths) != g)
        return false;
    for (i = 0; i < g; i++)
        if (number->group[i].length != (size_t)(lengths[i] - '0'))
            return false;
    return true;
}

static bool has_separators(const struct number *number, size_t g, const char *allowed)
{
    size_t i;

    for (i = 1; i < g; i++)
        if (!strchr(allowed, number->group[i].separator))
            return false;
    return true;
}

/* ---- identity, tax, cards ---- */

/* A province, a date of birth (a woman's day is 40 more), a serial number. */
static bool is_nik(const char *d)
{
    static const char provinces[] =
        "11 12 13 14 15 16 17 18 19 21 31 32 33 34 35 36 51 52 53 61 62 "
        "63 64 65 71 72 73 74 75 76 81 82 91 92 93 94 95 96 97 ";
    unsigned day = value(d + 6, 2), month = value(d + 8, 2);
    const char *p;

    for (p = provinces; *p && (p[0] != d[0] || p[1] != d[1]); p += 3)
        ;
    if (day > 40)
        day -= 40;
    return *p && value(d + 2, 2) > 0 && value(d + 4, 2) > 0 && day >= 1 && day <= 31 &&
           month >= 1 && month <= 12 && value(d + 12, 4) > 0;
}

static bool is_card(const char *d, size_t n)
{
    unsigned two = value(d, 2), four = value(d, 4);

    if (!luhn(d, n))
        return false;
    if (*d == '4')
        return n == 13 || n == 16 || n == 19;
    if (two == 34 || two == 37)
        return n == 15;
    if ((four >= 3528 && four <= 3589) || two == 60 || two == 62 || two == 64 || two == 65 ||
        two == 81 || two == 50 || (two >= 56 && two <= 58) || two == 63 || two == 67)
        return n >= 16;
    if ((two >= 51 && two <= 55) || (four >= 2221 && four <= 2720))
        return n == 16;
    return (two == 30 || two == 36 || two == 38 || two == 39) && n == 14;
}

static bool is_dotted_npwp(const struct number *number, size_t g)
{
    return has_lengths(number, g, "233133") && number->group[4].separator == '-' &&
           number->group[1].separator == '.' && number->group[2].separator == '.' &&
           number->group[3].separator == '.' && number->group[5].separator == '.';
}

/* Sixteen digits, or fifteen: one kind or another. */
static bool is_account(const struct pii_scan *s, size_t i, const struct number *number, size_t g,
                       enum pii_kind *kind)
{
    static const char *const tax[] = {"npwp", "tax id", "tax number", "nomor pajak", NULL};
    static const char *const identity[] = {"nik", "ktp", "e-ktp", "no ktp", "nomor induk", NULL};
    const char *d = number->digits;
    size_t n = number->group[g - 1].total;
    bool whole = g == 1;

    if (number->plus || number->opened || n < 13 || n > 19 || !has_separators(number, g, " -."))
        return false;
    if ((n == 15 || n == 16) && (whole || is_dotted_npwp(number, g)) &&
        (!whole || pii_cue_before(s, i, CUE_BEFORE, tax) ||
         (n == 16 && *d == '0' && luhn(d + 1, 9)) || (n == 15 && luhn(d, 9) && !is_card(d, n))))
        *kind = PII_NPWP;
    else if (n == 16 &&
             (whole || has_lengths(number, g, "22264") || has_lengths(number, g, "664")) &&
             (is_nik(d) || pii_cue_before(s, i, CUE_BEFORE, identity)))
        *kind = PII_NIK;
    else if (is_card(d, n) &&
             (whole || (number->group[0].length == 4 && g <= 5 && has_separators(number, g, " -"))))
        *kind = PII_CARD;
    else if (n == 16 && has_lengths(number, g, "4444") && is_nik(d))
        *kind = PII_NIK;
    else
        return false;
    return true;
}

/* ---- telephones ---- */

static const char *const phone_cues[] = {
    "phone",      "telephone", "tel",    "telp",          "telepon", "telpon",
    "hp",         "no hp",     "wa",     "whatsapp",      "mobile",  "cell",
    "fax",        "faks",      "sms",    "call",          "ponsel",  "handphone",
    "hubungi",    "contact",   "kontak", "nomor telepon", "text me", "my number",
    "nomor saya", "nomorku",   "~phone", "~whatsapp",     NULL};

/* Behind + or 00: a country and at least its shortest number. */
static bool is_international(const char *d, size_t n)
{
    if (n < 8 || n > 15 || *d == '0')
        return false;
    if (*d == '1')
        return n == 11 && d[1] >= '2' && d[4] >= '2';
    if (*d == '7')
        return n == 11;
    return n >= 9;
}

static bool is_indonesian(const struct number *number, size_t g)
{
    const char *d = number->digits;
    size_t n = number->group[g - 1].total;

    if (d[0] == '0' && d[1] == '8') /* mobile */
        return n >= 10 && n <= 13 && strchr("1235789", d[2]);
    if (d[0] == '6' && d[1] == '2' && d[2] == '8') /* the same without + */
        return n >= 11 && n <= 14;
    if (d[0] != '0' || d[1] < '2' || n < 9 || n > 12) /* a landline with its area */
        return false;
    return g >= 2 && g <= 4 && (number->group[0].length == 3 || number->group[0].length == 4) &&
           number->group[1].length >= 3 && number->group[g - 1].length >= 3;
}

static bool is_american(const struct number *number, size_t g)
{
    const char *d = number->digits;
    bool country = has_lengths(number, g, "1334") && *d == '1';

    if (!country && !has_lengths(number, g, "334"))
        return false;
    return d[country] >= '2' && d[country + 3] >= '2' &&
           (number->opened || number->group[g - 1].separator == '-' ||
            number->group[g - 1].separator == '.');
}

/* 00 and a country that people here write so. */
static bool is_dialled(const struct number *number, size_t n)
{
    const char *d = number->digits;
    static const char *const countries[] = {"62", "60", "65", "66",  "63",  "84", "61",
                                            "44", "49", "33", "31",  "39",  "34", "81",
                                            "82", "86", "91", "971", "966", "1"};
    size_t i;

    if (d[0] != '0' || d[1] != '0' || number->group[0].length < 3)
        return false;
    for (i = 0; i < sizeof(countries) / sizeof(countries[0]); i++)
        if (strncmp(d + 2, countries[i], strlen(countries[i])) == 0)
            return is_international(d + 2, n - 2);
    return false;
}

static bool is_date_like(const struct number *number, size_t g)
{
    return has_lengths(number, g, "422") || has_lengths(number, g, "224");
}

/* cued: a word before it says that it is one */
static bool is_phone(const struct number *number, size_t g, bool cued)
{
    size_t n = number->group[g - 1].total;

    if (!has_separators(number, g, " -.)") || n > 17 || (n < 8 && !cued))
        return false;
    if (number->plus)
        return is_international(number->digits, n);
    return is_dialled(number, n) || is_indonesian(number, g) || is_american(number, g) ||
           (cued && n <= 15 && !is_date_like(number, g));
}

/* ---- IPv4 ---- */

static bool is_ipv4(const struct pii_scan *s, size_t i, const struct number *number)
{
    static const char *const versions[] = {"v",       "ver",      "version", "versi", "release",
                                           "rilis",   "build",    "section", "bab",   "pasal",
                                           "chapter", "firmware", NULL};
    const char *d = number->digits;
    size_t g;

    if (number->groups < 4 || number->plus || number->opened ||
        (number->groups > 4 && number->group[4].separator == '.'))
        return false;
    for (g = 0; g < 4; g++) {
        size_t n = number->group[g].length;

        if (n > 3 || value(d, n) > 255 || (n > 1 && *d == '0') ||
            (g > 0 && number->group[g].separator != '.'))
            return false;
        d += n;
    }
    return !pii_word(s, number->group[3].end) && !pii_cue_before(s, i, 10, versions);
}

/* ---- numbers ---- */

/* A part of a longer thing (an order number, a UUID, a decimal fraction), or money. */
static bool is_part_or_money(const struct pii_scan *s, size_t i)
{
    static const char *const money[] = {"rp", "idr", "usd", "eur", "rp.", NULL};
    char before = i > 0 ? s->text[i - 1] : '\0', sooner = i > 1 ? s->text[i - 2] : '\0';

    if (before == '$')
        return true;
    if (i > 0 && s->found_end == i - 1) /* one of a list */
        return false;
    if (before == '-')
        return i > 1 && pii_word(s, i - 2);
    if (before == '.' || before == ',' || before == '/')
        return i > 1 && pii_digit(sooner);
    if (i > 2 && (unsigned char)before >= 0x80 && !pii_word(s, i - 1) &&
        (memcmp(s->text + i - 3, "\xe2\x82\xac", 3) == 0)) /* euro */
        return true;
    return pii_cue_before(s, i, 4, money);
}

size_t pii_number(const struct pii_scan *s, size_t i, enum pii_kind *kind)
{
    struct number number;
    bool cued;
    size_t g;

    read_number(s, i, &number);
    if (number.groups == 0 || number.group[number.groups - 1].total < 4 || is_part_or_money(s, i))
        return 0;
    if (is_ipv4(s, i, &number)) {
        *kind = PII_IP;
        return number.group[3].end;
    }
    if (number.group[number.groups - 1].total < PHONE_MIN)
        return 0;
    cued = pii_cue_before(s, i, CUE_BEFORE, phone_cues);
    for (g = number.groups; g > 0; g--) {
        if (number.group[g - 1].total < PHONE_MIN || !ends_well(s, &number, g))
            continue;
        if (is_account(s, i, &number, g, kind))
            return number.group[g - 1].end;
        *kind = PII_PHONE;
        if (is_phone(&number, g, cued))
            return number.group[g - 1].end;
    }
    return 0;
}

/* ---- dates ---- */

/* Up to `most` digits at *i, over which it moves; -1: none, or more. */
static long read_digits(const struct pii_scan *s, size_t *i, size_t most)
{
    size_t begin = *i;

    while (*i - begin <= most && pii_digit(pii_at(s, *i)))
        ++*i;
    if (*i == begin || *i - begin > most)
        return -1;
    return (long)value(s->text + begin, *i - begin);
}

static bool is_day_and_month(long a, long b)
{
    return a >= 1 && b >= 1 && a <= 31 && b <= 31 && (a <= 12 || b <= 12);
}

static bool is_year(long year, size_t digits)
{
    return digits == 4 ? year >= 1900 && year <= 2100 : digits == 2;
}

/* 1999-04-02, 02/04/1999, 2.4.99, 19990402 */
static size_t numeric_date(const struct pii_scan *s, size_t i)
{
    size_t at = i, first, last;
    long a = read_digits(s, &at, 8), b, c;
    char separator = pii_at(s, at);

    first = at - i;
    if (first == 8)
        return (is_year(a / 10000, 4) && is_day_and_month(a % 100, a / 100 % 100)) ||
                       (is_year(a % 10000, 4) && is_day_and_month(a / 1000000, a / 10000 % 100))
                   ? at
                   : 0;
    if (a < 0 || (separator != '-' && separator != '/' && separator != '.'))
        return 0;
    at++;
    b = read_digits(s, &at, 2);
    if (b < 0 || pii_at(s, at) != separator)
        return 0;
    last = ++at;
    c = read_digits(s, &at, 4);
    last = at - last;
    if (c < 0)
        return 0;
    if (first == 4)
        return is_year(a, 4) && last <= 2 && is_day_and_month(b, c) ? at : 0;
    return first <= 2 && is_year(c, last) && is_day_and_month(a, b) ? at : 0;
}

/* Moves *i over a month's name in English or Indonesian. */
static bool skip_month(const struct pii_scan *s, size_t *i)
{
    static const char *const months[] = {
        "january", "januari", "february", "februari", "march",    "maret",  "april",   "may",
        "mei",     "june",    "juni",     "july",     "juli",     "august", "agustus", "september",
        "october", "oktober", "november", "december", "desember", "jan",    "feb",     "mar",
        "apr",     "jun",     "jul",      "aug",      "agu",      "ags",    "agt",     "sept",
        "sep",     "oct",     "okt",      "nov",      "dec",      "des"};
    char first = pii_lower(pii_at(s, *i));
    size_t k;

    for (k = 0; k < sizeof(months) / sizeof(months[0]); k++) {
        size_t end;

        if (first != *months[k] || !pii_has(s, *i, months[k]))
            continue;
        end = *i + strlen(months[k]);
        if (pii_word(s, end))
            continue;
        *i = end + (pii_at(s, end) == '.');
        return true;
    }
    return false;
}

static void skip_between(const struct pii_scan *s, size_t *i)
{
    size_t begin = *i;

    while (*i - begin < 3 && *i < s->n && strchr(" ,-/'", s->text[*i]) && s->text[*i])
        ++*i;
    if (pii_has(s, *i, "of "))
        *i += 3;
}

/* Moves *i over a day of the month, as in 2 or 2nd. */
static bool skip_day(const struct pii_scan *s, size_t *i)
{
    long day = read_digits(s, i, 2);

    if (day < 1 || day > 31)
        return false;
    if (pii_has(s, *i, "st") || pii_has(s, *i, "nd") || pii_has(s, *i, "rd") ||
        pii_has(s, *i, "th"))
        *i += 2;
    return true;
}

/* 2 April 1999, 2nd of April, 1999, April 2, 1999; the year may be missing */
static size_t written_date(const struct pii_scan *s, size_t i)
{
    bool day_first = pii_digit(pii_at(s, i));
    size_t year, before_year;
    long y;

    if (day_first ? !skip_day(s, &i) : !skip_month(s, &i))
        return 0;
    skip_between(s, &i);
    if (day_first ? !skip_month(s, &i) : !skip_day(s, &i))
        return 0;
    before_year = i;
    skip_between(s, &i);
    year = i;
    y = read_digits(s, &i, 4);
    if (y < 0)
        return before_year;
    return is_year(y, i - year) ? i : 0;
}

size_t pii_date(const struct pii_scan *s, size_t i)
{
    size_t end;

    if (!pii_digit(pii_at(s, i)) && !pii_alpha(pii_at(s, i)))
        return 0;
    end = pii_digit(s->text[i]) ? numeric_date(s, i) : 0;
    if (end == 0)
        end = written_date(s, i);
    /* a time may follow */
    return end > 0 && (!pii_word(s, end) || pii_at(s, end) == 'T') ? end : 0;
}
