/* E-mail addresses, URLs, account numbers with letters, IPv6 addresses, dates of birth, names. */
#include "workers/inference/pii.h"

#include <arpa/inet.h>
#include <string.h>

enum {
    EMAIL_MAX = 255, /* bytes of each side */
    URL_MAX = 2048,
    SCHEME_MAX = 16,
    HEXTET = 4, /* digits of a group of an IPv6 address */
    IBAN_MAX = 34,
    BIRTH_BEFORE = 48, /* bytes that may be between a date and what it is */
    BIRTH_AFTER = 32,
};

static const char *const kind_names[PII_KINDS] = {"EMAIL", "PHONE", "NIK", "NPWP",      "CARD",
                                                  "IBAN",  "IP",    "URL", "BIRTHDATE", "NAME"};

const char *pii_kind_name(enum pii_kind kind)
{
    return kind_names[kind];
}

/* ---- words around a place ---- */

bool pii_word(const struct pii_scan *s, size_t i)
{
    unsigned char lead = (unsigned char)pii_at(s, i), next;
    size_t at = i;

    while (at > 0 && i - at < 3 && (lead & 0xc0) == 0x80)
        lead = (unsigned char)s->text[--at];
    if (lead < 0x80)
        return pii_alpha((char)lead) || pii_digit((char)lead);
    next = (unsigned char)pii_at(s, at + 1);
    if (lead == 0xc2) /* of Latin-1's signs three are letters */
        return next == 0xaa || next == 0xb5 || next == 0xba;
    return lead < 0xe0 || lead == 0xe1;
}

bool pii_has(const struct pii_scan *s, size_t i, const char *word)
{
    for (; *word; word++, i++)
        if (pii_lower(pii_at(s, i)) != *word)
            return false;
    return true;
}

/* Is one of the words at i, in [from, end)? */
static bool is_cue(const struct pii_scan *s, size_t from, size_t i, size_t end,
                   const char *const *words)
{
    bool begins = i == from || !pii_word(s, i - 1);
    size_t n;

    for (; *words; words++) {
        bool within = **words == '~';
        const char *word = *words + within;

        if ((!begins && !within) || pii_lower(s->text[i]) != *word)
            continue;
        n = strlen(word);
        if (n <= end - i && pii_has(s, i, word) && (within || !pii_word(s, i + n)))
            return true;
    }
    return false;
}

static bool any_cue(const struct pii_scan *s, size_t from, size_t end, const char *const *words)
{
    size_t i;

    for (i = from; i < end; i++)
        if (is_cue(s, from, i, end, words))
            return true;
    return false;
}

bool pii_cue_before(const struct pii_scan *s, size_t i, size_t window, const char *const *words)
{
    size_t from = i > window ? i - window : 0, at;

    if (from < s->found_end)
        from = s->found_end;
    for (at = i; at > from; at--) {
        char c = s->text[at - 1];

        if (c == '\n' || c == ';' ||
            ((c == '.' || c == '!' || c == '?') && at < i && pii_at(s, at) == ' ' &&
             at - from > 4 && pii_word(s, at - 2) && pii_word(s, at - 3) && pii_word(s, at - 4) &&
             pii_word(s, at - 5))) /* behind so long a word it is no abbreviation's */
            break;
    }
    return any_cue(s, at, i, words);
}

bool pii_cue_after(const struct pii_scan *s, size_t i, size_t window, const char *const *words)
{
    size_t end = i;

    while (end < s->n && end - i < window && !strchr("\n;,.!?\"", s->text[end]))
        end++;
    return any_cue(s, i, end, words);
}

/* Where the next such sign is at i or behind; asked for from left to right, each is looked for
 * once. */
static size_t next_sign(const struct pii_scan *s, size_t *known, char sign, size_t i)
{
    const char *found;

    if (*known < i || (*known == i && pii_at(s, i) != sign)) {
        found = memchr(s->text + i, sign, s->n - i);
        *known = found ? (size_t)(found - s->text) : s->n + URL_MAX;
    }
    return *known;
}

/* ---- URLs ---- */

static bool ends_url(char c)
{
    return (unsigned char)c <= ' ' || strchr("\"<>\\^`{|}", c);
}

