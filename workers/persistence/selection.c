#include "workers/persistence/selection.h"

#include <string.h>

#include "common/base/text.h"
#include "workers/persistence/handlers.h"
#include "workers/persistence/tenant_cache.h"

static bool has_name(const json_t *list, const char *wanted)
{
    const json_t *name;
    size_t i;

    json_array_foreach (list, i, name)
        if (strcmp(json_string_value(name), wanted) == 0)
            return true;
    return false;
}

static bool pays(struct job *job)
{
    const char *tier = job_envelope(job)->tier;

    return tier && text_is_listed(persistence_settings.paid_tiers, tier);
}

static bool costs(const char *model)
{
    return !strstr(model, ":free") && strcmp(model, persistence_settings.local_model) != 0;
}

static const char *argument(const struct job *job, const char *name)
{
    return json_string_value(json_object_get(job_body(job), name));
}

int selection_check(struct job *job, struct err *e)
{
    const struct tenant *tenant = tenant_known(job_envelope(job)->tenant_id);
    const char *model = argument(job, "model");

    if (!model)
        return 0;
    if (!text_is_listed(persistence_settings.allowed_models, model))
        return err_set(e, ERR_REJECT, 422,
                       "the model %.100s is none of those that may be asked for", model);
    if (tenant && tenant->models && !has_name(tenant->models, model))
        return err_set(e, ERR_REJECT, 422, "the model %.100s is none of the tenant's", model);
    if (costs(model) && !pays(job))
        return err_set(e, ERR_REJECT, 422, "the model %.100s is not for this user's tier", model);
    return 0;
}

json_t *selection_json(struct job *job)
{
    const struct tenant *tenant = tenant_known(job_envelope(job)->tenant_id);
    json_t *s =
        json_pack("{s:s*, s:s*, s:o*, s:O*, s:O*}", "model", argument(job, "model"), "task",
                  argument(job, "task"), "pays", pays(job) ? json_true() : NULL, "models",
                  tenant ? tenant->models : NULL, "providers", tenant ? tenant->providers : NULL);

    if (json_object_size(s) > 0)
        return s;
    json_decref(s);
    return NULL;
}
