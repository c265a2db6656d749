#include "core/overlay.h"

#include <string.h>

#include "core/overlay_node.h"

enum status overlay_space_init(struct overlay_space *space, struct heap *heap)
{
    space->batch = 1;
    return arena_init(&space->arena, heap);
}

void overlay_space_deinit(struct overlay_space *space)
{
    arena_deinit(&space->arena);
}

void overlay_begin_batch(struct overlay_space *space)
{
    space->batch++;
}

/* One change of one entry, planned before anything that can be seen is touched. */
struct strike {
    struct overlay_space *space;
    const struct packed *packed;
    uint64_t ordinal;
    unsigned height;
    bool makes_dead;
    bool makes_gone;
    bool was_hidden;
    struct sum hash;
    struct best block_best;                      /* Of its block, afterwards. */
    overlay_node before[OVERLAY_HEIGHT_MAX + 1]; /* By height; 0: pristine. */
    overlay_node after[OVERLAY_HEIGHT_MAX + 1];
};

static void find_path(struct strike *strike, overlay_root root)
{
    overlay_node node = root;
    for (unsigned height = strike->height;; height--) {
        strike->before[height] = node;
        if (height == 0) return;
        if (node != 0)
            node = overlay_inner_at(strike->space, node)
                       ->children[overlay_child_of(strike->ordinal, height)];
    }
}

/* Learns what the change does to the entry's block. */
static enum status plan_block(struct strike *strike, bool *changes)
{
    uint64_t block = strike->ordinal / PACKED_BLOCK;
    unsigned slot = strike->ordinal % PACKED_BLOCK;
    uint32_t dead = 0, gone = 0;
    if (strike->before[0] != 0) {
        const struct overlay_leaf *leaf = overlay_leaf_at(strike->space, strike->before[0]);
        dead = overlay_block_bits(leaf->dead, block % OVERLAY_FAN_OUT);
        gone = overlay_block_bits(leaf->gone, block % OVERLAY_FAN_OUT);
    }
    *changes = false;
    if (dead >> slot & 1) return STATUS_OK;
    if (!strike->makes_dead && gone >> slot & 1) return STATUS_OK;

    struct best bests[PACKED_BLOCK];
    enum status status = packed_block_bests(strike->packed, block, bests);
    if (status != STATUS_OK) return status;

    strike->was_hidden = gone >> slot & 1;
    strike->makes_gone = !best_is_none(bests[slot]) && !strike->was_hidden;
    if (!strike->makes_dead && !strike->makes_gone) return STATUS_OK;

    gone |= (uint32_t)1 << slot;
    strike->block_best = (struct best){0};
    for (unsigned i = 0; i < PACKED_BLOCK; i++)
        if (!(gone >> i & 1)) strike->block_best = best_first(strike->block_best, bests[i]);
    *changes = true;
    return STATUS_OK;
}

/* Makes every best of a node known. Answers stay the same, so a node that others see
 * through an unpublished root may be completed in place. */
static enum status complete(const struct strike *strike, overlay_node node, unsigned height)
{
    struct overlay_head *head = overlay_head_at(strike->space, node);
    if (head->known == OVERLAY_KNOWN_ALL) return STATUS_OK;

    struct best own[PACKED_FAN_OUT];
    uint64_t first = strike->ordinal >> overlay_width_bits(height) << 4;
    enum status status = packed_bests(strike->packed, height, first, PACKED_FAN_OUT, own);
    if (status != STATUS_OK) return status;

    struct best *bests = overlay_bests_of(head, height);
    for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++)
        if (!(head->known >> i & 1)) bests[i] = own[i];
    head->known = OVERLAY_KNOWN_ALL;
    return STATUS_OK;
}

/* The node that will stand at `height`: the old one if this batch made it, else a copy. */
static enum status prepare_node(struct strike *strike, unsigned height)
{
    struct overlay_space *space = strike->space;
    overlay_node before = strike->before[height];
    size_t size = overlay_node_bytes(height);

    if (before != 0 && overlay_head_at(space, before)->batch == space->batch) {
        strike->after[height] = before;
    } else {
        overlay_node copy = arena_alloc(&space->arena, size);
        if (copy == 0) return STATUS_NOMEM;
        if (before != 0)
            memcpy(arena_at(&space->arena, copy), overlay_head_at(space, before), size);
        else
            memset(arena_at(&space->arena, copy), 0, size);
        overlay_head_at(space, copy)->batch = space->batch;
        strike->after[height] = copy;
    }
    return complete(strike, strike->after[height], height);
}

static void drop_copies(struct strike *strike)
{
    for (unsigned height = 0; height <= strike->height; height++)
        if (strike->after[height] != 0 && strike->after[height] != strike->before[height])
            arena_free(&strike->space->arena, strike->after[height], overlay_node_bytes(height));
}

static void change_head(const struct strike *strike, struct overlay_head *head)
{
    if (strike->makes_gone) head->gone_count++;
    if (strike->makes_dead) {
        head->dead_count++;
        head->dead_sum = sum_add(head->dead_sum, strike->hash);
        if (strike->was_hidden) head->hidden_count--;
    } else {
        head->hidden_count++;
    }
}

static void change_leaf(const struct strike *strike)
{
    struct overlay_leaf *leaf = overlay_leaf_at(strike->space, strike->after[0]);
    unsigned slot = strike->ordinal % OVERLAY_LEAF;
    uint64_t bit = UINT64_C(1) << slot % 64;
    if (strike->makes_dead) leaf->dead[slot / 64] |= bit;
    if (strike->makes_gone) leaf->gone[slot / 64] |= bit;
    leaf->bests[slot / PACKED_BLOCK] = strike->block_best;
}

