#include "sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "cluster/rangemap_delta.h"
#include "core/key.h"
#include "node/replica.h"
#include "proto/peer_link.h"
#include "sim/store_world.h"
#include "sim/world_private.h"

enum {
    WARM_UP_MS = 3000,
    LOOK_AT_PROGRAMS_EVENTS = 64, /* So many events lie between two looks. */
    LOOK_AT_STORE_EVENTS = 1024,
    LOOK_AT_ALL_EVENTS = 4096,
    POLL_MS = 500,
};

/* Options */

static void draw_quorums(struct rangemap_settings *settings, struct prng *prng, uint32_t nodes)
{
    uint32_t factor = 3 < nodes ? 3 : nodes;
    if (prng_one_in(prng, 3)) factor = 1 + prng_below(prng, nodes < 5 ? nodes : 5);
    settings->replication_factor = (uint8_t)factor;
    settings->read_consistency = CONSISTENCY_QUORUM;
    settings->write_quorum = settings->read_quorum = 0;
    if (prng_one_in(prng, 3)) return;
    settings->write_quorum = (uint8_t)(1 + prng_below(prng, factor));
    settings->read_quorum = (uint8_t)(factor + 1 - settings->write_quorum);
    if (prng_one_in(prng, 4)) settings->read_quorum = (uint8_t)(1 + prng_below(prng, factor));
}

static void draw_splits(struct rangemap_settings *settings, struct prng *prng)
{
    if (prng_one_in(prng, 2)) return;
    settings->shard_split_bytes = 4 << 10;
    settings->shard_min_bytes = 1 << 10;
}

static void draw_network(struct network_options *network, struct prng *prng)
{
    *network = (struct network_options){.delay_us = 100, .delay_spread_us = 400, .jitter_us = 100};
    if (prng_one_in(prng, 3)) network->delay_spread_us = 30000;
    if (prng_one_in(prng, 3)) network->jitter_us = 5000;
    if (prng_one_in(prng, 2)) network->reorder_ppm = prng_below(prng, 200000);
    if (prng_one_in(prng, 2)) network->loss_ppm = prng_below(prng, 50000);
    if (prng_one_in(prng, 2)) network->duplicate_ppm = prng_below(prng, 50000);
    if (prng_one_in(prng, 2)) {
        network->slow_ppm = prng_below(prng, 20000);
        network->slow_us = 3000000;
    }
}

/* A node that has forgotten what time it was does not get over a clock that was set back as well. And what one owner and
 * a hint have together is two copies only while no disk goes. */
static void draw_losses(struct sim_options *options, struct prng *prng)
{
    const struct rangemap_settings *settings = &options->settings;
    bool one_is_enough = settings->replication_factor == 1 || settings->write_quorum == 1;
    if (!prng_one_in(prng, 3) || one_is_enough) {
        options->settings.sloppy_quorum = prng_one_in(prng, 4);
        return;
    }
    options->faults.kinds |= FAULTS_OF_DISKS;
    options->faults.kinds &= ~FAULTS_OF_CLOCKS;
}

