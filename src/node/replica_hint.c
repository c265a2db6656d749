/* What peers are owed: records that an owner missed, kept until it has them.
 *
 *     key    00 'h' peer (2, big-endian) version (8 + 2, big-endian) hash of the key (16)
 *     value  varint size of the key, key, record
 *
 * so that each peer's hints lie together, oldest first. A few at a time are on their way; one that
 * is acknowledged is forgotten, all others are sent again. What a peer owns no more is owed to those
 * who own it now. */
#include <stdlib.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "core/key.h"
#include "node/replica_private.h"

enum {
    HINT_RETRY_MS = 1000,
    HINT_WINDOWS_AT_ONCE = 16,
    HINTS_COPIED_AT_ONCE = 1024, /* For who comes to own their keys, which asks every second. */
};

static void append_u16be(struct buf *out, uint16_t value)
{
    buf_append_u8(out, (uint8_t)(value >> 8));
    buf_append_u8(out, (uint8_t)value);
}

static void hint_peer_key(struct buf *key, node_id peer)
{
    local_key(key, LOCAL_HINT);
    append_u16be(key, peer);
}

static void hint_key(struct buf *out, node_id peer, struct version version, struct slice key)
{
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(key.data, key.size));
    hint_peer_key(out, peer);
    for (int shift = 48; shift >= 0; shift -= 16)
        append_u16be(out, (uint16_t)(version.time >> shift));
    append_u16be(out, version.node);
    buf_append(out, hash.digest, sizeof hash.digest);
}

static struct peer_hints *hints_of(struct replica *replica, node_id peer)
{
    for (size_t i = 0; i < replica->hint_peer_count; i++)
        if (replica->hints[i].peer == peer) return &replica->hints[i];
    struct peer_hints *hints =
        heap_realloc(replica->heap, replica->hints, (replica->hint_peer_count + 1) * sizeof *hints);
    if (hints == NULL) return NULL;
    replica->hints = hints;
    hints = &hints[replica->hint_peer_count++];
    *hints = (struct peer_hints){
        .peer = peer, .after = {.heap = replica->heap}, .copied_to = {.heap = replica->heap}};
    for (size_t i = 0; i < REPLICA_HINT_WINDOW; i++) hints->flights[i].name.heap = replica->heap;
    return hints;
}

void replica_hint_free(struct replica *replica)
{
    for (size_t i = 0; i < replica->hint_peer_count; i++) {
        struct peer_hints *hints = &replica->hints[i];
        buf_deinit(&hints->after);
        buf_deinit(&hints->copied_to);
        for (size_t j = 0; j < REPLICA_HINT_WINDOW; j++) buf_deinit(&hints->flights[j].name);
    }
    heap_free(replica->heap, replica->hints);
}

uint64_t replica_hint_total(const struct replica *replica)
{
    uint64_t total = 0;
    for (size_t i = 0; i < replica->hint_peer_count; i++) total += replica->hints[i].count;
    return total;
}

/* Counts go with the batch under way. */
static void count_change(struct peer_hints *hints, int by)
{
    hints->count += (uint64_t)by;
    hints->count_in_batch += by;
}

void replica_hint_batch_done(struct replica *replica, bool kept)
{
    for (size_t i = 0; i < replica->hint_peer_count; i++) {
        struct peer_hints *hints = &replica->hints[i];
        if (!kept) hints->count -= (uint64_t)hints->count_in_batch;
        hints->count_in_batch = 0;
    }
}

static bool is_excluded(const struct replica *replica, node_id peer)
{
    struct member member;
    return rangemap_member_find(replica->map, peer, &member) && member.state == MEMBER_EXCLUDED;
}

static bool has_room(const struct replica *replica, node_id peer)
{
    if (is_excluded(replica, peer)) return false; /* It never comes back. */
    return replica_hint_total(replica) < replica->hints_max;
}

