/* The nemesis at work: each fault of the plan, its beginning and its end. */
#include <stdio.h>

#include "sim/world_private.h"

void sim_faults_plan(struct sim *sim)
{
    enum { WARM_UP_US = 3000000 };
    struct prng prng = {.state = prng_u64(&sim->prng)};
    nemesis_plan_draw(&sim->plan, &prng, sim->machine_count, WARM_UP_US,
                      sim->options.faulty_ms * 1000, &sim->options.faults);
    sim->fault_active = calloc(sim->plan.count + 1, sizeof *sim->fault_active);
    CHECK(sim->fault_active != NULL);
    for (uint32_t i = 0; i < sim->plan.count; i++) {
        bool dropped = sim->options.dropped_faults != NULL && i < sim->options.dropped_count &&
                       sim->options.dropped_faults[i];
        if (dropped) continue;
        const struct fault *fault = &sim->plan.faults[i];
        sim_add_event(sim, SIM_FAULT, fault->node, fault->at_us, i);
    }
}

void sim_faults_destroy(struct sim *sim)
{
    nemesis_plan_destroy(&sim->plan);
    free(sim->fault_active);
}

static bool is_of_network(const struct fault *fault)
{
    return fault->kind <= FAULT_LOSSY;
}

static void disturb_network(struct sim *sim, uint32_t number)
{
    const struct fault *fault = &sim->plan.faults[number];
    struct network *network = sim->network;
    struct prng prng = {.state = sim->options.seed ^ (uint64_t)number << 32};
    switch (fault->kind) {
    case FAULT_PARTITION:
        (void)prng_u64(&prng);
        network_partition(network, (enum network_partition)fault->amount, &prng);
        break;
    case FAULT_CUT:
        network_cut(network, fault->node, fault->other);
        break;
    case FAULT_STALL:
        network_stall(network, fault->node, fault->other, fault->until_us);
        break;
    default:
        for (uint32_t other = 0; other < sim->machine_count; other++) {
            network_degrade(network, fault->node, other, (uint32_t)fault->amount);
            network_degrade(network, other, fault->node, (uint32_t)fault->amount);
        }
    }
}

/* Ending one fault of the network must leave the others. */
static void mend_network(struct sim *sim)
{
    network_heal(sim->network);
    for (uint32_t i = 0; i < sim->plan.count; i++)
        if (sim->fault_active[i] && is_of_network(&sim->plan.faults[i])) disturb_network(sim, i);
}

bool sim_disk_is_at_fault(const struct sim *sim, uint32_t node)
{
    for (uint32_t i = 0; i < sim->plan.count; i++) {
        const struct fault *fault = &sim->plan.faults[i];
        if (!sim->fault_active[i] || fault->node != node) continue;
        if (fault->kind == FAULT_POWER_LATER || fault->kind == FAULT_FULL_DISK ||
            fault->kind == FAULT_BAD_SYNC || fault->kind == FAULT_BAD_DISK)
            return true;
    }
    return false;
}

static void crash(struct sim *sim, uint32_t node, bool power_lost, uint64_t until_us)
{
    if (!is_up(process_of(sim, node))) return;
    sim_crash(sim, node, power_lost);
    sim_plan_start(sim, node, until_us - sim->schedule.now_us);
}

static void crash_all(struct sim *sim, uint64_t until_us)
{
    for (uint32_t node = 0; node < sim->machine_count; node++) crash(sim, node, true, until_us);
}

/* --- Disks that are lost --- */

static void copy_disk(struct sim *sim, uint32_t node, uint64_t until_us)
{
    struct sim_machine *machine = &sim->machines[node];
    struct sim_process *process = &machine->process;
    if (machine->image != NULL || !sim_is_member(sim, node) || !is_up(process)) return;
    crash(sim, node, false, until_us);
    machine->image = sim_disk_image_take(process->disk);
    machine->image_id = machine->id;
}

/* What it acknowledged is at one other at least, for writes to all shards. */
static bool writes_have_copies(const struct sim *sim)
{
    const struct rangemap *map = sim_newest_map(sim);
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct owners sets[2];
        struct shard shard = rangemap_shard(map, i);
        size_t count = shard_write_owners(&shard, sets);
        for (size_t set = 0; set < count; set++)
            if (sets[set].write_quorum < 2) return false;
    }
    return true;
}

/* More than one thing at a time nobody promises to get over: all others are there, and one disk is lost. */
static bool may_lose_disk(struct sim *sim, uint32_t node)
{
    const struct sim_process *process = process_of(sim, node);
    if (sim->disk_lost_us != 0 || !sim_is_member(sim, node) || !writes_have_copies(sim))
        return false;
    if (process->state != PROCESS_RUNNING || process->ops->recorded == NULL) return false;
    for (uint32_t other = 0; other < sim->machine_count; other++)
        if (sim->machines[other].in_use && !is_up(process_of(sim, other))) return false;
    for (uint32_t i = 0; i < sim->plan.count; i++)
        if (sim->fault_active[i] && is_of_network(&sim->plan.faults[i])) return false;
    return process->ops->recorded(process->program);
}

