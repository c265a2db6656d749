#include <string.h>

#include "core/overlay.h"
#include "core/overlay_node.h"

enum { PREFETCH_LINE = 64 };

enum overlay_state overlay_state(const struct overlay_space *space, const struct packed *packed,
                                 overlay_root root, uint64_t ordinal)
{
    if (root == 0) return OVERLAY_CURRENT;
    overlay_node node = overlay_find(space, packed, root, 1, ordinal / OVERLAY_LEAF);
    if (node == 0) return OVERLAY_CURRENT;

    const struct overlay_leaf *leaf = overlay_leaf_at(space, node);
    unsigned slot = ordinal % OVERLAY_LEAF;
    if (leaf->dead[slot / 64] >> slot % 64 & 1) return OVERLAY_DEAD;
    return leaf->gone[slot / 64] >> slot % 64 & 1 ? OVERLAY_HIDDEN : OVERLAY_CURRENT;
}

overlay_node overlay_find(const struct overlay_space *space, const struct packed *packed,
                          overlay_root root, unsigned level, uint64_t index)
{
    CHECK(level >= 1);
    uint64_t count = packed_info(packed)->count;
    if (root == 0 || index > (count - 1) >> overlay_width_bits(level - 1)) return 0;

    overlay_node node = root;
    for (unsigned height = overlay_height(count); height + 1 > level; height--) {
        unsigned child = (unsigned)(index >> 4 * (height - level)) & (OVERLAY_FAN_OUT - 1);
        node = overlay_inner_at(space, node)->children[child];
        if (node == 0) return 0;
    }
    return node;
}

/* What is not after `last` of a node's own bests, as far as it knows them. */
static uint32_t own_upto(const struct overlay_head *head, const struct best *own, struct best last,
                         struct best bests[OVERLAY_FAN_OUT])
{
    uint64_t least = last.score_order == 0 ? 1 : last.score_order;
    uint32_t candidates = 0, found = 0;
    for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++)
        candidates |= (uint32_t)(own[i].score_order >= least) << i;
    for (candidates &= head->known; candidates != 0; candidates &= candidates - 1) {
        unsigned i = (unsigned)__builtin_ctz(candidates);
        if (best_compare(own[i], last) > 0) continue;
        bests[i] = own[i];
        found |= UINT32_C(1) << i;
    }
    return found;
}

enum status overlay_expand(const struct overlay_space *space, const struct packed *packed,
                           overlay_node node, unsigned level, uint64_t index, struct best last,
                           struct best bests[OVERLAY_FAN_OUT],
                           overlay_node children[OVERLAY_FAN_OUT], uint32_t *found)
{
    struct overlay_head *head = node == 0 ? NULL : overlay_head_at(space, node);
    if (head == NULL || level == 1)
        memset(children, 0, OVERLAY_FAN_OUT * sizeof *children);
    else
        memcpy(children, ((struct overlay_inner *)head)->children,
               sizeof(overlay_node[OVERLAY_FAN_OUT]));

    uint32_t all = 0;
    if (head == NULL || head->known != OVERLAY_KNOWN_ALL) {
        enum status status =
            packed_bests_upto(packed, level - 1, index * OVERLAY_FAN_OUT, last, bests, &all);
        if (status != STATUS_OK) return status;
    }
    if (head != NULL)
        all = (all & ~(uint32_t)head->known) |
              own_upto(head, overlay_bests_of(head, level - 1), last, bests);
    *found = all;
    return STATUS_OK;
}

enum status overlay_expand_block(const struct overlay_space *space, const struct packed *packed,
                                 overlay_node leaf, uint64_t block, uint32_t among,
                                 struct best last, struct best bests[PACKED_BLOCK], uint32_t *found)
{
    uint32_t gone = 0;
    if (leaf != 0)
        gone = overlay_block_bits(overlay_leaf_at(space, leaf)->gone, block % OVERLAY_FAN_OUT);
    return packed_block_bests_upto(packed, block, among & ~gone, last, bests, found);
}

