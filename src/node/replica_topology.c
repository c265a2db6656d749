/* The life of maps at one node: learning them, agreeing on the next, acknowledging, and who is up.
 *
 *     decided      the register knows what the next map is made by: apply it, keep it
 *     ahead        a peer has a newer map (its card, or a message that names it): fetch it
 *     adopted      kept in one batch with the register's state; from then on requests go by it
 *     acknowledged durable here, and no request that this node coordinates began under an older one
 *     retired      every member that counts has acknowledged a later one: what still comes under it is
 *                  refused, for its sender missed that
 *
 * What this node owned under maps that are not retired is kept, over restarts too: a write to it is
 * taken, and it is not swept. docs/design/moves.md has the reasons. */
#include <xxhash.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/data_message.h"
#include "cluster/topology_message.h"
#include "node/replica_private.h"

/* --- What the parts know of a map --- */

static uint32_t zone_of(struct slice zone)
{
    return (uint32_t)XXH3_64bits(zone.data, zone.size);
}

/* One number for the random id and the count of recoveries. */
static uint64_t generation_tag(const struct rangemap *map)
{
    const struct rangemap_identity *identity = rangemap_identity(map);
    uint64_t tag = identity->generation_id ^ (identity->generation << 48);
    return tag == 0 ? 1 : tag;
}

/* A recovery draws the low half of the id anew; the other one is the cluster's. */
static uint64_t cluster_of(const struct rangemap *map)
{
    return rangemap_identity(map)->generation_id >> 32;
}

static struct register_map register_map_of(const struct rangemap *map)
{
    const struct rangemap_identity *identity = rangemap_identity(map);
    struct register_map out = {
        .generation = {identity->generation, identity->generation_id},
        .number = identity->number,
        .hash = identity->hash,
    };
    const node_id *ids;
    size_t count = rangemap_registrars(map, &ids);
    CHECK(count <= REGISTRAR_COUNT_MAX);
    for (size_t i = 0; i < count; i++) {
        struct member member;
        CHECK(rangemap_member_find(map, ids[i], &member));
        out.registrars[out.registrar_count++] = (struct registrar){ids[i], member.incarnation};
    }
    return out;
}

/* Members that answer, or should. `waited` leaves out those whose acknowledgement nobody waits for. */
static struct health_member *list_members(const struct replica *replica, bool waited, size_t *count)
{
    const struct rangemap *map = replica->map;
    size_t all = rangemap_member_count(map);
    struct health_member *members = heap_alloc(replica->heap, (all + 1) * sizeof *members);
    *count = 0;
    for (size_t i = 0; members != NULL && i < all; i++) {
        struct member member = rangemap_member(map, i);
        if (member.state == MEMBER_EXCLUDED) continue;
        if (waited && member.state == MEMBER_SUSPENDED) continue;
        members[(*count)++] =
            (struct health_member){member.id, member.incarnation, zone_of(member.zone)};
    }
    return members;
}

static void tell_health(struct replica *replica)
{
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    health_set_map(replica->health, generation_tag(replica->map), identity->number,
                   replica->topology.acknowledged);
}

static enum status set_members(struct replica *replica)
{
    size_t count;
    struct health_member *members = list_members(replica, false, &count);
    if (members == NULL) return STATUS_NOMEM;
    enum status status = health_set_members(replica->health, members, count, &replica->prng);
    heap_free(replica->heap, members);
    return status;
}

/* --- Life --- */

static enum status save_register(struct replica *replica)
{
    struct buf state = {.heap = replica->heap};
    register_encode_state(&replica->topology.reg, &state);
    local_key(&replica->key, LOCAL_REGISTER);
    enum status status = buf_status(&state);
    if (status == STATUS_OK)
        status = local_put(replica, buf_slice(&replica->key), buf_slice(&state));
    buf_deinit(&state);
    return status;
}

static void boots_record_key(struct buf *key, node_id id)
{
    local_key(key, LOCAL_BOOTS);
    buf_append_u8(key, (uint8_t)(id >> 8));
    buf_append_u8(key, (uint8_t)id);
}

struct boots_walk {
    struct replica *replica;
    struct buf ids;
};

