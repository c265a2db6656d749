/* What a plan works on. Private to placement*.c. */
#pragma once

#include "cluster/placement.h"

enum {
    PLACEMENT_WHOLE = 1 << 28, /* All bytes together weigh this, and all load; about. */
    PLACEMENT_EVEN = 1024,     /* The ratio of a node that has its share. */
    PLACEMENT_NEVER = 1 << 24, /* A cost that balancing does not pay. */
};

struct place_node {
    node_id id;
    uint32_t capacity;
    uint16_t zone;  /* Index. */
    bool keeps;     /* May own shards: neither excluded nor leaving. */
    bool receives;  /* May be given more: not suspended either. */
    bool exhausted; /* Balancing found nothing for it. */
    uint16_t peers; /* Nodes that it shares a shard with. */
    uint32_t moves_in;
    uint64_t load, target;    /* In parts of PLACEMENT_WHOLE. */
    uint32_t list, list_size; /* Its shards: in `lists`. */
};

struct place_zone {
    uint64_t capacity, target;
    uint32_t nodes;
};

/* The owners that a shard has, or will have once what is in flight is done. */
struct place_shard {
    uint32_t weight;
    bool fixed; /* It moves already, or this plan moved it. */
    uint8_t count;
    uint16_t nodes[RANGEMAP_OWNERS_MAX]; /* Indices. */
};

struct placing {
    const struct rangemap *map;
    const struct placement_bounds *bounds;
    const struct shard_weight *weights;
    struct heap *heap;
    struct place_node *nodes;
    struct place_zone *zones;
    struct place_shard *shards;
    uint32_t *pairs;     /* pairs[a * node_count + b]: shards that a and b share. */
    uint32_t *lists;     /* Shards by node. */
    uint16_t node_count; /* At most RANGEMAP_MEMBERS_MAX. */
    size_t zone_count, shard_count;
    uint8_t factor;
    uint32_t zone_limit; /* Owners of one shard that a zone may have. */
    uint64_t total;      /* Weight of one copy of everything. */

    struct placement_move *moves;
    size_t move_count;
    uint64_t moved_bytes;
};

enum status placing_open(struct placing *placing, const struct rangemap *map,
                         const struct shard_weight *weights, const struct placement_bounds *bounds,
                         struct heap *heap);
void placing_close(struct placing *placing);

/* How full a node would be with `more`: PLACEMENT_EVEN is its share. */
uint64_t placing_ratio(const struct place_node *node, uint64_t more);

/* Shares of nodes by capacity, within what zones and single nodes can hold. */
void placing_set_targets(struct placing *placing);
