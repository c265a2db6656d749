/* Ingests and exports against a model, with writes between all their steps, and with the power
 * cut at each of their changes. */
#include <stdlib.h>
#include <string.h>

#include "core/dictionary.h"
#include "sim/store_world.h"
#include "store/internal.h"
#include "test.h"

enum { KEY_COUNT = 120, KEY_BYTES = 32 };

/* Encoded records by word; empty: none. */
struct model {
    struct buf records[KEY_COUNT];
};

struct tester {
    struct store_world world;
    struct heap heap; /* The model's. */
    struct prng prng;
    struct model words;     /* What stands. */
    struct model source;    /* What the file of the ingest under way holds. */
    struct model before;    /* What stood when the export under way began. */
    bool unsure[KEY_COUNT]; /* Written by a batch whose outcome is not known. */
};

/* In alphabetical order. */
static struct slice key_of(unsigned number, char text[KEY_BYTES])
{
    int size = snprintf(text, KEY_BYTES, "ns%c%03u/%u", 0, number, number % 7);
    return slice_of(text, (size_t)size);
}

/* --- The model --- */

static void model_init(struct model *model, struct heap *heap)
{
    for (int i = 0; i < KEY_COUNT; i++) buf_init(&model->records[i], heap);
}

static void model_deinit(struct model *model)
{
    for (int i = 0; i < KEY_COUNT; i++) buf_deinit(&model->records[i]);
}

static bool model_get(const struct model *model, unsigned number, struct record *out)
{
    if (model->records[number].size == 0) return false;
    EXPECT(record_decode(buf_slice(&model->records[number]), out) == STATUS_OK);
    return true;
}

static void model_set(struct model *model, unsigned number, const struct record *record)
{
    struct buf encoded;
    buf_init(&encoded, model->records[number].heap);
    record_encode(record, &encoded);
    buf_clear(&model->records[number]);
    buf_append_slice(&model->records[number], buf_slice(&encoded));
    buf_deinit(&encoded);
}

static void model_copy(struct model *to, const struct model *from)
{
    for (int i = 0; i < KEY_COUNT; i++) {
        buf_clear(&to->records[i]);
        buf_append_slice(&to->records[i], buf_slice(&from->records[i]));
    }
}

/* Joins what the source holds for `number` into `to`. */
static void join_source(struct tester *tester, struct model *to, unsigned number)
{
    struct record ours, theirs, joined;
    struct buf scratch;
    if (!model_get(&tester->source, number, &theirs)) return;
    if (!model_get(to, number, &ours)) {
        model_set(to, number, &theirs);
        return;
    }
    buf_init(&scratch, &tester->heap);
    EXPECT(record_join(&ours, &theirs, &scratch, &joined) == STATUS_OK);
    model_set(to, number, &joined);
    buf_deinit(&scratch);
}

static struct tester *tester_begin(uint64_t seed)
{
    struct store_options options = store_world_options();
    struct tester *tester = calloc(1, sizeof *tester);
    options.tier_runs_max = 3;
    options.file_bytes = 4 << 10;
    options.gc_age_ms = UINT64_MAX; /* Tombstones stay: the model has them all. */
    EXPECT(store_world_init(&tester->world, seed, &options) == STATUS_OK);
    heap_init(&tester->heap, 0);
    tester->prng.state = seed;
    model_init(&tester->words, &tester->heap);
    model_init(&tester->source, &tester->heap);
    model_init(&tester->before, &tester->heap);
    return tester;
}

static void tester_end(struct tester *tester)
{
    model_deinit(&tester->words);
    model_deinit(&tester->source);
    model_deinit(&tester->before);
    EXPECT(heap_used_bytes(&tester->heap) == 0);
    store_world_deinit(&tester->world);
    free(tester);
}

/* --- Checks --- */

static bool stands(struct tester *tester, const struct model *model, unsigned number)
{
    char text[KEY_BYTES];
    struct record expected;
    struct query_hit hit;
    struct query query = store_world_query(&tester->world);
    bool there = model_get(model, number, &expected);
    enum status status = query_get(&query, key_of(number, text), &hit);
    EXPECT(status == STATUS_OK || status == STATUS_NOT_FOUND);
    return status == STATUS_OK ? there && record_equal(&hit.record, &expected) : !there;
}

/* Each word is current once, as the model says. With `maybe` it may have been joined with the
 * source as well: the model then learns which it is. */
