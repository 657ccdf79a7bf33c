#include "workers/context-builder/screen.h"

#include "workers/context-builder/injection.h"

enum { MARK_BYTES = 9 }; /* of "[removed]" */

json_t *screen_kinds(const json_t *text)
{
    struct injection_found found;
    json_t *kinds;
    int kind;

    if (!injection_find(json_string_value(text), json_string_length(text), &found))
        return NULL;
    kinds = json_array();
    for (kind = 0; kind < INJECTION_KINDS; kind++)
        if (found.kinds[kind])
            json_array_append_new(kinds, json_string(injection_kind_name(kind)));
    if (found.hidden)
        json_array_append_new(kinds, json_string("hidden"));
    return kinds;
}

json_t *screen_redacted(json_t *text)
{
    const char *value = json_string_value(text);
    size_t n = json_string_length(text);
    struct injection_found found;
    struct buf out;
    json_t *redacted;

    if (!injection_find(value, n, &found))
        return json_incref(text);
    buf_init(&out, n + found.count * MARK_BYTES);
    injection_redact(value, n, &found, &out);
    redacted = json_stringn(out.data, out.len);
    buf_free(&out);
    return redacted;
}
