#include "core/memtrie_node.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/check.h"
#include "base/math.h"

#ifdef __SSE2__
/* Bit i: the i-th of 16 bytes is not less than `byte`. */
static unsigned not_less_bits(const uint8_t *bytes, uint8_t byte)
{
    __m128i values = _mm_loadu_si128((const __m128i *)(const void *)bytes);
    __m128i limit = _mm_set1_epi8((char)byte);
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(values, limit), values));
}

/* The same of bytes [at, at + 16) of `count`, none past their end. What is loaded are the last
 * 16 bytes that end with them, so never more than the node: at worst they begin within its
 * fixed part. */
static unsigned not_less_at(const uint8_t *bytes, size_t at, size_t count, uint8_t byte)
{
    if (at + 16 <= count) return not_less_bits(bytes + at, byte);
    return not_less_bits(bytes + count - 16, byte) >> (16 - (count - at));
}

size_t memtrie_child_index(const struct memtrie_inner *inner, uint8_t byte)
{
    size_t count = memtrie_child_count(inner);
    const uint8_t *bytes = memtrie_child_bytes(inner);
    for (size_t at = 0; at < count; at += 16) {
        unsigned bits = not_less_at(bytes, at, count, byte);
        if (bits != 0) return at + (size_t)__builtin_ctz(bits);
    }
    return count;
}

size_t memtrie_children_within(const struct memtrie_inner *inner, unsigned low, unsigned high,
                               uint8_t indices[MEMTRIE_CHILD_COUNT_MAX])
{
    size_t count = memtrie_child_count(inner), found = 0;
    const uint8_t *bounds = memtrie_child_bounds(inner);
    for (size_t at = 0; at < count; at += 16) {
        unsigned bits = not_less_at(bounds, at, count, (uint8_t)low);
        if (high <= MEMTRIE_BOUND_MAX) bits &= ~not_less_at(bounds, at, count, (uint8_t)high);
        for (; bits != 0; bits &= bits - 1)
            indices[found++] = (uint8_t)(at + (size_t)__builtin_ctz(bits));
    }
    return found;
}
#else
size_t memtrie_child_index(const struct memtrie_inner *inner, uint8_t byte)
{
    size_t count = memtrie_child_count(inner);
    const uint8_t *bytes = memtrie_child_bytes(inner);
    size_t at = 0;
    while (at < count && bytes[at] < byte) at++;
    return at;
}

size_t memtrie_children_within(const struct memtrie_inner *inner, unsigned low, unsigned high,
                               uint8_t indices[MEMTRIE_CHILD_COUNT_MAX])
{
    size_t count = memtrie_child_count(inner), found = 0;
    const uint8_t *bounds = memtrie_child_bounds(inner);
    for (size_t i = 0; i < count; i++)
        if (bounds[i] >= low && bounds[i] < high) indices[found++] = (uint8_t)i;
    return found;
}
#endif

struct best memtrie_parts_best(const struct memtrie *trie, arena_ref terminal,
                               const arena_ref *children, const uint8_t *bounds, size_t child_count)
{
    struct best best = {0};
    uint8_t greatest = 1; /* Where nothing is live there is nothing to find. */
    for (size_t i = 0; i < child_count; i++)
        if (bounds[i] > greatest) greatest = bounds[i];
    for (size_t i = 0; i < child_count; i++)
        if (bounds[i] == greatest) memtrie_prefetch(trie, children[i]);
    if (terminal != 0) best = memtrie_best(arena_at(&trie->arena, terminal));
    for (size_t i = 0; i < child_count; i++)
        if (bounds[i] == greatest)
            best = best_first(best, memtrie_best(arena_at(&trie->arena, children[i])));
    return best;
}

static unsigned leaf_flags(const void *leaf)
{
    return *(const uint8_t *)leaf & ~(unsigned)MEMTRIE_KIND_MASK;
}

struct memtrie_leaf memtrie_leaf_read(const void *leaf)
{
    struct memtrie_leaf out = {.kind = memtrie_kind(leaf), .flags = leaf_flags(leaf)};
    out.suffix = memtrie_suffix(leaf);
    if (out.kind == MEMTRIE_SMALL) {
        const struct memtrie_small *small = leaf;
        out.created = (struct version){small->time, small->node};
        out.score = small->score;
        return out;
    }
    const struct memtrie_wide *wide = leaf;
    out.created = (struct version){wide->time, wide->node};
    out.score = wide->score;
    if (out.kind == MEMTRIE_ENCODED) {
        const struct memtrie_encoded *encoded = leaf;
        out.record = encoded->record;
        out.record_size = encoded->record_size;
    }
    return out;
}

/* Bit for bit: -0.0 is not 0.0. */
static bool fits_u32(double score)
{
    if (!(score >= 0 && score <= UINT32_MAX)) return false;
    double back = (uint32_t)score;
    return memcmp(&back, &score, sizeof score) == 0;
}

enum memtrie_kind memtrie_leaf_kind(const struct memtrie_leaf *leaf, size_t suffix_size)
{
    if (leaf->kind == MEMTRIE_ENCODED) return MEMTRIE_ENCODED;
    bool small = suffix_size <= MEMTRIE_SMALL_SUFFIX_MAX && fits_u32(leaf->score);
    return small ? MEMTRIE_SMALL : MEMTRIE_WIDE;
}