static void check(struct tester *tester, bool maybe)
{
    struct query query = store_world_query(&tester->world);
    struct sum sum, expected_sum = {0, 0};
    uint64_t count, expected = 0;
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        char text[KEY_BYTES];
        struct record record;
        if (maybe && !stands(tester, &tester->words, i)) join_source(tester, &tester->words, i);
        EXPECT(stands(tester, &tester->words, i));
        if (!model_get(&tester->words, i, &record)) continue;
        expected += record_is_present(&record);
        expected_sum = sum_add(
            expected_sum, record_hash(key_of(i, text), &record, tester->world.options.hash_seed));
    }
    EXPECT(query_count(&query, (struct slice){0}, &count) == STATUS_OK);
    EXPECT(count == expected);
    EXPECT(query_sum(&query, (struct slice){0}, &sum) == STATUS_OK);
    EXPECT(sum_equal(sum, expected_sum));
}

/* --- Writes --- */

static enum status write_some(struct tester *tester)
{
    enum { BATCH = 6 };
    struct store_write writes[BATCH] = {0};
    struct store_outcome outcomes[BATCH];
    unsigned numbers[BATCH];
    char keys[BATCH][KEY_BYTES];
    uint64_t sequence;

    for (int i = 0; i < BATCH; i++) {
        uint32_t dice = prng_below(&tester->prng, 6);
        numbers[i] = prng_below(&tester->prng, KEY_COUNT);
        writes[i] = (struct store_write){
            .kind = dice < 3   ? STORE_SET
                    : dice < 5 ? STORE_REMOVE
                               : STORE_INCREMENT,
            .key = key_of(numbers[i], keys[i]),
            .score = prng_below(&tester->prng, 9),
        };
    }
    tester->world.now_ms += prng_below(&tester->prng, 5);
    enum status status = store_world_write(&tester->world, writes, BATCH, outcomes, &sequence);
    if (status == STATUS_OK) status = store_world_sync(&tester->world);
    for (int i = 0; i < BATCH; i++) tester->unsure[numbers[i]] = status != STATUS_OK;
    if (status != STATUS_OK) return status;
    for (int i = 0; i < BATCH; i++) {
        struct place place;
        struct record record;
        EXPECT(outcomes[i].status == STATUS_OK);
        EXPECT(store_find(tester->world.store, writes[i].key, &place, &record) == STATUS_OK);
        if (place.kind != PLACE_NOWHERE) model_set(&tester->words, numbers[i], &record);
    }
    return STATUS_OK;
}

/* --- Files --- */

static struct name file_name(void)
{
    return name_of(NAME_TRANSFER, 3);
}

static enum status sink_append(void *context, const void *data, size_t size)
{
    buf_append(context, data, size);
    return buf_status(context);
}

/* A record as some replica may have it: older or newer than ours, a tombstone, a counter. */
static struct record draw_record(struct tester *tester, struct buf *slots)
{
    struct prng *prng = &tester->prng;
    uint64_t ms = tester->world.now_ms - 60 + prng_below(prng, 90);
    struct version version = {(ms << HLC_COUNTER_BITS) + prng_below(prng, 50), 9};
    if (prng_one_in(prng, 3)) return record_of_tombstone(version);
    struct record record = record_of_set(version, prng_below(prng, 9));
    buf_clear(slots);
    if (prng_one_in(prng, 2)) {
        record_slot_append(slots,
                           &(struct record_slot){77, 1 + prng_below(prng, 3), prng_below(prng, 5)});
        record.slots = buf_slice(slots);
    }
    return record;
}

/* Puts a new file there: some of the words of some range. */
static void put_source(struct tester *tester)
{
    struct heap *heap = &tester->heap;
    struct dictionary_trainer *trainer;
    struct dictionary *dictionary;
    struct packed_builder *builder;
    struct buf file, slots;
    unsigned first = prng_below(&tester->prng, KEY_COUNT / 2);
    unsigned count = 1 + prng_below(&tester->prng, KEY_COUNT / 2);

    buf_init(&file, heap);
    buf_init(&slots, heap);
    EXPECT(dictionary_trainer_create(heap, 4096, &trainer) == STATUS_OK);
    EXPECT(dictionary_train(trainer, &dictionary) == STATUS_OK);
    EXPECT(packed_builder_create(heap, dictionary, tester->world.options.hash_seed, &builder) ==
           STATUS_OK);
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        char text[KEY_BYTES];
        buf_clear(&tester->source.records[i]);
        if (i < first || i >= first + count || (i > first && prng_one_in(&tester->prng, 3)))
            continue;
        struct record record = draw_record(tester, &slots);
        model_set(&tester->source, i, &record);
        EXPECT(packed_builder_add(builder, key_of(i, text), &record) == STATUS_OK);
    }
    EXPECT(packed_builder_finish(builder, &(struct packed_sink){sink_append, &file}) == STATUS_OK);
    sim_disk_put(tester->world.disk, file_name().text, buf_slice(&file));
    packed_builder_destroy(builder);
    dictionary_destroy(dictionary);
    dictionary_trainer_destroy(trainer);
    buf_deinit(&slots);
    buf_deinit(&file);
}

