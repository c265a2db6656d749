/* A disk that fills up and has room again: what stops, what goes on, and that all of it comes
 * back by itself. */
#include <string.h>

#include "sim/store_world.h"
#include "store/internal.h"
#include "test.h"

enum { KEY_BYTES = 32, WORDS = 4000 };

struct full_world {
    struct store_world world;
    bool live[WORDS]; /* As acknowledged. */
};

static struct slice key_of(unsigned number, char text[KEY_BYTES])
{
    int size = snprintf(text, KEY_BYTES, "ns%c%05u", 0, number);
    return slice_of(text, (size_t)size);
}

static struct store_options full_options(void)
{
    struct store_options options = store_world_options();
    options.low_water_bytes = 64 << 10;
    options.reserve_bytes = 32 << 10;
    return options;
}

/* One durable write. Returns why it was refused; the model knows what was acknowledged. */
static enum status write_one(struct full_world *full, enum store_write_kind kind, unsigned number)
{
    char text[KEY_BYTES];
    uint64_t sequence;
    struct store_write write = {.kind = kind, .key = key_of(number, text), .score = number};
    struct store_outcome outcome;
    enum status status = store_world_write(&full->world, &write, 1, &outcome, &sequence);
    if (outcome.status != STATUS_OK) return outcome.status;
    if (status != STATUS_OK) return status;
    EXPECT(store_world_sync(&full->world) == STATUS_OK);
    full->live[number] = kind != STORE_REMOVE;
    return STATUS_OK;
}

static void tick(struct full_world *full)
{
    full->world.now_ms += 100;
    store_tick(full->world.store, full->world.now_ms);
}

/* Everything that jobs can do now; running out of space is no reason to stop trying. */
static void work(struct full_world *full)
{
    for (int failures = 0; failures < 4;) {
        enum status status = store_world_job_step(&full->world);
        if (status == STATUS_END) break;
        EXPECT(status == STATUS_OK || status == STATUS_PARTIAL || status == STATUS_FULL);
        failures += status == STATUS_FULL;
        store_world_reclaim(&full->world);
        if (status != STATUS_PARTIAL) tick(full);
    }
}

static void check(const struct full_world *full)
{
    uint64_t count, expected = 0;
    struct query query = store_world_query(&full->world);
    for (unsigned i = 0; i < WORDS; i++) {
        char text[KEY_BYTES];
        struct query_hit hit;
        enum status status = query_get(&query, key_of(i, text), &hit);
        EXPECT(status == STATUS_OK || status == STATUS_NOT_FOUND);
        EXPECT((status == STATUS_OK && hit.live) == full->live[i]);
        expected += full->live[i];
    }
    EXPECT(query_count(&query, (struct slice){0}, &count) == STATUS_OK);
    EXPECT(count == expected);
}

static struct full_world *full_begin(const struct store_options *options)
{
    struct full_world *full = calloc(1, sizeof *full);
    EXPECT(store_world_init(&full->world, test_seed, options) == STATUS_OK);
    return full;
}

static void full_end(struct full_world *full)
{
    store_world_deinit(&full->world);
    free(full);
}

static void leave_room(struct full_world *full, uint64_t bytes)
{
    sim_disk_set_capacity(full->world.disk, sim_disk_used_bytes(full->world.disk) + bytes);
}

/* Puts and works until a put is refused. */
static unsigned fill(struct full_world *full, unsigned first)
{
    for (unsigned i = first; i < WORDS; i++) {
        enum status status = write_one(full, STORE_SET, i);
        if (status == STATUS_FULL) return i;
        EXPECT(status == STATUS_OK);
        if (i % 50 != 49) continue;
        work(full);
        tick(full);
    }
    EXPECT(!"the disk is larger than the test");
    return WORDS;
}

