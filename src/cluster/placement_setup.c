/* What a plan starts from: nodes, zones, shares, and who has what. */
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "cluster/placement_private.h"

uint64_t placing_ratio(const struct place_node *node, uint64_t more)
{
    if (node->target == 0) return PLACEMENT_NEVER;
    return u64_min((node->load + more) * PLACEMENT_EVEN / node->target, PLACEMENT_NEVER - 1);
}

/* --- Shares --- */

struct share {
    uint64_t capacity, least, most, *target;
    bool fixed;
};

/* Parts of `total` by capacity, each within its bounds: who would get too much gets the most that
 * it can, who would get too little the least, and the others share the rest. */
static void share_out(struct share *shares, size_t count, uint64_t total)
{
    for (bool changed = true; changed;) {
        changed = false;
        uint64_t left = total;
        uint64_t capacity = 0;
        for (size_t i = 0; i < count; i++) {
            if (shares[i].fixed) {
                left -= u64_min(left, *shares[i].target);
            } else {
                capacity += shares[i].capacity;
            }
        }
        for (int pass = 0; pass < 2 && !changed; pass++) {
            for (size_t i = 0; i < count; i++) {
                struct share *share = &shares[i];
                if (share->fixed) continue;
                *share->target = capacity == 0 ? 0 : left * share->capacity / capacity;
                bool beyond = pass == 0 ? *share->target > share->most
                                        : *share->target < share->least;
                if (!beyond) continue;
                *share->target = pass == 0 ? share->most : share->least;
                share->fixed = true;
                changed = true;
            }
        }
    }
}

/* The least number of owners a zone with which all zones together have room for the factor. */
static uint32_t find_zone_limit(const struct placing *placing)
{
    for (uint32_t limit = 1; limit < placing->factor; limit++) {
        uint64_t room = 0;
        for (size_t z = 0; z < placing->zone_count; z++) {
            room += u64_min(limit, placing->zones[z].nodes);
        }
        if (room >= placing->factor) return limit;
    }
    return placing->factor;
}

void placing_set_targets(struct placing *placing)
{
    for (size_t i = 0; i < placing->node_count; i++) {
        const struct place_node *node = &placing->nodes[i];
        if (!node->keeps) continue;
        placing->zones[node->zone].nodes++;
        placing->zones[node->zone].capacity += node->capacity;
    }
    placing->zone_limit = find_zone_limit(placing);

    struct share shares[RANGEMAP_MEMBERS_MAX];
    uint64_t room = 0;
    for (size_t z = 0; z < placing->zone_count; z++) {
        room += u64_min(placing->zone_limit, placing->zones[z].nodes);
    }
    for (size_t z = 0; z < placing->zone_count; z++) {
        struct place_zone *zone = &placing->zones[z];
        uint64_t most = u64_min(placing->zone_limit, zone->nodes);
        uint64_t others = room - most;
        uint64_t least = placing->factor > others ? placing->factor - others : 0;
        shares[z] = (struct share){.capacity = zone->capacity,
                                   .least = least * placing->total,
                                   .most = most * placing->total,
                                   .target = &zone->target};
    }
    share_out(shares, placing->zone_count, placing->total * placing->factor);

    for (size_t z = 0; z < placing->zone_count; z++) {
        size_t count = 0;
        for (size_t i = 0; i < placing->node_count; i++) {
            struct place_node *node = &placing->nodes[i];
            if (!node->keeps || node->zone != z) continue;
            shares[count++] = (struct share){
                .capacity = node->capacity, .most = placing->total, .target = &node->target};
        }
        share_out(shares, count, placing->zones[z].target);
    }
}

/* --- Nodes, shards --- */

static void add_nodes(struct placing *placing)
{
    for (size_t i = 0; i < placing->node_count; i++) {
        struct member member = rangemap_member(placing->map, i);
        bool keeps = member.state != MEMBER_EXCLUDED && !member.leaving;
        size_t zone = placing->zone_count;
        for (size_t j = 0; j < i && zone == placing->zone_count; j++) {
            struct member other = rangemap_member(placing->map, j);
            if (slice_equal(other.zone, member.zone)) zone = placing->nodes[j].zone;
        }
        if (zone == placing->zone_count) placing->zone_count++;
        placing->nodes[i] = (struct place_node){
            .id = member.id,
            .capacity = member.capacity,
            .zone = (uint16_t)zone,
            .keeps = keeps,
            .receives = keeps && member.state == MEMBER_ACTIVE,
        };
    }
}

