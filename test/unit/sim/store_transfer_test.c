/* Ranges that go from one store to another as files: what arrives is what was there, tombstones
 * included, whatever crashes, and no file is left of what was given up. */
#include <stdlib.h>
#include <string.h>

#include "sim/store_world.h"
#include "store/names.h"
#include "test.h"

enum { KEY_COUNT = 3000, KEY_BYTES = 32, WINDOW = 4 << 10, FILE_BYTES = 8 << 10 };

struct pair {
    struct store_world from, to;
    struct prng prng;
    uint64_t number; /* Of the last file. */
};

static struct slice key_of(unsigned number, char text[KEY_BYTES])
{
    int size = snprintf(text, KEY_BYTES, "ns%c%05u/%u", 0, number, number * 7919 % 1000);
    return slice_of(text, (size_t)size);
}

static void world_begin(struct store_world *world, uint64_t seed)
{
    struct store_options options = store_world_options();
    options.keep_transfers = true;
    options.gc_age_ms = UINT64_MAX;
    options.file_bytes = 64 << 10;
    options.log_bytes_max = 256 << 10;
    options.log_segment_bytes = 64 << 10;
    EXPECT(store_world_init(world, seed, &options) == STATUS_OK);
}

/* Words, removed words, words written twice: in memory and in files. */
static void fill(struct store_world *world, struct prng *prng, unsigned first, unsigned last)
{
    for (unsigned i = first; i < last; i += 50) {
        struct store_write writes[50] = {0};
        char keys[50][KEY_BYTES];
        uint64_t sequence;
        world->now_ms += 3;
        for (unsigned j = 0; j < 50; j++)
            writes[j] =
                (struct store_write){.kind = prng_one_in(prng, 6) ? STORE_REMOVE : STORE_SET,
                                     .leave_tombstone = true,
                                     .key = key_of(i + j, keys[j]),
                                     .score = prng_below(prng, 1000)};
        EXPECT(store_world_write(world, writes, 50, NULL, &sequence) == STATUS_OK);
        EXPECT(store_world_sync(world) == STATUS_OK);
        if (prng_one_in(prng, 20)) EXPECT(store_world_settle_down(world) == STATUS_OK);
    }
}

static struct pair *pair_begin(uint64_t seed)
{
    struct pair *pair = calloc(1, sizeof *pair);
    pair->prng.state = seed;
    world_begin(&pair->from, seed);
    world_begin(&pair->to, seed + 1);
    fill(&pair->from, &pair->prng, 0, KEY_COUNT);
    return pair;
}

static void pair_end(struct pair *pair)
{
    store_world_deinit(&pair->from);
    store_world_deinit(&pair->to);
    free(pair);
}

/* The next outcome, whatever jobs that takes. False: the disk crashed. */
static bool work(struct store_world *world, struct store_transfer *out)
{
    for (int i = 0; i < 10000; i++) {
        if (store_transfer_next(world->store, out)) return true;
        enum status status = store_world_job_step(world);
        if (sim_disk_crashed(world->disk)) return false;
        EXPECT(status == STATUS_OK || status == STATUS_PARTIAL || status == STATUS_END ||
               status == STATUS_INVALID || status == STATUS_CORRUPT || status == STATUS_NOT_FOUND ||
               status == STATUS_EXISTS);
        store_world_reclaim(world);
    }
    EXPECT(false);
    return false;
}

static bool has_file(const struct store_world *world, uint64_t number)
{
    struct slice content;
    return sim_disk_content(world->disk, name_of(NAME_TRANSFER, number).text, &content);
}

static struct sum sum_of(const struct store_world *world, struct key_range range)
{
    struct query query = store_world_query(world);
    struct sum sum;
    query.ranges = &range;
    query.range_count = 1;
    EXPECT(query_sum(&query, (struct slice){0}, &sum) == STATUS_OK);
    return sum;
}

/* Exports what begins at `low`. False: there was nothing. */
static bool export_file(struct pair *pair, struct key_range range, uint64_t *size, struct buf *end)
{
    struct store_transfer done;
    uint64_t number = ++pair->number;
    EXPECT(store_transfer_export(pair->from.store, number, &range, FILE_BYTES) == STATUS_OK);
    EXPECT(work(&pair->from, &done));
    EXPECT(done.kind == STORE_TRANSFER_EXPORT && done.number == number);
    EXPECT(done.status == STATUS_OK);
    EXPECT(has_file(&pair->from, number) == (done.size_bytes > 0));
    buf_clear(end);
    buf_append_slice(end, done.end);
    *size = done.size_bytes;
    return done.size_bytes > 0;
}

/* Brings bytes over from `at` on. False: the disk crashed on the way; `at` is durable. */
static bool receive_file(struct pair *pair, uint64_t size, uint64_t *at)
{
    struct buf piece;
    struct store_transfer done;
    buf_init(&piece, &pair->from.heap);
    bool good = true;
    while (good && *at < size) {
        uint64_t some = size - *at < WINDOW ? size - *at : WINDOW;
        buf_clear(&piece);
        EXPECT(store_transfer_read(pair->from.store, pair->number, *at, some, &piece) == STATUS_OK);
        enum status status =
            store_transfer_receive(pair->to.store, pair->number, *at, buf_slice(&piece));
        good = status == STATUS_OK && work(&pair->to, &done) && done.status == STATUS_OK;
        EXPECT(good || sim_disk_crashed(pair->to.disk));
        if (good) *at += some;
    }
    buf_deinit(&piece);
    return good;
}

