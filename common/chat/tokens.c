#include "common/chat/tokens.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/base/text.h"

/* All costs are hundredths of a token. */
enum {
    TOKEN = TOKEN_COST,
    /* a word */
    WORD_START = 62,
    WORD_UNSPACED = 14, /* more, where no space leads: few pieces of that kind are known */
    BOTH_CAPITAL = 36,  /* between two capitals */
    CAMEL = 65,         /* between a small letter and a capital */
    LONG = 12,          /* letters, */
    LONGER = 8,         /* and each further one */
    ACCENT_WESTERN = 106,
    ACCENT_EASTERN = 125,
    ACCENT_ROMANIAN = 90, /* which Vietnamese has, too */
    ACCENT_VIETNAMESE = 50,
    /* punctuation: the mark after the first two of a run, if it is another or the same again */
    CHANGE = 50, /* the second and third */
    CHANGE_AGAIN = 80,
    REPEAT = 13,
    REPEAT_RULE = 2, /* one of those that lines are drawn with */
    MARK_JOINS = 40, /* less, when one of . _ ( - is part of the word that follows */
    /* each further blank in a run */
    LINE = 13,
    TAB = 7,
    SPACE = 1,
    /* English */
    ENGLISH = 80,        /* of 256: from this share of function words on all is taken for it */
    ENGLISH_MEMORY = 16, /* words */
    ENGLISH_LESS = 88,   /* percent of the cuts that are not made in it */
    FOREIGN_CUTS = 122,  /* percent of the table's cuts that are made elsewhere */
};

/*
 * Between which letters a tokenizer cuts a Latin word, in twentieths of a cut (base 36): a row for
 * the first letter, a column for the second. English words are mostly known whole, those of other
 * languages are put together from English pieces; which is which shows in the pairs. Fitted by
 * non-negative least squares to the words of texts in nineteen languages and of code.
 */
static const char cuts[26][27] = {
    "h113d9164b4224b4c14053b028", "7g9a4ad960d09a6f913959ba3d", "498909913c009c0990h04cd997",
    "39e119995ck09a689729a9e999", "4101839c9gg975560315a7405i", "2aad30ab3cd3994a90b129aa99",
    "ajej4b335fg5928na0c72ai9a9", "59eg5c9b7g9a915a93908a99ca", "7413644dne9342069664k5g1j3",
    "599e4e995a9rc939ah6j8c9aba", "9bd06d909bgdcbh9ai96di9bfb", "699112ad4c81b85199148g9a0d",
    "53961c496ae60c039b0eab9aac", "6c1255237484a761990096a9a8", "e807860f7a363102b1643a099m",
    "6a862da089g0aj3491008a9999", "b9b99d999999999d99991c99b9", "6g26162i5g7d303b932395da0g",
    "ah4e3de06g8acb859a028g995l", "8a0939f03gd85d7090099h3c39", "3405072k7f4424c49131nea96d",
    "5bgg0a9b49bf9c6b99ebg99aic", "79b9199049999009b9999a39b9", "299b6ca949b999909a9399b99b",
    "5geddpip8f8b95559c69fa99o9", "cbag5dcc6hfgd9bmab9ceia969",
};

