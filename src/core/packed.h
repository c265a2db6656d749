/* Packed trie: one immutable file of keys in alphabetical order with their records.
 *
 * A key is known by its ordinal, its position in byte order from 0. Everything asked of
 * it is a question about ordinals: a prefix is a range of them, a count a difference, a
 * scan a walk, the best of a range a search in a hierarchy of bests.
 *
 *   keys        front-coded blocks of 32, a static prefix B-tree above them (core/front.h)
 *   columns     score, version, and for records that are not plain their other fields
 *   bests       level 0: one best for 32 ordinals; each level above: one for 16 below
 *   sums        prefix sums of record hashes
 *   filter      blocked Bloom filter over key hashes
 *   postings    from tags to ordinals;  expiry  (expires_at, ordinal) by time
 *   pages       CRC-32C of each 4 KiB, checked when first touched and by the scrubber
 *
 * Tombstones have ordinals like all others; no best, count of live ones or posting
 * knows of them. Which entries are no longer current is not the file's business: see
 * core/overlay.h. Bytes: docs/format/packed.md.
 *
 * Every function below may return STATUS_CORRUPT: a page whose checksum is wrong is
 * never read from, and content that breaks a rule of the format is never trusted, even
 * under a right checksum.
 *
 * Threads: any number of readers; nothing but the bits of checked pages changes. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/best.h"
#include "core/record.h"

enum {
    PACKED_BLOCK = 32,   /* Ordinals under one best of level 0. */
    PACKED_FAN_OUT = 16, /* Bests of one level under one of the next. */
    PACKED_PAGE_BYTES = 4096,
    PACKED_LEVEL_COUNT_MAX = 16,
};

struct packed;

struct packed_info {
    uint64_t count; /* Ordinals. */
    uint64_t tombstone_count;
    uint64_t present_count; /* record_is_present(), expired or not. */
    uint64_t file_bytes;
    uint64_t key_bytes;               /* Sum of the lengths of all keys. */
    struct version oldest, newest;    /* Over all versions. */
    uint64_t hash_seed;               /* Of the record hashes. */
    uint64_t expires_first;           /* Least expires_at; 0: none expires. */
    struct slice key_first, key_last; /* Borrowed from the packed trie. */
    struct sum sum;                   /* Over all records. */
    unsigned level_count;             /* Levels of bests; the top one has at most PACKED_FAN_OUT. */
};

/* Opens over `file`, which must stay mapped until packed_close(). Checks the footer, the
 * section table and what is kept in memory; other pages when they are touched.
 *
 * Errors: STATUS_CORRUPT, STATUS_NEWER, STATUS_NOMEM. */
enum status packed_open(struct heap *heap, struct slice file, struct packed **out);
void packed_close(struct packed *packed);

const struct packed_info *packed_info(const struct packed *packed);

/* --- Keys and ordinals --- */

/* Number of keys < `key`. `exact` (may be NULL): the key at that ordinal is `key`. */
enum status packed_rank(const struct packed *packed, struct slice key, uint64_t *ordinal,
                        bool *exact);

/* Ordinals [*low, *high) of the keys that start with `prefix`. Cost: one descent. */
enum status packed_prefix(const struct packed *packed, struct slice prefix, uint64_t *low,
                          uint64_t *high);

enum { PACKED_AT_ONCE = 8 };

/* packed_prefix() in up to PACKED_AT_ONCE tries, for less than one after the other. On failure
 * some ordinals may have been written. */
enum status packed_prefix_all(const struct packed *const packed[], size_t count,
                              struct slice prefix, uint64_t lows[], uint64_t highs[]);

/* Asks the filter first: a key that is absent costs one cache line in 99 of 100 cases.
 * Errors: STATUS_NOT_FOUND. */
enum status packed_find(const struct packed *packed, struct slice key, uint64_t *ordinal);

/* Like packed_find() with packed_key_hash(key) known: one hash serves all files. */
enum status packed_find_hashed(const struct packed *packed, struct slice key, uint64_t hash,
                               uint64_t *ordinal);
uint64_t packed_key_hash(struct slice key);

/* Starts loading the filter's line for `hash`. */
void packed_prefetch(const struct packed *packed, uint64_t hash);

/* The key at `ordinal` into `key`, which is cleared first. Errors: STATUS_NOMEM. */
enum status packed_key(const struct packed *packed, uint64_t ordinal, struct buf *key);

/* The keys at strictly ascending ordinals, for less than one after the other: as front_keys(). */
enum status packed_keys(const struct packed *packed, const uint64_t *ordinals, size_t count,
                        struct buf *key, struct buf *keys, size_t *ends);

/* The record at `ordinal`; borrows from the file. */
enum status packed_record(const struct packed *packed, uint64_t ordinal, struct record *record);

/* --- Aggregates --- */

/* Present records (not tombstones, not reading as deleted) among ordinals [0, ordinal). */
enum status packed_present_below(const struct packed *packed, uint64_t ordinal, uint64_t *count);

/* Ordinal of the present record with `rank` present ones before it. Errors: STATUS_NOT_FOUND. */
enum status packed_present_select(const struct packed *packed, uint64_t rank, uint64_t *ordinal);

/* Sum of the record hashes of ordinals [low, high). */
enum status packed_sum(const struct packed *packed, uint64_t low, uint64_t high, struct sum *sum);

/* Hash of one record as it went into the sums. */
enum status packed_hash(const struct packed *packed, uint64_t ordinal, struct sum *sum);

