/* The best first: parts of nodes by what their parents know of them. */
#include "base/check.h"
#include "core/memtrie_node.h"

enum { LINE_BYTES = 64, BOUND_END = MEMTRIE_BOUND_MAX + 1 };

static const void *node_at(const struct memtrie *trie, memtrie_node node)
{
    return arena_at(&trie->arena, node);
}

struct memtrie_expansion memtrie_expand(const struct memtrie *trie, memtrie_node node)
{
    CHECK(memtrie_kind(node_at(trie, node)) == MEMTRIE_INNER);
    return (struct memtrie_expansion){trie, node, BOUND_END};
}

/* The greatest bound below `end` that leaves at least `wanted` children in [it, end), or 1. */
static unsigned bound_for(const struct memtrie_inner *inner, unsigned end, size_t wanted)
{
    size_t child_count = memtrie_child_count(inner);
    if (child_count <= wanted) return 1;
    uint16_t counts[BOUND_END] = {0};
    const uint8_t *bounds = memtrie_child_bounds(inner);
    for (size_t i = 0; i < child_count; i++) counts[bounds[i]]++;
    size_t found = 0;
    unsigned bound = end;
    while (bound > 1 && found < wanted) found += counts[--bound];
    return bound;
}

/* Adds the part unless it has nothing live or comes after `last`. */
static inline size_t part_add(const struct memtrie *trie, memtrie_node node, uint16_t place,
                              struct best last, struct memtrie_part *parts, size_t count)
{
    const void *at = node_at(trie, node);
    struct best best = memtrie_best(at);
    if (best.score_order < last.score_order || best_is_none(best)) return count;
    if (best.score_order == last.score_order && best_compare(best, last) > 0) return count;
    parts[count] = (struct memtrie_part){node, best, place, memtrie_kind(at) != MEMTRIE_INNER};
    return count + 1;
}

size_t memtrie_expand_next(struct memtrie_expansion *expansion, struct best last, size_t wanted,
                           struct memtrie_part parts[MEMTRIE_PART_COUNT_MAX])
{
    const struct memtrie *trie = expansion->trie;
    const struct memtrie_inner *inner = memtrie_node_at(trie, expansion->node);
    const arena_ref *children = memtrie_children(inner);
    uint8_t indices[MEMTRIE_CHILD_COUNT_MAX];
    arena_ref terminal = expansion->bound == BOUND_END ? memtrie_terminal(inner) : 0;
    size_t count = 0;

    /* With a `last` its bound says where to end, without one the number of parts. */
    unsigned least = best_is_none(last) ? 1 : memtrie_bound_of(last.score_order);
    while (count == 0 && expansion->bound > least) {
        unsigned low = best_is_none(last) ? bound_for(inner, expansion->bound, wanted) : least;
        size_t found = memtrie_children_within(inner, low, expansion->bound, indices);
        for (size_t i = 0; i < found; i++) memtrie_prefetch(trie, children[indices[i]]);
        if (terminal != 0) count = part_add(trie, terminal, 0, last, parts, 0);
        terminal = 0;
        for (size_t i = 0; i < found; i++)
            count = part_add(trie, children[indices[i]], (uint16_t)(indices[i] + 1), last, parts,
                             count);
        expansion->bound = low;
    }
    return count;
}

void memtrie_prefetch_parts(const struct memtrie *trie, memtrie_node node, struct best last)
{
    const uint8_t *at = node_at(trie, node);
    const struct memtrie_inner *inner = (const void *)at;

    /* The node's first line is there, for its best was read. What lies behind it is not: to wait
     * for it would undo what this is for. */
    const uint8_t *line_end =
        (const uint8_t *)((uintptr_t)at / LINE_BYTES * LINE_BYTES + LINE_BYTES);
    const uint8_t *end = memtrie_child_bytes(inner);
    for (const uint8_t *line = line_end; line < end; line += LINE_BYTES) __builtin_prefetch(line);
    if (end > line_end) return;
    uint8_t least = memtrie_bound_of(last.score_order);
    const uint8_t *bounds = memtrie_child_bounds(inner);
    for (size_t i = 0; i < memtrie_child_count(inner); i++)
        if (bounds[i] >= least) memtrie_prefetch(trie, memtrie_children(inner)[i]);
}

void memtrie_append_edge(const struct memtrie *trie, memtrie_node node, uint16_t place,
                         struct buf *key)
{
    const struct memtrie_inner *inner = memtrie_node_at(trie, node);
    CHECK(memtrie_kind(inner) == MEMTRIE_INNER);
    CHECK(place <= memtrie_child_count(inner));
    buf_append_slice(key, memtrie_prefix(inner));
    if (place != 0) buf_append_u8(key, memtrie_child_bytes(inner)[place - 1]);
}

void memtrie_append_suffix(const struct memtrie *trie, memtrie_node entry, struct buf *key)
{
    const void *leaf = node_at(trie, entry);
    CHECK(memtrie_kind(leaf) != MEMTRIE_INNER);
    buf_append_slice(key, memtrie_suffix(leaf));
}

void memtrie_entry_record(const struct memtrie *trie, memtrie_node entry, struct record *record)
{
    const void *leaf = node_at(trie, entry);
    CHECK(memtrie_kind(leaf) != MEMTRIE_INNER);
    memtrie_leaf_record(trie, leaf, record);
}
