#include "workers/context-builder/injection.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "workers/context-builder/lookalike.h"

enum {
    LONG_WORD = 16,     /* letters; a longer word may be several */
    SPACED_LETTERS = 6, /* in a row, to be taken as words */
    ENCODED_MIN = 12,   /* bytes behind an encoding */
    DEPTH_MAX = 2,      /* of encodings within encodings */
    SENTENCE_WORDS = 3, /* a shorter one does not part what belongs together */
    TAG_SPACES = 2,     /* within a tag, in a row */
};

static const char removed[] = "[removed]";
static const char *const kind_names[INJECTION_KINDS] = {"override", "reveal", "role_tags",
                                                        "jailbreak"};

const char *injection_kind_name(enum injection_kind kind)
{
    return kind_names[kind];
}

/* ---- words and patterns ---- */

enum {
    IGNORE = 1 << 0,
    RULES = 1 << 1,
    EARLIER = 1 << 2, /* which rules */
    ALL = 1 << 3,
    BEFORE = 1 << 4,
    SHOW = 1 << 5,
    LEAK = 1 << 6,   /* as SHOW, and hardly meant otherwise */
    SECRET = 1 << 7, /* which prompt */
    YOUR = 1 << 8,
    THE = 1 << 9,
    TEXT = 1 << 10,
    ABOVE = 1 << 11,
    DO = 1 << 12,
    ANYTHING = 1 << 13,
    NOW = 1 << 14,
    BECOME = 1 << 15,
    DAN = 1 << 16, /* in capitals: "dan" is Indonesian for "and" */
    MODE = 1 << 17,
    DEVELOPER = 1 << 18,
    ENABLE = 1 << 19,
    WITHOUT = 1 << 20,
    LIMITS = 1 << 21,
    PRETEND = 1 << 22,
    JAILBREAK = 1 << 23,
    YOU = 1 << 24,
    MODEL = 1 << 25,
    NOT = 1 << 26,
    BOUND = 1 << 27,
    FOLLOW = 1 << 28,
    NEVER = 1 << 29,
};

static const struct {
    unsigned sets;
    const char *words; /* each with a space before and behind */
} lexicon[] = {
    {IGNORE, " ignore ignoring disregard forget override overrule bypass neglect overwrite abaikan "
             "abaikanlah lupakan lupakanlah acuhkan kesampingkan langgar mengabaikan "},
    {RULES, " instruction instructions prompt prompts rule rules guideline guidelines directive "
            "directives constraints restrictions programming guardrails instruksi instruksimu "
            "perintah perintahmu aturan aturanmu petunjuk pedoman arahan promptmu "},
    {EARLIER, " previous prior above earlier preceding foregoing all any your system initial "
              "original every everything sebelumnya semua seluruh segala atas tadi sistem awal "
              "kamu anda asli diatas instruksimu aturanmu perintahmu promptmu "},
    {ALL, " everything anything all whatever semua semuanya segalanya segala apapun "},
    {BEFORE, " above before previously told prior atas diatas sebelumnya sebelum "},
    {SHOW, " reveal show print repeat output display tell give leak expose write dump share "
           "disclose return recite summarize summarise translate what whats provide list "
           "tampilkan tunjukkan bocorkan sebutkan ungkapkan cetak ulangi tuliskan tulis berikan "
           "beritahu beritahukan kasih salin apa perlihatkan paste copy quote "},
    {LEAK, " reveal print repeat output leak expose dump disclose recite bocorkan ungkapkan cetak "
           "ulangi tampilkan perlihatkan salin paste "},
    {SECRET, " system hidden secret initial original internal confidential sistem sistemmu rahasia "
             "tersembunyi awal asli developer full exact verbatim "},
    {YOUR, " your yours kamu anda mu kalian instruksimu aturanmu promptmu sistemmu perintahmu "},
    {THE, " the this that ini itu my "},
    {TEXT, " words text everything message content kata teks semuanya tulisan pesan "},
    {ABOVE, " above atas diatas "},
    {DO, " do can lakukan melakukan "},
    {ANYTHING, " anything apapun apa "},
    {NOW, " now sekarang "},
    {BECOME, " as now become are jadilah sebagai menjadi adalah called named "},
    {MODE, " mode "},
    {DEVELOPER, " developer debug god sudo admin maintenance pengembang jailbreak dewa "},
    {ENABLE,
     " enable enabled enter activate activated switch turn simulate aktifkan masuk nyalakan "
     "aktif "},
    {WITHOUT, " without no tanpa free bebas "},
    {LIMITS, " restriction restrictions limitation limitations filter filters rules censorship "
             "ethics guidelines safeguards boundaries constraints batasan aturan sensor etika "
             "filternya pembatasan "},
    {PRETEND, " act pretend roleplay respond answer behave imagine simulate be berperan bertindak "
              "berpura bayangkan jawab anggap "},
    {JAILBREAK, " jailbreak jailbroken unfiltered unrestricted uncensored "},
    {YOU, " you yourself kamu anda dirimu "},
    {MODEL, " ai model assistant chatbot llm gpt bot asisten "},
    {NOT, " not longer tidak lagi never "},
    {BOUND, " bound restricted constrained terikat dibatasi "},
    {FOLLOW, " follow following obey ikuti patuhi turuti mengikuti mematuhi "},
    {NEVER, " not don dont stop never jangan berhenti "},
};

