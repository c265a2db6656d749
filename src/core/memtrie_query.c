#include <string.h>

#include "base/check.h"
#include "core/memtrie.h"
#include "core/memtrie_node.h"

static const void *node_at(const struct memtrie *trie, memtrie_node node)
{
    return arena_at(&trie->arena, node);
}

/* The node that all of a root hangs from; 0: the tree is empty. */
static memtrie_node top_node(const struct memtrie *trie, memtrie_root root)
{
    return root == 0 ? 0 : memtrie_top(trie, root)->node;
}

enum status memtrie_get(const struct memtrie *trie, memtrie_root root, struct slice key,
                        struct record *record, bool *hidden)
{
    memtrie_node next = top_node(trie, root);
    while (next != 0) {
        const void *node = memtrie_node_at(trie, next);
        struct slice own = memtrie_own(node);
        if (memtrie_kind(node) != MEMTRIE_INNER) {
            if (!slice_equal(own, key)) return STATUS_NOT_FOUND;
            memtrie_leaf_record(trie, node, record);
            if (hidden != NULL) *hidden = memtrie_has(node, MEMTRIE_HIDDEN);
            return STATUS_OK;
        }
        if (!slice_starts_with(key, own)) return STATUS_NOT_FOUND;
        key = slice_from(key, own.size);
        if (key.size == 0) {
            next = memtrie_terminal(node);
        } else {
            int index;
            next = memtrie_child(node, key.data[0], &index);
            key = slice_from(key, 1);
        }
    }
    return STATUS_NOT_FOUND;
}

struct lane {
    memtrie_node node;
    struct slice rest; /* Of the key, below the path above the node. */
};

/* One level down, the next node on its way from memory; false where the way ends. */
static bool lane_step(const struct memtrie *trie, struct lane *lane)
{
    const void *node = node_at(trie, lane->node);
    if (memtrie_kind(node) != MEMTRIE_INNER) return false;
    struct slice prefix = memtrie_prefix(node);
    if (lane->rest.size <= prefix.size || !slice_starts_with(lane->rest, prefix)) return false;

    int index;
    lane->node = memtrie_child(node, lane->rest.data[prefix.size], &index);
    if (lane->node == 0) return false;
    lane->rest = slice_from(lane->rest, prefix.size + 1);
    const uint8_t *next = node_at(trie, lane->node);
    __builtin_prefetch(next);
    __builtin_prefetch(next + 64);
    return true;
}

void memtrie_warm(const struct memtrie *trie, memtrie_root root, const struct slice *keys,
                  size_t count)
{
    struct lane lanes[MEMTRIE_WARM_COUNT_MAX];
    CHECK(count <= MEMTRIE_WARM_COUNT_MAX);
    if (root == 0) return;
    for (size_t i = 0; i < count; i++) lanes[i] = (struct lane){top_node(trie, root), keys[i]};
    while (count > 0) {
        for (size_t i = 0; i < count;) {
            if (lane_step(trie, &lanes[i]))
                i++;
            else
                lanes[i] = lanes[--count];
        }
    }
}

struct memtrie_totals memtrie_totals(const struct memtrie *trie, memtrie_root root)
{
    if (root == 0) return (struct memtrie_totals){0};
    const struct memtrie_top *top = memtrie_top(trie, root);
    const void *node = node_at(trie, top->node);
    struct memtrie_path path;
    path.size = 0;
    return (struct memtrie_totals){
        .current_count = memtrie_current(node),
        .live_count = memtrie_live(node),
        .tombstone_count = top->tombstone_count,
        .best = memtrie_best(node),
        .sum = memtrie_node_sum(trie, top->node, &path),
    };
}

/* --- Counting --- */

/* Live entries in the parts [MEMTRIE_TERMINAL, end). */
static uint64_t live_before(const struct memtrie *trie, const struct memtrie_inner *inner,
                            size_t end)
{
    uint64_t count = 0;
    const arena_ref *children = memtrie_children(inner);
    for (size_t i = 0; i < end; i++) memtrie_prefetch(trie, children[i]);
    arena_ref terminal = memtrie_terminal(inner);
    if (terminal != 0) count += memtrie_live(node_at(trie, terminal));
    for (size_t i = 0; i < end; i++) count += memtrie_live(node_at(trie, children[i]));
    return count;
}

