#include "cluster/purge.h"

#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/repair_message.h"

static const struct key_range all_keys = {0};

/* --- Nodes --- */

static bool nodes_have(const struct purge_nodes *nodes, node_id id)
{
    return (nodes->words[id / 64] >> id % 64 & 1) != 0;
}

static void nodes_add(struct purge_nodes *nodes, node_id id)
{
    nodes->words[id / 64] |= UINT64_C(1) << id % 64;
}

static void nodes_remove(struct purge_nodes *nodes, node_id id)
{
    nodes->words[id / 64] &= ~(UINT64_C(1) << id % 64);
}

/* Who has to know all that is written to the shard: its owners, then its next ones. */
struct takers {
    node_id ids[2 * RANGEMAP_OWNERS_MAX];
    size_t count;
};

static struct takers takers_of(const struct shard *shard)
{
    struct takers takers = {.count = 0};
    struct owners sets[2];
    size_t set_count = shard_write_owners(shard, sets);
    for (size_t set = 0; set < set_count; set++)
        for (size_t i = 0; i < sets[set].count; i++) takers.ids[takers.count++] = sets[set].ids[i];
    return takers;
}

static bool takes(const struct shard *shard, node_id id)
{
    struct takers takers = takers_of(shard);
    for (size_t i = 0; i < takers.count; i++)
        if (takers.ids[i] == id) return true;
    return false;
}

static bool takes_alone(const struct shard *shard, node_id self)
{
    struct takers takers = takers_of(shard);
    for (size_t i = 0; i < takers.count; i++)
        if (takers.ids[i] != self) return false;
    return true;
}

static bool met_all(const struct purge_nodes *nodes, const struct shard *shard, node_id self)
{
    struct takers takers = takers_of(shard);
    for (size_t i = 0; i < takers.count; i++)
        if (takers.ids[i] != self && !nodes_have(nodes, takers.ids[i])) return false;
    return true;
}

/* Who is excluded answers nobody any more. */
static bool is_left(const struct rangemap *map, node_id id)
{
    struct member member;
    return rangemap_member_find(map, id, &member) && member.state != MEMBER_EXCLUDED;
}

static bool met_all_left(const struct purge_nodes *nodes, const struct rangemap *map,
                         const struct shard *shard, node_id self)
{
    struct takers takers = takers_of(shard);
    for (size_t i = 0; i < takers.count; i++) {
        node_id id = takers.ids[i];
        if (id != self && !nodes_have(nodes, id) && is_left(map, id)) return false;
    }
    return true;
}

/* --- Life --- */

enum status purge_init(struct purge *purge, const struct purge_env *env)
{
    *purge = (struct purge){.env = *env, .unsaved = true, .list = {.heap = env->heap}};
    return purge_ranges_init(&purge->ranges, env->heap);
}

void purge_deinit(struct purge *purge)
{
    purge_ranges_deinit(&purge->ranges);
    heap_free(purge->env.heap, purge->driver.compared);
    buf_deinit(&purge->list);
}

/* Without memory a time stays as it is, which is safe where it was to be raised. */
static bool raise(struct purge *purge, struct key_range range, enum purge_field field,
                  hlc_time time)
{
    bool changed = false;
    enum status status = purge_ranges_raise(&purge->ranges, range, field, time, &changed);
    purge->unsaved = purge->unsaved || changed;
    return status == STATUS_OK;
}

/* What is lowered must be: a range that finds no room takes all keys along. */
static void lower(struct purge *purge, struct key_range range, enum purge_field field,
                  hlc_time time)
{
    bool changed = false;
    if (purge_ranges_lower(&purge->ranges, range, field, time, &changed) != STATUS_OK) {
        for (size_t i = 0; i < purge->ranges.count; i++) {
            hlc_time *at = &purge->ranges.pieces[i].times.at[field];
            *at = u64_min(*at, time);
        }
        changed = true;
    }
    purge->unsaved = purge->unsaved || changed;
}

