/* What stands at the place of a change afterwards. */
#include <string.h>

#include "core/memtrie_change.h"
#include "core/memtrie_draft.h"

struct best memtrie_place_best(const struct memtrie_change *change)
{
    return change->place == 0 ? (struct best){0}
                              : memtrie_best(memtrie_change_node(change, change->place));
}

/* The hash of the record that the leaf at the place has. */
struct sum memtrie_place_hash(const struct memtrie_change *change)
{
    struct memtrie_path path;
    memtrie_change_path(&path, change, change->at);
    return memtrie_node_sum(change->trie, change->place, &path);
}

/* The encoded record of the leaf at the place goes, if it has one. */
void memtrie_place_part_with_record(struct memtrie_change *change)
{
    struct memtrie_leaf leaf = memtrie_leaf_read(memtrie_change_node(change, change->place));
    if (leaf.record != 0) memtrie_change_part_with(change, leaf.record, leaf.record_size);
}

/* --- Leaves --- */

/* A leaf for `record`; writes the encoded record if it needs one. */
enum status memtrie_place_leaf(struct memtrie_change *change, const struct record *record,
                               struct memtrie_leaf *leaf)
{
    bool present = record_is_present(record);
    *leaf = (struct memtrie_leaf){.flags = present ? 0 : MEMTRIE_ABSENT};
    if (record->tombstone) {
        leaf->flags |= MEMTRIE_TOMBSTONE;
        leaf->created = record->version;
        return STATUS_OK;
    }
    leaf->created = record_created(record);
    leaf->score = record_score(record);
    if (record_is_plain(record)) return STATUS_OK;

    struct buf *buf = &change->trie->record_buf;
    buf_clear(buf);
    record_encode(record, buf);
    if (buf_status(buf) != STATUS_OK) return STATUS_NOMEM;
    leaf->kind = MEMTRIE_ENCODED;
    leaf->record_size = (uint32_t)buf->size;
    leaf->record = memtrie_change_make(change, buf->size);
    if (leaf->record == 0) return STATUS_NOMEM;
    memcpy(memtrie_change_node(change, leaf->record), buf->data, buf->size);
    return STATUS_OK;
}

/* 0 when there is no memory. */
static arena_ref leaf_make(struct memtrie_change *change, const struct memtrie_leaf *leaf,
                           struct slice first, struct slice second, struct slice third)
{
    struct slice suffix[3] = {first, second, third};
    size_t suffix_size = first.size + second.size + third.size;
    enum memtrie_kind kind = memtrie_leaf_kind(leaf, suffix_size);
    arena_ref ref = memtrie_change_make(change, memtrie_leaf_bytes(kind, suffix_size));
    if (ref != 0) memtrie_leaf_write(leaf, kind, suffix, memtrie_change_node(change, ref));
    return ref;
}

static arena_ref leaf_make_rest(struct memtrie_change *change, const struct memtrie_leaf *leaf,
                                struct slice rest)
{
    /* The branch byte is the parent's. */
    if (rest.size != 0) rest = slice_from(rest, 1);
    return leaf_make(change, leaf, rest, (struct slice){0}, (struct slice){0});
}

/* --- One entry more, or another --- */