static enum status visit_boots(void *context, struct slice key, const struct record *record)
{
    struct boots_walk *walk = context;
    (void)record;
    if (key.size != 5 || key.data[4] != 0) return STATUS_OK;
    buf_append_u16le(&walk->ids, (uint16_t)(key.data[2] << 8 | key.data[3]));
    return buf_status(&walk->ids);
}

static enum status load_boots(struct replica *replica)
{
    struct boots_walk walk = {.replica = replica, .ids = {.heap = replica->heap}};
    struct query query = replica_query(replica);
    struct query_from from = {0};
    local_key(&replica->key, LOCAL_BOOTS);
    enum status status =
        query_scan(&query, buf_slice(&replica->key), &from, UINT64_MAX, visit_boots, &walk);
    struct reader reader = reader_of(buf_slice(&walk.ids));
    while (status == STATUS_OK && reader_left(&reader) > 0) {
        node_id id = reader_u16le(&reader);
        boots_record_key(&replica->key, id);
        status = local_get(replica, buf_slice(&replica->key), &replica->value);
        if (status == STATUS_OK)
            status = boots_restore(&replica->topology.boots, id, buf_slice(&replica->value));
    }
    buf_deinit(&walk.ids);
    return status;
}

static enum status load_register(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    struct register_map map = register_map_of(replica->map);
    local_key(&replica->key, LOCAL_REGISTER);
    enum status status = local_get(replica, buf_slice(&replica->key), &replica->value);
    if (status == STATUS_NOT_FOUND) {
        buf_clear(&replica->value);
        status = STATUS_OK;
    }
    if (status == STATUS_OK)
        status = register_init(&topology->reg, replica->self.id, replica->heap, &map,
                               buf_slice(&replica->value), &replica->prng, replica->trace);
    return status;
}

/* What counts as older, and the number of the map that was retired then. */
enum { OLDER_FORMAT = 1, OLDER_RANGES_BYTES_MAX = 4 << 20 };

static enum status save_older(struct replica *replica)
{
    const struct replica_topology *topology = &replica->topology;
    struct buf value = {.heap = replica->heap};
    buf_append_u8(&value, OLDER_FORMAT);
    buf_append_varint(&value, topology->retired);
    buf_append_varint(&value, topology->older_count);
    for (size_t i = 0; i < topology->older_count; i++) {
        const struct older_map *older = &topology->older[i];
        buf_append_varint(&value, older->number);
        buf_append_varint(&value, older->ranges.size);
        buf_append_slice(&value, buf_slice(&older->ranges));
    }
    local_key(&replica->key, LOCAL_OLDER);
    enum status status = buf_status(&value);
    if (status == STATUS_OK)
        status = local_put(replica, buf_slice(&replica->key), buf_slice(&value));
    buf_deinit(&value);
    return status;
}

static bool ranges_are_sound(struct slice ranges)
{
    struct key_range range;
    struct slice end = {0};
    bool first = true;
    while (data_range_next(&ranges, &range)) {
        if (!first && (end.size == 0 || slice_compare(range.low, end) <= 0)) return false;
        if (range.high.size > 0 && slice_compare(range.low, range.high) >= 0) return false;
        end = range.high;
        first = false;
    }
    return ranges.size == 0;
}

static enum status load_older(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    local_key(&replica->key, LOCAL_OLDER);
    enum status status = local_get(replica, buf_slice(&replica->key), &replica->value);
    if (status != STATUS_OK) return status == STATUS_NOT_FOUND ? STATUS_OK : status;
    if (planted(BUG_OLDER_MAPS_FORGOTTEN)) return STATUS_OK;
    struct reader reader = reader_of(buf_slice(&replica->value));
    if (reader_u8(&reader) != OLDER_FORMAT) return STATUS_NEWER;
    topology->retired = reader_varint(&reader);
    uint64_t count = reader_varint(&reader), last = 0;
    if (count > REPLICA_MAPS_MAX) return STATUS_CORRUPT;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = reader_varint(&reader), size = reader_varint(&reader);
        if (size > OLDER_RANGES_BYTES_MAX) return STATUS_CORRUPT;
        struct slice ranges = reader_bytes(&reader, size);
        if (reader.failed || number < last || !ranges_are_sound(ranges)) return STATUS_CORRUPT;
        last = number;
        struct older_map *older = &topology->older[topology->older_count++];
        *older = (struct older_map){number, {.heap = replica->heap}};
        buf_append_slice(&older->ranges, ranges);
        if (buf_status(&older->ranges) != STATUS_OK) return STATUS_NOMEM;
    }
    return reader_left(&reader) == 0 ? STATUS_OK : STATUS_CORRUPT;
}

