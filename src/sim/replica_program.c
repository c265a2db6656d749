/* node/replica as the program of a simulated machine.
 *
 * What travels between two of them begins with what it is and who is at both ends, as a connection
 * would say: ids are given by the register, and a machine whose disk was emptied is somebody else.
 * A directory without an id asks one machine after the other to let it join. */
#include "node/replica.h"

#include "base/bytes.h"
#include "sim/world_private.h"

enum { JOIN_ASK_MS = 500, FRAME_BYTES = 5 };

enum frame_kind { FRAME_PEER = 1, FRAME_JOIN_ASK, FRAME_JOIN_ANSWER };

struct replica_program {
    struct sim_process *process;
    struct replica *replica; /* NULL: it has yet to join. */
    uint64_t ask_ms;
};

static struct replica_time time_of(const struct sim_process *process)
{
    return (struct replica_time){sim_process_now_ms(process), sim_process_wall_ms(process)};
}

static struct sim_machine *machine_of(const struct replica_program *program)
{
    return program->process->context;
}

static void send_frame(struct replica_program *program, uint32_t machine, enum frame_kind kind,
                       node_id to, struct slice bytes)
{
    struct buf frame = {.heap = &program->process->heap};
    buf_append_u8(&frame, (uint8_t)kind);
    buf_append_u16le(&frame, machine_of(program)->id);
    buf_append_u16le(&frame, to);
    buf_append_slice(&frame, bytes);
    CHECK(buf_status(&frame) == STATUS_OK);
    sim_send(program->process, machine, buf_slice(&frame));
    buf_deinit(&frame);
}

static void send_to(void *context, node_id to, struct slice bytes)
{
    struct replica_program *program = context;
    uint32_t machine = sim_machine_of(machine_of(program)->sim, to);
    if (machine != NOTHING) send_frame(program, machine, FRAME_PEER, to, bytes);
}

static void reply_to(void *context, uint64_t id, const struct request_reply *reply)
{
    struct replica_program *program = context;
    sim_reply(program->process, id, reply);
}

/* With a map and an id, or with those that the directory has. */
static enum status create(struct replica_program *program, struct rangemap *map, node_id id)
{
    struct sim_process *process = program->process;
    struct sim_machine *machine = process->context;
    struct replica_options options = {
        .heap = &process->heap,
        .store = process->store,
        .sink = {send_to, reply_to, program},
        .trace = &machine->trace,
        .seed = prng_u64(&process->prng),
        .self = {.id = id, .incarnation = machine->incarnation, .boot = 1},
        .map = map,
        .founds = machine->founds,
        .map_stays = machine->sim->options.map_stays,
        .repair_ms = machine->sim->options.repair_ms,
    };
    /* It may send before it is all there. */
    if (id != 0) sim_machine_is(machine, id);
    return replica_create(&options, time_of(process), &program->replica);
}

