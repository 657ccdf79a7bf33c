#include "workers/context-builder/personal.h"

#include <stdbool.h>
#include <string.h>

enum { NAMES_MAX = 32, NAME_BYTES = 128, DEPTH_MAX = 6, KEY_MAX = 32 };

/* Written without "_", "-" and capitals, as in full_name, fullName. */
static const char *const always[] = {
    "fullname",  "firstname",  "lastname",      "middlename",    "nickname",     "displayname",
    "givenname", "familyname", "preferredname", "surname",       "username",     "namalengkap",
    "namadepan", "namatengah", "namabelakang",  "namapanggilan", "namapengguna", "panggilan",
};
static const char *const of_persons[] = {"name", "nama"};
static const char *const persons[] = {"user",    "profile", "userprofile", "student", "learner",
                                      "person",  "profil",  "pengguna",    "siswa",   "mahasiswa",
                                      "peserta", "account", "personal"};

static bool is_one_of(const char *key, const char *const *list, size_t n)
{
    char plain[KEY_MAX];
    size_t i, length = 0;

    for (i = 0; key[i]; i++) {
        if (key[i] == '_' || key[i] == '-' || key[i] == ' ')
            continue;
        if (length == KEY_MAX - 1)
            return false;
        plain[length++] = key[i] >= 'A' && key[i] <= 'Z' ? (char)(key[i] + 32) : key[i];
    }
    plain[length] = '\0';
    for (i = 0; i < n; i++)
        if (strcmp(plain, list[i]) == 0)
            return true;
    return false;
}

#define IS_ONE_OF(key, list) is_one_of((key), (list), sizeof(list) / sizeof((list)[0]))

static void take(json_t *names, const char *key, json_t *value, bool is_person)
{
    size_t n = json_string_length(value);

    if (n > 0 && n <= NAME_BYTES && json_array_size(names) < NAMES_MAX &&
        (IS_ONE_OF(key, always) || (is_person && IS_ONE_OF(key, of_persons))))
        json_array_append(names, value);
}

static void collect(json_t *names, json_t *data, bool is_person, int depth)
{
    const char *key;
    json_t *value;
    size_t i;

    if (depth > DEPTH_MAX)
        return;
    json_array_foreach (data, i, value)
        collect(names, value, false, depth + 1);
    json_object_foreach (data, key, value) {
        if (json_is_string(value))
            take(names, key, value, is_person);
        else
            collect(names, value, IS_ONE_OF(key, persons), depth + 1);
    }
}

json_t *personal_names(json_t *data)
{
    json_t *names = json_array();

    collect(names, data, true, 0);
    if (json_array_size(names) > 0)
        return names;
    json_decref(names);
    return NULL;
}