TEST_CASE(puts_stop_at_the_low_water_mark_and_go_on_above_it)
{
    struct store_options options = full_options();
    struct full_world *full = full_begin(&options);
    leave_room(full, 90 << 10);
    tick(full);
    unsigned filled = fill(full, 0);
    EXPECT(filled > 100);
    EXPECT(store_can_write(full->world.store) == STATUS_FULL);
    struct store_stats stats;
    store_stats(full->world.store, &stats);
    EXPECT(stats.full && !stats.read_only);

    /* The reserve is untouched: nothing of ours was refused by the disk. */
    EXPECT(full->world.store->reserve_held == options.reserve_bytes);
    for (unsigned i = 0; i < filled; i += 2) {
        EXPECT(write_one(full, STORE_REMOVE, i) == STATUS_OK);
        EXPECT(write_one(full, STORE_SET, i) == STATUS_FULL);
        if (i % 50 == 0) work(full);
        tick(full);
    }
    check(full);

    leave_room(full, 400 << 10);
    tick(full);
    EXPECT(store_can_write(full->world.store) == STATUS_OK);
    EXPECT(write_one(full, STORE_SET, 0) == STATUS_OK);
    EXPECT(store_world_settle_down(&full->world) == STATUS_OK);
    check(full);
    full_end(full);
}

/* Somebody else took the rest of the disk: the reserve is all there is. */
TEST_CASE(with_the_reserve_removals_and_a_flush_go_on)
{
    struct store_options options = full_options();
    struct full_world *full = full_begin(&options);
    for (unsigned i = 0; i < 600; i++) EXPECT(write_one(full, STORE_SET, i) == STATUS_OK);
    work(full);
    leave_room(full, 0);
    tick(full);
    EXPECT(write_one(full, STORE_SET, 0) == STATUS_FULL);
    unsigned removed = 0;
    while (removed < 600 && write_one(full, STORE_REMOVE, removed) == STATUS_OK) {
        removed++;
        if (removed % 20 == 0) work(full);
        store_world_reclaim(&full->world);
        tick(full);
    }
    EXPECT(removed == 600);
    EXPECT(full->world.store->reserve_held == 0);
    EXPECT(store_world_settle_down(&full->world) == STATUS_OK);
    EXPECT(store_is_clean(full->world.store));
    check(full);

    /* Room comes back: the reserve is held again, and puts go on. */
    leave_room(full, 400 << 10);
    tick(full);
    EXPECT(full->world.store->reserve_held == options.reserve_bytes);
    EXPECT(write_one(full, STORE_SET, 1) == STATUS_OK);
    check(full);
    full_end(full);
}

/* Not a byte is left, and no reserve: every write is refused, nothing is lost, and the store
 * needs no restart. */
TEST_CASE(a_log_that_takes_nothing_costs_writes_and_not_the_store)
{
    struct store_options options = store_world_options();
    struct full_world *full = full_begin(&options);
    for (unsigned i = 0; i < 200; i++) EXPECT(write_one(full, STORE_SET, i) == STATUS_OK);
    work(full);
    for (unsigned i = 200; i < 240; i++) EXPECT(write_one(full, STORE_SET, i) == STATUS_OK);
    leave_room(full, 0);

    uint64_t overlays = full->world.store->overlays->arena.used_bytes;
    unsigned refused = 0;
    for (unsigned i = 0; i < 240; i++) {
        enum status set = write_one(full, i % 2 == 0 ? STORE_SET : STORE_REMOVE, i);
        EXPECT(set == STATUS_OK || set == STATUS_FULL);
        refused += set == STATUS_FULL;
        if (set == STATUS_FULL) EXPECT(write_one(full, STORE_REMOVE, i) == STATUS_FULL);
        if (i % 7 == 0) tick(full);
        if (i % 40 == 0) check(full);
        EXPECT(full->world.store->overlays->arena.used_bytes <= overlays + (i + 1) * 2048);
    }
    EXPECT(refused > 100);
    check(full);
    leave_room(full, 1 << 20);
    tick(full);
    for (unsigned i = 0; i < 240; i++) EXPECT(write_one(full, STORE_SET, i) == STATUS_OK);
    check(full);
    EXPECT(store_world_settle_down(&full->world) == STATUS_OK);
    EXPECT(store_world_restart(&full->world, SIM_DISK_POWER_LOSS) == STATUS_OK);
    check(full);
    full_end(full);
}

