#include "cluster/split.h"

#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "core/key.h"

enum {
    LEAST_PERCENT = 40, /* On either side of a cut, when that is possible. */
    HOT_PERCENT = 15,   /* On the lesser side, where one key is so hot that it is not. */
    COLD_PART = 4,      /* Load at which shards merge: this part of the load at which they split. */
    MAP_RESERVE_BYTES = RANGEMAP_BYTES_MAX / 16, /* Room in the map that cuts leave to moves. */
};

const struct split_limits split_limits_default = {
    .load_max = 20000, .split_after_ms = 60 * 1000, .merge_after_ms = 600 * 1000};

/* --- Keys of a query --- */

static enum status query_keys_count(void *context, struct key_range range, uint64_t *count)
{
    struct query query = *(struct query *)context;
    query.ranges = &range;
    query.range_count = 1;
    return query_count(&query, (struct slice){NULL, 0}, count);
}

static enum status query_keys_select(void *context, struct key_range range, uint64_t rank,
                                     struct buf *key)
{
    struct query query = *(struct query *)context;
    query.ranges = &range;
    query.range_count = 1;
    return query_select(&query, (struct slice){NULL, 0}, rank, key);
}

struct split_keys split_keys_of_query(struct query *query)
{
    return (struct split_keys){query, query_keys_count, query_keys_select};
}

/* --- Keys of requests: a sorted list, with repetitions --- */

struct requests {
    const struct slice *keys;
    size_t count;
};

