/* What the files of the simulated world share. Nobody else includes this. */
#pragma once

#include <stdlib.h>

#include "base/buf.h"
#include "base/check.h"
#include "cluster/trace.h"
#include "sim/inspect.h"
#include "sim/schedule.h"
#include "sim/world.h"

enum sim_event_kind {
    SIM_MESSAGE = PROCESS_EVENT_COUNT, /* `data`: a struct sim_message. */
    SIM_CLIENT,                        /* `node`: a client has its next idea. */
    SIM_REQUEST,                       /* `argument`: an operation reaches its node. */
    SIM_TIMEOUT,                       /* `argument`: nobody waits for it any longer. */
    SIM_RETRY, /* `argument`: an operation that may have been done or not. */
    SIM_FAULT, /* `argument`: its number. */
    SIM_FAULT_END,
    SIM_START,    /* A process that is down. */
    SIM_OPERATOR, /* Whoever runs the cluster looks after what was wished for. */
    SIM_END,      /* `argument`: the machine is a member no more, under this id. */
};

#define NOTHING UINT32_MAX

struct sim_message {
    uint32_t from;
    uint32_t size;
    uint32_t boot; /* Of the process that it goes to. */
    uint8_t bytes[];
};

/* What a client waits for. Tests' requests are clients of their own. */
enum { SIM_LOAD_MAX = 12 }; /* Sets of one load. */

struct sim_client {
    struct prng prng;
    uint32_t operation; /* NOTHING: it thinks. */
    uint32_t count;     /* Operations that are asked for at once, this the first: sets of a load. */
    struct buf sets;
    bool arrived; /* Its node has the request. */
    struct request request;
    char payload[24];
    uint8_t key[64]; /* Of `from` and `after`. */
    enum request_outcome outcome;
    uint64_t name;       /* By which nodes know its increments. */
    uint64_t named;      /* Increments that it gave a number. */
    uint32_t attempts;   /* Of the operation under way, before this one. */
    bool rests;          /* Until the next attempt. */
    uint64_t map_number; /* The greatest it was told. */

    bool walking; /* Over all pages of a prefix. */
    bool walk_strict;
    uint64_t walk_since_us;
    uint32_t walk_node;
    bool *seen;
};

struct sim_machine {
    struct sim *sim;
    struct sim_process process;
    struct trace trace;
    struct sim_disk_image *image; /* A copy of its disk, of the time when it was this member. */
    node_id image_id;
    uint64_t incarnation; /* Of its directory. */
    node_id id;           /* As a member; 0: none yet, or no more. */
    uint64_t map_number;  /* That it was last seen to go by. */
    bool in_use;          /* It has a directory, and is started when it is down. */
    bool founds;          /* Its directory begins with the first map. */
    bool start_planned, end_planned;
    bool set_back;     /* Its disk was, to the copy: each start begins with comparing. */
    uint64_t lost_map; /* The map by which it went then. */
    bool end_known;    /* All other members knew, when last looked at, that it is none any more. */
};

/* Somebody wants a member to leave, or to stay after all. */
struct sim_wish {
    node_id id; /* 0: nothing. */
    bool leaves, excluded;
};

enum { SIM_WISHES_MAX = 8 };

struct sim {
    struct sim_options options;
    struct schedule schedule;
    struct prng prng;
    struct heap heap;
    struct network *network;
    struct sim_machine *machines;
    uint32_t machine_count;  /* Those that are nodes, and those that may be. */
    uint16_t *machine_by_id; /* Plus one; 0: none. */
    struct rangemap *map;    /* The first. */
    struct rangemap **maps;  /* By number, as far as they were seen; the newest is the last. */
    uint64_t map_count;
    struct sim_wish wishes[SIM_WISHES_MAX];
    bool operator_planned;
    struct checker checker;
    struct inspection inspection;
    struct sim_client **clients;
    uint32_t client_count;
    uint32_t think_us; /* Between two requests of a client, in the mean. */
    bool clients_stop, must_serve, healed;
    struct nemesis_plan plan;
    bool *fault_active;
    uint64_t disk_lost_us; /* When what a disk had acknowledged went with it; 0: never. One is. */
    struct buf trace, key;
    struct sim_stats stats;
};

