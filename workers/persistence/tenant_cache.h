/*
 * What the worker has to know of a tenant before it begins a transaction: whether there is a budget, and
 * which models it may ask. Tenants without settings are not there. It is asked anew every
 * TENANTS_REFRESH_MS, so that a change counts in all processes shortly after.
 */
#ifndef PERSISTENCE_TENANT_CACHE_H
#define PERSISTENCE_TENANT_CACHE_H

#include <jansson.h>

#include "common/worker/worker.h"

struct tenant {
    bool has_budget; /* its turns reserve something */
    bool is_metered; /* what they cost is counted: it has a budget, or had one */
    json_t *models;  /* an array of texts; NULL: as configured */
    json_t *providers;
};

void tenant_cache_start(struct worker *w, void (*loaded)(void)); /* before the database */
void tenant_cache_load(void); /* once; loaded() is called when all is known */
void tenant_cache_stop(void); /* after the database */

/* NULL: it has no settings. */
const struct tenant *tenant_known(const char *tenant_id);

#endif