/* Sessions that began before count for nothing. */
static void meet_anew(struct purge *purge, struct purge_met *met)
{
    *met = (struct purge_met){.since = ++purge->number};
}

static void sources_anew(struct purge *purge)
{
    meet_anew(purge, &purge->sources);
    meet_anew(purge, &purge->settled);
}

static void fill_anew(struct purge *purge)
{
    meet_anew(purge, &purge->filling);
    sources_anew(purge);
}

static void meet_all_anew(struct purge *purge)
{
    meet_anew(purge, &purge->round);
    fill_anew(purge);
}

void purge_founded(struct purge *purge)
{
    (void)raise(purge, all_keys, PURGE_COMPLETE, PURGE_BEGINNING); /* Nothing is cut: no memory. */
}

/* --- What may be done --- */

hlc_time purge_promised(const struct purge *purge)
{
    return purge_ranges_least(&purge->ranges, all_keys).at[PURGE_PROMISED];
}

hlc_time purge_promised_at(const struct purge *purge, struct slice key)
{
    return purge_ranges_at(&purge->ranges, key).at[PURGE_PROMISED];
}

hlc_time purge_purged_at(const struct purge *purge, struct slice key)
{
    return purge_ranges_at(&purge->ranges, key).at[PURGE_PURGED];
}

static bool is_complete(const struct purge_times *times)
{
    return times->at[PURGE_COMPLETE] >= times->at[PURGE_PURGED];
}

hlc_time purge_known_at(const struct purge *purge, struct slice key)
{
    struct purge_times times = purge_ranges_at(&purge->ranges, key);
    return is_complete(&times) ? times.at[PURGE_PURGED] : 0;
}

bool purge_is_complete(const struct purge *purge, const struct key_range *range)
{
    struct purge_walk walk = purge_walk_of(*range);
    struct key_range part;
    struct purge_times times;
    while (purge_walk_next(&purge->ranges, &walk, &part, &times))
        if (!is_complete(&times)) return false;
    return true;
}

static struct key_range range_of(const struct shard *shard)
{
    return (struct key_range){shard->low, shard->high};
}

bool purge_next_sweep(const struct purge *purge, struct slice low, struct key_range *range,
                      hlc_time *upto)
{
    struct purge_walk walk = purge_walk_of((struct key_range){.low = low});
    struct purge_times times;
    while (purge_walk_next(&purge->ranges, &walk, range, &times)) {
        *upto = times.at[PURGE_PURGED];
        if (times.at[PURGE_SWEPT] < *upto) return true;
    }
    return false;
}

void purge_swept(struct purge *purge, const struct key_range *range, hlc_time upto)
{
    (void)raise(purge, *range, PURGE_SWEPT, upto);
}

/* Pieces are joined where only other times differ, so that it does not matter how it came to this. */
uint64_t purge_hash(const struct purge *purge, struct slice ranges)
{
    struct key_range range, part;
    struct purge_times times;
    uint64_t ignored, hash = 0;
    while (repair_range_next(&ranges, &range, &ignored)) {
        struct purge_walk walk = purge_walk_of(range);
        uint64_t last = 0;
        for (bool first = true; purge_walk_next(&purge->ranges, &walk, &part, &times);
             first = false) {
            hlc_time swept = times.at[PURGE_SWEPT];
            if (!first && swept == last) continue;
            last = swept;
            hash = XXH3_64bits_withSeed(part.low.data, part.low.size, hash);
            hash = XXH3_64bits_withSeed(&last, sizeof last, hash);
        }
    }
    return hash;
}

/* --- Becoming complete --- */

/* Under all maps that anybody may go by the same nodes take writes to the shard: those of its stage. */
static bool is_settled(const struct purge_look *look, const struct shard *shard)
{
    return look->retired >= shard->began;
}

static bool both_own(const struct purge *purge, const struct shard *shard, node_id id)
{
    return owners_contain(&shard->owners, purge->env.self) && owners_contain(&shard->owners, id);
}