/* A parameter whose value opens something. */
static bool is_secret(const struct pii_scan *s, size_t i)
{
    static const char *const keys[] = {
        "token=",     "access_token=", "refresh_token=", "id_token=",      "api_key=",
        "apikey=",    "key=",          "auth=",          "password=",      "passwd=",
        "pwd=",       "pass=",         "secret=",        "client_secret=", "sig=",
        "signature=", "session=",      "sessionid=",     "jwt=",           "x-amz-signature="};
    size_t k;

    for (k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
        if (pii_has(s, i, keys[k]))
            return pii_word(s, i + strlen(keys[k]));
    return false;
}

static bool has_secret(struct pii_scan *s, size_t from, size_t end)
{
    size_t i;

    if (from < s->no_secret_before)
        from = s->no_secret_before;
    for (i = from; i < end; i++)
        if (strchr("?&#;", s->text[i]) && is_secret(s, i + 1))
            return true;
    if (end > s->no_secret_before)
        s->no_secret_before = end;
    return false;
}

static size_t run_end(const struct pii_scan *s, size_t from)
{
    size_t end = from;

    while (end < s->n && end - from < URL_MAX && !ends_url(s->text[end]))
        end++;
    return end;
}

/* https://user:password@host/, or one with a key among its parameters. */
static size_t url_end(struct pii_scan *s, size_t i)
{
    size_t host = i, end, at;
    bool opens = false;

    if (next_sign(s, &s->next_colon, ':', i) - i > SCHEME_MAX)
        return 0;
    while (host - i < SCHEME_MAX &&
           (pii_alpha(pii_at(s, host)) || pii_digit(pii_at(s, host)) ||
            strchr("+-.", pii_at(s, host))) &&
           host < s->n)
        host++;
    if (!pii_has(s, host, "://"))
        return 0;
    host += 3;
    for (at = host; at < s->n && at - host < EMAIL_MAX && !ends_url(s->text[at]) &&
                    !strchr("/?#", s->text[at]);
         at++)
        opens |= s->text[at] == '@' && at > host;
    if (!opens) {
        if (s->url_like_before <= at)
            s->url_like_before = run_end(s, at);
        if (!has_secret(s, at, s->url_like_before))
            return 0;
    }
    end = run_end(s, at);
    while (end > at && strchr(".,;:!?)]'", s->text[end - 1]))
        end--;
    return end;
}

/* ---- e-mail ---- */

static bool is_local(const struct pii_scan *s, size_t i)
{
    return pii_word(s, i) || (s->text[i] != '\0' && strchr(".!#$%&'*+-/=?_~", s->text[i]));
}

static size_t domain_end(const struct pii_scan *s, size_t from)
{
    size_t at = from, last_dot = 0, end;

    while (at < s->n && at - from < EMAIL_MAX &&
           (pii_word(s, at) || s->text[at] == '-' || s->text[at] == '.'))
        at++;
    while (at > from && (s->text[at - 1] == '.' || s->text[at - 1] == '-'))
        at--;
    end = at;
    while (at > from && !last_dot) {
        at--;
        if (s->text[at] == '.')
            last_dot = at;
        if (s->text[at] == '.' && s->text[at - 1] == '.')
            return 0;
    }
    if (last_dot <= from || end - last_dot < 3 || pii_digit(s->text[last_dot + 1]))
        return 0;
    return end;
}

static size_t email_end(struct pii_scan *s, size_t i)
{
    size_t at = i, end;

    if (i < s->no_email_before || next_sign(s, &s->next_at_sign, '@', i) - i > EMAIL_MAX)
        return 0;
    while (at < s->n && at - i < EMAIL_MAX && is_local(s, at))
        at++;
    if (pii_at(s, at) == '@' && (end = domain_end(s, at + 1)) > 0)
        return end;
    s->no_email_before = at;
    return 0;
}

/* ---- IBAN ---- */

/* Each country and the length of its accounts. */
static const char iban_lengths[] =
    "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24"
    "FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21"
    "LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22"
    "RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30";

static size_t iban_length(char a, char b)
{
    const char *row;

    for (row = iban_lengths; *row; row += 4)
        if (row[0] == a && row[1] == b)
            return (size_t)((row[2] - '0') * 10 + row[3] - '0');
    return 0;
}

static bool iban_holds(const char *account, size_t n)
{
    unsigned remainder = 0;
    size_t i;

    for (i = 0; i < n; i++) { /* country and check digits come last */
        char c = account[(i + 4) % n];

        if (pii_digit(c))
            remainder = (remainder * 10 + (unsigned)(c - '0')) % 97;
        else
            remainder = (remainder * 100 + (unsigned)(c - 'A') + 10) % 97;
    }
    return remainder == 1;
}

static size_t iban_end(const struct pii_scan *s, size_t i)
{
    char account[IBAN_MAX];
    size_t want, n = 0;

    if (!pii_alpha(pii_at(s, i + 1)) || !pii_digit(pii_at(s, i + 2)) ||
        !pii_digit(pii_at(s, i + 3)))
        return 0;
    want = iban_length((char)(s->text[i] & ~32), (char)(s->text[i + 1] & ~32));
    for (; n < want && i < s->n; i++) {
        char c = s->text[i];

        if (pii_digit(c) || pii_alpha(c))
            account[n++] = pii_alpha(c) ? (char)(c & ~32) : c;
        else if ((c != ' ' && c != '-') || !pii_word(s, i + 1))
            return 0;
    }
    return want > 0 && n == want && !pii_word(s, i) && iban_holds(account, n) ? i : 0;
}

/* ---- IPv6 ---- */

static bool is_hex(char c)
{
    return pii_digit(c) || (pii_lower(c) >= 'a' && pii_lower(c) <= 'f');
}

static size_t ipv6_end(struct pii_scan *s, size_t i)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[16];
    size_t n = 0, colons = 0, digits = 0, groups = 0;

    if (i > 0 && strchr(":.", s->text[i - 1]))
        return 0;
    if (next_sign(s, &s->next_colon, ':', i) - i > HEXTET)
        return 0;
    for (; n < sizeof(text) - 1; n++) {
        char c = pii_at(s, i + n);

        if (!is_hex(c) && c != ':' && (c != '.' || colons < 2))
            break;
        colons += c == ':';
        digits += pii_digit(c);
        groups += is_hex(c) && (n == 0 || text[n - 1] == ':');
        text[n] = c;
    }
    if (pii_word(s, i + n))
        return 0;
    if (n > 2 && (text[n - 1] == '.' || (text[n - 1] == ':' && text[n - 2] != ':')))
        n--;
    text[n] = '\0';
    if (colons < 2 || digits == 0 || groups < 2 || inet_pton(AF_INET6, text, address) != 1)
        return 0;
    return i + n;
}

