#include "cluster/rangemap.h"

#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "cluster/rangemap_private.h"

enum { DAY_MS = 24 * 3600 * 1000 };

const struct rangemap_settings rangemap_settings_default = {
    .replication_factor = 3,
    .write_consistency = CONSISTENCY_QUORUM,
    .read_consistency = CONSISTENCY_ONE,
    .k_factor = 1,
    .shard_min_bytes = 1 << 20,
    .shard_split_bytes = 128 << 20,
    .tombstone_gc_ms = UINT64_C(10) * DAY_MS,
    .gossip_interval_ms = 1000,
    .max_clock_skew_ms = 5000,
};

bool owners_same_nodes(const struct owners *a, const struct owners *b)
{
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->ids, b->ids, a->count * sizeof *a->ids) == 0);
}

bool owners_equal(const struct owners *a, const struct owners *b)
{
    return owners_same_nodes(a, b) && a->write_quorum == b->write_quorum &&
           a->read_quorum == b->read_quorum;
}

struct rangemap *rangemap_ref(struct rangemap *map)
{
    atomic_fetch_add_explicit(&map->references, 1, memory_order_relaxed);
    return map;
}

void rangemap_unref(struct rangemap *map)
{
    if (map == NULL) return;
    /* Release: what this thread read is read before another frees; acquire: and is seen so. */
    if (atomic_fetch_sub_explicit(&map->references, 1, memory_order_acq_rel) != 1) return;
    heap_free(map->heap, map->members);
    heap_free(map->heap, map->shards);
    heap_free(map->heap, map->bytes);
    heap_free(map->heap, map->ids);
    heap_free(map->heap, map);
}

size_t rangemap_memory_bytes(const struct rangemap *map)
{
    return sizeof *map + map->member_count * sizeof *map->members +
           map->shard_count * sizeof *map->shards + map->byte_count +
           map->id_count * sizeof *map->ids;
}

const struct rangemap_identity *rangemap_identity(const struct rangemap *map)
{
    return &map->identity;
}

const struct rangemap_settings *rangemap_settings(const struct rangemap *map)
{
    return &map->settings;
}

uint32_t rangemap_next_id(const struct rangemap *map)
{
    return map->next_id;
}

/* --- Members --- */

size_t rangemap_member_count(const struct rangemap *map)
{
    return map->member_count;
}

static struct member view_of_member(const struct rangemap *map, const struct member_row *row)
{
    return (struct member){
        .id = row->id,
        .incarnation = row->incarnation,
        .state = (enum member_state)row->state,
        .leaving = row->leaving,
        .forgot = row->forgot,
        .capacity = row->capacity,
        .zone = slice_of(map->bytes + row->zone_at, row->zone_size),
        .address = slice_of(map->bytes + row->address_at, row->address_size),
    };
}

struct member rangemap_member(const struct rangemap *map, size_t index)
{
    CHECK(index < map->member_count);
    return view_of_member(map, &map->members[index]);
}