void sim_options_draw(struct sim_options *options, uint64_t seed)
{
    struct prng prng = {.state = seed};
    (void)prng_u64(&prng); /* Small seeds give small numbers at first. */

    *options = (struct sim_options){.seed = seed, .settings = rangemap_settings_default};
    options->node_count = 3 + prng_below(&prng, 5);
    options->spare_count = prng_below(&prng, 4);
    options->shard_count = 1 + prng_below(&prng, 6);
    draw_quorums(&options->settings, &prng, options->node_count);
    draw_splits(&options->settings, &prng);
    draw_network(&options->network, &prng);
    /* Deletions go as soon as they may. */
    if (prng_one_in(&prng, 2)) options->settings.tombstone_gc_ms = prng_below(&prng, 3) * 5000;

    options->store = store_world_options();
    options->store.publish_after_sync = true;
    options->store.keep_transfers = true;
    options->store.hash_seed = 7;
    options->store.memtrie_bytes_max = 4 << 20;
    options->store.log_segment_bytes = prng_one_in(&prng, 2) ? 8 << 10 : 32 << 10;
    options->store.log_bytes_max = 2 * options->store.log_segment_bytes;
    options->store.gc_age_ms = UINT64_MAX / 2;

    options->client_count = 1 + prng_below(&prng, 10);
    options->word_count = 24 + prng_below(&prng, 200);
    options->operations_per_s = 20;
    options->timeout_ms = 5000;
    options->faulty_ms = 1000 * (60 + prng_below(&prng, 540));
    options->served_ms = 20000;
    options->quiet_ms = 600000; /* Many small shards move a few at a time. */
    options->converges = true;
    options->faults = (struct nemesis_options){
        .kinds = FAULTS_SURVIVED,
        .gap_ms = 500 << prng_below(&prng, 6),
        .longest_ms = 1000 << prng_below(&prng, 6),
        .jump_ms = prng_one_in(&prng, 2) ? 3600000 : 4000,
    };
    if (prng_one_in(&prng, 2)) options->faults.kinds &= prng_u32(&prng);
    options->faults.kinds |= FAULTS_OF_MEMBERS;
    options->repair_ms = REPLICA_REPAIR_MS << prng_below(&prng, 3);
    draw_losses(options, &prng);
}

void sim_options_keep_map(struct sim_options *options)
{
    options->map_stays = true;
    options->faults.kinds &= ~(FAULTS_OF_MEMBERS | FAULT_BIT(FAULT_WIPE));
}

/* The first map: all nodes are members, shards are cut at words, owners dealt round. */

static void apply(struct sim *sim, struct buf *delta)
{
    struct rangemap *next;
    const char *why = "";
    enum status status = rangemap_apply(sim->map, buf_slice(delta), &why, &next);
    if (status != STATUS_OK) fprintf(stderr, "the first map: %s\n", why);
    CHECK(status == STATUS_OK);
    rangemap_unref(sim->map);
    sim->map = next;
}

static void apply_one(struct sim *sim, struct buf *delta, const struct change *change)
{
    rangemap_delta_begin(sim->map, delta);
    rangemap_delta_add(delta, change);
    apply(sim, delta);
}

static void cut_shards(struct sim *sim, struct buf *delta)
{
    uint32_t words = sim->options.word_count, shards = sim->options.shard_count;
    for (uint32_t i = 1; i < shards; i++) {
        struct slice low = sim->checker.words[sim->checker.by_key[i * words / shards]].key;
        apply_one(sim, delta, &(struct change){.kind = CHANGE_SPLIT, .low = low});
    }
}

static void deal_owners(struct sim *sim, struct buf *delta)
{
    uint8_t factor = rangemap_effective_factor(sim->map);
    for (size_t i = 0; i < rangemap_shard_count(sim->map); i++) {
        struct change change = {.kind = CHANGE_BEGIN, .next_count = factor};
        struct shard shard = rangemap_shard(sim->map, i);
        struct buf low;
        buf_init(&low, &sim->heap);
        buf_append_slice(&low, shard.low);
        change.low = buf_slice(&low);
        for (uint32_t node = 0, next = 0; node < sim->options.node_count; node++) {
            uint32_t turn =
                (node + sim->options.node_count - (uint32_t)i % sim->options.node_count) %
                sim->options.node_count;
            if (turn < factor) change.next[next++] = (node_id)(node + 1);
        }
        struct owners dealt = {.ids = change.next, .count = factor};
        if (!owners_same_nodes(&dealt, &shard.owners)) {
            apply_one(sim, delta, &change);
            change.kind = CHANGE_SWITCH;
            change.forced = true;
            apply_one(sim, delta, &change);
            change.kind = CHANGE_FINISH;
            apply_one(sim, delta, &change);
        }
        buf_deinit(&low);
    }
}

static void create_map(struct sim *sim)
{
    char address[32];
    struct buf delta;
    buf_init(&delta, &sim->heap);
    struct member first = sim_member_of(&sim->machines[0], address);
    CHECK(rangemap_create(&sim->heap, 1, &sim->options.settings, &first, &sim->map) == STATUS_OK);
    for (uint32_t node = 1; node < sim->options.node_count; node++) {
        struct change change = {.kind = CHANGE_MEMBER_ADD,
                                .member = sim_member_of(&sim->machines[node], address)};
        apply_one(sim, &delta, &change);
    }
    cut_shards(sim, &delta);
    deal_owners(sim, &delta);
    buf_deinit(&delta);
}

