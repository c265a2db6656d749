/* The simplest program that keeps what the simulator demands, to try the simulator on, and in
 * each way broken, to see that it says so: every node owns everything, a write is acknowledged when
 * all have it durably, reads are answered from the own store, and once a second each node
 * sends all it has to another one. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "cluster/request.h"
#include "sim/world.h"
#include "sim/world_private.h"

enum toy_bug {
    TOY_IS_RIGHT,
    TOY_ACKNOWLEDGES_EARLY, /* Before its own sync. */
    TOY_WAITS_FOR_TOO_FEW,  /* One node less than all. */
    TOY_DROPS_WRITES,       /* One in 64 that came from others, and says it has it. */
    TOY_ANSWERS_TWICE,      /* One in 64. */
    TOY_NEVER_ANSWERS,      /* One in 64. */
    TOY_READS_THE_PAST,     /* Keeps the answer to each get for good. */
    TOY_INVENTS,            /* Shows a score that is one too high. */
    TOY_COUNTS_TWICE,       /* One increment in 16. */
    TOY_MISCOUNTS,          /* Counts one word too few. */
    TOY_SKIPS,              /* Leaves the second entry of a page out. */
    TOY_SWAPS,              /* The first two entries of a page. */
    TOY_NEVER_REPAIRS,      /* And forgets what was under way in a crash. */
    TOY_REFUSES,            /* One in 64 requests. */
    TOY_SAYS_DONE_TOO_MUCH, /* Says of a removal that it was done, and does nothing. */
    TOY_QUEUES_WITHOUT_END,
    TOY_HAS_A_MAP_OF_ITS_OWN, /* Of the first number there is, at each node. */
    TOY_BUG_COUNT,
};

static enum toy_bug toy_bug;

enum { TOY_FLOWS = 256, TOY_HELD = 1024, TOY_PUSH_MS = 1000, TOY_PAGE_MAX = 256, TOY_KEY_MAX = 64 };

struct toy_flow {
    bool used;
    uint64_t id;
    uint64_t since_ms, sent_ms;
    uint32_t acks; /* A bit a node. */
    uint8_t key[TOY_KEY_MAX];
    size_t key_size;
    struct request_reply reply;
};

/* An acknowledgement that waits for a sync: to another node, or of an own write. */
struct toy_held {
    uint64_t sequence, id;
    uint32_t to;
};

struct toy {
    struct sim_process *process;
    uint32_t node_count;
    uint64_t next_push_ms;
    struct prng prng;
    bool writing;
    struct rangemap *map;
    size_t uncommitted; /* The last of `held` wait for the batch to get its number. */
    struct toy_held held[TOY_HELD];
    size_t held_count;
    struct toy_flow flows[TOY_FLOWS];
    bool has_past[256];
};

static bool toy_errs(struct toy *toy, enum toy_bug bug, uint32_t odds)
{
    return toy_bug == bug && prng_one_in(&toy->prng, odds);
}

static enum status toy_start(struct sim_process *process, void **program)
{
    struct toy *toy = calloc(1, sizeof *toy);
    CHECK(toy != NULL);
    struct sim_machine *machine = process->context;
    toy->process = process;
    toy->node_count = machine->sim->options.node_count;
    toy->prng.state = prng_u64(&process->prng);
    toy->next_push_ms = sim_process_now_ms(process) + TOY_PUSH_MS;
    if (toy_bug == TOY_HAS_A_MAP_OF_ITS_OWN) {
        struct member member = {.incarnation = process->node + 1,
                                .capacity = 1,
                                .zone = SLICE_LITERAL("z"),
                                .address = SLICE_LITERAL("a:1")};
        CHECK(rangemap_create(&process->heap, 1, &rangemap_settings_default, &member, &toy->map) ==
              STATUS_OK);
    }
    *program = toy;
    return STATUS_OK;
}

static void toy_stop(void *program)
{
    rangemap_unref(((struct toy *)program)->map);
    free(program);
}

static void toy_send(struct toy *toy, uint32_t to, char kind, uint64_t id, struct slice key,
                     const struct record *record)
{
    struct buf bytes;
    buf_init(&bytes, &toy->process->heap);
    buf_append_u8(&bytes, (uint8_t)kind);
    buf_append_u64le(&bytes, id);
    buf_append_u8(&bytes, (uint8_t)key.size);
    buf_append_slice(&bytes, key);
    if (record != NULL) record_encode(record, &bytes);
    sim_send(toy->process, to, buf_slice(&bytes));
    buf_deinit(&bytes);
}

static bool toy_get(struct toy *toy, struct slice key, struct record *record)
{
    struct query query = sim_process_query(toy->process);
    struct query_hit hit;
    if (query_get(&query, key, &hit) != STATUS_OK) return false;
    *record = hit.record;
    return true;
}