/* Requests for keys below `key`. */
static size_t requests_below(const struct requests *requests, struct slice key)
{
    size_t low = 0;
    size_t high = requests->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_compare(requests->keys[middle], key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum status requests_count(void *context, struct key_range range, uint64_t *count)
{
    const struct requests *requests = context;
    size_t end = range.high.size == 0 ? requests->count : requests_below(requests, range.high);
    size_t first = requests_below(requests, range.low);
    *count = end > first ? end - first : 0;
    return STATUS_OK;
}

static enum status requests_select(void *context, struct key_range range, uint64_t rank,
                                   struct buf *key)
{
    const struct requests *requests = context;
    size_t index = requests_below(requests, range.low) + (size_t)rank;
    buf_clear(key);
    if (index >= requests->count) return STATUS_NOT_FOUND;
    buf_append_slice(key, requests->keys[index]);
    return buf_status(key);
}

/* --- One cut --- */

struct finding {
    const struct split_keys *keys;
    struct key_range range;
    uint64_t total;
    struct buf a, b, middle; /* Keys. */
    struct buf *cut;         /* The best so far, empty: none. */
    uint64_t before;         /* Keys before it. */
};

static void finding_open(struct finding *finding, const struct split_keys *keys,
                         struct key_range range, struct heap *heap, struct buf *cut)
{
    *finding = (struct finding){.keys = keys, .range = range, .cut = cut};
    buf_init(&finding->a, heap);
    buf_init(&finding->b, heap);
    buf_init(&finding->middle, heap);
    buf_clear(cut);
}

static void finding_close(struct finding *finding)
{
    buf_deinit(&finding->a);
    buf_deinit(&finding->b);
    buf_deinit(&finding->middle);
}

static enum status select_key(const struct finding *finding, uint64_t rank, struct buf *key)
{
    return finding->keys->select(finding->keys->context, finding->range, rank, key);
}

static enum status count_before(const struct finding *finding, struct slice key, uint64_t *count)
{
    struct key_range part = {finding->range.low, key};
    return finding->keys->count(finding->keys->context, part, count);
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* Takes the cut if it is more even than the best so far. */
static enum status take_cut(struct finding *finding, struct slice cut, uint64_t before)
{
    uint64_t off = distance(2 * before, finding->total);
    if (finding->cut->size > 0 && off >= distance(2 * finding->before, finding->total)) {
        return STATUS_OK;
    }
    buf_clear(finding->cut);
    buf_append_slice(finding->cut, cut);
    finding->before = before;
    return buf_status(finding->cut);
}

/* Takes the cut between the key with that rank and the one before, if these differ: the key up to
 * where they part. */
static enum status take_boundary(struct finding *finding, uint64_t rank)
{
    if (rank == 0 || rank >= finding->total) return STATUS_OK;
    enum status status = select_key(finding, rank - 1, &finding->a);
    if (status == STATUS_OK) status = select_key(finding, rank, &finding->b);
    if (status != STATUS_OK) return status;
    struct slice b = buf_slice(&finding->b);
    size_t shared = slice_common_prefix(buf_slice(&finding->a), b);
    if (shared == b.size) return STATUS_OK;
    return take_cut(finding, slice_prefix(b, shared + 1), rank);
}

/* The boundary at the first key that is at least `key`. */
static enum status take_boundary_at(struct finding *finding, struct slice key)
{
    uint64_t rank;
    enum status status = count_before(finding, key, &rank);
    if (status != STATUS_OK) return status;
    return take_boundary(finding, rank);
}

/* One key, in `middle`, has all that lies between the bounds: before it, or after it. */
static enum status cut_beside_hot(struct finding *finding)
{
    enum status status = take_boundary_at(finding, buf_slice(&finding->middle));
    if (status != STATUS_OK) return status;
    buf_append_u8(&finding->middle, 0); /* The least key after it. */
    if (finding->middle.failed) return STATUS_NOMEM;
    status = take_boundary_at(finding, buf_slice(&finding->middle));
    if (status != STATUS_OK) return status;
    uint64_t lesser = u64_min(finding->before, finding->total - finding->before);
    if (lesser * 100 < finding->total * HOT_PERCENT) buf_clear(finding->cut);
    return STATUS_OK;
}

/* The node where the keys of `a` and `b` part, `depth` bytes down, is the shallowest that has a
 * cut between them. Of its children the one that the middle key is under may begin there, or
 * the next one. Keys with a rank below `low` and above `high` are out of bounds. */
static enum status cut_at_node(struct finding *finding, size_t depth, uint64_t low, uint64_t high)
{
    enum status status = STATUS_OK;
    uint64_t before;
    struct slice middle = buf_slice(&finding->middle);
    if (middle.size > depth) {
        struct slice child = slice_prefix(middle, depth + 1);
        status = count_before(finding, child, &before);
        if (status != STATUS_OK) return status;
        if (before >= low && before <= high) status = take_cut(finding, child, before);
        if (status != STATUS_OK || child.data[depth] == UINT8_MAX) return status;
        finding->middle.size = depth + 1;
        finding->middle.data[depth]++;
    } else {
        buf_append_u8(&finding->middle, 0); /* It is the node; its first child comes after. */
        if (finding->middle.failed) return STATUS_NOMEM;
    }
    status = count_before(finding, buf_slice(&finding->middle), &before);
    if (status != STATUS_OK || before < low || before > high) return status;
    status = select_key(finding, before, &finding->b);
    if (status != STATUS_OK) return status;
    CHECK(finding->b.size > depth);
    return take_cut(finding, slice_prefix(buf_slice(&finding->b), depth + 1), before);
}

static enum status find_even_cut(struct finding *finding)
{
    uint64_t total = finding->total;
    uint64_t low = (total * LEAST_PERCENT + 99) / 100;
    uint64_t high = total - low;
    if (low > high || low == 0) low = high = total / 2;

    enum status status = select_key(finding, low - 1, &finding->a);
    if (status == STATUS_OK) status = select_key(finding, high, &finding->b);
    if (status == STATUS_OK) status = select_key(finding, total / 2, &finding->middle);
    if (status != STATUS_OK) return status;
    struct slice a = buf_slice(&finding->a);
    struct slice b = buf_slice(&finding->b);
    if (slice_equal(a, b)) return cut_beside_hot(finding);
    return cut_at_node(finding, slice_common_prefix(a, b), low, high);
}

static enum status finish(struct finding *finding, enum status status, uint64_t *before)
{
    if (status == STATUS_OK && finding->cut->size == 0) status = STATUS_NOT_FOUND;
    if (status == STATUS_OK) *before = finding->before;
    finding_close(finding);
    return status;
}

enum status split_find_cut(const struct split_keys *keys, struct key_range range, struct heap *heap,
                           struct buf *cut, uint64_t *before)
{
    struct finding finding;
    finding_open(&finding, keys, range, heap, cut);
    enum status status = keys->count(keys->context, range, &finding.total);
    if (status == STATUS_OK && finding.total >= 2) status = find_even_cut(&finding);
    return finish(&finding, status, before);
}

/* --- k_factor --- */

/* How long the beginning of the key is that holds the namespace and `factor` bytes of the word. */
static size_t group_size(struct slice key, size_t factor)
{
    size_t size = 0;
    while (size < key.size && key.data[size] != 0) size++;
    if (size < key.size) size++;
    for (size_t bytes = 0; bytes < factor && size < key.size && key.data[size] != 0; bytes++) {
        /* 01 begins two bytes that stand for one. */
        size += key.data[size] == 1 && size + 1 < key.size ? 2 : 1;
    }
    return size;
}

/* The most even cut between words that differ in their first `factor` bytes, or in their
 * namespace, with at least `least` keys on either side. What lies beside the middle key's group is
 * all that can be: any other cut leaves less on one of the sides. */
static enum status find_group_cut(const struct split_keys *keys, struct key_range range,
                                  size_t factor, uint64_t least, struct heap *heap, struct buf *cut,
                                  uint64_t *before)
{
    struct finding finding;
    struct buf end;
    finding_open(&finding, keys, range, heap, cut);
    buf_init(&end, heap);
    enum status status = keys->count(keys->context, range, &finding.total);
    if (status == STATUS_OK && finding.total >= 2) {
        status = select_key(&finding, finding.total / 2, &finding.middle);
        if (status != STATUS_OK) goto done;
        finding.middle.size = group_size(buf_slice(&finding.middle), factor);
        status = take_boundary_at(&finding, buf_slice(&finding.middle));
        if (status != STATUS_OK) goto done;
        status = key_prefix_end(buf_slice(&finding.middle), &end);
        if (status != STATUS_OK) goto done;
        if (end.size > 0) status = take_boundary_at(&finding, buf_slice(&end));
        uint64_t lesser = u64_min(finding.before, finding.total - finding.before);
        if (lesser < least) buf_clear(cut);
    }
done:
    buf_deinit(&end);
    return finish(&finding, status, before);
}

/* --- The plan --- */

struct planning {
    const struct split_input *input;
    struct buf *delta;
    size_t split_count, merge_count;
    uint64_t map_bytes; /* What the map will take. */
};

/* A part of a shard: what it holds, as far as ranks can tell. */
struct part {
    struct key_range range;
    uint64_t bytes, load;
    uint64_t owner_bytes; /* Of a row of the map. */
};

static bool may_split(const struct planning *planning, const struct part *part)
{
    const struct rangemap *map = planning->input->map;
    return planning->split_count < RANGEMAP_SPLITS_MAX &&
           rangemap_shard_count(map) + planning->split_count < RANGEMAP_SHARDS_MAX &&
           planning->map_bytes + part->owner_bytes < RANGEMAP_BYTES_MAX - MAP_RESERVE_BYTES;
}

/* `part` of `whole`, for a `share` of `total`. */
static uint64_t portion(uint64_t whole, uint64_t share, uint64_t total)
{
    return total == 0 ? 0 : (uint64_t)((double)whole * (double)share / (double)total);
}

/* Where to cut the part; STATUS_NOT_FOUND: nowhere. `*share` of `*total` is before the cut. */
static enum status find_cut(const struct planning *planning, const struct part *part,
                            struct buf *cut, uint64_t *share, uint64_t *total)
{
    const struct split_input *input = planning->input;
    const struct rangemap_settings *settings = rangemap_settings(input->map);
    const struct split_keys *keys = &input->keys;
    enum status status = keys->count(keys->context, part->range, total);
    if (status != STATUS_OK) return status;
    if (part->bytes > settings->shard_split_bytes) {
        return split_find_cut(keys, part->range, input->heap, cut, share);
    }
    if (part->load > input->limits->load_max) {
        struct requests requests = {input->requests, input->request_count};
        struct split_keys hot = {&requests, requests_count, requests_select};
        status = split_find_cut(&hot, part->range, input->heap, cut, share);
        if (status != STATUS_OK) return status;
        return hot.count(&requests, part->range, total);
    }
    if (settings->k_factor == 0 || part->bytes < 2 * settings->shard_min_bytes) {
        return STATUS_NOT_FOUND;
    }
    /* Rounded up: either side holds the least. */
    uint64_t least = portion(*total, settings->shard_min_bytes, part->bytes) + 1;
    return find_group_cut(keys, part->range, settings->k_factor, least, input->heap, cut, share);
}

static enum status cut_part(struct planning *planning, const struct part *part);

static enum status cut_parts_of(struct planning *planning, const struct part *part,
                                struct slice cut, uint64_t share, uint64_t total)
{
    struct change change = {.kind = CHANGE_SPLIT, .low = cut};
    rangemap_delta_add(planning->delta, &change);
    if (planning->delta->failed) return STATUS_NOMEM;
    planning->split_count++;
    planning->map_bytes += part->owner_bytes + cut.size;

    struct part left = *part;
    left.range.high = cut;
    left.bytes = portion(part->bytes, share, total);
    left.load = portion(part->load, share, total);
    struct part right = *part;
    right.range.low = cut;
    right.bytes = part->bytes - left.bytes;
    right.load = part->load - left.load;
    enum status status = cut_part(planning, &left);
    if (status != STATUS_OK) return status;
    return cut_part(planning, &right);
}

/* Cuts the part, and its parts, until they need no cut. At most RANGEMAP_SPLITS_MAX deep. */
static enum status cut_part(struct planning *planning, const struct part *part)
{
    if (!may_split(planning, part)) return STATUS_OK;
    struct buf cut;
    uint64_t share = 0;
    uint64_t total = 0;
    buf_init(&cut, planning->input->heap);
    enum status status = find_cut(planning, part, &cut, &share, &total);
    bool fits = planning->delta->size + cut.size + 16 <= RANGEMAP_DELTA_BYTES_MAX / 2;
    if (status == STATUS_OK && fits) {
        status = cut_parts_of(planning, part, buf_slice(&cut), share, total);
    }
    buf_deinit(&cut);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status plan_splits(struct planning *planning)
{
    const struct split_input *input = planning->input;
    for (size_t i = 0; i < rangemap_shard_count(input->map); i++) {
        const struct split_view *view = &input->views[i];
        if (!view->known || view->still_ms < input->limits->split_after_ms) continue;
        struct shard shard = rangemap_shard(input->map, i);
        size_t owner_count = (size_t)shard.owners.count + shard.next.count;
        struct part part = {
            .range = {shard_first_key(&shard), shard.high},
            .bytes = view->bytes,
            .load = view->load,
            .owner_bytes = 24 + owner_count * sizeof(node_id),
        };
        enum status status = cut_part(planning, &part);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static bool may_merge(const struct split_input *input, size_t index)
{
    const struct split_view *view = &input->views[index];
    return view->known && view->still_ms >= input->limits->merge_after_ms &&
           rangemap_shard(input->map, index).stage == SHARD_STABLE;
}

/* Runs of small, cold shards become one each. */
static void plan_merges(struct planning *planning)
{
    const struct split_input *input = planning->input;
    uint64_t bytes_max = rangemap_settings(input->map)->shard_min_bytes;
    uint64_t load_max = input->limits->load_max / COLD_PART;
    uint64_t bytes = 0;
    uint64_t load = 0;
    bool run = false; /* The shard before may be merged with; it holds these, with others. */
    for (size_t i = 0; i < rangemap_shard_count(input->map); i++) {
        const struct split_view *view = &input->views[i];
        if (!may_merge(input, i)) {
            run = false;
            continue;
        }
        struct shard shard = rangemap_shard(input->map, i);
        bool joins = false;
        if (run && bytes + view->bytes < bytes_max && load + view->load < load_max) {
            struct shard before = rangemap_shard(input->map, i - 1);
            joins = owners_equal(&before.owners, &shard.owners) &&
                    planning->merge_count < RANGEMAP_SPLITS_MAX &&
                    planning->delta->size + shard.low.size + 16 <= RANGEMAP_DELTA_BYTES_MAX;
        }
        if (joins) {
            struct change change = {.kind = CHANGE_MERGE, .low = shard.low};
            rangemap_delta_add(planning->delta, &change);
            planning->merge_count++;
        }
        bytes = (joins ? bytes : 0) + view->bytes;
        load = (joins ? load : 0) + view->load;
        run = true;
    }
}

enum status split_plan(const struct split_input *input, struct buf *delta, size_t *count)
{
    struct planning planning = {.input = input, .delta = delta};
    planning.map_bytes = rangemap_memory_bytes(input->map);
    enum status status = plan_splits(&planning);
    if (status != STATUS_OK) return status;
    plan_merges(&planning);
    if (delta->failed) return STATUS_NOMEM;
    *count = planning.split_count + planning.merge_count;
    return STATUS_OK;
}