/* Was met about this shard, and complete itself. */
static bool is_source(const struct purge *purge, const struct shard *shard, node_id id)
{
    if (nodes_have(&purge->sources.nodes, id)) return true;
    return both_own(purge, shard, id) && nodes_have(&purge->settled.nodes, id);
}

/* Of the owners that reads ask, other than this node, those that it met; `*need`: how many of them have
 * what every write left at a quorum. */
static unsigned count_met(const struct purge *purge, const struct shard *shard, unsigned *need)
{
    const struct owners *owners = shard_read_owners(shard);
    unsigned met = 0;
    *need = (unsigned)(owners->count - owners->write_quorum + 1);
    for (size_t i = 0; i < owners->count; i++)
        met += owners->ids[i] != purge->env.self && is_source(purge, shard, owners->ids[i]);
    return met;
}

/* Parts were purged to different times, and each is known no further than that. True if one was not complete. */
static bool complete(struct purge *purge, struct key_range range)
{
    struct purge_walk walk = purge_walk_of(range);
    struct key_range part;
    struct purge_times times;
    bool any = false;
    while (purge_walk_next(&purge->ranges, &walk, &part, &times)) {
        if (is_complete(&times)) continue;
        if (!raise(purge, part, PURGE_COMPLETE, times.at[PURGE_PURGED])) return any;
        any = true;
        walk = purge_walk_of(range);
    }
    return any;
}

static void fill(struct purge *purge, const struct rangemap *map, const struct shard *shard)
{
    unsigned need, met = count_met(purge, shard, &need);
    bool is_filled = met >= need ||
                     met_all_left(&purge->filling.nodes, map, shard, purge->env.self);
    /* Alone nobody knows more than is here; but what is here may be old, until a round says not. */
    if (takes_alone(shard, purge->env.self)) return;
    if (!is_filled || !purge->env.is_filled(purge->env.context, shard)) return;
    if (complete(purge, range_of(shard))) TRACE(purge->env.trace, "purge: complete again");
}

/* What follows from the sessions so far. */
static void take_stock(struct purge *purge, const struct purge_look *look)
{
    for (size_t i = 0; i < look->owned_count; i++) {
        struct shard shard = rangemap_shard(look->map, look->owned[i]);
        struct key_range range = range_of(&shard);
        if (!purge_is_complete(purge, &range)) fill(purge, look->map, &shard);
        if (purge->comparing == 0 || !met_all(&purge->round.nodes, &shard, purge->env.self))
            continue;
        if (is_settled(look, &shard) && purge->env.is_filled(purge->env.context, &shard))
            (void)raise(purge, range, PURGE_COMPLETE, purge->comparing);
    }
}

void purge_compared(struct purge *purge, const struct purge_look *look,
                    const struct repair_completed *session)
{
    bool all = session->scope == REPAIR_ALL, complete = session->peer_knows == REPAIR_KNOWS_ALL;
    const struct {
        struct purge_met *met;
        bool counts;
    } list[] = {{&purge->round, all},
                {&purge->filling, all},
                {&purge->sources, all && complete},
                {&purge->settled, complete}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].counts && session->mark >= list[i].met->since)
            nodes_add(&list[i].met->nodes, session->peer);
    take_stock(purge, look);
}

bool purge_wants_settled(const struct purge *purge, node_id peer)
{
    return !nodes_have(&purge->settled.nodes, peer);
}

void purge_filled(struct purge *purge, const struct shard *shard)
{
    (void)complete(purge, range_of(shard));
}

/* Is there a shard of this node, and of the peer, for which a session with it is still wanted? */
static bool is_wanted(const struct purge *purge, const struct purge_look *look, node_id peer)
{
    bool met = purge->comparing == 0 || nodes_have(&purge->round.nodes, peer);
    bool filled = nodes_have(&purge->filling.nodes, peer);
    if (met && filled) return false;
    for (size_t i = 0; i < look->owned_count; i++) {
        struct shard shard = rangemap_shard(look->map, look->owned[i]);
        struct key_range range = range_of(&shard);
        if (!takes(&shard, peer)) continue;
        if (!met || !purge_is_complete(purge, &range)) return true;
    }
    return false;
}

