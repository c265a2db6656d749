#include "core/memtrie_change.h"

#include <string.h>

#include "base/check.h"

/* NOLINTNEXTLINE(readability-non-const-parameter): the change writes through `root` later. */
void memtrie_change_init(struct memtrie_change *change, struct memtrie *trie, memtrie_root *root,
                         struct slice key)
{
    CHECK(key.size <= MEMTRIE_KEY_BYTES_MAX);
    /* The lists of blocks are long and hold nothing yet: they are not cleared. */
    change->trie = trie;
    change->root = root;
    change->key = key;
    change->depth = change->at = change->shared = 0;
    change->steps = NULL;
    change->place = 0;
    change->index = 0;
    change->current_delta = change->live_delta = change->tombstone_delta = 0;
    change->sum_delta = (struct sum){0};
    change->made_count = change->gone_count = change->gone_inner_count = 0;
}

/* Whether some node on the path has a sum once the counts have changed. */
bool memtrie_change_needs_sums(const struct memtrie_change *change)
{
    if (*change->root == 0) return false;
    arena_ref top = memtrie_top(change->trie, *change->root)->node;
    uint32_t current = memtrie_current(memtrie_change_node(change, top)) +
                       (uint32_t)change->current_delta;
    return current >= MEMTRIE_SUM_COUNT_MIN;
}

/* --- Blocks --- */

arena_ref memtrie_change_make(struct memtrie_change *change, size_t size)
{
    CHECK(change->made_count < MEMTRIE_BLOCK_COUNT_MAX);
    arena_ref ref = arena_alloc(&change->trie->arena, size);
    if (ref != 0) change->made[change->made_count++] = (struct memtrie_block){ref, size};
    return ref;
}

void memtrie_change_unmake(struct memtrie_change *change)
{
    for (size_t i = 0; i < change->made_count; i++)
        arena_free(&change->trie->arena, change->made[i].ref, change->made[i].size);
    change->made_count = 0;
}

void memtrie_change_part_with(struct memtrie_change *change, arena_ref ref, size_t size)
{
    CHECK(change->gone_count < MEMTRIE_BLOCK_COUNT_MAX);
    change->gone[change->gone_count++] = (struct memtrie_block){ref, size};
}

void memtrie_change_part_with_inner(struct memtrie_change *change, arena_ref ref)
{
    CHECK(change->gone_inner_count < MEMTRIE_GONE_INNER_COUNT_MAX);
    change->gone_inner[change->gone_inner_count++] = ref;
}

void memtrie_change_part_with_node(struct memtrie_change *change, arena_ref ref)
{
    const void *node = memtrie_change_node(change, ref);
    if (memtrie_kind(node) == MEMTRIE_INNER)
        memtrie_change_part_with_inner(change, ref);
    else
        memtrie_change_part_with(change, ref, memtrie_bytes(node));
}

/* Nobody saw the inner nodes of this batch. */
void memtrie_discard_inner(struct memtrie *trie, arena_ref ref)
{
    const struct memtrie_inner *inner = arena_at(&trie->arena, ref);
    size_t size = memtrie_bytes(inner);
    if (inner->batch == trie->batch)
        arena_free(&trie->arena, ref, size);
    else
        CHECK(arena_retire(&trie->arena, ref, size) == STATUS_OK); /* It was reserved. */
}

void memtrie_change_discard_gone(struct memtrie_change *change)
{
    struct memtrie *trie = change->trie;
    for (size_t i = 0; i < change->gone_count; i++)
        CHECK(arena_retire(&trie->arena, change->gone[i].ref, change->gone[i].size) == STATUS_OK);
    for (size_t i = 0; i < change->gone_inner_count; i++)
        memtrie_discard_inner(trie, change->gone_inner[i]);
}

/* --- Nodes after the change --- */

void memtrie_change_path(struct memtrie_path *path, const struct memtrie_change *change,
                         size_t size)
{
    path->size = size;
    if (size != 0) memcpy(path->bytes, change->key.data, size);
}

/* The sum of an inner node after the change, when it has `current_count` entries then. */
struct sum memtrie_change_sum(struct memtrie_change *change, arena_ref ref, size_t at,
                              uint32_t current_count)
{
    if (current_count < MEMTRIE_SUM_COUNT_MIN) return (struct sum){0};
    struct memtrie_path path;
    memtrie_change_path(&path, change, at);
    return sum_add(memtrie_node_sum(change->trie, ref, &path), change->sum_delta);
}