void overlay_prefetch(const struct overlay_space *space, const struct packed *packed,
                      overlay_node node, unsigned level, uint64_t index)
{
    if (node != 0 && level > 0) {
        const uint8_t *at = arena_at(&space->arena, node);
        for (size_t line = 0; line < overlay_node_bytes(level - 1); line += PREFETCH_LINE)
            __builtin_prefetch(at + line);
    }
    packed_prefetch_below(packed, level, index);
}

/* Makes bests that were not found none. */
static void clear_missing(struct best *bests, size_t count, uint32_t found)
{
    for (size_t i = 0; i < count; i++)
        if (!(found >> i & 1)) bests[i] = (struct best){0};
}

enum status overlay_bests(const struct overlay_space *space, const struct packed *packed,
                          overlay_root root, unsigned level, uint64_t first, size_t count,
                          struct best bests[OVERLAY_FAN_OUT])
{
    CHECK(count <= OVERLAY_FAN_OUT);
    if (root == 0) return packed_bests(packed, level, first, count, bests);

    struct best all[2 * OVERLAY_FAN_OUT];
    overlay_node children[OVERLAY_FAN_OUT];
    unsigned skipped = first % OVERLAY_FAN_OUT;
    for (unsigned half = 0; half * OVERLAY_FAN_OUT < skipped + count; half++) {
        uint64_t group = first / OVERLAY_FAN_OUT + half;
        struct best *part = all + half * OVERLAY_FAN_OUT;
        overlay_node node = overlay_find(space, packed, root, level + 1, group);
        uint32_t found;
        enum status status = overlay_expand(space, packed, node, level + 1, group, (struct best){0},
                                            part, children, &found);
        if (status != STATUS_OK) return status;
        clear_missing(part, OVERLAY_FAN_OUT, found);
    }
    memcpy(bests, all + skipped, count * sizeof *bests);
    return STATUS_OK;
}

enum status overlay_block_bests(const struct overlay_space *space, const struct packed *packed,
                                overlay_root root, uint64_t block, struct best bests[PACKED_BLOCK])
{
    overlay_node leaf = overlay_find(space, packed, root, 1, block / OVERLAY_FAN_OUT);
    uint32_t found;
    enum status status = overlay_expand_block(space, packed, leaf, block, UINT32_MAX,
                                              (struct best){0}, bests, &found);
    if (status == STATUS_OK) clear_missing(bests, PACKED_BLOCK, found);
    return status;
}

static uint32_t block_existing(const struct packed *packed, uint64_t block)
{
    uint64_t left = packed_info(packed)->count - block * PACKED_BLOCK;
    return (uint32_t)overlay_bits_below((unsigned)u64_min(left, PACKED_BLOCK));
}

uint32_t overlay_block_current(const struct overlay_space *space, const struct packed *packed,
                               overlay_root root, uint64_t block)
{
    uint32_t existing = block_existing(packed, block);
    overlay_node leaf = overlay_find(space, packed, root, 1, block / OVERLAY_FAN_OUT);
    if (leaf == 0) return existing;
    return existing &
           ~overlay_block_bits(overlay_leaf_at(space, leaf)->dead, block % OVERLAY_FAN_OUT);
}

enum status overlay_block_live(const struct overlay_space *space, const struct packed *packed,
                               overlay_root root, uint64_t block, uint32_t *live)
{
    const struct packed_info *info = packed_info(packed);
    overlay_node leaf = overlay_find(space, packed, root, 1, block / OVERLAY_FAN_OUT);
    uint32_t gone =
        leaf == 0 ? 0
                  : overlay_block_bits(overlay_leaf_at(space, leaf)->gone, block % OVERLAY_FAN_OUT);
    if (info->present_count == info->count) {
        *live = block_existing(packed, block) & ~gone;
        return STATUS_OK;
    }
    struct best bests[PACKED_BLOCK];
    enum status status = packed_block_bests(packed, block, bests);
    if (status != STATUS_OK) return status;
    uint32_t present = 0;
    for (unsigned i = 0; i < PACKED_BLOCK; i++) present |= (uint32_t)!best_is_none(bests[i]) << i;
    *live = present & ~gone;
    return STATUS_OK;
}