/* Whatever there is already. */
static bool keep_hint(struct replica *replica, node_id peer, struct slice key,
                      const struct record *record)
{
    struct peer_hints *hints = hints_of(replica, peer);
    if (hints == NULL) return false;
    struct buf value, encoded;
    buf_init(&value, replica->heap);
    buf_init(&encoded, replica->heap);
    hint_key(&replica->key, peer, record->version, key);
    record_encode(record, &encoded);
    buf_append_varint(&value, key.size);
    buf_append_slice(&value, key);
    buf_append_slice(&value, buf_slice(&encoded));
    enum status status = buf_status(&encoded);
    if (status == STATUS_OK) status = buf_status(&value);
    if (status == STATUS_OK) status = buf_status(&replica->key);
    bool is_new = false;
    if (status == STATUS_OK)
        status = local_put_new(replica, buf_slice(&replica->key), buf_slice(&value), &is_new);
    buf_deinit(&encoded);
    buf_deinit(&value);
    if (status != STATUS_OK) return false;
    count_change(hints, is_new ? 1 : 0);
    if (hints->retry_ms == 0) hints->retry_ms = replica->time.now_ms + HINT_RETRY_MS;
    return true;
}

bool replica_hint_keep(struct replica *replica, node_id peer, struct slice key,
                       const struct record *record)
{
    /* It was promised that there are none: the owner learns of it by repair. */
    if (record->version.time <= replica_promised(replica, key)) return false;
    return has_room(replica, peer) && keep_hint(replica, peer, key, record);
}

static enum status see_hint(void *context, struct slice key, const struct record *record)
{
    hlc_time *oldest = context, time = 0;
    (void)record;
    if (key.size < 12) return STATUS_OK;
    for (size_t i = 4; i < 12; i++) time = time << 8 | key.data[i];
    *oldest = time;
    return STATUS_END;
}

/* Each peer's lie in the order of their versions. */
bool replica_hint_owes(const struct replica *replica, hlc_time upto)
{
    struct buf prefix = {.heap = replica->heap};
    bool owes = false;
    for (size_t i = 0; i < replica->hint_peer_count && !owes; i++) {
        struct query query = replica_query(replica);
        struct query_from from = {0};
        hlc_time oldest = UINT64_MAX;
        if (replica->hints[i].count == 0) continue;
        hint_peer_key(&prefix, replica->hints[i].peer);
        enum status status = query_scan(&query, buf_slice(&prefix), &from, 1, see_hint, &oldest);
        owes = status != STATUS_OK || prefix.failed || oldest <= upto;
    }
    buf_deinit(&prefix);
    return owes;
}

/* --- Delivery --- */

struct hint_walk {
    struct replica *replica;
    struct peer_hints *hints;
    struct slice prefix;
};

static struct hint_flight *free_flight(struct peer_hints *hints)
{
    for (size_t i = 0; i < REPLICA_HINT_WINDOW; i++)
        if (hints->flights[i].label == 0) return &hints->flights[i];
    return NULL;
}

static bool keep_for(struct replica *replica, node_id owner, struct slice key,
                     const struct record *record)
{
    struct store_outcome outcome;
    if (owner != replica->self.id)
        return is_excluded(replica, owner) || keep_hint(replica, owner, key, record);
    replica_merge(replica, key, record, &outcome);
    return outcome.status == STATUS_OK;
}

/* The peer owns the key no more: all that do are owed the record instead, in the same batch, however many
 * hints there are: else nobody would ever be rid of those that fill the room. May move replica->hints. */
static void reroute(struct replica *replica, size_t peer, struct slice name,
                    const struct data_message *message)
{
    struct owners sets[2];
    struct shard shard = rangemap_shard(replica->map, rangemap_find(replica->map, message->key));
    size_t count = shard_write_owners(&shard, sets);
    for (size_t set = 0; set < count; set++)
        for (size_t i = 0; i < sets[set].count; i++)
            if (!keep_for(replica, sets[set].ids[i], message->key, &message->record)) return;
    TRACE(replica->trace, "n%u owns a key no more: its owners are owed the hint",
          replica->hints[peer].peer);
    if (local_forget(replica, name)) count_change(&replica->hints[peer], -1);
}

