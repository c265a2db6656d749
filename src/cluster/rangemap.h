/* The rangemap: who is a member, what the cluster is set to, and who owns which keys.
 *
 * A map is one version of it, never changed once built. The next version is the map that a delta
 * makes of this one (cluster/rangemap_delta.h), so that who has the same map and the same delta
 * has the same next map, byte for byte, and proves it by the hash.
 *
 * A shard is a range of keys with its owners. Owners carry the quorums that they are run with:
 * a change of the replication factor or of a quorum is a move like any other, and takes effect
 * shard by shard. A shard is in one of three stages:
 *
 *     stage      writes need their quorum in   reads ask
 *     stable     owners                        owners
 *     filling    owners and next owners        owners
 *     switched   owners and next owners        next owners
 *
 * Invariants (rangemap_apply() and rangemap_decode() let no other map exist)
 *   1. Shards are in order of their keys and cover the key space without a gap: the first
 *      begins with the empty key, each other one with a cut that does not begin with 00, as
 *      keys do that a node holds for itself.
 *   2. A stable shard has no next owners, another one has, with other nodes or other quorums.
 *   3. Owners are members, ascending, each once, 1 to RANGEMAP_OWNERS_MAX; their quorums are 1
 *      to their number.
 *   4. Members are in order of their ids, which are less than the next id to give.
 *   5. Registrars are members that are not excluded, of an odd number, the largest up to 7.
 *   6. Equal maps have equal bytes; the hash is of these.
 *
 * Threads: any number of readers; the last of rangemap_unref() frees.
 * Reasons: docs/design/rangemap.md. Bytes: docs/format/rangemap.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/hash128.h"
#include "cluster/identity.h"

enum {
    RANGEMAP_OWNERS_MAX = 7, /* Of a shard; the replication factor is at most this. */
    RANGEMAP_REGISTRARS_MAX = 7,
    RANGEMAP_MEMBERS_MAX = 1024,
    RANGEMAP_SHARDS_MAX = 65536,
    RANGEMAP_BYTES_MAX = 4 << 20, /* Of a map: in memory, and encoded. */
    RANGEMAP_ZONE_BYTES_MAX = 64,
    RANGEMAP_ADDRESS_BYTES_MAX = 262, /* A host name, brackets, a port. */
    RANGEMAP_CAPACITY_MAX = 1000000,
};

/* Which map this is. Maps of two generations are never mixed: the lower one is fenced. */
struct rangemap_identity {
    uint64_t generation;    /* From 1; one more for each forced recovery. */
    uint64_t generation_id; /* Random: two recoveries of one map are two generations. */
    uint64_t number;        /* Of the version, from 1; goes on over generations. */
    struct hash128 hash;
    struct hash128 predecessor; /* Hash of the map that this one was made of; zero: none. */
};

enum consistency { CONSISTENCY_ONE, CONSISTENCY_QUORUM, CONSISTENCY_ALL };

struct rangemap_settings {
    uint8_t replication_factor; /* 1 to RANGEMAP_OWNERS_MAX. */
    uint8_t write_quorum;       /* At most the factor; 0: more than half of the owners. */
    uint8_t read_quorum;
    enum consistency write_consistency, read_consistency; /* Of requests that name none. */
    bool sloppy_quorum;
    uint8_t k_factor; /* At most 64. */
    uint64_t shard_min_bytes;
    uint64_t shard_split_bytes; /* At least twice shard_min_bytes. */
    uint64_t tombstone_gc_ms;
    uint32_t gossip_interval_ms, max_clock_skew_ms;
};

/* The defaults of the configuration. */
extern const struct rangemap_settings rangemap_settings_default;

enum member_state {
    MEMBER_ACTIVE,
    MEMBER_SUSPENDED, /* Nobody waits for its acknowledgement; it keeps its data. */
    MEMBER_EXCLUDED,  /* Fenced for good: it answers nothing, and comes back as a new member. */
};

struct member {
    node_id id;
    uint64_t incarnation; /* Never changes for an id. */
    enum member_state state;
    bool leaving;               /* Its shards are moved away; until then it serves them. */
    bool forgot;                /* Its disk was set back once, and with it what it voted for. */
    uint32_t capacity;          /* Weight of its share, 1 to RANGEMAP_CAPACITY_MAX. */
    struct slice zone, address; /* Borrowed from the map. Printable, no blanks. */
};

/* Nodes that hold the same keys, and how many of them have to agree. */
struct owners {
    const node_id *ids; /* Ascending. */
    uint8_t count;
    uint8_t write_quorum, read_quorum; /* 1 to count. */
};

static inline bool owners_contain(const struct owners *owners, node_id id)
{
    for (size_t i = 0; i < owners->count; i++) {
        if (owners->ids[i] == id) return true;
    }
    return false;
}

/* The same nodes, whatever their quorums. */
bool owners_same_nodes(const struct owners *a, const struct owners *b);

/* The same nodes and quorums. */
bool owners_equal(const struct owners *a, const struct owners *b);

enum shard_stage { SHARD_STABLE, SHARD_FILLING, SHARD_SWITCHED };

