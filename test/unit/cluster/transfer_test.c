/* Transfers alone: one giver and one taker with files in memory, over a network that errs. */
#include "cluster/transfer.h"

#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "test.h"

enum { TAKER = 1, GIVER = 2, FILES_MAX = 8, MESSAGES_MAX = 256, FILE_PIECES = 20 };

/* What a side has under an id. */
struct file {
    uint64_t id;
    struct buf bytes;
};

struct side {
    struct world *world;
    node_id id;
    struct transfer transfer;
    struct file files[FILES_MAX];
    struct buf kept[2][2];
};

struct sent {
    node_id to;
    struct buf bytes;
};

struct world {
    struct heap heap;
    struct prng prng;
    uint64_t now_ms;
    struct side sides[3]; /* By id. */
    struct outbox outbox;
    struct sent messages[MESSAGES_MAX];
    size_t message_count;

    /* What the range holds: `part_count` files, each of so many bytes. */
    unsigned part_count, parts_made, ingested;
    size_t part_bytes;
    uint64_t here, there; /* Words. */
    bool given, taken;
    enum status export_status, write_status, ingest_status;
    bool exporting, writing, ingesting;
    uint64_t export_id, write_id, ingest_id;
    size_t pieces_most;
    size_t early_drops; /* DROP that waits for nothing. */
    enum transfer_outcome outcome;
    unsigned over_count;
};

static struct file *find_file(struct side *side, uint64_t id, bool make)
{
    for (size_t i = 0; i < FILES_MAX; i++)
        if (side->files[i].id == id) return &side->files[i];
    for (size_t i = 0; make && i < FILES_MAX; i++) {
        if (side->files[i].id != 0) continue;
        side->files[i] = (struct file){.id = id, .bytes = {.heap = &side->world->heap}};
        return &side->files[i];
    }
    return NULL;
}

static void fill_bytes(struct buf *bytes, uint64_t id, size_t size)
{
    struct prng prng = {.state = id};
    while (bytes->size < size) buf_append_u8(bytes, (uint8_t)prng_u32(&prng));
}

static enum status env_count(void *context, const struct key_range *range, uint64_t *count)
{
    struct side *side = context;
    (void)range;
    *count = side->id == TAKER ? side->world->here : side->world->there;
    return STATUS_OK;
}

static bool env_gives(void *context, node_id peer, const struct key_range *range)
{
    struct side *side = context;
    (void)range;
    return peer == TAKER && side->world->given;
}

static bool env_takes(void *context, node_id peer, const struct key_range *range)
{
    struct side *side = context;
    (void)range;
    return peer == GIVER && side->world->taken;
}

static enum status env_export(void *context, uint64_t id, const struct key_range *range,
                              uint64_t bytes_max)
{
    struct side *side = context;
    struct world *world = side->world;
    (void)range;
    EXPECT(bytes_max == TRANSFER_FILE_BYTES_AIM);
    if (world->exporting) return STATUS_BUSY;
    world->exporting = true;
    world->export_id = id;
    return STATUS_OK;
}

static enum status env_write(void *context, uint64_t id, uint64_t offset, struct slice bytes)
{
    struct side *side = context;
    struct world *world = side->world;
    if (world->writing || prng_one_in(&world->prng, 4)) return STATUS_BUSY;
    struct file *file = find_file(side, id, true);
    EXPECT(offset <= file->bytes.size);
    file->bytes.size = offset;
    buf_append_slice(&file->bytes, bytes);
    world->writing = true;
    world->write_id = id;
    return STATUS_OK;
}

static enum status env_ingest(void *context, uint64_t id, const struct key_range *range)
{
    struct side *side = context;
    struct world *world = side->world;
    (void)range;
    if (prng_one_in(&world->prng, 4)) return STATUS_BUSY;
    struct buf expected = {.heap = &world->heap};
    fill_bytes(&expected, id, world->part_bytes);
    EXPECT(slice_equal(buf_slice(&find_file(side, id, false)->bytes), buf_slice(&expected)));
    buf_deinit(&expected);
    world->ingesting = true;
    world->ingest_id = id;
    return STATUS_OK;
}

