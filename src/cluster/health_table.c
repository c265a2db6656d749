#include "cluster/health_table.h"

#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "cluster/health_message.h"

enum {
    LATENCY_TOTAL_MAX = 1024,     /* Then all counts are halved, */
    LATENCY_HALF_LIFE_MS = 10000, /* and after this time as well. */
    P95_EVERY = 16,               /* Answers between two reckonings of p95. */
    BUSY_SHIFT = 16,
};

enum status health_table_init(struct health_table *table, struct heap *heap, size_t count)
{
    struct health_view *views = heap_alloc(heap, (count + 1) * sizeof *views);
    if (views == NULL) return STATUS_NOMEM;
    *table = (struct health_table){.heap = heap, .views = views};
    return STATUS_OK;
}

enum status health_table_add(struct health_table *table, node_id id)
{
    CHECK(table->count == 0 || table->views[table->count - 1].id < id);
    uint16_t **page = &table->pages[id / HEALTH_PAGE_IDS];
    if (*page == NULL) *page = heap_zalloc(table->heap, HEALTH_PAGE_IDS * sizeof **page);
    if (*page == NULL) return STATUS_NOMEM;
    table->views[table->count++] = (struct health_view){.id = id};
    (*page)[id % HEALTH_PAGE_IDS] = (uint16_t)table->count;
    return STATUS_OK;
}

void health_table_deinit(struct health_table *table)
{
    if (table->heap == NULL) return;
    for (size_t i = 0; i < HEALTH_PAGES; i++) heap_free(table->heap, table->pages[i]);
    heap_free(table->heap, table->views);
    *table = (struct health_table){0};
}

struct health_table *health_table_copy(const struct health_table *table, struct heap *heap)
{
    struct health_table *copy = heap_alloc(heap, sizeof *copy);
    if (copy == NULL) return NULL;
    if (health_table_init(copy, heap, table->count) != STATUS_OK) {
        heap_free(heap, copy);
        return NULL;
    }
    for (size_t i = 0; i < table->count; i++) {
        if (health_table_add(copy, table->views[i].id) != STATUS_OK) {
            health_table_destroy(copy);
            return NULL;
        }
        copy->views[i] = table->views[i];
    }
    return copy;
}

void health_table_destroy(struct health_table *table)
{
    if (table == NULL) return;
    struct heap *heap = table->heap;
    health_table_deinit(table);
    heap_free(heap, table);
}

/* 0 for 0, else one more than the logarithm. */
static uint32_t octave(uint32_t value)
{
    return (health_code(value) + 1U) / 2;
}

/* The smaller the sooner asked. Depth and latency by octaves: less is noise, and by the time a
 * queue's length is known here it has changed. */
static uint32_t cost(const struct health_view *view, uint32_t zone)
{
    uint32_t depth = octave(view->depth);
    uint32_t latency = octave(view->latency_us);
    bool busy = view->depth >= HEALTH_DEPTH_BUSY;
    return (uint32_t)view->state << (BUSY_SHIFT + 1) | (uint32_t)busy << BUSY_SHIFT |
           (uint32_t)(view->zone != zone) << (BUSY_SHIFT - 1) | depth << 6 | latency;
}

size_t health_rank(const struct health_table *table, uint32_t zone, node_id *ids, size_t count,
                   struct prng *prng)
{
    CHECK(count <= HEALTH_RANK_MAX);
    uint64_t keys[HEALTH_RANK_MAX];
    size_t usable = 0;
    for (size_t i = 0; i < count; i++) {
        struct health_view view = health_table_of(table, ids[i]);
        if (view.state != HEALTH_DOWN) usable++;
        uint64_t key = (uint64_t)cost(&view, zone) << 32 | prng_u32(prng);
        node_id id = ids[i];
        size_t at = i;
        for (; at > 0 && keys[at - 1] > key; at--) {
            keys[at] = keys[at - 1];
            ids[at] = ids[at - 1];
        }
        keys[at] = key;
        ids[at] = id;
    }
    return usable;
}

node_id health_pick(const struct health_table *table, uint32_t zone, const node_id *ids,
                    size_t count, struct prng *prng)
{
    node_id ranked[HEALTH_RANK_MAX];
    CHECK(count <= HEALTH_RANK_MAX);
    if (count == 0) return 0;
    memcpy(ranked, ids, count * sizeof *ids);
    return health_rank(table, zone, ranked, count, prng) == 0 ? 0 : ranked[0];
}

uint32_t health_hedge_after_ms(const struct health_table *table, node_id id)
{
    uint32_t p95_us = health_table_of(table, id).p95_us;
    if (p95_us == 0) return HEALTH_HEDGE_DEFAULT_MS;
    return (uint32_t)u64_min(((uint64_t)p95_us + 999) / 1000, HEALTH_HEDGE_MAX_MS);
}

void health_view_measure(struct health_view *view, uint32_t latency_us)
{
    /* 0 says that nothing was measured. */
    int64_t sample = latency_us == 0 ? 1 : latency_us, mean = view->latency_us;
    mean = mean == 0 ? sample : mean + (sample - mean) / 8;
    view->latency_us = (uint32_t)mean;
}

static void halve(struct health_latency *latency)
{
    latency->total = 0;
    for (size_t i = 0; i < HEALTH_LATENCY_BUCKETS; i++) {
        latency->counts[i] /= 2;
        latency->total += latency->counts[i];
    }
}

/* The upper end of the bucket in which the p95 lies. */
static uint32_t p95(const struct health_latency *latency)
{
    uint32_t above = latency->total / 20;
    size_t bucket = HEALTH_LATENCY_BUCKETS;
    for (uint32_t seen = 0; bucket > 0 && seen <= above; bucket--) {
        seen += latency->counts[bucket - 1];
    }
    return health_code_value((uint8_t)(bucket + 1));
}

void health_latency_add(struct health_latency *latency, struct health_view *view,
                        uint32_t latency_us, uint64_t now_ms)
{
    health_view_measure(view, latency_us);
    if (latency->total >= LATENCY_TOTAL_MAX) halve(latency);
    if (now_ms - latency->halved_ms >= LATENCY_HALF_LIFE_MS) {
        /* Few answers are kept longer: better old ones than none. */
        if (latency->total >= 2 * HEALTH_LATENCY_SAMPLES_MIN) halve(latency);
        latency->halved_ms = now_ms;
    }
    latency->counts[size_min(health_code(latency_us), HEALTH_LATENCY_BUCKETS - 1)]++;
    latency->total++;
    latency->since++;
    if (latency->total < HEALTH_LATENCY_SAMPLES_MIN) return;
    if (view->p95_us != 0 && latency->since < P95_EVERY) return;
    view->p95_us = p95(latency);
    latency->since = 0;
}