/* Traces */

static void note_bytes(struct sim *sim, uint32_t node, const char *text)
{
    if (!sim->options.traced) return;
    uint64_t ms = sim->schedule.now_us / 1000;
    if (ms < sim->options.traced_from_ms) return;
    if (node == NOTHING)
        buf_printf(&sim->trace, "[%6llu] %s\n", (unsigned long long)ms, text);
    else
        buf_printf(&sim->trace, "[%6llu] n%u %s\n", (unsigned long long)ms, node + 1, text);
}

void sim_note(struct sim *sim, uint32_t node, const char *format, ...)
{
    if (!sim->options.traced) return;
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    note_bytes(sim, node, text);
}

static void trace_line(void *context, const char *line)
{
    const struct sim_machine *machine = context;
    note_bytes(machine->sim, machine->process.node, line);
}

struct slice sim_trace(const struct sim *sim)
{
    return buf_slice(&sim->trace);
}

void sim_forget_trace(struct sim *sim)
{
    buf_clear(&sim->trace);
}

/* Life */

struct sim *sim_create(const struct sim_options *options)
{
    struct sim *sim = calloc(1, sizeof *sim);
    CHECK(sim != NULL);
    sim->options = *options;
    sim->machine_count = options->node_count + options->spare_count;
    CHECK(options->node_count >= 1 && sim->machine_count <= SIM_NODES_MAX);
    if (sim->options.program == NULL) sim->options.program = &sim_replica_ops;
    sim->prng.state = options->seed;
    (void)prng_u64(&sim->prng);
    heap_init(&sim->heap, 0);
    schedule_init(&sim->schedule);
    buf_init(&sim->trace, &sim->heap);
    buf_init(&sim->key, &sim->heap);
    sim->network = network_create(prng_u64(&sim->prng), sim->machine_count, &options->network);

    unsigned w = options->settings.write_quorum, factor = options->settings.replication_factor;
    if (factor > options->node_count) factor = options->node_count;
    if (w == 0) w = factor / 2 + 1;
    checker_init(&sim->checker, &(struct checker_options){.word_count = options->word_count,
                                                          .writes_meet = 2 * w > factor});
    inspection_create(sim);

    sim_members_create(sim);
    sim->machines = calloc(sim->machine_count, sizeof *sim->machines);
    CHECK(sim->machines != NULL);
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        struct sim_machine *machine = &sim->machines[node];
        machine->sim = sim;
        machine->in_use = machine->founds = node < options->node_count;
        machine->trace = (struct trace){options->traced ? trace_line : NULL, machine};
        machine->incarnation = prng_u64(&sim->prng) | 1;
        struct store_options store = options->store;
        store.node_id = (uint16_t)(node + 1);
        sim_process_init(&machine->process, &sim->schedule, node, prng_u64(&sim->prng), &store,
                         sim->options.program, machine);
        if (machine->founds) sim_machine_is(machine, (node_id)(node + 1));
    }
    create_map(sim);
    sim_clients_create(sim);
    sim_faults_plan(sim);
    for (uint32_t node = 0; node < options->node_count; node++) sim_start(sim, node);
    return sim;
}

void sim_destroy(struct sim *sim)
{
    if (sim == NULL) return;
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        sim_process_deinit(&sim->machines[node].process);
        sim_disk_image_destroy(sim->machines[node].image);
    }
    free(sim->machines);
    sim_members_destroy(sim);
    sim_clients_destroy(sim);
    sim_faults_destroy(sim);
    inspection_destroy(sim);
    checker_deinit(&sim->checker);
    network_destroy(sim->network);
    rangemap_unref(sim->map);
    schedule_deinit(&sim->schedule);
    buf_deinit(&sim->trace);
    buf_deinit(&sim->key);
    CHECK(heap_used_bytes(&sim->heap) == 0);
    free(sim);
}