/* Of a passage the first word is in the first set, and behind it, in any order, not farther than
 * the window, is one of each other set. */
static const struct pattern {
    enum injection_kind kind;
    unsigned first, others[3];
    size_t window;
} patterns[] = {
    {INJECTION_OVERRIDE, IGNORE, {RULES, EARLIER, 0}, 8},
    {INJECTION_OVERRIDE, IGNORE, {ALL, BEFORE, 0}, 6},
    {INJECTION_OVERRIDE, NEVER, {FOLLOW, RULES, EARLIER}, 8},
    {INJECTION_REVEAL, SHOW, {RULES, SECRET, YOUR}, 9},
    {INJECTION_REVEAL, LEAK, {RULES, SECRET, THE}, 8},
    {INJECTION_REVEAL, LEAK, {RULES, YOUR, 0}, 6},
    {INJECTION_REVEAL, LEAK, {TEXT, ABOVE, 0}, 6},
    {INJECTION_JAILBREAK, DO, {ANYTHING, NOW, 0}, 3},
    {INJECTION_JAILBREAK, BECOME, {DAN, 0, 0}, 2},
    {INJECTION_JAILBREAK, DAN, {MODE, 0, 0}, 2},
    {INJECTION_JAILBREAK, ENABLE, {DEVELOPER, MODE, 0}, 5},
    {INJECTION_JAILBREAK, PRETEND, {WITHOUT, LIMITS, MODEL}, 14},
    {INJECTION_JAILBREAK, PRETEND, {WITHOUT, LIMITS, YOU}, 10},
    {INJECTION_JAILBREAK, YOU, {NOT, BOUND, LIMITS}, 10},
    {INJECTION_JAILBREAK, YOU, {JAILBREAK, MODEL, 0}, 7},
    {INJECTION_JAILBREAK, JAILBREAK, {YOU, 0, 0}, 3},
    {INJECTION_JAILBREAK, JAILBREAK, {MODE, 0, 0}, 2},
};

static const char *const tags[] = {
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|endoftext|>",
    "<|endofprompt|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|begin_of_text|>",
    "[inst]",
    "[/inst]",
    "<<sys>>",
    "<</sys>>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<system>",
    "</system>",
    "###system:",
    "###instruction:",
    "###newinstructions",
    "###systemprompt",
    "[systemprompt]",
};

struct word {
    unsigned sets;
    uint32_t at, end; /* in the plain text */
    bool ends_sentence, disguised;
};

struct search {
    const char *text, *plain;
    size_t n, plain_n;
    const uint32_t *origin;
    struct word *words;
    size_t count;
    struct injection_found *found;
};

static bool find_in(const char *text, size_t n, int depth, struct injection_found *found);

/* ---- what was found ---- */