static void set_voting(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    bool votes = boots_may_vote(&topology->boots) || planted(BUG_VOTES_UNCONFIRMED);
    register_set_voting(&topology->reg, votes);
}

enum status replica_topology_start(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    struct register_map map = register_map_of(replica->map);
    struct member self = {0};
    /* Who is none any more may be the only one to know: the others cannot vote without it when they have
     * started since, and learn from it that they need not. */
    if (!rangemap_member_find(replica->map, replica->self.id, &self))
        TRACE(replica->trace, "start: no member any more");

    struct health_options options = {
        .self = replica->self,
        .cluster = cluster_of(replica->map),
        .zone = zone_of(self.zone),
        .address_tag = zone_of(self.address),
        .heap = replica->heap,
        .trace = replica->trace,
    };
    replica->zone = options.zone;
    topology->acknowledged = 0;
    enum status status =
        shares_build(replica->heap, replica->map, replica->self.id, &replica->shares);
    if (status == STATUS_OK) status = load_older(replica);
    if (status == STATUS_OK) status = load_register(replica);
    if (status != STATUS_OK) return status;
    boots_init(&topology->boots, &replica->starts, replica->heap, &map, replica->trace);
    topology->started = true;
    status = load_boots(replica);
    if (status == STATUS_OK) status = health_create(&options, &replica->prng, &replica->health);
    if (status == STATUS_OK) status = set_members(replica);
    if (status != STATUS_OK) return status;
    tell_health(replica);
    replica_members_start(replica);
    replica_members_map_changed(replica);
    replica_splits_map_changed(replica, NULL);
    replica_moves_map_changed(replica, NULL); /* It may start in the middle of a move. */
    set_voting(replica);
    return STATUS_OK;
}

void replica_topology_stop(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    if (topology->started) {
        register_deinit(&topology->reg);
        boots_deinit(&topology->boots);
    }
    health_destroy(replica->health);
    replica_moves_free(replica);
    replica_splits_free(replica);
    heap_free(replica->heap, topology->silences);
    for (size_t i = 0; i < topology->older_count; i++) buf_deinit(&topology->older[i].ranges);
}

/* --- Maps --- */

static void drop_oldest(struct replica_topology *topology)
{
    buf_deinit(&topology->older[0].ranges);
    topology->older_count--;
    for (size_t i = 0; i < topology->older_count; i++) topology->older[i] = topology->older[i + 1];
}

/* So many at once: the two oldest become one, which is given up when the later one is. */
static enum status unite_oldest(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    struct buf united = {.heap = replica->heap};
    ranges_unite(buf_slice(&topology->older[0].ranges), buf_slice(&topology->older[1].ranges),
                 &united);
    if (buf_status(&united) != STATUS_OK) {
        buf_deinit(&united);
        return STATUS_NOMEM;
    }
    drop_oldest(topology);
    buf_deinit(&topology->older[0].ranges);
    topology->older[0].ranges = united;
    return STATUS_OK;
}

/* What is owned now and will not be under the map that follows stays ours until nobody goes by this
 * one. Takes the list of ranges. */
static enum status keep_older(struct replica *replica, const struct rangemap *map, struct buf *now,
                              struct slice then)
{
    struct replica_topology *topology = &replica->topology;
    /* Under maps between the two, which this node missed, others may take it for an owner as well. */
    uint64_t number = rangemap_identity(map)->number - 1;
    if (ranges_cover(then, buf_slice(now))) return STATUS_OK;
    struct older_map *last =
        topology->older_count == 0 ? NULL : &topology->older[topology->older_count - 1];
    if (last != NULL && ranges_cover(buf_slice(&last->ranges), buf_slice(now))) {
        last->number = number;
        return STATUS_OK;
    }
    if (topology->older_count == REPLICA_MAPS_MAX) {
        enum status status = unite_oldest(replica);
        if (status != STATUS_OK) return status;
    }
    topology->older[topology->older_count++] = (struct older_map){number, *now};
    *now = (struct buf){.heap = replica->heap};
    return STATUS_OK;
}

