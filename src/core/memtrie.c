/* Changes of the memory trie.
 *
 * A change descends to where its key belongs, builds what shall stand there (always new
 * blocks), allocates the copies of the nodes above, and only then, when nothing can fail
 * any more, writes them from below up. What it replaced is retired, or freed at once when
 * the current batch made it. Leaves and records carry no batch and are always retired.
 *
 * The way down is kept (the finger): the next search begins at its last node that leads to
 * the new key too. A write looks up what it replaces and then puts, so that its second
 * search is free, and lines of an import that lie close together share most of their way. */
#include "core/memtrie.h"

#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "core/memtrie_node.h"

struct memtrie_step {
    struct memtrie_inner *inner;  /* A node on the path; in the finger's last step the place. */
    struct memtrie_inner *target; /* Its new state; the node itself when it is changed in place. */
    arena_ref ref, target_ref;
    uint32_t at; /* Bytes of the key above it. */
    int index;   /* The part that the path takes. */
};

struct block {
    arena_ref ref;
    size_t size;
};

enum { BLOCK_COUNT_MAX = 5, GONE_INNER_COUNT_MAX = 2 };

struct change {
    struct memtrie *trie;
    memtrie_root *root;
    struct slice key;
    struct memtrie_step *steps;
    size_t depth;    /* Inner nodes above the place. */
    arena_ref place; /* What stands there; 0: nothing, the tree is empty. */
    size_t at;       /* Bytes of the key above the place. */
    size_t shared;   /* Bytes of the place's own that the key shares. */
    int index;       /* Where the part that the place lacks would stand. */

    int current_delta, live_delta, tombstone_delta;
    struct sum sum_delta; /* Zero as long as no node above has a sum. */

    struct block made[BLOCK_COUNT_MAX]; /* Given back when the change fails. */
    size_t made_count;
    struct block gone[BLOCK_COUNT_MAX]; /* Retired when it succeeds. */
    size_t gone_count;
    arena_ref gone_inner[GONE_INNER_COUNT_MAX]; /* Freed or retired when it succeeds. */
    size_t gone_inner_count;
};

/* A new inner node in the making. */
struct draft {
    struct slice prefix[3];
    uint32_t current_count, live_count;
    struct best best;
    struct sum sum;
    arena_ref terminal;
    size_t child_count;
    uint8_t bytes[MEMTRIE_CHILD_COUNT_MAX];
    arena_ref children[MEMTRIE_CHILD_COUNT_MAX];
};

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

static void *node_at(const struct change *change, arena_ref ref)
{
    return arena_at(&change->trie->arena, ref);
}

/* --- Blocks of a change --- */

static arena_ref make(struct change *change, size_t size)
{
    CHECK(change->made_count < BLOCK_COUNT_MAX);
    arena_ref ref = arena_alloc(&change->trie->arena, size);
    if (ref != 0) change->made[change->made_count++] = (struct block){ref, size};
    return ref;
}

static void unmake(struct change *change)
{
    for (size_t i = 0; i < change->made_count; i++)
        arena_free(&change->trie->arena, change->made[i].ref, change->made[i].size);
    change->made_count = 0;
}

static void part_with(struct change *change, arena_ref ref, size_t size)
{
    CHECK(change->gone_count < BLOCK_COUNT_MAX);
    change->gone[change->gone_count++] = (struct block){ref, size};
}

static void part_with_inner(struct change *change, arena_ref ref)
{
    CHECK(change->gone_inner_count < GONE_INNER_COUNT_MAX);
    change->gone_inner[change->gone_inner_count++] = ref;
}

static void part_with_node(struct change *change, arena_ref ref)
{
    const void *node = node_at(change, ref);
    if (memtrie_kind(node) == MEMTRIE_INNER)
        part_with_inner(change, ref);
    else
        part_with(change, ref, memtrie_bytes(node));
}

/* Nobody saw the inner nodes of this batch. */
static void discard_inner(struct memtrie *trie, arena_ref ref)
{
    const struct memtrie_inner *inner = arena_at(&trie->arena, ref);
    size_t size = memtrie_bytes(inner);
    if (inner->batch == trie->batch)
        arena_free(&trie->arena, ref, size);
    else
        CHECK(arena_retire(&trie->arena, ref, size) == STATUS_OK); /* It was reserved. */
}

