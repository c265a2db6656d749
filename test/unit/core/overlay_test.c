#include "core/overlay.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/prng.h"
#include "packed_file.h"
#include "test.h"

enum { HASH_SEED = 99 };

/* What the overlay should know of each ordinal. */
struct model {
    struct packed_file file;
    struct overlay_space space;
    struct heap heap;
    uint64_t count;
    struct best *bests; /* As written; none for what is not present. */
    bool *dead, *hidden;
};

static bool model_live(const struct model *model, uint64_t ordinal)
{
    return !model->dead[ordinal] && !model->hidden[ordinal] && !best_is_none(model->bests[ordinal]);
}

static void model_init(struct model *model, uint64_t count, struct prng *prng)
{
    *model = (struct model){.count = count};
    heap_init(&model->heap, 0);
    model->bests = calloc(count, sizeof *model->bests);
    model->dead = calloc(count, sizeof *model->dead);
    model->hidden = calloc(count, sizeof *model->hidden);

    packed_file_begin(&model->file, &model->heap, HASH_SEED);
    for (uint64_t i = 0; i < count; i++) {
        char key[32];
        int size = snprintf(key, sizeof key, "key%08llu", (unsigned long long)i);
        struct version version = {1000 + prng_below(prng, 50), (uint16_t)prng_below(prng, 3)};
        struct record record = prng_one_in(prng, 10) ? record_of_tombstone(version)
                                                     : record_of_set(version, prng_below(prng, 20));
        packed_file_add(&model->file, slice_of(key, (size_t)size), &record);
        model->bests[i] = record_best(&record);
    }
    packed_file_finish(&model->file);
    EXPECT(overlay_space_init(&model->space, &model->heap) == STATUS_OK);
}

static void model_deinit(struct model *model)
{
    overlay_space_deinit(&model->space);
    packed_file_deinit(&model->file);
    free(model->bests);
    free(model->dead);
    free(model->hidden);
    EXPECT(heap_used_bytes(&model->heap) == 0);
}

static struct sum hash_at(const struct model *model, uint64_t ordinal)
{
    struct sum hash;
    EXPECT(packed_hash(model->file.packed, ordinal, &hash) == STATUS_OK);
    return hash;
}

static void check_range(const struct model *model, overlay_root root, uint64_t low, uint64_t high)
{
    uint64_t live = 0, count;
    struct sum sum = {0}, found;
    for (uint64_t i = low; i < high; i++) {
        live += model_live(model, i);
        if (!model->dead[i]) sum = sum_add(sum, hash_at(model, i));
    }
    EXPECT(overlay_live_count(&model->space, model->file.packed, root, low, high, &count) ==
           STATUS_OK);
    EXPECT(count == live);
    EXPECT(overlay_sum(&model->space, model->file.packed, root, low, high, &found) == STATUS_OK);
    EXPECT(sum_equal(found, sum));
}

static void check_neighbours(const struct model *model, overlay_root root, uint64_t from)
{
    const struct packed *packed = model->file.packed;
    uint64_t i, out;

    for (i = from; i < model->count && model->dead[i]; i++)
        ;
    enum status status = overlay_next_current(&model->space, packed, root, from, &out);
    EXPECT(status == (i < model->count ? STATUS_OK : STATUS_END));
    if (status == STATUS_OK) EXPECT(out == i);

    for (i = from; i < model->count && !model_live(model, i); i++)
        ;
    status = overlay_next_live(&model->space, packed, root, from, &out);
    EXPECT(status == (i < model->count ? STATUS_OK : STATUS_END));
    if (status == STATUS_OK) EXPECT(out == i);

    for (i = from; i > 0 && model->dead[i - 1]; i--)
        ;
    status = overlay_previous_current(&model->space, packed, root, from, &out);
    EXPECT(status == (i > 0 ? STATUS_OK : STATUS_END));
    if (status == STATUS_OK) EXPECT(out == i - 1);

    for (i = from; i > 0 && !model_live(model, i - 1); i--)
        ;
    status = overlay_previous_live(&model->space, packed, root, from, &out);
    EXPECT(status == (i > 0 ? STATUS_OK : STATUS_END));
    if (status == STATUS_OK) EXPECT(out == i - 1);
}

