#include "core/memtrie_draft.h"

#include <string.h>

void memtrie_draft_init(struct memtrie_draft *draft, struct slice prefix)
{
    draft->prefix[0] = prefix;
    draft->prefix[1] = draft->prefix[2] = (struct slice){0};
    draft->sum = (struct sum){0};
    draft->terminal = 0;
    draft->child_count = 0;
}

void memtrie_draft_read(struct memtrie_draft *draft, const struct memtrie_inner *inner)
{
    memtrie_draft_init(draft, memtrie_prefix(inner));
    draft->current_count = inner->current_count;
    draft->live_count = memtrie_inner_live(inner);
    draft->best = memtrie_inner_best(inner);
    draft->terminal = memtrie_terminal(inner);
    draft->child_count = memtrie_child_count(inner);
    memcpy(draft->bounds, memtrie_child_bounds(inner), draft->child_count);
    memcpy(draft->bytes, memtrie_child_bytes(inner), draft->child_count);
    memcpy(draft->children, memtrie_children(inner), draft->child_count * sizeof(arena_ref));
    if (memtrie_has(inner, MEMTRIE_HAS_SUM)) memcpy(&draft->sum, inner + 1, sizeof draft->sum);
}

static unsigned draft_head(const struct memtrie_draft *draft)
{
    return memtrie_head_of(draft->current_count, draft->live_count, draft->terminal != 0);
}

static size_t draft_bytes(const struct memtrie_draft *draft)
{
    return memtrie_inner_bytes(draft_head(draft), draft->child_count,
                               draft->prefix[0].size + draft->prefix[1].size +
                                   draft->prefix[2].size);
}

void memtrie_draft_write(const struct memtrie_draft *draft, uint32_t batch, void *out)
{
    unsigned head = draft_head(draft);
    size_t prefix_size = draft->prefix[0].size + draft->prefix[1].size + draft->prefix[2].size;
    struct memtrie_inner *inner = out;
    *inner = (struct memtrie_inner){.head = (uint8_t)head,
                                    .child_count_less_one = (uint8_t)(draft->child_count - 1),
                                    .prefix_size = (uint16_t)prefix_size,
                                    .best_node = draft->best.created_node,
                                    .batch = batch,
                                    .current_count = draft->current_count,
                                    .best_score_order = draft->best.score_order,
                                    .best_time = draft->best.created_time};
    uint8_t *at = (uint8_t *)(inner + 1);
    if (head & MEMTRIE_HAS_SUM) at = memtrie_put_bytes(at, &draft->sum, sizeof draft->sum);
    if (head & MEMTRIE_HAS_LIVE) at = memtrie_put_bytes(at, &draft->live_count, sizeof(uint32_t));
    if (head & MEMTRIE_HAS_TERMINAL)
        at = memtrie_put_bytes(at, &draft->terminal, sizeof(arena_ref));
    at = memtrie_put_bytes(at, draft->children, draft->child_count * sizeof(arena_ref));
    at = memtrie_put_bytes(at, draft->bounds, draft->child_count);
    at = memtrie_put_bytes(at, draft->bytes, draft->child_count);
    for (int i = 0; i < 3; i++)
        at = memtrie_put_bytes(at, draft->prefix[i].data, draft->prefix[i].size);
}

/* 0 when there is no memory. */
arena_ref memtrie_draft_make(struct memtrie_change *change, const struct memtrie_draft *draft)
{
    arena_ref ref = memtrie_change_make(change, draft_bytes(draft));
    if (ref != 0) memtrie_draft_write(draft, change->trie->batch, memtrie_change_node(change, ref));
    return ref;
}

static void draft_insert(struct memtrie_draft *draft, size_t index, uint8_t byte, arena_ref child,
                         struct best best)
{
    size_t after = draft->child_count - index;
    memmove(draft->bytes + index + 1, draft->bytes + index, after);
    memmove(draft->bounds + index + 1, draft->bounds + index, after);
    memmove(draft->children + index + 1, draft->children + index, after * sizeof(arena_ref));
    draft->bytes[index] = byte;
    draft->child_count++;
    memtrie_draft_set(draft, (int)index, child, best);
}

void memtrie_draft_set(struct memtrie_draft *draft, int index, arena_ref part, struct best best)
{
    if (index == MEMTRIE_TERMINAL) {
        draft->terminal = part;
        return;
    }
    draft->children[index] = part;
    draft->bounds[index] = memtrie_bound_of(best.score_order);
}

void memtrie_draft_delete(struct memtrie_draft *draft, size_t index)
{
    size_t after = draft->child_count - index - 1;
    memmove(draft->bytes + index, draft->bytes + index + 1, after);
    memmove(draft->bounds + index, draft->bounds + index + 1, after);
    memmove(draft->children + index, draft->children + index + 1, after * sizeof(arena_ref));
    draft->child_count--;
}

void memtrie_draft_add(struct memtrie_draft *draft, struct slice rest, arena_ref part,
                       struct best best)
{
    size_t index = 0;
    if (rest.size == 0) {
        draft->terminal = part;
        return;
    }
    while (index < draft->child_count && draft->bytes[index] < rest.data[0]) index++;
    draft_insert(draft, index, rest.data[0], part, best);
}
