#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cluster/rangemap_delta.h"
#include "map_pool.h"

enum { FLEET_MESSAGE = PROCESS_EVENT_COUNT, ENVELOPE_BYTES = 8, DELTA_AIM = 24 << 10 };

struct flying {
    node_id from;
    uint32_t size;
    uint8_t bytes[];
};

/* --- The program of a machine --- */

static struct replica_time time_of(const struct sim_process *process)
{
    return (struct replica_time){sim_process_now_ms(process), sim_process_wall_ms(process)};
}

static void send_to(void *context, node_id to, struct slice bytes)
{
    struct machine *machine = context;
    struct fleet *fleet = machine->fleet;
    uint64_t arrivals_us[NETWORK_COPIES_MAX];
    machine->sent_bytes[bytes.data[ENVELOPE_BYTES] % FLEET_PROTOCOLS] += bytes.size;
    fleet->messages++;
    if (fleet->by_id[to] == 0) return;
    uint32_t target = fleet->by_id[to] - 1;
    unsigned copies = network_send(fleet->network, fleet->schedule.now_us, machine->process.node,
                                   target, arrivals_us);
    for (unsigned i = 0; i < copies; i++) {
        struct flying *flying = malloc(sizeof *flying + bytes.size);
        CHECK(flying != NULL);
        flying->from = machine->id;
        flying->size = (uint32_t)bytes.size;
        memcpy(flying->bytes, bytes.data, bytes.size);
        schedule_add(&fleet->schedule, &(struct sim_event){.at_us = arrivals_us[i],
                                                           .kind = FLEET_MESSAGE,
                                                           .node = target,
                                                           .data = flying});
    }
}

static void ignore_reply(void *context, uint64_t id, const struct request_reply *reply)
{
    (void)context;
    (void)id;
    (void)reply;
}

static enum status program_start(struct sim_process *process, void **out)
{
    struct machine *machine = process->context;
    struct replica_options options = {
        .heap = &process->heap,
        .store = process->store,
        .sink = {send_to, ignore_reply, machine},
        .seed = prng_u64(&process->prng),
        .self = {.id = machine->id, .incarnation = machine->incarnation, .boot = 1},
        .map = machine->map != NULL ? machine->map : machine->fleet->map,
        .founds = machine->map == NULL,
    };
    enum status status = replica_create(&options, time_of(process), &machine->replica);
    if (status == STATUS_OK) *out = machine;
    return status;
}

static void program_stop(void *context)
{
    struct machine *machine = context;
    replica_destroy(machine->replica);
    machine->replica = NULL;
}

static void program_message(void *context, uint32_t from, struct slice bytes)
{
    struct machine *machine = context;
    replica_message(machine->replica, time_of(&machine->process), (node_id)from, bytes);
}

static void program_request(void *context, uint64_t id, const struct request *request)
{
    struct machine *machine = context;
    replica_request(machine->replica, time_of(&machine->process), id, request);
}

static void program_tick(void *context)
{
    struct machine *machine = context;
    replica_tick(machine->replica, time_of(&machine->process));
}

static void program_commit(void *context)
{
    struct machine *machine = context;
    replica_commit(machine->replica, time_of(&machine->process));
    if (machine->fleet->on_step != NULL) machine->fleet->on_step(machine->fleet, machine);
}

static void program_synced(void *context)
{
    struct machine *machine = context;
    replica_synced(machine->replica, time_of(&machine->process));
}

static uint64_t program_wake_ms(void *context)
{
    const struct machine *machine = context;
    return replica_wake_ms(machine->replica);
}

static void program_stats(void *context, struct sim_program_stats *stats)
{
    (void)context;
    *stats = (struct sim_program_stats){0};
}

static const struct sim_program_ops program_ops = {
    .start = program_start,
    .stop = program_stop,
    .message = program_message,
    .request = program_request,
    .tick = program_tick,
    .commit = program_commit,
    .synced = program_synced,
    .wake_ms = program_wake_ms,
    .stats = program_stats,
};

/* --- The first map --- */

static struct member member_of(const struct machine *machine, char zone[16], char address[32])
{
    int zone_size = snprintf(zone, 16, "zone%u", machine->zone);
    int size = snprintf(address, 32, "10.0.%u.%u:7400", machine->process.node / 250,
                        machine->process.node % 250);
    return (struct member){
        .incarnation = machine->incarnation,
        .capacity = 100,
        .zone = slice_of(zone, (size_t)zone_size),
        .address = slice_of(address, (size_t)size),
    };
}

/* Changes are collected, and applied when they are many. */
struct maker {
    struct fleet *fleet;
    struct buf delta;
    unsigned count;
};

static void flush_changes(struct maker *maker)
{
    struct rangemap *next;
    const char *why = "";
    if (maker->count == 0) return;
    enum status status = rangemap_apply(maker->fleet->map, buf_slice(&maker->delta), &why, &next);
    if (status != STATUS_OK) fprintf(stderr, "the first map: %s: %s\n", status_name(status), why);
    CHECK(status == STATUS_OK);
    rangemap_unref(maker->fleet->map);
    maker->fleet->map = next;
    rangemap_delta_begin(next, &maker->delta);
    maker->count = 0;
}