/* A view of a shard: borrowed from the map. */
struct shard {
    struct slice low, high;     /* Keys in [low, high); the last has an empty `high`: no end. */
    struct owners owners, next; /* No next owners when stable: count 0. */
    enum shard_stage stage;
    uint64_t began; /* Number of the version in which the stage began. */
};

/* The least key of users that the shard may hold: keys that begin with 00 are a node's own, and in
 * no shard. */
static inline struct slice shard_first_key(const struct shard *shard)
{
    return shard->low.size == 0 ? SLICE_LITERAL("\x01") : shard->low;
}

struct rangemap;

/* --- Life --- */

/* The first map of a new cluster: one member, which gets the id 1, one shard.
 *
 * `member`: its id is ignored. Owns: the caller has one reference.
 * Errors: STATUS_INVALID for a member or settings that break a rule, STATUS_NOMEM. */
enum status rangemap_create(struct heap *heap, uint64_t generation_id,
                            const struct rangemap_settings *settings, const struct member *member,
                            struct rangemap **out);

/* One more reference. */
struct rangemap *rangemap_ref(struct rangemap *map);

/* Frees with the last one; NULL is accepted. */
void rangemap_unref(struct rangemap *map);

/* Appends the canonical bytes. */
void rangemap_encode(const struct rangemap *map, struct buf *out);

/* Errors: STATUS_INVALID for bytes that are not the canonical ones of a map that keeps the
 * invariants, STATUS_NOMEM. */
enum status rangemap_decode(struct heap *heap, struct slice bytes, struct rangemap **out);

/* Memory that the map takes; at most RANGEMAP_BYTES_MAX. */
size_t rangemap_memory_bytes(const struct rangemap *map);

/* --- What it says --- */

const struct rangemap_identity *rangemap_identity(const struct rangemap *map);
const struct rangemap_settings *rangemap_settings(const struct rangemap *map);

/* The id that the next member gets; above NODE_ID_MAX: all were given. */
uint32_t rangemap_next_id(const struct rangemap *map);

/* Members are in order of their ids. */
size_t rangemap_member_count(const struct rangemap *map);
struct member rangemap_member(const struct rangemap *map, size_t index);

/* False when there is no such member; `*out` is then unchanged. */
bool rangemap_member_find(const struct rangemap *map, node_id id, struct member *out);

/* Who chooses the next version: `*ids` is ascending and borrowed. A majority of them decides. */
size_t rangemap_registrars(const struct rangemap *map, const node_id **ids);
bool rangemap_is_registrar(const struct rangemap *map, node_id id);

/* How many owners a shard should have: the replication factor, at most the members that are
 * neither excluded nor leaving. */
uint8_t rangemap_effective_factor(const struct rangemap *map);

/* The quorums that a set of `count` owners gets when a move begins: those of the settings, at
 * most the count; by default more than half of it. */
uint8_t rangemap_write_quorum_of(const struct rangemap *map, uint8_t count);
uint8_t rangemap_read_quorum_of(const struct rangemap *map, uint8_t count);

size_t rangemap_shard_count(const struct rangemap *map);
struct shard rangemap_shard(const struct rangemap *map, size_t index);

/* --- Who owns a key --- */

/* Index of the shard that holds `key`. Cost: O(log shards). */
size_t rangemap_find(const struct rangemap *map, struct slice key);

/* Shards [*first, *end) hold all keys of [low, high); an empty `high`: to the end. Nothing
 * when high <= low. */
void rangemap_find_range(const struct rangemap *map, struct slice low, struct slice high,
                         size_t *first, size_t *end);

/* Shards [*first, *end) hold all keys that start with `prefix`: at least one. */
void rangemap_find_prefix(const struct rangemap *map, struct slice prefix, size_t *first,
                          size_t *end);

/* Who is asked by reads of the shard: `read_quorum` of them have to agree. */
static inline const struct owners *shard_read_owners(const struct shard *shard)
{
    return shard->stage == SHARD_SWITCHED ? &shard->next : &shard->owners;
}

/* Who gets writes to the shard: it counts once `write_quorum` of each set have it. Fills
 * `sets` and returns how many: 1 or 2, which may name a node both. */
static inline size_t shard_write_owners(const struct shard *shard, struct owners sets[2])
{
    sets[0] = shard->owners;
    sets[1] = shard->next;
    return shard->stage == SHARD_STABLE ? 1 : 2;
}

/* May this member answer reads of the key, under this map? (Whether its data is complete, it
 * alone knows.) Must it take writes to the key? False of who is excluded or no member. */
bool rangemap_answers(const struct rangemap *map, node_id id, struct slice key);
bool rangemap_takes(const struct rangemap *map, node_id id, struct slice key);

/* Whether an arrow may be taken without force: of the owners, and of the next owners, so few are
 * suspended or excluded that among themselves they can answer nothing. */
bool rangemap_stage_passes(const struct rangemap *map, const struct shard *shard);

/* The first shard from `index` on that would be left without a quorum if `id` were excluded:
 * with as many excluded owners as a set of its owners needs for writes. The shard count: none,
 * so it may be excluded without force. */
size_t rangemap_next_at_risk(const struct rangemap *map, node_id id, size_t index);
