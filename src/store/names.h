/* Names of the files in a data directory, made and read back in one place.
 *
 * Numbers are written with twenty digits, so that names sort as their numbers do. */
#pragma once

#include <stdint.h>

enum name_kind {
    NAME_UNKNOWN,
    NAME_IDENTITY,  /* trifecta.id */
    NAME_LOCK,      /* LOCK */
    NAME_RESERVE,   /* reserve */
    NAME_MANIFEST,  /* manifest-<number>.man */
    NAME_RUN,       /* run-<number>.tri: a packed trie */
    NAME_OVERLAY,   /* overlay-<number>.ovl */
    NAME_LOG,       /* log-<number>.log */
    NAME_TRANSFER,  /* transfer-<number>.tri: on its way out or in, to be removed at a start */
    NAME_TEMPORARY, /* trifecta.id.new, manifest-<number>.new: never finished, to be removed */
    NAME_KIND_COUNT,
};

enum { NAME_BYTES_MAX = 64 };

struct name {
    char text[NAME_BYTES_MAX];
};

/* `kind` is one of the numbered five. */
struct name name_of(enum name_kind kind, uint64_t number);

/* Of a manifest that is not yet one. */
struct name name_of_new_manifest(uint64_t number);

/* What `text` names; `*number` is set for the numbered ones, else 0. Only exactly what
 * name_of() writes is known, with a number above 0. */
enum name_kind name_parse(const char *text, uint64_t *number);

#define NAME_IDENTITY_TEXT "trifecta.id"
#define NAME_IDENTITY_NEW_TEXT "trifecta.id.new"
#define NAME_LOCK_TEXT "LOCK"
#define NAME_RESERVE_TEXT "reserve"
