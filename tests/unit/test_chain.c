/* Which models are asked for one answer, out of a table that is made up here. */
#include "workers/inference/chain.h"

#include <string.h>

#include "tests/unit/unit.h"
#include "workers/inference/models.h"
#include "workers/inference/provider.h"
#include "workers/inference/settings.h"

const struct provider provider_llamacpp = {.name = "llamacpp"};
const struct provider provider_openrouter = {.name = "openrouter"};
const struct provider provider_openai = {.name = "openai"};
const struct provider provider_offline = {.name = "offline"};

#define CONFIGURED .is_configured = true, .in_chain = true

static struct model table[] = {
    {.provider = &provider_llamacpp, .name = "local", .free = false, CONFIGURED}, /* has a price */
    {.provider = &provider_openrouter, .name = "main", .is_default = true, CONFIGURED},
    {.provider = &provider_openrouter, .name = "second:free", .free = true, CONFIGURED},
    {.provider = &provider_openrouter, .name = "emergency", CONFIGURED},
    {.provider = &provider_openai, .name = "other", .is_configured = true, .is_default = true},
    {.provider = &provider_openrouter, .name = "big", .is_for_complex = true},
    {.provider = &provider_openrouter, .name = "named:free", .free = true},
};
static size_t table_size;

struct model *models_at(size_t i)
{
    return i < table_size ? &table[i] : NULL;
}

static int named; /* how many were asked for by name, so that they would join the table */

bool models_describe(const char *name, struct model *m)
{
    size_t i;

    for (i = 0; i < table_size; i++)
        if (strcmp(table[i].name, name) == 0) {
            *m = table[i];
            return true;
        }
    *m = (struct model){.provider = &provider_openrouter, .name = name};
    return strcmp(name, "unknown") != 0;
}

struct model *models_named(const char *name)
{
    size_t i;

    named++;

