/*
 * UUIDs (RFC 9562) as 36 lower-case characters. Version 7 carries its time and sorts by it;
 * version 5 is the same for the same name, so that a redelivered message derives the same ids.
 */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UUID_TEXT = 37 }; /* with its NUL */

/* A new one; those of one process never go backwards, also when the clock does. Returns out. */
char *uuid_v7(char out[UUID_TEXT]);

/* From a namespace (a UUID, or any text: its bytes are hashed) and a name. Returns out. */
char *uuid_v5(const char *name_space, const char *name, char out[UUID_TEXT]);

/* The same, the name being n bytes. Returns out. */
char *uuid_v5_bytes(const char *name_space, const void *name, size_t n, char out[UUID_TEXT]);

/* A version 7 UUID with the time of another one; all else is hashed from it and the name, so that
 * the same two always give the same. Returns out. */
char *uuid_v7_derived(const char *base, const char *name, char out[UUID_TEXT]);

/* The lowest of the ids of version 7 of a time, in ms since the epoch: a bound to compare with.
 * Returns out. */
char *uuid_v7_floor(int64_t ms, char out[UUID_TEXT]);

/* Is s 8-4-4-4-12 hex digits of any version, in either case? */
bool uuid_valid(const char *s);

/* The version digit of a valid UUID, else 0. */
int uuid_version(const char *s);

/* Milliseconds since the epoch out of a version 7 UUID, -1 if it is none. */
int64_t uuid_time_ms(const char *s);

#endif