node_id purge_next_peer(const struct purge *purge, const struct purge_look *look, node_id after)
{
    for (size_t i = 0; i < look->peer_count; i++) {
        node_id id = look->peers[i];
        if (id > after && is_wanted(purge, look, id)) return id;
    }
    return 0;
}

/* --- What takes from it --- */

void purge_lost(struct purge *purge, const struct purge_ranges *kept)
{
    struct purge_walk walk = purge_walk_of(all_keys);
    struct key_range part;
    struct purge_times times;
    while (purge_walk_next(kept, &walk, &part, &times)) {
        lower(purge, part, PURGE_COMPLETE, times.at[PURGE_COMPLETE]);
        lower(purge, part, PURGE_SWEPT, times.at[PURGE_SWEPT]);
    }
    purge->unsaved = true;
    meet_all_anew(purge);
}

void purge_rolled_back(struct purge *purge)
{
    lower(purge, all_keys, PURGE_COMPLETE, 0);
    meet_all_anew(purge);
}

/* Sessions with who did not share this with this node were not about it. */
static void forget_new_sources(struct purge *purge, const struct shard *old,
                               const struct shard *shard)
{
    struct takers takers = takers_of(shard);
    bool shared = takes(old, purge->env.self);
    for (size_t i = 0; i < takers.count; i++) {
        node_id id = takers.ids[i];
        if (!shared || !takes(old, id)) nodes_remove(&purge->sources.nodes, id);
        if (both_own(purge, shard, id) && !both_own(purge, old, id))
            nodes_remove(&purge->settled.nodes, id);
    }
}

/* Where this node takes writes now and took none by the map before, it has nothing. */
static void begin_anew(struct purge *purge, const struct rangemap *before,
                       const struct shard *shard)
{
    size_t first, end;
    rangemap_find_range(before, shard_first_key(shard), shard->high, &first, &end);
    for (; first < end; first++) {
        struct shard old = rangemap_shard(before, first);
        struct key_range range = range_of(&old);
        forget_new_sources(purge, &old, shard);
        if (takes(&old, purge->env.self)) continue;
        if (slice_compare(range.low, shard->low) < 0) range.low = shard->low;
        if (range.high.size == 0 ||
            (shard->high.size != 0 && slice_compare(shard->high, range.high) < 0))
            range.high = shard->high;
        lower(purge, range, PURGE_COMPLETE, 0);
    }
}

void purge_map_changed(struct purge *purge, const struct rangemap *before,
                       const struct rangemap *map)
{
    for (size_t i = 0; before != NULL && i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        if (takes(&shard, purge->env.self)) begin_anew(purge, before, &shard);
    }
    /* Sessions were about what was shared before. */
    purge->comparing = 0;
    meet_anew(purge, &purge->round);
    meet_anew(purge, &purge->filling);
    bool recovered = before == NULL || rangemap_identity(before)->generation_id !=
                                           rangemap_identity(map)->generation_id;
    if (recovered) sources_anew(purge);
}

/* --- A member's side --- */

static void send_message(node_id to, bool durable, const struct purge_message *message,
                         struct outbox *outbox)
{
    purge_message_encode(message, outbox_begin(outbox, to, PROTOCOL_PURGE));
    outbox_end(outbox, durable);
}

static struct purge_message message_of(enum purge_kind kind, const struct rangemap *map,
                                       hlc_time upto)
{
    const struct rangemap_identity *identity = rangemap_identity(map);
    return (struct purge_message){.kind = kind,
                                  .generation = identity->generation,
                                  .map_number = identity->number,
                                  .upto = upto};
}

/* What lies in the future would stop all writes. */
static bool is_past(const struct purge_look *look, hlc_time upto)
{
    return hlc_wall_ms(upto) <= look->wall_ms;
}