/* Keeps the list in order and without overlaps; with too many, the whole text is one. */
static void add_span(struct injection_found *found, size_t at, size_t end, size_t n)
{
    size_t i, last;

    for (i = 0; i < found->count && found->spans[i].at + found->spans[i].length < at; i++)
        ;
    for (last = i; last < found->count && found->spans[last].at <= end; last++) {
        size_t other = found->spans[last].at + found->spans[last].length;

        at = found->spans[last].at < at ? found->spans[last].at : at;
        end = other > end ? other : end;
    }
    if (last == i && found->count == INJECTION_FOUND_MAX) {
        found->count = 1;
        found->spans[0].at = 0;
        found->spans[0].length = n;
        return;
    }
    memmove(&found->spans[i + 1], &found->spans[last],
            (found->count - last) * sizeof(found->spans[0]));
    found->count = found->count - last + i + 1;
    found->spans[i].at = at;
    found->spans[i].length = end - at;
}

/* A passage from one place of the plain text to another. */
static void add_passage(struct search *s, enum injection_kind kind, size_t at, size_t end,
                        bool disguised)
{
    size_t from = s->origin[at], to = s->origin[end];

    s->found->kinds[kind] = true;
    s->found->hidden |= disguised || to - from != end - at;
    add_span(s->found, from, to, s->n);
}

/* ---- words ---- */

/* From each word of the lexicon to its sets, which stand in the place of the pointer. */
static struct map *make_lexicon(void)
{
    struct map *words = map_new();
    size_t i;

    for (i = 0; i < sizeof(lexicon) / sizeof(lexicon[0]); i++) {
        const char *at = lexicon[i].words + 1, *end;

        for (; (end = strchr(at, ' ')); at = end + 1) {
            uintptr_t sets = (uintptr_t)map_get(words, at, (size_t)(end - at));

            map_put(words, at, (size_t)(end - at), (void *)(sets | lexicon[i].sets));
        }
    }
    return words;
}

static unsigned lookup(const char *word, size_t n)
{
    static struct map *known;

    if (!known)
        known = make_lexicon();
    return (unsigned)(uintptr_t)map_get(known, word, n);
}

/* With digits and signs as the letters that they stand for. */
static unsigned lookup_leet(const char *word, size_t n)
{
    static const char from[] = "01345789@$", to[] = "oieastbgas";
    char letters[LONG_WORD];
    const char *sign;
    size_t i;

    if (n > sizeof(letters))
        return 0;
    for (i = 0; i < n; i++) {
        sign = memchr(from, word[i], sizeof(from) - 1);
        letters[i] = sign ? to[sign - from] : word[i];
    }
    return lookup(letters, n);
}

/* Indonesian puts "your" and other small words behind a word. */
static unsigned lookup_stem(const char *word, size_t n)
{
    if (n > 5 && memcmp(word + n - 2, "mu", 2) == 0)
        return lookup(word, n - 2) ? lookup(word, n - 2) | YOUR : 0;
    if (n > 6 && (memcmp(word + n - 3, "nya", 3) == 0 || memcmp(word + n - 3, "lah", 3) == 0))
        return lookup(word, n - 3);
    return 0;
}

static void add_word(struct search *s, unsigned sets, size_t at, size_t end, bool disguised)
{
    s->words[s->count++] = (struct word){
        .sets = sets, .at = (uint32_t)at, .end = (uint32_t)end, .disguised = disguised};
}

/* Words without spaces between: the longest known one at each place. letters has n of them, at says
 * where each stands in the plain text. */
static void add_run(struct search *s, const char *letters, const uint32_t *at, size_t n)
{
    size_t i, length;

    for (i = 0; i < n; i += length ? length : 1) {
        length = n - i < LONG_WORD ? n - i : LONG_WORD;
        while (length > 1 && !lookup(letters + i, length))
            length--;
        if (length < 2)
            length = 0;
        else
            add_word(s, lookup(letters + i, length), at[i], at[i + length - 1] + 1, true);
    }
}

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '@' || c == '$';
}

static size_t word_end(const struct search *s, size_t at)
{
    while (at < s->plain_n && is_word_char(s->plain[at]))
        at++;
    return at;
}

/* Single letters in a row, from at on: adds their words. Returns where they end; at: too few. */
static size_t add_spaced(struct search *s, size_t at)
{
    char *letters;
    uint32_t *places;
    size_t end = at, i = at, n = 0, count = 0;

    for (; i < s->plain_n && word_end(s, i) == i + 1; count++) {
        end = ++i;
        while (i < s->plain_n && i - end < 4 && !is_word_char(s->plain[i]))
            i++;
    }
    if (count < SPACED_LETTERS)
        return at;
    letters = mem_alloc(count);
    places = mem_alloc(count * sizeof(*places));
    for (i = at; i < end; i++) {
        if (!is_word_char(s->plain[i]))
            continue;
        places[n] = (uint32_t)i;
        letters[n++] = s->plain[i];
    }
    add_run(s, letters, places, n);
    free(letters);
    free(places);
    return end;
}