/* Gone entries among ordinals [0, ordinal). */
static uint64_t gone_below(const struct overlay_space *space, overlay_root root,
                           uint64_t ordinal_count, uint64_t ordinal)
{
    if (root == 0) return 0;
    if (ordinal >= ordinal_count) return overlay_head_at(space, root)->gone_count;

    uint64_t gone = 0;
    overlay_node node = root;
    for (unsigned height = overlay_height(ordinal_count); height > 0; height--) {
        const struct overlay_inner *inner = overlay_inner_at(space, node);
        unsigned child = overlay_child_of(ordinal, height);
        for (unsigned i = 0; i < child; i++) gone += inner->gone[i];
        node = inner->children[child];
        if (node == 0) return gone;
    }
    const struct overlay_leaf *leaf = overlay_leaf_at(space, node);
    unsigned slot = ordinal % OVERLAY_LEAF;
    for (unsigned i = 0; i < slot / 64; i++) gone += (unsigned)__builtin_popcountll(leaf->gone[i]);
    return gone +
           (unsigned)__builtin_popcountll(leaf->gone[slot / 64] & overlay_bits_below(slot % 64));
}

enum status overlay_live_count(const struct overlay_space *space, const struct packed *packed,
                               overlay_root root, uint64_t low, uint64_t high, uint64_t *count)
{
    uint64_t ordinal_count = packed_info(packed)->count;
    CHECK(low <= high);
    CHECK(high <= ordinal_count);

    uint64_t present_low, present_high;
    enum status status = packed_present_below(packed, low, &present_low);
    if (status != STATUS_OK) return status;
    status = packed_present_below(packed, high, &present_high);
    if (status != STATUS_OK) return status;

    uint64_t gone = gone_below(space, root, ordinal_count, high) -
                    gone_below(space, root, ordinal_count, low);
    if (present_high < present_low || present_high - present_low < gone) return STATUS_CORRUPT;
    *count = present_high - present_low - gone;
    return STATUS_OK;
}

/* Live entries below `ordinal`, when `gone` are gone below it. */
static enum status live_below(const struct packed *packed, uint64_t ordinal, uint64_t gone,
                              uint64_t *live)
{
    uint64_t present;
    enum status status =
        packed_present_below(packed, u64_min(ordinal, packed_info(packed)->count), &present);
    if (status != STATUS_OK) return status;
    if (present < gone) return STATUS_CORRUPT;
    *live = present - gone;
    return STATUS_OK;
}

/* The last of `count` consecutive parts, `width` ordinals each from `base` on, with at most
 * `rank` live entries before it; `gone[i]` of part i are gone, `*before` before them all.
 * Adds to `*before` what is gone before the part found. */
static enum status find_part(const struct packed *packed, uint64_t base, uint64_t width,
                             const uint32_t gone[OVERLAY_FAN_OUT], uint64_t rank, uint64_t *before,
                             unsigned *part)
{
    uint64_t sums[OVERLAY_FAN_OUT];
    sums[0] = *before;
    for (unsigned i = 1; i < OVERLAY_FAN_OUT; i++) sums[i] = sums[i - 1] + gone[i - 1];

    unsigned low = 0, high = OVERLAY_FAN_OUT;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        uint64_t live;
        enum status status = live_below(packed, base + middle * width, sums[middle], &live);
        if (status != STATUS_OK) return status;
        if (live <= rank)
            low = middle;
        else
            high = middle;
    }
    *before = sums[low];
    *part = low;
    return STATUS_OK;
}