static enum status note_owned(struct replica *replica, const struct rangemap *map,
                              const struct shares *shares)
{
    struct buf now = {.heap = replica->heap}, then = {.heap = replica->heap};
    shares_ranges(&replica->shares, replica->map, 0, &now);
    shares_ranges(shares, map, 0, &then);
    enum status status = buf_status(&now);
    if (status == STATUS_OK) status = buf_status(&then);
    if (status == STATUS_OK) status = keep_older(replica, map, &now, buf_slice(&then));
    buf_deinit(&now);
    buf_deinit(&then);
    return status;
}

static uint64_t map_label(const struct rangemap *map)
{
    const struct rangemap_identity *identity = rangemap_identity(map);
    uint64_t number = identity->number & ((UINT64_C(1) << HOLD_MAP_NUMBER_BITS) - 1);
    return HOLD_MAP | (identity->generation << HOLD_MAP_NUMBER_BITS & (HOLD_MAP - 1)) | number;
}

void replica_map_hold(struct replica *replica)
{
    replica_hold_flow(replica, map_label(replica->map));
}

/* Only what is kept may be acknowledged; else it is tried again. */
static void save_map(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    enum status status = local_save_map(replica);
    if (status == STATUS_OK) status = save_older(replica);
    if (status == STATUS_OK) status = save_register(replica);
    topology->unsaved = status != STATUS_OK;
    if (status == STATUS_OK) replica_map_hold(replica);
}

void replica_map_lost(struct replica *replica)
{
    replica->topology.unsaved = true;
}

/* What the registrar promised and accepted is about the map after this one: kept without it, it would make
 * no sense to the next start. */
static bool keep_votes(struct replica *replica)
{
    if (!replica->topology.unsaved) return save_register(replica) == STATUS_OK;
    save_map(replica);
    return !replica->topology.unsaved;
}

/* Numbers of one generation say nothing in another: all that was acknowledged is to be anew, and what
 * runs began under something older. */
static void begin_generation(struct replica *replica, const struct rangemap *map)
{
    struct replica_topology *topology = &replica->topology;
    if (planted(BUG_NUMBERS_OVER_GENERATIONS)) return;
    topology->durable = topology->acknowledged = topology->retired = 0;
    for (size_t i = 0; i < topology->older_count; i++)
        topology->older[i].number = rangemap_identity(map)->number - 1;
    for (size_t i = 0; i < replica->flow_capacity; i++) replica->flows[i].map_number = 0;
    replica_moves_generation(replica);
}

/* Starts of members that are gone. */
static void forget_boots(struct replica *replica)
{
    struct boots *boots = &replica->topology.boots;
    for (size_t i = boots->record_count; i-- > 0;) {
        struct member member;
        node_id id = boots->records[i].id;
        if (rangemap_member_find(replica->map, id, &member)) continue;
        boots_record_key(&replica->key, id);
        if (local_forget(replica, buf_slice(&replica->key))) boots_forget(boots, id);
    }
}

/* The new map counts from here on. Owns: takes the reference. */
static enum status adopt(struct replica *replica, struct rangemap *map)
{
    struct replica_topology *topology = &replica->topology;
    struct register_map register_map = register_map_of(map);
    struct rangemap *before = replica->map;
    struct shares shares = {0};
    enum status status = shares_build(replica->heap, map, replica->self.id, &shares);
    if (status == STATUS_OK) status = note_owned(replica, map, &shares);
    if (status == STATUS_OK) status = register_set_map(&topology->reg, &register_map);
    if (status != STATUS_OK) {
        shares_free(replica->heap, &shares);
        rangemap_unref(map);
        return status;
    }
    boots_set_map(&topology->boots, &register_map, replica->time.now_ms);
    set_voting(replica);
    replica->map = map;
    forget_boots(replica);
    shares_free(replica->heap, &replica->shares);
    replica->shares = shares;
    if (rangemap_identity(map)->generation != rangemap_identity(before)->generation)
        begin_generation(replica, map);
    replica_members_map_changed(replica);
    replica_moves_map_changed(replica, before);
    replica_splits_map_changed(replica, before);
    replica_purge_map_changed(replica, before);
    rangemap_unref(before);
    repair_map_changed(&replica->repair);
    save_map(replica);
    status = set_members(replica);
    tell_health(replica);
    TRACE(replica->trace, "map %llu", (unsigned long long)rangemap_identity(replica->map)->number);
    return status;
}