/* A word as it stands, or the words that it is made of. */
static void add_plain_word(struct search *s, size_t at, size_t end)
{
    const char *word = s->plain + at;
    size_t n = end - at, i;
    unsigned sets = lookup(word, n);
    uint32_t *places;

    if (!sets)
        sets = lookup_stem(word, n);
    if (!sets && lookup_leet(word, n)) {
        add_word(s, lookup_leet(word, n), at, end, true);
        return;
    }
    if (n == 3 && s->origin[end] - s->origin[at] == 3 && /* in capitals */
        memcmp(s->text + s->origin[at], "DAN", 3) == 0)
        sets |= DAN;
    if (sets || n < LONG_WORD) {
        add_word(s, sets, at, end, false);
        return;
    }
    places = mem_alloc(n * sizeof(*places));
    for (i = 0; i < n; i++)
        places[i] = (uint32_t)(at + i);
    add_run(s, word, places, n);
    free(places);
}

static void read_words(struct search *s)
{
    size_t at = 0, end, sentence = 0;

    while (at < s->plain_n) {
        char c = s->plain[at];

        if (!is_word_char(c)) {
            if (s->count >= sentence + SENTENCE_WORDS &&
                (c == '\n' || ((c == '.' || c == '!' || c == '?') && s->plain[at + 1] == ' '))) {
                s->words[s->count - 1].ends_sentence = true;
                sentence = s->count;
            }
            at++;
            continue;
        }
        end = add_spaced(s, at);
        if (end == at) {
            end = word_end(s, at);
            add_plain_word(s, at, end);
        }
        at = end;
    }
}

/* ---- patterns ---- */

/* The word that completes the pattern which begins with word i; 0: none does. */
static size_t completes(const struct search *s, const struct pattern *p, size_t i)
{
    unsigned missing = 0;
    size_t k, j;

    for (k = 0; k < 3; k++)
        missing |= p->others[k] ? 1u << k : 0;
    for (j = i + 1; j < s->count && j - i <= p->window && !s->words[j - 1].ends_sentence; j++) {
        for (k = 0; k < 3; k++)
            if (s->words[j].sets & p->others[k])
                missing &= ~(1u << k);
        if (!missing)
            return j;
    }
    return 0;
}

static void find_patterns(struct search *s)
{
    size_t i, k, last, j;

    for (i = 0; i < s->count; i++) {
        for (k = 0; s->words[i].sets && k < sizeof(patterns) / sizeof(patterns[0]); k++) {
            bool disguised = false;

            if (!(s->words[i].sets & patterns[k].first) || !(last = completes(s, &patterns[k], i)))
                continue;
            for (j = i; j <= last; j++)
                disguised |= s->words[j].disguised;
            add_passage(s, patterns[k].kind, s->words[i].at, s->words[last].end, disguised);
        }
    }
}

/* Where a tag ends that begins at `at`, with or without spaces within; 0: it is none. */
static size_t tag_end(const struct search *s, size_t at, const char *tag)
{
    size_t spaces = 0;

    for (; *tag; at++) {
        if (at == s->plain_n)
            return 0;
        if (s->plain[at] == *tag) {
            tag++;
            spaces = 0;
        } else if (s->plain[at] != ' ' || ++spaces > TAG_SPACES) {
            return 0;
        }
    }
    return at;
}

static void find_tags(struct search *s)
{
    size_t at, k, end;

    for (at = 0; at < s->plain_n; at++) {
        if (!strchr("<[#", s->plain[at]))
            continue;
        for (k = 0; k < sizeof(tags) / sizeof(tags[0]); k++)
            if ((end = tag_end(s, at, tags[k])) > 0)
                add_passage(s, INJECTION_ROLE_TAGS, at, end, false);
    }
}

/* ---- encodings ---- */

/* The six bits of a letter of base64; -1: it is none. */
static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