/* ---- dates of birth ---- */

static size_t birthdate_end(const struct pii_scan *s, size_t i)
{
    static const char *const cues[] = {"born",  "~birth",        "~lahir",      "dob",
                                       "d.o.b", "bday",          "b-day",       "ttl",
                                       "ultah", "tanggal_lahir", "ulang tahun", NULL};
    size_t end = pii_date(s, i);

    return end > 0 && (pii_cue_before(s, i, BIRTH_BEFORE, cues) ||
                       pii_cue_after(s, end, BIRTH_AFTER, cues))
               ? end
               : 0;
}

/* ---- names ---- */

/* As a small letter, for ASCII and for the second byte of Latin-1's letters. */
static char fold(char before, char c)
{
    unsigned char u = (unsigned char)c;

    if ((unsigned char)before == 0xc3 && u >= 0x80 && u <= 0x9e && u != 0x97)
        return (char)(u + 0x20);
    return pii_lower(c);
}

static void add_name(struct pii_names *names, const char *name, size_t n, bool as_written)
{
    size_t i;

    if (n < 2 || n > PII_NAME_BYTES || names->count == PII_NAMES_MAX)
        return;
    for (i = 0; i < names->count; i++)
        if (names->list[i].length == n && memcmp(names->list[i].text, name, n) == 0)
            return;
    memcpy(names->list[names->count].text, name, n);
    names->list[names->count].length = n;
    names->list[names->count++].as_written = as_written;
}

/* Words between names, and titles, which say nothing of a person. */
static bool is_particle(const char *word, size_t n)
{
    static const char particles[] = " bin binti van von der den de da di del la al el ibn bint of "
                                    "the and dan dr drs ir mr mrs ms prof haji hj sr jr ";
    char padded[16];
    size_t i;

    if (n > sizeof(padded) - 3)
        return false;
    padded[0] = ' ';
    for (i = 0; i < n; i++)
        padded[i + 1] = pii_lower(word[i]);
    padded[n + 1] = ' ';
    padded[n + 2] = '\0';
    return strstr(particles, padded) != NULL;
}

static bool is_between_names(char c)
{
    return (unsigned char)c < 0x80 && !pii_alpha(c) && !pii_digit(c) && c != '\'' && c != '-';
}