static bool ingest_file(struct pair *pair, struct key_range range)
{
    struct store_transfer done;
    if (store_transfer_ingest(pair->to.store, pair->number, &range) != STATUS_OK) return false;
    if (!work(&pair->to, &done)) return false;
    EXPECT(done.kind == STORE_TRANSFER_INGEST && done.status == STATUS_OK);
    return store_world_sync(&pair->to) == STATUS_OK;
}

/* All of a range, file by file; how many those were. */
static unsigned move(struct pair *pair, unsigned first, unsigned last)
{
    char low_text[KEY_BYTES], high_text[KEY_BYTES];
    struct key_range range = {key_of(first, low_text), key_of(last, high_text)};
    struct buf low, end;
    uint64_t size;
    unsigned files = 0;
    buf_init(&low, &pair->from.heap);
    buf_init(&end, &pair->from.heap);
    while (export_file(pair, range, &size, &end)) {
        struct key_range part = {range.low, end.size > 0 ? buf_slice(&end) : range.high};
        uint64_t at = 0;
        EXPECT(size < 2 * FILE_BYTES);
        EXPECT(receive_file(pair, size, &at));
        EXPECT(ingest_file(pair, part));
        EXPECT(sum_equal(sum_of(&pair->from, part), sum_of(&pair->to, part)));
        store_transfer_remove(pair->from.store, pair->number);
        store_transfer_remove(pair->to.store, pair->number);
        EXPECT(!has_file(&pair->from, pair->number) && !has_file(&pair->to, pair->number));
        files++;
        if (end.size == 0) break;
        buf_clear(&low);
        buf_append_slice(&low, buf_slice(&end));
        range.low = buf_slice(&low);
    }
    buf_deinit(&low);
    buf_deinit(&end);
    return files;
}

TEST_CASE(a_range_moves_file_by_file_and_is_the_same_then)
{
    struct pair *pair = pair_begin(test_seed);
    char low[KEY_BYTES], high[KEY_BYTES];
    struct key_range range = {key_of(500, low), key_of(2500, high)};
    unsigned files = move(pair, 500, 2500);
    EXPECT(files > 2);
    EXPECT(sum_equal(sum_of(&pair->from, range), sum_of(&pair->to, range)));
    EXPECT(sum_equal(sum_of(&pair->to, (struct key_range){0}), sum_of(&pair->to, range)));

    /* Once more, over what is there and what was written since. */
    fill(&pair->from, &pair->prng, 800, 1000);
    fill(&pair->to, &pair->prng, 2000, 2200);
    EXPECT(move(pair, 500, 2000) > 0);
    range.high = key_of(2000, high);
    EXPECT(sum_equal(sum_of(&pair->from, range), sum_of(&pair->to, range)));
    /* Of nothing there is no file. */
    EXPECT(move(pair, KEY_COUNT, KEY_COUNT + 1) == 0);
    pair_end(pair);
}

/* Receives and ingests one file with a crash at change `point`. False: it has no such change. */
static bool crash_in(uint64_t seed, uint64_t point, enum sim_disk_restart how)
{
    struct pair *pair = pair_begin(seed);
    char low[KEY_BYTES], high[KEY_BYTES];
    struct key_range range = {key_of(0, low), key_of(KEY_COUNT, high)};
    struct buf end;
    uint64_t size, at = 0;
    buf_init(&end, &pair->from.heap);
    fill(&pair->to, &pair->prng, 0, 100);
    EXPECT(export_file(pair, range, &size, &end));
    range.high = buf_slice(&end);

    sim_disk_crash_after(pair->to.disk, point);
    bool done = receive_file(pair, size, &at) && ingest_file(pair, range);
    bool crashed = sim_disk_crashed(pair->to.disk);
    EXPECT(done || crashed);
    EXPECT(store_world_restart(&pair->to, how) == STATUS_OK);

    /* It goes on where it was. What was told to be durable is. */
    EXPECT(at == 0 || has_file(&pair->to, pair->number));
    EXPECT(receive_file(pair, size, &at));
    EXPECT(ingest_file(pair, range));
    EXPECT(sum_equal(sum_of(&pair->to, range), sum_of(&pair->to, (struct key_range){0})));
    struct query query = store_world_query(&pair->to);
    uint64_t count, all;
    EXPECT(query_count_range(&query, range, &count) == STATUS_OK);
    query = store_world_query(&pair->from);
    EXPECT(query_count_range(&query, range, &all) == STATUS_OK);
    EXPECT(count >= all - 100 && count > 0);
    buf_deinit(&end);
    pair_end(pair);
    return crashed;
}