static enum status env_read(void *context, uint64_t id, uint64_t offset, size_t size,
                            struct buf *out)
{
    struct file *file = find_file(context, id, false);
    if (file == NULL) return STATUS_NOT_FOUND;
    EXPECT(offset + size <= file->bytes.size);
    buf_append(out, file->bytes.data + offset, size);
    return buf_status(out);
}

static void env_remove(void *context, uint64_t id)
{
    struct file *file = find_file(context, id, false);
    if (file == NULL) return;
    buf_deinit(&file->bytes);
    *file = (struct file){0};
}

static void env_keep(void *context, enum transfer_side of, size_t place, struct slice state)
{
    struct side *side = context;
    buf_clear(&side->kept[of][place]);
    buf_append_slice(&side->kept[of][place], state);
}

static void env_over(void *context, node_id peer, const struct key_range *range,
                     enum transfer_outcome outcome)
{
    struct side *side = context;
    EXPECT(side->id == TAKER && peer == GIVER);
    EXPECT(slice_equal(range->low, SLICE_LITERAL("a")));
    EXPECT(slice_equal(range->high, SLICE_LITERAL("q")));
    side->world->outcome = outcome;
    side->world->over_count++;
}

static void side_start(struct world *world, node_id id)
{
    struct side *side = &world->sides[id];
    struct transfer_env env = {
        .context = side,
        .heap = &world->heap,
        .first_id = prng_u64(&world->prng),
        .count = env_count,
        .gives = env_gives,
        .takes = env_takes,
        .export_range = env_export,
        .write = env_write,
        .ingest = env_ingest,
        .read = env_read,
        .remove = env_remove,
        .keep = env_keep,
        .over = env_over,
    };
    side->world = world;
    side->id = id;
    transfer_init(&side->transfer, &env);
}

static struct world *world_create(uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    heap_init(&world->heap, 0);
    world->prng.state = seed;
    world->part_count = 3;
    world->part_bytes = (size_t)FILE_PIECES * TRANSFER_PIECE_BYTES - 1000;
    world->there = 100000;
    world->given = world->taken = true;
    outbox_init(&world->outbox, &world->heap);
    for (node_id id = 1; id <= 2; id++) {
        for (int of = 0; of < 4; of++)
            buf_init(&world->sides[id].kept[of / 2][of % 2], &world->heap);
        side_start(world, id);
    }
    return world;
}

static void forget_messages(struct world *world)
{
    for (size_t i = 0; i < world->message_count; i++) buf_deinit(&world->messages[i].bytes);
    world->message_count = 0;
}

static unsigned file_count(const struct world *world)
{
    unsigned count = 0;
    for (node_id id = 1; id <= 2; id++)
        for (size_t i = 0; i < FILES_MAX; i++) count += world->sides[id].files[i].id != 0;
    return count;
}

static void world_destroy(struct world *world)
{
    for (node_id id = 1; id <= 2; id++) {
        transfer_deinit(&world->sides[id].transfer);
        for (int of = 0; of < 4; of++) buf_deinit(&world->sides[id].kept[of / 2][of % 2]);
        for (size_t i = 0; i < FILES_MAX; i++) buf_deinit(&world->sides[id].files[i].bytes);
    }
    forget_messages(world);
    outbox_deinit(&world->outbox);
    EXPECT(heap_used_bytes(&world->heap) == 0);
    free(world);
}

