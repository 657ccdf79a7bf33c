/* In which of the languages that the fleet itself speaks a text is. */
#ifndef INFERENCE_LANGUAGE_H
#define INFERENCE_LANGUAGE_H

#include <stdbool.h>

/* Else it is taken for English. */
bool language_is_indonesian(const char *text);

#endif