static void add_change(struct maker *maker, const struct change *change)
{
    bool splits = change->kind == CHANGE_SPLIT;
    rangemap_delta_add(&maker->delta, change);
    maker->count++;
    if (maker->delta.size > DELTA_AIM || (splits && maker->count == RANGEMAP_SPLITS_MAX))
        flush_changes(maker);
}

/* Owners in groups: of three nodes each, one of every zone, so that a node has few peers. */
static void deal_owners(struct maker *maker, enum change_kind kind)
{
    const struct fleet_options *options = &maker->fleet->options;
    uint32_t groups = options->node_count / options->factor;
    for (uint32_t i = 0; i <= options->cut_count; i++) {
        struct change change = {.kind = kind, .forced = kind == CHANGE_SWITCH};
        uint32_t group = options->node_count < 3U * options->factor ? i : i % groups;
        if (i > 0) change.low = slice_from_text(options->cuts[i - 1]);
        bool owns[1025] = {0};
        for (uint32_t j = 0; j < options->factor; j++) {
            uint32_t node = options->node_count < 3U * options->factor
                                ? (group + j) % options->node_count
                                : group * options->factor + j;
            owns[node + 1] = true;
        }
        for (uint32_t id = 1; id <= options->node_count; id++)
            if (owns[id]) change.next[change.next_count++] = (node_id)id;
        size_t at = rangemap_find(maker->fleet->map, i == 0 ? SLICE_LITERAL("\1") : change.low);
        struct shard shard = rangemap_shard(maker->fleet->map, at);
        struct owners dealt = {.ids = change.next, .count = change.next_count};
        bool due = kind == CHANGE_BEGIN ? !owners_same_nodes(&dealt, &shard.owners)
                                        : shard.stage != SHARD_STABLE;
        if (due) add_change(maker, &change);
    }
    flush_changes(maker);
}

static void create_map(struct fleet *fleet)
{
    struct rangemap_settings settings = rangemap_settings_default;
    struct maker maker = {.fleet = fleet, .delta = {.heap = &fleet->heap}};
    char zone[16], address[32];
    settings.replication_factor = fleet->options.factor;
    settings.k_factor = 0;
    struct member member = member_of(&fleet->machines[0], zone, address);
    CHECK(rangemap_create(&fleet->heap, 1, &settings, &member, &fleet->map) == STATUS_OK);
    rangemap_delta_begin(fleet->map, &maker.delta);
    for (uint32_t i = 1; i < fleet->options.node_count; i++) {
        struct change change = {.kind = CHANGE_MEMBER_ADD,
                                .member = member_of(&fleet->machines[i], zone, address)};
        change.member.id = (node_id)(i + 1);
        add_change(&maker, &change);
    }
    flush_changes(&maker);
    for (uint32_t i = 0; i < fleet->options.cut_count; i++)
        add_change(&maker, &(struct change){.kind = CHANGE_SPLIT,
                                            .low = slice_from_text(fleet->options.cuts[i])});
    flush_changes(&maker);
    deal_owners(&maker, CHANGE_BEGIN);
    deal_owners(&maker, CHANGE_SWITCH);
    deal_owners(&maker, CHANGE_FINISH);
    buf_deinit(&maker.delta);
}

/* --- Life --- */

struct fleet *fleet_create(const struct fleet_options *options)
{
    static const struct network_options network = {
        .delay_us = 100, .delay_spread_us = 400, .jitter_us = 100};
    struct fleet *fleet = calloc(1, sizeof *fleet);
    CHECK(fleet != NULL);
    fleet->options = *options;
    fleet->prng.state = options->seed;
    (void)prng_u64(&fleet->prng); /* Small seeds give small numbers at first. */
    fleet->machine_count = options->node_count + options->spare_count;
    heap_init(&fleet->heap, 0);
    schedule_init(&fleet->schedule);
    fleet->network = network_create(prng_u64(&fleet->prng), fleet->machine_count, &network);
    fleet->machines = calloc(fleet->machine_count, sizeof *fleet->machines);
    CHECK(fleet->machines != NULL);
    for (uint32_t i = 0; i < fleet->machine_count; i++) {
        struct machine *machine = &fleet->machines[i];
        struct store_options store = options->store;
        store.keep_transfers = true;
        store.hash_seed = 7;
        machine->fleet = fleet;
        machine->incarnation = prng_u64(&fleet->prng) | 1;
        machine->zone = i % options->zone_count;
        if (i < options->node_count) machine->id = (node_id)(i + 1);
        if (machine->id != 0) fleet->by_id[machine->id] = i + 1;
        sim_process_init(&machine->process, &fleet->schedule, i, prng_u64(&fleet->prng), &store,
                         &program_ops, machine);
    }
    create_map(fleet);
    for (uint32_t i = 0; i < options->node_count; i++) fleet_start(fleet, i);
    return fleet;
}

