/* What is configured: which provider answers, with which model, and how long it may take. */
#ifndef INFERENCE_SETTINGS_H
#define INFERENCE_SETTINGS_H

#include <stdbool.h>

#include "common/base/config.h"

struct inference_settings {
    char *openrouter_key, *openrouter_url, *openrouter_referer, *openrouter_title;
    char *openai_key, *openai_url, *openai_model;
    char *default_model, *fallback_model, *emergency_model;
    bool free_only;
    long free_per_minute, free_per_day, free_wait_ms;
    char *llamacpp_url, *llamacpp_key, *llamacpp_model;
    long breaker_open_s, breaker_open_max_s, breaker_percent, breaker_least, breaker_slow_s;
    char *ca_file;
    long max_tokens;
    double temperature;
    long wait_s, timeout_s, connect_timeout_s, first_token_timeout_s, idle_timeout_s;
    long answer_max; /* bytes */
    long concurrency;
    long usage_note_s;
    char *prices;
    char *pii_protection; /* off, external, all */
};
extern struct inference_settings inference_settings;
extern const struct config_section inference_section;

#endif