TEST_CASE(a_crash_at_any_point_of_receiving_goes_on_there)
{
    uint64_t points = 0;
    for (int how = SIM_DISK_POWER_LOSS; how <= SIM_DISK_KILLED; how++)
        for (uint64_t point = 0; crash_in(test_seed, point, (enum sim_disk_restart)how); point++)
            points++;
    printf("%llu crash points in receiving and ingesting\n", (unsigned long long)points);
    EXPECT(points > 10);
}

static enum status ingest_outcome(struct pair *pair, struct key_range range)
{
    struct store_transfer done;
    EXPECT(store_transfer_ingest(pair->to.store, pair->number, &range) == STATUS_OK);
    EXPECT(work(&pair->to, &done));
    EXPECT(sum_equal(sum_of(&pair->to, (struct key_range){0}), (struct sum){0}) ==
           (done.status != STATUS_OK));
    return done.status;
}

TEST_CASE(files_that_are_not_as_they_should_be_are_refused)
{
    struct pair *pair = pair_begin(test_seed);
    char texts[4][KEY_BYTES];
    struct key_range range = {key_of(10, texts[0]), key_of(200, texts[1])};
    struct buf end;
    uint64_t size, at = 0;
    buf_init(&end, &pair->from.heap);
    EXPECT(export_file(pair, range, &size, &end));
    EXPECT(end.size == 0);
    EXPECT(ingest_outcome(pair, range) == STATUS_NOT_FOUND);
    EXPECT(receive_file(pair, size, &at));
    EXPECT(ingest_outcome(pair, (struct key_range){key_of(11, texts[2]), range.high}) ==
           STATUS_INVALID);
    EXPECT(ingest_outcome(pair, (struct key_range){range.low, key_of(199, texts[2])}) ==
           STATUS_INVALID);

    /* Any bit that flips on the way is seen. */
    struct buf piece;
    buf_init(&piece, &pair->from.heap);
    EXPECT(store_transfer_read(pair->from.store, pair->number, 0, size, &piece) == STATUS_OK);
    EXPECT(store_transfer_read(pair->from.store, pair->number, 1, size, &piece) == STATUS_END);
    EXPECT(store_transfer_read(pair->from.store, 99, 0, 1, &piece) == STATUS_NOT_FOUND);
    for (int round = 0; round < 20; round++) {
        struct store_transfer done;
        size_t bit = prng_below(&pair->prng, (uint32_t)size * 8);
        piece.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT(store_transfer_receive(pair->to.store, pair->number, 0, buf_slice(&piece)) ==
               STATUS_OK);
        EXPECT(work(&pair->to, &done) && done.status == STATUS_OK);
        enum status status = ingest_outcome(pair, range);
        EXPECT(status == STATUS_CORRUPT || status == STATUS_INVALID || status == STATUS_NEWER);
        piece.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_deinit(&piece);
    at = 0;
    EXPECT(receive_file(pair, size, &at));
    EXPECT(ingest_outcome(pair, range) == STATUS_OK);
    buf_deinit(&end);
    pair_end(pair);
}

static void count_files(void *context, uint64_t number, uint64_t size_bytes)
{
    uint64_t *sum = context;
    *sum += number * 1000 + size_bytes;
}

TEST_CASE(what_is_asked_for_is_bounded_and_can_be_withdrawn)
{
    struct pair *pair = pair_begin(test_seed);
    struct store *store = pair->to.store;
    struct store_transfer done;
    uint64_t sum = 0;
    for (uint64_t number = 1; number <= STORE_TRANSFERS_MAX; number++)
        EXPECT(store_transfer_receive(store, number, 0, SLICE_LITERAL("bytes")) == STATUS_OK);
    EXPECT(store_transfer_receive(store, 99, 0, SLICE_LITERAL("bytes")) == STATUS_BUSY);
    for (uint64_t number = 3; number <= STORE_TRANSFERS_MAX; number++)
        store_transfer_remove(store, number);
    EXPECT(store_world_job_step(&pair->to) == STATUS_PARTIAL); /* The first is under way. */
    store_transfer_remove(store, 1);
    EXPECT(work(&pair->to, &done) && done.number == 2);
    EXPECT(!store_transfer_next(store, &done));
    EXPECT(!has_file(&pair->to, 1) && has_file(&pair->to, 2));

    /* A start keeps files for who knows them; else it removes them. */
    EXPECT(store_world_restart(&pair->to, SIM_DISK_KILLED) == STATUS_OK);
    EXPECT(store_transfer_list(pair->to.store, count_files, &sum) == STATUS_OK);
    EXPECT(sum == 2005);
    pair->to.options.keep_transfers = false;
    EXPECT(store_world_restart(&pair->to, SIM_DISK_KILLED) == STATUS_OK);
    EXPECT(!has_file(&pair->to, 2) && pair->to.report.leftover_files == 1);
    pair_end(pair);
}

TEST_MAIN(TEST(a_range_moves_file_by_file_and_is_the_same_then),
          TEST(a_crash_at_any_point_of_receiving_goes_on_there),
          TEST(files_that_are_not_as_they_should_be_are_refused),
          TEST(what_is_asked_for_is_bounded_and_can_be_withdrawn))
