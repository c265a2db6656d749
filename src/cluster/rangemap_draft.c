/* Building maps: copies, changes of rows, the choice of registrars, sealing. */
#include <string.h>

/* One pass over a few megabytes for each version. */
#include <xxhash.h>

#include "base/check.h"
#include "base/math.h"
#include "cluster/rangemap_codec.h"
#include "cluster/rangemap_private.h"
#include "core/key.h"

_Static_assert(KEY_BYTES_MAX <= UINT16_MAX, "the size of a low is a u16");

static bool is_printable(struct slice text, size_t size_max)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] <= ' ' || text.data[i] > '~') return false;
    }
    return text.size > 0 && text.size <= size_max;
}

bool member_is_valid(const struct member *member)
{
    return is_printable(member->zone, RANGEMAP_ZONE_BYTES_MAX) &&
           is_printable(member->address, RANGEMAP_ADDRESS_BYTES_MAX) && member->capacity > 0 &&
           member->capacity <= RANGEMAP_CAPACITY_MAX;
}

bool settings_are_valid(const struct rangemap_settings *settings)
{
    return settings->replication_factor >= 1 &&
           settings->replication_factor <= RANGEMAP_OWNERS_MAX &&
           settings->write_quorum <= settings->replication_factor &&
           settings->read_quorum <= settings->replication_factor &&
           settings->write_consistency <= CONSISTENCY_ALL &&
           settings->read_consistency <= CONSISTENCY_ALL && settings->k_factor <= 64 &&
           settings->shard_min_bytes > 0 &&
           settings->shard_split_bytes / 2 >= settings->shard_min_bytes &&
           settings->gossip_interval_ms > 0;
}

/* The map is read through its own pointers while the buffers grow. */
static void follow_blocks(struct draft *draft)
{
    draft->map->bytes = draft->bytes.data;
    draft->map->ids = (node_id *)(void *)draft->ids.data;
}

enum status draft_open(struct draft *draft, struct heap *heap, const struct rangemap *base,
                       size_t more_members, size_t more_shards)
{
    size_t member_count = base == NULL ? 0 : base->member_count;
    size_t shard_count = base == NULL ? 0 : base->shard_count;
    *draft = (struct draft){
        .member_capacity = size_min(member_count + more_members, RANGEMAP_MEMBERS_MAX),
        .shard_capacity = size_min(shard_count + more_shards, RANGEMAP_SHARDS_MAX),
    };
    buf_init(&draft->bytes, heap);
    buf_init(&draft->ids, heap);

    struct rangemap *map = heap_zalloc(heap, sizeof *map);
    if (map == NULL) return STATUS_NOMEM;
    atomic_init(&map->references, 1);
    map->heap = heap;
    map->members = heap_alloc(heap, draft->member_capacity * sizeof *map->members);
    map->shards = heap_alloc(heap, draft->shard_capacity * sizeof *map->shards);
    draft->map = map;
    if (base != NULL) {
        buf_append(&draft->bytes, base->bytes, base->byte_count);
        buf_append(&draft->ids, base->ids, base->id_count * sizeof *base->ids);
    }
    if (map->members == NULL || map->shards == NULL || draft->bytes.failed || draft->ids.failed) {
        draft_close(draft);
        return STATUS_NOMEM;
    }
    if (base != NULL) {
        map->identity = base->identity;
        map->settings = base->settings;
        map->next_id = base->next_id;
        map->registrar_count = base->registrar_count;
        memcpy(map->registrars, base->registrars, sizeof map->registrars);
        map->member_count = member_count;
        map->shard_count = shard_count;
        memcpy(map->members, base->members, member_count * sizeof *map->members);
        memcpy(map->shards, base->shards, shard_count * sizeof *map->shards);
    }
    follow_blocks(draft);
    return STATUS_OK;
}

void draft_close(struct draft *draft)
{
    if (draft->map == NULL) return;
    draft->map->bytes = NULL;
    draft->map->ids = NULL;
    rangemap_unref(draft->map);
    draft->map = NULL;
    buf_deinit(&draft->bytes);
    buf_deinit(&draft->ids);
}