void replica_map_durable(struct replica *replica, uint64_t label)
{
    uint64_t ours = map_label(replica->map);
    uint64_t number = label & ((UINT64_C(1) << HOLD_MAP_NUMBER_BITS) - 1);
    if (label >> HOLD_MAP_NUMBER_BITS != ours >> HOLD_MAP_NUMBER_BITS) return;
    replica->topology.durable = u64_max(replica->topology.durable, number);
}

/* What the register decided. */
static void adopt_decision(struct replica *replica)
{
    struct register_value value;
    struct rangemap *next;
    const char *why = NULL;
    if (!register_decision(&replica->topology.reg, &value)) return;
    enum status status = rangemap_apply(replica->map, value.delta, &why, &next);
    if (status != STATUS_OK) {
        TRACE(replica->trace, "decision does not apply: %s", why == NULL ? "" : why);
        return;
    }
    status = adopt(replica, next);
    (void)status; /* Without memory it is learned again. */
}

static bool is_newer(const struct replica *replica, const struct rangemap *map)
{
    const struct rangemap_identity *ours = rangemap_identity(replica->map);
    const struct rangemap_identity *theirs = rangemap_identity(map);
    if (theirs->generation != ours->generation) return theirs->generation > ours->generation;
    return theirs->generation_id == ours->generation_id && theirs->number > ours->number;
}

void replica_topology_send(struct replica *replica, node_id to,
                           const struct topology_message *message)
{
    if (to == replica->self.id) return;
    topology_message_encode(message, outbox_begin(&replica->outbox, to, PROTOCOL_TOPOLOGY));
    outbox_end(&replica->outbox, false);
    replica_take_outbox(replica);
}

void replica_map_fetch(struct replica *replica, node_id from)
{
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    /* Not for each message that tells the same. */
    if (replica->time.now_ms < replica->topology.fetch_ms) return;
    replica->topology.fetch_ms = replica->time.now_ms + REPLICA_FETCH_MS;
    replica_topology_send(replica, from,
                          &(struct topology_message){.kind = TOPOLOGY_FETCH,
                                                     .generation = identity->generation,
                                                     .number = identity->number});
}

void replica_map_send(struct replica *replica, node_id to)
{
    struct buf bytes = {.heap = replica->heap};
    rangemap_encode(replica->map, &bytes);
    if (buf_status(&bytes) == STATUS_OK)
        replica_topology_send(
            replica, to,
            &(struct topology_message){.kind = TOPOLOGY_MAP, .map = buf_slice(&bytes)});
    buf_deinit(&bytes);
}

/* Not for each message of a peer that has yet to read the answer to the first. */
void replica_map_offer(struct replica *replica, node_id to)
{
    struct replica_topology *topology = &replica->topology;
    size_t place = to % REPLICA_OFFERS_MAX;
    if (topology->offered[place] == to && replica->time.now_ms < topology->offer_ms[place]) return;
    topology->offered[place] = to;
    topology->offer_ms[place] = replica->time.now_ms + REPLICA_FETCH_MS;
    replica_map_send(replica, to);
}

/* The card of a newer map comes once; what was asked for then may have been lost. */
void replica_map_fetch_missed(struct replica *replica)
{
    const struct rangemap_identity *ours = rangemap_identity(replica->map);
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++) {
        node_id id = rangemap_member(replica->map, i).id;
        const struct health_card *card = health_card_of(replica->health, id);
        if (id == replica->self.id || card == NULL || card->known <= ours->number) continue;
        if (replica_is_down(replica, id)) continue;
        replica_map_fetch(replica, id);
        return;
    }
}

bool replica_took_before(const struct replica *replica, struct slice key)
{
    const struct replica_topology *topology = &replica->topology;
    for (size_t i = 0; i < topology->older_count; i++)
        if (ranges_contain(buf_slice(&topology->older[i].ranges), key)) return true;
    return false;
}

