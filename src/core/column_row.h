/* The record columns of a packed trie: one row for 32 ordinals, so that all of a record but
 * its bodies lies on one page.
 *
 *   u8      head     bits 0-2: enum score_mode; 3: EXTRAS; 4: BODIES
 *   ...     scores   core/column_score.h; what an absent entry has there means nothing
 *   ...     versions core/column_version.h
 *   u32     mask     EXTRAS: which entries have one
 *   varint  body     BODIES: where the parts of the row's extras start
 *   ...     extras   EXTRAS: core/column_extra.h
 *
 * An entry that is absent (core/column_present.h) and has no extra is a tombstone; one that
 * is present and has none is plain. A row ends where the next one starts.
 *
 * The directory has 40 bytes for 16 rows: u64 where the first one starts, then for each u16
 * how much later it starts. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "core/best.h"
#include "core/column_score.h"
#include "core/column_version.h"
#include "core/pages.h"
#include "core/record.h"

enum {
    ROW_ORDINALS = 32,
    ROW_GROUP = 16, /* Rows under one entry of the directory. */
    ROW_GROUP_BYTES = 8 + 2 * ROW_GROUP,
};

struct rows {
    struct pages *pages;
    struct slice directory, bytes, bodies;
    struct node_table nodes;
    uint64_t count; /* Ordinals. */
    uint64_t epoch_ms;
};

/* Bytes of the directory for `count` ordinals. */
static inline uint64_t rows_directory_bytes(uint64_t count)
{
    uint64_t unit = ROW_ORDINALS * ROW_GROUP;
    return (count + unit - 1) / unit * ROW_GROUP_BYTES;
}

/* The record at `ordinal` < count, of which the caller knows whether it is absent. */
enum status rows_record(const struct rows *rows, uint64_t ordinal, bool absent,
                        struct record *record);

/* A row taken apart. */
struct row {
    struct score_block scores;
    struct version_block versions;
    size_t count;
    uint32_t extra_mask;
    size_t next;          /* The extras of the entries from this one on ... */
    uint64_t body;        /* ... have their bodies from here on ... */
    struct reader extras; /* ... and stand here. */
};

/* Reads records in ascending order without taking their row apart for each. Zeroed at first. */
struct rows_walk {
    bool has_row;
    uint64_t index; /* Of the row. */
    struct row row;
};

/* As rows_record(): O(1) when `ordinal` is a little greater than the one before. */
enum status rows_walk_record(const struct rows *rows, struct rows_walk *walk, uint64_t ordinal,
                             bool absent, struct record *record);

/* record_best() of each record of row `row`, absent ones by `absent_mask`; none past the end. */
enum status rows_bests(const struct rows *rows, uint64_t row, uint32_t absent_mask,
                       struct best bests[ROW_ORDINALS]);

/* Those of row `row` among the bits of `among`, which has no absent ones, whose record_best()
 * does not come after `last` (none: all): bests[i] for each bit i of `*found`; the others are
 * not written. */
enum status rows_bests_upto(const struct rows *rows, uint64_t row, uint32_t among, struct best last,
                            struct best bests[ROW_ORDINALS], uint32_t *found);

/* Start loading where sixteen rows around row `index` start, and the row itself. */
void rows_prefetch_directory(const struct rows *rows, uint64_t index);
void rows_prefetch(const struct rows *rows, uint64_t index);

/* --- Building --- */

struct rows_builder {
    struct buf directory, bytes, bodies;
    struct node_table_builder nodes;
    uint64_t epoch_ms; /* Of the first record. */
    uint64_t row_count;

    /* The row that is being filled. */
    size_t count;
    double scores[ROW_ORDINALS];
    struct version versions[ROW_ORDINALS];
    uint32_t extra_mask, tombstone_mask;
    uint64_t body; /* Where its bodies start. */
    struct buf extras;
};

enum status rows_builder_init(struct rows_builder *builder, struct heap *heap);
void rows_builder_deinit(struct rows_builder *builder);

/* Errors: STATUS_NOMEM; the builder can then only be deinitialised. */
enum status rows_builder_add(struct rows_builder *builder, const struct record *record);

/* Completes the last row. */
enum status rows_builder_finish(struct rows_builder *builder);
