/*
 * The provider for when none is configured: an answer made from the prompt's own facts, the same
 * for the same prompt, so that a fleet can be seen and tested without any service outside of it.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/text.h"
#include "workers/inference/provider.h"

enum {
    QUOTE_MAX = 240,  /* bytes of the question that are said again */
    PIECE_MIN = 20,   /* bytes; a piece then ends with its word */
    PIECE_MS = 25,    /* between two pieces of a streamed answer */
    ANSWER_MAX = 4096 /* more than it ever is */
};

/* A streamed answer, of which some is still to be said. */
struct speech {
    struct generation *generation;
    struct timer *timer;
    struct buf text;
    size_t said;
};

static struct loop *loop;

/* ---- what the prompt says ---- */

struct facts {
    const char *question; /* the last message of the user; "" when there is no text in it */
    size_t earlier;       /* messages of the conversation before it */
    json_int_t dropped;   /* of which the prompt has no room */
    const char *context;
};

/* The text of a content: itself, or the first part that is text. */
static const char *text_of(const json_t *content)
{
    const json_t *part;
    size_t i;

    if (json_is_string(content))
        return json_string_value(content);
    json_array_foreach (content, i, part)
        if (json_is_string(json_object_get(part, "text")))
            return json_string_value(json_object_get(part, "text"));
    return "";
}

static struct facts facts_of(const struct generation *g)
{
    struct facts f = {.question = "", .dropped = g->history_dropped, .context = g->context_type};
    const char *role;
    json_t *message, *content;
    size_t i, said = 0;

    json_array_foreach (g->messages, i, message) {
        if (json_unpack(message, "{s:s, s:o}", "role", &role, "content", &content) ||
            strcmp(role, "system") == 0)
            continue;
        if (strcmp(role, "user") == 0) {
            f.question = text_of(content);
            f.earlier = said;
        }
        said++;
    }
    return f;
}

/* ---- in which language ---- */

static bool has_word(const char *const *words, const char *word, size_t n)
{
    for (; *words; words++)
        if (strlen(*words) == n && strncasecmp(*words, word, n) == 0)
            return true;
    return false;
}

/* Words that are frequent in one of the two languages and no words of the other. */
static bool is_indonesian(const char *text)
{
    static const char *const indonesian[] = {
        "apa",   "apakah", "yang",  "saya",   "aku",   "kamu",   "anda",    "dan",   "bagaimana",
        "untuk", "dengan", "tidak", "adalah", "bisa",  "dari",   "ini",     "itu",   "siapa",
        "di",    "ke",     "dapat", "karir",  "kerja", "tolong", "mengapa", "ingin", NULL};
    static const char *const english[] = {"the",  "is",  "are",  "what", "how", "i",    "you",
                                          "my",   "and", "to",   "of",   "for", "with", "not",
                                          "this", "can", "that", "why",  "who", "do",   NULL};
    int score = 0;
    size_t n;

    for (; *text; text += n) {
        n = strcspn(text, " \t\r\n.,;:!?\"'()");
        score += has_word(indonesian, text, n);
        score -= has_word(english, text, n);
        n += n == 0;
    }
    return score > 0;
}

/* ---- the answer ---- */

/* Bytes of the text's beginning that end with a character and with none of a second line. */
static size_t quote_length(const char *text)
{
    size_t n = 0, step;

    while (n < QUOTE_MAX && (step = text_utf8_char(text + n, strnlen(text + n, 4))) > 0 &&
           text[n] && text[n] != '\n')
        n += step;
    return n;
}

static void speak(const struct facts *f, struct buf *out)
{
    bool indonesian = is_indonesian(f->question);
    size_t quote = quote_length(f->question);
    const char *rest = f->question[quote] ? "\xe2\x80\xa6" : "";

    buf_puts(out, indonesian
                      ? "Ini penyedia luring bawaan: belum ada model yang dikonfigurasi, jadi "
                        "jawaban ini disusun dari isi prompt itu sendiri. "
                      : "This is the built-in offline provider: no model is configured, so this "
                        "answer is made from the prompt itself. ");
    if (quote)
        buf_printf(out, indonesian ? "Anda menulis: \"%.*s%s\". " : "You wrote: \"%.*s%s\". ",
                   (int)quote, f->question, rest);
    if (f->context && strlen(f->context) < QUOTE_MAX)
        buf_printf(out, indonesian ? "Konteks percakapan: %s. " : "The context is %s. ",
                   f->context);
    buf_printf(out,
               indonesian ? "Pesan sebelumnya yang saya lihat: %zu."
                          : "Earlier messages that I saw: %zu.",
               f->earlier);
    if (f->dropped > 0)
        buf_printf(out, indonesian ? " Yang tidak muat: %lld." : " That did not fit: %lld.",
                   (long long)f->dropped);
}

/* ---- saying it ---- */

static void end(struct generation *g)
{
    g->answer.finish_reason = "stop";
    generation_done(g);
}

static void speech_free(struct speech *s)
{
    timer_free(s->timer);
    buf_free(&s->text);
    free(s);
}

static void fail(struct generation *g, const struct err *e)
{
    const struct failure f = {.status = "too_large", .blame = BLAME_MODEL, .why = *e};

    generation_fail(g, &f);
}

/* The next words: as many bytes as a piece has at least, and what is left of the last word. */
static size_t piece_length(const char *text)
{
    size_t n = strnlen(text, PIECE_MIN);

    return n + strcspn(text + n, " ");
}

static void say(void *arg)
{
    struct speech *s = arg;
    struct generation *g = s->generation;
    size_t n = piece_length(s->text.data + s->said);
    struct err e;

    if (generation_text(g, s->text.data + s->said, n, &e)) {
        speech_free(s);
        fail(g, &e);
        return;
    }
    s->said += n;
    if (s->said < s->text.len) {
        timer_set(s->timer, PIECE_MS);
        return;
    }
    speech_free(s);
    end(g);
}

static void begin(struct generation *g)
{
    struct facts f = facts_of(g);
    struct speech *s;
    struct buf text;
    struct err e;

    buf_init(&text, ANSWER_MAX);
    speak(&f, &text);
    if (g->stream) {
        s = g->work = mem_alloc(sizeof(*s));
        s->generation = g;
        s->text = text;
        s->timer = timer_new(loop, say, s);
        say(s);
        return;
    }
    if (generation_text(g, text.data, text.len, &e)) {
        buf_free(&text);
        fail(g, &e);
        return;
    }
    buf_free(&text);
    end(g);
}

static void cancel(struct generation *g)
{
    speech_free(g->work);
}

/* ---- life ---- */

static int start(struct loop *l, struct err *e)
{
    (void)e;
    loop = l;
    return 0;
}

static void stop(void)
{
}

const struct provider provider_offline = {"offline", start, stop, begin, cancel, NULL};
