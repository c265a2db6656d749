/* node/replica as the program of a simulated machine. */
#include "node/replica.h"

#include "sim/world_private.h"

struct replica_program {
    struct sim_process *process;
    struct replica *replica;
};

static struct replica_time time_of(const struct sim_process *process)
{
    return (struct replica_time){sim_process_now_ms(process), sim_process_wall_ms(process)};
}

/* Ids of the first members are given in the order of the machines. */
static void send_to(void *context, node_id to, struct slice bytes)
{
    struct replica_program *program = context;
    sim_send(program->process, (uint32_t)to - 1, bytes);
}

static void reply_to(void *context, uint64_t id, const struct request_reply *reply)
{
    struct replica_program *program = context;
    sim_reply(program->process, id, reply);
}

static enum status replica_start(struct sim_process *process, void **out)
{
    struct sim_machine *machine = process->context;
    struct replica_program *program = calloc(1, sizeof *program);
    CHECK(program != NULL);
    program->process = process;
    struct replica_options options = {
        .heap = &process->heap,
        .store = process->store,
        .sink = {send_to, reply_to, program},
        .trace = &machine->trace,
        .seed = prng_u64(&process->prng),
        .self = {.id = (node_id)(process->node + 1),
                 .incarnation = machine->incarnation,
                 .boot = 1},
        .map = machine->sim->map,
        .map_stays = true,
    };
    enum status status = replica_create(&options, time_of(process), &program->replica);
    if (status != STATUS_OK) {
        free(program);
        return status;
    }
    *out = program;
    return STATUS_OK;
}

static void replica_stop(void *context)
{
    struct replica_program *program = context;
    replica_destroy(program->replica);
    free(program);
}

static void replica_gets_message(void *context, uint32_t from, struct slice bytes)
{
    struct replica_program *program = context;
    replica_message(program->replica, time_of(program->process), (node_id)(from + 1), bytes);
}

static void replica_gets_request(void *context, uint64_t id, const struct request *request)
{
    struct replica_program *program = context;
    replica_request(program->replica, time_of(program->process), id, request);
}

static void replica_ticks(void *context)
{
    struct replica_program *program = context;
    replica_tick(program->replica, time_of(program->process));
}

static void replica_commits(void *context)
{
    struct replica_program *program = context;
    replica_commit(program->replica, time_of(program->process));
}

static void replica_has_synced(void *context)
{
    struct replica_program *program = context;
    replica_synced(program->replica, time_of(program->process));
}

static uint64_t replica_wakes_ms(void *context)
{
    const struct replica_program *program = context;
    return replica_wake_ms(program->replica);
}

static void replica_says(void *context, struct sim_program_stats *out)
{
    const struct replica_program *program = context;
    struct replica_stats stats;
    replica_stats(program->replica, &stats);
    *out = (struct sim_program_stats){
        .owed_count = stats.hint_count,
        .held_count = stats.held_count,
        .flow_count = stats.flow_count,
        .invalid_count = stats.invalid_count,
        .map = replica_map(program->replica),
    };
    if (stats.hint_count > REPLICA_HINTS_MAX) out->over_bound = "hints";
    if (stats.flow_count > REPLICA_FLOWS_MAX) out->over_bound = "requests";
}

const struct sim_program_ops sim_replica_ops = {
    .start = replica_start,
    .stop = replica_stop,
    .message = replica_gets_message,
    .request = replica_gets_request,
    .tick = replica_ticks,
    .commit = replica_commits,
    .synced = replica_has_synced,
    .wake_ms = replica_wakes_ms,
    .stats = replica_says,
};
