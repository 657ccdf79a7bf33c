#include "common/io/hosts.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <event2/dns.h>
#include <event2/util.h>

#include "common/base/mem.h"

enum { FOUND_MAX = 16, ADDRESS_SIZE = 80 };

enum part { NAME, ADDRESS, PORT, PARTS };

struct entry {
    const char *part[PARTS];
};

struct hosts {
    struct loop *loop;
    struct arena *arena; /* all of this lives in it */
    char *names, *ports; /* what is left of the lists; ports NULL: the last one is for all */
    struct entry asked;  /* the name that is being looked up */
    struct evdns_getaddrinfo_request *request;
    struct timer *later;
    struct entry found[FOUND_MAX];
    unsigned count, first;
    struct err error;
    hosts_cb *cb;
    void *arg;
};

/* Like strsep(), but the last item stays the list's if it is the only one. */
static const char *next_port(struct hosts *h)
{
    const char *port = h->ports;

    if (strchr(h->ports, ','))
        port = strsep(&h->ports, ",");
    return port;
}

static void add(struct hosts *h, const char *address)
{
    if (h->count == FOUND_MAX)
        return;
    h->found[h->count] = h->asked;
    h->found[h->count++].part[ADDRESS] = arena_strdup(h->arena, address);
}

static void add_addresses(struct hosts *h, int code, const struct evutil_addrinfo *found)
{
    const struct evutil_addrinfo *a;
    char address[ADDRESS_SIZE];

    for (a = found; a; a = a->ai_next)
        if (getnameinfo(a->ai_addr, (socklen_t)a->ai_addrlen, address, sizeof(address), NULL, 0,
                        NI_NUMERICHOST) == 0)
            add(h, address);
    if (code || !found)
        err_set(&h->error, ERR_RETRY, 503, "the address of %s is not found: %s",
                h->asked.part[NAME], code ? evutil_gai_strerror(code) : "it has none");
}

static void look_up(struct hosts *h);

static void resolved(int code, struct evutil_addrinfo *found, void *arg)
{
    struct hosts *h = arg;
    bool within_the_call;

    if (code == EVUTIL_EAI_CANCEL)
        return; /* the search is gone */
    add_addresses(h, code, found);
    if (found)
        evutil_freeaddrinfo(found);
    within_the_call = h->request == NULL;
    h->request = NULL;
    if (!within_the_call)
        look_up(h);
}

/* Until one is not answered at once. */
static void look_up(struct hosts *h)
{
    struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const char *name;

    while (h->names) {
        h->asked.part[NAME] = name = strsep(&h->names, ",");
        h->asked.part[PORT] = next_port(h);
        if (*name == '/' || *name == '\0') {
            add(h, "");
            continue;
        }
        h->request = evdns_getaddrinfo(loop_dns(h->loop), name, NULL, &hints, resolved, h);
        if (h->request)
            return;
    }
    timer_set(h->later, 0);
}

static const char *join(const struct hosts *h, enum part part)
{
    size_t room = 1;
    char *list, *end;
    unsigned i;

    for (i = 0; i < h->count; i++)
        room += strlen(h->found[i].part[part]) + 1;
    list = end = arena_alloc(h->arena, room);
    for (i = 0; i < h->count; i++) {
        if (i > 0)
            *end++ = ',';
        end = stpcpy(end, h->found[(h->first + i) % h->count].part[part]);
    }
    return list;
}

static void tell(void *arg)
{
    struct hosts *h = arg;
    struct hosts_found found;

    if (h->count == 0) {
        h->cb(h->arg, NULL, &h->error);
        return;
    }
    found.names = join(h, NAME);
    found.addresses = join(h, ADDRESS);
    found.ports = join(h, PORT);
    h->cb(h->arg, &found, NULL);
}

struct hosts *hosts_find(struct loop *l, const char *names, const char *ports, unsigned first,
                         hosts_cb *cb, void *arg)
{
    struct arena *a = arena_new();
    struct hosts *h = arena_alloc(a, sizeof(*h));

    h->loop = l;
    h->arena = a;
    h->names = arena_strdup(a, names);
    h->ports = arena_strdup(a, ports ? ports : "");
    h->first = first;
    h->cb = cb;
    h->arg = arg;
    h->later = timer_new(l, tell, h);
    look_up(h);
    return h;
}

void hosts_free(struct hosts *h)
{
    if (!h)
        return;
    if (h->request)
        evdns_getaddrinfo_cancel(h->request);
    timer_free(h->later);
    arena_free(h->arena);
}