static void discard_gone(struct change *change)
{
    struct memtrie *trie = change->trie;
    for (size_t i = 0; i < change->gone_count; i++)
        CHECK(arena_retire(&trie->arena, change->gone[i].ref, change->gone[i].size) == STATUS_OK);
    for (size_t i = 0; i < change->gone_inner_count; i++)
        discard_inner(trie, change->gone_inner[i]);
}

/* --- Drafts --- */

static void draft_init(struct draft *draft, struct slice prefix)
{
    draft->prefix[0] = prefix;
    draft->prefix[1] = draft->prefix[2] = (struct slice){0};
    draft->sum = (struct sum){0};
    draft->terminal = 0;
    draft->child_count = 0;
}

static void draft_read(struct draft *draft, const struct memtrie_inner *inner)
{
    draft_init(draft, memtrie_prefix(inner));
    draft->current_count = inner->current_count;
    draft->live_count = memtrie_inner_live(inner);
    draft->best = memtrie_inner_best(inner);
    draft->terminal = memtrie_terminal(inner);
    draft->child_count = memtrie_child_count(inner);
    memcpy(draft->bytes, memtrie_child_bytes(inner), draft->child_count);
    memcpy(draft->children, memtrie_children(inner), draft->child_count * sizeof(arena_ref));
    if (memtrie_has(inner, MEMTRIE_HAS_SUM)) memcpy(&draft->sum, inner + 1, sizeof draft->sum);
}

static unsigned head_of(uint32_t current_count, uint32_t live_count, bool terminal)
{
    return MEMTRIE_INNER | (current_count >= MEMTRIE_SUM_COUNT_MIN ? MEMTRIE_HAS_SUM : 0u) |
           (live_count != current_count ? MEMTRIE_HAS_LIVE : 0u) |
           (terminal ? MEMTRIE_HAS_TERMINAL : 0u);
}

static unsigned draft_head(const struct draft *draft)
{
    return head_of(draft->current_count, draft->live_count, draft->terminal != 0);
}

static size_t draft_bytes(const struct draft *draft)
{
    return memtrie_inner_bytes(draft_head(draft), draft->child_count,
                               draft->prefix[0].size + draft->prefix[1].size +
                                   draft->prefix[2].size);
}

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t size)
{
    if (size != 0) memcpy(at, bytes, size);
    return at + size;
}

static void draft_write(const struct draft *draft, uint32_t batch, void *out)
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
    if (head & MEMTRIE_HAS_SUM) at = put_bytes(at, &draft->sum, sizeof draft->sum);
    if (head & MEMTRIE_HAS_LIVE) at = put_bytes(at, &draft->live_count, sizeof(uint32_t));
    if (head & MEMTRIE_HAS_TERMINAL) at = put_bytes(at, &draft->terminal, sizeof(arena_ref));
    at = put_bytes(at, draft->children, draft->child_count * sizeof(arena_ref));
    at = put_bytes(at, draft->bytes, draft->child_count);
    for (int i = 0; i < 3; i++) at = put_bytes(at, draft->prefix[i].data, draft->prefix[i].size);
}

/* 0 when there is no memory. */
static arena_ref draft_make(struct change *change, const struct draft *draft)
{
    arena_ref ref = make(change, draft_bytes(draft));
    if (ref != 0) draft_write(draft, change->trie->batch, node_at(change, ref));
    return ref;
}

static void draft_insert(struct draft *draft, size_t index, uint8_t byte, arena_ref child)
{
    size_t after = draft->child_count - index;
    memmove(draft->bytes + index + 1, draft->bytes + index, after);
    memmove(draft->children + index + 1, draft->children + index, after * sizeof(arena_ref));
    draft->bytes[index] = byte;
    draft->children[index] = child;
    draft->child_count++;
}

static void draft_delete(struct draft *draft, size_t index)
{
    size_t after = draft->child_count - index - 1;
    memmove(draft->bytes + index, draft->bytes + index + 1, after);
    memmove(draft->children + index, draft->children + index + 1, after * sizeof(arena_ref));
    draft->child_count--;
}

