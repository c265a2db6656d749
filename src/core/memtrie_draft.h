/* A new inner node of the memory trie in the making. Private to memtrie*.c. */
#pragma once

#include "core/memtrie_change.h"

struct memtrie_draft {
    struct slice prefix[3];
    uint32_t current_count, live_count;
    struct best best;
    struct sum sum;
    arena_ref terminal;
    size_t child_count;
    uint8_t bounds[MEMTRIE_CHILD_COUNT_MAX];
    uint8_t bytes[MEMTRIE_CHILD_COUNT_MAX];
    arena_ref children[MEMTRIE_CHILD_COUNT_MAX];
};

/* No parts; counts and best are the caller's to set. */
void memtrie_draft_init(struct memtrie_draft *draft, struct slice prefix);
void memtrie_draft_read(struct memtrie_draft *draft, const struct memtrie_inner *inner);

/* Adds a part, whose best is `best`, below the branch byte that `rest` begins with; an empty
 * `rest`: as terminal. */
void memtrie_draft_add(struct memtrie_draft *draft, struct slice rest, arena_ref part,
                       struct best best);

/* Replaces the part at `index`. */
void memtrie_draft_set(struct memtrie_draft *draft, int index, arena_ref part, struct best best);
void memtrie_draft_delete(struct memtrie_draft *draft, size_t index);

/* To `out`, which has the room. */
void memtrie_draft_write(const struct memtrie_draft *draft, uint32_t batch, void *out);

/* As a new block; 0 when there is no memory. */
arena_ref memtrie_draft_make(struct memtrie_change *change, const struct memtrie_draft *draft);