/* Appends to the block of bytes. */
static enum status keep_bytes(struct draft *draft, struct slice bytes, uint32_t *at, uint16_t *size)
{
    size_t before = draft->bytes.size;
    /* Far above what can be sealed, far below what an offset can say. */
    if (before > 16 * (size_t)RANGEMAP_BYTES_MAX) return STATUS_LIMIT;
    buf_append_slice(&draft->bytes, bytes);
    if (draft->bytes.failed) return STATUS_NOMEM;
    *at = (uint32_t)before;
    *size = (uint16_t)bytes.size;
    follow_blocks(draft);
    return STATUS_OK;
}

enum status draft_set_member(struct draft *draft, struct member_row *row,
                             const struct member *member)
{
    struct member_row made = {
        .id = member->id,
        .incarnation = member->incarnation,
        .state = (uint8_t)member->state,
        .leaving = member->leaving,
        .forgot = member->forgot,
        .capacity = member->capacity,
    };
    enum status status = keep_bytes(draft, member->zone, &made.zone_at, &made.zone_size);
    if (status != STATUS_OK) return status;
    status = keep_bytes(draft, member->address, &made.address_at, &made.address_size);
    if (status == STATUS_OK) *row = made;
    return status;
}

enum status draft_add_member(struct draft *draft, const struct member *member)
{
    struct rangemap *map = draft->map;
    if (map->member_count == draft->member_capacity) return STATUS_LIMIT;
    enum status status = draft_set_member(draft, &map->members[map->member_count], member);
    if (status == STATUS_OK) map->member_count++;
    return status;
}

void draft_remove_member(struct draft *draft, size_t index)
{
    struct rangemap *map = draft->map;
    map->member_count--;
    memmove(&map->members[index], &map->members[index + 1],
            (map->member_count - index) * sizeof *map->members);
}

static struct owners_row row_of_owners(const struct owners *owners)
{
    return (struct owners_row){
        .count = owners->count,
        .quorums = (uint8_t)(owners->write_quorum << 4 | owners->read_quorum),
    };
}

enum status draft_set_owners(struct draft *draft, struct shard_row *row,
                             const struct owners *owners, const struct owners *next)
{
    size_t before = draft->ids.size;
    if (before > 16 * (size_t)RANGEMAP_BYTES_MAX) return STATUS_LIMIT;
    /* Copied first: `owners` may lie in the same block, which an append moves. */
    node_id ids[2 * RANGEMAP_OWNERS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < owners->count; i++) ids[count++] = owners->ids[i];
    for (size_t i = 0; i < next->count; i++) ids[count++] = next->ids[i];
    buf_append(&draft->ids, ids, count * sizeof *ids);
    if (draft->ids.failed) return STATUS_NOMEM;
    follow_blocks(draft);
    row->ids_at = (uint32_t)(before / sizeof *ids);
    row->owners = row_of_owners(owners);
    row->next = row_of_owners(next);
    return STATUS_OK;
}

enum status draft_insert_shard(struct draft *draft, size_t index, const struct shard *shard)
{
    struct rangemap *map = draft->map;
    if (map->shard_count == draft->shard_capacity) return STATUS_LIMIT;
    struct shard_row row = {.began = shard->began, .stage = (uint8_t)shard->stage};
    enum status status = keep_bytes(draft, shard->low, &row.low_at, &row.low_size);
    if (status != STATUS_OK) return status;
    status = draft_set_owners(draft, &row, &shard->owners, &shard->next);
    if (status != STATUS_OK) return status;
    memmove(&map->shards[index + 1], &map->shards[index], (map->shard_count - index) * sizeof row);
    map->shards[index] = row;
    map->shard_count++;
    return STATUS_OK;
}

void draft_remove_shard(struct draft *draft, size_t index)
{
    struct rangemap *map = draft->map;
    map->shard_count--;
    memmove(&map->shards[index], &map->shards[index + 1],
            (map->shard_count - index) * sizeof *map->shards);
}

/* --- Registrars --- */

