/* The hierarchy of bests of a packed trie.
 *
 * Level 0 has a best for 32 ordinals, each level above one for 16 below, until 16 or fewer
 * are left. All levels lie one after another, level 0 first, in entries of one width:
 *
 *   score  score_bytes  0: none; below 8 bytes: integer score - score_min + 1;
 *                       8 bytes: score_order_of(score)
 *   time   time_bytes   (created ms - time_min_ms) << counter_bits | counter
 *   node   node_bytes   0: the first of the file's node table; 2: the node */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "core/best.h"
#include "core/pages.h"

enum {
    BESTS_ORDINALS = 32,
    BESTS_FAN_OUT = 16,
    BESTS_LEVEL_COUNT_MAX = 16,
};

/* How wide the entries of one file are; kept in its footer. */
struct bests_shape {
    uint8_t score_bytes, time_bytes, node_bytes, counter_bits;
    uint64_t score_min; /* Two's complement. */
    uint64_t time_min_ms;
};

struct bests {
    struct pages *pages;
    struct slice bytes;
    struct bests_shape shape;
    uint16_t node;
    unsigned stride, level_count;
    uint64_t level_start[BESTS_LEVEL_COUNT_MAX];
    uint64_t level_size[BESTS_LEVEL_COUNT_MAX];
};

/* Entries on all levels for `count` ordinals. */
uint64_t bests_total(uint64_t count);

/* Sets all but pages, bytes and node from `count` and `shape`.
 *
 * Errors: STATUS_CORRUPT when a width is out of range. */
enum status bests_layout(struct bests *bests, uint64_t count, const struct bests_shape *shape);

/* Entries [first, first + count) of `level`, count <= 16; none past the end. */
enum status bests_get(const struct bests *bests, unsigned level, uint64_t first, size_t count,
                      struct best out[BESTS_FAN_OUT]);

/* Those of entries [first, first + 16) of `level` that do not come after `last` (none: all
 * that are there): out[i] for each bit i of `*found`; the others are not written. */
enum status bests_upto(const struct bests *bests, unsigned level, uint64_t first, struct best last,
                       struct best out[BESTS_FAN_OUT], uint32_t *found);

/* Starts loading sixteen entries. */
void bests_prefetch(const struct bests *bests, unsigned level, uint64_t first);

/* --- Building --- */

struct bests_builder {
    struct buf entries; /* struct best of level 0, then of all levels. */
    struct best open;   /* Of the ordinals since the last entry. */
    uint64_t count;     /* Ordinals. */
};

/* Takes the best of the next ordinal. Failures show in builder->entries. */
void bests_builder_add(struct bests_builder *builder, struct best best);

/* Appends the section to `out`. `only_node`: the file names one node alone. */
void bests_builder_finish(struct bests_builder *builder, bool only_node, struct bests_shape *shape,
                          struct buf *out);