static inline struct sim_process *process_of(struct sim *sim, uint32_t node)
{
    return &sim->machines[node].process;
}

static inline bool is_up(const struct sim_process *process)
{
    return process->state != PROCESS_DOWN;
}

/* Adds a line to the trace; `node` NOTHING: of nobody. */
__attribute__((format(printf, 3, 4))) void sim_note(struct sim *sim, uint32_t node,
                                                    const char *format, ...);

static inline void sim_add_event(struct sim *sim, enum sim_event_kind kind, uint32_t node,
                                 uint64_t delay_us, uint64_t argument)
{
    schedule_add(&sim->schedule, &(struct sim_event){
                                     .at_us = sim->schedule.now_us + delay_us,
                                     .kind = kind,
                                     .node = node,
                                     .argument = argument,
                                 });
}

/* --- world_member.c --- */

/* The machine has lost its disk, and with it who it was: somebody excludes that member, and sooner or later it joins
 * anew. */
void sim_begin_anew(struct sim *sim, uint32_t node);

/* Whether somebody is to be excluded, or is and has not gone yet. */
bool sim_excludes(const struct sim *sim);

void sim_members_create(struct sim *sim);
void sim_members_destroy(struct sim *sim);

/* NOTHING if no machine has the id. */
uint32_t sim_machine_of(const struct sim *sim, node_id id);
void sim_machine_is(struct sim_machine *machine, node_id id);
struct member sim_member_of(const struct sim_machine *machine, char address[32]);

/* The newest map that any node was seen with, and any other by its number, or NULL. */
const struct rangemap *sim_newest_map(const struct sim *sim);
const struct rangemap *sim_map_of(const struct sim *sim, uint64_t number);
bool sim_is_member(const struct sim *sim, uint32_t node);

/* After each step of a node: which map does it go by now? */
void sim_watch_map(struct sim *sim, uint32_t node);

/* A machine without a directory, which becomes a node that asks to join; NOTHING: there is none. */
uint32_t sim_join(struct sim *sim);

/* The member of this machine is to leave, or to stay after all. False: it is none, or not more than
 * `least` are there to stay. */
bool sim_leave(struct sim *sim, uint32_t node, bool leaves, uint32_t least);
void sim_operator_looks(struct sim *sim);
void sim_member_ends(struct sim *sim, uint32_t node, node_id id);

/* --- For programs --- */

/* Called by the program of `process`, which cannot fail with a machine that has no power. */
void sim_send(struct sim_process *process, uint32_t to, struct slice bytes);
void sim_reply(struct sim_process *process, uint64_t id, const struct request_reply *reply);

extern const struct sim_program_ops sim_replica_ops;

/* --- world_client.c --- */

void sim_clients_create(struct sim *sim);
void sim_clients_destroy(struct sim *sim);
void sim_client_think(struct sim *sim, uint32_t index);
void sim_client_retry(struct sim *sim, uint32_t operation);
void sim_client_request_arrives(struct sim *sim, uint32_t operation);
void sim_client_timeout(struct sim *sim, uint32_t operation);
void sim_client_reply(struct sim *sim, uint32_t node, uint64_t id,
                      const struct request_reply *reply);

/* Its node died: whoever waits for it gives up. */
void sim_clients_lose_node(struct sim *sim, uint32_t node);
bool sim_clients_are_idle(const struct sim *sim);

/* --- world_fault.c --- */

void sim_faults_plan(struct sim *sim);
void sim_faults_destroy(struct sim *sim);
void sim_fault_begin(struct sim *sim, uint32_t number);
void sim_fault_end(struct sim *sim, uint32_t number);

/* A fault of its disk is under way, which explains that a process does not start. */
bool sim_disk_is_at_fault(const struct sim *sim, uint32_t node);
void sim_plan_start(struct sim *sim, uint32_t node, uint64_t delay_us);
