/*
 * How many tokens a model will see in a text: an estimate that needs no model and no vocabulary.
 *
 * It reads the text once, character by character, and cuts it the way the models' own tokenizers
 * do: words, digits, runs of punctuation, runs of blanks, and other scripts by what a letter of
 * theirs costs. The figures are those of the dearest of three tokenizers (o200k, Qwen 3, Llama
 * 3.2), since a prompt that does not fit is refused while a history one message shorter is hardly
 * noticed. Measured on texts of 4 to 60 KB: 1.07 to 1.13 times the dearest count on English and
 * Indonesian prose, 1.1 to 1.35 on code, 1.0 to 1.2 on JSON, 1.0 to 1.25 on Chinese, 1.0 to 1.15
 * on emoji. Where the three disagree widely (Georgian, Telugu, Greek), the cheapest counts a
 * fourth of the estimate. Random letters, as in base64, come out too low by a tenth.
 */
#ifndef CHAT_TOKENS_H
#define CHAT_TOKENS_H

#include <stddef.h>
#include <stdint.h>

/* What a text is made of. Models differ in what each costs: calibration.h learns by how much. */
enum token_class {
    TOKENS_WORDS,   /* of Latin letters: one for each, */
    TOKENS_PIECES,  /* and what more it is cut into */
    TOKENS_NUMBERS, /* of up to three digits: one for each, */
    TOKENS_DIGITS,  /* and one for each further digit */
    TOKENS_MARKS,   /* punctuation in ASCII */
    TOKENS_BLANKS,
    TOKENS_LETTERS, /* of other alphabets */
    TOKENS_IDEOGRAPHS,
    TOKENS_SYMBOLS, /* emoji, signs, and what is no text */
    TOKENS_FRAME,   /* what a prompt has around its texts; none of a text */
    TOKEN_CLASSES,
};

enum {
    TOKEN_COST = 100,   /* of one token: costs are in hundredths */
    MESSAGE_TOKENS = 5, /* the marks around a message and its role */
    ANSWER_TOKENS = 3,  /* the marks that ask for the answer */
};

struct token_counts {
    int64_t cost[TOKEN_CLASSES];
};

/* Add what n bytes of UTF-8 cost; a byte that is none costs one token. Time is linear in n. How many tokens
 * that makes says calibration_estimate(). */
void tokens_count(const char *text, size_t n, struct token_counts *to);

#endif