/* The place and the new leaf part ways within the place's own bytes: a node above both. */
static arena_ref place_split(struct memtrie_change *change, const struct memtrie_leaf *leaf)
{
    const void *old = memtrie_change_node(change, change->place);
    struct slice rest = slice_from(change->key, change->at + change->shared);
    struct slice old_rest = slice_from(memtrie_own(old), change->shared);

    arena_ref new_leaf = leaf_make_rest(change, leaf, rest);
    if (new_leaf == 0) return 0;
    arena_ref moved;
    struct memtrie_draft draft;
    if (memtrie_kind(old) == MEMTRIE_INNER) {
        memtrie_draft_read(&draft, old);
        draft.prefix[0] = slice_from(old_rest, 1);
        moved = memtrie_draft_make(change, &draft);
    } else {
        struct memtrie_leaf old_leaf = memtrie_leaf_read(old);
        moved = leaf_make_rest(change, &old_leaf, old_rest);
    }
    if (moved == 0) return 0;
    memtrie_change_part_with_node(change, change->place);

    const void *new_leaf_at = memtrie_change_node(change, new_leaf);
    memtrie_draft_init(&draft, slice_prefix(memtrie_own(old), change->shared));
    draft.current_count = memtrie_current(old) + 1;
    draft.live_count = memtrie_live(old) + memtrie_live(new_leaf_at);
    draft.best = best_first(memtrie_best(old), memtrie_best(new_leaf_at));
    draft.sum = memtrie_change_sum(change, change->place, change->at, draft.current_count);
    memtrie_draft_add(&draft, rest, new_leaf, memtrie_best(new_leaf_at));
    memtrie_draft_add(&draft, old_rest, moved, memtrie_best(old));
    return memtrie_draft_make(change, &draft);
}

/* Writes a copy of `inner` with one more child; counts, best and sum are as they were. */
static void inner_widen(const struct memtrie_inner *inner, size_t index, uint8_t byte,
                        arena_ref child, uint8_t bound, void *out)
{
    size_t fixed = sizeof *inner + memtrie_optional_bytes(inner->head);
    size_t after = memtrie_child_count(inner) - index;
    const arena_ref *children = memtrie_children(inner);
    const uint8_t *bounds = memtrie_child_bounds(inner);
    const uint8_t *bytes = memtrie_child_bytes(inner);
    uint8_t *at = memtrie_put_bytes(out, inner, fixed + index * sizeof child);
    at = memtrie_put_bytes(at, &child, sizeof child);
    at = memtrie_put_bytes(at, children + index, after * sizeof child);
    at = memtrie_put_bytes(at, bounds, index);
    *at++ = bound;
    at = memtrie_put_bytes(at, bounds + index, after);
    at = memtrie_put_bytes(at, bytes, index);
    *at++ = byte;
    memtrie_put_bytes(at, bytes + index, after + inner->prefix_size);
    ((struct memtrie_inner *)out)->child_count_less_one++;
}

/* One more child for the place, whose layout is otherwise as it was. */
static arena_ref place_widen(struct memtrie_change *change, uint8_t byte, arena_ref leaf)
{
    const struct memtrie_inner *place = memtrie_change_node(change, change->place);
    size_t size =
        memtrie_inner_bytes(place->head, memtrie_child_count(place) + 1, place->prefix_size);
    arena_ref ref = memtrie_change_make(change, size);
    if (ref == 0) return 0;
    struct memtrie_inner *inner = memtrie_change_node(change, ref);
    struct best best = memtrie_best(memtrie_change_node(change, leaf));
    inner_widen(place, (size_t)change->index, byte, leaf, memtrie_bound_of(best.score_order),
                inner);
    memtrie_change_count(inner, change, best_first(memtrie_inner_best(place), best));
    memtrie_change_part_with_inner(change, change->place);
    return ref;
}

/* The place matches and gets one more part. */
static arena_ref place_extend(struct memtrie_change *change, const struct memtrie_leaf *leaf)
{
    struct slice rest = slice_from(change->key, change->at + change->shared);
    arena_ref new_leaf = leaf_make_rest(change, leaf, rest);
    if (new_leaf == 0) return 0;
    const struct memtrie_inner *place = memtrie_change_node(change, change->place);
    if (rest.size != 0 && memtrie_change_head(change, place) == place->head)
        return place_widen(change, rest.data[0], new_leaf);

    const void *new_leaf_at = memtrie_change_node(change, new_leaf);
    struct memtrie_draft draft;
    memtrie_draft_read(&draft, memtrie_change_node(change, change->place));
    draft.current_count++;
    draft.live_count += memtrie_live(new_leaf_at);
    draft.best = best_first(draft.best, memtrie_best(new_leaf_at));
    draft.sum = memtrie_change_sum(change, change->place, change->at, draft.current_count);
    memtrie_draft_add(&draft, rest, new_leaf, memtrie_best(new_leaf_at));
    memtrie_change_part_with_node(change, change->place);
    return memtrie_draft_make(change, &draft);
}