uint64_t memtrie_rank(const struct memtrie *trie, memtrie_root root, struct slice key)
{
    uint64_t rank = 0;
    memtrie_node next = top_node(trie, root);
    while (next != 0) {
        const void *node = memtrie_node_at(trie, next);
        enum memtrie_side side = memtrie_side(node, key);
        if (side == MEMTRIE_ABOVE) break;
        if (side == MEMTRIE_BELOW) return rank + memtrie_live(node);

        int index;
        key = slice_from(key, memtrie_own(node).size);
        next = memtrie_child(node, key.data[0], &index);
        key = slice_from(key, 1);
        rank += live_before(trie, node, (size_t)index);
    }
    return rank;
}

/* The subtree of all keys that start with `prefix`; 0: there is none. */
static memtrie_node find_prefix(const struct memtrie *trie, memtrie_root root, struct slice prefix)
{
    memtrie_node next = top_node(trie, root);
    while (next != 0) {
        const void *node = memtrie_node_at(trie, next);
        struct slice own = memtrie_own(node);
        if (slice_starts_with(own, prefix)) return next;
        if (memtrie_kind(node) != MEMTRIE_INNER || !slice_starts_with(prefix, own)) return 0;
        int index;
        prefix = slice_from(prefix, own.size);
        next = memtrie_child(node, prefix.data[0], &index);
        prefix = slice_from(prefix, 1);
    }
    return 0;
}

uint64_t memtrie_count_prefix(const struct memtrie *trie, memtrie_root root, struct slice prefix)
{
    memtrie_node node = find_prefix(trie, root, prefix);
    return node == 0 ? 0 : memtrie_live(node_at(trie, node));
}

/* The part that holds the entry with `*rank` live ones before it within the node; takes
 * the parts before it off `*rank`. */
static int select_part(const struct memtrie *trie, const struct memtrie_inner *inner,
                       uint64_t *rank)
{
    for (int index = memtrie_first_index(inner);; index++) {
        CHECK(index < (int)memtrie_child_count(inner));
        uint32_t live = memtrie_live(node_at(trie, memtrie_part(inner, index)));
        if (*rank < live) return index;
        *rank -= live;
    }
}

enum status memtrie_select(const struct memtrie *trie, memtrie_root root, uint64_t rank,
                           struct buf *key)
{
    buf_clear(key);
    memtrie_node next = top_node(trie, root);
    if (next == 0 || rank >= memtrie_live(node_at(trie, next))) return STATUS_NOT_FOUND;
    for (;;) {
        const void *node = memtrie_node_at(trie, next);
        buf_append_slice(key, memtrie_own(node));
        if (memtrie_kind(node) != MEMTRIE_INNER) return buf_status(key);
        int index = select_part(trie, node, &rank);
        if (index != MEMTRIE_TERMINAL) buf_append_u8(key, memtrie_child_bytes(node)[index]);
        next = memtrie_part(node, index);
    }
}

/* --- Ranges --- */

/* Takes the subtrees that make up a range. Those on the low side come first, in descending
 * order of keys (the one at the range's very start last); all others follow ascending. */
struct sink {
    enum status (*take)(struct sink *sink, bool low_side, memtrie_node node, struct slice path);
};

struct range {
    const struct memtrie *trie;
    struct sink *sink;
    struct slice low, high;
    struct memtrie_path path; /* Above the node at work. */
};

static void path_append(struct memtrie_path *path, struct slice bytes)
{
    CHECK(bytes.size <= sizeof path->bytes - path->size);
    if (bytes.size != 0) memcpy(path->bytes + path->size, bytes.data, bytes.size);
    path->size += bytes.size;
}

static enum status take(struct range *range, bool low_side, memtrie_node node)
{
    struct slice path = slice_of(range->path.bytes, range->path.size);
    return range->sink->take(range->sink, low_side, node, path);
}

