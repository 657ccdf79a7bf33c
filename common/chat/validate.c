#include "common/chat/validate.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"
#include "common/base/uuid.h"

enum { FIELD_ERRORS_MAX = 20, STEP_DEPTH = 16 /* that steps add */ };

static const double real_max = 1e21, real_min = 1e-21; /* beside 0 */

/* Brackets open at once, found before anything recursive sees the text. */
static int too_deep(const char *text, size_t n, int max)
{
    bool in_string = false;
    int depth = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        if (in_string && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            in_string = !in_string;
        else if (!in_string && (text[i] == '{' || text[i] == '[') && ++depth > max)
            return 1;
        else if (!in_string && (text[i] == '}' || text[i] == ']'))
            depth--;
    }
    return 0;
}

static json_t *parse(const char *text, size_t n, int depth, struct err *e)
{
    json_error_t at;
    json_t *root;

    if (too_deep(text, n, depth)) {
        err_set(e, ERR_REJECT, 400, "the JSON is nested deeper than %d levels", depth);
        return NULL;
    }
    root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &at);
    if (!root) {
        err_set(e, ERR_REJECT, 400, "the body is not valid JSON: %s (line %d, column %d)", at.text,
                at.line, at.column);
        return NULL;
    }
    if (!json_is_object(root)) {
        json_decref(root);
        err_set(e, ERR_REJECT, 400, "the body must be a JSON object");
        return NULL;
    }
    return root;
}

json_t *validate_parse(const char *text, size_t n, struct err *e)
{
    return parse(text, n, JSON_DEPTH_MAX, e);
}

json_t *validate_parse_step(const char *text, size_t n, struct err *e)
{
    return parse(text, n, JSON_DEPTH_MAX + STEP_DEPTH, e);
}

