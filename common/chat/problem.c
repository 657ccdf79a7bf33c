#include "common/chat/problem.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/text.h"

static const struct {
    int status;
    const char *title;
} titles[] = {
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

const char *problem_title(int status)
{
    size_t i;

    for (i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
        if (titles[i].status == status)
            return titles[i].title;
    return status < 500 ? "Bad Request" : "Internal Server Error";
}

json_t *problem_new(int status, const char *detail, const char *instance, json_t *errors)
{
    const char *title = problem_title(status);
    char *readable = mem_strdup(detail), *id = mem_strdup(instance);
    json_t *p;

    text_utf8_mend(readable); /* details quote what came from outside, and are cut */
    if (id)
        text_utf8_mend(id); /* a correlation id may be any caller's */
    p = json_pack("{s:s, s:s, s:i, s:s, s:s*, s:O*, s:s}", "type", "about:blank", "title", title,
                  "status", status, "detail", readable, "instance", id, "errors", errors, "error",
                  title);
    free(readable);
    free(id);
    if (!p)
        abort(); /* out of memory */
    return p;
}

const char *problem_page(int status, const char *detail, struct buf *out)
{
    json_t *problem = problem_new(status, detail, NULL, NULL);
    char *text = json_dumps(problem, JSON_COMPACT);

    buf_puts(out, text);
    free(text);
    json_decref(problem);
    return PROBLEM_TYPE;
}