void fleet_destroy(struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->machine_count; i++) {
        sim_process_deinit(&fleet->machines[i].process);
        rangemap_unref(fleet->machines[i].map);
    }
    free(fleet->machines);
    rangemap_unref(fleet->map);
    map_pool_clear();
    network_destroy(fleet->network);
    schedule_deinit(&fleet->schedule);
    CHECK(heap_used_bytes(&fleet->heap) == 0);
    free(fleet);
}

uint64_t fleet_now_ms(const struct fleet *fleet)
{
    return fleet->schedule.now_us / 1000;
}

static bool is_up(const struct machine *machine)
{
    return machine->process.state != PROCESS_DOWN;
}

static void message_arrives(struct fleet *fleet, struct sim_event *event)
{
    struct flying *flying = event->data;
    struct machine *machine = &fleet->machines[event->node];
    bool arrives = is_up(machine) &&
                   network_carries(fleet->network, fleet->by_id[flying->from] - 1, event->node);
    if (arrives)
        sim_process_message(&machine->process, flying->from, slice_of(flying->bytes, flying->size));
    free(flying);
}

void fleet_run(struct fleet *fleet, uint64_t ms)
{
    struct sim_event event;
    uint64_t until_us = fleet->schedule.now_us + ms * 1000;
    while (schedule_next(&fleet->schedule, until_us, &event)) {
        if (event.kind == FLEET_MESSAGE)
            message_arrives(fleet, &event);
        else
            sim_process_event(&fleet->machines[event.node].process, &event);
    }
}

void fleet_stop(struct fleet *fleet, uint32_t machine, bool power_lost)
{
    sim_process_crash(&fleet->machines[machine].process, power_lost);
}

void fleet_start(struct fleet *fleet, uint32_t machine)
{
    struct sim_process *process = &fleet->machines[machine].process;
    enum status status = sim_process_start(process);
    if (status != STATUS_OK)
        fprintf(stderr, "machine %u does not start: %s %s\n", machine, status_name(status),
                process->report.detail);
    CHECK(status == STATUS_OK);
}

bool fleet_join(struct fleet *fleet, uint32_t number, uint32_t contact)
{
    struct machine *machine = &fleet->machines[number], *at = &fleet->machines[contact];
    struct buf ask = {.heap = &fleet->heap}, answer = {.heap = &fleet->heap};
    char zone[16], address[32];
    struct member member = member_of(machine, zone, address);
    replica_join_ask(&member, 0, &ask);
    bool joined = replica_join_answer(at->replica, time_of(&at->process), buf_slice(&ask), &answer);
    if (joined) {
        CHECK(replica_join_take(&fleet->heap, buf_slice(&answer), machine->incarnation,
                                &machine->map, &machine->id) == STATUS_OK);
        fleet->by_id[machine->id] = number + 1;
        fleet_start(fleet, number);
    }
    buf_deinit(&ask);
    buf_deinit(&answer);
    return joined;
}

void fleet_put(struct fleet *fleet, uint32_t number, struct slice key, const struct record *record)
{
    struct machine *machine = &fleet->machines[number];
    struct store_write write = {.kind = STORE_MERGE, .key = key, .record = record};
    struct store_outcome outcome;
    uint64_t sequence;
    store_batch_begin(machine->process.store, sim_process_wall_ms(&machine->process));
    store_write(machine->process.store, &write, &outcome);
    CHECK(outcome.status == STATUS_OK);
    CHECK(store_batch_commit(machine->process.store, &sequence) == STATUS_OK);
}

/* --- Looking --- */

uint64_t fleet_sent(const struct fleet *fleet, unsigned protocol)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < fleet->machine_count; i++)
        for (unsigned j = 0; j < FLEET_PROTOCOLS; j++)
            if (protocol == 0 || protocol == j) bytes += fleet->machines[i].sent_bytes[j];
    return bytes;
}

struct sum fleet_sum(const struct machine *machine, const struct key_range *range)
{
    struct query query = sim_process_query(&machine->process);
    struct sum sum;
    CHECK(query_sum_range(&query, *range, &sum) == STATUS_OK);
    return sum;
}

const struct rangemap *fleet_map(const struct fleet *fleet)
{
    const struct rangemap *newest = fleet->map;
    for (uint32_t i = 0; i < fleet->machine_count; i++) {
        if (fleet->machines[i].replica == NULL) continue;
        const struct rangemap *map = replica_map(fleet->machines[i].replica);
        if (rangemap_identity(map)->number > rangemap_identity(newest)->number) newest = map;
    }
    return newest;
}

bool fleet_is_equal(const struct fleet *fleet)
{
    const struct rangemap *map = fleet_map(fleet);
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        struct key_range range = {shard_first_key(&shard), shard.high};
        struct sum first = {0};
        bool have = false;
        for (size_t j = 0; j < shard.owners.count; j++) {
            const struct machine *machine = &fleet->machines[fleet->by_id[shard.owners.ids[j]] - 1];
            if (!is_up(machine)) continue;
            struct sum sum = fleet_sum(machine, &range);
            if (have && !sum_equal(sum, first)) return false;
            first = sum;
            have = true;
        }
    }
    return true;
}