/* Processes */

void sim_start(struct sim *sim, uint32_t node)
{
    struct sim_machine *machine = &sim->machines[node];
    struct sim_process *process = &machine->process;
    machine->start_planned = false;
    if (is_up(process) || !machine->in_use) return;
    enum status status = sim_process_start(process);
    sim->stats.starts++;
    if (status == STATUS_OK) {
        sim_note(sim, node, "starts, boot %u", process->boot);
        sim_watch_map(sim, node);
        inspect_node(sim, node);
        return;
    }
    sim_note(sim, node, "does not start: %s %s", status_name(status), process->report.detail);
    if (machine->id != 0 && !sim_is_member(sim, node)) { /* It is told so by its own map. */
        sim_member_ends(sim, node, machine->id);
        return;
    }
    /* Only a fault of the disk that is there still explains it. */
    if (status != STATUS_CANCELLED && !sim_disk_is_at_fault(sim, node))
        sim_find(&sim->checker.finding, SIM_CHECK_START, sim->schedule.now_us,
                 "n%u does not start: %s %s", node + 1, status_name(status),
                 process->report.detail);
    sim_plan_start(sim, node, 1000000);
}

void sim_crash(struct sim *sim, uint32_t node, bool power_lost)
{
    struct sim_process *process = process_of(sim, node);
    if (!is_up(process)) return;
    sim_note(sim, node, power_lost ? "is without power" : "ends");
    inspect_node(sim, node);
    sim_process_crash(process, power_lost);
    sim_clients_lose_node(sim, node);
}

void sim_plan_start(struct sim *sim, uint32_t node, uint64_t delay_us)
{
    if (sim->machines[node].start_planned) return;
    sim->machines[node].start_planned = true;
    sim_add_event(sim, SIM_START, node, delay_us, 0);
}

/* A process whose disk failed ends, and somebody starts it again. */
static void end_if_broken(struct sim *sim, uint32_t node)
{
    struct sim_process *process = process_of(sim, node);
    if (!sim_process_is_broken(process)) return;
    sim_crash(sim, node, sim_disk_crashed(process->disk));
    sim_plan_start(sim, node, 1000 + prng_below(&sim->prng, 3000000));
}

/* Messages */

void sim_send(struct sim_process *process, uint32_t to, struct slice bytes)
{
    struct sim_machine *machine = process->context;
    struct sim *sim = machine->sim;
    if (sim_disk_crashed(process->disk) || to >= sim->machine_count) return;
    CHECK(bytes.size <= PEER_MESSAGE_BYTES_MAX); /* As real connections have it. */
    uint64_t arrivals_us[NETWORK_COPIES_MAX];
    unsigned copies =
        network_send(sim->network, sim->schedule.now_us, process->node, to, arrivals_us);
    sim->stats.messages++;
    sim->stats.message_bytes += bytes.size;
    for (unsigned i = 0; i < copies; i++) {
        struct sim_message *message = malloc(sizeof *message + bytes.size);
        CHECK(message != NULL);
        message->from = process->node;
        message->boot = process_of(sim, to)->boot;
        message->size = (uint32_t)bytes.size;
        if (bytes.size > 0) memcpy(message->bytes, bytes.data, bytes.size);
        schedule_add(&sim->schedule, &(struct sim_event){.at_us = arrivals_us[i],
                                                         .kind = SIM_MESSAGE,
                                                         .node = to,
                                                         .argument = bytes.size,
                                                         .data = message});
    }
}

void sim_reply(struct sim_process *process, uint64_t id, const struct request_reply *reply)
{
    struct sim_machine *machine = process->context;
    if (sim_disk_crashed(process->disk)) return;
    sim_client_reply(machine->sim, process->node, id, reply);
}

static void message_arrives(struct sim *sim, struct sim_event *event)
{
    struct sim_message *message = event->data;
    struct sim_process *process = process_of(sim, event->node);
    schedule_mix(&sim->schedule, message->bytes, message->size);
    if (!network_carries(sim->network, message->from, event->node)) {
        free(message);
        return;
    }
    /* Its connection ended with the process that it led to. */
    if (!is_up(process) || process->boot != message->boot) {
        free(message);
        return;
    }
    if (!sim_process_is_ready(process, event)) return; /* It waits with its bytes. */
    sim_process_message(process, message->from, slice_of(message->bytes, message->size));
    free(message);
}

