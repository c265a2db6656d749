/* How a rangemap lies in memory, and how one is built. Private to rangemap*.c.
 *
 * Rows point by offset into two blocks, one of bytes (zones, addresses, lows) and one of node
 * ids, so that a copy is five copies of memory: 24 bytes, a low and a few ids a shard.
 *
 * A draft is a map that is being built: rows may be changed and appended, what they pointed to
 * before stays behind in the blocks. draft_seal() packs the blocks, checks the bounds and
 * computes the hash; from then on nothing changes. */
#pragma once

#include <stdatomic.h>

#include "cluster/rangemap.h"

struct member_row {
    uint64_t incarnation;
    uint32_t capacity;
    uint32_t zone_at, address_at; /* In `bytes`. */
    uint16_t zone_size, address_size;
    node_id id;
    uint8_t state;
    bool leaving;
    bool forgot;
};

struct owners_row {
    uint8_t count;
    uint8_t quorums; /* Writes in the upper half, reads in the lower. */
};

struct shard_row {
    uint64_t began;
    uint32_t low_at; /* In `bytes`. */
    uint32_t ids_at; /* In `ids`: the owners, then the next owners. */
    uint16_t low_size;
    struct owners_row owners, next;
    uint8_t stage;
};

_Static_assert(sizeof(struct shard_row) == 24, "65,536 of them, their lows and ids in 4 MiB");

struct rangemap {
    _Atomic uint32_t references;
    struct heap *heap;
    struct rangemap_identity identity;
    struct rangemap_settings settings;
    uint32_t next_id;
    uint32_t registrar_count;
    node_id registrars[RANGEMAP_REGISTRARS_MAX];

    struct member_row *members;
    struct shard_row *shards;
    uint8_t *bytes;
    node_id *ids;
    size_t member_count, shard_count, byte_count, id_count;
};

static inline struct slice shard_row_low(const struct rangemap *map, const struct shard_row *row)
{
    return row->low_size == 0 ? (struct slice){NULL, 0}
                              : slice_of(map->bytes + row->low_at, row->low_size);
}

struct owners shard_row_owners(const struct rangemap *map, const struct shard_row *row);
struct owners shard_row_next(const struct rangemap *map, const struct shard_row *row);

/* The row of a member, or NULL. */
struct member_row *member_row_find(const struct rangemap *map, node_id id);

bool settings_are_valid(const struct rangemap_settings *settings);

/* How many registrars there are with so many members that are not excluded. */
size_t registrar_count_of(const struct rangemap *map);

/* --- Drafts --- */

struct draft {
    struct rangemap *map; /* Its blocks are in the buffers below until it is sealed. */
    size_t member_capacity, shard_capacity;
    struct buf bytes, ids;
};

/* A copy of `base`, NULL: empty, with room for that many more rows.
 * Errors: STATUS_NOMEM; nothing is then to be closed. */
enum status draft_open(struct draft *draft, struct heap *heap, const struct rangemap *base,
                       size_t more_members, size_t more_shards);

/* Frees all; after draft_seal() nothing is left to free. */
void draft_close(struct draft *draft);

/* Errors of all that append: STATUS_NOMEM, STATUS_LIMIT beyond the rows that fit. */
enum status draft_add_member(struct draft *draft, const struct member *member);
enum status draft_set_member(struct draft *draft, struct member_row *row,
                             const struct member *member);
enum status draft_insert_shard(struct draft *draft, size_t index, const struct shard *shard);
enum status draft_set_owners(struct draft *draft, struct shard_row *row,
                             const struct owners *owners, const struct owners *next);
void draft_remove_member(struct draft *draft, size_t index);
void draft_remove_shard(struct draft *draft, size_t index);

/* Chooses registrars anew: active ones first, spread over zones, who is one already before who is
 * not, lower ids first. */
void draft_choose_registrars(struct draft *draft);

/* Packs, checks the bounds, hashes; `*out` has one reference and the draft is closed.
 * Errors: STATUS_LIMIT, STATUS_NOMEM; the draft stays open. */
enum status draft_seal(struct draft *draft, struct rangemap **out);