void memtrie_leaf_write(const struct memtrie_leaf *leaf, enum memtrie_kind kind,
                        const struct slice suffix[3], void *out)
{
    size_t suffix_size = suffix[0].size + suffix[1].size + suffix[2].size;
    uint8_t head = (uint8_t)(kind | leaf->flags);
    if (kind == MEMTRIE_SMALL) {
        struct memtrie_small *small = out;
        *small = (struct memtrie_small){head, (uint8_t)suffix_size, leaf->created.node,
                                        (uint32_t)leaf->score, leaf->created.time};
    } else {
        struct memtrie_wide *wide = out;
        *wide = (struct memtrie_wide){.head = head,
                                      .node = leaf->created.node,
                                      .suffix_size = (uint32_t)suffix_size,
                                      .time = leaf->created.time,
                                      .score = leaf->score};
    }
    if (kind == MEMTRIE_ENCODED) {
        struct memtrie_encoded *encoded = out;
        encoded->record = leaf->record;
        encoded->record_size = leaf->record_size;
    }
    uint8_t *at = (uint8_t *)out + memtrie_leaf_bytes(kind, 0);
    for (int i = 0; i < 3; i++) {
        if (suffix[i].size == 0) continue;
        memcpy(at, suffix[i].data, suffix[i].size);
        at += suffix[i].size;
    }
}

void memtrie_leaf_record(const struct memtrie *trie, const void *leaf, struct record *record)
{
    if (memtrie_kind(leaf) == MEMTRIE_SMALL && !memtrie_has(leaf, MEMTRIE_TOMBSTONE)) {
        const struct memtrie_small *small = leaf; /* Nearly all are. */
        *record = record_of_set((struct version){small->time, small->node}, small->score);
        return;
    }
    struct memtrie_leaf read = memtrie_leaf_read(leaf);
    if (read.kind == MEMTRIE_ENCODED) {
        struct slice bytes = slice_of(arena_at(&trie->arena, read.record), read.record_size);
        CHECK(record_decode(bytes, record) == STATUS_OK);
    } else if (read.flags & MEMTRIE_TOMBSTONE) {
        *record = record_of_tombstone(read.created);
    } else {
        *record = record_of_set(read.created, read.score);
    }
}

enum memtrie_side memtrie_side(const void *node, struct slice rest)
{
    struct slice own = memtrie_own(node);
    size_t shared = slice_common_prefix(own, rest);
    if (shared == rest.size) return MEMTRIE_ABOVE;
    if (shared == own.size)
        return memtrie_kind(node) == MEMTRIE_INNER ? MEMTRIE_ACROSS : MEMTRIE_BELOW;
    return own.data[shared] > rest.data[shared] ? MEMTRIE_ABOVE : MEMTRIE_BELOW;
}

static void path_append(struct memtrie_path *path, struct slice bytes)
{
    CHECK(bytes.size <= sizeof path->bytes - path->size);
    if (bytes.size != 0) memcpy(path->bytes + path->size, bytes.data, bytes.size);
    path->size += bytes.size;
}

static struct sum leaf_sum(const struct memtrie *trie, const void *leaf, struct memtrie_path *path)
{
    size_t above = path->size;
    path_append(path, memtrie_suffix(leaf));
    struct record record;
    memtrie_leaf_record(trie, leaf, &record);
    struct sum sum = record_hash(slice_of(path->bytes, path->size), &record, trie->hash_seed);
    path->size = above;
    return sum;
}

struct sum_frame {
    const struct memtrie_inner *inner;
    int next;         /* Index of the part to take next. */
    size_t path_size; /* With the prefix. */
};

/* Each inner node on a path has an entry beside it, so the stack has a bound. */
struct sum memtrie_walk_sum(const struct memtrie *trie, memtrie_node node,
                            struct memtrie_path *path)
{
    const struct memtrie_inner *inner = arena_at(&trie->arena, node);
    struct sum_frame frames[MEMTRIE_SUM_COUNT_MIN];
    size_t depth = 0;
    size_t above = path->size;
    struct sum sum = {0};

    path_append(path, memtrie_prefix(inner));
    frames[depth++] = (struct sum_frame){inner, memtrie_first_index(inner), path->size};
    while (depth > 0) {
        struct sum_frame *frame = &frames[depth - 1];
        if (frame->next == (int)memtrie_child_count(frame->inner)) {
            depth--;
            continue;
        }
        int index = frame->next++;
        const void *part = arena_at(&trie->arena, memtrie_part(frame->inner, index));
        path->size = frame->path_size;
        if (index != MEMTRIE_TERMINAL)
            path_append(path, slice_of(&memtrie_child_bytes(frame->inner)[index], 1));
        if (memtrie_kind(part) != MEMTRIE_INNER) {
            sum = sum_add(sum, leaf_sum(trie, part, path));
            continue;
        }
        CHECK(depth < MEMTRIE_SUM_COUNT_MIN);
        path_append(path, memtrie_prefix(part));
        frames[depth++] = (struct sum_frame){part, memtrie_first_index(part), path->size};
    }
    path->size = above;
    return sum;
}

struct sum memtrie_node_sum(const struct memtrie *trie, memtrie_node node,
                            struct memtrie_path *path)
{
    const void *at = arena_at(&trie->arena, node);
    if (memtrie_kind(at) != MEMTRIE_INNER) return leaf_sum(trie, at, path);
    if (!memtrie_has(at, MEMTRIE_HAS_SUM)) return memtrie_walk_sum(trie, node, path);
    struct sum sum;
    memcpy(&sum, (const struct memtrie_inner *)at + 1, sizeof sum);
    return sum;
}