/* First it is kept, then told: the driver asks again. */
static void promise(struct purge *purge, node_id driver, const struct purge_message *message,
                    const struct purge_look *look, struct outbox *outbox)
{
    hlc_time upto = message->upto;
    if (!is_past(look, upto)) return;
    if (purge->promised_durable < upto) {
        (void)raise(purge, all_keys, PURGE_PROMISED, upto);
        return;
    }
    if (purge->env.owes(purge->env.context, upto) && !planted(BUG_PURGE_IGNORES_HINTS)) return;
    struct purge_message given = message_of(PURGE_PROMISE_GIVEN, look->map, upto);
    send_message(driver, false, &given, outbox);
}

/* A list of ranges that goes out in as many messages as it needs. Neighbours become one. */
struct teller {
    struct purge *purge;
    struct purge_message message;
    struct outbox *outbox;
    struct key_range range; /* Not appended yet. */
    hlc_time upto;
    bool open;
};

static void tell_flush(struct teller *teller, node_id to, bool durable)
{
    struct buf *list = &teller->purge->list;
    if (teller->open) {
        purge_range_append(list, &teller->range, teller->upto);
        teller->message.range_count++;
        teller->open = false;
    }
    teller->message.ranges = buf_slice(list);
    if (teller->message.range_count > 0 && buf_status(list) == STATUS_OK)
        send_message(to, durable, &teller->message, teller->outbox);
    buf_clear(list);
    teller->message.range_count = 0;
}

static void tell_range(struct teller *teller, node_id to, bool durable,
                       const struct key_range *range, hlc_time upto)
{
    if (teller->open && teller->upto == upto && slice_equal(teller->range.high, range->low)) {
        teller->range.high = range->high;
        return;
    }
    if (teller->open) {
        purge_range_append(&teller->purge->list, &teller->range, teller->upto);
        teller->message.range_count++;
        teller->open = false;
    }
    if (teller->message.range_count == PURGE_RANGES_MAX - 1) tell_flush(teller, to, durable);
    teller->range = *range;
    teller->upto = upto;
    teller->open = true;
}

static struct teller teller_of(struct purge *purge, enum purge_kind kind,
                               const struct rangemap *map, struct outbox *outbox)
{
    buf_clear(&purge->list);
    return (struct teller){.purge = purge, .message = message_of(kind, map, 0), .outbox = outbox};
}

static void report(struct purge *purge, node_id driver, hlc_time upto,
                   const struct purge_look *look, struct outbox *outbox)
{
    struct teller teller = teller_of(purge, PURGE_COMPARED, look->map, outbox);
    for (size_t i = 0; i < look->owned_count; i++) {
        struct shard shard = rangemap_shard(look->map, look->owned[i]);
        struct key_range range = range_of(&shard);
        if (!is_settled(look, &shard)) continue;
        if (purge_ranges_least(&purge->ranges, range).at[PURGE_COMPLETE] >= upto)
            tell_range(&teller, driver, true, &range, upto);
    }
    tell_flush(&teller, driver, true);
}

static bool is_of_map(const struct purge_message *message, const struct rangemap *map)
{
    const struct rangemap_identity *identity = rangemap_identity(map);
    return message->generation == identity->generation && message->map_number == identity->number;
}

static void compare(struct purge *purge, node_id driver, const struct purge_message *message,
                    const struct purge_look *look, struct outbox *outbox)
{
    if (!is_of_map(message, look->map) || purge->promised_durable < message->upto) return;
    if (purge->comparing < message->upto) {
        purge->comparing = message->upto;
        meet_anew(purge, &purge->round);
    }
    take_stock(purge, look); /* Who owns alone has nobody to meet; and maps retire meanwhile. */
    report(purge, driver, message->upto, look, outbox);
}