/* Into replica->value, of which `key` and `record` borrow. Errors: STATUS_CORRUPT, those of the store. */
static enum status read_hint(struct replica *replica, struct slice name, struct slice *key,
                             struct record *record)
{
    enum status status = local_get(replica, name, &replica->value);
    if (status != STATUS_OK) return status;
    struct reader reader = reader_of(buf_slice(&replica->value));
    uint64_t size = reader_varint(&reader);
    *key = reader_bytes(&reader, size);
    struct slice encoded = reader_bytes(&reader, reader_left(&reader));
    bool good = !reader.failed && key->size > 0 && record_decode(encoded, record) == STATUS_OK;
    return good ? STATUS_OK : STATUS_CORRUPT;
}

/* What cannot be read is owed no more, or nothing would ever be purged again: the owner learns of it by repair. */
static void give_up(struct replica *replica, size_t peer, struct slice name)
{
    TRACE(replica->trace, "a hint for n%u is damaged: give it up", replica->hints[peer].peer);
    if (local_forget(replica, name)) count_change(&replica->hints[peer], -1);
}

/* Sends one. May move replica->hints. */
static void send_hint(struct replica *replica, size_t peer, struct slice name)
{
    struct peer_hints *hints = &replica->hints[peer];
    struct hint_flight *flight = free_flight(hints);
    struct data_message message = {.kind = DATA_APPLY, .apply = DATA_APPLY_HINT};
    enum status status = read_hint(replica, name, &message.key, &message.record);
    if (status == STATUS_CORRUPT) give_up(replica, peer, name);
    if (status != STATUS_OK) return;
    if (!rangemap_takes(replica->map, hints->peer, message.key)) {
        reroute(replica, peer, name, &message);
        return;
    }

    buf_clear(&flight->name);
    buf_append_slice(&flight->name, name);
    if (buf_status(&flight->name) != STATUS_OK) return;
    flight->label = HINT_LABEL | ++replica->hint_label;
    message.flow = flight->label;
    hints->flight_count++;
    replica_send(replica, hints->peer, false, &message);
}

/* A key of the first piece of a hint: the name is what comes before its last byte. */
static enum status visit_hint(void *context, struct slice key, const struct record *record)
{
    struct hint_walk *walk = context;
    struct peer_hints *hints = walk->hints;
    (void)record;
    if (hints->flight_count == REPLICA_HINT_WINDOW) return STATUS_END;
    if (key.data[key.size - 1] != 0) return STATUS_OK;
    buf_append_u8(&walk->replica->ranges, (uint8_t)(key.size - 1));
    buf_append_slice(&walk->replica->ranges, slice_prefix(key, key.size - 1));
    hints->flight_count++;
    return STATUS_OK;
}

/* The names first, then the messages: sending uses the view's scratch again. False: there are no more. */
static bool send_some(struct replica *replica, size_t peer)
{
    struct peer_hints *hints = &replica->hints[peer];
    struct buf *names = &replica->ranges;
    struct query query = replica_query(replica);
    struct hint_walk walk = {.replica = replica, .hints = hints};
    struct query_from from = {.key = buf_slice(&hints->after)};
    size_t in_flight = hints->flight_count;
    buf_clear(names);
    hint_peer_key(&replica->key, hints->peer);
    enum status status =
        query_scan(&query, buf_slice(&replica->key), &from, UINT64_MAX, visit_hint, &walk);
    bool found = hints->flight_count > in_flight;
    hints->flight_count = in_flight;
    if (status != STATUS_OK || names->failed) return false;

    struct reader reader = reader_of(buf_slice(names));
    while (reader_left(&reader) > 0) {
        struct slice name = reader_bytes(&reader, reader_u8(&reader));
        hints = &replica->hints[peer];
        buf_clear(&hints->after);
        buf_append_slice(&hints->after, name);
        buf_append_u8(&hints->after, UINT8_MAX);
        send_hint(replica, peer, name);
    }
    hints = &replica->hints[peer];
    if (!found) buf_clear(&hints->after); /* Once more from the oldest. */
    return found;
}

