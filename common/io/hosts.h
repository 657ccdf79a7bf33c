/*
 * The addresses of hosts, without blocking: for libraries that would wait for the name server
 * themselves. Uses /etc/hosts and the name servers of /etc/resolv.conf.
 */
#ifndef IO_HOSTS_H
#define IO_HOSTS_H

#include "common/base/err.h"
#include "common/io/loop.h"

struct hosts;

/* Comma-separated lists of the same length: an entry for each address that was found. */
struct hosts_found {
    const char *names, *addresses, *ports;
};

/* found is NULL when no host of the list has an address; e says why. May free the search. */
typedef void hosts_cb(void *arg, const struct hosts_found *found, const struct err *e);

/*
 * names is one host or a comma-separated list: names, addresses, or paths of local sockets (found
 * as they are, with an empty address). ports is one port for all of them, or a list of the same
 * length; NULL or an empty entry stays empty. A name with several addresses gets an entry for each.
 * The list begins at the entry `first` (counted round), so that whoever tries again with first + 1
 * is not held up by the same dead address each time.
 *
 * cb is called once, from the loop, never from within this call. The search is the caller's, to be
 * freed after that, or before, to end it.
 */
struct hosts *hosts_find(struct loop *l, const char *names, const char *ports, unsigned first,
                         hosts_cb *cb, void *arg);
void hosts_free(struct hosts *h); /* NULL is allowed; cb is not called any more */

#endif
