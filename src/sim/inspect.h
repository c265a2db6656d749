/* What all nodes hold, by knowledge of all of them, and whether it is what must be.
 *
 * Nodes publish a batch when it is durable (`publish_after_sync`), so the view of a store is what a
 * power cut at this moment would leave. Of a node that is down the inspection remembers what it held
 * last: it must hold that again when it starts.
 *
 * Cost: a lookup for each word and node. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cluster/rangemap.h"
#include "core/version.h"

struct sim;

/* The record of a word on a node, when it was last looked at. */
struct seen {
    bool present; /* A record, live or not. */
    bool tombstone;
    bool emptied;        /* By a removal of the value that it still counts for. */
    bool answers;        /* The node answers reads of the word. */
    uint64_t expires_at; /* Unix ms; 0: never. */
    uint32_t by;         /* The operation that set the value, UINT32_MAX: none did. */
    struct version version, since, set;
    hlc_time purged; /* What was dead up to here the node may have forgotten. */
};

/* Which content a version of the map was seen with first. */
struct seen_map {
    uint64_t generation, generation_id, number;
    struct hash128 hash;
};

struct inspection {
    struct seen *seen;      /* Of word w on machine n: [w * machine_count + n]. */
    struct version *purged; /* Of each word, the newest tombstone that a node dropped. */
    struct version
        *swept;          /* Of each word, the newest record dropped by one that owns it no more. */
    uint64_t oldest_map; /* Number of the oldest map that a member goes by. */
    struct seen_map *maps;
    uint32_t map_count;
    uint32_t next_word;
    uint64_t look_count;
};

void inspection_create(struct sim *sim);
void inspection_destroy(struct sim *sim);

/* Words and operations go by their index in the checker. */

/* A write was acknowledged to a client just now. */
void inspect_acknowledged(struct sim *sim, uint32_t index, unsigned ack_count);

/* One word on all nodes. */
void inspect_word(struct sim *sim, uint32_t index);

/* The next word, in turn. */
void inspect_next_word(struct sim *sim);

/* Writes of the word that nobody heard of, and that were asked for before `before_us`, can change
 * nothing any more, if what they left on the nodes is older than what was acknowledged. */
void inspect_settle(struct sim *sim, uint32_t index, uint64_t before_us);

/* All words on one node: before it ends, and once it started. */
void inspect_node(struct sim *sim, uint32_t node);

/* The same of the words whose owners are others by the map that it goes by now than by the one `before`,
 * which may be NULL. */
void inspect_new_map(struct sim *sim, uint32_t node, const struct rangemap *before,
                     const struct rangemap *map);

/* Its disk is not the one it had, or it is no node any more. */
void inspect_forget_node(struct sim *sim, uint32_t node);

/* A node was seen with this map: each version has one content. */
void inspect_map(struct sim *sim, uint32_t node, const struct rangemap *map);

/* Count, order and digest of a node's store against a walk over it. */
void inspect_store(struct sim *sim, uint32_t node);

/* Queues and maps of all nodes. */
void inspect_programs(struct sim *sim);

/* Whether all replicas of each word are equal, nothing is owed, and one map is known; else `why`. */
/* When all replicas are equal: what hints were counted for is there. */
void inspect_kept(struct sim *sim);

bool inspect_has_converged(struct sim *sim, char *why, unsigned size);