/* The live entry of rank `rank` in the leaf from ordinal `base` on. */
static enum status select_in_leaf(const struct packed *packed, const struct overlay_leaf *leaf,
                                  uint64_t base, uint64_t rank, uint64_t gone_before,
                                  uint64_t *ordinal)
{
    uint32_t gone[OVERLAY_FAN_OUT];
    for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++)
        gone[i] = (uint32_t)__builtin_popcount(overlay_block_bits(leaf->gone, i));

    unsigned part;
    enum status status = find_part(packed, base, PACKED_BLOCK, gone, rank, &gone_before, &part);
    if (status != STATUS_OK) return status;

    uint64_t first = base + part * PACKED_BLOCK, live;
    status = live_below(packed, first, gone_before, &live);
    if (status != STATUS_OK) return status;

    struct best bests[PACKED_BLOCK];
    if (first >= packed_info(packed)->count) return STATUS_CORRUPT;
    status = packed_block_bests(packed, first / PACKED_BLOCK, bests);
    if (status != STATUS_OK) return status;
    uint32_t bits = overlay_block_bits(leaf->gone, part);
    for (unsigned i = 0; i < PACKED_BLOCK; i++) {
        if (bits >> i & 1 || best_is_none(bests[i])) continue;
        if (live++ == rank) {
            *ordinal = first + i;
            return STATUS_OK;
        }
    }
    return STATUS_CORRUPT; /* The columns of the packed trie contradict each other. */
}

enum status overlay_live_select(const struct overlay_space *space, const struct packed *packed,
                                overlay_root root, uint64_t rank, uint64_t *ordinal)
{
    if (root == 0) return packed_present_select(packed, rank, ordinal);

    uint64_t count = packed_info(packed)->count, live;
    enum status status = live_below(packed, count, overlay_head_at(space, root)->gone_count, &live);
    if (status != STATUS_OK) return status;
    if (rank >= live) return STATUS_NOT_FOUND;

    uint64_t gone = 0, base = 0;
    overlay_node node = root;
    for (unsigned height = overlay_height(count); height > 0; height--) {
        const struct overlay_inner *inner = overlay_inner_at(space, node);
        uint64_t width = UINT64_C(1) << overlay_width_bits(height - 1);
        unsigned part;
        status = find_part(packed, base, width, inner->gone, rank, &gone, &part);
        if (status != STATUS_OK) return status;
        base += part * width;
        node = inner->children[part];
        /* Nothing more is gone before an entry of a pristine part. */
        if (node == 0) return packed_present_select(packed, rank + gone, ordinal);
    }
    return select_in_leaf(packed, overlay_leaf_at(space, node), base, rank, gone, ordinal);
}

/* Bits of word `word` of a leaf from ordinal `base` on that lie in [low, high). */
static uint64_t word_mask(unsigned word, uint64_t base, uint64_t low, uint64_t high)
{
    uint64_t first = base + word * UINT64_C(64);
    unsigned before = (unsigned)u64_min(low - u64_min(low, first), 64);
    unsigned upto = (unsigned)u64_min(high - u64_min(high, first), 64);
    return overlay_bits_below(upto) & ~overlay_bits_below(before);
}

/* Adds to `*sum` the hashes of the dead of a leaf that lie in [low, high): one by one, or all
 * less those outside, whichever are fewer. */
static enum status add_dead_of_leaf(struct packed_iterator *iterator,
                                    const struct overlay_leaf *leaf, uint64_t base, uint64_t low,
                                    uint64_t high, struct sum *sum)
{
    uint64_t chosen[OVERLAY_WORDS];
    unsigned inside = 0;
    for (unsigned word = 0; word < OVERLAY_WORDS; word++) {
        chosen[word] = leaf->dead[word] & word_mask(word, base, low, high);
        inside += (unsigned)__builtin_popcountll(chosen[word]);
    }
    bool are_outside = leaf->head.dead_count - inside < inside;

    struct sum total = {0};
    for (unsigned word = 0; word < OVERLAY_WORDS; word++) {
        uint64_t bits = are_outside ? leaf->dead[word] & ~chosen[word] : chosen[word];
        for (; bits != 0; bits &= bits - 1) {
            struct sum hash;
            uint64_t ordinal = base + word * 64 + (unsigned)__builtin_ctzll(bits);
            enum status status = packed_iterator_hash(iterator, ordinal, &hash);
            if (status != STATUS_OK) return status;
            total = sum_add(total, hash);
        }
    }
    *sum = sum_add(*sum, are_outside ? sum_subtract(leaf->head.dead_sum, total) : total);
    return STATUS_OK;
}