/* Of a newer map that does not name this node: it was taken from it by those whom it knew. */
static bool is_of_ours(const struct replica *replica, node_id from, const struct rangemap *map)
{
    struct member member;
    return cluster_of(map) == cluster_of(replica->map) &&
           rangemap_member_find(replica->map, from, &member) && member.state != MEMBER_EXCLUDED;
}

static void take_map(struct replica *replica, node_id from, struct slice bytes)
{
    struct rangemap *map;
    if (rangemap_decode(replica->heap, bytes, &map) != STATUS_OK) {
        replica->stats.invalid_count++;
        return;
    }
    struct member self;
    bool ours = rangemap_member_find(map, replica->self.id, &self) &&
                self.incarnation == replica->self.incarnation;
    if (!is_newer(replica, map) || (!ours && !is_of_ours(replica, from, map))) {
        rangemap_unref(map);
        return;
    }
    enum status status = adopt(replica, map);
    (void)status;
}

/* --- Recovery --- */

/* What was decided and is known to somebody who is up is not to be undone. */
static bool is_behind(const struct replica *replica)
{
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++) {
        node_id id = rangemap_member(replica->map, i).id;
        const struct health_card *card = health_card_of(replica->health, id);
        if (id == replica->self.id || card == NULL || replica_is_down(replica, id)) continue;
        if (card->known > rangemap_identity(replica->map)->number) return true;
    }
    return false;
}

/* The half of the id that stays is the cluster's. */
static uint64_t next_generation_id(struct replica *replica)
{
    uint64_t id = rangemap_identity(replica->map)->generation_id;
    uint32_t chance = prng_u32(&replica->prng);
    if (chance == (uint32_t)id) chance++;
    return id >> 32 << 32 | chance;
}

/* Those that are excluded already are as lost as can be. */
static enum status add_lost(const struct replica *replica, const node_id *lost, size_t count,
                            const char **why, struct buf *delta)
{
    for (size_t i = 0; i < count; i++) {
        struct member member;
        struct change change = {.kind = CHANGE_MEMBER_STATE,
                                .forced = true,
                                .member = {.id = lost[i], .state = MEMBER_EXCLUDED}};
        bool known = rangemap_member_find(replica->map, lost[i], &member);
        if (!known || lost[i] == replica->self.id) {
            *why = known ? "this node cannot be lost to itself" : "there is no such member";
            return STATUS_INVALID;
        }
        if (member.state != MEMBER_EXCLUDED) rangemap_delta_add(delta, &change);
    }
    return buf_status(delta);
}

enum status replica_recover(struct replica *replica, struct replica_time time, const node_id *lost,
                            size_t lost_count, const char **why)
{
    struct buf delta = {.heap = replica->heap};
    struct rangemap *next;
    const char *ignored;
    replica->time = replica_clock_look(replica, time);
    if (why == NULL) why = &ignored;
    if (replica_is_kept_out(replica)) {
        *why = "this node is no member";
        return STATUS_INVALID;
    }
    if (is_behind(replica)) {
        *why = "a member that is up has a newer map";
        return STATUS_STALE;
    }
    rangemap_delta_begin(replica->map, &delta);
    enum status status = add_lost(replica, lost, lost_count, why, &delta);
    if (status == STATUS_OK)
        status = rangemap_recover(replica->map, next_generation_id(replica), buf_slice(&delta), why,
                                  &next);
    if (status == STATUS_OK) status = adopt(replica, next);
    buf_deinit(&delta);
    if (status == STATUS_OK) {
        replica->topology.away = false; /* Somebody said that this map is the newest. */
        TRACE(replica->trace, "recovered: generation %llu",
              (unsigned long long)rangemap_identity(replica->map)->generation);
    }
    return status;
}

/* --- Acknowledging --- */

uint64_t replica_map_in_use(const struct replica *replica)
{
    uint64_t number = rangemap_identity(replica->map)->number;
    for (size_t i = 0; i < replica->flow_capacity && replica->flow_count > 0; i++) {
        const struct flow *flow = &replica->flows[i];
        if (flow->kind != FLOW_NONE) number = u64_min(number, flow->map_number);
    }
    return number;
}