void pii_names_add(struct pii_names *names, const char *name, size_t n)
{
    size_t at = 0, end;

    while (n > 0 && is_between_names(name[n - 1]))
        n--;
    while (n > 0 && is_between_names(*name)) {
        name++;
        n--;
    }
    add_name(names, name, n, n < 4);
    while (at < n) {
        for (end = at; end < n && !is_between_names(name[end]); end++)
            ;
        if (!is_particle(name + at, end - at))
            add_name(names, name + at, end - at, end - at < 4);
        at = end + 1;
    }
}

/* What Indonesian puts behind a name: Dewilah, Budinya. */
static bool has_suffix(const struct pii_scan *s, size_t i)
{
    static const char *const suffixes[] = {"lah", "kah", "nya", "pun", "ku", "mu"};
    size_t k;

    for (k = 0; k < sizeof(suffixes) / sizeof(suffixes[0]); k++)
        if (pii_has(s, i, suffixes[k]) && !pii_word(s, i + strlen(suffixes[k])))
            return true;
    return false;
}

static bool name_is_at(const struct pii_scan *s, size_t i, size_t k)
{
    const char *name = s->names->list[k].text;
    size_t n = s->names->list[k].length, j;
    bool as_written = s->names->list[k].as_written;
    char before = '\0', name_before = '\0';

    if (n > s->n - i)
        return false;
    for (j = 0; j < n; j++) {
        char a = s->text[i + j], b = name[j];

        if (a != b && (as_written || fold(before, a) != fold(name_before, b)))
            return false;
        before = a;
        name_before = b;
    }
    return !pii_word(s, i + n - 1) || !pii_word(s, i + n) || (n > 3 && has_suffix(s, i + n));
}

static size_t one_name_end(const struct pii_scan *s, size_t i)
{
    size_t k, longest = 0;

    for (k = 0; s->names && k < s->names->count; k++)
        if (s->names->list[k].length > longest && name_is_at(s, i, k))
            longest = s->names->list[k].length;
    return longest > 0 ? i + longest : 0;
}

/* Names with a space between are one. */
static size_t name_end(const struct pii_scan *s, size_t i)
{
    size_t end = one_name_end(s, i), next = end;

    while (next > 0 && pii_at(s, next) == ' ' && (next = one_name_end(s, next + 1)) > 0)
        end = next;
    return end;
}

/* ---- one after the other ---- */

void pii_scan_init(struct pii_scan *s, const char *text, size_t n, const struct pii_names *names)
{
    *s = (struct pii_scan){.text = text, .n = n, .names = names};
}

/* What begins with the word at i. */
static size_t word_end(struct pii_scan *s, size_t i, enum pii_kind *kind)
{
    char c = s->text[i];
    size_t end;

    if (pii_alpha(c) && (*kind = PII_URL, end = url_end(s, i)) > 0)
        return end;
    if ((*kind = PII_EMAIL, end = email_end(s, i)) > 0)
        return end;
    if (pii_alpha(c) && (*kind = PII_IBAN, end = iban_end(s, i)) > 0)
        return end;
    if (is_hex(c) && (*kind = PII_IP, end = ipv6_end(s, i)) > 0)
        return end;
    if ((*kind = PII_BIRTHDATE, end = birthdate_end(s, i)) > 0)
        return end;
    if ((*kind = PII_NAME, end = name_end(s, i)) > 0)
        return end;
    return pii_digit(c) ? pii_number(s, i, kind) : 0;
}

static size_t something_end(struct pii_scan *s, size_t i, enum pii_kind *kind)
{
    char c = s->text[i];
    bool begins = i == 0 || !pii_word(s, i - 1);

    if (begins && pii_word(s, i))
        return word_end(s, i, kind);
    if (begins && (c == '+' || c == '('))
        return pii_number(s, i, kind);
    if (begins && c == ':' && pii_at(s, i + 1) == ':') {
        *kind = PII_IP;
        return ipv6_end(s, i);
    }
    if ((unsigned char)c >= 0xe0) { /* a letter of a script without spaces */
        *kind = PII_NAME;
        return name_end(s, i);
    }
    return 0;
}

bool pii_scan_next(struct pii_scan *s, struct pii_span *found)
{
    size_t end;

    for (; s->at < s->n; s->at++) {
        end = something_end(s, s->at, &found->kind);
        if (end == 0)
            continue;
        while (end < s->n && ((unsigned char)s->text[end] & 0xc0) == 0x80)
            end++; /* a bound fell into a character */
        found->at = s->at;
        found->length = end - s->at;
        s->at = s->found_end = end;
        return true;
    }
    return false;
}