static void set_back_disk(struct sim *sim, uint32_t node, uint64_t until_us)
{
    struct sim_machine *machine = &sim->machines[node];
    if (machine->image == NULL || machine->image_id != machine->id) return;
    if (!may_lose_disk(sim, node)) return;
    crash(sim, node, false, until_us);
    sim_disk_restore(machine->process.disk, machine->image);
    inspect_forget_node(sim, node);
    machine->set_back = true;
    machine->lost_map = machine->map_number;
    sim->disk_lost_us = sim->schedule.now_us;
    sim_note(sim, node, "has the disk that it had at an earlier time");
}

/* Of three registrars both others have to be there for one that starts anew: without one for good, and before that is
 * excluded, only recovery helps. */
static void wipe_disk(struct sim *sim, uint32_t node)
{
    const node_id *ids;
    if (rangemap_registrars(sim_newest_map(sim), &ids) < 5 || !may_lose_disk(sim, node)) return;
    sim_crash(sim, node, false);
    sim_begin_anew(sim, node);
    sim->disk_lost_us = sim->schedule.now_us;
    sim_note(sim, node, "has an empty disk");
    sim_join(sim);
}

/* For all replicas that are wanted, or for any at all. */
static uint32_t least_staying(const struct sim *sim, const struct fault *fault)
{
    return fault->amount != 0 ? 1 : sim->options.settings.replication_factor;
}

void sim_fault_begin(struct sim *sim, uint32_t number)
{
    if (sim->healed) return;
    const struct fault *fault = &sim->plan.faults[number];
    struct sim_process *process = process_of(sim, fault->node);
    uint64_t now_us = sim->schedule.now_us;
    char text[100];

    fault_describe(fault, text, sizeof text);
    sim_note(sim, fault->node, "fault %u for %llu ms: %s", number,
             (unsigned long long)(fault->until_us - fault->at_us) / 1000, text);
    sim->fault_active[number] = true;
    sim->stats.faults++;
    sim_add_event(sim, SIM_FAULT_END, fault->node, fault->until_us - now_us, number);
    if (is_of_network(fault)) {
        disturb_network(sim, number);
        return;
    }
    switch (fault->kind) {
    case FAULT_KILL:
        crash(sim, fault->node, false, fault->until_us);
        break;
    case FAULT_POWER:
        crash(sim, fault->node, true, fault->until_us);
        break;
    case FAULT_POWER_LATER:
        sim_disk_crash_after(process->disk, (uint64_t)fault->amount);
        break;
    case FAULT_POWER_ALL:
        crash_all(sim, fault->until_us);
        break;
    case FAULT_PAUSE:
        sim_process_pause(process, fault->until_us);
        break;
    case FAULT_JUMP:
        sim_clock_correct(&process->clock, now_us);
        sim_clock_jump(&process->clock, fault->amount * 1000);
        break;
    case FAULT_FREEZE:
        sim_clock_freeze(&process->clock, now_us);
        break;
    case FAULT_DRIFT:
        sim_clock_set_drift(&process->clock, now_us, fault->amount);
        break;
    case FAULT_SLOW_DISK:
        process->sync_slow = (uint32_t)fault->amount;
        break;
    case FAULT_FULL_DISK:
        sim_disk_set_capacity(process->disk,
                              sim_disk_used_bytes(process->disk) + (uint64_t)fault->amount + 1);
        break;
    case FAULT_BAD_SYNC:
        sim_disk_fail_sync_after(process->disk, (uint64_t)fault->amount);
        break;
    case FAULT_BAD_DISK:
        sim_disk_fail_after(process->disk, (uint64_t)fault->amount, STATUS_IO);
        break;
    case FAULT_JOIN:
        sim_join(sim);
        break;
    case FAULT_LEAVE:
    case FAULT_RETREAT:
        sim_leave(sim, fault->node, true, least_staying(sim, fault));
        break;
    case FAULT_REPLACE:
        if (sim_join(sim) != NOTHING)
            sim_leave(sim, fault->node, true, least_staying(sim, fault) - 1);
        break;
    case FAULT_IMAGE:
        copy_disk(sim, fault->node, fault->until_us);
        break;
    case FAULT_RESTORE:
        set_back_disk(sim, fault->node, fault->until_us);
        break;
    case FAULT_WIPE:
        wipe_disk(sim, fault->node);
        break;
    default:
        break;
    }
}

void sim_fault_end(struct sim *sim, uint32_t number)
{
    if (sim->healed) return;
    const struct fault *fault = &sim->plan.faults[number];
    struct sim_process *process = process_of(sim, fault->node);
    sim->fault_active[number] = false;
    sim_note(sim, fault->node, "fault %u ends", number);
    if (is_of_network(fault)) {
        mend_network(sim);
        return;
    }
    switch (fault->kind) {
    case FAULT_POWER_LATER:
        sim_disk_crash_never(process->disk);
        break;
    case FAULT_JUMP:
    case FAULT_FREEZE:
        sim_clock_correct(&process->clock, sim->schedule.now_us);
        break;
    case FAULT_DRIFT:
        sim_clock_set_drift(&process->clock, sim->schedule.now_us, 0);
        break;
    case FAULT_SLOW_DISK:
        process->sync_slow = 1;
        break;
    case FAULT_FULL_DISK:
        sim_disk_set_capacity(process->disk, 0);
        break;
    case FAULT_BAD_SYNC:
    case FAULT_BAD_DISK:
        sim_disk_fail_never(process->disk);
        break;
    case FAULT_RETREAT:
        sim_leave(sim, fault->node, false, 0);
        break;
    default:
        break;
    }
}