/* Takes the part at `index`; the path ends with the node's prefix. */
static enum status take_part(struct range *range, bool low_side, const struct memtrie_inner *inner,
                             int index)
{
    size_t above = range->path.size;
    if (index != MEMTRIE_TERMINAL)
        path_append(&range->path, slice_of(&memtrie_child_bytes(inner)[index], 1));
    enum status status = take(range, low_side, memtrie_part(inner, index));
    range->path.size = above;
    return status;
}

/* Where the node lies against a bound that the path above it is a prefix of. */
static enum memtrie_side range_side(const struct range *range, const void *node, struct slice bound)
{
    return memtrie_side(node, slice_from(bound, range->path.size));
}

/* The byte of a bound at which the node's parts branch; the path ends with its prefix. */
static uint8_t range_byte(const struct range *range, struct slice bound)
{
    return bound.data[range->path.size];
}

/* What is not below the low bound in `node`, which is below the high one. */
static enum status take_low_side(struct range *range, memtrie_node node)
{
    while (node != 0) {
        const void *at = memtrie_node_at(range->trie, node);
        enum memtrie_side side = range_side(range, at, range->low);
        if (side == MEMTRIE_BELOW) return STATUS_OK;
        if (side == MEMTRIE_ABOVE) return take(range, true, node);

        path_append(&range->path, memtrie_prefix(at));
        uint8_t byte = range_byte(range, range->low);
        int index;
        memtrie_node next = memtrie_child(at, byte, &index);
        for (int i = (int)memtrie_child_count(at) - 1; i >= index + (next != 0); i--) {
            enum status status = take_part(range, true, at, i);
            if (status != STATUS_OK) return status;
        }
        path_append(&range->path, slice_of(&byte, 1));
        node = next;
    }
    return STATUS_OK;
}

/* What is below the high bound in `node`, which is not below the low one. */
static enum status take_high_side(struct range *range, memtrie_node node)
{
    while (node != 0) {
        const void *at = memtrie_node_at(range->trie, node);
        enum memtrie_side side = range_side(range, at, range->high);
        if (side == MEMTRIE_ABOVE) return STATUS_OK;
        if (side == MEMTRIE_BELOW) return take(range, false, node);

        path_append(&range->path, memtrie_prefix(at));
        uint8_t byte = range_byte(range, range->high);
        int index;
        memtrie_node next = memtrie_child(at, byte, &index);
        for (int i = memtrie_first_index(at); i < index; i++) {
            enum status status = take_part(range, false, at, i);
            if (status != STATUS_OK) return status;
        }
        path_append(&range->path, slice_of(&byte, 1));
        node = next;
    }
    return STATUS_OK;
}

/* Both bounds run through `inner`, by different parts; the path ends with its prefix. */
static enum status take_both_sides(struct range *range, const struct memtrie_inner *inner)
{
    uint8_t low_byte = range_byte(range, range->low), high_byte = range_byte(range, range->high);
    size_t above = range->path.size;
    int low_index, high_index;
    memtrie_node low = memtrie_child(inner, low_byte, &low_index);
    memtrie_node high = memtrie_child(inner, high_byte, &high_index);

    path_append(&range->path, slice_of(&low_byte, 1));
    enum status status = take_low_side(range, low);
    range->path.size = above;
    for (int i = low_index + (low != 0); i < high_index && status == STATUS_OK; i++)
        status = take_part(range, false, inner, i);
    if (status != STATUS_OK) return status;
    path_append(&range->path, slice_of(&high_byte, 1));
    return take_high_side(range, high);
}

static enum status range_take(struct range *range, memtrie_root root)
{
    memtrie_node node = top_node(range->trie, root);
    range->path.size = 0;
    while (node != 0) {
        const void *at = memtrie_node_at(range->trie, node);
        enum memtrie_side low = range_side(range, at, range->low);
        enum memtrie_side high = MEMTRIE_BELOW;
        if (range->high.size != 0) high = range_side(range, at, range->high);
        if (low == MEMTRIE_BELOW || high == MEMTRIE_ABOVE) return STATUS_OK;
        if (high == MEMTRIE_BELOW) return take_low_side(range, node);
        if (low == MEMTRIE_ABOVE) return take_high_side(range, node);

        path_append(&range->path, memtrie_prefix(at));
        uint8_t byte = range_byte(range, range->low);
        if (byte > range_byte(range, range->high)) return STATUS_OK; /* An empty range. */
        if (byte != range_byte(range, range->high)) return take_both_sides(range, at);
        int index;
        node = memtrie_child(at, byte, &index);
        path_append(&range->path, slice_of(&byte, 1));
    }
    return STATUS_OK;
}