TEST_CASE(a_store_opens_on_a_full_disk)
{
    for (int with_reserve = 0; with_reserve < 2; with_reserve++) {
        struct store_options options = full_options();
        if (!with_reserve) options.reserve_bytes = options.low_water_bytes = 0;
        struct full_world *full = full_begin(&options);
        for (unsigned i = 0; i < 300; i++) EXPECT(write_one(full, STORE_SET, i) == STATUS_OK);
        work(full);
        for (unsigned i = 0; i < 20; i++) EXPECT(write_one(full, STORE_REMOVE, i) == STATUS_OK);
        uint64_t boots = manifest_state(full->world.store->manifest)->numbers[MANIFEST_BOOT_COUNT];

        for (int restart = 0; restart < 4; restart++) {
            store_world_close(&full->world);
            leave_room(full, 0);
            sim_disk_restart(full->world.disk,
                             restart % 2 == 0 ? SIM_DISK_KILLED : SIM_DISK_POWER_LOSS);
            leave_room(full, 0);
            EXPECT(store_world_open(&full->world) == STATUS_OK);
            check(full);
            if (with_reserve) EXPECT(store_can_write(full->world.store) == STATUS_FULL);
        }
        leave_room(full, 1 << 20);
        tick(full);
        EXPECT(write_one(full, STORE_SET, 5) == STATUS_OK);
        EXPECT(store_world_settle_down(&full->world) == STATUS_OK);
        check(full);
        /* The boot that the manifest had no room for was noted since. */
        EXPECT(manifest_state(full->world.store->manifest)->numbers[MANIFEST_BOOT_COUNT] > boots);
        full_end(full);
    }
}

/* A start between the low-water mark and room for the reserve takes puts without it, and fills it
 * once it can. */
TEST_CASE(a_reserve_that_a_start_had_no_room_for_is_filled_later)
{
    struct store_options options = full_options();
    struct full_world *full = full_begin(&options);
    EXPECT(write_one(full, STORE_SET, 0) == STATUS_OK);
    EXPECT(store_use_reserve(full->world.store));
    store_world_close(&full->world);
    leave_room(full, options.low_water_bytes + options.reserve_bytes / 2);
    sim_disk_restart(full->world.disk, SIM_DISK_KILLED);
    EXPECT(store_world_open(&full->world) == STATUS_OK);
    EXPECT(full->world.store->reserve_held == 0);
    EXPECT(write_one(full, STORE_SET, 1) == STATUS_OK);
    tick(full);
    EXPECT(full->world.store->reserve_held == 0);
    leave_room(full, 1 << 20);
    tick(full);
    EXPECT(full->world.store->reserve_held == options.reserve_bytes);
    EXPECT(write_one(full, STORE_SET, 2) == STATUS_OK);
    check(full);
    full_end(full);
}

/* Each operation of a start is refused once for want of room, without a reserve to help: it
 * starts all the same, or says so and starts the next time. */