static void acknowledge(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    uint64_t in_use = planted(BUG_NO_DRAIN) ? UINT64_MAX : replica_map_in_use(replica);
    uint64_t number = u64_min(topology->durable, in_use);
    if (number <= topology->acknowledged) return;
    topology->acknowledged = number;
    tell_health(replica);
}

static void retire(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    size_t count;
    struct health_member *members = list_members(replica, true, &count);
    if (members == NULL) return;
    uint64_t least = health_acknowledged_min(replica->health, members, count);
    heap_free(replica->heap, members);
    topology->retired = u64_max(topology->retired, least);
    while (topology->older_count > 0 && topology->older[0].number < topology->retired)
        drop_oldest(topology);
}

/* --- Steps --- */

static void take_news(struct replica *replica, const struct register_news *news)
{
    /* A promise that is not kept is not told; it is given again when it is asked for again. */
    if (news->store && !keep_votes(replica)) outbox_drop_durable(&replica->outbox);
    if (news->newer != 0) replica_map_fetch(replica, news->newer);
    if (news->older != 0) replica_map_offer(replica, news->older);
    if (news->decided) adopt_decision(replica);
}

/* A disk that was set back counts its starts from there, and nobody listens to what is of an earlier one than
 * was heard of: it begins a later one. */
static void outlive(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    if (!replica->starts.rolled_back || topology->twin_boot < replica->self.boot) return;
    if (topology->twin_boot >= BOOTS_COUNTER_MAX) return;
    replica->self.boot = topology->twin_boot + 1;
    replica->starts.boot.counter = topology->boots.starts.boot.counter = replica->self.boot;
    health_begin_life(replica->health, replica->self.boot);
    /* Not kept: the next start learns it as this one did. */
    enum status status = local_save_identity(replica);
    (void)status;
    TRACE(replica->trace, "start %llu from now on: others know of later ones than this disk does",
          (unsigned long long)replica->self.boot);
}

void replica_number_anew(struct replica *replica)
{
    struct starts before = replica->starts;
    starts_next(&replica->starts, prng_u64(&replica->prng));
    if (local_save_identity(replica) != STATUS_OK) {
        replica->starts = before; /* There is room for some more. */
        return;
    }
    replica->topology.boots.starts = replica->starts;
    replica->self.boot = replica->starts.boot.counter;
    replica->local_count = 0;
    health_begin_life(replica->health, replica->self.boot);
    TRACE(replica->trace, "start %llu from now on: the numbers of the one before are used up",
          (unsigned long long)replica->self.boot);
}

static void take_boots_news(struct replica *replica, const struct boots_news *news)
{
    struct replica_topology *topology = &replica->topology;
    if (news->store_starts) {
        bool was_rolled_back = replica->starts.rolled_back;
        replica->starts = topology->boots.starts;
        if (replica->starts.rolled_back && !was_rolled_back) {
            replica_purge_rolled_back(replica);
            replica_operation_set_back(replica);
        }
        enum status status = local_save_identity(replica);
        (void)status;
        outlive(replica);
    }
    if (news->store_record != 0) {
        struct buf value = {.heap = replica->heap};
        boot_encode(*boots_record(&topology->boots, news->store_record), &value);
        boots_record_key(&replica->key, news->store_record);
        enum status status = buf_status(&value);
        if (status == STATUS_OK)
            status = local_put(replica, buf_slice(&replica->key), buf_slice(&value));
        if (status != STATUS_OK) outbox_drop_durable(&replica->outbox);
        buf_deinit(&value);
    }
    if (news->newer != 0) replica_map_fetch(replica, news->newer);
    set_voting(replica);
    replica_members_known(replica);
}

static void take_health_events(struct replica *replica)
{
    struct health_event event;
    while (health_next_event(replica->health, &event)) {
        switch (event.kind) {
        case HEALTH_RETURNED:
        case HEALTH_RESTARTED:
            TRACE(replica->trace, "n%u is back", event.peer);
            replica_hint_returned(replica, event.peer);
            replica_repair_begin(replica, event.peer);
            break;
        case HEALTH_MAP_AHEAD:
            replica_map_fetch(replica, event.peer);
            break;
        case HEALTH_DIED:
            TRACE(replica->trace, "n%u is down", event.peer);
            break;
        case HEALTH_TWIN:
            replica->topology.twin_boot = u64_max(replica->topology.twin_boot, event.number);
            outlive(replica);
            break;
        case HEALTH_OTHER_GENERATION:
            break;
        }
    }
}