/* What was sent lies on its way; with `loss` one in so many is lost, and one comes twice. */
static void take_outbox(struct world *world, unsigned loss)
{
    for (size_t i = 0; i < world->outbox.count; i++) {
        bool drops = outbox_bytes(&world->outbox, i).data[1] == TRANSFER_DROP;
        world->early_drops += drops && !world->outbox.messages[i].durable;
        unsigned copies = loss == 0 || !prng_one_in(&world->prng, loss);
        copies += loss != 0 && prng_one_in(&world->prng, loss);
        for (; copies > 0 && world->message_count < MESSAGES_MAX; copies--) {
            struct sent *sent = &world->messages[world->message_count++];
            *sent = (struct sent){world->outbox.messages[i].to, {.heap = &world->heap}};
            buf_append_slice(&sent->bytes, outbox_bytes(&world->outbox, i));
        }
    }
    outbox_clear(&world->outbox);
}

static void complete(struct world *world)
{
    struct side *giver = &world->sides[GIVER], *taker = &world->sides[TAKER];
    if (world->exporting && prng_one_in(&world->prng, 3)) {
        bool last = world->parts_made + 1 >= world->part_count;
        world->exporting = false;
        if (world->export_status == STATUS_OK)
            fill_bytes(&find_file(giver, world->export_id, true)->bytes, world->export_id,
                       world->part_bytes);
        world->parts_made++;
        char end[2] = {(char)('a' + world->parts_made), 0};
        transfer_exported(&giver->transfer, world->export_id, world->export_status,
                          world->part_bytes, slice_of(end, last ? 0 : 1), world->now_ms,
                          &world->outbox);
    }
    if (world->writing && prng_one_in(&world->prng, 3)) {
        world->writing = false;
        transfer_written(&taker->transfer, world->write_id, world->write_status, world->now_ms,
                         &world->outbox);
    }
    if (world->ingesting && prng_one_in(&world->prng, 3)) {
        world->ingesting = false;
        world->ingested += world->ingest_status == STATUS_OK;
        transfer_ingested(&taker->transfer, world->ingest_id, world->ingest_status, world->now_ms,
                          &world->outbox);
    }
}

static size_t pieces_on_their_way(const struct world *world)
{
    size_t count = 0;
    for (size_t i = 0; i < world->message_count; i++) {
        uint8_t kind = world->messages[i].bytes.data[1];
        count += kind == TRANSFER_WANT || kind == TRANSFER_PIECE;
    }
    return count;
}

/* One thing happens: a message, any of those on their way, an outcome, or time. */
static void world_step(struct world *world, unsigned loss)
{
    complete(world);
    if (world->message_count > 0 && !prng_one_in(&world->prng, 8)) {
        size_t at = loss == 0 ? 0 : prng_below(&world->prng, (uint32_t)world->message_count);
        struct sent sent = world->messages[at];
        world->message_count--;
        memmove(&world->messages[at], &world->messages[at + 1],
                (world->message_count - at) * sizeof sent);
        EXPECT(transfer_receive(&world->sides[sent.to].transfer, sent.to == TAKER ? GIVER : TAKER,
                                slice_from(buf_slice(&sent.bytes), 1), world->now_ms,
                                &world->outbox) == STATUS_OK);
        buf_deinit(&sent.bytes);
    } else {
        world->now_ms += 20;
        for (node_id id = 1; id <= 2; id++)
            transfer_tick(&world->sides[id].transfer, world->now_ms, &world->outbox);
    }
    take_outbox(world, loss);
    if (pieces_on_their_way(world) > world->pieces_most)
        world->pieces_most = pieces_on_their_way(world);
}

static bool world_begin(struct world *world)
{
    struct key_range range = {SLICE_LITERAL("a"), SLICE_LITERAL("q")};
    bool begun =
        transfer_begin(&world->sides[TAKER].transfer, GIVER, &range, world->now_ms, &world->outbox);
    take_outbox(world, 0);
    return begun;
}

static void world_run(struct world *world, unsigned loss)
{
    for (int step = 0; world->over_count == 0; step++) {
        EXPECT(step < 100000);
        world_step(world, loss);
    }
}