static void toy_finish(struct toy *toy, struct toy_flow *flow)
{
    uint32_t missing = ((UINT32_C(1) << toy->node_count) - 1) & ~flow->acks;
    if (toy_bug == TOY_WAITS_FOR_TOO_FEW) missing &= missing - 1;
    if (!flow->used || missing != 0) return;
    flow->used = false;
    if (toy_errs(toy, TOY_NEVER_ANSWERS, 64)) return;
    flow->reply.ack_count = (uint8_t)toy->node_count;
    sim_reply(toy->process, flow->id, &flow->reply);
    if (toy_errs(toy, TOY_ANSWERS_TWICE, 64)) sim_reply(toy->process, flow->id, &flow->reply);
}

static struct toy_flow *toy_flow_find(struct toy *toy, uint64_t id)
{
    for (size_t i = 0; i < TOY_FLOWS; i++)
        if (toy->flows[i].used && toy->flows[i].id == id) return &toy->flows[i];
    return NULL;
}

static void toy_acknowledge(struct toy *toy, uint64_t id, uint32_t from)
{
    struct toy_flow *flow = toy_flow_find(toy, id);
    if (flow == NULL) return;
    flow->acks |= UINT32_C(1) << from;
    toy_finish(toy, flow);
}

static void toy_hold(struct toy *toy, uint64_t id, uint32_t to)
{
    CHECK(toy->held_count < TOY_HELD);
    toy->held[toy->held_count++] = (struct toy_held){UINT64_MAX, id, to};
    toy->uncommitted++;
}

static void toy_write(struct toy *toy, const struct store_write *write,
                      struct store_outcome *outcome)
{
    if (!toy->writing) store_batch_begin(toy->process->store, sim_process_wall_ms(toy->process));
    toy->writing = true;
    store_write(toy->process->store, write, outcome);
}

static void toy_message(void *program, uint32_t from, struct slice bytes)
{
    struct toy *toy = program;
    uint64_t id = load_u64le(bytes.data + 1);
    struct slice key = slice_of(bytes.data + 10, bytes.data[9]);
    if (bytes.data[0] == 'A') {
        toy_acknowledge(toy, id, from);
        return;
    }
    struct record record;
    CHECK(record_decode(slice_from(bytes, 10 + key.size), &record) == STATUS_OK);
    struct store_write write = {.kind = STORE_MERGE, .key = key, .record = &record};
    struct store_outcome outcome = {.status = STATUS_OK};
    if (bytes.data[0] == 'S' || !toy_errs(toy, TOY_DROPS_WRITES, 64))
        toy_write(toy, &write, &outcome);
    if (bytes.data[0] == 'W' && outcome.status == STATUS_OK) toy_hold(toy, id, from);
}

static void toy_refuse(struct toy *toy, uint64_t id, enum status status)
{
    struct request_reply reply = {.outcome = REQUEST_REFUSED, .status = status};
    sim_reply(toy->process, id, &reply);
}

static void toy_request_write(struct toy *toy, uint64_t id, const struct request *request)
{
    static const enum store_write_kind kinds[] = {[REQUEST_SET] = STORE_SET,
                                                  [REQUEST_REMOVE] = STORE_REMOVE,
                                                  [REQUEST_INCREMENT] = STORE_INCREMENT};
    struct store_write write = {.kind = kinds[request->kind],
                                .key = request->key,
                                .score = request->score,
                                .has_payload = request->has_payload,
                                .payload = request->payload,
                                .expires_at = request->expires_at};
    struct store_outcome outcome = {0};
    if (store_can_write(toy->process->store) != STATUS_OK) {
        toy_refuse(toy, id, STATUS_FULL);
        return;
    }
    if (request->kind == REQUEST_REMOVE && toy_errs(toy, TOY_SAYS_DONE_TOO_MUCH, 4)) {
        struct version told = {(sim_process_wall_ms(toy->process) + 9) << 16, 1};
        sim_reply(toy->process, id,
                  &(struct request_reply){.outcome = REQUEST_DONE, .version = told});
        return;
    }
    toy_write(toy, &write, &outcome);
    if (request->kind == REQUEST_INCREMENT && toy_errs(toy, TOY_COUNTS_TWICE, 16))
        toy_write(toy, &write, &outcome);
    struct toy_flow *flow = NULL;
    for (size_t i = 0; i < TOY_FLOWS && flow == NULL; i++)
        if (!toy->flows[i].used) flow = &toy->flows[i];
    CHECK(flow != NULL);
    *flow = (struct toy_flow){.id = id, .since_ms = sim_process_now_ms(toy->process)};
    flow->reply = (struct request_reply){
        .outcome = REQUEST_DONE, .version = outcome.version, .score = outcome.score};
    flow->used = true;
    flow->key_size = request->key.size;
    memcpy(flow->key, request->key.data, request->key.size);
    if (outcome.status != STATUS_OK) {
        flow->used = false;
        toy_refuse(toy, id, outcome.status);
    } else if (!outcome.changed) { /* A removal of what is not there. */
        flow->used = false;
        sim_reply(toy->process, id, &(struct request_reply){.outcome = REQUEST_DONE});
    } else if (toy_bug == TOY_ACKNOWLEDGES_EARLY) {
        flow->used = false;
        sim_reply(toy->process, id, &flow->reply);
    }
    toy_hold(toy, id, toy->process->node);
}