/* What a character of a script costs: the mean over texts in it, or over the block. Sorted. */
static const struct script {
    uint32_t first, last;
    int cost;
    bool latin; /* stands in words with ASCII letters; the cost is what it adds to them */
} scripts[] = {
    {0x00a0, 0x00bf, 100, false},
    {0x00c0, 0x00ff, ACCENT_WESTERN, true},
    {0x0100, 0x0101, ACCENT_EASTERN, true},
    {0x0102, 0x0103, ACCENT_ROMANIAN, true},
    {0x0104, 0x010f, ACCENT_EASTERN, true},
    {0x0110, 0x0111, ACCENT_VIETNAMESE, true},
    {0x0112, 0x019f, ACCENT_EASTERN, true},
    {0x01a0, 0x01b0, ACCENT_VIETNAMESE, true},
    {0x01b1, 0x024f, ACCENT_EASTERN, true},
    {0x0250, 0x036f, 200, false},
    {0x0370, 0x03ff, 103, false}, /* Greek */
    {0x0400, 0x040f, 200, false}, /* Cyrillic: letters that Russian has not */
    {0x0410, 0x044f, 50, false},
    {0x0450, 0x052f, 200, false},
    {0x0530, 0x058f, 202, false}, /* Armenian */
    {0x0590, 0x05ff, 123, false}, /* Hebrew */
    {0x0600, 0x065f, 50, false},  /* Arabic */
    {0x0660, 0x066f, 200, false},
    {0x0670, 0x06ff, 190, false}, /* its letters for Persian, Urdu and others */
    {0x0900, 0x097f, 122, false}, /* Devanagari */
    {0x0980, 0x09ff, 146, false}, /* Bengali */
    {0x0a00, 0x0aff, 213, false}, /* Gurmukhi, Gujarati */
    {0x0b00, 0x0b7f, 297, false}, /* Oriya */
    {0x0b80, 0x0bff, 158, false}, /* Tamil */
    {0x0c00, 0x0cff, 202, false}, /* Telugu, Kannada */
    {0x0d00, 0x0d7f, 188, false}, /* Malayalam */
    {0x0d80, 0x0dff, 220, false}, /* Sinhala */
    {0x0e00, 0x0e7f, 61, false},  /* Thai */
    {0x0e80, 0x0eff, 220, false}, /* Lao */
    {0x0f00, 0x0fff, 260, false}, /* Tibetan */
    {0x1000, 0x109f, 215, false}, /* Burmese */
    {0x10a0, 0x10ff, 215, false}, /* Georgian */
    {0x1780, 0x17ff, 192, false}, /* Khmer */
    {0x1e00, 0x1eff, ACCENT_VIETNAMESE, true},
    {0x1f00, 0x1fff, 222, false}, /* Greek of old */
    {0x2000, 0x200f, 150, false}, /* spaces, joiners */
    {0x2010, 0x2027, 100, false}, /* dashes, quotes */
    {0x2028, 0x21ff, 195, false}, /* signs, arrows */
    {0x2200, 0x22ff, 225, false}, /* mathematics */
    {0x2500, 0x25ff, 193, false}, /* lines, boxes */
    {0x2600, 0x26ff, 246, false}, /* symbols */
    {0x2700, 0x27bf, 200, false},
    {0x3000, 0x303f, 100, false}, /* CJK punctuation */
    {0x3040, 0x309f, 64, false},  /* Hiragana */
    {0x30a0, 0x30ff, 74, false},  /* Katakana */
    {0x4e00, 0x9fff, 96, false},  /* Han */
    {0xac00, 0xd7a3, 87, false},  /* Hangul */
    {0xfe00, 0xfe0f, 110, false}, /* variation selectors */
    {0xff00, 0xff20, 100, false}, /* wide punctuation and digits */
    {0xff21, 0xff60, 158, false},
    {0xff61, 0xffef, 190, false},
    {0x1f000, 0x1faff, 300, false}, /* emoji */
};
enum {
    SCRIPTS = sizeof(scripts) / sizeof(scripts[0]),
    FIRST_SYMBOL = 0x2000,
    FIRST_IDEOGRAPHIC = 0x3000,
    LAST_IDEOGRAPHIC = 0xffef,
};

/* By the length in UTF-8, for characters in no range: few texts have them. */
static const int rare_cost[] = {0, 0, 200, 300, 400};

/* How far the text was read, and what it cost up to there. */
struct reading {
    struct token_counts *to;
    enum { NOTHING, WORD, DIGITS, PUNCTUATION, OTHER, BLANK } in;
    /* In digits: */
    long digits; /* so far */
    /* In a word: */
    long word;         /* its cost so far */
    long length;       /* letters */
    uint32_t letters;  /* the last four, small */
    unsigned char was; /* the letter before, 0 for one with an accent */
    bool capitals;     /* two in a row */
    int english;       /* share of function words among the last words, of 256 */
    /* In punctuation: */
    unsigned char mark; /* the character before */
    bool lone;          /* nothing else, not even a blank, stands before it */
    int changes;        /* how often another one followed */
    /* In blank space: */
    long lines;     /* characters that end lines */
    long blanks;    /* since the last of them */
    long more;      /* cost of all beside the first of their run */
    bool swallowed; /* the lines' token is the punctuation before */
};

#define FOUR(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

