#include "common/base/uuid.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/evp.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

static char *format(const unsigned char b[16], char out[UUID_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;
    int i;

    for (i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[b[i] >> 4];
        *p++ = hex[b[i] & 15];
    }
    *p = '\0';
    return out;
}

/* Random bytes, drawn a page at a time: one system call for 256 ids. */
static void random_bytes(unsigned char *out, size_t n)
{
    static unsigned char pool[2560];
    static size_t left;

    if (left < n) {
        if (getrandom(pool, sizeof(pool), 0) != sizeof(pool)) {
            fputs("getrandom failed\n", stderr);
            abort();
        }
        left = sizeof(pool);
    }
    left -= n;
    memcpy(out, pool + left, n);
}

enum { STEP_BACK_MS = 60 * 1000 };

/*
 * The twelve bits behind the time are a counter within the millisecond (RFC 9562 §6.2, method 1),
 * which starts at a random place in its lower half and borrows from the next millisecond when full.
 * When the clock was set back the ids wait for it, to stay in order. By more than a minute it was
 * wrong before, and ids ahead of all other clocks would be refused: they follow it then.
 */
char *uuid_v7(char out[UUID_TEXT])
{
    static int64_t last_ms;
    static unsigned counter;
    unsigned char b[16];
    int64_t ms = clock_wall_ms();
    int i;

    random_bytes(b + 6, 10);
    if (ms > last_ms || ms < last_ms - STEP_BACK_MS) {
        last_ms = ms;
        counter = ((unsigned)b[6] << 8 | b[7]) & 0x7ff;
    } else if (++counter > 0xfff) {
        last_ms++;
        counter = 0;
    }
    for (i = 0; i < 6; i++)
        b[i] = (unsigned char)(last_ms >> (40 - 8 * i));
    b[6] = (unsigned char)(0x70 | counter >> 8);
    b[7] = (unsigned char)counter;
    b[8] = (unsigned char)(0x80 | (b[8] & 0x3f));
    return format(b, out);
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return tolower((unsigned char)c) - 'a' + 10;
}

/* The sixteen bytes of a valid UUID. */
static void parse(const char *s, unsigned char b[16])
{
    int i;

    for (i = 0; i < 16; i++) {
        if (*s == '-')
            s++;
        b[i] = (unsigned char)(digit(s[0]) << 4 | digit(s[1]));
        s += 2;
    }
}

/* Looked up once: libcrypto searches its providers for it each time. */
static const EVP_MD *sha1(void)
{
    static EVP_MD *md;

    if (!md)
        md = EVP_MD_fetch(NULL, "SHA1", NULL);
    return md;
}

char *uuid_v5_bytes(const char *name_space, const void *name, size_t name_len, char out[UUID_TEXT])
{
    unsigned char ns[16], hash[EVP_MAX_MD_SIZE];
    size_t ns_len;
    const void *ns_data = ns;
    char *data;

    if (uuid_valid(name_space)) {
        parse(name_space, ns);
        ns_len = sizeof(ns);
    } else {
        ns_data = name_space;
        ns_len = strlen(name_space);
    }
    data = mem_alloc(ns_len + name_len);
    memcpy(data, ns_data, ns_len);
    memcpy(data + ns_len, name, name_len);
    if (!sha1() || !EVP_Digest(data, ns_len + name_len, hash, NULL, sha1(), NULL)) {
        fputs("SHA-1 is not available in this libcrypto\n", stderr);
        abort();
    }
    free(data);
    hash[6] = (unsigned char)(0x50 | (hash[6] & 0x0f));
    hash[8] = (unsigned char)(0x80 | (hash[8] & 0x3f));
    return format(hash, out);
}

char *uuid_v5(const char *name_space, const char *name, char out[UUID_TEXT])
{
    return uuid_v5_bytes(name_space, name, strlen(name), out);
}

char *uuid_v7_derived(const char *base, const char *name, char out[UUID_TEXT])
{
    unsigned char time[16], b[16];

    uuid_v5(base, name, out);
    parse(out, b);
    parse(base, time);
    memcpy(b, time, 6);
    b[6] = (unsigned char)(0x70 | (b[6] & 0x0f));
    return format(b, out);
}

char *uuid_v7_floor(int64_t ms, char out[UUID_TEXT])
{
    unsigned char b[16] = {0};
    int i;

    for (i = 0; i < 6; i++)
        b[i] = (unsigned char)(ms >> (40 - 8 * i));
    return format(b, out);
}

bool uuid_valid(const char *s)
{
    int i;

    if (!s)
        return false;
    for (i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (s[i] != '-')
                return false;
        } else if (!isxdigit((unsigned char)s[i])) {
            return false;
        }
    }
    return s[36] == '\0';
}

int uuid_version(const char *s)
{
    return uuid_valid(s) ? digit(s[14]) : 0;
}

int64_t uuid_time_ms(const char *s)
{
    unsigned char b[16];
    int64_t ms = 0;
    int i;

    if (uuid_version(s) != 7)
        return -1;
    parse(s, b);
    for (i = 0; i < 6; i++)
        ms = ms << 8 | b[i];
    return ms;
}