/* Adds a part below the branch byte `rest` begins with; an empty `rest`: as terminal. */
static void draft_add(struct draft *draft, struct slice rest, arena_ref part)
{
    size_t index = 0;
    if (rest.size == 0) {
        draft->terminal = part;
        return;
    }
    while (index < draft->child_count && draft->bytes[index] < rest.data[0]) index++;
    draft_insert(draft, index, rest.data[0], part);
}

/* The first of the bests of all parts. */
static struct best parts_best(const struct memtrie *trie, arena_ref terminal,
                              const arena_ref *children, size_t child_count)
{
    struct best best = {0};
    for (size_t i = 0; i < child_count; i++) memtrie_prefetch(trie, children[i]);
    if (terminal != 0) best = memtrie_best(arena_at(&trie->arena, terminal));
    for (size_t i = 0; i < child_count; i++) {
        const void *child = arena_at(&trie->arena, children[i]);
        best = best_first(best, memtrie_best(child));
    }
    return best;
}

/* --- Finding the place --- */

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
static arena_ref finger_take(struct change *change)
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
static void finger_keep(struct change *change, arena_ref place, memtrie_root root)
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
static enum status find_place(struct change *change)
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
        step->inner = node_at(change, change->place);
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
static bool is_found(const struct change *change)
{
    if (change->place == 0) return false;
    const void *node = node_at(change, change->place);
    return memtrie_kind(node) != MEMTRIE_INNER && change->shared == change->key.size - change->at &&
           change->shared == memtrie_own(node).size;
}

/* --- Leaves of a change --- */

/* A leaf for `record`; writes the encoded record if it needs one. */
static enum status leaf_of_record(struct change *change, const struct record *record,
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
    leaf->record = make(change, buf->size);
    if (leaf->record == 0) return STATUS_NOMEM;
    memcpy(node_at(change, leaf->record), buf->data, buf->size);
    return STATUS_OK;
}

/* 0 when there is no memory. */
static arena_ref leaf_make(struct change *change, const struct memtrie_leaf *leaf,
                           struct slice first, struct slice second, struct slice third)
{
    struct slice suffix[3] = {first, second, third};
    size_t suffix_size = first.size + second.size + third.size;
    enum memtrie_kind kind = memtrie_leaf_kind(leaf, suffix_size);
    arena_ref ref = make(change, memtrie_leaf_bytes(kind, suffix_size));
    if (ref != 0) memtrie_leaf_write(leaf, kind, suffix, node_at(change, ref));
    return ref;
}

static arena_ref leaf_make_rest(struct change *change, const struct memtrie_leaf *leaf,
                                struct slice rest)
{
    /* The branch byte is the parent's. */
    if (rest.size != 0) rest = slice_from(rest, 1);
    return leaf_make(change, leaf, rest, (struct slice){0}, (struct slice){0});
}

/* --- Inner nodes that keep their layout --- */

static unsigned head_after(const struct change *change, const struct memtrie_inner *inner)
{
    uint32_t current = inner->current_count + (uint32_t)change->current_delta;
    uint32_t live = current; /* Where both counts change alike, they differ as before or not. */
    if (change->live_delta != change->current_delta || memtrie_has(inner, MEMTRIE_HAS_LIVE))
        live = memtrie_inner_live(inner) + (uint32_t)change->live_delta;
    return head_of(current, live, memtrie_has(inner, MEMTRIE_HAS_TERMINAL));
}

/* Counts, best and sum after the change; the node has the layout for them already. */
static void inner_update(struct memtrie_inner *inner, const struct change *change, struct best best)
{
    uint8_t *at = (uint8_t *)(inner + 1);
    inner->batch = change->trie->batch;
    inner->current_count += (uint32_t)change->current_delta;
    inner->best_score_order = best.score_order;
    inner->best_time = best.created_time;
    inner->best_node = best.created_node;
    if (memtrie_has(inner, MEMTRIE_HAS_SUM)) {
        struct sum sum;
        memcpy(&sum, at, sizeof sum);
        sum = sum_add(sum, change->sum_delta);
        at = put_bytes(at, &sum, sizeof sum);
    }
    if (memtrie_has(inner, MEMTRIE_HAS_LIVE)) {
        uint32_t live;
        memcpy(&live, at, sizeof live);
        live += (uint32_t)change->live_delta;
        memcpy(at, &live, sizeof live);
    }
}

