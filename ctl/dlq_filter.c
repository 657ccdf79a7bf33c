#include "ctl/dlq_filter.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/base/text.h"
#include "common/chat/topology.h"
#include "ctl/dlq_parse.h"

/* ---- what was written ---- */

/* "inference", "inference.dlq" */
static int parse_queue(struct filter *f, const char *text, struct err *e)
{
    size_t i, n = strlen(text);

    if (n > 4 && strcmp(text + n - 4, ".dlq") == 0)
        n -= 4;
    for (i = 0; i < work_queues_count; i++) {
        const char *name = work_queues[i].name;

        if (strlen(name) == n && strncmp(name, text, n) == 0) {
            f->queue = name;
            return 0;
        }
    }
    return err_set(e, ERR_REJECT, 400, "--queue: the fleet has no queue %.80s", text);
}

/* "ID,ID" */
static int parse_ids(struct filter *f, const char *text, struct err *e)
{
    char id[UUID_TEXT];
    const char *at = text;
    size_t n = 0;

    do {
        at += n;
        n = strcspn(at, ",");
        snprintf(id, sizeof(id), "%.*s", n < sizeof(id) ? (int)n : 0, at);
        if (!uuid_valid(id))
            return err_set(e, ERR_REJECT, 400, "--id: %.*s is no id of a dead letter",
                           n < 80 ? (int)n : 80, at);
    } while (at[n++] == ',');
    f->ids = mem_strdup(text);
    text_lower(f->ids);
    return 0;
}

/* POINTER=VALUE */
static int parse_where(struct filter *f, const char *text, struct err *e)
{
    const char *equals = strchr(text, '=');

    if (!equals)
        return err_set(e, ERR_REJECT, 400, "--where wants JSONPOINTER=VALUE, as in /title=Careers");
    f->pointer = mem_strndup(text, (size_t)(equals - text));
    if (!filter_pointer_valid(f->pointer))
        return err_set(e, ERR_REJECT, 400,
                       "--where: %.80s is no JSON pointer: it begins with / and has ~0 for ~ and "
                       "~1 for /",
                       f->pointer);
    f->value = equals + 1;
    f->json = json_loads(f->value, JSON_DECODE_ANY, NULL);
    return 0;
}

static int parse_moment(const char *option, const char *text, int64_t now_ms, int64_t *ms,
                        struct err *e)
{
    if (!text || dlq_parse_moment(text, now_ms, ms) == 0)
        return 0;
    return err_set(e, ERR_REJECT, 400,
                   "%s wants a time like 2026-11-20T23:45Z, or how long ago: 90s, 30m, 2h, 7d",
                   option);
}

static int parse_times(struct filter *f, const struct filter_text *text, int64_t now_ms,
                       struct err *e)
{
    if (parse_moment("--since", text->since, now_ms, &f->since_ms, e) ||
        parse_moment("--until", text->until, now_ms, &f->until_ms, e))
        return -1;
    if (text->since && text->until && f->since_ms >= f->until_ms)
        return err_set(e, ERR_REJECT, 400,
                       "--since %.40s is not before --until %.40s: nothing can match", text->since,
                       text->until);
    return 0;
}

static int parse_user(struct filter *f, const char *text, struct err *e)
{
    f->user = text;
    return !text || uuid_valid(text)
               ? 0
               : err_set(e, ERR_REJECT, 400, "--user wants a UUID, which %.80s is not", text);
}

int filter_parse(struct filter *f, const struct filter_text *text, int64_t now_ms, struct err *e)
{
    memset(f, 0, sizeof(*f));
    f->operation = text->operation;
    f->error = text->error;
    f->tenant = text->tenant;
    f->any = text->queue || text->operation || text->error || text->since || text->until ||
             text->tenant || text->user || text->where || text->ids;
    if ((text->queue && parse_queue(f, text->queue, e)) ||
        (text->where && parse_where(f, text->where, e)) ||
        (text->ids && parse_ids(f, text->ids, e)) || parse_user(f, text->user, e) ||
        parse_times(f, text, now_ms, e))
        return -1;
    if (text->limit && dlq_parse_count(text->limit, &f->limit))
        return err_set(e, ERR_REJECT, 400, "--limit wants a whole number of at least 1");
    return 0;
}

void filter_free(struct filter *f)
{
    free(f->pointer);
    free(f->ids);
    json_decref(f->json);
}

/* ---- JSON pointers ---- */

bool filter_pointer_valid(const char *pointer)
{
    if (*pointer && *pointer != '/')
        return false;
    for (; *pointer; pointer++)
        if (*pointer == '~' && pointer[1] != '0' && pointer[1] != '1')
            return false;
    return true;
}

/* The token at p, with its escapes undone, into out. Returns where it ends. */
static const char *token(const char *p, char *out)
{
    for (; *p && *p != '/'; p++) {
        if (*p == '~') {
            p++;
            *out++ = *p == '0' ? '~' : '/';
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
    return p;
}

static const json_t *item(const json_t *array, const char *index)
{
    char *end;
    unsigned long i;

    if (!isdigit((unsigned char)*index) || (*index == '0' && index[1]))
        return NULL;
    i = strtoul(index, &end, 10);
    return *end ? NULL : json_array_get(array, i);
}

const json_t *filter_pointer_get(const json_t *document, const char *pointer)
{
    char *name = mem_alloc(strlen(pointer) + 1);

    while (document && *pointer == '/') {
        pointer = token(pointer + 1, name);
        document = json_is_array(document) ? item(document, name) : json_object_get(document, name);
    }
    free(name);
    return document;
}

/* ---- matching ---- */

static bool like(const char *pattern, const char *text)
{
    return !pattern || (text && fnmatch(pattern, text, 0) == 0);
}

static bool same(const char *wanted, const char *text)
{
    return !wanted || (text && strcmp(wanted, text) == 0);
}

static bool body_matches(const struct filter *f, const struct mq_message *m)
{
    json_t *body;
    const json_t *found;
    bool yes = false;

    if (!f->pointer)
        return true;
    body = json_loadb(m->body, m->body_len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    found = body ? filter_pointer_get(body, f->pointer) : NULL;
    if (found)
        yes = (json_is_string(found) && strcmp(json_string_value(found), f->value) == 0) ||
              (f->json && json_equal(found, f->json));
    json_decref(body);
    return yes;
}

bool filter_wants_queue(const struct filter *f, const char *queue)
{
    return same(f->queue, queue);
}

bool filter_matches(const struct filter *f, const struct letter *l)
{
    return like(f->operation, l->operation) && like(f->error, l->error) &&
           same(f->tenant, l->tenant) && (!f->ids || strstr(f->ids, l->id)) &&
           (!f->user || (l->user && strcasecmp(f->user, l->user) == 0)) &&
           (!f->since_ms || (l->failed_ms && l->failed_ms >= f->since_ms)) &&
           (!f->until_ms || (l->failed_ms && l->failed_ms < f->until_ms)) &&
           body_matches(f, l->message);
}
