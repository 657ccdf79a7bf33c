/* Addresses of hosts, as far as they need no name server: numbers, paths and /etc/hosts. */
#include "common/io/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/unit/unit.h"

static struct {
    struct loop *loop;
    struct hosts *hosts;
    int calls;
    char *names, *addresses, *ports;
    struct err error;
} w;

static void end(void)
{
    hosts_free(w.hosts);
    loop_free(w.loop);
    free(w.names);
    free(w.addresses);
    free(w.ports);
    memset(&w, 0, sizeof(w));
}

static void found(void *arg, const struct hosts_found *f, const struct err *e)
{
    (void)arg;
    w.calls++;
    if (f) {
        w.names = mem_strdup(f->names);
        w.addresses = mem_strdup(f->addresses);
        w.ports = mem_strdup(f->ports);
    } else {
        w.error = *e;
    }
    hosts_free(w.hosts);
    w.hosts = NULL;
    loop_stop(w.loop);
}

static void find(const char *names, const char *ports, unsigned first)
{
    end();
    w.loop = loop_new();
    w.hosts = hosts_find(w.loop, names, ports, first, found, NULL);
    CU_ASSERT_EQUAL(w.calls, 0);
    loop_run(w.loop);
    CU_ASSERT_EQUAL(w.calls, 1);
}

static void check(const char *names, const char *addresses, const char *ports)
{
    CU_ASSERT_STRING_EQUAL(w.names, names);
    CU_ASSERT_STRING_EQUAL(w.addresses, addresses);
    CU_ASSERT_STRING_EQUAL(w.ports, ports);
}

static void one(void)
{
    find("127.0.0.1", "5432", 0);
    check("127.0.0.1", "127.0.0.1", "5432");
    find("::1", "", 7);
    check("::1", "::1", "");
    find("/run/postgresql", NULL, 0);
    check("/run/postgresql", "", "");
    end();
}

static void several(void)
{
    find("127.0.0.1,/tmp,127.0.0.2", "1,2,3", 0);
    check("127.0.0.1,/tmp,127.0.0.2", "127.0.0.1,,127.0.0.2", "1,2,3");
    find("127.0.0.1,/tmp,127.0.0.2", "1,2,3", 1);
    check("/tmp,127.0.0.2,127.0.0.1", ",127.0.0.2,127.0.0.1", "2,3,1");
    find("127.0.0.1,/tmp,127.0.0.2", "1,2,3", 5);
    check("127.0.0.2,127.0.0.1,/tmp", "127.0.0.2,127.0.0.1,", "3,1,2");
    find("127.0.0.1,127.0.0.2", "5432", 0); /* one port for all */
    check("127.0.0.1,127.0.0.2", "127.0.0.1,127.0.0.2", "5432,5432");
    find("127.0.0.1,127.0.0.2", ",7", 0);
    check("127.0.0.1,127.0.0.2", "127.0.0.1,127.0.0.2", ",7");
    end();
}

static void too_many(void)
{
    char names[400] = "127.0.0.1";
    int i;

    for (i = 0; i < 30; i++)
        strcat(names, ",127.0.0.1");
    find(names, "1", 0);
    CU_ASSERT_EQUAL(strlen(w.ports), 16 * 2 - 1);
    end();
}

static void by_name(void)
{
    find("localhost", "5432", 0);
    CU_ASSERT_EQUAL(strncmp(w.names, "localhost", 9), 0);
    CU_ASSERT_TRUE(strstr(w.addresses, "127.0.0.1") || strstr(w.addresses, "::1"));
    end();
}

static void freed_before(void)
{
    end();
    w.loop = loop_new();
    hosts_free(hosts_find(w.loop, "127.0.0.1", "1", 0, found, NULL));
    hosts_free(hosts_find(w.loop, "nowhere.invalid", "1", 0, found, NULL));
    w.hosts = hosts_find(w.loop, "/tmp", "1", 0, found, NULL);
    loop_run(w.loop);
    CU_ASSERT_EQUAL(w.calls, 1);
    hosts_free(NULL);
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {{"one host", one},
                           {"several hosts", several},
                           {"too many hosts", too_many},
                           {"a name", by_name},
                           {"freed before it is found", freed_before},
                           CU_TEST_INFO_NULL};

    return unit_main("hosts", tests);
}
