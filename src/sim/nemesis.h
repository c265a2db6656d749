/* The plan of what goes wrong, and when.
 *
 * The whole plan is drawn before the run, so that single faults can be left out of it while a
 * failing run is made smaller: the others stay as they are. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/prng.h"

enum fault_kind {
    FAULT_PARTITION,   /* `amount`: an enum network_partition. */
    FAULT_CUT,         /* From `node` to `other`, one way. */
    FAULT_STALL,       /* What `node` sends to `other` waits. */
    FAULT_LOSSY,       /* `amount` ppm of what `node` sends and gets are lost. */
    FAULT_KILL,        /* The process ends; the machine goes on. */
    FAULT_POWER,       /* The machine loses its power. */
    FAULT_POWER_LATER, /* It does so in the middle of the change of its disk after `amount`. */
    FAULT_POWER_ALL,   /* All machines do. */
    FAULT_PAUSE,       /* The process stands still. */
    FAULT_JUMP,        /* The wall clock is off by `amount` ms. */
    FAULT_FREEZE,      /* The wall clock stands still. */
    FAULT_DRIFT,       /* The clocks run wrong by `amount` ppm. */
    FAULT_SLOW_DISK,   /* Syncs take `amount` times as long. */
    FAULT_FULL_DISK,   /* There is room for `amount` more bytes. */
    FAULT_BAD_SYNC,    /* The sync after `amount` fails. */
    FAULT_BAD_DISK,    /* The operation after `amount` fails. */
    FAULT_JOIN,        /* One more machine joins. */
    FAULT_LEAVE,   /* The member is to leave; `amount`: even if too few stay for all replicas. */
    FAULT_RETREAT, /* It is to leave, and when this ends, to stay after all. */
    FAULT_REPLACE, /* One joins, and the member is to leave. */
    FAULT_IMAGE,   /* A copy of the disk is taken for later. */
    FAULT_RESTORE, /* The process ends, and its disk is set back to the copy. */
    FAULT_WIPE,    /* The process ends, and its disk is emptied. */
    FAULT_ROT,     /* A bit on the disk turns, at `amount` of a million of a file. */
    FAULT_KIND_COUNT,
};

struct fault {
    enum fault_kind kind;
    uint64_t at_us, until_us; /* When it ends, or the process starts again. */
    uint32_t node, other;
    int64_t amount;
};

#define FAULT_BIT(kind) (UINT32_C(1) << (kind))

/* Those that a cluster gets over by itself. */
#define FAULTS_SURVIVED (FAULT_BIT(FAULT_IMAGE) - 1)

/* Those that take away what a disk had. */
#define FAULTS_OF_DISKS (FAULT_BIT(FAULT_IMAGE) | FAULT_BIT(FAULT_RESTORE) | FAULT_BIT(FAULT_WIPE))

/* Those of wall clocks. */
#define FAULTS_OF_CLOCKS (FAULT_BIT(FAULT_JUMP) | FAULT_BIT(FAULT_FREEZE) | FAULT_BIT(FAULT_DRIFT))

/* Those that ask for another map. */
#define FAULTS_OF_MEMBERS                                                                          \
    (FAULT_BIT(FAULT_JOIN) | FAULT_BIT(FAULT_LEAVE) | FAULT_BIT(FAULT_RETREAT) |                   \
     FAULT_BIT(FAULT_REPLACE))

struct nemesis_options {
    uint32_t kinds;      /* FAULT_BIT() of each that happens. */
    uint32_t gap_ms;     /* Between two faults, in the mean. */
    uint32_t longest_ms; /* Of one fault. */
    uint32_t jump_ms;    /* At most, of a wall clock. */
};

struct nemesis_plan {
    struct fault *faults;
    uint32_t count;
};

/* Faults that begin and end between `from_us` and `to_us`, in order of time. Owns: nemesis_plan_destroy(). */
void nemesis_plan_draw(struct nemesis_plan *plan, struct prng *prng, uint32_t node_count,
                       uint64_t from_us, uint64_t to_us, const struct nemesis_options *options);
void nemesis_plan_destroy(struct nemesis_plan *plan);

/* In words, without the node that it begins with. */
void fault_describe(const struct fault *fault, char *text, size_t size);
