/* One machine of the simulation: clocks, a disk, and on it a real store under a program.
 *
 * The process drives the store as the threads of the server do, each step an event of its own at a
 * moment that the seed draws: syncs that take their time while more is appended, log segments
 * prepared, jobs piece by piece, upkeep every 100 ms. It can be killed at any of them, lose its power
 * in the middle of a write, stand still for a while, and start again from what the disk kept.
 *
 * A program is what node/replica is: it gets messages, requests and the passing of time, and
 * calls back to send and to reply (sim/world.h). Tests bring others. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/prng.h"
#include "base/slice.h"
#include "base/status.h"
#include "sim/clocks.h"
#include "sim/disk.h"
#include "sim/schedule.h"
#include "store/store.h"

struct change;
struct rangemap;
struct request;
struct sim_process;

struct sim_program_stats {
    uint64_t owed_count;        /* To peers: hints. */
    uint64_t held_count;        /* Messages and replies that wait for a sync. */
    uint64_t flow_count;        /* Requests under way. */
    uint64_t invalid_count;     /* Messages that broke a rule. */
    const char *over_bound;     /* The name of a queue that is longer than it may be, or NULL. */
    const struct rangemap *map; /* As it knows it; NULL if it has none. */
};

/* What a node is to a key. */
enum sim_role {
    SIM_STRANGER, /* No owner. */
    SIM_FILLS,    /* Takes writes and does not answer yet. */
    SIM_ANSWERS,
};

struct sim_program_ops {
    /* Over the open store of `process`. */
    enum status (*start)(struct sim_process *process, void **program);
    void (*stop)(void *program);
    void (*message)(void *program, uint32_t from, struct slice bytes);
    void (*request)(void *program, uint64_t id, const struct request *request);
    void (*tick)(void *program);
    void (*commit)(void *program); /* After each of the three above. */
    void (*synced)(void *program);
    uint64_t (*wake_ms)(void *program); /* By the monotonic clock; UINT64_MAX: never. */
    void (*stats)(void *program, struct sim_program_stats *stats);

    /* NULL in programs that know no maps: all of them answer for everything. */
    /* The map it goes by, NULL while there is none, and the least number it still goes by as well. */
    const struct rangemap *(*map)(void *program, uint64_t *oldest);
    enum sim_role (*role)(void *program, struct slice key);
    /* Up to when dead versions of the key may be forgotten there. */
    hlc_time (*purged)(void *program, struct slice key);
    void (*change)(void *program, const struct change *change); /* Asks for it. */
    bool (*recorded)(void *program); /* Others would know its disk from one before this start. */
};

/* Events of a process. Their argument begins with the boot they belong to: those of an
 * earlier one mean nothing any more. */
enum sim_process_event {
    PROCESS_WAKE = 1,
    PROCESS_SYNCED,
    PROCESS_UPKEEP,
    PROCESS_JOB,
    PROCESS_EVENT_COUNT,
};

enum sim_process_state { PROCESS_DOWN, PROCESS_RUNNING, PROCESS_PAUSED };

enum sim_job_stage { SIM_JOB_BUILDING, SIM_JOB_RESOLVING, SIM_JOB_COMMITTING };

struct sim_process {
    struct schedule *schedule;
    const struct sim_program_ops *ops;
    void *context; /* Of who runs the program: not used here. */
    uint32_t node; /* From 0. */
    struct prng prng;
    struct sim_clock clock;
    struct sim_disk *disk;
    struct heap heap;
    struct store_options options;

    enum sim_process_state state;
    uint32_t boot;               /* Starts so far. */
    uint64_t disturbed_us;       /* It last started, or went on after a pause. */
    uint64_t paused_until_us;    /* Of a pause. */
    uint32_t sync_us, sync_slow; /* What a sync takes in the mean, and how many times that. */
    struct store *store;         /* NULL while down, like what follows. */
    struct query_scratch *scratch;
    void *program;
    struct store_report report;
    uint64_t wake_us; /* Of the wake that is on its way; UINT64_MAX: none. */

    struct log_sync sync;
    bool syncing, sync_has_run;
    enum status sync_status;
    struct store_job *job;
    enum sim_job_stage job_stage;
    uint64_t job_retry_us;
};

void sim_process_init(struct sim_process *process, struct schedule *schedule, uint32_t node,
                      uint64_t seed, const struct store_options *options,
                      const struct sim_program_ops *ops, void *context);

/* Ends it however it stands. */
void sim_process_deinit(struct sim_process *process);

/* Opens the store from what the disk holds, and the program over it.
 *
 * Errors: those of store_open() and of the program, STATUS_CANCELLED if the power went meanwhile;
 *         the process is then down. */
enum status sim_process_start(struct sim_process *process);

/* Ends it on the spot; with `power_lost` what was not synced is lost in part. */
void sim_process_crash(struct sim_process *process, bool power_lost);

/* It stands still; what arrives waits. */
void sim_process_pause(struct sim_process *process, uint64_t until_us);

/* True if the event can be handled now; else, in a pause, it is put off till its end. */
bool sim_process_is_ready(struct sim_process *process, const struct sim_event *event);

/* An event of its own came. */
void sim_process_event(struct sim_process *process, const struct sim_event *event);

/* Only while it runs. */
void sim_process_message(struct sim_process *process, uint32_t from, struct slice bytes);
void sim_process_request(struct sim_process *process, uint64_t id, const struct request *request);

/* The power went in the middle of a step, or the store can no longer write: the process must be
 * ended. Ask after each step. */
bool sim_process_is_broken(const struct sim_process *process);

/* As the machine's clocks show them. */
uint64_t sim_process_now_ms(const struct sim_process *process);
uint64_t sim_process_wall_ms(const struct sim_process *process);

/* A query over the newest view, of everything. Only while the store is open. */
struct query sim_process_query(const struct sim_process *process);
