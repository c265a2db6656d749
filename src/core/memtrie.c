/* Changes of the memory trie, each from beginning to end. */
#include "core/memtrie.h"

#include "base/check.h"
#include "core/memtrie_change.h"

enum status memtrie_init(struct memtrie *trie, struct heap *heap, uint64_t hash_seed)
{
    *trie = (struct memtrie){.batch = 1, .hash_seed = hash_seed};
    buf_init(&trie->record_buf, heap);
    buf_init(&trie->finger_key, heap);
    return arena_init(&trie->arena, heap);
}

void memtrie_deinit(struct memtrie *trie)
{
    heap_free(trie->record_buf.heap, trie->steps);
    buf_deinit(&trie->record_buf);
    buf_deinit(&trie->finger_key);
    arena_deinit(&trie->arena);
    trie->steps = NULL;
    trie->step_capacity = 0;
}

void memtrie_begin_batch(struct memtrie *trie)
{
    CHECK(trie->batch < UINT32_MAX);
    trie->batch++;
}

/* --- Ending a change --- */

static void top_write(struct memtrie_change *change, arena_ref target, arena_ref node)
{
    uint32_t tombstones = (uint32_t)change->tombstone_delta;
    arena_ref old = *change->root;
    if (old != 0) tombstones += memtrie_top(change->trie, old)->tombstone_count;
    if (old != target && old != 0) {
        struct arena *arena = &change->trie->arena;
        if (memtrie_top(change->trie, old)->batch == change->trie->batch)
            arena_free(arena, old, sizeof(struct memtrie_top));
        else
            CHECK(arena_retire(arena, old, sizeof(struct memtrie_top)) == STATUS_OK);
    }
    if (target != 0)
        *(struct memtrie_top *)memtrie_change_node(change, target) =
            (struct memtrie_top){node, tombstones, change->trie->batch};
    *change->root = target;
}

/* Puts `node` (0: nothing, the tree is then empty) at the place, whose best was `before`,
 * and keeps the way to it. On failure nothing has happened. */
static enum status change_commit(struct memtrie_change *change, arena_ref node, struct best before)
{
    struct memtrie *trie = change->trie;
    arena_ref top = 0, upper;
    enum status status;
    if (node != 0) {
        bool new_top = *change->root == 0 || memtrie_top(trie, *change->root)->batch != trie->batch;
        top = new_top ? memtrie_change_make(change, sizeof(struct memtrie_top)) : *change->root;
        if (top == 0) return STATUS_NOMEM;
    }
    if (arena_reserve_retired(&trie->arena, change->depth + MEMTRIE_BLOCK_COUNT_MAX +
                                                MEMTRIE_GONE_INNER_COUNT_MAX + 1) != STATUS_OK)
        return STATUS_NOMEM;
    status = memtrie_above_write(change, node, before, &upper);
    if (status != STATUS_OK) return status;
    memtrie_change_discard_gone(change);
    top_write(change, top, upper);
    memtrie_finger_keep(change, node, top);
    return STATUS_OK;
}

/* --- Changes --- */

enum status memtrie_seek(struct memtrie *trie, memtrie_root root, struct slice key,
                         struct record *record, bool *hidden)
{
    struct memtrie_change change;
    memtrie_change_init(&change, trie, &root, key);
    if (memtrie_change_find(&change) != STATUS_OK)
        return memtrie_get(trie, root, key, record, hidden);
    memtrie_finger_keep(&change, change.place, root);
    if (!memtrie_change_is_found(&change)) return STATUS_NOT_FOUND;
    const void *leaf = memtrie_change_node(&change, change.place);
    memtrie_leaf_record(trie, leaf, record);
    if (hidden != NULL) *hidden = memtrie_has(leaf, MEMTRIE_HIDDEN);
    return STATUS_OK;
}