static enum status replica_start(struct sim_process *process, void **out)
{
    struct sim_machine *machine = process->context;
    struct replica_program *program = calloc(1, sizeof *program);
    CHECK(program != NULL);
    program->process = process;
    bool founds = machine->founds;
    enum status status = create(program, founds ? machine->sim->map : NULL,
                                founds ? (node_id)(process->node + 1) : 0);
    if (status == STATUS_NOT_FOUND) status = STATUS_OK; /* It asks to join. */
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

/* Joining */

static void ask_to_join(struct replica_program *program)
{
    struct sim_machine *machine = machine_of(program);
    uint32_t other = prng_below(&program->process->prng, machine->sim->machine_count);
    struct buf ask = {.heap = &program->process->heap};
    char address[32];
    struct member member = sim_member_of(machine, address);
    replica_join_ask(&member, 0, &ask);
    CHECK(buf_status(&ask) == STATUS_OK);
    if (other != program->process->node)
        send_frame(program, other, FRAME_JOIN_ASK, 0, buf_slice(&ask));
    buf_deinit(&ask);
    program->ask_ms = sim_process_now_ms(program->process) + JOIN_ASK_MS;
}

static void answer_join(struct replica_program *program, uint32_t from, struct slice ask)
{
    struct buf answer = {.heap = &program->process->heap};
    if (replica_join_answer(program->replica, time_of(program->process), ask, &answer))
        send_frame(program, from, FRAME_JOIN_ANSWER, 0, buf_slice(&answer));
    buf_deinit(&answer);
}

static void take_join(struct replica_program *program, struct slice answer)
{
    struct sim_machine *machine = machine_of(program);
    struct rangemap *map;
    node_id id;
    if (replica_join_take(&program->process->heap, answer, machine->incarnation, &map, &id) !=
        STATUS_OK)
        return;
    sim_note(machine->sim, program->process->node, "joins as n%u", id);
    enum status status = create(program, map, id);
    (void)status; /* The disk has failed, or has no room: it asks again. */
    rangemap_unref(map);
}

static void replica_gets_message(void *context, uint32_t from, struct slice bytes)
{
    struct replica_program *program = context;
    struct reader reader = reader_of(bytes);
    enum frame_kind kind = (enum frame_kind)reader_u8(&reader);
    node_id sender = reader_u16le(&reader), to = reader_u16le(&reader);
    CHECK(!reader.failed);
    bytes = slice_from(bytes, FRAME_BYTES);
    if (program->replica == NULL) {
        if (kind == FRAME_JOIN_ANSWER) take_join(program, bytes);
    } else if (kind == FRAME_JOIN_ASK) {
        answer_join(program, from, bytes);
    } else if (kind == FRAME_PEER && to == replica_identity(program->replica).id) {
        replica_message(program->replica, time_of(program->process), sender, bytes);
    }
}

static void replica_gets_request(void *context, uint64_t id, const struct request *request)
{
    struct replica_program *program = context;
    if (program->replica != NULL)
        replica_request(program->replica, time_of(program->process), id, request);
    else
        sim_reply(program->process, id,
                  &(struct request_reply){.outcome = REQUEST_REFUSED, .status = STATUS_BUSY});
}

static void replica_ticks(void *context)
{
    struct replica_program *program = context;
    if (program->replica != NULL)
        replica_tick(program->replica, time_of(program->process));
    else
        ask_to_join(program);
}

static void replica_commits(void *context)
{
    struct replica_program *program = context;
    if (program->replica != NULL) replica_commit(program->replica, time_of(program->process));
}

static void replica_has_synced(void *context)
{
    struct replica_program *program = context;
    if (program->replica != NULL) replica_synced(program->replica, time_of(program->process));
}

static uint64_t replica_wakes_ms(void *context)
{
    const struct replica_program *program = context;
    return program->replica == NULL ? program->ask_ms : replica_wake_ms(program->replica);
}

static void replica_says(void *context, struct sim_program_stats *out)
{
    const struct replica_program *program = context;
    struct replica_stats stats;
    *out = (struct sim_program_stats){0};
    if (program->replica == NULL) return;
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

static const struct rangemap *replica_goes_by(void *context, uint64_t *oldest)
{
    const struct replica_program *program = context;
    if (program->replica == NULL) return NULL;
    *oldest = replica_map_in_use(program->replica);
    return replica_map(program->replica);
}

static enum sim_role replica_is(void *context, struct slice key)
{
    const struct replica_program *program = context;
    if (program->replica == NULL) return SIM_STRANGER;
    switch (replica_role(program->replica, key)) {
    case REPLICA_STRANGER:
        return SIM_STRANGER;
    case REPLICA_FILLS:
        return SIM_FILLS;
    case REPLICA_ANSWERS:
        break;
    }
    return SIM_ANSWERS;
}

static hlc_time replica_has_purged(void *context, struct slice key)
{
    const struct replica_program *program = context;
    return program->replica == NULL ? 0 : replica_purged(program->replica, key);
}

static void replica_is_asked(void *context, const struct change *change)
{
    struct replica_program *program = context;
    if (program->replica != NULL) (void)replica_change(program->replica, change);
}

static bool replica_is_on_record(void *context)
{
    const struct replica_program *program = context;
    return program->replica != NULL && replica_is_recorded(program->replica);
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
    .map = replica_goes_by,
    .role = replica_is,
    .purged = replica_has_purged,
    .recorded = replica_is_on_record,
    .change = replica_is_asked,
};