static void check_bests(const struct model *model, overlay_root root, struct prng *prng)
{
    const struct packed *packed = model->file.packed;
    struct best bests[OVERLAY_FAN_OUT], entries[PACKED_BLOCK];
    unsigned level_count = packed_info(packed)->level_count;

    unsigned level = prng_below(prng, level_count);
    uint64_t width = (uint64_t)PACKED_BLOCK << 4 * level;
    uint64_t first = prng_below(prng, (uint32_t)packed_best_count(packed, level));
    size_t count = 1 + prng_below(prng, OVERLAY_FAN_OUT);
    EXPECT(overlay_bests(&model->space, packed, root, level, first, count, bests) == STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        struct best best = {0};
        for (uint64_t o = (first + i) * width; o < (first + i + 1) * width && o < model->count; o++)
            if (model_live(model, o)) best = best_first(best, model->bests[o]);
        EXPECT(best_compare(best, bests[i]) == 0);
    }

    uint64_t block = prng_below(prng, (uint32_t)packed_best_count(packed, 0));
    EXPECT(overlay_block_bests(&model->space, packed, root, block, entries) == STATUS_OK);
    for (uint64_t i = 0; i < PACKED_BLOCK; i++) {
        uint64_t o = block * PACKED_BLOCK + i;
        struct best best = o < model->count && model_live(model, o) ? model->bests[o]
                                                                    : (struct best){0};
        EXPECT(best_compare(best, entries[i]) == 0);
    }
}

static void check_totals(const struct model *model, overlay_root root)
{
    struct overlay_totals totals;
    EXPECT(overlay_totals(&model->space, model->file.packed, root, &totals) == STATUS_OK);
    struct overlay_totals expected = {0};
    for (uint64_t i = 0; i < model->count; i++) {
        expected.dead_count += model->dead[i];
        expected.current_count += !model->dead[i];
        expected.hidden_count += !model->dead[i] && model->hidden[i];
        if (!model->dead[i]) expected.sum = sum_add(expected.sum, hash_at(model, i));
        if (!model_live(model, i)) continue;
        expected.live_count++;
        expected.best = best_first(expected.best, model->bests[i]);
    }
    EXPECT(totals.dead_count == expected.dead_count);
    EXPECT(totals.hidden_count == expected.hidden_count);
    EXPECT(totals.current_count == expected.current_count);
    EXPECT(totals.live_count == expected.live_count);
    EXPECT(best_compare(totals.best, expected.best) == 0);
    EXPECT(sum_equal(totals.sum, expected.sum));
}

static void check_select(const struct model *model, overlay_root root, struct prng *prng)
{
    uint64_t rank = prng_below(prng, (uint32_t)model->count + 1), seen = 0, out;
    enum status status = overlay_live_select(&model->space, model->file.packed, root, rank, &out);
    for (uint64_t i = 0; i < model->count; i++) {
        if (!model_live(model, i)) continue;
        if (seen++ < rank) continue;
        EXPECT(status == STATUS_OK);
        EXPECT(out == i);
        return;
    }
    EXPECT(status == STATUS_NOT_FOUND);
}

static void check_all(const struct model *model, overlay_root root, struct prng *prng)
{
    uint64_t low = prng_below(prng, (uint32_t)model->count + 1);
    uint64_t high = low + prng_below(prng, (uint32_t)(model->count - low) + 1);
    check_range(model, root, low, high);
    check_range(model, root, 0, model->count);
    check_neighbours(model, root, low);
    check_bests(model, root, prng);
    check_totals(model, root);
    check_select(model, root, prng);
    uint64_t ordinal = prng_below(prng, (uint32_t)model->count);
    enum overlay_state state = model->dead[ordinal]     ? OVERLAY_DEAD
                               : model->hidden[ordinal] ? OVERLAY_HIDDEN
                                                        : OVERLAY_CURRENT;
    EXPECT(overlay_state(&model->space, model->file.packed, root, ordinal) == state);
}

static void change(struct model *model, overlay_root *root, uint64_t ordinal, bool kill)
{
    if (kill) {
        EXPECT(overlay_kill(&model->space, model->file.packed, root, ordinal,
                            hash_at(model, ordinal)) == STATUS_OK);
        model->dead[ordinal] = true;
    } else {
        EXPECT(overlay_hide(&model->space, model->file.packed, root, ordinal) == STATUS_OK);
        if (!model->dead[ordinal] && !best_is_none(model->bests[ordinal]))
            model->hidden[ordinal] = true;
    }
}

