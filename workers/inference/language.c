#include "workers/inference/language.h"

#include <string.h>
#include <strings.h>

static bool has_word(const char *const *words, const char *word, size_t n)
{
    for (; *words; words++)
        if (strlen(*words) == n && strncasecmp(*words, word, n) == 0)
            return true;
    return false;
}

/* Words that are frequent in one of the two languages and no words of the other. */
bool language_is_indonesian(const char *text)
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