/* The loop */

static void after_step(struct sim *sim, uint32_t node)
{
    sim_watch_map(sim, node);
    end_if_broken(sim, node);
}

static void dispatch(struct sim *sim, struct sim_event *event)
{
    if (event->kind < PROCESS_EVENT_COUNT) {
        sim_process_event(process_of(sim, event->node), event);
        after_step(sim, event->node);
        return;
    }
    switch ((enum sim_event_kind)event->kind) {
    case SIM_MESSAGE:
        message_arrives(sim, event);
        after_step(sim, event->node);
        break;
    case SIM_CLIENT:
        sim_client_think(sim, event->node);
        break;
    case SIM_REQUEST:
        if (is_up(process_of(sim, event->node)) &&
            !sim_process_is_ready(process_of(sim, event->node), event))
            break;
        sim_client_request_arrives(sim, (uint32_t)event->argument);
        after_step(sim, event->node);
        break;
    case SIM_RETRY:
        sim_client_retry(sim, (uint32_t)event->argument);
        break;
    case SIM_TIMEOUT:
        sim_client_timeout(sim, (uint32_t)event->argument);
        break;
    case SIM_FAULT:
        sim_fault_begin(sim, (uint32_t)event->argument);
        break;
    case SIM_FAULT_END:
        sim_fault_end(sim, (uint32_t)event->argument);
        break;
    case SIM_START:
        sim_start(sim, event->node);
        break;
    case SIM_OPERATOR:
        sim_operator_looks(sim);
        break;
    case SIM_END:
        sim_member_ends(sim, event->node, (node_id)event->argument);
        break;
    default:
        CHECK(false);
    }
}

void sim_inspect(struct sim *sim)
{
    for (uint32_t word = 0; word < sim->options.word_count; word++) inspect_word(sim, word);
    for (uint32_t node = 0; node < sim->machine_count; node++) inspect_store(sim, node);
    inspect_programs(sim);
}

static void inspect_after_step(struct sim *sim)
{
    uint64_t step = sim->schedule.taken_count;
    if (step % 16 == 0) inspect_next_word(sim);
    if (step % LOOK_AT_PROGRAMS_EVENTS == 0) inspect_programs(sim);
    if (step % LOOK_AT_STORE_EVENTS == 0)
        inspect_store(sim, prng_below(&sim->prng, sim->machine_count));
    if (step % LOOK_AT_ALL_EVENTS != 0) return;
    for (uint32_t word = 0; word < sim->options.word_count; word++) inspect_word(sim, word);
}

static bool has_finding(const struct sim *sim)
{
    return sim->checker.finding.check != SIM_CHECK_NONE;
}

static void run_until(struct sim *sim, uint64_t until_us)
{
    struct sim_event event;
    while (!has_finding(sim) && schedule_next(&sim->schedule, until_us, &event)) {
        dispatch(sim, &event);
        inspect_after_step(sim);
    }
}

void sim_run_for(struct sim *sim, uint64_t ms)
{
    run_until(sim, sim->schedule.now_us + ms * 1000);
}

void sim_heal(struct sim *sim)
{
    sim_note(sim, NOTHING, "everything is repaired");
    sim->healed = true;
    network_heal(sim->network);
    network_calm(sim->network);
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        struct sim_process *process = process_of(sim, node);
        sim_clock_set_drift(&process->clock, sim->schedule.now_us, 0);
        sim_clock_correct(&process->clock, sim->schedule.now_us);
        sim_disk_set_capacity(process->disk, 0);
        sim_disk_fail_never(process->disk);
        sim_disk_crash_never(process->disk);
        process->sync_slow = 1;
        if (!is_up(process)) sim_plan_start(sim, node, 1000000);
    }
}

bool sim_has_converged(struct sim *sim, char why[256])
{
    return inspect_has_converged(sim, why, 256);
}