/* The leaf at the place is replaced by one with the same key. */
arena_ref memtrie_place_replace(struct memtrie_change *change, const struct memtrie_leaf *leaf)
{
    struct slice suffix = memtrie_suffix(memtrie_change_node(change, change->place));
    memtrie_change_part_with_node(change, change->place);
    return leaf_make(change, leaf, suffix, (struct slice){0}, (struct slice){0});
}

/* The node to stand at the place, or 0 when there is no memory. */
arena_ref memtrie_place_put(struct memtrie_change *change, const struct memtrie_leaf *leaf,
                            bool found)
{
    if (change->place == 0)
        return leaf_make(change, leaf, change->key, (struct slice){0}, (struct slice){0});
    if (found) {
        memtrie_place_part_with_record(change);
        return memtrie_place_replace(change, leaf);
    }
    const void *place = memtrie_change_node(change, change->place);
    if (memtrie_kind(place) == MEMTRIE_INNER && change->shared == memtrie_own(place).size)
        return place_extend(change, leaf);
    return place_split(change, leaf);
}

/* --- One entry less --- */

/* One part is left of `draft`: it takes the node's place, with the node's prefix before
 * its own bytes. */
static arena_ref merge_last(struct memtrie_change *change, const struct memtrie_draft *draft)
{
    struct slice prefix = draft->prefix[0];
    if (draft->child_count == 0) {
        struct memtrie_leaf leaf = memtrie_leaf_read(memtrie_change_node(change, draft->terminal));
        memtrie_change_part_with_node(change, draft->terminal);
        return leaf_make(change, &leaf, prefix, (struct slice){0}, (struct slice){0});
    }
    const void *last = memtrie_change_node(change, draft->children[0]);
    memtrie_change_part_with_node(change, draft->children[0]);
    struct slice byte = slice_of(draft->bytes, 1);
    if (memtrie_kind(last) != MEMTRIE_INNER) {
        struct memtrie_leaf leaf = memtrie_leaf_read(last);
        return leaf_make(change, &leaf, prefix, byte, leaf.suffix);
    }
    struct memtrie_draft merged;
    memtrie_draft_read(&merged, last);
    merged.prefix[2] = merged.prefix[0];
    merged.prefix[0] = prefix;
    merged.prefix[1] = byte;
    return memtrie_draft_make(change, &merged);
}

/* What is left of the parent of the leaf at the place, which becomes the place. */
enum status memtrie_place_shrink(struct memtrie_change *change, arena_ref *node)
{
    struct best gone = memtrie_place_best(change);
    const struct memtrie_step *step = &change->steps[--change->depth];
    const struct memtrie_inner *parent = memtrie_change_node(change, step->ref);
    change->place = step->ref;
    change->at = step->at;

    struct memtrie_draft draft;
    memtrie_draft_read(&draft, parent);
    draft.current_count += (uint32_t)change->current_delta;
    draft.live_count += (uint32_t)change->live_delta;
    if (step->index == MEMTRIE_TERMINAL)
        draft.terminal = 0;
    else
        memtrie_draft_delete(&draft, (size_t)step->index);
    memtrie_change_part_with_inner(change, step->ref);

    if (draft.child_count + (draft.terminal != 0) == 1) {
        *node = merge_last(change, &draft);
    } else {
        if (best_compare(gone, draft.best) == 0)
            draft.best = memtrie_parts_best(change->trie, draft.terminal, draft.children,
                                            draft.bounds, draft.child_count);
        draft.sum = memtrie_change_sum(change, change->place, change->at, draft.current_count);
        *node = memtrie_draft_make(change, &draft);
    }
    return *node == 0 ? STATUS_NOMEM : STATUS_OK;
}