/* Words of up to four letters that are frequent in English and rare elsewhere. */
static bool is_function_word(uint32_t letters)
{
    switch (letters) {
    case FOUR(0, 0, 0, 'i'):
    case FOUR(0, 0, 'b', 'e'):
    case FOUR(0, 0, 'i', 'f'):
    case FOUR(0, 0, 'i', 't'):
    case FOUR(0, 0, 'm', 'y'):
    case FOUR(0, 0, 'o', 'f'):
    case FOUR(0, 0, 't', 'o'):
    case FOUR(0, 0, 'w', 'e'):
    case FOUR(0, 'a', 'n', 'd'):
    case FOUR(0, 'a', 'r', 'e'):
    case FOUR(0, 'c', 'a', 'n'):
    case FOUR(0, 'f', 'o', 'r'):
    case FOUR(0, 'h', 'o', 'w'):
    case FOUR(0, 'n', 'o', 't'):
    case FOUR(0, 't', 'h', 'e'):
    case FOUR(0, 'y', 'o', 'u'):
    case FOUR('f', 'r', 'o', 'm'):
    case FOUR('h', 'a', 'v', 'e'):
    case FOUR('t', 'h', 'a', 't'):
    case FOUR('t', 'h', 'e', 'y'):
    case FOUR('t', 'h', 'i', 's'):
    case FOUR('w', 'h', 'a', 't'):
    case FOUR('w', 'h', 'e', 'n'):
    case FOUR('w', 'i', 't', 'h'):
    case FOUR('y', 'o', 'u', 'r'):
        return true;
    default:
        return false;
    }
}

static void add(struct reading *r, enum token_class class, long cost)
{
    r->to->cost[class] += cost;
}

static void end_word(struct reading *r)
{
    long cut_off = r->word - TOKEN, known = r->english < ENGLISH ? r->english : ENGLISH;
    bool function_word = r->length <= 4 && is_function_word(r->letters);

    if (r->in != WORD)
        return;
    if (r->capitals)
        known /= 2;
    add(r, TOKENS_WORDS, TOKEN);
    if (cut_off > 0)
        add(r, TOKENS_PIECES, cut_off * (FOREIGN_CUTS - ENGLISH_LESS * known / ENGLISH) / 100);
    r->english += ((function_word ? 256 : 0) - r->english) / ENGLISH_MEMORY;
}

/* One blank belongs to the token that follows, if that is of the joining kind. */
static void end_blank(struct reading *r, bool joins)
{
    if (r->in != BLANK)
        return;
    add(r, TOKENS_BLANKS, r->more);
    if (r->lines > 0 && !r->swallowed)
        add(r, TOKENS_BLANKS, TOKEN);
    if (r->blanks > 1)
        add(r, TOKENS_BLANKS, TOKEN);
    if (r->blanks > 0 && !joins)
        add(r, TOKENS_BLANKS, TOKEN);
}

static int class_of(unsigned char c)
{
    return c >= 'a' ? c - 'a' : c - 'A';
}

static int cut_between(unsigned char a, unsigned char b)
{
    int digit = cuts[class_of(a)][class_of(b)];

    return (digit >= 'a' ? digit - 'a' + 10 : digit - '0') * (TOKEN / 20);
}

static bool is_capital(unsigned char c)
{
    return c >= 'A' && c <= 'Z';
}

static void begin_word(struct reading *r)
{
    r->word = WORD_START + (r->in == BLANK && r->blanks > 0 ? 0 : WORD_UNSPACED);
    if (r->in == PUNCTUATION && r->lone && strchr("._(-", r->mark))
        add(r, TOKENS_MARKS, -MARK_JOINS);
    end_blank(r, true);
    r->in = WORD;
    r->letters = 0;
    r->length = 0;
    r->capitals = false;
}

/* A Latin letter and what it costs beside its place in the word; c is 0 for one with an accent. */
static void read_latin(struct reading *r, unsigned char c, int cost)
{
    if (r->in != WORD) {
        begin_word(r);
    } else if (is_capital(c)) {
        r->word += is_capital(r->was) ? BOTH_CAPITAL : CAMEL;
        r->capitals |= is_capital(r->was);
    } else if (c && r->was) {
        r->word += cut_between(r->was, c);
    }
    r->word += cost + (r->length >= LONG ? LONGER : 0);
    r->letters = r->letters << 8 | (c | 0x20);
    r->length++;
    r->was = c;
}