static void topology_message(struct replica *replica, node_id from, struct slice bytes)
{
    struct topology_message message;
    const struct rangemap_identity *ours = rangemap_identity(replica->map);
    if (topology_message_decode(slice_from(bytes, 1), &message) != STATUS_OK) {
        replica->stats.invalid_count++;
        return;
    }
    switch (message.kind) {
    case TOPOLOGY_FETCH:
        if (message.generation < ours->generation ||
            (message.generation == ours->generation && message.number < ours->number))
            replica_map_send(replica, from);
        break;
    case TOPOLOGY_MAP:
        take_map(replica, from, message.map);
        break;
    case TOPOLOGY_JOIN:
        replica_moves_join(replica, &message.member, message.replaces);
        break;
    case TOPOLOGY_SYNCED:
        replica_moves_synced(replica, from, &message);
        break;
    case TOPOLOGY_CLEAR_ASK:
        replica_moves_clear_asked(replica, from, &message);
        break;
    case TOPOLOGY_CLEAR:
        replica_moves_clear(replica, from, &message);
        break;
    case TOPOLOGY_KIND_END:
        break;
    }
}

/* What the sender just said of itself, if it is of this generation. */
static void note_contact(struct replica *replica, node_id from)
{
    const struct health_card *card = health_card_of(replica->health, from);
    if (card != NULL && card->boot != 0) replica_members_met(replica, from, card->known);
}

void replica_topology_message(struct replica *replica, node_id from, struct slice bytes)
{
    struct replica_topology *topology = &replica->topology;
    struct register_news news = {0};
    struct boots_news boots_news = {0};
    struct member member;
    uint64_t now_ms = replica->time.now_ms;
    uint64_t foreign = health_counts(replica->health)->foreign_count;
    enum status status = STATUS_OK;
    switch (bytes.data[0]) {
    case PROTOCOL_HEALTH:
        status =
            health_receive(replica->health, from, bytes, now_ms, &replica->prng, &replica->outbox);
        take_health_events(replica);
        if (health_counts(replica->health)->foreign_count != foreign)
            replica_map_fetch(replica, from); /* Whose is the later one gets no answer. */
        else if (status == STATUS_OK)
            note_contact(replica, from);
        break;
    case PROTOCOL_REGISTER:
        status = register_receive(&topology->reg, from, bytes, now_ms, &replica->prng,
                                  &replica->outbox, &news);
        if (status == STATUS_OK) take_news(replica, &news);
        break;
    case PROTOCOL_BOOTS:
        /* Of who is no member by this map nothing is recorded: it asks again. */
        if (!rangemap_member_find(replica->map, from, &member)) break;
        status = boots_receive(&topology->boots, from, bytes, &replica->outbox, &boots_news);
        if (status == STATUS_OK) take_boots_news(replica, &boots_news);
        break;
    default:
        topology_message(replica, from, bytes);
        break;
    }
    if (status != STATUS_OK) replica->stats.invalid_count++;
    replica_take_outbox(replica);
}

void replica_topology_tick(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    uint64_t now_ms = replica->time.now_ms;
    if (now_ms >= topology->health_ms) {
        topology->health_ms = now_ms + HEALTH_TICK_MS;
        health_set_load(replica->health, (uint32_t)replica->flow_count, 0);
        health_tick(replica->health, now_ms, &replica->prng, &replica->outbox);
        take_health_events(replica);
        if (topology->unsaved) save_map(replica);
        acknowledge(replica);
        retire(replica);
    }
    register_tick(&topology->reg, now_ms, &replica->prng, &replica->outbox);
    boots_tick(&topology->boots, now_ms, &replica->prng, &replica->outbox);
    replica_members_known(replica);
    replica_moves_tick(replica);
    replica_take_outbox(replica);
}

uint64_t replica_topology_due_ms(const struct replica *replica)
{
    const struct replica_topology *topology = &replica->topology;
    uint64_t due = u64_min(topology->health_ms, replica_moves_due_ms(replica));
    due = u64_min(due, register_next_ms(&topology->reg));
    return u64_min(due, boots_next_ms(&topology->boots));
}
