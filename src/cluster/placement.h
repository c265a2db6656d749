/* Which owners a shard should have: what is wanted minus what there is, a bounded batch at a time.
 *
 * A plan answers everything alike: a member that joins, leaves, is excluded, moves to another
 * zone or gets another capacity; a change of the replication factor or a quorum; load that has
 * grown uneven. It looks at the map as if all moves in flight were done, and lists the moves that
 * bring it nearer to what is wanted:
 *
 *   1. Every shard has as many owners as the effective replication factor, none of them excluded
 *      or leaving, with the quorums of the settings.
 *   2. No zone has more owners of a shard than it must have.
 *   3. Every node has its share of the data: by capacity, within PLACEMENT_TOLERANCE_PERCENT of
 *      it or one shard, whichever is larger.
 *   4. Every node shares shards with few others: PLACEMENT_PEERS_MIN to PLACEMENT_PEERS_MAX where
 *      there are as many, so that digests are compared with few peers and few combinations of
 *      failures lose data.
 *
 * Earlier ones win; 3 and 4 yield to one another only by not moving. What is within its bounds is
 * left alone, so nothing oscillates, and a node that joins gets its share and no more.
 *
 * Deterministic. Reasons and figures: docs/design/rangemap.md. */
#pragma once

#include "cluster/rangemap.h"

enum {
    PLACEMENT_TOLERANCE_PERCENT = 10,
    PLACEMENT_PEERS_MIN = 4,
    PLACEMENT_PEERS_MAX = 10,
};

/* How heavy a shard is: both count, each by its part of the whole. */
struct shard_weight {
    uint64_t bytes;
    uint64_t load; /* Any unit: a rate of requests, smoothed. */
};

struct placement_bounds {
    size_t moves_max;      /* Of one plan. */
    size_t node_moves_max; /* Shards that one node is being given at a time; 0: any number. */
    uint64_t bytes_max;    /* To copy for one plan, but at least one move; 0: any number. */
};

struct placement_move {
    size_t shard; /* Index in the map. */
    uint8_t next_count;
    uint8_t added_count; /* Next owners that are no owners: each gets a copy. */
    node_id next[RANGEMAP_OWNERS_MAX];
};

/* Writes at most `bounds->moves_max` moves of stable shards into `moves`, the most urgent first;
 * every one of them may be begun in one delta. None: the map is as it should be, or moves in
 * flight and silent members have to be waited for.
 *
 * `weights`: one for each shard of the map.
 * Errors: STATUS_NOMEM.
 * Cost:   O(members^2 + shards + moves x members); 6 MB of memory at most. */
enum status placement_plan(const struct rangemap *map, const struct shard_weight *weights,
                           const struct placement_bounds *bounds, struct heap *heap,
                           struct placement_move *moves, size_t *move_count);
