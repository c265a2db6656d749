/* The keys of a packed trie: a static prefix B-tree of front-coded blocks.
 *
 * Keys are strictly ascending and known by their ordinals, from 0. A key is stored as the
 * length it shares with the key before and the rest in symbols of the file's dictionary. The
 * first key of a block stands in the level above, so nothing is stored twice.
 *
 * The bytes come in FRONT_SECTION_COUNT sections, which the file keeps apart; their layout
 * is the table in core/front_format.h and docs/format/front.md. They are read in place,
 * through `pages`, which checks a page when it is first touched.
 *
 * Errors: every reading function may return STATUS_CORRUPT, for a page with a wrong
 * checksum and for content that breaks a rule of the format; outputs are then unchanged,
 * but for buffers. Content that breaks a rule without showing gives a wrong answer, never
 * an access outside the sections, an endless loop or an allocation out of proportion.
 *
 * Threads: any number of readers of one `front`; one thread per iterator and builder. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/dictionary.h"

struct pages; /* core/pages.h */

enum { FRONT_BLOCK = 32 }; /* Keys in a block, and children of an inner one. */

/* The sections in the order in which the file should hold them. */
enum front_section {
    FRONT_HEADER,     /* Counts and levels. */
    FRONT_DICTIONARY, /* Symbols and headers, as dictionary_encode() writes them. */
    FRONT_INDEX,      /* Inner levels, and where the blocks of each start. */
    FRONT_OFFSETS,    /* Where the blocks of FRONT_KEYS start. */
    FRONT_KEYS,       /* Leaf blocks: nearly all the bytes. */
    FRONT_SECTION_COUNT,
};

struct front;

/* Opens over sections inside `pages`, both of which must outlive it.
 *
 * Reads the header, the dictionary and the blocks of the index, which stay open; the rest when
 * it is needed.
 * Errors: STATUS_CORRUPT, STATUS_NOMEM. */
enum status front_open(struct heap *heap, struct pages *pages,
                       const struct slice sections[FRONT_SECTION_COUNT], struct front **out);
void front_close(struct front *front);

/* Number of keys, at least 1. */
uint64_t front_count(const struct front *front);

/* The dictionary that the keys are written with; borrowed. */
const struct dictionary *front_dictionary(const struct front *front);

/* Number of keys < `key`. `exact` (may be NULL): the key at that ordinal is `key`.
 *
 * Cost: one block a level, no allocation, no copy of a key. */
enum status front_rank(const struct front *front, struct slice key, uint64_t *ordinal, bool *exact);

/* Ordinals [*low, *high) of the keys that start with `prefix`; where there are none, both
 * are the rank of `prefix`. Cost: one descent, two below the block where the ends part. */
enum status front_prefix(const struct front *front, struct slice prefix, uint64_t *low,
                         uint64_t *high);

enum { FRONT_AT_ONCE = 8 };

/* front_prefix() in up to FRONT_AT_ONCE tries, level by level, so that what each of them has to
 * wait for loads at the same time. On failure some ordinals may have been written. */
enum status front_prefix_all(const struct front *const fronts[], size_t count, struct slice prefix,
                             uint64_t lows[], uint64_t highs[]);

/* The key at `ordinal` < count (CHECK) into `key`, which is cleared first.
 *
 * Errors: STATUS_NOMEM. Cost: two blocks, headers first, then only the entries that the
 * key is made of; no allocation once `key` is large enough. */
enum status front_key(const struct front *front, uint64_t ordinal, struct buf *key);

/* The keys at `count` ordinals, strictly ascending and < count of the trie (CHECK both), one
 * behind the other to the end of `keys`; ends[i] is where the i-th ends. `key` is scratch.
 *
 * Errors: STATUS_NOMEM. Cost: blocks that several keys lie in are opened once, and of a key only
 * what the one before it does not begin with is expanded. */
enum status front_keys(const struct front *front, const uint64_t *ordinals, size_t count,
                       struct buf *key, struct buf *keys, size_t *ends);

/* Start loading the blocks that front_key() of `ordinal` will read, and what says where they
 * are. */
void front_prefetch(const struct front *front, uint64_t ordinal);
void front_prefetch_offsets(const struct front *front, uint64_t ordinal);

/* --- Walks --- */

struct front_iterator;

/* Stands nowhere until the first seek. */
enum status front_iterator_create(struct heap *heap, const struct front *front,
                                  struct front_iterator **out);
void front_iterator_destroy(struct front_iterator *iterator);

/* To the key at `ordinal`. Errors: STATUS_END when there is none; STATUS_NOMEM. After any
 * error of these three the iterator stands nowhere. */
enum status front_iterator_seek(struct front_iterator *iterator, uint64_t ordinal);

/* One on or back. Errors: STATUS_END past the last or first; STATUS_NOMEM.
 * Cost: next is about 15 ns; previous expands a block once and then steps inside it. */
enum status front_iterator_next(struct front_iterator *iterator);
enum status front_iterator_previous(struct front_iterator *iterator);

/* Where it stands; only while it stands somewhere (CHECK). The key is valid until the
 * next call that moves the iterator. */
struct slice front_iterator_key(const struct front_iterator *iterator);
uint64_t front_iterator_ordinal(const struct front_iterator *iterator);

/* --- Building --- */

struct front_builder;

/* `dictionary` is borrowed until front_builder_destroy(). */
enum status front_builder_create(struct heap *heap, const struct dictionary *dictionary,
                                 struct front_builder **out);
void front_builder_destroy(struct front_builder *builder);

/* Keys of 0 to KEY_BYTES_MAX bytes, strictly ascending (CHECK both).
 *
 * Errors: STATUS_NOMEM; the builder can then only be destroyed. */
enum status front_builder_add(struct front_builder *builder, struct slice key);

uint64_t front_builder_count(const struct front_builder *builder);

/* Bytes of all sections as far as they are known. */
uint64_t front_builder_size_bytes(const struct front_builder *builder);

/* The sections, after at least one key (CHECK); nothing may be added any more.
 *
 * Owns: the slices are the builder's. Errors: STATUS_NOMEM. */
enum status front_builder_finish(struct front_builder *builder,
                                 struct slice sections[FRONT_SECTION_COUNT]);
