/* Versions of up to 32 neighbours in a packed trie.
 *
 *   u16     shape    bits 0-5: width of one number, 63: raw; 6-10: counter bits; 11-15: node bits
 *   --- raw ---
 *   count times: u64 time, u16 node
 *   --- else ---
 *   varint  zigzag of (least milliseconds - the file's epoch)
 *   32 numbers of `width` bits: (milliseconds - least) << counter and node bits
 *                               | counter << node bits | index in the file's node table
 *
 * Milliseconds and counter are kept apart because a counter rarely uses its 16 bits. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "core/best.h"
#include "core/version.h"

enum { VERSION_BLOCK = 32 };

/* --- The nodes that a file's versions name, in the order of their first use --- */

struct node_table {
    const uint8_t *data; /* u16 each. */
    size_t count;
};

struct node_table_builder {
    struct buf nodes;
    uint32_t *indices; /* By node: its index and 1; 0: not there. */
};

enum status node_table_builder_init(struct node_table_builder *builder, struct heap *heap);
void node_table_builder_deinit(struct node_table_builder *builder);

/* The index of `node`, added when it is new; a failure shows in builder->nodes. */
uint32_t node_table_index(struct node_table_builder *builder, uint16_t node);

/* --- Blocks --- */

struct version_block {
    const uint8_t *packed;
    uint64_t base_ms;
    unsigned width, counter_bits, node_bits;
    bool raw;
};

/* Appends 1 to 32 versions. */
void version_block_append(const struct version *versions, size_t count, uint64_t epoch_ms,
                          struct node_table_builder *nodes, struct buf *out);

/* Reads the form of `count` versions. False when it breaks a rule. */
bool version_block_read(struct reader *reader, size_t count, uint64_t epoch_ms,
                        struct version_block *out);

/* False when a node is not in the table. */
bool version_block_get(const struct version_block *block, struct node_table nodes, size_t index,
                       struct version *version);

/* All versions at once, each as the creation of its best. */
bool version_block_creations(const struct version_block *block, struct node_table nodes,
                             size_t count, struct best *bests);
