#include "workers/inference/privacy.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "workers/inference/pseudonym.h"
#include "workers/inference/settings.h"

enum { HOST_MAX = 256 };

struct privacy {
    struct pseudonym *pseudonym;
    struct pseudonym_stream stream;
    struct buf piece;
};

static struct metric_family replaced_total = {
    "inference_pii_replaced_total", METRIC_COUNTER,
    "Personal data for which a provider got a placeholder, by kind", NULL, NULL};

/* Behind the system message of a prompt that has placeholders. */
static const char explanation[] =
    "\n\nWords in square brackets that end with a number, as in [KIND_1], stand for personal data "
    "that was left out. Where the answer needs them, write them exactly as they stand.";

/* ---- where a server is ---- */

/* The host of a URL, without port and brackets. */
static void copy_host(const char *url, char host[HOST_MAX])
{
    const char *begin = strstr(url, "://"), *end, *at;
    bool closed;

    begin = begin ? begin + 3 : url;
    end = begin + strcspn(begin, "/?#");
    for (at = begin; at < end; at++)
        if (*at == '@')
            begin = at + 1;
    closed = *begin == '[';
    begin += closed;
    at = begin + strcspn(begin, closed ? "]" : ":");
    if (at > end)
        at = end;
    snprintf(host, HOST_MAX, "%.*s", (int)(at - begin < HOST_MAX ? at - begin : HOST_MAX - 1),
             begin);
}

static bool is_private_v4(const unsigned char a[4])
{
    return a[0] == 127 || a[0] == 10 || (a[0] == 172 && a[1] >= 16 && a[1] <= 31) ||
           (a[0] == 192 && a[1] == 168) || (a[0] == 169 && a[1] == 254);
}

static bool is_private_v6(const unsigned char a[16])
{
    static const unsigned char loopback[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};

    return memcmp(a, loopback, 16) == 0 || (a[0] & 0xfe) == 0xfc ||
           (a[0] == 0xfe && (a[1] & 0xc0) == 0x80) ||
           (memcmp(a, mapped, 12) == 0 && is_private_v4(a + 12));
}

bool privacy_is_external(const char *url)
{
    unsigned char address[16];
    char host[HOST_MAX];

    copy_host(url, host);
    if (inet_pton(AF_INET, host, address) == 1)
        return !is_private_v4(address);
    if (inet_pton(AF_INET6, host, address) == 1)
        return !is_private_v6(address);
    return strcasecmp(host, "localhost") != 0;
}

/* ---- the prompt ---- */

static bool is_wanted(const char *url)
{
    const char *protection = inference_settings.pii_protection;

    return strcmp(protection, "all") == 0 ||
           (strcmp(protection, "external") == 0 && privacy_is_external(url));
}

static struct privacy *privacy_new(const json_t *names)
{
    struct privacy *p = mem_alloc(sizeof(*p));
    struct pii_names list = {.count = 0};
    json_t *name;
    size_t i;

    json_array_foreach (names, i, name)
        if (json_is_string(name))
            pii_names_add(&list, json_string_value(name), json_string_length(name));
    p->pseudonym = pseudonym_new(&list);
    return p;
}

void privacy_free(struct privacy *p)
{
    if (!p)
        return;
    pseudonym_free(p->pseudonym);
    buf_free(&p->piece);
    free(p);
}

/* A text with placeholders; NULL: there is no room for them. */
static json_t *hide(struct privacy *p, const json_t *text)
{
    size_t n = json_string_length(text);
    json_t *hidden = NULL;
    struct buf out;

    buf_init(&out, n * PSEUDONYM_EXPANSION);
    if (pseudonym_hide(p->pseudonym, json_string_value(text), n, &out) == 0)
        hidden = json_stringn(out.len > 0 ? out.data : "", out.len);
    buf_free(&out);
    return hidden;
}

/* A content is a text, or parts of which some have one. */
static json_t *hide_content(struct privacy *p, const json_t *content)
{
    json_t *parts, *part, *text;
    size_t i;

    if (json_is_string(content))
        return hide(p, content);
    parts = json_deep_copy(content);
    json_array_foreach (parts, i, part) {
        text = json_object_get(part, "text");
        if (json_is_string(text) && json_object_set_new(part, "text", hide(p, text))) {
            json_decref(parts);
            return NULL;
        }
    }
    return parts;
}

/* Count what was replaced; none: false. */
static bool count(const struct privacy *p)
{
    bool any = false;
    char labels[32];
    int kind;

    for (kind = 0; kind < PSEUDONYM_KINDS; kind++) {
        size_t n = pseudonym_count(p->pseudonym, kind);

        if (n == 0)
            continue;
        any = true;
        snprintf(labels, sizeof(labels), "kind=\"%s\"", pseudonym_kind_name(kind));
        metric_add(metric_get(&replaced_total, labels), (double)n);
    }
    return any;
}

/* Tell the model what placeholders are. */
static void explain(json_t *messages)
{
    json_t *first = json_array_get(messages, 0), *content = json_object_get(first, "content");
    const char *role = json_string_value(json_object_get(first, "role"));

    if (role && strcmp(role, "system") == 0 && json_is_string(content))
        json_object_set_new(first, "content",
                            json_sprintf("%s%s", json_string_value(content), explanation));
    else
        json_array_insert_new(
            messages, 0, json_pack("{s:s, s:s}", "role", "system", "content", explanation + 2));
}

json_t *privacy_messages(struct privacy **p, json_t *messages, const json_t *names, const char *url,
                         struct err *e)
{
    json_t *hidden, *message;
    size_t i;

    privacy_free(*p);
    *p = NULL;
    if (!is_wanted(url))
        return json_incref(messages);
    *p = privacy_new(names);
    hidden = json_array();
    json_array_foreach (messages, i, message) {
        json_t *copy = json_copy(message);

        json_array_append_new(hidden, copy);
        if (json_object_set_new(copy, "content",
                                hide_content(*p, json_object_get(message, "content")))) {
            json_decref(hidden);
            err_set(e, ERR_FATAL, 500, "message %zu of the prompt has too much personal data", i);
            return NULL;
        }
    }
    if (count(*p))
        explain(hidden);
    return hidden;
}

/* ---- the answer ---- */

const struct buf *privacy_restore(struct privacy *p, const char *text, size_t n, size_t max)
{
    buf_clear(&p->piece);
    p->piece.max = max;
    return pseudonym_feed(p->pseudonym, &p->stream, text, n, &p->piece) ? NULL : &p->piece;
}

const struct buf *privacy_rest(struct privacy *p)
{
    buf_clear(&p->piece);
    p->piece.max = PSEUDONYM_BYTES;
    pseudonym_flush(&p->stream, &p->piece);
    return &p->piece;
}
