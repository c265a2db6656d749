/* The health cache: how each peer is for requests from here, and whom to ask.
 *
 * An array with an index by id, so that a question costs two loads. health.h keeps one current;
 * a copy of it never changes, for threads that read while health goes on.
 *
 * Threads: the copy, any; the one inside health, its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/prng.h"
#include "base/status.h"
#include "cluster/identity.h"

enum {
    HEALTH_DEPTH_BUSY = 1024,     /* Queues this long are asked last. */
    HEALTH_HEDGE_DEFAULT_MS = 50, /* Where too few answers were measured. */
    HEALTH_HEDGE_MAX_MS = 1000,
    HEALTH_LATENCY_SAMPLES_MIN = 20, /* Fewer answers make no p95. */
    HEALTH_RANK_MAX = 64,            /* Owners that can be ranked at once. */
};

/* In the order in which they are asked. */
enum health_state {
    HEALTH_ALIVE,
    HEALTH_SUSPECT,
    HEALTH_DOWN,
};

struct health_view {
    node_id id; /* 0: no such member. */
    uint8_t state;
    uint32_t zone;
    uint32_t depth;      /* Requests that wait there. */
    uint32_t latency_us; /* Mean of what was measured from here lately; 0: nothing was. */
    uint32_t p95_us;     /* From here; 0: too few measured. */
};

enum { HEALTH_PAGES = 256, HEALTH_PAGE_IDS = 256 };

struct health_table {
    struct heap *heap;
    uint16_t *pages[HEALTH_PAGES]; /* By the high byte of the id, then the low: place + 1. */
    struct health_view *views;     /* In the order of ids. */
    size_t count;
};

/* A table of these ids, ascending; all alive, nothing measured.
 * Errors: STATUS_NOMEM. */
enum status health_table_init(struct health_table *table, struct heap *heap, size_t count);
enum status health_table_add(struct health_table *table, node_id id);
void health_table_deinit(struct health_table *table);

/* A copy for other threads; NULL without memory. */
struct health_table *health_table_copy(const struct health_table *table, struct heap *heap);
void health_table_destroy(struct health_table *table);

/* Place of a member in `views`, or `count`. */
static inline size_t health_table_place(const struct health_table *table, node_id id)
{
    const uint16_t *page = table->pages[id / HEALTH_PAGE_IDS];
    size_t place = page == NULL ? 0 : page[id % HEALTH_PAGE_IDS];
    return place == 0 ? table->count : place - 1;
}

/* A stranger is down. */
static inline struct health_view health_table_of(const struct health_table *table, node_id id)
{
    size_t place = health_table_place(table, id);
    if (place == table->count) return (struct health_view){.state = HEALTH_DOWN};
    return table->views[place];
}

/* Sorts `ids` from the one to ask first, and returns how many of them are not down; those come
 * first. Before all else counts that one is alive, then that its queue is not over
 * HEALTH_DEPTH_BUSY, then the zone, then the shorter queue (by octaves), then the lower latency
 * (likewise). Among equals chance decides, lest all ask the same one.
 *
 * `count` is at most HEALTH_RANK_MAX. Cost: O(count^2). */
size_t health_rank(const struct health_table *table, uint32_t zone, node_id *ids, size_t count,
                   struct prng *prng);

/* The one to ask first, or 0 when all are down. */
node_id health_pick(const struct health_table *table, uint32_t zone, const node_id *ids,
                    size_t count, struct prng *prng);

/* After how long without an answer another one should be asked too: the p95 of that peer. */
uint32_t health_hedge_after_ms(const struct health_table *table, node_id id);

/* Answers of one peer by how long they took, the last thousand or so counting most. */
enum { HEALTH_LATENCY_BUCKETS = 44 };

struct health_latency {
    uint16_t counts[HEALTH_LATENCY_BUCKETS]; /* By half octaves of microseconds. */
    uint32_t total, since;                   /* All counts; those since p95 was worked out. */
    uint64_t halved_ms;
};

/* Counts one, and keeps view's mean and p95. */
void health_latency_add(struct health_latency *latency, struct health_view *view,
                        uint32_t latency_us, uint64_t now_ms);

/* Moves the mean an eighth of the way. */
void health_view_measure(struct health_view *view, uint32_t latency_us);