/* The file holds what stood in the words [first, last) when the export began, and no more. */
static void check_exported(struct tester *tester, unsigned first, unsigned last)
{
    struct slice file;
    struct packed *packed;
    uint64_t ordinal = 0;
    bool is_there = sim_disk_content(tester->world.disk, file_name().text, &file);
    if (is_there) EXPECT(packed_open(&tester->heap, file, &packed) == STATUS_OK);
    for (unsigned i = first; i < last; i++) {
        char text[KEY_BYTES];
        struct buf key;
        struct record record, expected;
        if (!model_get(&tester->before, i, &expected)) continue;
        EXPECT(is_there);
        buf_init(&key, &tester->heap);
        EXPECT(packed_key(packed, ordinal, &key) == STATUS_OK);
        EXPECT(slice_equal(buf_slice(&key), key_of(i, text)));
        EXPECT(packed_record(packed, ordinal, &record) == STATUS_OK);
        EXPECT(record_equal(&record, &expected));
        buf_deinit(&key);
        ordinal++;
    }
    EXPECT(is_there == (ordinal > 0));
    if (!is_there) return;
    EXPECT(packed_info(packed)->count == ordinal);
    packed_close(packed);
}

/* --- Jobs --- */

/* The job to its end, with writes between its steps. */
static enum status race(struct tester *tester)
{
    enum status status = STATUS_PARTIAL;
    while (status == STATUS_PARTIAL) {
        if (prng_one_in(&tester->prng, 2)) {
            status = write_some(tester);
            if (status != STATUS_OK) return status;
        }
        status = store_world_job_step(&tester->world);
        if (prng_one_in(&tester->prng, 3)) store_world_reclaim(&tester->world);
    }
    return status;
}

static enum status flush(struct tester *tester)
{
    enum status status = store_flush_begin(tester->world.store, &tester->world.job);
    tester->world.stage = STORE_WORLD_BUILDING;
    if (status == STATUS_OK) status = race(tester);
    return status == STATUS_END ? STATUS_OK : status;
}

static enum status ingest(struct tester *tester)
{
    enum status status =
        store_ingest_begin(tester->world.store, file_name().text, &tester->world.job);
    if (status != STATUS_OK) return status;
    tester->world.stage = STORE_WORLD_BUILDING;
    status = race(tester);
    /* What was merged on the way is logged, and shows like any batch. */
    if (status == STATUS_OK) status = store_world_sync(&tester->world);
    for (unsigned i = 0; status == STATUS_OK && i < KEY_COUNT; i++)
        join_source(tester, &tester->words, i);
    return status;
}

static enum status export(struct tester *tester) {
    char low_text[KEY_BYTES], high_text[KEY_BYTES];
    unsigned first = prng_below(&tester->prng, KEY_COUNT);
    unsigned last = first + prng_below(&tester->prng, KEY_COUNT - first);
    struct key_range range = {key_of(first, low_text), key_of(last, high_text)};
    enum status status = STATUS_OK;
    while (status == STATUS_OK && tester->world.store->frozen != NULL) status = flush(tester);
    if (status != STATUS_OK) return status;
    model_copy(&tester->before, &tester->words);
    status = store_export_begin(tester->world.store, &range, file_name().text, &tester->world.job);
    if (status != STATUS_OK) return status;
    tester->world.stage = STORE_WORLD_BUILDING;
    status = race(tester);
    if (status == STATUS_OK) check_exported(tester, first, last);
    return status;
}

static void remove_file(struct tester *tester)
{
    (void)env_remove(sim_disk_env(tester->world.disk), file_name().text);
}

/* --- Tests --- */