/* On with the walk until some are on their way: those that went to other owners are not. */
static void send_more(struct replica *replica, size_t peer)
{
    for (int i = 0; i < HINT_WINDOWS_AT_ONCE && replica->hints[peer].flight_count == 0; i++)
        if (!send_some(replica, peer)) return;
}

void replica_hint_tick(struct replica *replica)
{
    uint64_t now_ms = replica->time.now_ms;
    for (size_t i = 0; i < replica->hint_peer_count; i++) {
        struct peer_hints *hints = &replica->hints[i];
        if (hints->count == 0 || now_ms < hints->retry_ms) continue;
        hints->retry_ms = now_ms + HINT_RETRY_MS;
        struct member member;
        bool is_member = rangemap_member_find(replica->map, hints->peer, &member);
        if (is_member && replica_is_down(replica, hints->peer)) continue;
        /* Those that were not answered count as lost. */
        for (size_t j = 0; j < REPLICA_HINT_WINDOW; j++) hints->flights[j].label = 0;
        hints->flight_count = 0;
        buf_clear(&hints->after);
        send_more(replica, i);
    }
}

/* The peer has no room for any; else others may do better than this one. */
static bool takes_none(enum data_verdict verdict)
{
    return verdict == DATA_FULL || verdict == DATA_BUSY;
}

void replica_hint_applied(struct replica *replica, node_id from, const struct data_message *message)
{
    struct peer_hints *hints = hints_of(replica, from);
    if (hints == NULL) return;
    size_t peer = (size_t)(hints - replica->hints);
    for (size_t i = 0; i < REPLICA_HINT_WINDOW; i++) {
        struct hint_flight *flight = &hints->flights[i];
        if (flight->label != message->flow) continue;
        flight->label = 0;
        hints->flight_count--;
        if (takes_none(message->verdict)) return; /* Once more later. */
        hints->retry_ms = replica->time.now_ms + HINT_RETRY_MS;
        if (message->verdict == DATA_OK && local_forget(replica, buf_slice(&flight->name)))
            count_change(hints, -1);
        if (hints->flight_count == 0 && hints->count > 0) send_more(replica, peer);
        return;
    }
}

void replica_hint_returned(struct replica *replica, node_id peer)
{
    for (size_t i = 0; i < replica->hint_peer_count; i++)
        if (replica->hints[i].peer == peer) replica->hints[i].retry_ms = replica->time.now_ms;
}

/* --- Who comes to own what others are owed --- */

struct copying {
    struct replica *replica;
    node_id peer;
    size_t count;
};

/* Of the value of a hint, or of its first piece, which begins with their number. */
static struct slice hint_word(struct slice value)
{
    struct reader reader = reader_of(value);
    uint64_t size = reader_varint(&reader);
    struct slice key = reader_bytes(&reader, reader.failed ? 0 : size);
    return reader.failed ? (struct slice){0} : key;
}

/* Lists the hints for others that the peer should have as well. */
static enum status visit_owed(void *context, struct slice key, const struct record *record)
{
    struct copying *copying = context;
    const struct rangemap *map = copying->replica->map;
    if (key.size < 5 || key.data[key.size - 1] != 0) return STATUS_OK;
    if (copying->count == HINTS_COPIED_AT_ONCE) return STATUS_END;
    if ((node_id)(key.data[2] << 8 | key.data[3]) == copying->peer) return STATUS_OK;
    struct slice word = hint_word(local_value_begin(record));
    if (word.size == 0) return STATUS_OK;
    struct shard shard = rangemap_shard(map, rangemap_find(map, word));
    if (shard.stage == SHARD_STABLE || !owners_contain(&shard.next, copying->peer))
        return STATUS_OK;
    buf_append_u8(&copying->replica->ranges, (uint8_t)(key.size - 1));
    buf_append_slice(&copying->replica->ranges, slice_prefix(key, key.size - 1));
    copying->count++;
    return buf_status(&copying->replica->ranges);
}