size_t registrar_count_of(const struct rangemap *map)
{
    size_t able = 0, left = 0;
    for (size_t i = 0; i < map->member_count; i++) {
        left += map->members[i].state != MEMBER_EXCLUDED;
        able += map->members[i].state != MEMBER_EXCLUDED && !map->members[i].forgot;
    }
    size_t count = size_min(able > 0 ? able : left, RANGEMAP_REGISTRARS_MAX);
    return count == 0 ? 0 : count - (count % 2 == 0);
}

/* What makes one candidate better than another; compared from the first field on. */
struct candidate {
    size_t row;
    bool forgot;    /* It never votes. */
    bool idle;      /* Suspended or leaving. */
    size_t in_zone; /* Registrars that its zone has already. */
    bool newcomer;  /* Not a registrar so far. */
};

static bool is_better(const struct candidate *a, const struct candidate *b)
{
    if (a->forgot != b->forgot) return b->forgot;
    if (a->idle != b->idle) return b->idle;
    if (a->in_zone != b->in_zone) return a->in_zone < b->in_zone;
    if (a->newcomer != b->newcomer) return b->newcomer;
    return a->row < b->row;
}

static struct slice zone_of(const struct rangemap *map, size_t row)
{
    return slice_of(map->bytes + map->members[row].zone_at, map->members[row].zone_size);
}

static struct candidate weigh(const struct rangemap *map, size_t row, const size_t *chosen,
                              size_t chosen_count)
{
    const struct member_row *member = &map->members[row];
    struct candidate candidate = {
        .row = row,
        .forgot = member->forgot,
        .idle = member->state != MEMBER_ACTIVE || member->leaving,
        .newcomer = !rangemap_is_registrar(map, member->id),
    };
    for (size_t i = 0; i < chosen_count; i++) {
        if (slice_equal(zone_of(map, chosen[i]), zone_of(map, row))) candidate.in_zone++;
    }
    return candidate;
}

static bool is_chosen(size_t row, const size_t *chosen, size_t chosen_count)
{
    for (size_t i = 0; i < chosen_count; i++) {
        if (chosen[i] == row) return true;
    }
    return false;
}

static size_t choose_one(const struct rangemap *map, const size_t *chosen, size_t chosen_count)
{
    struct candidate best = {.row = SIZE_MAX};
    for (size_t row = 0; row < map->member_count; row++) {
        if (map->members[row].state == MEMBER_EXCLUDED) continue;
        if (is_chosen(row, chosen, chosen_count)) continue;
        struct candidate candidate = weigh(map, row, chosen, chosen_count);
        if (best.row == SIZE_MAX || is_better(&candidate, &best)) best = candidate;
    }
    CHECK(best.row != SIZE_MAX);
    return best.row;
}

void draft_choose_registrars(struct draft *draft)
{
    struct rangemap *map = draft->map;
    size_t chosen[RANGEMAP_REGISTRARS_MAX];
    size_t count = registrar_count_of(map);
    for (size_t i = 0; i < count; i++) chosen[i] = choose_one(map, chosen, i);

    map->registrar_count = 0;
    for (size_t row = 0; row < map->member_count; row++) {
        if (!is_chosen(row, chosen, count)) continue;
        map->registrars[map->registrar_count++] = map->members[row].id;
    }
}

/* --- Sealing --- */

/* Moves what the rows point to into blocks of the right size, in the order of the rows. */
static void pack(struct rangemap *map, uint8_t *bytes, node_id *ids)
{
    uint32_t byte_at = 0;
    uint32_t id_at = 0;
    for (size_t i = 0; i < map->member_count; i++) {
        struct member_row *row = &map->members[i];
        memcpy(bytes + byte_at, map->bytes + row->zone_at, row->zone_size);
        row->zone_at = byte_at;
        byte_at += row->zone_size;
        memcpy(bytes + byte_at, map->bytes + row->address_at, row->address_size);
        row->address_at = byte_at;
        byte_at += row->address_size;
    }
    for (size_t i = 0; i < map->shard_count; i++) {
        struct shard_row *row = &map->shards[i];
        memcpy(bytes + byte_at, map->bytes + row->low_at, row->low_size);
        row->low_at = byte_at;
        byte_at += row->low_size;
        size_t count = (size_t)row->owners.count + row->next.count;
        memcpy(ids + id_at, map->ids + row->ids_at, count * sizeof *ids);
        row->ids_at = id_at;
        id_at += (uint32_t)count;
    }
}