static void adopt(struct purge *purge, struct key_range range, hlc_time upto)
{
    hlc_time before = purge_ranges_least(&purge->ranges, range).at[PURGE_PURGED];
    if (before >= upto) return;
    if (!raise(purge, range, PURGE_PROMISED, upto)) return;
    if (!raise(purge, range, PURGE_PURGED, upto)) return;
    TRACE(purge->env.trace, "purge: up to %llu", (unsigned long long)hlc_wall_ms(upto));
    if (!purge_is_complete(purge, &range)) fill_anew(purge);
}

/* Where shards and ranges overlap. */
static void adopt_all(struct purge *purge, const struct purge_message *message,
                      const struct purge_look *look)
{
    struct slice rest = message->ranges;
    struct key_range range;
    hlc_time upto;
    if (!is_of_map(message, look->map)) return;
    while (purge_range_next(&rest, &range, &upto)) {
        size_t first, end;
        if (!is_past(look, upto)) continue;
        rangemap_find_range(look->map, range.low, range.high, &first, &end);
        for (; first < end; first++) {
            struct shard shard = rangemap_shard(look->map, first);
            struct key_range part = range_of(&shard);
            if (!takes(&shard, purge->env.self)) continue;
            if (slice_compare(part.low, range.low) < 0) part.low = range.low;
            if (part.high.size == 0 ||
                (range.high.size != 0 && slice_compare(range.high, part.high) < 0))
                part.high = range.high;
            adopt(purge, part, upto);
        }
    }
}

void purge_tell(struct purge *purge, node_id to, const struct rangemap *map, struct slice ranges,
                struct outbox *outbox)
{
    struct teller teller = teller_of(purge, PURGE_DONE, map, outbox);
    struct key_range range, part;
    struct purge_times times;
    uint64_t ignored;
    while (repair_range_next(&ranges, &range, &ignored)) {
        struct purge_walk walk = purge_walk_of(range);
        while (purge_walk_next(&purge->ranges, &walk, &part, &times))
            if (times.at[PURGE_PURGED] > PURGE_BEGINNING)
                tell_range(&teller, to, true, &part, times.at[PURGE_PURGED]);
    }
    tell_flush(&teller, to, true);
}

void purge_promise_durable(struct purge *purge, hlc_time promised)
{
    purge->promised_durable = u64_max(purge->promised_durable, promised);
}

/* --- The driver's side --- */

static uint64_t interval_ms(const struct rangemap *map)
{
    uint64_t share = rangemap_settings(map)->tombstone_gc_ms / 16;
    return u64_max(PURGE_INTERVAL_MIN_MS, u64_min(share, PURGE_INTERVAL_MAX_MS));
}

static void stop(struct purge *purge, uint64_t next_ms)
{
    struct purge_round *round = &purge->driver;
    heap_free(purge->env.heap, round->compared);
    *round = (struct purge_round){.next_ms = next_ms};
}

static bool is_of_round(const struct purge *purge, const struct rangemap *map)
{
    const struct rangemap_identity *identity = rangemap_identity(map);
    return purge->driver.generation == identity->generation &&
           purge->driver.map_number == identity->number;
}

static void begin(struct purge *purge, const struct purge_look *look)
{
    struct purge_round *round = &purge->driver;
    const struct rangemap_identity *identity = rangemap_identity(look->map);
    uint64_t wall_ms = look->wall_ms - u64_min(look->wall_ms, PURGE_LAG_MS);
    size_t count = rangemap_shard_count(look->map);
    stop(purge, look->now_ms + PURGE_AGAIN_MS);
    hlc_time upto = wall_ms << HLC_COUNTER_BITS;
    if (upto <= purge_promised(purge)) return;
    round->compared = heap_zalloc(purge->env.heap, count * sizeof *round->compared);
    if (round->compared == NULL) return;
    round->shard_count = count;
    round->phase = PURGE_PROMISING;
    round->upto = upto;
    round->generation = identity->generation;
    round->map_number = identity->number;
    round->end_ms = look->now_ms + PURGE_ROUND_MS;
    purge->round_count++;
}

