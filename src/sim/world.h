/* Many nodes in one process, driven from one seed.
 *
 * Machines with clocks, disks and real stores (sim/process.h) on a network that errs
 * (sim/network.h); clients that ask all that can be asked and remember what they were told
 * (sim/checker.h); a nemesis with a plan of faults (sim/nemesis.h); and checks of what all
 * nodes hold (sim/inspect.h). A run with faults ends with healing: everything is repaired, clients go
 * on for a while and must be served, then they stop and all replicas must become equal.
 *
 * The same options give the same run, event for event: sim_hash() tells. How to read a seed that
 * failed: docs/design/simulator.md.
 *
 * Threads: one. Memory: running out stops the process. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "cluster/rangemap.h"
#include "cluster/request.h"
#include "sim/checker.h"
#include "sim/finding.h"
#include "sim/nemesis.h"
#include "sim/network.h"
#include "sim/process.h"

struct sim;

enum { SIM_NODES_MAX = 1024, SIM_CLIENTS_MAX = 64 };

struct sim_options {
    uint64_t seed;
    uint32_t node_count;  /* At first. */
    uint32_t spare_count; /* Machines that may become nodes during the run. */
    uint32_t shard_count; /* At first. */
    bool map_stays;       /* Nobody proposes another map. */
    uint32_t repair_ms;   /* From one comparison with a peer to the next; 0: as always. */
    struct rangemap_settings settings;
    struct store_options store;
    struct network_options network;

    uint32_t client_count; /* 0: none; the test asks itself. */
    uint32_t word_count;
    uint32_t operations_per_s; /* Of all clients. */
    uint32_t timeout_ms;       /* Of requests. */

    uint64_t faulty_ms; /* Faults come for so long. */
    uint64_t served_ms; /* After healing nothing may fail any more, from this later on. */
    uint64_t quiet_ms;  /* Within this after the last request all replicas are equal. */
    bool converges;     /* The program sees to that. */
    struct nemesis_options faults;
    const bool *dropped_faults; /* By number; NULL: none is. */
    uint32_t dropped_count;

    bool traced; /* Keep what nodes, clients and nemesis say. */
    uint64_t traced_from_ms;
    const struct sim_program_ops *program; /* NULL: node/replica. */
};

/* Everything from the seed: sizes, quorums, odd constants, what the network and the nemesis do. */
void sim_options_draw(struct sim_options *options, uint64_t seed);

/* Machines join, leave and are replaced in what is drawn, and shards are cut and move; here nothing of that
 * happens, for looking at what lies beneath. */
void sim_options_keep_map(struct sim_options *options);

/* Machines run and know the first map. */
struct sim *sim_create(const struct sim_options *options);
void sim_destroy(struct sim *sim);

/* All of it: faults, healing, quiet. False if there was a finding. */
bool sim_run(struct sim *sim);

/* --- Piece by piece, for tests that tell a story --- */

/* Until `ms` later, or the first finding. */
void sim_run_for(struct sim *sim, uint64_t ms);

/* A request of a client that a test is; what came of it, once sim_run_for() let it. */
uint32_t sim_ask(struct sim *sim, uint32_t node, const struct request *request);
bool sim_answered(struct sim *sim, uint32_t ask, enum request_outcome *outcome);

/* The key of a word, valid until the next call. */
struct slice sim_key(struct sim *sim, const char *word);

struct network *sim_network(struct sim *sim);
struct sim_process *sim_process(struct sim *sim, uint32_t node);
struct checker *sim_checker(struct sim *sim);
void sim_crash(struct sim *sim, uint32_t node, bool power_lost);
void sim_start(struct sim *sim, uint32_t node);

/* Ends all faults; what is down starts. */
void sim_heal(struct sim *sim);

/* Looks at everything that can be looked at now. */
void sim_inspect(struct sim *sim);

/* True when all replicas hold the same and nothing is on its way; else why not. */
bool sim_has_converged(struct sim *sim, char why[256]);

/* --- What became of it --- */

const struct sim_finding *sim_finding(const struct sim *sim);
uint64_t sim_hash(const struct sim *sim);

/* The plan of faults. */
uint32_t sim_fault_count(const struct sim *sim);
const struct fault *sim_fault(const struct sim *sim, uint32_t number);

/* Lines like `[  12] n1 put a: 2 of 3, reply ok`, oldest first; empty unless traced. */
struct slice sim_trace(const struct sim *sim);
void sim_forget_trace(struct sim *sim);

struct sim_stats {
    uint64_t virtual_ms, events, messages, message_bytes;
    uint64_t operations, done, failed, unknown; /* Of clients. */
    uint64_t faults, starts, looks, checked;
};
struct sim_stats sim_stats(const struct sim *sim);