static overlay_root recoded(struct model *model, overlay_root root)
{
    struct buf bytes = {.heap = &model->heap}, again = {.heap = &model->heap};
    overlay_root copy = 0;
    overlay_encode(&model->space, root, model->count, &bytes);
    EXPECT(buf_status(&bytes) == STATUS_OK);
    EXPECT(overlay_decode(&model->space, buf_slice(&bytes), model->count, &copy) == STATUS_OK);
    overlay_encode(&model->space, copy, model->count, &again);
    EXPECT(slice_equal(buf_slice(&bytes), buf_slice(&again)));
    buf_deinit(&bytes);
    buf_deinit(&again);
    return copy;
}

/* Model: random kills and hides in batches, single and in runs; every question is asked
 * after each batch, and now and then the tree goes on from its bytes. */
static void run_model(uint64_t count, int steps, struct prng *prng)
{
    struct model model;
    model_init(&model, count, prng);
    overlay_root root = 0;
    check_all(&model, root, prng);
    for (int step = 0; step < steps; step++) {
        overlay_begin_batch(&model.space);
        uint64_t first = prng_below(prng, (uint32_t)count);
        uint64_t size = prng_one_in(prng, 8) ? prng_below(prng, 700) : prng_below(prng, 4);
        bool kill = !prng_one_in(prng, 3);
        for (uint64_t i = first; i < first + size && i < count; i++) change(&model, &root, i, kill);
        check_all(&model, root, prng);
        if (prng_one_in(prng, 10)) {
            overlay_root copy = recoded(&model, root);
            check_all(&model, copy, prng);
            overlay_retire(&model.space, &root, count);
            root = copy;
        }
        EXPECT(arena_seal(&model.space.arena, (uint64_t)step) == STATUS_OK);
        if (step > 3) arena_reclaim(&model.space.arena, (uint64_t)step - 3);
    }
    overlay_retire(&model.space, &root, count);
    EXPECT(model.space.arena.used_bytes == 0);
    model_deinit(&model);
}

