/* Messages about maps: who has which, who wants to join, what was filled. Bytes: docs/format/peer.md.
 *
 *     FETCH    give me your map, if it is newer than the one I name
 *     MAP      a whole map
 *     JOIN     a directory without an id wants to become a member
 *     SYNCED   shards that move, and with which I have done what I have to
 *     CLEAR_ASK, CLEAR   whether I am owed hints older than a map; none, since this map */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/rangemap.h"

enum topology_kind {
    TOPOLOGY_FETCH = 1,
    TOPOLOGY_MAP,
    TOPOLOGY_JOIN,
    TOPOLOGY_SYNCED,
    TOPOLOGY_CLEAR_ASK,
    TOPOLOGY_CLEAR,
    TOPOLOGY_KIND_END,
};

enum { TOPOLOGY_SYNCED_MAX = 256 };

/* Slices are borrowed. */
struct topology_message {
    enum topology_kind kind;
    uint64_t generation, number; /* FETCH: of the map I have; 0: none. SYNCED, CLEAR: of my map.
                                  * CLEAR_ASK: of the map that began the stage. */
    struct slice map;            /* MAP */
    struct member member;        /* JOIN: incarnation, capacity, zone, address. */
    node_id replaces;            /* JOIN: who goes when I come; 0: nobody. */
    struct slice shards;         /* SYNCED: topology_shard_next(). */
    uint64_t shard_count;
};

void topology_message_encode(const struct topology_message *message, struct buf *out);

/* Errors: STATUS_INVALID unless the bytes are what topology_message_encode() writes; the map is not
 * looked at. */
enum status topology_message_decode(struct slice bytes, struct topology_message *message);

/* A shard, by its low key and the version in which its stage began. */
void topology_shard_append(struct buf *list, struct slice low, uint64_t began);
bool topology_shard_next(struct slice *rest, struct slice *low, uint64_t *began);