TEST_CASE(ingests_and_exports_agree_with_a_model_that_writes_race)
{
    unsigned ingests = 0, exports = 0;
    for (uint64_t round = 0; round < 6; round++) {
        struct tester *tester = tester_begin(test_seed + round);
        for (int step = 0; step < 60; step++) {
            remove_file(tester);
            switch (prng_below(&tester->prng, 5)) {
            case 0:
                put_source(tester);
                EXPECT(ingest(tester) == STATUS_OK);
                ingests++;
                break;
            case 1:
                EXPECT(export(tester) == STATUS_OK);
                exports++;
                break;
            case 2:
                EXPECT(flush(tester) == STATUS_OK);
                break;
            case 3:
                if (store_job_begin(tester->world.store, &tester->world.job) != STATUS_OK) break;
                tester->world.stage = STORE_WORLD_BUILDING;
                EXPECT(race(tester) == STATUS_OK);
                break;
            default:
                EXPECT(write_some(tester) == STATUS_OK);
                break;
            }
            check(tester, false);
            if (step % 20 != 19) continue;
            EXPECT(store_world_restart(&tester->world, SIM_DISK_POWER_LOSS) == STATUS_OK);
            check(tester, false);
        }
        tester_end(tester);
    }
    printf("%u ingests, %u exports\n", ingests, exports);
    EXPECT(ingests > 10 && exports > 10);
}

/* What was recovered: as the model says, or joined with the source already. Words of the batch
 * that the crash met are looked up. */
static void check_recovered(struct tester *tester)
{
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        char text[KEY_BYTES];
        struct query_hit hit;
        struct query query = store_world_query(&tester->world);
        if (!tester->unsure[i]) continue;
        if (query_get(&query, key_of(i, text), &hit) == STATUS_OK)
            model_set(&tester->words, i, &hit.record);
        else
            buf_clear(&tester->words.records[i]);
    }
    check(tester, true);
}

/* Runs `job` after some history, with a crash at its change `point`; then once more. False if
 * it has no such change. */
static bool crash_in(enum status (*job)(struct tester *tester), uint64_t seed, uint64_t point,
                     enum sim_disk_restart how)
{
    struct tester *tester = tester_begin(seed);
    struct slice content;
    for (int i = 0; i < 8; i++) EXPECT(write_some(tester) == STATUS_OK);
    EXPECT(flush(tester) == STATUS_OK);
    for (int i = 0; i < 3; i++) EXPECT(write_some(tester) == STATUS_OK);
    EXPECT(flush(tester) == STATUS_OK);
    for (int i = 0; i < 3; i++) EXPECT(write_some(tester) == STATUS_OK);
    if (job == ingest) put_source(tester);
    EXPECT(sim_disk_content(tester->world.disk, file_name().text, &content) == (job == ingest));
    struct slice source = {0};
    struct buf kept;
    buf_init(&kept, &tester->heap);
    if (sim_disk_content(tester->world.disk, file_name().text, &source))
        buf_append_slice(&kept, source);

    sim_disk_crash_after(tester->world.disk, point);
    enum status status = job(tester);
    bool crashed = sim_disk_crashed(tester->world.disk);
    EXPECT(crashed || status == STATUS_OK);
    EXPECT(store_world_restart(&tester->world, how) == STATUS_OK);
    EXPECT(!sim_disk_content(tester->world.disk, file_name().text, &content));
    check_recovered(tester);

    if (kept.size > 0) sim_disk_put(tester->world.disk, file_name().text, buf_slice(&kept));
    EXPECT(job(tester) == STATUS_OK);
    check(tester, false);
    buf_deinit(&kept);
    tester_end(tester);
    return crashed;
}

static void crash_everywhere(const char *name, enum status (*job)(struct tester *tester))
{
    uint64_t points = 0;
    for (uint64_t seed = test_seed; seed < test_seed + 4; seed++)
        for (int how = SIM_DISK_POWER_LOSS; how <= SIM_DISK_KILLED; how++)
            for (uint64_t point = 0; crash_in(job, seed, point, (enum sim_disk_restart)how);
                 point++)
                points++;
    printf("%llu crash points in an %s\n", (unsigned long long)points, name);
    EXPECT(points > 0);
}

TEST_CASE(a_crash_in_an_ingest_loses_nothing_and_it_can_be_done_again)
{
    crash_everywhere("ingest", ingest);
}

TEST_CASE(a_crash_in_an_export_leaves_nothing_behind)
{
    crash_everywhere("export", export);
}

TEST_MAIN(TEST(ingests_and_exports_agree_with_a_model_that_writes_race),
          TEST(a_crash_in_an_ingest_loses_nothing_and_it_can_be_done_again),
          TEST(a_crash_in_an_export_leaves_nothing_behind))