/* One that is damaged is given up where it is sent. */
static bool copy_hint(struct replica *replica, node_id peer, struct slice name)
{
    struct record record;
    struct slice word;
    enum status status = read_hint(replica, name, &word, &record);
    if (status != STATUS_OK) return status == STATUS_CORRUPT;
    /* They are on their way soon: the peer has just asked. */
    return keep_hint(replica, peer, word, &record);
}

/* Some of them in one batch, behind `hints->copied_to`. `*more`: there may be others. */
static bool copy_hints(struct replica *replica, node_id peer, bool *more)
{
    struct copying copying = {.replica = replica, .peer = peer};
    struct query query = replica_query(replica);
    struct query_from from = {.key = buf_slice(&hints_of(replica, peer)->copied_to)};
    buf_clear(&replica->ranges);
    local_key(&replica->key, LOCAL_HINT);
    enum status status =
        query_scan(&query, buf_slice(&replica->key), &from, UINT64_MAX, visit_owed, &copying);
    bool good = status == STATUS_OK && !replica->ranges.failed;
    struct buf names = replica->ranges; /* Keeping one may use the scratch again. */
    replica->ranges = (struct buf){.heap = replica->heap};
    struct reader reader = reader_of(buf_slice(&names));
    struct slice last = {0};
    while (good && reader_left(&reader) > 0) {
        last = reader_bytes(&reader, reader_u8(&reader));
        good = copy_hint(replica, peer, last);
    }
    *more = copying.count == HINTS_COPIED_AT_ONCE;
    if (good && *more) {
        struct buf *to = &hints_of(replica, peer)->copied_to;
        buf_clear(to);
        buf_append_slice(to, last);
        buf_append_u8(to, UINT8_MAX); /* Behind its pieces. */
        good = buf_status(to) == STATUS_OK;
    }
    buf_deinit(&names);
    return good;
}

bool replica_hint_clear(struct replica *replica, node_id peer)
{
    struct peer_hints *hints = hints_of(replica, peer);
    uint64_t map = rangemap_identity(replica->map)->hash.low;
    if (hints == NULL) return false;
    if (hints->copying != map) {
        hints->copying = map;
        buf_clear(&hints->copied_to);
    }
    if (hints->copied != map) {
        bool more = false;
        bool others = replica_hint_total(replica) > hints->count;
        if (others && !copy_hints(replica, peer, &more)) return false;
        hints = hints_of(replica, peer);
        if (!more) hints->copied = map;
    }
    if (hints->copied != map) return false; /* It asks again. */
    if (hints->count == 0) return true;
    hints->retry_ms = u64_min(hints->retry_ms, replica->time.now_ms);
    return false;
}

/* --- After a start --- */

static enum status count_hint(void *context, struct slice key, const struct record *record)
{
    struct replica *replica = context;
    (void)record;
    if (key.size < 5 || key.data[key.size - 1] != 0) return STATUS_OK;
    struct peer_hints *hints = hints_of(replica, (node_id)(key.data[2] << 8 | key.data[3]));
    if (hints == NULL) return STATUS_NOMEM;
    hints->count++;
    hints->retry_ms = replica->time.now_ms;
    return STATUS_OK;
}

enum status replica_hint_load(struct replica *replica)
{
    /* A late answer to the start before must not pass for one to this. */
    replica->hint_label = prng_u64(&replica->prng) >> 2;
    struct query query = replica_query(replica);
    struct query_from from = {0};
    local_key(&replica->key, LOCAL_HINT);
    return query_scan(&query, buf_slice(&replica->key), &from, UINT64_MAX, count_hint, replica);
}
