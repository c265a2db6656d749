/* Each allocation and each operation of the disk fails once, in a story that does everything a
 * store does. Nothing leaks, nothing acknowledged is lost, and the store goes on, or says that
 * it does not and does after a restart. */
#include <stdlib.h>
#include <string.h>

#include "core/dictionary.h"
#include "sim/store_world.h"
#include "store/internal.h"
#include "test.h"

enum {
    KEY_BYTES = 32,
    SET_COUNT = 40,      /* Words that are set and removed, ... */
    COUNTER_COUNT = 8,   /* ... that are counted up, ... */
    INGESTED_COUNT = 12, /* ... and that only the ingested file holds. */
    WORD_COUNT = SET_COUNT + COUNTER_COUNT + INGESTED_COUNT,
    FIRST_INGESTED = SET_COUNT + COUNTER_COUNT,
    BATCH = 4,
    MAYBE_MAX = 8,
};

/* Written with and without faults: w a durable batch, f flush, c compactions, i ingest, e export,
 * k checkpoint, p a segment in advance, t tick, r reclaim, K a kill, P a power cut; a capital
 * F, C, I, E races the job with batches. */
static const char script[] = "wwwpFwtwefpwFcwrwCtKwwIrwkwfPwEwFrcwiwK";

/* What a word may be. */
struct state {
    bool live;
    double score;
};

/* `known`, or the outcome of one of the writes since that is not known. */
struct word {
    struct state known;
    struct state maybe[MAYBE_MAX];
    size_t maybe_count;
};

struct torture {
    struct store_world world;
    struct prng prng;
    struct word words[WORD_COUNT];
    bool goes_on;           /* It must not become read-only. */
    unsigned failures;      /* Statuses that were seen, other than OK. */
    uint64_t fails_at;      /* Number of the operation that is to fail, ... */
    enum status fails_with; /* ... and how; STATUS_OK: none. */
};

static struct slice key_of(unsigned number, char text[KEY_BYTES])
{
    int size = snprintf(text, KEY_BYTES, "ns%c%05u", 0, number * 37 % 1009);
    return slice_of(text, (size_t)size);
}

static void add_maybe(struct word *word, struct state state)
{
    EXPECT(word->maybe_count < MAYBE_MAX);
    word->maybe[word->maybe_count++] = state;
}

static bool same(struct state a, struct state b)
{
    return a.live == b.live && (!a.live || a.score == b.score);
}

/* --- Looking --- */

static struct state look_up(const struct query *query, unsigned number)
{
    char text[KEY_BYTES];
    struct query_hit hit;
    enum status status = query_get(query, key_of(number, text), &hit);
    EXPECT(status == STATUS_OK || status == STATUS_NOT_FOUND);
    if (status != STATUS_OK || !hit.live) return (struct state){0};
    return (struct state){true, record_score(&hit.record)};
}

/* Every word is what it may be; after a restart that is known from then on. */
static void check(struct torture *torture, bool settles)
{
    struct query query = store_world_query(&torture->world);
    uint64_t count, live = 0;
    for (unsigned i = 0; i < WORD_COUNT; i++) {
        struct word *word = &torture->words[i];
        struct state state = look_up(&query, i);
        bool right = same(state, word->known);
        for (size_t j = 0; j < word->maybe_count; j++) right |= same(state, word->maybe[j]);
        EXPECT(right);
        live += state.live;
        if (!settles) continue;
        word->known = state;
        word->maybe_count = 0;
    }
    EXPECT(query_count(&query, (struct slice){0}, &count) == STATUS_OK);
    EXPECT(count == live);
}

/* Looks without letting the fault meet what the test itself allocates. */
static void check_apart(struct torture *torture, bool settles)
{
    struct heap *heap = &torture->world.heap;
    int64_t left = atomic_load(&heap->failure_after);
    uint64_t limit = heap->limit_bytes;
    heap->limit_bytes = 0;
    atomic_store(&heap->failure_after, -1);
    check(torture, settles);
    atomic_store(&heap->failure_after, left);
    heap->limit_bytes = limit;
}