TEST_CASE(a_range_moves_file_by_file_within_the_credit)
{
    struct world *world = world_create(test_seed);
    EXPECT(world_begin(world));
    EXPECT(transfer_takes(&world->sides[TAKER].transfer, SLICE_LITERAL("a")));
    EXPECT(!transfer_takes(&world->sides[TAKER].transfer, SLICE_LITERAL("q")));
    world_run(world, 0);
    EXPECT(world->outcome == TRANSFER_MOVED && world->ingested == 3 && world->parts_made == 3);
    EXPECT(world->pieces_most == TRANSFER_CREDIT);
    EXPECT(world->sides[TAKER].transfer.counts.taken_bytes == 3 * world->part_bytes);
    EXPECT(world->sides[GIVER].transfer.counts.given_files == 3);
    /* The giver's file goes only when it is noted durably that the taker's is whole. */
    EXPECT(world->early_drops == 0);
    EXPECT(world->sides[TAKER].kept[TRANSFER_TAKES][0].size == 0);
    EXPECT(file_count(world) == 0);
    world_destroy(world);
}

TEST_CASE(what_is_lost_doubled_or_late_is_asked_for_again)
{
    for (uint64_t round = 0; round < 5; round++) {
        struct world *world = world_create(test_seed + round);
        EXPECT(world_begin(world));
        world_run(world, 8);
        EXPECT(world->outcome == TRANSFER_MOVED && world->ingested == 3);
        const struct transfer_counts *counts = &world->sides[TAKER].transfer.counts;
        EXPECT(counts->taken_bytes == 3 * world->part_bytes && counts->again_count > 0);
        /* A file whose DROP was lost waits in vain. */
        for (int i = 0; i < 5000 && file_count(world) > 0; i++) {
            world->now_ms += 20;
            world_step(world, 0);
        }
        EXPECT(file_count(world) == 0);
        world_destroy(world);
    }
}

/* A process ends: what it kept, and its files, are there when it starts again. */
static void restart(struct world *world, node_id id)
{
    struct side *side = &world->sides[id];
    transfer_deinit(&side->transfer);
    side_start(world, id);
    if (id == TAKER) world->writing = world->ingesting = false;
    if (id == GIVER) world->exporting = false;
    for (int of = 0; of < 2; of++) {
        for (size_t place = 0; place < 2; place++) {
            struct slice state = buf_slice(&side->kept[of][place]);
            if (state.size == 0) continue;
            const struct file *file = find_file(side, transfer_state_id(state), false);
            EXPECT(transfer_restore(&side->transfer, (enum transfer_side)of, place, state,
                                    file == NULL ? 0 : file->bytes.size,
                                    world->now_ms) == STATUS_OK);
        }
    }
    for (size_t i = 0; i < FILES_MAX; i++) {
        uint64_t file = side->files[i].id;
        if (file != 0 && !transfer_knows(&side->transfer, file)) env_remove(side, file);
    }
}

TEST_CASE(a_start_goes_on_and_repeats_no_more_than_a_window)
{
    for (uint64_t round = 0; round < 30; round++) {
        struct world *world = world_create(test_seed + round);
        unsigned starts = 0;
        EXPECT(world_begin(world));
        uint64_t taken = 0;
        for (int step = 0; world->over_count == 0; step++) {
            EXPECT(step < 100000);
            world_step(world, 0);
            if (starts == 3 || !prng_one_in(&world->prng, 60)) continue;
            bool is_taker = prng_one_in(&world->prng, 2);
            /* A file in the making is made anew. */
            if (!is_taker && world->exporting) continue;
            if (is_taker) taken += world->sides[TAKER].transfer.counts.taken_bytes;
            restart(world, is_taker ? TAKER : GIVER);
            starts++;
        }
        taken += world->sides[TAKER].transfer.counts.taken_bytes;
        EXPECT(world->outcome == TRANSFER_MOVED && world->parts_made == 3);
        size_t window = (size_t)TRANSFER_WINDOW_PIECES * TRANSFER_PIECE_BYTES;
        EXPECT(taken >= 3 * world->part_bytes && taken <= 3 * world->part_bytes + starts * window);
        world_destroy(world);
    }
}