/* Reads */

struct toy_page {
    struct toy *toy;
    struct request_entry entries[TOY_PAGE_MAX];
    uint8_t keys[TOY_PAGE_MAX][TOY_KEY_MAX];
    uint8_t payloads[TOY_PAGE_MAX][TOY_KEY_MAX];
    uint8_t slots[TOY_PAGE_MAX][8 * RECORD_SLOT_BYTES];
    size_t count;
};

static struct slice toy_copy(uint8_t *to, size_t size, struct slice from)
{
    CHECK(from.size <= size);
    if (from.size > 0) memcpy(to, from.data, from.size);
    return slice_of(to, from.size);
}

static enum status toy_page_add(void *context, struct slice key, const struct record *record)
{
    struct toy_page *page = context;
    size_t at = page->count++;
    struct request_entry *entry = &page->entries[at];
    entry->key = toy_copy(page->keys[at], TOY_KEY_MAX, key);
    entry->record = *record;
    entry->record.payload = toy_copy(page->payloads[at], TOY_KEY_MAX, record->payload);
    entry->record.slots = toy_copy(page->slots[at], sizeof page->slots[at], record->slots);
    if (toy_errs(page->toy, TOY_INVENTS, 64)) entry->record.score += 1;
    return STATUS_OK;
}

static void toy_spoil_page(struct toy *toy, struct toy_page *page)
{
    if (page->count > 2 && toy_errs(toy, TOY_SKIPS, 2)) {
        memmove(&page->entries[1], &page->entries[2], (page->count - 2) * sizeof page->entries[0]);
        page->count--;
    }
    if (page->count > 1 && toy_errs(toy, TOY_SWAPS, 8)) {
        struct request_entry first = page->entries[0];
        page->entries[0] = page->entries[1];
        page->entries[1] = first;
    }
}

static void toy_request_get(struct toy *toy, uint64_t id, const struct request *request)
{
    struct toy_page page = {.toy = toy};
    struct query query = sim_process_query(toy->process);
    struct query_hit hit;
    struct request_reply reply = {.outcome = REQUEST_ABSENT};
    static const struct request_reply nothing;
    uint8_t past = request->key.data[request->key.size - 1];
    if (query_get(&query, request->key, &hit) == STATUS_OK && hit.live) {
        CHECK(toy_page_add(&page, request->key, &hit.record) == STATUS_OK);
        reply = (struct request_reply){
            .outcome = REQUEST_DONE, .entries = page.entries, .entry_count = 1};
    }
    /* Absent once, absent for good. */
    if (toy_bug == TOY_READS_THE_PAST && toy->has_past[past]) {
        reply = nothing;
        reply.outcome = REQUEST_ABSENT;
    }
    toy->has_past[past] = toy->has_past[past] || reply.outcome == REQUEST_ABSENT;
    sim_reply(toy->process, id, &reply);
}

static void toy_request_page(struct toy *toy, uint64_t id, const struct request *request)
{
    struct query query = sim_process_query(toy->process);
    struct toy_page page = {.toy = toy};
    struct request_reply reply = {.outcome = REQUEST_DONE, .entries = page.entries};
    uint64_t limit = request->limit < TOY_PAGE_MAX ? request->limit : TOY_PAGE_MAX - 1;
    if (request->kind == REQUEST_COUNT) {
        CHECK(query_count(&query, request->key, &reply.count) == STATUS_OK);
        if (toy_bug == TOY_MISCOUNTS && reply.count > 0) reply.count--;
    } else if (request->kind == REQUEST_BEST) {
        const struct query_position *after = request->has_after ? &request->after : NULL;
        CHECK(query_best(&query, request->key, limit + 1, after, toy_page_add, &page) == STATUS_OK);
    } else {
        CHECK(query_scan(&query, request->key, &request->from, limit + 1, toy_page_add, &page) ==
              STATUS_OK);
    }
    reply.more = page.count > limit;
    if (reply.more) page.count--;
    toy_spoil_page(toy, &page);
    reply.entry_count = page.count;
    sim_reply(toy->process, id, &reply);
}