/* --- Restarting --- */

static void restart(struct torture *torture, enum sim_disk_restart how)
{
    struct store_world *world = &torture->world;
    store_world_close(world);
    world->heap.limit_bytes = 0; /* A start without memory would be no start. */
    sim_disk_restart(world->disk, how);
    uint64_t done = sim_disk_operation_count(world->disk);
    if (torture->fails_with != STATUS_OK && torture->fails_at >= done)
        sim_disk_fail_after(world->disk, torture->fails_at - done, torture->fails_with);
    if (store_world_open(world) != STATUS_OK) {
        EXPECT(world->report.detail[0] != '\0');
        torture->failures++;
        EXPECT(store_world_open(world) == STATUS_OK);
    }
    check_apart(torture, true);
}

/* Whoever says that it is read-only has to be restarted. */
static void note(struct torture *torture, enum status status)
{
    if (status == STATUS_OK || status == STATUS_END || status == STATUS_PARTIAL) return;
    torture->failures++;
    if (store_can_write(torture->world.store) != STATUS_READ_ONLY) return;
    EXPECT(!torture->goes_on);
    restart(torture, SIM_DISK_POWER_LOSS);
}

/* --- Writing --- */

static struct state result_of(const struct store_write *write, const struct word *word)
{
    if (write->kind == STORE_REMOVE) return (struct state){0};
    double before = write->kind == STORE_INCREMENT && word->known.live ? word->known.score : 0;
    return (struct state){true, before + write->score};
}

static void write_batch(struct torture *torture)
{
    struct store_world *world = &torture->world;
    struct store_write writes[BATCH] = {0};
    struct store_outcome outcomes[BATCH];
    unsigned numbers[BATCH];
    char keys[BATCH][KEY_BYTES];
    uint64_t sequence;

    for (int i = 0; i < BATCH; i++) {
        bool counts = i == BATCH - 1;
        /* Each word once a batch: what it was before is then what is known. */
        unsigned tenth = SET_COUNT / (BATCH - 1);
        numbers[i] = counts ? SET_COUNT + prng_below(&torture->prng, COUNTER_COUNT)
                            : (unsigned)i * tenth + prng_below(&torture->prng, tenth);
        writes[i] = (struct store_write){
            .kind = counts                           ? STORE_INCREMENT
                    : prng_one_in(&torture->prng, 3) ? STORE_REMOVE
                                                     : STORE_SET,
            .key = key_of(numbers[i], keys[i]),
            .score = 1 + prng_below(&torture->prng, 100),
        };
    }
    enum status status = store_world_write(world, writes, BATCH, outcomes, &sequence);
    enum status synced = status == STATUS_OK ? store_world_sync(world) : STATUS_OK;
    for (int i = 0; i < BATCH; i++) {
        struct word *word = &torture->words[numbers[i]];
        struct state result = result_of(&writes[i], word);
        if (outcomes[i].status != STATUS_OK) {
            torture->failures++;
        } else if (status == STATUS_OK && synced == STATUS_OK) {
            EXPECT(store_visible_sequence(world->store) >= sequence);
            word->known = result;
        } else if (status != STATUS_FULL && status != STATUS_NOMEM) {
            add_maybe(word, result);
        }
    }
    note(torture, status);
    if (status == STATUS_OK) note(torture, synced);
}

/* --- Jobs --- */

static struct name source(void)
{
    return name_of(NAME_TRANSFER, 1);
}

static struct name target(void)
{
    return name_of(NAME_TRANSFER, 2);
}

static enum status sink_append(void *context, const void *data, size_t size)
{
    buf_append(context, data, size);
    return buf_status(context);
}

static int compare_numbers(const void *a, const void *b)
{
    char left[KEY_BYTES], right[KEY_BYTES];
    return slice_compare(key_of(*(const unsigned *)a, left), key_of(*(const unsigned *)b, right));
}