static void wait_for_quiet(struct sim *sim)
{
    char why[256] = "";
    uint64_t until_us = sim->schedule.now_us + sim->options.quiet_ms * 1000;
    while (!has_finding(sim) && sim->schedule.now_us < until_us) {
        sim_run_for(sim, POLL_MS);
        if (sim_has_converged(sim, why)) return;
    }
    sim_find(&sim->checker.finding, SIM_CHECK_DIVERGED, sim->schedule.now_us,
             "%llu ms after the last request: %s", (unsigned long long)sim->options.quiet_ms, why);
}

/* Nothing is under way: what is read now is exact. */
static void read_all(struct sim *sim)
{
    for (uint32_t word = 0; word < sim->options.word_count; word++)
        inspect_settle(sim, word, sim->schedule.now_us);
    for (uint32_t node = 0; node < sim->machine_count && !has_finding(sim); node++) {
        if (!sim_is_member(sim, node)) continue;
        struct slice prefix = slice_prefix(sim->checker.words[0].key, 2);
        struct request count = {.kind = REQUEST_COUNT, .key = prefix};
        struct request best = {.kind = REQUEST_BEST, .key = prefix, .limit = REQUEST_LIMIT_MAX};
        sim_ask(sim, node, &count);
        sim_ask(sim, node, &best);
        sim_run_for(sim, sim->options.timeout_ms + 1000);
    }
}

/* After the faults: everything is repaired, and must come to rest. */
static void run_healed(struct sim *sim)
{
    uint64_t until_us = sim->schedule.now_us + sim->options.quiet_ms * 1000;
    sim_heal(sim);
    /* Who lost its disk is never up again, and has to be got over as well. */
    while (!has_finding(sim) && sim_excludes(sim) && sim->schedule.now_us < until_us)
        sim_run_for(sim, POLL_MS);
    sim_run_for(sim, sim->options.served_ms);
    sim->must_serve = true;
    sim_run_for(sim, sim->options.served_ms);
    sim->clients_stop = true;
    while (!has_finding(sim) && !sim_clients_are_idle(sim)) sim_run_for(sim, POLL_MS);
    if (!has_finding(sim) && sim->options.converges) wait_for_quiet(sim);
    if (!has_finding(sim) && sim->options.converges) inspect_kept(sim);
    if (!has_finding(sim) && sim->options.converges) read_all(sim);
    if (!has_finding(sim)) sim_inspect(sim);
}

bool sim_run(struct sim *sim)
{
    run_until(sim, sim->options.faulty_ms * 1000);
    if (!has_finding(sim)) run_healed(sim);
    if (!has_finding(sim)) return true;
    sim_note(sim, NOTHING, "FOUND %s: %s", sim_check_name(sim->checker.finding.check),
             sim->checker.finding.text);
    return false;
}

/* Access */

const struct sim_finding *sim_finding(const struct sim *sim)
{
    return &sim->checker.finding;
}

uint64_t sim_hash(const struct sim *sim)
{
    return sim->schedule.hash;
}

uint32_t sim_fault_count(const struct sim *sim)
{
    return sim->plan.count;
}

const struct fault *sim_fault(const struct sim *sim, uint32_t number)
{
    CHECK(number < sim->plan.count);
    return &sim->plan.faults[number];
}

struct network *sim_network(struct sim *sim)
{
    return sim->network;
}

struct sim_process *sim_process(struct sim *sim, uint32_t node)
{
    return process_of(sim, node);
}

struct checker *sim_checker(struct sim *sim)
{
    return &sim->checker;
}

struct slice sim_key(struct sim *sim, const char *word)
{
    CHECK(key_encode(SLICE_LITERAL("w"), slice_from_text(word), FOLD_NONE, &sim->key) == STATUS_OK);
    return buf_slice(&sim->key);
}

struct sim_stats sim_stats(const struct sim *sim)
{
    struct sim_stats stats = sim->stats;
    stats.virtual_ms = sim->schedule.now_us / 1000;
    stats.events = sim->schedule.taken_count;
    stats.looks = sim->inspection.look_count;
    stats.checked = sim->checker.checked_count;
    return stats;
}
