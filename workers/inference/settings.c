#include "workers/inference/settings.h"

struct inference_settings inference_settings;

#define SETTING(member) offsetof(struct inference_settings, member)

static const struct config_key keys[] = {
    {"OPENROUTER_API_KEY", CONFIG_STRING, SETTING(openrouter_key), "", 0, 512, NULL, NULL, true,
     "The key to OpenRouter, which answers when it is set."},
    {"OPENROUTER_BASE_URL", CONFIG_STRING, SETTING(openrouter_url), "https://openrouter.ai/api/v1",
     8, 1024, NULL, NULL, false, "Where OpenRouter is; /chat/completions is added."},
    {"OPENROUTER_REFERER", CONFIG_STRING, SETTING(openrouter_referer),
     "https://atma.chhrone.web.id", 0, 1024, NULL, NULL, false,
     "The header HTTP-Referer, by which OpenRouter knows the application."},
    {"OPENROUTER_TITLE", CONFIG_STRING, SETTING(openrouter_title), "ATMA - AI Talent Mapping", 0,
     256, NULL, NULL, false, "The header X-Title, the application's name at OpenRouter."},
    {"OPENAI_API_KEY", CONFIG_STRING, SETTING(openai_key), "", 0, 512, NULL, NULL, true,
     "The key to an OpenAI-compatible server, which answers when there is none to OpenRouter."},
    {"OPENAI_BASE_URL", CONFIG_STRING, SETTING(openai_url), "", 0, 1024, NULL, NULL, false,
     "An OpenAI-compatible server, as in http://127.0.0.1:8080/v1. Empty: OpenAI's own, with a "
     "key."},
    {"OPENAI_MODEL", CONFIG_STRING, SETTING(openai_model), "", 0, 256, NULL, NULL, false,
     "The model to ask there. Empty: DEFAULT_MODEL."},
    {"DEFAULT_MODEL", CONFIG_STRING, SETTING(default_model), "qwen/qwen3-235b-a22b-07-25:free", 1,
     256, NULL, NULL, false, "The model to ask."},
    {"MAX_TOKENS", CONFIG_INT, SETTING(max_tokens), "1000", 1, 1000000, NULL, NULL, false,
     "The longest answer, in the model's tokens."},
    {"TEMPERATURE", CONFIG_REAL, SETTING(temperature), "0.7", 0, 2, NULL, NULL, false,
     "How freely the model chooses its words."},
    {"MODEL_TIMEOUT_SECONDS", CONFIG_INT, SETTING(timeout_s), "45", 1, 3600, NULL, NULL, false,
     "For one answer, from the request to its end."},
    {"MODEL_CONNECT_TIMEOUT_SECONDS", CONFIG_INT, SETTING(connect_timeout_s), "10", 1, 600, NULL,
     NULL, false, "For name, TCP and TLS of a connection to the provider."},
    {"MODEL_FIRST_TOKEN_TIMEOUT_SECONDS", CONFIG_INT, SETTING(first_token_timeout_s), "30", 1, 3600,
     NULL, NULL, false, "For the first word of a streamed answer."},
    {"MODEL_IDLE_TIMEOUT_SECONDS", CONFIG_INT, SETTING(idle_timeout_s), "15", 1, 3600, NULL, NULL,
     false, "Between two words of a streamed answer."},
    {"MODEL_CA_FILE", CONFIG_STRING, SETTING(ca_file), "", 0, 4096, NULL, NULL, false,
     "The authorities that may sign the provider's certificate, as PEM. Empty: the system's."},
    {"MAX_ANSWER_BYTES", CONFIG_INT, SETTING(answer_max), "131072", 1, 1048576, NULL, NULL, false,
     "The longest answer's text in bytes of UTF-8; a longer one is an error."},
    {"INFERENCE_CONCURRENCY", CONFIG_INT, SETTING(concurrency), "256", 1, 10000, NULL, NULL, false,
     "Answers under way in this process at once; further ones wait for their turn."},
    {"PII_PROTECTION", CONFIG_CHOICE, SETTING(pii_protection), "external", 0, 0, "off external all",
     NULL, false,
     "Which servers get placeholders for personal data: none, those that are neither on this "
     "machine (localhost) nor at a private address, or all."},
};
const struct config_section inference_section = {"Models", keys, sizeof(keys) / sizeof(keys[0]),
                                                 &inference_settings};