static bool is_compared(const struct purge_round *round, size_t index, const struct shard *shard)
{
    unsigned owners = (unsigned)takers_of(shard).count;
    unsigned compared = (unsigned)__builtin_popcount(round->compared[index]);
    if (planted(BUG_PURGE_WITHOUT_SILENT_OWNER)) compared++;
    return compared >= owners;
}

/* Members that this phase waits for; how many. */
static size_t list_waited(const struct purge *purge, const struct rangemap *map,
                          struct purge_nodes *waited)
{
    const struct purge_round *round = &purge->driver;
    size_t count = 0;
    *waited = (struct purge_nodes){0};
    for (size_t i = 0; round->phase == PURGE_PROMISING && i < rangemap_member_count(map); i++) {
        struct member member = rangemap_member(map, i);
        if (member.state == MEMBER_EXCLUDED || nodes_have(&round->promised, member.id)) continue;
        nodes_add(waited, member.id);
        count++;
    }
    for (size_t i = 0; round->phase == PURGE_COMPARING && i < round->shard_count; i++) {
        struct shard shard = rangemap_shard(map, i);
        struct takers takers = takers_of(&shard);
        if (is_compared(round, i, &shard)) continue;
        count++;
        for (size_t j = 0; j < takers.count; j++)
            if ((round->compared[i] >> j & 1) == 0) nodes_add(waited, takers.ids[j]);
    }
    return count;
}

static void ask(struct purge *purge, const struct purge_look *look, struct outbox *outbox)
{
    struct purge_round *round = &purge->driver;
    struct purge_nodes waited;
    list_waited(purge, look->map, &waited);
    struct purge_message message = message_of(
        round->phase == PURGE_PROMISING ? PURGE_PROMISE : PURGE_COMPARE, look->map, round->upto);
    for (size_t i = 0; i < rangemap_member_count(look->map); i++) {
        node_id id = rangemap_member(look->map, i).id;
        if (nodes_have(&waited, id)) send_message(id, false, &message, outbox);
    }
    round->ask_ms = look->now_ms + PURGE_ASK_MS;
}

/* Tells the members what all owners have compared. */
static void finish(struct purge *purge, const struct purge_look *look, struct outbox *outbox)
{
    const struct purge_round *round = &purge->driver;
    uint64_t gc_ms = rangemap_settings(look->map)->tombstone_gc_ms;
    uint64_t age_ms = look->wall_ms - u64_min(look->wall_ms, gc_ms);
    hlc_time upto = u64_min(round->upto, age_ms << HLC_COUNTER_BITS);
    for (size_t i = 0; upto > 0 && i < rangemap_member_count(look->map); i++) {
        struct member member = rangemap_member(look->map, i);
        struct teller teller = teller_of(purge, PURGE_DONE, look->map, outbox);
        if (member.state == MEMBER_EXCLUDED) continue;
        for (size_t j = 0; j < round->shard_count; j++) {
            struct shard shard = rangemap_shard(look->map, j);
            struct key_range range = range_of(&shard);
            if (is_compared(round, j, &shard)) tell_range(&teller, member.id, false, &range, upto);
        }
        tell_flush(&teller, member.id, false);
    }
    TRACE(purge->env.trace, "purge: round up to %llu is over",
          (unsigned long long)hlc_wall_ms(round->upto));
    purge->done_count++;
    stop(purge, look->now_ms + interval_ms(look->map));
}

static void go_on(struct purge *purge, const struct purge_look *look, struct outbox *outbox)
{
    struct purge_round *round = &purge->driver;
    struct purge_nodes waited;
    size_t left = list_waited(purge, look->map, &waited);
    if (left > 0 &&
        !(planted(BUG_PURGE_WITHOUT_SILENT_OWNER) && left == 1 && round->phase == PURGE_PROMISING))
        return;
    if (round->phase == PURGE_COMPARING) {
        finish(purge, look, outbox);
        return;
    }
    round->phase = PURGE_COMPARING;
    ask(purge, look, outbox);
}