/* --- What stands at the place afterwards --- */

static void path_start(struct memtrie_path *path, const struct change *change, size_t size)
{
    path->size = size;
    if (size != 0) memcpy(path->bytes, change->key.data, size);
}

/* The sum of an inner node after the change, when it has `current_count` entries then. */
static struct sum sum_after(struct change *change, arena_ref ref, size_t at, uint32_t current_count)
{
    if (current_count < MEMTRIE_SUM_COUNT_MIN) return (struct sum){0};
    struct memtrie_path path;
    path_start(&path, change, at);
    return sum_add(memtrie_node_sum(change->trie, ref, &path), change->sum_delta);
}

/* The place and the new leaf part ways within the place's own bytes: a node above both. */
static arena_ref place_split(struct change *change, const struct memtrie_leaf *leaf)
{
    const void *old = node_at(change, change->place);
    struct slice rest = slice_from(change->key, change->at + change->shared);
    struct slice old_rest = slice_from(memtrie_own(old), change->shared);

    arena_ref new_leaf = leaf_make_rest(change, leaf, rest);
    if (new_leaf == 0) return 0;
    arena_ref moved;
    struct draft draft;
    if (memtrie_kind(old) == MEMTRIE_INNER) {
        draft_read(&draft, old);
        draft.prefix[0] = slice_from(old_rest, 1);
        moved = draft_make(change, &draft);
    } else {
        struct memtrie_leaf old_leaf = memtrie_leaf_read(old);
        moved = leaf_make_rest(change, &old_leaf, old_rest);
    }
    if (moved == 0) return 0;
    part_with_node(change, change->place);

    const void *new_leaf_at = node_at(change, new_leaf);
    draft_init(&draft, slice_prefix(memtrie_own(old), change->shared));
    draft.current_count = memtrie_current(old) + 1;
    draft.live_count = memtrie_live(old) + memtrie_live(new_leaf_at);
    draft.best = best_first(memtrie_best(old), memtrie_best(new_leaf_at));
    draft.sum = sum_after(change, change->place, change->at, draft.current_count);
    draft_add(&draft, rest, new_leaf);
    draft_add(&draft, old_rest, moved);
    return draft_make(change, &draft);
}

/* Writes a copy of `inner` with one more child; counts, best and sum are as they were. */
static void inner_widen(const struct memtrie_inner *inner, size_t index, uint8_t byte,
                        arena_ref child, void *out)
{
    size_t fixed = sizeof *inner + memtrie_optional_bytes(inner->head);
    size_t after = memtrie_child_count(inner) - index;
    const arena_ref *children = memtrie_children(inner);
    const uint8_t *bytes = memtrie_child_bytes(inner);
    uint8_t *at = put_bytes(out, inner, fixed + index * sizeof child);
    at = put_bytes(at, &child, sizeof child);
    at = put_bytes(at, children + index, after * sizeof child);
    at = put_bytes(at, bytes, index);
    *at++ = byte;
    put_bytes(at, bytes + index, after + inner->prefix_size);
    ((struct memtrie_inner *)out)->child_count_less_one++;
}

/* One more child for the place, whose layout is otherwise as it was. */
static arena_ref place_widen(struct change *change, uint8_t byte, arena_ref leaf)
{
    const struct memtrie_inner *place = node_at(change, change->place);
    size_t size =
        memtrie_inner_bytes(place->head, memtrie_child_count(place) + 1, place->prefix_size);
    arena_ref ref = make(change, size);
    if (ref == 0) return 0;
    struct memtrie_inner *inner = node_at(change, ref);
    inner_widen(place, (size_t)change->index, byte, leaf, inner);
    struct best best = best_first(memtrie_inner_best(place), memtrie_best(node_at(change, leaf)));
    inner_update(inner, change, best);
    part_with_inner(change, change->place);
    return ref;
}

