/* Notices that come gathered in one message, also such as no worker sends. */
#include "gateway-shim/notices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "tests/unit/unit.h"

#define ONE "019a5f0e-0000-7000-8000-000000000001"
#define TWO "019a5f0e-0000-7000-8000-000000000002"

static struct buf told;

static void tell(void *arg, const struct notice *n)
{
    (void)arg;
    buf_printf(&told, "%s %s %d %d %.*s;", n->type, n->correlation_id, (int)n->epoch,
               (int)n->offset, (int)n->body_len, n->body);
}

/* In memory of exactly its size, so that a sanitizer sees each byte too many. */
static void reads(const char *bytes, size_t n, const char *wanted)
{
    char *copy = malloc(n ? n : 1);

    memcpy(copy, bytes, n);
    buf_init(&told, 10000);
    buf_puts(&told, "");
    notices_read(copy, n, tell, NULL);
    CU_ASSERT_STRING_EQUAL(told.data, wanted);
    buf_free(&told);
    free(copy);
}

static void says(const char *text, const char *wanted)
{
    reads(text, strlen(text), wanted);
}

static void in_order(void)
{
    says("", "");
    says("accepted " ONE " 0 0\n{\"turn_id\":\"x\"}\n",
         "accepted " ONE " 0 0 {\"turn_id\":\"x\"};");
    says("delta " ONE " 1 0\n{\"text\":\"a b\"}\ndelta " TWO " 2 7\n{}\ndelta " ONE " 1 3\n\n",
         "delta " ONE " 1 0 {\"text\":\"a b\"};delta " TWO " 2 7 {};delta " ONE " 1 3 ;");
}

/* Each ends it; what came before counts. */
static void unreadable(void)
{
    static const char good[] = "delta " ONE " 1 0\n{}\n", one[] = "delta " ONE " 1 0 {};";
    static const char *const bad[] = {
        "\n",
        "\n\n",
        "delta\n{}\n",
        "delta " ONE "\n{}\n",
        "delta " ONE " 1\n{}\n",
        "delta " ONE " 1 x\n{}\n",
        "delta " ONE " 1 0 more\n{}\n",
        "delta " ONE "9 1 0\n{}\n",
        "delta-with-a-long-name " ONE " 1 0\n{}\n",
        "delta " ONE " 1 0\n{}",
        "delta " ONE " 1 0\n",
        "delta " ONE " 1 0",
    };
    char text[1000];
    size_t i;

    for (i = 0; i < COUNT(bad); i++) {
        snprintf(text, sizeof(text), "%s%s", good, bad[i]);
        says(text, one);
    }
    memset(text, 'x', sizeof(text)); /* a line longer than any */
    text[sizeof(text) - 3] = '\n';
    text[sizeof(text) - 2] = '\n';
    reads(text, sizeof(text) - 1, "");
    reads("delta \0\n{}\n", 11, "");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"each in order", in_order},
        {"what cannot be read ends it", unreadable},
        CU_TEST_INFO_NULL,
    };

    return unit_main("notices", tests);
}
