/* The nodes above the place of a change: each gets its new part, counts, sum and best. */
#include <string.h>

#include "core/memtrie_change.h"
#include "core/memtrie_draft.h"

static size_t bytes_after(const struct memtrie_change *change, const struct memtrie_inner *inner)
{
    return memtrie_inner_bytes(memtrie_change_head(change, inner), memtrie_child_count(inner),
                               inner->prefix_size);
}

static void steps_release(struct memtrie_change *change, size_t from)
{
    for (size_t i = from; i < change->depth; i++) {
        struct memtrie_step *step = &change->steps[i];
        if (step->target == step->inner) continue;
        arena_free(&change->trie->arena, step->target_ref, bytes_after(change, step->inner));
    }
}

/* A target for every node above. */
static enum status steps_prepare(struct memtrie_change *change)
{
    struct arena *arena = &change->trie->arena;
    uint32_t batch = change->trie->batch;
    for (size_t i = change->depth; i-- > 0;) {
        struct memtrie_step *step = &change->steps[i];
        step->target = step->inner;
        step->target_ref = step->ref;
        if (step->inner->batch == batch &&
            step->inner->head == memtrie_change_head(change, step->inner))
            continue;
        step->target_ref = arena_alloc(arena, bytes_after(change, step->inner));
        if (step->target_ref == 0) {
            steps_release(change, i + 1);
            return STATUS_NOMEM;
        }
        step->target = memtrie_change_node(change, step->target_ref);
    }
    return STATUS_OK;
}

/* What the node above needs to know of a part that was replaced. */
struct replaced {
    arena_ref ref;  /* The new one, ... */
    bool same_ref;  /* ... if it is not where it was. */
    bool same_best; /* Then the best of nothing above changes either. */
    struct best before, after;
};

/* The best of all parts, the replaced one as it is now. */
static struct best parts_best_after(const struct memtrie_change *change,
                                    const struct memtrie_inner *inner, int index,
                                    const struct replaced *part)
{
    arena_ref children[MEMTRIE_CHILD_COUNT_MAX];
    uint8_t bounds[MEMTRIE_CHILD_COUNT_MAX];
    size_t child_count = memtrie_child_count(inner);
    memcpy(children, memtrie_children(inner), child_count * sizeof *children);
    memcpy(bounds, memtrie_child_bounds(inner), child_count);
    arena_ref terminal = memtrie_terminal(inner);
    if (index == MEMTRIE_TERMINAL) {
        terminal = part->ref;
    } else {
        children[index] = part->ref;
        bounds[index] = memtrie_bound_of(part->after.score_order);
    }
    return memtrie_parts_best(change->trie, terminal, children, bounds, child_count);
}

/* Writes the new state of a node whose layout changes. A sum that is the node's first is
 * found by a walk of all that is below it now. */
static void step_rewrite(struct memtrie_change *change, const struct memtrie_step *step,
                         struct best best, const struct replaced *part)
{
    struct memtrie_draft draft;
    memtrie_draft_read(&draft, step->inner);
    draft.current_count += (uint32_t)change->current_delta;
    draft.live_count += (uint32_t)change->live_delta;
    draft.sum = sum_add(draft.sum, change->sum_delta);
    draft.best = best;
    memtrie_draft_set(&draft, step->index, part->ref, part->after);
    memtrie_draft_write(&draft, change->trie->batch, step->target);

    if (memtrie_has(step->inner, MEMTRIE_HAS_SUM) || !memtrie_has(step->target, MEMTRIE_HAS_SUM))
        return;
    struct memtrie_path path;
    memtrie_change_path(&path, change, step->at);
    struct sum sum = memtrie_walk_sum(change->trie, step->target_ref, &path);
    memcpy(step->target + 1, &sum, sizeof sum);
}