    for (i = 0; i < table_size; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

void models_hold(struct model *m)
{
    m->users++;
}

void models_release(struct model *m)
{
    m->users--;
}

static void reset(void)
{
    static char contexts[] = "assessment, career_guidance";

    table_size = COUNT(table);
    inference_settings.free_only = inference_settings.paid_tiers_only = false;
    inference_settings.complex_context_types = contexts;
}

/* The names with a space between, or the error's status and text. */
static const char *chain_of(const char *selection, const char *context_type)
{
    static char out[1024];
    json_t *json = *selection ? json_loads(selection, 0, NULL) : NULL;
    struct model *m = NULL;
    struct chain c = {.count = 0};
    struct wish w;
    struct err e;

    out[0] = '\0';
    if (chain_wish(&w, json, context_type, &e) || chain_make(&c, &w, &e))
        snprintf(out, sizeof(out), "%d %s", e.status, e.text);
    else
        while ((m = chain_next(&c, m)))
            snprintf(out + strlen(out), sizeof(out) - strlen(out), "%s%s", *out ? " " : "",
                     m->name);
    chain_end(&c);
    json_decref(json);
    return out;
}

#define CHAIN(selection, names) CU_ASSERT_STRING_EQUAL(chain_of(selection, "general"), names)

static void follows_the_settings(void)
{
    reset();
    CHAIN("", "local main second:free emergency");
    CHAIN("{}", "local main second:free emergency");
    CHAIN("{\"pays\":true}", "local main second:free emergency");
    CHAIN("{\"task\":\"complex_analysis\"}", "local main second:free emergency");
}

static void complex_ones_cost_for_who_pays(void)
{
    static const char paid[] = "big main emergency local second:free";

    reset();
    CHAIN("{\"pays\":true,\"task\":\"complex_analysis\"}", paid);
    CHAIN("{\"pays\":true,\"task\":\"other\"}", "local main second:free emergency");
    CU_ASSERT_STRING_EQUAL(chain_of("{\"pays\":true}", "assessment"), paid);
    CU_ASSERT_STRING_EQUAL(chain_of("{\"pays\":true}", "career_guidance"), paid);
    CU_ASSERT_STRING_NOT_EQUAL(chain_of("{\"pays\":true}", "career"), paid);
    CU_ASSERT_STRING_NOT_EQUAL(chain_of("{}", "assessment"), paid);
    CU_ASSERT_STRING_NOT_EQUAL(chain_of("{\"pays\":true}", NULL), paid);
}

static void tenants_have_their_own(void)
{
    reset();
    CHAIN("{\"models\":[\"named:free\",\"main\",\"named:free\"]}", "named:free main");
    CHAIN("{\"models\":[\"main\",\"big\"],\"pays\":true,\"task\":\"complex_analysis\"}",
          "main big");
    CHAIN("{\"models\":[\"unknown\",\"main\"]}", "main");
    CHAIN("{\"models\":[\"unknown\"]}", "503 no model is configured that may answer this tenant");
    CHAIN("{\"providers\":[\"llamacpp\"]}", "local");
    CHAIN("{\"providers\":[\"openrouter\"]}", "main second:free emergency");
    CHAIN("{\"providers\":[\"openai\",\"llamacpp\"]}", "local other");
    CHAIN("{\"providers\":[\"llamacpp\"],\"models\":[\"main\"]}",
          "503 no model is configured that may answer this tenant");
}

static void requests_name_one(void)
{
    reset();
    CHAIN("{\"model\":\"named:free\"}", "named:free local main second:free emergency");
    CHAIN("{\"model\":\"emergency\"}", "emergency local main second:free");
    CHAIN("{\"model\":\"unknown\"}", "422 the model unknown cannot be asked here");
    CHAIN("{\"model\":\"main\",\"providers\":[\"llamacpp\"]}",
          "422 the model main cannot be asked here");
}

/* A local one has no bill, whatever its price. */
static void what_costs_may_be_left_out(void)
{
    reset();
    inference_settings.free_only = true;
    CHAIN("", "local main second:free");
    CHAIN("{\"pays\":true,\"task\":\"complex_analysis\"}", "main local second:free");
    CHAIN("{\"models\":[\"big\",\"named:free\"],\"pays\":true}", "named:free");
    reset();
    inference_settings.paid_tiers_only = true;
    CHAIN("", "local second:free");
    CHAIN("{\"pays\":true}", "local main second:free emergency");
    table_size = 0;
    CHAIN("", "503 no model is configured that may answer this user's tier");
}

/* Who may not be asked does not join the table. */
static void only_those_that_may_be_asked_are_named(void)
{
    reset();
    named = 0;
    inference_settings.free_only = true;
    CHAIN("{\"model\":\"dear\"}", "422 the model dear cannot be asked here");
    CHAIN("{\"models\":[\"dear\",\"big\"]}",
          "503 no model is configured that may answer this tenant");
    CHAIN("{\"models\":[\"dear\"],\"providers\":[\"llamacpp\"]}",
          "503 no model is configured that may answer this tenant");
    CU_ASSERT_EQUAL(named, 0);
    CHAIN("{\"models\":[\"dear\",\"main\"]}", "main");
    CU_ASSERT_EQUAL(named, 1);
}

/* As long as the table has no room. */
static void a_full_table_is_no_refusal(void)
{
    static const char crowded[] = "503 too many other models are being asked at the moment";
    struct wish w = {.model = "dear"};
    struct chain c = {.count = 0};
    struct err e;

    reset();
    CHAIN("{\"model\":\"dear\"}", crowded);
    CHAIN("{\"models\":[\"dear\"]}", crowded);
    CHAIN("{\"models\":[\"dear\",\"main\"]}", "main");
    CU_ASSERT_EQUAL(chain_make(&c, &w, &e), -1);
    CU_ASSERT_EQUAL(e.kind, ERR_RETRY);
}

static void holds_its_models(void)
{
    struct wish w = {.model = NULL};
    struct chain c = {.count = 0};
    struct err e;
    size_t i;

    reset();
    CU_ASSERT_EQUAL(chain_make(&c, &w, &e), 0);
    CU_ASSERT_EQUAL(table[1].users, 1);
    CU_ASSERT_EQUAL(table[5].users, 0);
    chain_end(&c);
    for (i = 0; i < COUNT(table); i++)
        CU_ASSERT_EQUAL(table[i].users, 0);
}

static void odd_selections_are_refused(void)
{
    static const char *const odd[] = {"[]",
                                      "{\"model\":1}",
                                      "{\"pays\":\"yes\"}",
                                      "{\"models\":\"main\"}",
                                      "{\"models\":[1]}",
                                      "{\"providers\":[null]}",
                                      "{\"task\":{}}"};
    size_t i;

    reset();
    for (i = 0; i < COUNT(odd); i++)
        CHAIN(odd[i], "500 the turn's selection of models cannot be used");
}

static void ends_behind_the_last(void)
{
    struct chain c = {.models = {&table[1], &table[3]}, .count = 2};

    CU_ASSERT_PTR_EQUAL(chain_next(&c, NULL), &table[1]);
    CU_ASSERT_PTR_EQUAL(chain_next(&c, &table[1]), &table[3]);
    CU_ASSERT_PTR_NULL(chain_next(&c, &table[3]));
    CU_ASSERT_PTR_NULL(chain_next(&c, &table[0])); /* is not of it */
    c.count = 0;
    CU_ASSERT_PTR_NULL(chain_next(&c, NULL));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"follows the settings", follows_the_settings},
        {"complex ones cost, for who pays", complex_ones_cost_for_who_pays},
        {"tenants have their own", tenants_have_their_own},
        {"requests name one", requests_name_one},
        {"what costs may be left out", what_costs_may_be_left_out},
        {"only those that may be asked are named", only_those_that_may_be_asked_are_named},
        {"a full table is no refusal", a_full_table_is_no_refusal},
        {"holds its models", holds_its_models},
        {"odd selections are refused", odd_selections_are_refused},
        {"ends behind the last", ends_behind_the_last},
        CU_TEST_INFO_NULL,
    };

    return unit_main("chain", tests);
}