static void read_digit(struct reading *r)
{
    end_word(r);
    end_blank(r, false);
    r->digits = r->in == DIGITS ? r->digits + 1 : 0;
    /* Qwen gives each digit a token of its own, others have one for up to three. */
    add(r, r->digits % 3 == 0 ? TOKENS_NUMBERS : TOKENS_DIGITS, TOKEN);
    r->in = DIGITS;
}

static void read_blank(struct reading *r, unsigned char c)
{
    end_word(r);
    if (r->in != BLANK) {
        r->swallowed = r->in == PUNCTUATION;
        r->lines = r->blanks = r->more = 0;
    }
    r->in = BLANK;
    if (c == '\n' || c == '\r') {
        r->swallowed = r->swallowed && r->blanks == 0;
        r->more += r->lines > 0 ? LINE : 0;
        r->lines++;
        r->blanks = 0;
    } else {
        r->more += r->blanks < 2 ? 0 : c == ' ' ? SPACE : TAB;
        r->blanks++;
    }
}

static int mark_again(struct reading *r, unsigned char c)
{
    if (c == r->mark)
        return strchr("-=*#_./~", c) ? REPEAT_RULE : REPEAT;
    r->changes++;
    return r->changes == 1 ? 0 : r->changes <= 3 ? CHANGE : CHANGE_AGAIN;
}

static void read_punctuation(struct reading *r, unsigned char c)
{
    if (c == '\'' && r->in == WORD) { /* don't: two words, no mark */
        end_word(r);
        r->in = OTHER;
        return;
    }
    end_word(r);
    end_blank(r, true);
    r->lone = r->in != PUNCTUATION && r->in != BLANK;
    if (r->in == PUNCTUATION) {
        add(r, TOKENS_MARKS, mark_again(r, c));
    } else {
        add(r, TOKENS_MARKS, TOKEN);
        r->changes = 0;
    }
    r->in = PUNCTUATION;
    r->mark = c;
}

/* What no token is shared with: control characters, bytes that are no UTF-8, other scripts. */
static void read_apart(struct reading *r, enum token_class class, int cost)
{
    end_word(r);
    end_blank(r, true);
    add(r, class, cost);
    r->in = OTHER;
}

static void read_ascii(struct reading *r, unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || is_capital(c))
        read_latin(r, c, 0);
    else if (c >= '0' && c <= '9')
        read_digit(r);
    else if (c == ' ' || (c >= '\t' && c <= '\r'))
        read_blank(r, c);
    else if (c > ' ' && c < 0x7f)
        read_punctuation(r, c);
    else
        read_apart(r, TOKENS_SYMBOLS, TOKEN);
}

static const struct script *script_of(uint32_t c)
{
    size_t low = 0, high = SCRIPTS;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (c > scripts[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < SCRIPTS && c >= scripts[low].first ? &scripts[low] : NULL;
}

static enum token_class class_of_script(uint32_t c)
{
    if (c >= FIRST_IDEOGRAPHIC && c <= LAST_IDEOGRAPHIC)
        return TOKENS_IDEOGRAPHS;
    return c >= FIRST_SYMBOL ? TOKENS_SYMBOLS : TOKENS_LETTERS;
}

static void read_other(struct reading *r, const char *s, size_t bytes)
{
    const struct script *script;
    uint32_t c = (unsigned char)s[0] & (0xffu >> (bytes + 1));
    size_t i;

    for (i = 1; i < bytes; i++)
        c = c << 6 | ((unsigned char)s[i] & 0x3f);
    script = script_of(c);
    if (script && script->latin)
        read_latin(r, 0, script->cost);
    else
        read_apart(r, class_of_script(c), script ? script->cost : rare_cost[bytes]);
}

void tokens_count(const char *text, size_t n, struct token_counts *to)
{
    struct reading r = {.to = to};
    size_t bytes;

    for (; n > 0; text += bytes, n -= bytes) {
        bytes = text_utf8_char(text, n);
        if (bytes == 1) {
            read_ascii(&r, (unsigned char)*text);
        } else if (bytes > 1) {
            read_other(&r, text, bytes);
        } else {
            read_apart(&r, TOKENS_SYMBOLS, TOKEN);
            bytes = 1;
        }
    }
    end_word(&r);
    end_blank(&r, false);
}