static void complain(json_t *errors, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void complain(json_t *errors, const char *field, const char *fmt, ...)
{
    char message[256];
    va_list ap;

    if (json_array_size(errors) >= FIELD_ERRORS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    json_array_append_new(errors, json_pack("{s:s, s:s}", "field", field, "message", message));
}

static long maximum(const struct arg *arg)
{
    return arg->max_setting ? *arg->max_setting : arg->max;
}

static void check_size(json_t *errors, const struct arg *arg, long n, const char *unit)
{
    long max = maximum(arg);

    if (n < arg->min)
        complain(errors, arg->name, "must have at least %ld %s, has %ld", arg->min, unit, n);
    else if (max && n > max)
        complain(errors, arg->name, "must have at most %ld %s, has %ld", max, unit, n);
}

static bool is_choice(const char *choices, const char *text)
{
    size_t n = strlen(text);
    const char *at;

    if (n == 0 || strchr(text, ' ')) /* two words that stand side by side are no choice */
        return false;
    for (at = choices; (at = strstr(at, text)); at += n)
        if ((at == choices || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
    return false;
}

static void check_string(json_t *errors, const struct arg *arg, json_t *v)
{
    const char *text = json_string_value(v);

    if (!text)
        complain(errors, arg->name, "must be a string");
    else if (arg->type == ARG_UUID && !uuid_valid(text))
        complain(errors, arg->name, "must be a UUID");
    else if (arg->type == ARG_CHOICE && !is_choice(arg->choices, text))
        complain(errors, arg->name, "must be one of: %s", arg->choices);
    else if (arg->type == ARG_STRING)
        check_size(errors, arg, text_utf8_length(text, json_string_length(v)), "characters");
}

static void check_integer(json_t *errors, const struct arg *arg, json_t *v)
{
    if (!json_is_integer(v))
        complain(errors, arg->name, "must be a whole number");
    else if (json_integer_value(v) < arg->min || json_integer_value(v) > maximum(arg))
        complain(errors, arg->name, "must be from %ld to %ld", arg->min, maximum(arg));
}

static void check_number(json_t *errors, const struct arg *arg, json_t *v)
{
    double n = json_number_value(v);

    if (!json_is_number(v))
        complain(errors, arg->name, "must be a number");
    else if (!(n >= (double)arg->min && n <= (double)maximum(arg)))
        complain(errors, arg->name, "must be from %ld to %ld", arg->min, maximum(arg));
}

/* Is a number within it too large or too small? Its depth is bounded by validate_parse(). */
static bool has_odd_number(const json_t *v)
{
    const char *name;
    json_t *item;
    double size;
    size_t i;

    if (json_is_real(v)) {
        size = fabs(json_real_value(v));
        return size > real_max || (size < real_min && size > 0);
    }
    json_array_foreach ((json_t *)(uintptr_t)v, i, item)
        if (has_odd_number(item))
            return true;
    json_object_foreach ((json_t *)(uintptr_t)v, name, item)
        if (has_odd_number(item))
            return true;
    return false;
}

static void check_numbers(json_t *errors, const struct arg *arg, const json_t *v)
{
    if (has_odd_number(v))
        complain(errors, arg->name, "has a number beyond %g or below %g", real_max, real_min);
}

static void check_arg(json_t *errors, const struct arg *arg, json_t *v)
{
    if (!v || (json_is_null(v) && !arg->required)) {
        if (arg->required)
            complain(errors, arg->name, "is required");
        return;
    }
    switch (arg->type) {
    case ARG_STRING:
    case ARG_UUID:
    case ARG_CHOICE:
        check_string(errors, arg, v);
        return;
    case ARG_INTEGER:
        check_integer(errors, arg, v);
        return;
    case ARG_NUMBER:
        check_number(errors, arg, v);
        return;
    case ARG_BOOLEAN:
        if (!json_is_boolean(v))
            complain(errors, arg->name, "must be true or false");
        return;
    case ARG_OBJECT:
        if (!json_is_object(v))
            complain(errors, arg->name, "must be an object");
        else
            check_numbers(errors, arg, v);
        return;
    case ARG_ARRAY:
        if (!json_is_array(v))
            complain(errors, arg->name, "must be an array");
        else
            check_size(errors, arg, (long)json_array_size(v), "items");
        check_numbers(errors, arg, v);
    }
}

static bool is_known(const struct operation *op, const char *name)
{
    const struct arg *arg;

    for (arg = op->args; arg->name; arg++)
        if (strcmp(arg->name, name) == 0)
            return true;
    return false;
}

int validate_args(const struct operation *op, json_t *args, json_t **errors, struct err *e)
{
    const struct arg *arg;
    const char *name;
    json_t *v;

    *errors = json_array();
    for (arg = op->args; arg->name; arg++)
        check_arg(*errors, arg, json_object_get(args, arg->name));
    if (!op->open) {
        json_object_foreach (args, name, v)
            if (!is_known(op, name))
                complain(*errors, name, "is not known");
    }
    if (json_array_size(*errors) == 0) {
        json_decref(*errors);
        *errors = NULL;
        return 0;
    }
    return err_set(e, ERR_REJECT, 400, "%s: the arguments are not valid", op->name);
}

int validate_idempotency_key(const char *key, struct err *e)
{
    const char *p;

    for (p = key; *p >= ' ' && *p <= '~'; p++)
        ;
    if (*p || p == key || p - key > IDEMPOTENCY_KEY_MAX)
        return err_set(e, ERR_REJECT, 400,
                       "an Idempotency-Key has 1 to %d printable ASCII characters",
                       IDEMPOTENCY_KEY_MAX);
    return 0;
}

json_t *validate_from_text(const struct arg *arg, const char *text)
{
    char *end;
    long long n;
    double d;

    if (arg->type == ARG_INTEGER) {
        errno = 0;
        n = strtoll(text, &end, 10);
        if (!errno && end != text && !*end && (*text == '-' || isdigit((unsigned char)*text)))
            return json_integer(n);
    } else if (arg->type == ARG_NUMBER) {
        d = strtod(text, &end);
        if (*text && !*end && isfinite(d) && strspn(text, "0123456789.+-eE") == strlen(text))
            return json_real(d);
    } else if (arg->type == ARG_BOOLEAN) {
        if (strcmp(text, "true") == 0)
            return json_true();
        if (strcmp(text, "false") == 0)
            return json_false();
    }
    if (text_utf8_length(text, strlen(text)) < 0)
        return arg->type == ARG_NUMBER ? json_false() : json_real(0); /* which it does not take */
    return json_string(text);
}