TEST_CASE(what_is_not_worth_it_or_goes_wrong_ends)
{
    for (int what = 0; what < 7; what++) {
        struct world *world = world_create(test_seed);
        enum transfer_outcome expected = TRANSFER_FAILED;
        if (what == 0) {
            world->there = world->here + TRANSFER_FEW_RECORDS - 1;
            expected = TRANSFER_NOT_WORTH;
        }
        if (what == 1) world->export_status = STATUS_FULL;
        if (what == 2) world->write_status = STATUS_FULL;
        if (what == 3) world->ingest_status = STATUS_CORRUPT;
        if (what == 4) world->given = false; /* It never has that map. */
        if (what == 5) world->taken = false;
        EXPECT(world_begin(world));
        if (what == 6) forget_messages(world); /* And nothing ever arrives. */
        for (int step = 0; world->over_count == 0; step++) {
            EXPECT(step < 100000);
            world_step(world, 0);
            if (what == 6) forget_messages(world);
        }
        EXPECT(world->outcome == expected && world->over_count == 1);
        for (int i = 0; i < 200; i++) world_step(world, 0);
        EXPECT(file_count(world) == 0);
        world_destroy(world);
    }
}

TEST_CASE(places_are_few_and_who_asks_anew_takes_its_own_again)
{
    struct world *world = world_create(test_seed);
    for (int i = 0; i < TRANSFER_TAKEN_MAX; i++) EXPECT(world_begin(world));
    EXPECT(!world_begin(world));
    transfer_deinit(&world->sides[TAKER].transfer); /* It forgets all. */
    for (int of = 0; of < 4; of++) buf_clear(&world->sides[TAKER].kept[of / 2][of % 2]);
    side_start(world, TAKER);
    EXPECT(world_begin(world));
    world_run(world, 0);
    EXPECT(world->outcome == TRANSFER_MOVED);
    world_destroy(world);
}

TEST_CASE(states_that_make_no_sense_are_not_taken)
{
    struct world *world = world_create(test_seed);
    EXPECT(world_begin(world));
    while (world->sides[TAKER].transfer.takings[0].written_bytes == 0) world_step(world, 0);
    struct buf state = {.heap = &world->heap};
    buf_append_slice(&state, buf_slice(&world->sides[TAKER].kept[TRANSFER_TAKES][0]));
    struct transfer *transfer = &world->sides[TAKER].transfer;
    for (size_t size = 0; size < state.size; size++)
        EXPECT(transfer_restore(transfer, TRANSFER_TAKES, 1, slice_of(state.data, size), 0, 0) ==
               STATUS_CORRUPT);
    EXPECT(transfer_restore(transfer, TRANSFER_TAKES, TRANSFER_TAKEN_MAX, buf_slice(&state), 0,
                            0) == STATUS_CORRUPT);
    EXPECT(transfer_restore(transfer, TRANSFER_GIVES, 0, buf_slice(&state), 1, 0) ==
           STATUS_CORRUPT);
    EXPECT(transfer_restore(transfer, TRANSFER_TAKES, 1, buf_slice(&state), 0, 0) == STATUS_OK);
    EXPECT(transfer->takings[1].written_bytes == 0); /* Its file is gone. */
    buf_deinit(&state);
    world_destroy(world);
}

TEST_MAIN(TEST(a_range_moves_file_by_file_within_the_credit),
          TEST(what_is_lost_doubled_or_late_is_asked_for_again),
          TEST(a_start_goes_on_and_repeats_no_more_than_a_window),
          TEST(what_is_not_worth_it_or_goes_wrong_ends),
          TEST(places_are_few_and_who_asks_anew_takes_its_own_again),
          TEST(states_that_make_no_sense_are_not_taken))