/* Adds to `*sum` the hashes of the dead among [low, high), which meets the node. */
static enum status add_dead(const struct overlay_space *space, struct packed_iterator *iterator,
                            overlay_node node, unsigned height, uint64_t base, uint64_t low,
                            uint64_t high, struct sum *sum)
{
    uint64_t end = base + (UINT64_C(1) << overlay_width_bits(height));
    if (node == 0 || high <= base || end <= low) return STATUS_OK;
    if (low <= base && end <= high) {
        *sum = sum_add(*sum, overlay_head_at(space, node)->dead_sum);
        return STATUS_OK;
    }
    if (height > 0) {
        const struct overlay_inner *inner = overlay_inner_at(space, node);
        uint64_t width = (end - base) / OVERLAY_FAN_OUT;
        for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++) {
            enum status status = add_dead(space, iterator, inner->children[i], height - 1,
                                          base + i * width, low, high, sum);
            if (status != STATUS_OK) return status;
        }
        return STATUS_OK;
    }
    return add_dead_of_leaf(iterator, overlay_leaf_at(space, node), base, low, high, sum);
}

enum status overlay_sum(const struct overlay_space *space, const struct packed *packed,
                        overlay_root root, uint64_t low, uint64_t high, struct sum *sum)
{
    uint64_t count = packed_info(packed)->count;
    CHECK(low <= high);
    CHECK(high <= count);

    struct sum all, dead = {0};
    enum status status = packed_sum(packed, low, high, &all);
    if (status == STATUS_OK && root != 0) {
        struct packed_iterator iterator;
        status = packed_iterator_init(&iterator, packed, space->arena.heap);
        if (status != STATUS_OK) return status;
        /* The last leaf may reach past the end, where nothing is dead. */
        status = add_dead(space, &iterator, root, overlay_height(count), 0, low,
                          high == count ? UINT64_MAX : high, &dead);
        packed_iterator_deinit(&iterator);
    }
    if (status != STATUS_OK) return status;
    *sum = sum_subtract(all, dead);
    return STATUS_OK;
}

enum status overlay_totals(const struct overlay_space *space, const struct packed *packed,
                           overlay_root root, struct overlay_totals *totals)
{
    const struct packed_info *info = packed_info(packed);
    struct overlay_totals result = {
        .current_count = info->count, .live_count = info->present_count, .sum = info->sum};
    if (root == 0) {
        struct best bests[PACKED_FAN_OUT];
        enum status status =
            packed_bests(packed, overlay_height(info->count), 0, PACKED_FAN_OUT, bests);
        if (status != STATUS_OK) return status;
        result.best = overlay_fold(bests, PACKED_FAN_OUT);
    } else {
        const struct overlay_head *head = overlay_head_at(space, root);
        if (head->gone_count > info->present_count) return STATUS_CORRUPT;
        result.dead_count = head->dead_count;
        result.hidden_count = head->hidden_count;
        result.current_count -= head->dead_count;
        result.live_count -= head->gone_count;
        result.best = head->best;
        result.sum = sum_subtract(info->sum, head->dead_sum);
    }
    *totals = result;
    return STATUS_OK;
}

/* Ordinals of the node's range that exist. */
static uint64_t node_size(uint64_t base, unsigned height, uint64_t count)
{
    if (base >= count) return 0;
    return u64_min(UINT64_C(1) << overlay_width_bits(height), count - base);
}

