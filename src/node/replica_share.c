/* What this node owns, and with whom: worked out once for each map, so that what looks at it each
 * second costs as much as this node owns and not as much as there is. */
#include "base/math.h"
#include "cluster/data_message.h"
#include "node/replica_private.h"

static bool takes(const struct shard *shard, node_id id)
{
    return owners_contain(&shard->owners, id) || owners_contain(&shard->next, id);
}

/* --- Lists that grow --- */

static bool append_index(struct heap *heap, struct index_list *list, size_t index)
{
    if (list->count == list->capacity) {
        size_t capacity = size_max(16, list->capacity * 2);
        uint32_t *more = heap_realloc(heap, list->at, capacity * sizeof *more);
        if (more == NULL) return false;
        list->at = more;
        list->capacity = capacity;
    }
    list->at[list->count++] = (uint32_t)index;
    return true;
}

/* One bit for each id. */
static void mark(uint8_t *ids, const struct owners *owners)
{
    for (size_t i = 0; i < owners->count; i++)
        ids[owners->ids[i] / 8] |= (uint8_t)(1 << owners->ids[i] % 8);
}

static enum status list_peers(struct heap *heap, const struct rangemap *map, node_id self,
                              struct shares *shares)
{
    uint8_t *ids = heap_zalloc(heap, NODE_ID_MAX / 8 + 1);
    size_t count = rangemap_member_count(map);
    shares->peers = heap_alloc(heap, (count + 1) * sizeof *shares->peers);
    if (ids == NULL || shares->peers == NULL) {
        heap_free(heap, ids);
        return STATUS_NOMEM;
    }
    for (size_t i = 0; i < shares->owned.count; i++) {
        struct shard shard = rangemap_shard(map, shares->owned.at[i]);
        mark(ids, &shard.owners);
        mark(ids, &shard.next);
    }
    for (size_t i = 0; i < count; i++) {
        node_id id = rangemap_member(map, i).id;
        if (id != self && (ids[id / 8] & 1 << id % 8) != 0)
            shares->peers[shares->peer_count++] = id;
    }
    heap_free(heap, ids);
    return STATUS_OK;
}

enum status shares_build(struct heap *heap, const struct rangemap *map, node_id self,
                         struct shares *out)
{
    struct shares shares = {0};
    bool good = true;
    for (size_t i = 0; good && i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        if (takes(&shard, self)) good = append_index(heap, &shares.owned, i);
        if (good && shard.stage != SHARD_STABLE) good = append_index(heap, &shares.moving, i);
    }
    enum status status = good ? list_peers(heap, map, self, &shares) : STATUS_NOMEM;
    if (status == STATUS_OK)
        *out = shares;
    else
        shares_free(heap, &shares);
    return status;
}

void shares_free(struct heap *heap, struct shares *shares)
{
    heap_free(heap, shares->owned.at);
    heap_free(heap, shares->moving.at);
    heap_free(heap, shares->peers);
    *shares = (struct shares){0};
}

/* --- Ranges --- */

struct joining {
    struct key_range range;
    bool open;
};

/* Neighbours become one range. */
static void join_next(struct joining *joining, const struct shard *shard, struct buf *out)
{
    struct slice low = shard_first_key(shard);
    if (joining->open && slice_equal(joining->range.high, low)) {
        joining->range.high = shard->high;
        return;
    }
    if (joining->open) data_range_append(out, &joining->range);
    *joining = (struct joining){{low, shard->high}, true};
}

static void join_end(const struct joining *joining, struct buf *out)
{
    if (joining->open) data_range_append(out, &joining->range);
}

void shares_ranges(const struct shares *shares, const struct rangemap *map, node_id peer,
                   struct buf *out)
{
    struct joining joining = {0};
    for (size_t i = 0; i < shares->owned.count; i++) {
        struct shard shard = rangemap_shard(map, shares->owned.at[i]);
        if (peer == 0 || takes(&shard, peer)) join_next(&joining, &shard, out);
    }
    join_end(&joining, out);
}

void shares_settled(const struct shares *shares, const struct rangemap *map, node_id self,
                    node_id peer, struct buf *out)
{
    struct joining joining = {0};
    for (size_t i = 0; i < shares->owned.count; i++) {
        struct shard shard = rangemap_shard(map, shares->owned.at[i]);
        if (owners_contain(&shard.owners, self) && owners_contain(&shard.owners, peer))
            join_next(&joining, &shard, out);
    }
    join_end(&joining, out);
}

bool ranges_contain(struct slice ranges, struct slice key)
{
    struct key_range range;
    while (data_range_next(&ranges, &range)) {
        if (slice_compare(key, range.low) < 0) return false;
        if (range.high.size == 0 || slice_compare(key, range.high) < 0) return true;
    }
    return false;
}

/* Both are joined, so that what lies in `all` lies in one range of it. */
bool ranges_cover(struct slice all, struct slice some)
{
    struct key_range outer = {0}, inner;
    bool have = data_range_next(&all, &outer);
    while (data_range_next(&some, &inner)) {
        while (have && outer.high.size > 0 && slice_compare(outer.high, inner.low) <= 0)
            have = data_range_next(&all, &outer);
        if (!have || slice_compare(inner.low, outer.low) < 0) return false;
        bool ends = outer.high.size == 0 ||
                    (inner.high.size > 0 && slice_compare(inner.high, outer.high) <= 0);
        if (!ends) return false;
    }
    return true;
}

/* The end of nothing is before every key, that of the last range behind all. */
static bool reaches(struct slice high, struct slice key)
{
    return high.size == 0 || slice_compare(key, high) <= 0;
}

void ranges_unite(struct slice a, struct slice b, struct buf *out)
{
    struct key_range left, right, range = {0};
    bool have_left = data_range_next(&a, &left), have_right = data_range_next(&b, &right);
    bool open = false;
    while (have_left || have_right) {
        bool take_left = have_left && (!have_right || slice_compare(left.low, right.low) <= 0);
        struct key_range next = take_left ? left : right;
        if (take_left)
            have_left = data_range_next(&a, &left);
        else
            have_right = data_range_next(&b, &right);
        if (open && reaches(range.high, next.low)) {
            bool further = range.high.size > 0 &&
                           (next.high.size == 0 || slice_compare(next.high, range.high) > 0);
            if (further) range.high = next.high;
            continue;
        }
        if (open) data_range_append(out, &range);
        range = next;
        open = true;
    }
    if (open) data_range_append(out, &range);
}