static void count_blocks(const struct rangemap *map, size_t *byte_count, size_t *id_count)
{
    *byte_count = 0;
    *id_count = 0;
    for (size_t i = 0; i < map->member_count; i++) {
        *byte_count += (size_t)map->members[i].zone_size + map->members[i].address_size;
    }
    for (size_t i = 0; i < map->shard_count; i++) {
        *byte_count += map->shards[i].low_size;
        *id_count += (size_t)map->shards[i].owners.count + map->shards[i].next.count;
    }
}

static enum status hash_map(struct rangemap *map)
{
    struct buf encoded;
    buf_init(&encoded, map->heap);
    rangemap_encode(map, &encoded);
    enum status status = buf_status(&encoded);
    if (status == STATUS_OK && encoded.size > RANGEMAP_BYTES_MAX) status = STATUS_LIMIT;
    if (status == STATUS_OK) {
        XXH128_hash_t hash = XXH3_128bits(encoded.data, encoded.size);
        map->identity.hash = (struct hash128){.low = hash.low64, .high = hash.high64};
    }
    buf_deinit(&encoded);
    return status;
}

enum status draft_seal(struct draft *draft, struct rangemap **out)
{
    struct rangemap *map = draft->map;
    count_blocks(map, &map->byte_count, &map->id_count);
    if (rangemap_memory_bytes(map) > RANGEMAP_BYTES_MAX) return STATUS_LIMIT;
    enum status status = hash_map(map);
    if (status != STATUS_OK) return status;

    uint8_t *bytes = heap_alloc(map->heap, map->byte_count);
    node_id *ids = heap_alloc(map->heap, map->id_count * sizeof *ids);
    if (bytes == NULL || ids == NULL) {
        heap_free(map->heap, bytes);
        heap_free(map->heap, ids);
        return STATUS_NOMEM;
    }
    pack(map, bytes, ids);
    map->bytes = bytes;
    map->ids = ids;

    /* Smaller blocks in place of larger ones: whatever a realloc says, the rows are there. */
    void *members = heap_realloc(map->heap, map->members, map->member_count * sizeof *map->members);
    if (members != NULL) map->members = members;
    void *shards = heap_realloc(map->heap, map->shards, map->shard_count * sizeof *map->shards);
    if (shards != NULL) map->shards = shards;

    draft->map = NULL;
    buf_deinit(&draft->bytes);
    buf_deinit(&draft->ids);
    *out = map;
    return STATUS_OK;
}

enum status rangemap_create(struct heap *heap, uint64_t generation_id,
                            const struct rangemap_settings *settings, const struct member *member,
                            struct rangemap **out)
{
    if (!settings_are_valid(settings) || !member_is_valid(member)) return STATUS_INVALID;
    struct draft draft;
    enum status status = draft_open(&draft, heap, NULL, 1, 1);
    if (status != STATUS_OK) return status;

    struct member first = *member;
    first.id = 1;
    first.state = MEMBER_ACTIVE;
    first.leaving = first.forgot = false;
    draft.map->settings = *settings;
    draft.map->next_id = 2;
    draft.map->identity =
        (struct rangemap_identity){.generation = 1, .generation_id = generation_id, .number = 1};
    status = draft_add_member(&draft, &first);
    struct shard whole = {
        .owners = {.ids = &first.id, .count = 1, .write_quorum = 1, .read_quorum = 1},
        .began = 1,
    };
    if (status == STATUS_OK) status = draft_insert_shard(&draft, 0, &whole);
    if (status == STATUS_OK) {
        draft_choose_registrars(&draft);
        status = draft_seal(&draft, out);
    }
    draft_close(&draft);
    return status;
}