/* The place matches and gets one more part. */
static arena_ref place_extend(struct change *change, const struct memtrie_leaf *leaf)
{
    struct slice rest = slice_from(change->key, change->at + change->shared);
    arena_ref new_leaf = leaf_make_rest(change, leaf, rest);
    if (new_leaf == 0) return 0;
    const struct memtrie_inner *place = node_at(change, change->place);
    if (rest.size != 0 && head_after(change, place) == place->head)
        return place_widen(change, rest.data[0], new_leaf);

    const void *new_leaf_at = node_at(change, new_leaf);
    struct draft draft;
    draft_read(&draft, node_at(change, change->place));
    draft.current_count++;
    draft.live_count += memtrie_live(new_leaf_at);
    draft.best = best_first(draft.best, memtrie_best(new_leaf_at));
    draft.sum = sum_after(change, change->place, change->at, draft.current_count);
    draft_add(&draft, rest, new_leaf);
    part_with_node(change, change->place);
    return draft_make(change, &draft);
}

/* The leaf at the place is replaced by one with the same key. */
static arena_ref place_replace(struct change *change, const struct memtrie_leaf *leaf)
{
    struct slice suffix = memtrie_suffix(node_at(change, change->place));
    part_with_node(change, change->place);
    return leaf_make(change, leaf, suffix, (struct slice){0}, (struct slice){0});
}

/* One part is left of `draft`: it takes the node's place, with the node's prefix before
 * its own bytes. */
static arena_ref merge_last(struct change *change, const struct draft *draft)
{
    struct slice prefix = draft->prefix[0];
    if (draft->child_count == 0) {
        struct memtrie_leaf leaf = memtrie_leaf_read(node_at(change, draft->terminal));
        part_with_node(change, draft->terminal);
        return leaf_make(change, &leaf, prefix, (struct slice){0}, (struct slice){0});
    }
    const void *last = node_at(change, draft->children[0]);
    part_with_node(change, draft->children[0]);
    struct slice byte = slice_of(draft->bytes, 1);
    if (memtrie_kind(last) != MEMTRIE_INNER) {
        struct memtrie_leaf leaf = memtrie_leaf_read(last);
        return leaf_make(change, &leaf, prefix, byte, leaf.suffix);
    }
    struct draft merged;
    draft_read(&merged, last);
    merged.prefix[2] = merged.prefix[0];
    merged.prefix[0] = prefix;
    merged.prefix[1] = byte;
    return draft_make(change, &merged);
}

/* --- The nodes above --- */

static size_t bytes_after(const struct change *change, const struct memtrie_inner *inner)
{
    return memtrie_inner_bytes(head_after(change, inner), memtrie_child_count(inner),
                               inner->prefix_size);
}

static void steps_release(struct change *change, size_t from)
{
    for (size_t i = from; i < change->depth; i++) {
        struct memtrie_step *step = &change->steps[i];
        if (step->target == step->inner) continue;
        arena_free(&change->trie->arena, step->target_ref, bytes_after(change, step->inner));
    }
}