static uint16_t index_of(const struct placing *placing, node_id id)
{
    size_t low = 0;
    size_t high = placing->node_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (placing->nodes[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    CHECK(low < placing->node_count && placing->nodes[low].id == id);
    return (uint16_t)low;
}

static void weigh_shards(struct placing *placing, const struct shard_weight *weights)
{
    uint64_t bytes = 0;
    uint64_t load = 0;
    for (size_t i = 0; i < placing->shard_count; i++) {
        bytes += weights[i].bytes;
        load += weights[i].load;
    }
    uint64_t bytes_unit = bytes / PLACEMENT_WHOLE + 1;
    uint64_t load_unit = load / PLACEMENT_WHOLE + 1;
    /* Sums too small to be parts of the whole are scaled up. */
    uint64_t bytes_times = PLACEMENT_WHOLE / (bytes + 1) + 1;
    uint64_t load_times = PLACEMENT_WHOLE / (load + 1) + 1;
    for (size_t i = 0; i < placing->shard_count; i++) {
        uint64_t weight = weights[i].bytes * bytes_times / bytes_unit +
                          weights[i].load * load_times / load_unit + 1;
        placing->shards[i].weight = (uint32_t)weight;
        placing->total += weight;
    }
}

static void add_shards(struct placing *placing)
{
    for (size_t i = 0; i < placing->shard_count; i++) {
        struct shard shard = rangemap_shard(placing->map, i);
        const struct owners *owners = shard.stage == SHARD_STABLE ? &shard.owners : &shard.next;
        struct place_shard *row = &placing->shards[i];
        row->fixed = shard.stage != SHARD_STABLE;
        row->count = owners->count;
        for (size_t o = 0; o < owners->count; o++) {
            uint16_t node = index_of(placing, owners->ids[o]);
            row->nodes[o] = node;
            placing->nodes[node].load += row->weight;
            placing->nodes[node].list_size++;
            bool moves_in = row->fixed && !owners_contain(&shard.owners, owners->ids[o]);
            placing->nodes[node].moves_in += moves_in;
        }
    }
}

static void add_lists(struct placing *placing)
{
    uint32_t at = 0;
    for (size_t i = 0; i < placing->node_count; i++) {
        placing->nodes[i].list = at;
        at += placing->nodes[i].list_size;
        placing->nodes[i].list_size = 0;
    }
    for (size_t i = 0; i < placing->shard_count; i++) {
        const struct place_shard *shard = &placing->shards[i];
        for (size_t o = 0; o < shard->count; o++) {
            struct place_node *node = &placing->nodes[shard->nodes[o]];
            placing->lists[node->list + node->list_size++] = (uint32_t)i;
        }
    }
}

enum status placing_open(struct placing *placing, const struct rangemap *map,
                         const struct shard_weight *weights, const struct placement_bounds *bounds,
                         struct heap *heap)
{
    size_t node_count = rangemap_member_count(map);
    size_t shard_count = rangemap_shard_count(map);
    *placing = (struct placing){
        .map = map,
        .bounds = bounds,
        .weights = weights,
        .heap = heap,
        .node_count = (uint16_t)node_count,
        .shard_count = shard_count,
        .factor = rangemap_effective_factor(map),
    };
    placing->nodes = heap_zalloc(heap, node_count * sizeof *placing->nodes);
    placing->zones = heap_zalloc(heap, node_count * sizeof *placing->zones);
    placing->shards = heap_zalloc(heap, shard_count * sizeof *placing->shards);
    placing->pairs = heap_zalloc(heap, node_count * node_count * sizeof *placing->pairs);
    placing->lists = heap_alloc(heap, shard_count * RANGEMAP_OWNERS_MAX * sizeof *placing->lists);
    if (placing->nodes == NULL || placing->zones == NULL || placing->shards == NULL ||
        placing->pairs == NULL || placing->lists == NULL) {
        placing_close(placing);
        return STATUS_NOMEM;
    }
    add_nodes(placing);
    weigh_shards(placing, weights);
    add_shards(placing);
    add_lists(placing);
    placing_set_targets(placing);
    return STATUS_OK;
}

void placing_close(struct placing *placing)
{
    heap_free(placing->heap, placing->nodes);
    heap_free(placing->heap, placing->zones);
    heap_free(placing->heap, placing->shards);
    heap_free(placing->heap, placing->pairs);
    heap_free(placing->heap, placing->lists);
}
