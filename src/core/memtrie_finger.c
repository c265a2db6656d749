/* The way down to the place of a change, which is kept for the next one. */
#include "base/math.h"
#include "core/memtrie_change.h"

static bool steps_room(struct memtrie *trie, size_t depth)
{
    if (depth < trie->step_capacity) return true;
    size_t larger = size_max(64, 2 * trie->step_capacity);
    struct memtrie_step *moved =
        heap_realloc(trie->record_buf.heap, trie->steps, larger * sizeof *moved);
    if (moved == NULL) return false;
    trie->steps = moved;
    trie->step_capacity = larger;
    return true;
}

/* The node to begin with: the last one of the way to the former key that leads to this key
 * too, or the top. What lies under a terminal leads to one key only. */
static arena_ref finger_take(struct memtrie_change *change)
{
    struct memtrie *trie = change->trie;
    if (*change->root == 0) return 0;
    if (trie->finger_root != *change->root) return memtrie_top(trie, *change->root)->node;

    struct slice former = buf_slice(&trie->finger_key);
    size_t shared = slice_common_prefix(former, change->key);
    size_t depth = trie->finger_depth;
    while (trie->steps[depth].at > shared) depth--;
    bool equal = shared == former.size && shared == change->key.size;
    if (depth > 0 && trie->steps[depth - 1].index == MEMTRIE_TERMINAL && !equal) depth--;
    change->depth = depth;
    change->at = trie->steps[depth].at;
    return trie->steps[depth].ref;
}

/* Keeps the way to `place`, for the tree that `root` names from now on. */
void memtrie_finger_keep(struct memtrie_change *change, arena_ref place, memtrie_root root)
{
    struct memtrie *trie = change->trie;
    buf_clear(&trie->finger_key);
    buf_append_slice(&trie->finger_key, change->key);
    if (place == 0 || buf_status(&trie->finger_key) != STATUS_OK) return;
    if (!steps_room(trie, change->depth)) return;
    trie->steps[change->depth] = (struct memtrie_step){.ref = place, .at = (uint32_t)change->at};
    trie->finger_depth = change->depth;
    trie->finger_root = root;
}

/* Goes down as far as whole nodes match the key. The place is then a leaf, or an inner
 * node that differs from the key, or one that matches and lacks the part to go on with. */
enum status memtrie_change_find(struct memtrie_change *change)
{
    struct memtrie *trie = change->trie;
    arena_ref next = finger_take(change);
    size_t depth_begun = change->depth;
    trie->finger_root = 0; /* Its steps are overwritten from here on. */
    while (next != 0) {
        const void *node = memtrie_node_at(trie, next);
        struct slice rest = slice_from(change->key, change->at);
        struct slice own = memtrie_own(node);
        change->place = next;
        change->shared = slice_common_prefix(own, rest);
        if (memtrie_kind(node) != MEMTRIE_INNER || change->shared < own.size) break;

        int index = MEMTRIE_TERMINAL;
        if (rest.size == own.size)
            next = memtrie_terminal(node);
        else
            next = memtrie_child(node, rest.data[own.size], &index);
        change->index = index;
        if (next == 0) break;
        if (!steps_room(trie, change->depth)) return STATUS_NOMEM;
        struct memtrie_step *step = &trie->steps[change->depth++];
        step->inner = memtrie_change_node(change, change->place);
        step->ref = change->place;
        step->at = (uint32_t)change->at;
        step->index = index;
        change->at += own.size + (index != MEMTRIE_TERMINAL);
    }
    change->steps = trie->steps;
    trie->level_count += change->depth - depth_begun;
    return STATUS_OK;
}

/* True when the place is the leaf of exactly this key. */
bool memtrie_change_is_found(const struct memtrie_change *change)
{
    if (change->place == 0) return false;
    const void *node = memtrie_change_node(change, change->place);
    return memtrie_kind(node) != MEMTRIE_INNER && change->shared == change->key.size - change->at &&
           change->shared == memtrie_own(node).size;
}