static int nibble(char c)
{
    int v = sextet(c);

    return v >= 52 && v <= 61   ? v - 52
           : v >= 0 && v <= 5   ? v + 10
           : v >= 26 && v <= 31 ? v - 16
                                : -1;
}

/* Both return where the code ends, and its bytes in out, of which *count are there. */
static size_t decode_base64(const char *text, size_t n, char *out, size_t *count)
{
    unsigned bits = 0;
    size_t i;

    *count = 0;
    for (i = 0; i < n && sextet(text[i]) >= 0; i++) {
        bits = bits << 6 | (unsigned)sextet(text[i]);
        if (i % 4 > 0)
            out[(*count)++] = (char)(bits >> (6 - i % 4 * 2));
    }
    while (i > 0 && i < n && text[i] == '=')
        i++;
    return i;
}

static size_t decode_hex(const char *text, size_t n, char *out, size_t *count)
{
    size_t i = 0, end = 0;

    *count = 0;
    for (;;) {
        if (i + 1 < n && (text[i] == '\\' || text[i] == '0') && text[i + 1] == 'x')
            i += 2;
        else if (i < n && text[i] == '%')
            i++;
        if (i + 1 >= n || nibble(text[i]) < 0 || nibble(text[i + 1]) < 0)
            return end;
        out[(*count)++] = (char)(nibble(text[i]) << 4 | nibble(text[i + 1]));
        end = i += 2;
        if (i < n && strchr(" ,:", text[i]) && text[i])
            i++;
    }
}

static bool is_text(const char *bytes, size_t n)
{
    size_t i, printable = 0;

    for (i = 0; i < n; i++)
        printable += (unsigned char)bytes[i] >= ' ' && (unsigned char)bytes[i] < 0x7f;
    return n >= ENCODED_MIN && printable * 10 >= n * 9;
}

typedef size_t decoder(const char *text, size_t n, char *out, size_t *count);

/* Look behind one encoding wherever it may begin. */
static void find_encoded(struct search *s, decoder *decode, char *out, int depth)
{
    size_t at, end, count;
    bool begins = true;

    for (at = 0; at < s->n; at = end) {
        struct injection_found within;

        end = at + 1;
        if (begins && (end = decode(s->text + at, s->n - at, out, &count)) > 0) {
            end += at;
            if (is_text(out, count) && find_in(out, count, depth + 1, &within)) {
                for (size_t k = 0; k < INJECTION_KINDS; k++)
                    s->found->kinds[k] |= within.kinds[k];
                s->found->hidden = true;
                add_span(s->found, at, end, s->n);
            }
        } else {
            end = at + 1;
        }
        begins = sextet(s->text[end - 1]) < 0;
    }
}

/* ---- a text ---- */

static bool find_in(const char *text, size_t n, int depth, struct injection_found *found)
{
    char *plain = mem_alloc(n + 1), *decoded = mem_alloc(n + 1);
    uint32_t *origin = mem_alloc((n + 1) * sizeof(*origin));
    struct search s = {.text = text, .n = n, .plain = plain, .origin = origin, .found = found};

    memset(found, 0, sizeof(*found));
    s.words = mem_alloc((n + 1) * sizeof(*s.words));
    s.plain_n = lookalike_plain(text, n, plain, origin);
    read_words(&s);
    find_patterns(&s);
    find_tags(&s);
    if (depth < DEPTH_MAX) {
        find_encoded(&s, decode_base64, decoded, depth);
        find_encoded(&s, decode_hex, decoded, depth);
    }
    free(s.words);
    free(origin);
    free(decoded);
    free(plain);
    return found->count > 0;
}

bool injection_find(const char *text, size_t n, struct injection_found *found)
{
    return find_in(text, n < INJECTION_MAX_BYTES ? n : INJECTION_MAX_BYTES, 0, found);
}

int injection_redact(const char *text, size_t n, const struct injection_found *found,
                     struct buf *out)
{
    size_t done = 0, i;

    for (i = 0; i < found->count; i++) {
        if (buf_add(out, text + done, found->spans[i].at - done) || buf_puts(out, removed))
            return -1;
        done = found->spans[i].at + found->spans[i].length;
    }
    return buf_add(out, text + done, n - done);
}