/* Number of bests on `level`. */
uint64_t packed_best_count(const struct packed *packed, unsigned level);

/* Bests [first, first + count) of `level`, count <= PACKED_FAN_OUT; none past the end. */
enum status packed_bests(const struct packed *packed, unsigned level, uint64_t first, size_t count,
                         struct best bests[PACKED_FAN_OUT]);

/* Those of bests [first, first + 16) of `level` that do not come after `last` (none: all that
 * are there): bests[i] for each bit i of `*found`; the others are not written. */
enum status packed_bests_upto(const struct packed *packed, unsigned level, uint64_t first,
                              struct best last, struct best bests[PACKED_FAN_OUT], uint32_t *found);

/* The entries of block `block` one by one: ordinal block * PACKED_BLOCK + i; none for what is
 * not present and past the end. */
enum status packed_block_bests(const struct packed *packed, uint64_t block,
                               struct best bests[PACKED_BLOCK]);

/* Those of them among the bits of `among` that do not come after `last`: as above. */
enum status packed_block_bests_upto(const struct packed *packed, uint64_t block, uint32_t among,
                                    struct best last, struct best bests[PACKED_BLOCK],
                                    uint32_t *found);

/* Starts loading what stands below best `index` of `level`: where that is a block, its
 * entries, else bests and, above blocks, where these lie. */
void packed_prefetch_below(const struct packed *packed, unsigned level, uint64_t index);

/* Starts loading the key at `ordinal`. */
void packed_prefetch_key(const struct packed *packed, uint64_t ordinal);

/* --- Expiry and tags --- */

/* Positions [*first, *end) in the expiry index with after_ms < expires_at <= upto_ms. */
enum status packed_expiry_range(const struct packed *packed, uint64_t after_ms, uint64_t upto_ms,
                                uint64_t *first, uint64_t *end);
enum status packed_expiry_at(const struct packed *packed, uint64_t position, uint64_t *expires_at,
                             uint64_t *ordinal);

struct packed_postings {
    uint64_t count;     /* Ordinals that carry the tag. */
    uint64_t left;      /* Of them still to come. */
    struct slice bytes; /* Private, as the rest. */
    uint64_t last;
    uint64_t ordinal_count;
};

/* Errors: STATUS_NOT_FOUND when no record carries `tag`. */
enum status packed_tag(const struct packed *packed, struct slice tag,
                       struct packed_postings *postings);

/* The next ordinal, ascending. Errors: STATUS_END. */
enum status packed_postings_next(struct packed_postings *postings, uint64_t *ordinal);

/* --- Walks --- */

struct packed_iterator {
    const struct packed *packed;
    uint64_t ordinal;
    struct slice key;             /* Valid until the next move. */
    struct front_iterator *front; /* Private. */
    struct rows_walk *records;    /* Private; made when a record is asked for. */
    struct heap *heap;
};

enum status packed_iterator_init(struct packed_iterator *iterator, const struct packed *packed,
                                 struct heap *heap);
void packed_iterator_deinit(struct packed_iterator *iterator);

/* To `ordinal`. Errors: STATUS_END when there is none. */
enum status packed_iterator_seek(struct packed_iterator *iterator, uint64_t ordinal);
enum status packed_iterator_next(struct packed_iterator *iterator);
enum status packed_iterator_previous(struct packed_iterator *iterator);

/* As packed_record(), wherever the iterator stands, and cheaper where `ordinal` is a little
 * greater than that of the call before. */
enum status packed_iterator_record(struct packed_iterator *iterator, uint64_t ordinal,
                                   struct record *record);

/* As packed_hash(); moves the iterator there, which is cheap from a little before it. */
enum status packed_iterator_hash(struct packed_iterator *iterator, uint64_t ordinal,
                                 struct sum *sum);

/* --- Pages --- */

uint64_t packed_page_count(const struct packed *packed);

/* Reads and checks one page, also one that was checked before. */
enum status packed_verify_page(const struct packed *packed, uint64_t page);

/* True once any page was found damaged, or packed_mark_damaged() was called. */
bool packed_is_damaged(const struct packed *packed);
void packed_mark_damaged(struct packed *packed);

/* --- Building --- */

struct dictionary; /* core/dictionary.h: symbols and headers, trained on a sample. */

/* Takes the bytes of the file in order. Errors end the build and are returned by it. */
struct packed_sink {
    enum status (*write)(void *context, const void *data, size_t size);
    void *context;
};

struct packed_builder;

/* `dictionary` is borrowed until packed_builder_destroy(); its bytes go into the file. */
enum status packed_builder_create(struct heap *heap, const struct dictionary *dictionary,
                                  uint64_t hash_seed, struct packed_builder **out);
void packed_builder_destroy(struct packed_builder *builder);

/* Keys must come in strictly ascending order (CHECK).
 * Errors: STATUS_NOMEM; the builder can then only be destroyed. */
enum status packed_builder_add(struct packed_builder *builder, struct slice key,
                               const struct record *record);

/* Bytes that the file has so far, near enough to cut files by size. */
uint64_t packed_builder_size_bytes(const struct packed_builder *builder);
uint64_t packed_builder_count(const struct packed_builder *builder);

/* Writes the file to `sink`. At least one key must have been added. */
enum status packed_builder_finish(struct packed_builder *builder, const struct packed_sink *sink);

/* The dictionary that a file was built with, for reuse. Owns: `out` is the caller's. */
enum status packed_dictionary(const struct packed *packed, struct heap *heap,
                              struct dictionary **out);