/* The least ordinal >= `from` under the node that is not dead; false when there is none. */
static bool next_in(const struct overlay_space *space, overlay_node node, unsigned height,
                    uint64_t base, uint64_t count, uint64_t from, uint64_t *out)
{
    uint64_t size = node_size(base, height, count);
    if (size == 0 || from >= base + size) return false;
    if (node == 0) {
        *out = u64_max(from, base);
        return true;
    }
    if (overlay_head_at(space, node)->dead_count == size) return false;
    if (height == 0) {
        const struct overlay_leaf *leaf = overlay_leaf_at(space, node);
        unsigned slot = (unsigned)(from > base ? from - base : 0);
        for (unsigned word = slot / 64; word < OVERLAY_WORDS; word++) {
            uint64_t bits = ~leaf->dead[word];
            if (word == slot / 64) bits &= ~overlay_bits_below(slot % 64);
            if (bits == 0) continue;
            *out = base + word * 64 + (unsigned)__builtin_ctzll(bits);
            return *out < count;
        }
        return false;
    }
    const struct overlay_inner *inner = overlay_inner_at(space, node);
    uint64_t width = UINT64_C(1) << overlay_width_bits(height - 1);
    unsigned i = from > base ? overlay_child_of(from, height) : 0;
    for (; i < OVERLAY_FAN_OUT; i++)
        if (next_in(space, inner->children[i], height - 1, base + i * width, count, from, out))
            return true;
    return false;
}

/* The greatest ordinal < `from` under the node that is not dead. */
static bool previous_in(const struct overlay_space *space, overlay_node node, unsigned height,
                        uint64_t base, uint64_t count, uint64_t from, uint64_t *out)
{
    uint64_t size = node_size(base, height, count);
    if (size == 0 || from <= base) return false;
    uint64_t last = u64_min(from, base + size) - 1;
    if (node == 0) {
        *out = last;
        return true;
    }
    if (overlay_head_at(space, node)->dead_count == size) return false;
    if (height == 0) {
        const struct overlay_leaf *leaf = overlay_leaf_at(space, node);
        unsigned slot = (unsigned)(last - base);
        for (unsigned word = slot / 64 + 1; word-- > 0;) {
            uint64_t bits = ~leaf->dead[word];
            if (word == slot / 64) bits &= overlay_bits_below(slot % 64 + 1);
            if (bits == 0) continue;
            *out = base + word * 64 + 63 - (unsigned)__builtin_clzll(bits);
            return true;
        }
        return false;
    }
    const struct overlay_inner *inner = overlay_inner_at(space, node);
    uint64_t width = UINT64_C(1) << overlay_width_bits(height - 1);
    for (unsigned i = overlay_child_of(last, height) + 1; i-- > 0;)
        if (previous_in(space, inner->children[i], height - 1, base + i * width, count, from, out))
            return true;
    return false;
}

enum status overlay_next_current(const struct overlay_space *space, const struct packed *packed,
                                 overlay_root root, uint64_t ordinal, uint64_t *out)
{
    uint64_t count = packed_info(packed)->count;
    CHECK(ordinal <= count);
    return next_in(space, root, overlay_height(count), 0, count, ordinal, out) ? STATUS_OK
                                                                               : STATUS_END;
}

enum status overlay_previous_current(const struct overlay_space *space, const struct packed *packed,
                                     overlay_root root, uint64_t ordinal, uint64_t *out)
{
    uint64_t count = packed_info(packed)->count;
    CHECK(ordinal <= count);
    return previous_in(space, root, overlay_height(count), 0, count, ordinal, out) ? STATUS_OK
                                                                                   : STATUS_END;
}

enum status overlay_next_live(const struct overlay_space *space, const struct packed *packed,
                              overlay_root root, uint64_t ordinal, uint64_t *out)
{
    uint64_t rank;
    enum status status = overlay_live_count(space, packed, root, 0, ordinal, &rank);
    if (status != STATUS_OK) return status;
    status = overlay_live_select(space, packed, root, rank, out);
    return status == STATUS_NOT_FOUND ? STATUS_END : status;
}

enum status overlay_previous_live(const struct overlay_space *space, const struct packed *packed,
                                  overlay_root root, uint64_t ordinal, uint64_t *out)
{
    uint64_t rank;
    enum status status = overlay_live_count(space, packed, root, 0, ordinal, &rank);
    if (status != STATUS_OK) return status;
    if (rank == 0) return STATUS_END;
    return overlay_live_select(space, packed, root, rank - 1, out);
}