/* The best of the node after its part has changed. */
static struct best step_best(const struct memtrie_change *change, const struct memtrie_step *step,
                             const struct replaced *part)
{
    struct best best = memtrie_inner_best(step->inner);
    if (best_compare(part->after, best) <= 0) return part->after;
    if (best_compare(part->before, best) != 0) return best;
    return parts_best_after(change, step->inner, step->index, part); /* Perhaps it got worse. */
}

/* Writes one node above; `part` goes in as the replaced part and comes out as the node
 * itself. Most nodes were made by this very batch, and only count. */
static void step_write(struct memtrie_change *change, struct memtrie_step *step,
                       struct replaced *part)
{
    struct memtrie_inner *inner = step->inner;
    struct memtrie_inner *target = step->target;
    struct best before = memtrie_inner_best(inner);
    struct best after = part->same_best ? before : step_best(change, step, part);

    if (target != inner && memtrie_change_head(change, inner) != inner->head) {
        step_rewrite(change, step, after, part);
    } else {
        if (target != inner) memcpy(target, inner, memtrie_bytes(inner));
        memtrie_change_count(target, change, after);
        if (!part->same_ref) memtrie_set_part(target, step->index, part->ref);
        if (!part->same_best) memtrie_set_bound(target, step->index, part->after);
    }
    part->same_ref = target == inner;
    if (!part->same_ref) memtrie_discard_inner(change->trie, step->ref);
    part->ref = step->ref = step->target_ref;
    step->inner = target;
    part->same_best = part->same_best || best_compare(before, after) == 0;
    part->before = before;
    part->after = after;
}

/* Whether all nodes above can be changed in place. A node of this batch has nodes of this
 * batch above it, and one with a sum has nodes with sums above it. */
static bool steps_stay(const struct memtrie_change *change)
{
    if (change->depth == 0) return true;
    if (change->steps[change->depth - 1].inner->batch != change->trie->batch) return false;
    if (change->current_delta < 0 || change->live_delta != change->current_delta) return false;
    for (size_t i = change->depth; i-- > 0;) {
        const struct memtrie_inner *inner = change->steps[i].inner;
        if (memtrie_has(inner, MEMTRIE_HAS_SUM)) return true;
        if (inner->current_count + (uint32_t)change->current_delta >= MEMTRIE_SUM_COUNT_MIN)
            return false;
    }
    return true;
}

/* The common change, a new word in a batch that has been here before: the nodes above stay
 * where and as they are, and only count. */
static void steps_count(struct memtrie_change *change, arena_ref node, struct best best)
{
    if (change->depth == 0) return;
    const struct memtrie_step *parent = &change->steps[change->depth - 1];
    memtrie_set_part(parent->inner, parent->index, node);
    memtrie_set_bound(parent->inner, parent->index, best);
    bool is_best = true; /* Of what is below, so far. */
    for (size_t i = change->depth; i-- > 0;) {
        struct memtrie_inner *inner = change->steps[i].inner;
        struct best now = memtrie_inner_best(inner);
        is_best = is_best && best_compare(best, now) < 0;
        memtrie_change_count(inner, change, is_best ? best : now);
        if (is_best && i > 0)
            memtrie_set_bound(change->steps[i - 1].inner, change->steps[i - 1].index, best);
    }
}

enum status memtrie_above_write(struct memtrie_change *change, arena_ref node, struct best before,
                                arena_ref *top)
{
    struct replaced part = {.ref = node, .before = before};
    if (node != 0) part.after = memtrie_best(memtrie_change_node(change, node));

    if (best_compare(part.after, before) <= 0 && steps_stay(change)) {
        steps_count(change, node, part.after);
        if (change->depth > 0) part.ref = change->steps[0].ref;
    } else {
        if (steps_prepare(change) != STATUS_OK) return STATUS_NOMEM;
        for (size_t i = change->depth; i-- > 0;) step_write(change, &change->steps[i], &part);
    }
    *top = part.ref;
    return STATUS_OK;
}
