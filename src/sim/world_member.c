/* Who is a member: machines and their ids, the maps that nodes were seen with, and the operator, who
 * lets machines join, wants members to leave, and ends those that have left. */
#include <stdio.h>

#include "cluster/rangemap_delta.h"
#include "sim/world_private.h"

enum {
    OPERATOR_LOOKS_US = 1000000,
    END_AFTER_US = 5000000, /* At most so long a node goes on that is a member no more, ... */
    END_LOOKS_US = 1000000, /* ... and until all others have known that for so long. */
};

/* Ids */

void sim_members_create(struct sim *sim)
{
    sim->machine_by_id = calloc(NODE_ID_MAX + 1, sizeof *sim->machine_by_id);
    CHECK(sim->machine_by_id != NULL);
}

void sim_members_destroy(struct sim *sim)
{
    for (uint64_t i = 0; i < sim->map_count; i++) rangemap_unref(sim->maps[i]);
    free(sim->maps);
    free(sim->machine_by_id);
}

uint32_t sim_machine_of(const struct sim *sim, node_id id)
{
    return sim->machine_by_id[id] == 0 ? NOTHING : sim->machine_by_id[id] - UINT32_C(1);
}

void sim_machine_is(struct sim_machine *machine, node_id id)
{
    machine->id = id;
    machine->sim->machine_by_id[id] = (uint16_t)(machine->process.node + 1);
}

struct member sim_member_of(const struct sim_machine *machine, char address[32])
{
    int size = snprintf(address, 32, "n%u:7000", machine->process.node + 1);
    return (struct member){
        .id = machine->id,
        .incarnation = machine->incarnation,
        .capacity = 100,
        .zone = SLICE_LITERAL("z"),
        .address = slice_of(address, (size_t)size),
    };
}

/* Maps */

const struct rangemap *sim_newest_map(const struct sim *sim)
{
    return sim->map_count == 0 ? sim->map : sim->maps[sim->map_count - 1];
}

const struct rangemap *sim_map_of(const struct sim *sim, uint64_t number)
{
    if (number < sim->map_count && sim->maps[number] != NULL) return sim->maps[number];
    return number == rangemap_identity(sim->map)->number ? sim->map : NULL;
}

bool sim_is_member(const struct sim *sim, uint32_t node)
{
    struct member member;
    node_id id = sim->machines[node].id;
    return id != 0 && rangemap_member_find(sim_newest_map(sim), id, &member);
}

/* A copy of our own: a node's is gone with it. */
static void keep_map(struct sim *sim, const struct rangemap *map)
{
    uint64_t number = rangemap_identity(map)->number;
    if (number < sim->map_count && sim->maps[number] != NULL) return;
    if (number >= sim->map_count) {
        sim->maps = realloc(sim->maps, (number + 1) * sizeof *sim->maps);
        CHECK(sim->maps != NULL);
        while (sim->map_count <= number) sim->maps[sim->map_count++] = NULL;
    }
    struct buf bytes = {.heap = &sim->heap};
    rangemap_encode(map, &bytes);
    CHECK(rangemap_decode(&sim->heap, buf_slice(&bytes), &sim->maps[number]) == STATUS_OK);
    buf_deinit(&bytes);
}

/* Whoever has left does not know, and goes on until somebody comes and ends it. */
static void end_former_members(struct sim *sim)
{
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        struct sim_machine *machine = &sim->machines[node];
        if (machine->id == 0 || machine->end_planned || sim_is_member(sim, node)) continue;
        /* With an id that the map was never seen with it joined just now. */
        if (machine->map_number == 0) continue;
        machine->end_planned = true;
        sim_add_event(sim, SIM_END, node, prng_below(&sim->prng, END_AFTER_US), machine->id);
    }
}

/* The newest maps, if all who knew them lost their power before they were durable: they are chosen, and
 * nobody knows it before somebody proposes again. */
static void drop_forgotten(struct sim *sim)
{
    while (sim->map_count > 0) {
        struct rangemap *map = sim->maps[sim->map_count - 1];
        for (uint32_t node = 0; map != NULL && node < sim->machine_count; node++)
            if (sim->machines[node].map_number >= sim->map_count - 1) return;
        rangemap_unref(map);
        sim->map_count--;
    }
}

void sim_watch_map(struct sim *sim, uint32_t node)
{
    struct sim_machine *machine = &sim->machines[node];
    struct sim_process *process = &machine->process;
    uint64_t oldest;
    if (!is_up(process) || process->ops->map == NULL) return;
    const struct rangemap *map = process->ops->map(process->program, &oldest);
    if (map == NULL || rangemap_identity(map)->number == machine->map_number) return;
    uint64_t newest = rangemap_identity(sim_newest_map(sim))->number;
    const struct rangemap *before = sim_map_of(sim, machine->map_number);
    bool forgot = rangemap_identity(map)->number < machine->map_number;
    machine->map_number = rangemap_identity(map)->number;
    if (forgot) {
        before = NULL;
        drop_forgotten(sim);
    }
    keep_map(sim, map);
    inspect_map(sim, node, map);
    /* Before it drops what it owns no more. */
    inspect_new_map(sim, node, before, map);
    if (machine->map_number > newest) end_former_members(sim);
}

/* Joining and leaving */

static void operator_looks_later(struct sim *sim)
{
    if (sim->operator_planned) return;
    sim->operator_planned = true;
    sim_add_event(sim, SIM_OPERATOR, 0, OPERATOR_LOOKS_US, 0);
}