static void change_inner(const struct strike *strike, unsigned height)
{
    struct overlay_inner *inner = overlay_inner_at(strike->space, strike->after[height]);
    const struct overlay_head *child = overlay_head_at(strike->space, strike->after[height - 1]);
    unsigned index = overlay_child_of(strike->ordinal, height);
    inner->children[index] = strike->after[height - 1];
    inner->dead[index] = child->dead_count;
    inner->gone[index] = child->gone_count;
    inner->bests[index] = child->best;
}

static void commit(const struct strike *strike)
{
    struct overlay_space *space = strike->space;
    for (unsigned height = 0; height <= strike->height; height++) {
        struct overlay_head *head = overlay_head_at(space, strike->after[height]);
        if (height == 0)
            change_leaf(strike);
        else
            change_inner(strike, height);
        change_head(strike, head);
        head->best = overlay_fold(overlay_bests_of(head, height), OVERLAY_FAN_OUT);

        overlay_node before = strike->before[height];
        if (before != 0 && before != strike->after[height])
            CHECK(arena_retire(&space->arena, before, overlay_node_bytes(height)) == STATUS_OK);
    }
}

static enum status strike_entry(struct strike *strike, overlay_root *root)
{
    uint64_t count = packed_info(strike->packed)->count;
    CHECK(strike->ordinal < count);
    if (count > UINT32_MAX) return STATUS_LIMIT;
    strike->height = overlay_height(count);
    find_path(strike, *root);

    bool changes;
    enum status status = plan_block(strike, &changes);
    if (status != STATUS_OK || !changes) return status;

    status = arena_reserve_retired(&strike->space->arena, strike->height + 1);
    for (unsigned height = 0; height <= strike->height && status == STATUS_OK; height++)
        status = prepare_node(strike, height);
    if (status != STATUS_OK) {
        drop_copies(strike);
        return status;
    }
    commit(strike);
    *root = strike->after[strike->height];
    return STATUS_OK;
}

enum status overlay_kill(struct overlay_space *space, const struct packed *packed,
                         overlay_root *root, uint64_t ordinal, struct sum hash)
{
    struct strike strike = {
        .space = space, .packed = packed, .ordinal = ordinal, .makes_dead = true, .hash = hash};
    return strike_entry(&strike, root);
}

enum status overlay_hide(struct overlay_space *space, const struct packed *packed,
                         overlay_root *root, uint64_t ordinal)
{
    struct strike strike = {.space = space, .packed = packed, .ordinal = ordinal};
    return strike_entry(&strike, root);
}

static void retire_node(struct overlay_space *space, overlay_node node, unsigned height)
{
    if (node == 0) return;
    if (height > 0)
        for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++)
            retire_node(space, overlay_inner_at(space, node)->children[i], height - 1);
    /* Without memory for the note the block is lost until the space goes, no more. */
    (void)arena_retire(&space->arena, node, overlay_node_bytes(height));
}

void overlay_retire(struct overlay_space *space, overlay_root *root, uint64_t ordinal_count)
{
    retire_node(space, *root, overlay_height(ordinal_count));
    *root = 0;
}

static enum status copy_node(const struct overlay_space *from, overlay_node node, unsigned height,
                             struct overlay_space *space, overlay_node *out)
{
    overlay_node copy = arena_alloc(&space->arena, overlay_node_bytes(height));
    if (copy == 0) return STATUS_NOMEM;
    memcpy(arena_at(&space->arena, copy), arena_at(&from->arena, node), overlay_node_bytes(height));
    overlay_head_at(space, copy)->batch = space->batch;
    for (unsigned i = 0; height > 0 && i < OVERLAY_FAN_OUT; i++) {
        overlay_node child = overlay_inner_at(from, node)->children[i];
        if (child == 0) continue;
        overlay_node copied;
        enum status status = copy_node(from, child, height - 1, space, &copied);
        if (status != STATUS_OK) return status;
        overlay_inner_at(space, copy)->children[i] = copied;
    }
    *out = copy;
    return STATUS_OK;
}

enum status overlay_copy(const struct overlay_space *from, overlay_root root,
                         uint64_t ordinal_count, struct overlay_space *space, overlay_root *out)
{
    if (root != 0) return copy_node(from, root, overlay_height(ordinal_count), space, out);
    *out = 0;
    return STATUS_OK;
}

static uint64_t node_bytes(const struct overlay_space *space, overlay_node node, unsigned height)
{
    uint64_t bytes = node == 0 ? 0 : overlay_node_bytes(height);
    for (unsigned i = 0; bytes > 0 && height > 0 && i < OVERLAY_FAN_OUT; i++)
        bytes += node_bytes(space, overlay_inner_at(space, node)->children[i], height - 1);
    return bytes;
}

uint64_t overlay_bytes(const struct overlay_space *space, overlay_root root, uint64_t ordinal_count)
{
    return node_bytes(space, root, overlay_height(ordinal_count));
}

static void drop_node(struct overlay_space *space, overlay_node node, unsigned height)
{
    if (node == 0 || overlay_head_at(space, node)->batch != space->batch) return;
    if (height > 0)
        for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++)
            drop_node(space, overlay_inner_at(space, node)->children[i], height - 1);
    arena_free(&space->arena, node, overlay_node_bytes(height));
}

void overlay_drop(struct overlay_space *space, overlay_root root, uint64_t ordinal_count)
{
    drop_node(space, root, overlay_height(ordinal_count));
}
