/* The names of a person in the data that is known about him. */
#ifndef CONTEXT_BUILDER_PERSONAL_H
#define CONTEXT_BUILDER_PERSONAL_H

#include <jansson.h>

/* The values of members that are names by their own name ("full_name", "nama_lengkap", …), at most
 * 32 of at most 128 bytes, as a new array; NULL: there are none. data is a conversation's
 * context_data; may be NULL. What may be the name of a thing ("name") counts at the top and in what
 * is the user's ("user", "profile", …) alone. */
json_t *personal_names(json_t *data);

#endif