uint32_t sim_join(struct sim *sim)
{
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        struct sim_machine *machine = &sim->machines[node];
        if (machine->in_use) continue;
        machine->in_use = true;
        machine->founds = machine->set_back = false;
        machine->map_number = machine->lost_map = 0;
        machine->incarnation = prng_u64(&sim->prng) | 1;
        sim_disk_restore(machine->process.disk, NULL);
        sim_note(sim, node, "is a new machine, and is to join");
        sim_start(sim, node);
        return node;
    }
    return NOTHING;
}

static size_t staying_count(const struct sim *sim)
{
    const struct rangemap *map = sim_newest_map(sim);
    size_t count = 0;
    for (size_t i = 0; i < rangemap_member_count(map); i++) {
        struct member member = rangemap_member(map, i);
        bool leaves = member.leaving || member.state != MEMBER_ACTIVE;
        for (size_t j = 0; j < SIM_WISHES_MAX; j++)
            leaves = leaves || (sim->wishes[j].id == member.id && sim->wishes[j].leaves);
        count += !leaves;
    }
    return count;
}

static struct sim_wish *wish_of(struct sim *sim, node_id id)
{
    for (size_t i = 0; i < SIM_WISHES_MAX; i++)
        if (sim->wishes[i].id == id) return &sim->wishes[i];
    return NULL;
}

bool sim_leave(struct sim *sim, uint32_t node, bool leaves, uint32_t least)
{
    if (sim->options.program->change == NULL || !sim_is_member(sim, node)) return false;
    if (leaves && staying_count(sim) <= least) return false;
    node_id id = sim->machines[node].id;
    struct sim_wish *wish = wish_of(sim, id);
    if (wish == NULL) wish = wish_of(sim, 0);
    if (wish == NULL) return false;
    *wish = (struct sim_wish){.id = id, .leaves = leaves};
    sim_note(sim, node, leaves ? "is to leave" : "is to stay after all");
    operator_looks_later(sim);
    return true;
}

static bool is_granted(const struct sim *sim, const struct sim_wish *wish)
{
    struct member member;
    if (!rangemap_member_find(sim_newest_map(sim), wish->id, &member)) return true;
    return wish->excluded ? member.state == MEMBER_EXCLUDED : member.leaving == wish->leaves;
}

/* Whoever is asked may die, and forgets it then. */
static void ask_somebody(struct sim *sim, const struct sim_wish *wish)
{
    uint32_t node = prng_below(&sim->prng, sim->machine_count);
    struct sim_process *process = process_of(sim, node);
    if (process->state != PROCESS_RUNNING || process->ops->change == NULL) return;
    struct change change = {.kind = wish->excluded ? CHANGE_MEMBER_STATE : CHANGE_MEMBER_LEAVING};
    change.member.id = wish->id;
    change.member.leaving = wish->leaves;
    change.member.state = MEMBER_EXCLUDED;
    process->ops->change(process->program, &change);
}

void sim_operator_looks(struct sim *sim)
{
    bool more = false;
    sim->operator_planned = false;
    for (size_t i = 0; i < SIM_WISHES_MAX; i++) {
        struct sim_wish *wish = &sim->wishes[i];
        if (wish->id == 0) continue;
        if (is_granted(sim, wish)) {
            *wish = (struct sim_wish){0};
            continue;
        }
        ask_somebody(sim, wish);
        more = true;
    }
    if (more) operator_looks_later(sim);
}

void sim_begin_anew(struct sim *sim, uint32_t node)
{
    struct sim_machine *machine = &sim->machines[node];
    struct sim_wish *wish = wish_of(sim, machine->id);
    if (wish == NULL) wish = wish_of(sim, 0);
    CHECK(wish != NULL);
    *wish = (struct sim_wish){.id = machine->id, .excluded = true};
    machine->id = 0;
    machine->in_use = machine->end_planned = machine->end_known = false;
    inspect_forget_node(sim, node);
    operator_looks_later(sim);
}

bool sim_excludes(const struct sim *sim)
{
    const struct rangemap *map = sim_newest_map(sim);
    for (size_t i = 0; i < SIM_WISHES_MAX; i++)
        if (sim->wishes[i].excluded) return true;
    for (size_t i = 0; i < rangemap_member_count(map); i++)
        if (rangemap_member(map, i).state == MEMBER_EXCLUDED) return true;
    return false;
}

/* Whether all members are up and know that `id` is none any more. */
static bool others_know(struct sim *sim, node_id id)
{
    const struct rangemap *newest = sim_newest_map(sim);
    for (size_t i = 0; i < rangemap_member_count(newest); i++) {
        uint32_t node = sim_machine_of(sim, rangemap_member(newest, i).id);
        const struct sim_process *process = node == NOTHING ? NULL : process_of(sim, node);
        struct member member;
        uint64_t oldest;
        if (process == NULL || !is_up(process)) return false;
        const struct rangemap *map = process->ops->map(process->program, &oldest);
        if (map == NULL || rangemap_member_find(map, id, &member)) return false;
    }
    return true;
}

void sim_member_ends(struct sim *sim, uint32_t node, node_id id)
{
    struct sim_machine *machine = &sim->machines[node];
    if (machine->id != id) return;
    /* Of three registrars two that have started anew cannot vote without the third. It goes when the others
     * have known of it for a while, so that they know it after a power cut as well. */
    bool known_before = machine->end_known;
    machine->end_known = others_know(sim, id);
    if (!known_before || !machine->end_known) {
        sim_add_event(sim, SIM_END, node, END_LOOKS_US, id);
        return;
    }
    sim_note(sim, node, "has left");
    sim_crash(sim, node, false);
    machine->id = 0;
    machine->in_use = machine->end_planned = machine->end_known = false;
    inspect_forget_node(sim, node);
}
