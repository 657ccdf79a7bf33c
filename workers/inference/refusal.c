#include "workers/inference/refusal.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/base/text.h"

enum { WORDS_MAX = 120 }; /* bytes of the server's words */

static const struct refusal {
    int status; /* 0: all others below 500; 500: all others from there */
    enum err_kind kind;
    int told;
    enum blame blame;
    bool quiet; /* the words may show parts of the key */
    const char *text;
} refusals[] = {
    {401, ERR_FATAL, 502, BLAME_ACCOUNT, true, "the model's server does not accept our key"},
    {402, ERR_FATAL, 502, BLAME_MODEL, false, "the account with the model's server has no credit"},
    {403, ERR_FATAL, 502, BLAME_MODEL, true, "the model's server does not allow the request"},
    {404, ERR_FATAL, 502, BLAME_MODEL, false, "the model's server does not know the model"},
    {408, ERR_FATAL, 504, BLAME_SERVICE, false, "the model did not answer its server in time"},
    {429, ERR_RETRY, 503, BLAME_SERVICE, false, "the model takes no more requests for now"},
    {503, ERR_RETRY, 503, BLAME_SERVICE, false, "the model is overloaded"},
    {504, ERR_FATAL, 504, BLAME_SERVICE, false, "the model did not answer its server in time"},
    {524, ERR_FATAL, 504, BLAME_SERVICE, false, "the model did not answer its server in time"},
    {529, ERR_RETRY, 503, BLAME_SERVICE, false, "the model is overloaded"},
    {500, ERR_RETRY, 502, BLAME_SERVICE, false, "the model's server failed"},
    {0, ERR_FATAL, 502, BLAME_MODEL, false, "the model's server refused the request"},
};

static const struct refusal *find(int status)
{
    const struct refusal *r = refusals;

    while (r->status && r->status != status && !(r->status == 500 && status >= 500))
        r++;
    return r;
}

static const char *clean(const char *words, char out[WORDS_MAX + 1])
{
    char *c;

    snprintf(out, WORDS_MAX + 1, "%s", words);
    text_utf8_mend(out);
    for (c = out; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    return out;
}

enum blame refusal_explain(int status, const char *words, const char *key, struct err *e)
{
    const struct refusal *r = find(status);
    char shown[WORDS_MAX + 1];

    if (r->quiet || !words || !*words || (*key && strstr(words, key)))
        err_set(e, r->kind, r->told, "%s (%d)", r->text, status);
    else
        err_set(e, r->kind, r->told, "%s (%d): %s", r->text, status, clean(words, shown));
    return r->blame;
}
