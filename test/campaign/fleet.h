/* A fleet: as many simulated machines as there is memory for, each with a disk, a store and a
 * node/replica, on a network that delays. For measuring what a cluster costs at some size; what it
 * promises is for sim/world.h to try.
 *
 * Everything is real but time, the disks and the network: health, register, maps, moves, repair, hints and
 * the stores are those of a node. Machines run the store as sim/process.h does. Nothing fails but what
 * the caller lets fail.
 *
 * Running out of memory, or what cannot be, stops the process. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "cluster/outbox.h"
#include "cluster/rangemap.h"
#include "node/replica.h"
#include "sim/network.h"
#include "sim/process.h"
#include "sim/schedule.h"

enum { FLEET_PROTOCOLS = 16 };

struct fleet;

struct machine {
    struct fleet *fleet;
    struct sim_process process;
    uint64_t incarnation;
    node_id id; /* 0: it has not joined. */
    uint32_t zone;
    struct rangemap *map;    /* What it joined with. */
    struct replica *replica; /* NULL while it is down. */
    uint64_t sent_bytes[FLEET_PROTOCOLS];
};

struct fleet_options {
    uint64_t seed;
    uint32_t node_count;  /* Members of the first map. */
    uint32_t spare_count; /* Machines that may join. */
    uint32_t zone_count;
    const char *const *cuts; /* Low keys of shards but the first, ascending. */
    uint32_t cut_count;
    uint8_t factor;
    struct store_options store;
};

struct fleet {
    struct fleet_options options;
    struct schedule schedule;
    struct prng prng;
    struct heap heap;
    struct network *network;
    struct rangemap *map; /* The first. */
    struct machine *machines;
    uint32_t machine_count;
    uint32_t by_id[1 << 16]; /* Machine of an id, plus one. */
    uint64_t messages;
    /* Called for each version that a machine goes by; may be NULL. */
    void (*on_step)(struct fleet *fleet, struct machine *machine);
    void *context;
};

struct fleet *fleet_create(const struct fleet_options *options);
void fleet_destroy(struct fleet *fleet);

/* Until `ms` later. */
void fleet_run(struct fleet *fleet, uint64_t ms);
uint64_t fleet_now_ms(const struct fleet *fleet);

/* Ends a process, with its power or without, and starts it from what its disk kept. */
void fleet_stop(struct fleet *fleet, uint32_t machine, bool power_lost);
void fleet_start(struct fleet *fleet, uint32_t machine);

/* A spare machine asks machine `contact` for its way in, once. True: it is a member, and runs. */
bool fleet_join(struct fleet *fleet, uint32_t number, uint32_t contact);

/* Puts a record into one machine's store, past everything else. */
void fleet_put(struct fleet *fleet, uint32_t number, struct slice key, const struct record *record);

/* Bytes that all machines sent, of one protocol or (0) of all. */
uint64_t fleet_sent(const struct fleet *fleet, unsigned protocol);

/* The digest of a range at a machine. */
struct sum fleet_sum(const struct machine *machine, const struct key_range *range);

/* Whether every running owner of every shard of the newest map holds the same. */
bool fleet_is_equal(const struct fleet *fleet);

/* The newest map that a running machine goes by. */
const struct rangemap *fleet_map(const struct fleet *fleet);