struct sum_sink {
    struct sink sink;
    const struct memtrie *trie;
    struct sum sum;
};

static enum status sum_take(struct sink *sink, bool low_side, memtrie_node node, struct slice path)
{
    struct sum_sink *sums = (struct sum_sink *)sink;
    struct memtrie_path copy;
    copy.size = 0;
    path_append(&copy, path);
    sums->sum = sum_add(sums->sum, memtrie_node_sum(sums->trie, node, &copy));
    return STATUS_OK;
}

struct sum memtrie_sum(const struct memtrie *trie, memtrie_root root, struct slice low,
                       struct slice high)
{
    struct sum_sink sums = {.sink.take = sum_take, .trie = trie};
    struct range range;
    range.trie = trie;
    range.sink = &sums.sink;
    range.low = low;
    range.high = high;
    CHECK(range_take(&range, root) == STATUS_OK); /* sum_take() cannot fail. */
    return sums.sum;
}

/* --- Cover --- */

struct late_part {
    memtrie_node node;
    size_t path_size;
    uint8_t last; /* The path's last byte; the others are the low bound's. */
};

struct cover_sink {
    struct sink sink;
    const struct memtrie *trie;
    struct slice low;
    struct buf late; /* Parts of the low side, to be visited from the last to the first. */
    struct buf path;
    enum status (*visit)(void *context, struct slice path, const struct memtrie_part *part);
    void *context;
};

static struct memtrie_part part_of(const struct memtrie *trie, memtrie_node node)
{
    const void *at = node_at(trie, node);
    return (struct memtrie_part){
        .node = node, .best = memtrie_best(at), .is_entry = memtrie_kind(at) != MEMTRIE_INNER};
}

static enum status cover_late(struct cover_sink *cover)
{
    while (cover->late.size > 0) {
        struct late_part late;
        cover->late.size -= sizeof late;
        memcpy(&late, cover->late.data + cover->late.size, sizeof late);

        buf_clear(&cover->path);
        if (late.path_size > 0) {
            buf_append_slice(&cover->path, slice_prefix(cover->low, late.path_size - 1));
            buf_append_u8(&cover->path, late.last);
        }
        if (buf_status(&cover->path) != STATUS_OK) return STATUS_NOMEM;
        struct memtrie_part part = part_of(cover->trie, late.node);
        enum status status = cover->visit(cover->context, buf_slice(&cover->path), &part);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static enum status cover_take(struct sink *sink, bool low_side, memtrie_node node,
                              struct slice path)
{
    struct cover_sink *cover = (struct cover_sink *)sink;
    if (!low_side) {
        enum status status = cover_late(cover);
        if (status != STATUS_OK) return status;
    }
    struct memtrie_part part = part_of(cover->trie, node);
    if (memtrie_live(node_at(cover->trie, node)) == 0) return STATUS_OK;
    if (!low_side) return cover->visit(cover->context, path, &part);

    struct late_part late = {.node = node, .path_size = path.size};
    if (path.size > 0) late.last = path.data[path.size - 1];
    buf_append(&cover->late, &late, sizeof late);
    return buf_status(&cover->late);
}

enum status memtrie_cover(const struct memtrie *trie, memtrie_root root, struct slice low,
                          struct slice high, struct heap *heap,
                          enum status (*visit)(void *context, struct slice path,
                                               const struct memtrie_part *part),
                          void *context)
{
    struct cover_sink cover = {
        .sink.take = cover_take, .trie = trie, .low = low, .visit = visit, .context = context};
    buf_init(&cover.late, heap);
    buf_init(&cover.path, heap);
    struct range range;
    range.trie = trie;
    range.sink = &cover.sink;
    range.low = low;
    range.high = high;

    enum status status = range_take(&range, root);
    if (status == STATUS_OK) status = cover_late(&cover);
    buf_deinit(&cover.late);
    buf_deinit(&cover.path);
    return status;
}