TEST_CASE(an_overlay_answers_like_a_list_of_states)
{
    struct prng prng = {.state = test_seed};
    static const uint64_t counts[] = {1, 31, 33, 511, 512, 513, 700, 3000, 8192, 8193, 9000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        run_model(counts[i], counts[i] < 1000 ? 60 : 40, &prng);
}

TEST_CASE(all_may_die)
{
    struct prng prng = {.state = test_seed};
    struct model model;
    model_init(&model, 9000, &prng);
    overlay_root root = 0;
    for (uint64_t i = 0; i < model.count; i++) change(&model, &root, i, true);
    check_all(&model, root, &prng);
    uint64_t out;
    EXPECT(overlay_next_current(&model.space, model.file.packed, root, 0, &out) == STATUS_END);
    EXPECT(overlay_previous_live(&model.space, model.file.packed, root, 9000, &out) == STATUS_END);
    check_all(&model, recoded(&model, root), &prng);
    model_deinit(&model);
}

/* A root keeps answering as it did while later batches change their own copies. */
TEST_CASE(a_published_root_never_changes)
{
    struct prng prng = {.state = test_seed};
    struct model model;
    model_init(&model, 9000, &prng);
    overlay_root root = 0;
    for (int i = 0; i < 500; i++)
        change(&model, &root, prng_below(&prng, 9000), prng_one_in(&prng, 2));

    struct buf before = {.heap = &model.heap}, after = {.heap = &model.heap};
    overlay_encode(&model.space, root, model.count, &before);
    overlay_root published = root;
    for (int batch = 0; batch < 50; batch++) {
        overlay_begin_batch(&model.space);
        for (int i = 0; i < 20; i++)
            change(&model, &root, prng_below(&prng, 9000), prng_one_in(&prng, 2));
    }
    overlay_encode(&model.space, published, model.count, &after);
    EXPECT(slice_equal(buf_slice(&before), buf_slice(&after)));
    check_all(&model, root, &prng);
    buf_deinit(&before);
    buf_deinit(&after);
    model_deinit(&model);
}

TEST_CASE(a_copy_in_another_space_says_the_same_and_lives_by_itself)
{
    struct prng prng = {.state = test_seed};
    struct model model;
    struct overlay_space own;
    overlay_root root = 0, copy;
    model_init(&model, 9000, &prng);
    EXPECT(overlay_copy(&model.space, root, model.count, &model.space, &copy) == STATUS_OK);
    EXPECT(copy == 0 && overlay_bytes(&model.space, copy, model.count) == 0);
    for (int i = 0; i < 700; i++)
        change(&model, &root, prng_below(&prng, 9000), prng_one_in(&prng, 2));
    EXPECT(overlay_bytes(&model.space, root, model.count) == model.space.arena.used_bytes);

    EXPECT(overlay_space_init(&own, &model.heap) == STATUS_OK);
    own.arena.failure_after = 3;
    EXPECT(overlay_copy(&model.space, root, model.count, &own, &copy) == STATUS_NOMEM);
    overlay_space_deinit(&own);
    EXPECT(overlay_space_init(&own, &model.heap) == STATUS_OK);
    EXPECT(overlay_copy(&model.space, root, model.count, &own, &copy) == STATUS_OK);
    EXPECT(own.arena.used_bytes == model.space.arena.used_bytes);
    overlay_space_deinit(&model.space);
    model.space = own;
    check_all(&model, copy, &prng);

    /* It is of the present batch: changing it copies nothing. */
    uint64_t used_bytes = model.space.arena.used_bytes;
    for (uint64_t i = 0; i < 9000; i++)
        if (model.dead[i]) change(&model, &copy, i ^ 1, true);
    EXPECT(model.space.arena.used_bytes == used_bytes);
    EXPECT(model.space.arena.retired_bytes == 0);
    check_all(&model, copy, &prng);
    model_deinit(&model);
}

/* After a batch that nobody saw everything is as before it, memory as well. */
TEST_CASE(a_dropped_batch_leaves_no_trace)
{
    struct prng prng = {.state = test_seed};
    struct model model;
    model_init(&model, 9000, &prng);
    struct arena *arena = &model.space.arena;
    overlay_root root = 0;
    for (int batch = 0; batch < 30; batch++) {
        overlay_begin_batch(&model.space);
        for (int i = 0; i < 10; i++)
            change(&model, &root, prng_below(&prng, 9000), prng_one_in(&prng, 2));
        EXPECT(arena_seal(arena, (uint64_t)batch) == STATUS_OK);

        uint64_t used = arena->used_bytes, retired = arena->retired_bytes;
        uint64_t retired_total = arena->retired_total;
        overlay_root tip = root;
        overlay_begin_batch(&model.space);
        for (int i = 0; i < 40; i++) {
            uint64_t ordinal = prng_below(&prng, 9000);
            EXPECT(overlay_kill(&model.space, model.file.packed, &tip, ordinal,
                                hash_at(&model, ordinal)) == STATUS_OK);
        }
        EXPECT(arena->retired_bytes > retired);
        overlay_drop(&model.space, tip, model.count);
        arena_unretire(arena, retired_total);
        EXPECT(arena->used_bytes == used);
        EXPECT(arena->retired_bytes == retired);
        check_all(&model, root, &prng);
        if (batch > 3) arena_reclaim(arena, (uint64_t)batch - 3);
    }
    overlay_retire(&model.space, &root, model.count);
    EXPECT(arena->used_bytes == 0);
    model_deinit(&model);
}

/* Without memory a change does nothing, also to a root of the same batch. */
TEST_CASE(no_memory_changes_nothing)
{
    struct prng prng = {.state = test_seed};
    struct model model;
    model_init(&model, 9000, &prng);
    overlay_root root = 0;
    int failures = 0;
    for (int step = 0; step < 30000; step++) {
        if (prng_one_in(&prng, 3)) overlay_begin_batch(&model.space);
        uint64_t ordinal = prng_below(&prng, 9000);
        struct sum hash = hash_at(&model, ordinal);
        model.heap.failure_after = 0;
        overlay_root before = root;
        enum status status = overlay_kill(&model.space, model.file.packed, &root, ordinal, hash);
        model.heap.failure_after = -1;
        if (status == STATUS_OK) {
            model.dead[ordinal] = true;
        } else {
            EXPECT(status == STATUS_NOMEM);
            EXPECT(root == before);
            if (failures++ % 64 == 0) check_all(&model, root, &prng);
            change(&model, &root, ordinal, true);
        }
    }
    EXPECT(failures > 0);
    check_all(&model, root, &prng);

    struct buf bytes = {.heap = &model.heap};
    overlay_encode(&model.space, root, model.count, &bytes);
    int64_t needed = 0;
    for (;; needed++) {
        struct overlay_space space;
        overlay_root copy = 0;
        EXPECT(overlay_space_init(&space, &model.heap) == STATUS_OK);
        model.heap.failure_after = needed;
        enum status status = overlay_decode(&space, buf_slice(&bytes), model.count, &copy);
        model.heap.failure_after = -1;
        EXPECT(status == STATUS_OK || status == STATUS_NOMEM);
        if (status == STATUS_NOMEM) EXPECT(space.arena.used_bytes == 0);
        overlay_space_deinit(&space);
        if (status == STATUS_OK) break;
    }
    buf_deinit(&bytes);
    model_deinit(&model);
}

/* The example of docs/format/overlay.md. */
TEST_CASE(bytes_are_as_written_down)
{
    static const uint8_t expected[] = {
        'T',  'r',  'O',  'v',  0x01, 0x28, 0x03, 0x00, /* Mask. */
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf0, 0xbf, /* Best of all. */
        0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x11, 0x11, 0x11,
        0x11, 0x11, 0x11, 0x11, 0x11, /* Dead sum. */
        0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x01, 0x00, 0x00, 0x00, 0x01,
        0x00, 0x00, 0x00, /* Block 0. */
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf0, 0xbf, 0x01, 0x01, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, /* Block 1. */
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf0, 0xbf, 0x20, 0x01, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x01, 0x00, 0xc0, 0xfa, 0x81, 0xb6, /* CRC-32C. */
    };
    struct heap heap;
    struct packed_file file;
    struct overlay_space space;
    overlay_root root = 0;
    heap_init(&heap, 0);
    packed_file_begin(&file, &heap, HASH_SEED);
    for (unsigned i = 0; i < 40; i++) {
        uint8_t key[] = {'w', (uint8_t)i};
        struct record record = record_of_set((struct version){0x100 + i, 1}, 1);
        packed_file_add(&file, slice_of(key, sizeof key), &record);
    }
    packed_file_finish(&file);
    EXPECT(overlay_space_init(&space, &heap) == STATUS_OK);
    struct sum hash = {UINT64_C(0x1111111111111111), UINT64_C(0x2222222222222222)};
    EXPECT(overlay_kill(&space, file.packed, &root, 0, hash) == STATUS_OK);
    EXPECT(overlay_hide(&space, file.packed, &root, 33) == STATUS_OK);

    struct buf bytes = {.heap = &heap};
    overlay_encode(&space, root, 40, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));
    buf_deinit(&bytes);
    overlay_space_deinit(&space);
    packed_file_deinit(&file);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* No flipped bit and no cut passes; with the checksum made right again nothing breaks. */
TEST_CASE(damaged_bytes_are_refused)
{
    struct prng prng = {.state = test_seed};
    struct model model;
    model_init(&model, 1000, &prng);
    overlay_root root = 0, copy = 0;
    for (int i = 0; i < 60; i++)
        change(&model, &root, prng_below(&prng, 600), prng_one_in(&prng, 2));

    struct buf bytes = {.heap = &model.heap};
    overlay_encode(&model.space, root, model.count, &bytes);
    uint64_t used = model.space.arena.used_bytes;
    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, bytes.data, size);
        EXPECT(overlay_decode(&model.space, slice_of(cut, size), model.count, &copy) ==
               STATUS_CORRUPT);
        free(cut);
    }
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT(overlay_decode(&model.space, buf_slice(&bytes), model.count, &copy) ==
               STATUS_CORRUPT);
        size_t body = bytes.size - 4;
        uint32_t crc = load_u32le(bytes.data + body);
        store_u32le(bytes.data + body, crc32c(0, bytes.data, body));
        if (overlay_decode(&model.space, buf_slice(&bytes), model.count, &copy) == STATUS_OK)
            overlay_retire(&model.space, &copy, model.count);
        store_u32le(bytes.data + body, crc);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT(model.space.arena.used_bytes == used);
    }
    EXPECT(overlay_decode(&model.space, buf_slice(&bytes), model.count + 1, &copy) ==
           STATUS_CORRUPT);
    EXPECT(copy == 0);
    buf_deinit(&bytes);
    model_deinit(&model);
}

TEST_MAIN(TEST(an_overlay_answers_like_a_list_of_states), TEST(all_may_die),
          TEST(a_published_root_never_changes),
          TEST(a_copy_in_another_space_says_the_same_and_lives_by_itself),
          TEST(a_dropped_batch_leaves_no_trace), TEST(no_memory_changes_nothing),
          TEST(bytes_are_as_written_down), TEST(damaged_bytes_are_refused))