/* A target for every node above. */
static enum status steps_prepare(struct change *change)
{
    struct arena *arena = &change->trie->arena;
    uint32_t batch = change->trie->batch;
    for (size_t i = change->depth; i-- > 0;) {
        struct memtrie_step *step = &change->steps[i];
        step->target = step->inner;
        step->target_ref = step->ref;
        if (step->inner->batch == batch && step->inner->head == head_after(change, step->inner))
            continue;
        step->target_ref = arena_alloc(arena, bytes_after(change, step->inner));
        if (step->target_ref == 0) {
            steps_release(change, i + 1);
            return STATUS_NOMEM;
        }
        step->target = node_at(change, step->target_ref);
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
static struct best parts_best_after(const struct change *change, const struct memtrie_inner *inner,
                                    int index, arena_ref part)
{
    arena_ref children[MEMTRIE_CHILD_COUNT_MAX];
    size_t child_count = memtrie_child_count(inner);
    memcpy(children, memtrie_children(inner), child_count * sizeof *children);
    arena_ref terminal = memtrie_terminal(inner);
    if (index == MEMTRIE_TERMINAL)
        terminal = part;
    else
        children[index] = part;
    return parts_best(change->trie, terminal, children, child_count);
}

/* Writes the new state of a node whose layout changes. A sum that is the node's first is
 * found by a walk of all that is below it now. */
static void step_rewrite(struct change *change, const struct memtrie_step *step, struct best best,
                         arena_ref part)
{
    struct draft draft;
    draft_read(&draft, step->inner);
    draft.current_count += (uint32_t)change->current_delta;
    draft.live_count += (uint32_t)change->live_delta;
    draft.sum = sum_add(draft.sum, change->sum_delta);
    draft.best = best;
    if (step->index == MEMTRIE_TERMINAL)
        draft.terminal = part;
    else
        draft.children[step->index] = part;
    draft_write(&draft, change->trie->batch, step->target);

    if (memtrie_has(step->inner, MEMTRIE_HAS_SUM) || !memtrie_has(step->target, MEMTRIE_HAS_SUM))
        return;
    struct memtrie_path path;
    path_start(&path, change, step->at);
    struct sum sum = memtrie_walk_sum(change->trie, step->target_ref, &path);
    memcpy(step->target + 1, &sum, sizeof sum);
}

/* The best of the node after its part has changed. */
static struct best step_best(const struct change *change, const struct memtrie_step *step,
                             const struct replaced *part)
{
    struct best best = memtrie_inner_best(step->inner);
    if (best_compare(part->after, best) <= 0) return part->after;
    if (best_compare(part->before, best) != 0) return best;
    return parts_best_after(change, step->inner, step->index,
                            part->ref); /* Perhaps it got worse. */
}

/* Writes one node above; `part` goes in as the replaced part and comes out as the node
 * itself. Most nodes were made by this very batch, and only count. */
static void step_write(struct change *change, struct memtrie_step *step, struct replaced *part)
{
    struct memtrie_inner *inner = step->inner;
    struct memtrie_inner *target = step->target;
    struct best before = memtrie_inner_best(inner);
    struct best after = part->same_best ? before : step_best(change, step, part);

    if (target != inner && head_after(change, inner) != inner->head) {
        step_rewrite(change, step, after, part->ref);
    } else {
        if (target != inner) memcpy(target, inner, memtrie_bytes(inner));
        inner_update(target, change, after);
        if (!part->same_ref) memtrie_set_part(target, step->index, part->ref);
    }
    part->same_ref = target == inner;
    if (!part->same_ref) discard_inner(change->trie, step->ref);
    part->ref = step->ref = step->target_ref;
    step->inner = target;
    part->same_best = part->same_best || best_compare(before, after) == 0;
    part->before = before;
    part->after = after;
}

/* Whether all nodes above can be changed in place. A node of this batch has nodes of this
 * batch above it, and one with a sum has nodes with sums above it. */
static bool steps_stay(const struct change *change)
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
static void steps_count(struct change *change, arena_ref node, struct best best)
{
    if (change->depth == 0) return;
    const struct memtrie_step *parent = &change->steps[change->depth - 1];
    memtrie_set_part(parent->inner, parent->index, node);
    bool is_best = true; /* Of what is below, so far. */
    for (size_t i = change->depth; i-- > 0;) {
        struct memtrie_inner *inner = change->steps[i].inner;
        struct best now = memtrie_inner_best(inner);
        is_best = is_best && best_compare(best, now) < 0;
        inner_update(inner, change, is_best ? best : now);
    }
}

/* --- Ending a change --- */

static void top_write(struct change *change, arena_ref target, arena_ref node)
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
        *(struct memtrie_top *)node_at(change, target) =
            (struct memtrie_top){node, tombstones, change->trie->batch};
    *change->root = target;
}

/* Puts `node` (0: nothing, the tree is then empty) at the place, whose best was `before`,
 * and keeps the way to it. On failure nothing has happened. */
static enum status change_commit(struct change *change, arena_ref node, struct best before)
{
    struct memtrie *trie = change->trie;
    arena_ref top = 0;
    if (node != 0) {
        bool new_top = *change->root == 0 || memtrie_top(trie, *change->root)->batch != trie->batch;
        top = new_top ? make(change, sizeof(struct memtrie_top)) : *change->root;
        if (top == 0) return STATUS_NOMEM;
    }
    if (arena_reserve_retired(&trie->arena, change->depth + BLOCK_COUNT_MAX + GONE_INNER_COUNT_MAX +
                                                1) != STATUS_OK)
        return STATUS_NOMEM;
    struct replaced part = {.ref = node, .before = before};
    if (node != 0) part.after = memtrie_best(node_at(change, node));