static void toy_request(void *program, uint64_t id, const struct request *request)
{
    struct toy *toy = program;
    if (toy_errs(toy, TOY_REFUSES, 64))
        toy_refuse(toy, id, STATUS_BUSY);
    else if (request_is_write(request->kind))
        toy_request_write(toy, id, request);
    else if (request->kind == REQUEST_GET)
        toy_request_get(toy, id, request);
    else
        toy_request_page(toy, id, request);
}

/* Time */

static void toy_ask_all(struct toy *toy, struct toy_flow *flow)
{
    struct slice key = slice_of(flow->key, flow->key_size);
    struct record record;
    flow->sent_ms = sim_process_now_ms(toy->process);
    if (!toy_get(toy, key, &record)) return;
    for (uint32_t to = 0; to < toy->node_count; to++)
        if ((flow->acks >> to & 1) == 0) toy_send(toy, to, 'W', flow->id, key, &record);
}

static void toy_push_all(struct toy *toy)
{
    uint32_t to = prng_below(&toy->prng, toy->node_count);
    if (toy_bug == TOY_NEVER_REPAIRS || to == toy->process->node) return;
    struct query query = sim_process_query(toy->process);
    struct query_iterator *iterator;
    if (query_iterator_open(&query, SLICE_LITERAL("w"), QUERY_CURRENT, &iterator) != STATUS_OK)
        return;
    struct record record;
    while (query_iterator_next(iterator) == STATUS_OK &&
           query_iterator_record(iterator, &record) == STATUS_OK)
        toy_send(toy, to, 'S', 0, query_iterator_key(iterator), &record);
    query_iterator_close(iterator);
}

static void toy_tick(void *program)
{
    struct toy *toy = program;
    uint64_t now_ms = sim_process_now_ms(toy->process);
    if (now_ms < toy->next_push_ms) return;
    toy->next_push_ms = now_ms + TOY_PUSH_MS;
    toy_push_all(toy);
    for (size_t i = 0; i < TOY_FLOWS; i++) {
        struct toy_flow *flow = &toy->flows[i];
        if (!flow->used) continue;
        if (now_ms - flow->since_ms > 5000) {
            flow->used = false;
            flow->reply.outcome = REQUEST_TIMED_OUT;
            sim_reply(toy->process, flow->id, &flow->reply);
        } else if ((flow->acks >> toy->process->node & 1) != 0) {
            toy_ask_all(toy, flow);
        }
    }
}

static uint64_t toy_wake_ms(void *program)
{
    return ((struct toy *)program)->next_push_ms;
}

static void toy_release(struct toy *toy, const struct toy_held *held)
{
    if (held->to != toy->process->node) {
        toy_send(toy, held->to, 'A', held->id, (struct slice){0}, NULL);
        return;
    }
    struct toy_flow *flow = toy_flow_find(toy, held->id);
    if (flow == NULL) return;
    flow->acks |= UINT32_C(1) << held->to;
    toy_ask_all(toy, flow);
    toy_finish(toy, flow);
}

static void toy_release_up_to(struct toy *toy, uint64_t sequence)
{
    size_t count = 0;
    while (count < toy->held_count - toy->uncommitted && toy->held[count].sequence <= sequence)
        toy_release(toy, &toy->held[count++]);
    toy->held_count -= count;
    memmove(toy->held, &toy->held[count], toy->held_count * sizeof toy->held[0]);
}

static void toy_synced(void *program)
{
    struct toy *toy = program;
    toy_release_up_to(toy, store_visible_sequence(toy->process->store));
}

static void toy_commit(void *program)
{
    struct toy *toy = program;
    if (!toy->writing) return;
    toy->writing = false;
    uint64_t sequence;
    enum status status = store_batch_commit(toy->process->store, &sequence);
    if (status != STATUS_OK) toy->held_count -= toy->uncommitted; /* Their flows time out. */
    for (size_t i = 1; status == STATUS_OK && i <= toy->uncommitted; i++)
        toy->held[toy->held_count - i].sequence = sequence;
    toy->uncommitted = 0;
    toy_synced(toy);
}

static void toy_stats(void *program, struct sim_program_stats *stats)
{
    struct toy *toy = program;
    stats->held_count = toy->held_count;
    stats->map = toy->map;
    for (size_t i = 0; i < TOY_FLOWS; i++) stats->flow_count += toy->flows[i].used;
    if (toy_bug == TOY_QUEUES_WITHOUT_END && toy->held_count > 1) stats->over_bound = "messages";
}

static const struct sim_program_ops toy_ops __attribute__((unused)) = {
    .start = toy_start,
    .stop = toy_stop,
    .message = toy_message,
    .request = toy_request,
    .tick = toy_tick,
    .commit = toy_commit,
    .synced = toy_synced,
    .wake_ms = toy_wake_ms,
    .stats = toy_stats,
};