static void take_promise(struct purge *purge, node_id from, const struct purge_message *message,
                         const struct purge_look *look, struct outbox *outbox)
{
    struct purge_round *round = &purge->driver;
    if (round->phase != PURGE_PROMISING || message->upto != round->upto) return;
    if (!is_of_round(purge, look->map)) return;
    nodes_add(&round->promised, from);
    go_on(purge, look, outbox);
}

static bool is_inside(const struct shard *shard, const struct key_range *range)
{
    return slice_compare(range->low, shard->low) <= 0 &&
           (range->high.size == 0 ||
            (shard->high.size != 0 && slice_compare(shard->high, range->high) <= 0));
}

static void take_compared(struct purge *purge, node_id from, const struct purge_message *message,
                          const struct purge_look *look, struct outbox *outbox)
{
    struct purge_round *round = &purge->driver;
    struct slice rest = message->ranges;
    struct key_range range;
    hlc_time upto;
    if (round->phase != PURGE_COMPARING || !is_of_round(purge, look->map)) return;
    if (!is_of_map(message, look->map)) return;
    while (purge_range_next(&rest, &range, &upto)) {
        size_t first, end;
        if (upto < round->upto) continue;
        rangemap_find_range(look->map, range.low, range.high, &first, &end);
        for (; first < end; first++) {
            struct shard shard = rangemap_shard(look->map, first);
            struct takers takers = takers_of(&shard);
            if (!is_inside(&shard, &range)) continue;
            for (size_t i = 0; i < takers.count; i++)
                if (takers.ids[i] == from) round->compared[first] |= (uint16_t)(1 << i);
        }
    }
    go_on(purge, look, outbox);
}

void purge_tick(struct purge *purge, const struct purge_look *look, struct outbox *outbox)
{
    struct purge_round *round = &purge->driver;
    uint64_t now_ms = look->now_ms;
    if (round->next_ms == 0) round->next_ms = now_ms + interval_ms(look->map);
    if (!look->drives || (round->phase != PURGE_IDLE && !is_of_round(purge, look->map))) {
        if (round->phase != PURGE_IDLE) stop(purge, now_ms + PURGE_AGAIN_MS);
        if (!look->drives) return;
    }
    bool all_up = look->all_up || planted(BUG_PURGE_WITHOUT_SILENT_OWNER);
    if (round->phase == PURGE_IDLE) {
        if (now_ms < round->next_ms) return;
        if (all_up)
            begin(purge, look);
        else
            round->next_ms = now_ms + PURGE_AGAIN_MS;
        if (round->phase == PURGE_IDLE) return;
    }
    if (now_ms >= round->end_ms) {
        if (round->phase == PURGE_COMPARING)
            finish(purge, look, outbox);
        else
            stop(purge, now_ms + PURGE_AGAIN_MS);
    } else if (now_ms >= round->ask_ms) {
        ask(purge, look, outbox);
    }
}

uint64_t purge_due_ms(const struct purge *purge, const struct purge_look *look)
{
    const struct purge_round *round = &purge->driver;
    if (!look->drives) return UINT64_MAX;
    if (round->phase == PURGE_IDLE) return round->next_ms;
    return u64_min(round->ask_ms, round->end_ms);
}

enum status purge_receive(struct purge *purge, node_id from, struct slice bytes,
                          const struct purge_look *look, struct outbox *outbox)
{
    struct purge_message message;
    enum status status = purge_message_decode(bytes, &message);
    if (status != STATUS_OK) {
        purge->invalid_count++;
        return status;
    }
    switch (message.kind) {
    case PURGE_PROMISE:
        promise(purge, from, &message, look, outbox);
        break;
    case PURGE_PROMISE_GIVEN:
        take_promise(purge, from, &message, look, outbox);
        break;
    case PURGE_COMPARE:
        compare(purge, from, &message, look, outbox);
        break;
    case PURGE_COMPARED:
        take_compared(purge, from, &message, look, outbox);
        break;
    case PURGE_DONE:
        adopt_all(purge, &message, look);
        break;
    case PURGE_KIND_END:
        break;
    }
    return STATUS_OK;
}