struct member_row *member_row_find(const struct rangemap *map, node_id id)
{
    size_t low = 0;
    size_t high = map->member_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (map->members[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < map->member_count && map->members[low].id == id ? &map->members[low] : NULL;
}

bool rangemap_member_find(const struct rangemap *map, node_id id, struct member *out)
{
    const struct member_row *row = member_row_find(map, id);
    if (row == NULL) return false;
    *out = view_of_member(map, row);
    return true;
}

size_t rangemap_registrars(const struct rangemap *map, const node_id **ids)
{
    *ids = map->registrars;
    return map->registrar_count;
}

bool rangemap_is_registrar(const struct rangemap *map, node_id id)
{
    for (size_t i = 0; i < map->registrar_count; i++) {
        if (map->registrars[i] == id) return true;
    }
    return false;
}

uint8_t rangemap_effective_factor(const struct rangemap *map)
{
    size_t staying = 0;
    for (size_t i = 0; i < map->member_count; i++) {
        const struct member_row *row = &map->members[i];
        if (row->state != MEMBER_EXCLUDED && !row->leaving) staying++;
    }
    return (uint8_t)size_min(map->settings.replication_factor, staying);
}

static uint8_t quorum_of(uint8_t wanted, uint8_t count)
{
    if (wanted == 0) return (uint8_t)(count / 2 + 1);
    return (uint8_t)size_min(wanted, count);
}

uint8_t rangemap_write_quorum_of(const struct rangemap *map, uint8_t count)
{
    return quorum_of(map->settings.write_quorum, count);
}

uint8_t rangemap_read_quorum_of(const struct rangemap *map, uint8_t count)
{
    return quorum_of(map->settings.read_quorum, count);
}

/* --- Shards --- */

size_t rangemap_shard_count(const struct rangemap *map)
{
    return map->shard_count;
}

static struct owners owners_at(const struct rangemap *map, size_t at, struct owners_row row)
{
    return (struct owners){
        .ids = map->ids + at,
        .count = row.count,
        .write_quorum = row.quorums >> 4,
        .read_quorum = row.quorums & 15,
    };
}

struct owners shard_row_owners(const struct rangemap *map, const struct shard_row *row)
{
    return owners_at(map, row->ids_at, row->owners);
}

struct owners shard_row_next(const struct rangemap *map, const struct shard_row *row)
{
    return owners_at(map, (size_t)row->ids_at + row->owners.count, row->next);
}

struct shard rangemap_shard(const struct rangemap *map, size_t index)
{
    CHECK(index < map->shard_count);
    const struct shard_row *row = &map->shards[index];
    return (struct shard){
        .low = shard_row_low(map, row),
        .high = index + 1 < map->shard_count ? shard_row_low(map, row + 1)
                                             : (struct slice){NULL, 0},
        .owners = shard_row_owners(map, row),
        .next = shard_row_next(map, row),
        .stage = (enum shard_stage)row->stage,
        .began = row->began,
    };
}

/* The number of shards whose low is at most `key`; with `prefix`, or starts with it. */
static size_t count_begun(const struct rangemap *map, struct slice key, bool prefix)
{
    size_t low = 1; /* The first begins with the least key. */
    size_t high = map->shard_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct slice cut = shard_row_low(map, &map->shards[middle]);
        if (slice_compare(cut, key) <= 0 || (prefix && slice_starts_with(cut, key))) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t rangemap_find(const struct rangemap *map, struct slice key)
{
    return count_begun(map, key, false) - 1;
}

void rangemap_find_range(const struct rangemap *map, struct slice low, struct slice high,
                         size_t *first, size_t *end)
{
    *first = rangemap_find(map, low);
    if (high.size == 0) {
        *end = map->shard_count;
    } else if (slice_compare(low, high) >= 0) {
        *end = *first;
    } else {
        /* The shard of the greatest key below `high` is that of `high`, unless it begins there. */
        size_t last = rangemap_find(map, high);
        bool begins = slice_equal(shard_row_low(map, &map->shards[last]), high);
        *end = begins ? last : last + 1;
    }
}

void rangemap_find_prefix(const struct rangemap *map, struct slice prefix, size_t *first,
                          size_t *end)
{
    *first = rangemap_find(map, prefix);
    *end = count_begun(map, prefix, true);
}

static bool is_fenced(const struct rangemap *map, node_id id)
{
    const struct member_row *row = member_row_find(map, id);
    return row == NULL || row->state == MEMBER_EXCLUDED;
}

bool rangemap_answers(const struct rangemap *map, node_id id, struct slice key)
{
    struct shard shard = rangemap_shard(map, rangemap_find(map, key));
    return owners_contain(shard_read_owners(&shard), id) && !is_fenced(map, id);
}

bool rangemap_takes(const struct rangemap *map, node_id id, struct slice key)
{
    struct shard shard = rangemap_shard(map, rangemap_find(map, key));
    bool owner = owners_contain(&shard.owners, id) || owners_contain(&shard.next, id);
    return owner && !is_fenced(map, id);
}