TEST_CASE(a_start_that_is_refused_room_once_starts_then_or_next)
{
    struct store_options options = store_world_options();
    unsigned refused = 0, unnoted = 0;
    for (uint64_t point = 0;; point++) {
        struct full_world *full = full_begin(&options);
        for (unsigned i = 0; i < 40; i++) EXPECT(write_one(full, STORE_SET, i) == STATUS_OK);
        work(full);
        for (unsigned i = 0; i < 9; i++) EXPECT(write_one(full, STORE_REMOVE, i) == STATUS_OK);
        const struct manifest_state *state = manifest_state(full->world.store->manifest);
        uint64_t boots = state->numbers[MANIFEST_BOOT_COUNT];
        store_world_close(&full->world);
        sim_disk_restart(full->world.disk, SIM_DISK_POWER_LOSS);
        uint64_t before = sim_disk_operation_count(full->world.disk);
        sim_disk_fail_after(full->world.disk, point, STATUS_FULL);
        enum status status = store_world_open(&full->world);
        bool met = sim_disk_operation_count(full->world.disk) - before > point;
        sim_disk_fail_never(full->world.disk);
        EXPECT(status == STATUS_OK || status == STATUS_FULL || status == STATUS_IO);
        refused += status != STATUS_OK;
        if (status != STATUS_OK) EXPECT(store_world_open(&full->world) == STATUS_OK);
        check(full);

        /* What the manifest had no room for goes with its next edit. */
        bool owed = full->world.store->boot_unnoted;
        unnoted += owed;
        tick(full);
        EXPECT(store_world_settle_down(&full->world) == STATUS_OK);
        EXPECT(!full->world.store->boot_unnoted);
        state = manifest_state(full->world.store->manifest);
        EXPECT(state->numbers[MANIFEST_BOOT_COUNT] > boots);
        check(full);
        full_end(full);
        if (!met) break;
    }
    printf("%u starts refused, %u without their note\n", refused, unnoted);
    EXPECT(refused > 0 && unnoted > 0);
}

/* Any capacity from nothing to plenty, changing all the time, with crashes. */
TEST_CASE(a_disk_whose_room_comes_and_goes_loses_nothing_acknowledged)
{
    uint64_t refused = 0, taken = 0, opened_full = 0;
    for (uint64_t round = 0; round < 12; round++) {
        struct prng prng = {.state = test_seed + round};
        struct store_options options = full_options();
        if (round % 3 == 0) options.reserve_bytes = options.low_water_bytes = 0;
        struct full_world *full = full_begin(&options);
        for (unsigned step = 0; step < 1500; step++) {
            unsigned number = prng_below(&prng, 300);
            enum status status =
                write_one(full, prng_one_in(&prng, 3) ? STORE_REMOVE : STORE_SET, number);
            EXPECT(status == STATUS_OK || status == STATUS_FULL);
            refused += status == STATUS_FULL;
            taken += status == STATUS_OK;
            if (prng_one_in(&prng, 3)) tick(full);
            if (prng_one_in(&prng, 20)) work(full);
            if (prng_one_in(&prng, 30)) leave_room(full, prng_below(&prng, 200 << 10));
            if (prng_one_in(&prng, 60)) leave_room(full, prng_below(&prng, 2000));
            if (step % 100 == 99) check(full);
            if (step % 250 != 249) continue;
            store_world_close(&full->world);
            sim_disk_restart(full->world.disk, SIM_DISK_POWER_LOSS);
            EXPECT(store_world_open(&full->world) == STATUS_OK);
            opened_full += store_can_write(full->world.store) == STATUS_FULL;
            check(full);
        }
        leave_room(full, 1 << 20);
        tick(full);
        EXPECT(store_can_write(full->world.store) == STATUS_OK);
        EXPECT(store_world_settle_down(&full->world) == STATUS_OK);
        check(full);
        full_end(full);
    }
    printf("%llu writes taken, %llu refused, opened %llu times on a full disk\n",
           (unsigned long long)taken, (unsigned long long)refused, (unsigned long long)opened_full);
    EXPECT(refused > 0 && opened_full > 0);
}

TEST_MAIN(TEST(puts_stop_at_the_low_water_mark_and_go_on_above_it),
          TEST(with_the_reserve_removals_and_a_flush_go_on),
          TEST(a_log_that_takes_nothing_costs_writes_and_not_the_store),
          TEST(a_store_opens_on_a_full_disk),
          TEST(a_reserve_that_a_start_had_no_room_for_is_filled_later),
          TEST(a_start_that_is_refused_room_once_starts_then_or_next),
          TEST(a_disk_whose_room_comes_and_goes_loses_nothing_acknowledged))