/* Words of its own, and old tombstones of others: those lose against any write. */
static void put_source(struct torture *torture)
{
    struct heap heap;
    struct buf file;
    struct dictionary_trainer *trainer;
    struct dictionary *dictionary;
    struct packed_builder *builder;
    unsigned numbers[WORD_COUNT];
    size_t count = 0;

    heap_init(&heap, 0);
    buf_init(&file, &heap);
    for (unsigned i = FIRST_INGESTED; i < WORD_COUNT; i++) numbers[count++] = i;
    for (unsigned i = 0; i < SET_COUNT; i += 3) numbers[count++] = i;
    qsort(numbers, count, sizeof *numbers, compare_numbers);
    EXPECT(dictionary_trainer_create(&heap, 4096, &trainer) == STATUS_OK);
    EXPECT(dictionary_train(trainer, &dictionary) == STATUS_OK);
    EXPECT(packed_builder_create(&heap, dictionary, torture->world.options.hash_seed, &builder) ==
           STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        char text[KEY_BYTES];
        struct version version = {(UINT64_C(10) << HLC_COUNTER_BITS) + numbers[i], 9};
        struct record record = numbers[i] < FIRST_INGESTED ? record_of_tombstone(version)
                                                           : record_of_set(version, numbers[i]);
        EXPECT(packed_builder_add(builder, key_of(numbers[i], text), &record) == STATUS_OK);
    }
    EXPECT(packed_builder_finish(builder, &(struct packed_sink){sink_append, &file}) == STATUS_OK);
    sim_disk_put(torture->world.disk, source().text, buf_slice(&file));
    packed_builder_destroy(builder);
    dictionary_destroy(dictionary);
    dictionary_trainer_destroy(trainer);
    buf_deinit(&file);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* To its end, with a batch before each step if it is raced. */
static enum status run_job(struct torture *torture, bool raced)
{
    struct store_world *world = &torture->world;
    enum status status = STATUS_PARTIAL;
    while (status == STATUS_PARTIAL && world->job != NULL) {
        if (raced) write_batch(torture);
        if (world->job == NULL) return STATUS_IO; /* A restart ended it. */
        status = store_world_job_step(world);
        if (status != STATUS_NOMEM || world->job == NULL) continue;
        /* It is committed, and goes on when there is memory again. */
        world->heap.limit_bytes = 0;
        torture->failures++;
        status = STATUS_PARTIAL;
    }
    return status;
}

static enum status begin_job(struct torture *torture, char what)
{
    struct store_world *world = &torture->world;
    struct key_range all = {0};
    world->stage = STORE_WORLD_BUILDING;
    switch (what) {
    case 'f':
        return store_flush_begin(world->store, &world->job);
    case 'i':
        put_source(torture); /* A start clears it away. */
        return store_ingest_begin(world->store, source().text, &world->job);
    case 'e':
        return store_export_begin(world->store, &all, target().text, &world->job);
    case 'k':
        world->store->kills_unstored = STORE_CHECKPOINT_KILLS;
        return store_job_begin(world->store, &world->job);
    default:
        return store_job_begin(world->store, &world->job);
    }
}

static void ingested(struct torture *torture, enum status status)
{
    for (unsigned i = FIRST_INGESTED; i < WORD_COUNT; i++) {
        struct state state = {true, i};
        if (status == STATUS_OK)
            torture->words[i].known = state;
        else if (torture->words[i].maybe_count < MAYBE_MAX)
            add_maybe(&torture->words[i], state);
    }
}

static void do_job(struct torture *torture, char what, bool raced)
{
    enum status status = begin_job(torture, what);
    if (status == STATUS_OK) {
        /* A restart after its commit, that a batch calls for, finds it. */
        if (what == 'i') ingested(torture, STATUS_PARTIAL);
        status = run_job(torture, raced);
        if (what == 'i') ingested(torture, status);
        if (what == 'e' && status == STATUS_OK)
            EXPECT(env_remove(sim_disk_env(torture->world.disk), target().text) !=
                   STATUS_NOT_FOUND);
    }
    note(torture, status);
}

static void compact(struct torture *torture, bool raced)
{
    struct store_world *world = &torture->world;
    for (int jobs = 0; jobs < 6; jobs++) {
        world->stage = STORE_WORLD_BUILDING;
        enum status status = store_job_begin(world->store, &world->job);
        if (status == STATUS_OK) status = run_job(torture, raced);
        note(torture, status);
        if (status != STATUS_OK) return;
    }
}

static void prepare(struct torture *torture)
{
    struct log_prepare work;
    if (!store_prepare_begin(torture->world.store, &work)) return;
    enum status status = log_prepare_run(&work);
    store_prepare_complete(torture->world.store, &work, status);
    note(torture, status);
}

static void act(struct torture *torture, char what)
{
    struct store_world *world = &torture->world;
    world->now_ms += 7;
    switch (what) {
    case 'w':
        write_batch(torture);
        break;
    case 't':
        store_tick(world->store, world->now_ms);
        break;
    case 'r':
        store_world_reclaim(world);
        break;
    case 'p':
        prepare(torture);
        break;
    case 'c':
    case 'C':
        compact(torture, what == 'C');
        break;
    case 'K':
        restart(torture, SIM_DISK_KILLED);
        break;
    case 'P':
        restart(torture, SIM_DISK_POWER_LOSS);
        break;
    default:
        do_job(torture, what | 0x20, what < 'a');
        break;
    }
}

/* --- The story --- */

static struct store_options torture_options(void)
{
    struct store_options options = store_world_options();
    options.tier_runs_max = 2;
    options.file_bytes = 2 << 10;
    options.log_segment_bytes = 1 << 10;
    options.log_bytes_max = 1 << 20;
    options.manifest_rollover_bytes = 512;
    options.gc_age_ms = 1000000;
    options.reserve_bytes = 4 << 10;
    return options;
}

struct fault {
    unsigned short_from, short_to; /* Steps of the script without any more memory. */
    int64_t allocation;            /* The one that fails; <0: none. */
    uint64_t spare_bytes;          /* Memory that there is then. */
    uint64_t operation;
    enum status status; /* Of that operation; STATUS_OK: none. */
};

struct torture_counts {
    uint64_t allocations, operations;
};

/* Everything that is right again once the fault is over. */
static void go_on(struct torture *torture)
{
    struct store_world *world = &torture->world;
    sim_disk_fail_never(world->disk);
    torture->fails_with = STATUS_OK;
    atomic_store(&world->heap.failure_after, -1);
    world->now_ms += 100;
    store_tick(world->store, world->now_ms);
    if (store_can_write(world->store) != STATUS_OK) restart(torture, SIM_DISK_POWER_LOSS);
    EXPECT(store_can_write(world->store) == STATUS_OK);

    unsigned failures = torture->failures;
    check(torture, false);
    for (int i = 0; i < 3; i++) write_batch(torture);
    EXPECT(torture->failures == failures);
    EXPECT(store_world_settle_down(world) == STATUS_OK);
    EXPECT(store_is_clean(world->store));
    check(torture, false);
    restart(torture, SIM_DISK_POWER_LOSS);
    EXPECT(world->report.replayed_records == 0);
}

static unsigned tell(struct fault fault, struct torture_counts *counts)
{
    struct torture *torture = calloc(1, sizeof *torture);
    struct store_world *world = &torture->world;
    struct store_options options = torture_options();
    torture->prng.state = test_seed;
    EXPECT(store_world_init(world, test_seed, &options) == STATUS_OK);

    uint64_t operations = sim_disk_operation_count(world->disk);
    int64_t far = INT64_MAX / 2;
    atomic_store(&world->heap.failure_after, fault.allocation < 0 ? far : fault.allocation);
    torture->goes_on = fault.status == STATUS_OK;
    torture->fails_at = operations + fault.operation;
    torture->fails_with = fault.status;
    if (fault.status != STATUS_OK) sim_disk_fail_after(world->disk, fault.operation, fault.status);
    for (unsigned step = 0; script[step] != '\0'; step++) {
        bool is_short = step >= fault.short_from && step < fault.short_to;
        world->heap.limit_bytes = is_short ? heap_used_bytes(&world->heap) + fault.spare_bytes : 0;
        act(torture, script[step]);
    }
    world->heap.limit_bytes = 0;
    if (counts != NULL) {
        counts->operations = sim_disk_operation_count(world->disk) - operations;
        counts->allocations = (uint64_t)(far - atomic_load(&world->heap.failure_after));
    }
    unsigned failures = torture->failures;
    go_on(torture);
    store_world_deinit(world);
    free(torture);
    return failures;
}

static struct torture_counts count_all(void)
{
    struct torture_counts counts;
    EXPECT(tell((struct fault){.allocation = -1}, &counts) == 0);
    EXPECT(counts.operations > 100 && counts.allocations > 100);
    return counts;
}

/* TORTURE_STEP=1 tries every one, which takes a minute. */
static uint64_t step_or(uint64_t usual)
{
    const char *step = getenv("TORTURE_STEP");
    return step == NULL ? usual : strtoull(step, NULL, 10);
}

static void fail_operations(enum status status)
{
    struct torture_counts counts = count_all();
    uint64_t step = step_or(6), tried = 0, noticed = 0;
    for (uint64_t i = (test_seed + status) % step; i < counts.operations; i += step, tried++)
        noticed += tell((struct fault){.allocation = -1, .operation = i, .status = status}, NULL) >
                   0;
    printf("%llu of %llu operations of the disk failed with %s, %llu were noticed\n",
           (unsigned long long)tried, (unsigned long long)counts.operations, status_name(status),
           (unsigned long long)noticed);
    EXPECT(noticed > tried / 2);
}

TEST_CASE(an_operation_that_fails_costs_no_more_than_a_restart)
{
    fail_operations(STATUS_IO);
}

TEST_CASE(an_operation_without_room_costs_no_more_than_a_restart)
{
    fail_operations(STATUS_FULL);
}

TEST_CASE(an_allocation_that_fails_costs_no_restart)
{
    struct torture_counts counts = count_all();
    uint64_t step = step_or(16), tried = 0, noticed = 0;
    for (uint64_t i = test_seed % step; i < counts.allocations; i += step, tried++)
        noticed += tell((struct fault){.allocation = (int64_t)i}, NULL) > 0;
    printf("%llu of %llu allocations failed, %llu were noticed\n", (unsigned long long)tried,
           (unsigned long long)counts.allocations, (unsigned long long)noticed);
    EXPECT(noticed > tried / 2);
}

TEST_CASE(a_while_without_memory_costs_no_restart)
{
    static const uint64_t spare_bytes[] = {0, 5000, 400000, 1500000};
    unsigned tried = 0, noticed = 0;
    for (unsigned from = 0; from < sizeof script - 1; from++) {
        for (size_t i = 0; i < sizeof spare_bytes / sizeof *spare_bytes; i++, tried++) {
            struct fault fault = {
                .allocation = -1,
                .short_from = from,
                .short_to = from + 1 + from % 7,
                .spare_bytes = spare_bytes[i],
            };
            noticed += tell(fault, NULL) > 0;
        }
    }
    printf("%u times without memory for a while, %u were noticed\n", tried, noticed);
    EXPECT(noticed > tried / 4);
}

TEST_MAIN(TEST(an_operation_that_fails_costs_no_more_than_a_restart),
          TEST(an_operation_without_room_costs_no_more_than_a_restart),
          TEST(an_allocation_that_fails_costs_no_restart),
          TEST(a_while_without_memory_costs_no_restart))