    if (best_compare(part.after, before) <= 0 && steps_stay(change)) {
        steps_count(change, node, part.after);
        if (change->depth > 0) part.ref = change->steps[0].ref;
    } else {
        if (steps_prepare(change) != STATUS_OK) return STATUS_NOMEM;
        for (size_t i = change->depth; i-- > 0;) step_write(change, &change->steps[i], &part);
    }
    discard_gone(change);
    top_write(change, top, part.ref);
    finger_keep(change, node, top);
    return STATUS_OK;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the change writes through `root` later. */
static void change_init(struct change *change, struct memtrie *trie, memtrie_root *root,
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

enum status memtrie_seek(struct memtrie *trie, memtrie_root root, struct slice key,
                         struct record *record, bool *hidden)
{
    struct change change;
    change_init(&change, trie, &root, key);
    if (find_place(&change) != STATUS_OK) return memtrie_get(trie, root, key, record, hidden);
    finger_keep(&change, change.place, root);
    if (!is_found(&change)) return STATUS_NOT_FOUND;
    const void *leaf = node_at(&change, change.place);
    memtrie_leaf_record(trie, leaf, record);
    if (hidden != NULL) *hidden = memtrie_has(leaf, MEMTRIE_HIDDEN);
    return STATUS_OK;
}

static struct best place_best(const struct change *change)
{
    return change->place == 0 ? (struct best){0} : memtrie_best(node_at(change, change->place));
}

/* Whether some node on the path has a sum once the counts have changed. */
static bool needs_sums(const struct change *change)
{
    if (*change->root == 0) return false;
    arena_ref top = memtrie_top(change->trie, *change->root)->node;
    uint32_t current = memtrie_current(node_at(change, top)) + (uint32_t)change->current_delta;
    return current >= MEMTRIE_SUM_COUNT_MIN;
}

/* The hash of the record that the leaf at the place has. */
static struct sum place_hash(const struct change *change)
{
    struct memtrie_path path;
    path_start(&path, change, change->at);
    return memtrie_node_sum(change->trie, change->place, &path);
}

/* The encoded record of the leaf at the place goes, if it has one. */
static void part_with_record(struct change *change)
{
    struct memtrie_leaf leaf = memtrie_leaf_read(node_at(change, change->place));
    if (leaf.record != 0) part_with(change, leaf.record, leaf.record_size);
}

/* The node to stand at the place, or 0 when there is no memory. */
static arena_ref place_put(struct change *change, const struct memtrie_leaf *leaf, bool found)
{
    if (change->place == 0)
        return leaf_make(change, leaf, change->key, (struct slice){0}, (struct slice){0});
    if (found) {
        part_with_record(change);
        return place_replace(change, leaf);
    }
    const void *place = node_at(change, change->place);
    if (memtrie_kind(place) == MEMTRIE_INNER && change->shared == memtrie_own(place).size)
        return place_extend(change, leaf);
    return place_split(change, leaf);
}

static enum status put(struct change *change, const struct record *record)
{
    enum status status = find_place(change);
    if (status != STATUS_OK) return status;
    struct memtrie_leaf leaf;
    status = leaf_of_record(change, record, &leaf);
    if (status != STATUS_OK) return status;

    bool found = is_found(change);
    const void *old = found ? node_at(change, change->place) : NULL;
    change->current_delta = !found;
    change->live_delta = record_is_present(record) - (found && memtrie_leaf_is_live(old));
    change->tombstone_delta = record->tombstone - (found && memtrie_has(old, MEMTRIE_TOMBSTONE));
    if (needs_sums(change)) {
        change->sum_delta = record_hash(change->key, record, change->trie->hash_seed);
        if (found) change->sum_delta = sum_subtract(change->sum_delta, place_hash(change));
    }

    struct best before = place_best(change);
    arena_ref node = place_put(change, &leaf, found);
    if (node == 0) return STATUS_NOMEM;
    return change_commit(change, node, before);
}

enum status memtrie_put(struct memtrie *trie, memtrie_root *root, struct slice key,
                        const struct record *record)
{
    struct change change;
    change_init(&change, trie, root, key);
    enum status status = put(&change, record);
    if (status != STATUS_OK) unmake(&change);
    return status;
}

/* What is left of the parent of the leaf at the place, which becomes the place. */
static enum status place_shrink(struct change *change, arena_ref *node)
{
    struct best gone = place_best(change);
    const struct memtrie_step *step = &change->steps[--change->depth];
    const struct memtrie_inner *parent = node_at(change, step->ref);
    change->place = step->ref;
    change->at = step->at;

    struct draft draft;
    draft_read(&draft, parent);
    draft.current_count += (uint32_t)change->current_delta;
    draft.live_count += (uint32_t)change->live_delta;
    if (step->index == MEMTRIE_TERMINAL)
        draft.terminal = 0;
    else
        draft_delete(&draft, (size_t)step->index);
    part_with_inner(change, step->ref);

    if (draft.child_count + (draft.terminal != 0) == 1) {
        *node = merge_last(change, &draft);
    } else {
        if (best_compare(gone, draft.best) == 0)
            draft.best =
                parts_best(change->trie, draft.terminal, draft.children, draft.child_count);
        draft.sum = sum_after(change, change->place, change->at, draft.current_count);
        *node = draft_make(change, &draft);
    }
    return *node == 0 ? STATUS_NOMEM : STATUS_OK;
}

static enum status take_away(struct change *change)
{
    enum status status = find_place(change);
    if (status != STATUS_OK) return status;
    if (!is_found(change)) return STATUS_NOT_FOUND;

    const void *old = node_at(change, change->place);
    change->current_delta = -1;
    change->live_delta = -(int)memtrie_leaf_is_live(old);
    change->tombstone_delta = -(int)memtrie_has(old, MEMTRIE_TOMBSTONE);
    if (needs_sums(change)) change->sum_delta = sum_subtract((struct sum){0}, place_hash(change));
    part_with_record(change);
    part_with_node(change, change->place);

    if (change->depth == 0) return change_commit(change, 0, place_best(change));
    const struct memtrie_step *parent = &change->steps[change->depth - 1];
    struct best before = memtrie_best(node_at(change, parent->ref));
    arena_ref node;
    status = place_shrink(change, &node);
    if (status != STATUS_OK) return status;
    return change_commit(change, node, before);
}

enum status memtrie_remove(struct memtrie *trie, memtrie_root *root, struct slice key)
{
    struct change change;
    change_init(&change, trie, root, key);
    enum status status = take_away(&change);
    if (status != STATUS_OK) unmake(&change);
    return status;
}

static enum status hide(struct change *change)
{
    enum status status = find_place(change);
    if (status != STATUS_OK) return status;
    if (!is_found(change)) return STATUS_NOT_FOUND;

    const void *old = node_at(change, change->place);
    if (memtrie_has(old, MEMTRIE_HIDDEN)) return STATUS_OK;
    struct memtrie_leaf leaf = memtrie_leaf_read(old);
    leaf.flags |= MEMTRIE_HIDDEN;
    change->live_delta = -(int)memtrie_leaf_is_live(old);

    struct best before = place_best(change);
    arena_ref node = place_replace(change, &leaf);
    if (node == 0) return STATUS_NOMEM;
    return change_commit(change, node, before);
}

enum status memtrie_hide(struct memtrie *trie, memtrie_root *root, struct slice key)
{
    struct change change;
    change_init(&change, trie, root, key);
    enum status status = hide(&change);
    if (status != STATUS_OK) unmake(&change);
    return status;
}