static enum status put(struct memtrie_change *change, const struct record *record)
{
    enum status status = memtrie_change_find(change);
    if (status != STATUS_OK) return status;
    struct memtrie_leaf leaf;
    status = memtrie_place_leaf(change, record, &leaf);
    if (status != STATUS_OK) return status;

    bool found = memtrie_change_is_found(change);
    const void *old = found ? memtrie_change_node(change, change->place) : NULL;
    change->current_delta = !found;
    change->live_delta = record_is_present(record) - (found && memtrie_leaf_is_live(old));
    change->tombstone_delta = record->tombstone - (found && memtrie_has(old, MEMTRIE_TOMBSTONE));
    if (memtrie_change_needs_sums(change)) {
        change->sum_delta = record_hash(change->key, record, change->trie->hash_seed);
        if (found) change->sum_delta = sum_subtract(change->sum_delta, memtrie_place_hash(change));
    }

    struct best before = memtrie_place_best(change);
    arena_ref node = memtrie_place_put(change, &leaf, found);
    if (node == 0) return STATUS_NOMEM;
    return change_commit(change, node, before);
}

enum status memtrie_put(struct memtrie *trie, memtrie_root *root, struct slice key,
                        const struct record *record)
{
    struct memtrie_change change;
    memtrie_change_init(&change, trie, root, key);
    enum status status = put(&change, record);
    if (status != STATUS_OK) memtrie_change_unmake(&change);
    return status;
}

static enum status take_away(struct memtrie_change *change)
{
    enum status status = memtrie_change_find(change);
    if (status != STATUS_OK) return status;
    if (!memtrie_change_is_found(change)) return STATUS_NOT_FOUND;

    const void *old = memtrie_change_node(change, change->place);
    change->current_delta = -1;
    change->live_delta = -(int)memtrie_leaf_is_live(old);
    change->tombstone_delta = -(int)memtrie_has(old, MEMTRIE_TOMBSTONE);
    if (memtrie_change_needs_sums(change))
        change->sum_delta = sum_subtract((struct sum){0}, memtrie_place_hash(change));
    memtrie_place_part_with_record(change);
    memtrie_change_part_with_node(change, change->place);

    if (change->depth == 0) return change_commit(change, 0, memtrie_place_best(change));
    const struct memtrie_step *parent = &change->steps[change->depth - 1];
    struct best before = memtrie_best(memtrie_change_node(change, parent->ref));
    arena_ref node;
    status = memtrie_place_shrink(change, &node);
    if (status != STATUS_OK) return status;
    return change_commit(change, node, before);
}

enum status memtrie_remove(struct memtrie *trie, memtrie_root *root, struct slice key)
{
    struct memtrie_change change;
    memtrie_change_init(&change, trie, root, key);
    enum status status = take_away(&change);
    if (status != STATUS_OK) memtrie_change_unmake(&change);
    return status;
}

static enum status hide(struct memtrie_change *change)
{
    enum status status = memtrie_change_find(change);
    if (status != STATUS_OK) return status;
    if (!memtrie_change_is_found(change)) return STATUS_NOT_FOUND;

    const void *old = memtrie_change_node(change, change->place);
    if (memtrie_has(old, MEMTRIE_HIDDEN)) return STATUS_OK;
    struct memtrie_leaf leaf = memtrie_leaf_read(old);
    leaf.flags |= MEMTRIE_HIDDEN;
    change->live_delta = -(int)memtrie_leaf_is_live(old);

    struct best before = memtrie_place_best(change);
    arena_ref node = memtrie_place_replace(change, &leaf);
    if (node == 0) return STATUS_NOMEM;
    return change_commit(change, node, before);
}

enum status memtrie_hide(struct memtrie *trie, memtrie_root *root, struct slice key)
{
    struct memtrie_change change;
    memtrie_change_init(&change, trie, root, key);
    enum status status = hide(&change);
    if (status != STATUS_OK) memtrie_change_unmake(&change);
    return status;
}
