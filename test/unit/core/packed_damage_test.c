#include "core/packed.h"

#include "test.h"

#include <pthread.h>
#include <sys/mman.h>

#include "packed_ask.h"
#include "packed_model.h"

enum { SHAPE_ALL = MODEL_TOMBSTONES | MODEL_EXTRAS | MODEL_NODES };

static struct heap heap;
static struct buf file;

static void build(size_t count, unsigned shape)
{
    struct prng prng = {.state = test_seed + count};
    struct model model;
    heap_init(&heap, 0);
    buf_init(&file, &heap);
    model_init(&model, &heap, &prng, count, shape);
    EXPECT(model_build(&model, &file) == STATUS_OK);
    model_deinit(&model);
}

static void teardown(void)
{
    buf_deinit(&file);
    EXPECT(heap_used_bytes(&heap) == 0);
}

static uint64_t digest_of_file(void)
{
    uint64_t digest = 0;
    EXPECT(ask_file(buf_slice(&file), &heap, &digest) == STATUS_OK);
    return digest;
}

TEST_CASE(every_bit_flip_is_found_or_harmless)
{
    build(40, SHAPE_ALL);
    uint64_t want = digest_of_file();
    for (size_t bit = 0; bit < 8 * file.size; bit++) {
        uint64_t digest = 0;
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum status status = ask_file(buf_slice(&file), &heap, &digest);
        EXPECT(status == STATUS_CORRUPT || (status == STATUS_OK && digest == want));
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    teardown();
}

TEST_CASE(a_file_cut_anywhere_is_refused)
{
    build(40, SHAPE_ALL);
    size_t room = u64_align(file.size, PAGES_BYTES);
    uint8_t *map =
        mmap(NULL, room + PAGES_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(map != MAP_FAILED);
    EXPECT(mprotect(map + room, PAGES_BYTES, PROT_NONE) == 0);

    /* The input ends where the next byte must not be read. */
    for (size_t size = 0; size < file.size; size++) {
        struct packed *packed = NULL;
        memcpy(map + room - size, file.data, size);
        EXPECT(packed_open(&heap, slice_of(map + room - size, size), &packed) == STATUS_CORRUPT);
    }
    uint64_t digest = 0;
    memcpy(map + room - file.size, file.data, file.size);
    struct slice whole = slice_of(map + room - file.size, file.size);
    EXPECT(ask_file(whole, &heap, &digest) == STATUS_OK && digest == digest_of_file());
    EXPECT(munmap(map, room + PAGES_BYTES) == 0);
    teardown();
}

static struct packed_extent checksums_of_file(void)
{
    struct packed_footer footer;
    EXPECT(packed_footer_read(buf_slice(&file), &footer) == STATUS_OK);
    return footer.sections[PACKED_CHECKSUMS];
}

TEST_CASE(resealing_an_unchanged_file_changes_nothing)
{
    build(300, SHAPE_ALL);
    struct buf copy;
    buf_init(&copy, &heap);
    buf_append_slice(&copy, buf_slice(&file));
    ask_reseal(file.data, file.size, checksums_of_file());
    EXPECT(slice_equal(buf_slice(&copy), buf_slice(&file)));
    buf_deinit(&copy);
    teardown();
}

/* Wrong content under right checksums: any answer or STATUS_CORRUPT, but no crash, no hang. */
static void change_and_ask(struct prng *prng, struct slice original, struct packed_extent checksums)
{
    memcpy(file.data, original.data, original.size);
    uint32_t changes = 1 + prng_below(prng, 3);
    for (uint32_t i = 0; i < changes; i++) {
        size_t limit = file.size - PACKED_TAIL_BYTES;
        size_t at = prng_below(prng, (uint32_t)limit);
        /* The footer is small beside the rest, and every field of it matters. */
        if (prng_one_in(prng, 4)) at = limit - 1 - prng_below(prng, ASK_FOOTER_FIXED);
        file.data[at] = prng_one_in(prng, 3) ? 0xff : (uint8_t)prng_u32(prng);
    }
    ask_reseal(file.data, file.size, checksums);
    uint64_t digest = 0;
    enum status status = ask_file(buf_slice(&file), &heap, &digest);
    EXPECT(status == STATUS_OK || status == STATUS_CORRUPT);
}

TEST_CASE(wrong_content_under_right_checksums_is_survived)
{
    static const size_t counts[] = {1, 40, 700};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct prng prng = {.state = test_seed};
        build(counts[i], SHAPE_ALL);
        struct packed_extent checksums = checksums_of_file();
        struct buf original;
        buf_init(&original, &heap);
        buf_append_slice(&original, buf_slice(&file));
        for (int round = 0; round < 2000; round++)
            change_and_ask(&prng, buf_slice(&original), checksums);
        buf_deinit(&original);
        teardown();
    }
}

TEST_CASE(a_later_format_is_told_from_damage)
{
    build(10, 0);
    struct packed *packed = NULL;
    struct packed_extent checksums = checksums_of_file();
    uint8_t *tail = file.data + file.size - PACKED_TAIL_BYTES;
    store_u32le(tail + 8, 1); /* Optional: ignored. */
    ask_reseal(file.data, file.size, checksums);
    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_OK);
    packed_close(packed);

    store_u32le(tail + 4, 1); /* Required. */
    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_CORRUPT);
    ask_reseal(file.data, file.size, checksums);
    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_NEWER);
    teardown();
}

TEST_CASE(a_damaged_page_is_found_when_touched_and_by_the_scrubber)
{
    build(3000, 0);
    struct packed_footer footer;
    struct packed *packed = NULL;
    struct record record;
    EXPECT(packed_footer_read(buf_slice(&file), &footer) == STATUS_OK);
    struct packed_extent rows = footer.sections[PACKED_ROWS];
    uint64_t page = (rows.offset + rows.size) / PAGES_BYTES - 1;
    file.data[page * PAGES_BYTES + 100] ^= 4;

    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_OK);
    EXPECT(packed_record(packed, 0, &record) == STATUS_OK);
    EXPECT(!packed_is_damaged(packed));
    size_t refused = 0;
    for (uint64_t i = 0; i < 3000; i++)
        refused += packed_record(packed, i, &record) == STATUS_CORRUPT;
    EXPECT(refused > 0 && refused < 3000);
    EXPECT(packed_is_damaged(packed));
    packed_close(packed);

    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_OK);
    for (uint64_t i = 0; i < packed_page_count(packed); i++)
        EXPECT(packed_verify_page(packed, i) == (i == page ? STATUS_CORRUPT : STATUS_OK));
    EXPECT(packed_is_damaged(packed));
    packed_close(packed);
    teardown();
}

TEST_CASE(a_file_can_be_marked_damaged)
{
    build(10, 0);
    struct packed *packed = NULL;
    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_OK);
    packed_mark_damaged(packed);
    EXPECT(packed_is_damaged(packed));
    packed_close(packed);
    teardown();
}

/* Builds, opens and asks with the n-th allocation failing, for every n until all is well. */
TEST_CASE(every_allocation_may_fail)
{
    struct prng prng = {.state = test_seed};
    struct heap torture;
    struct model model;
    heap_init(&heap, 0);
    heap_init(&torture, 0);
    model_init(&model, &heap, &prng, 300, SHAPE_ALL);
    for (int64_t n = 0;; n++) {
        EXPECT(n < 100000);
        uint64_t digest = 0;
        buf_init(&file, &torture);
        model.heap = &torture;
        atomic_store(&torture.failure_after, n);
        enum status status = model_build(&model, &file);
        if (status == STATUS_OK) status = ask_file(buf_slice(&file), &torture, &digest);
        atomic_store(&torture.failure_after, -1);
        buf_deinit(&file);
        EXPECT(heap_used_bytes(&torture) == 0);
        if (status == STATUS_OK) break;
        EXPECT(status == STATUS_NOMEM);
    }
    model.heap = &heap;
    model_deinit(&model);
    EXPECT(heap_used_bytes(&heap) == 0);
}

struct asker {
    const struct packed *packed;
    uint64_t digest;
    enum status status;
};

static void *ask_in_thread(void *context)
{
    struct asker *asker = context;
    struct heap own;
    heap_init(&own, 0);
    asker->status = ask_all(asker->packed, &own, &asker->digest);
    return NULL;
}

TEST_CASE(threads_may_ask_at_once)
{
    enum { THREADS = 4 };
    build(2000, SHAPE_ALL);
    uint64_t want = digest_of_file();
    struct packed *packed = NULL;
    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_OK);
    pthread_t threads[THREADS];
    struct asker askers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        askers[i] = (struct asker){.packed = packed};
        EXPECT(pthread_create(&threads[i], NULL, ask_in_thread, &askers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        EXPECT(pthread_join(threads[i], NULL) == 0);
        EXPECT(askers[i].status == STATUS_OK && askers[i].digest == want);
    }
    packed_close(packed);
    teardown();
}

TEST_MAIN(TEST(every_bit_flip_is_found_or_harmless), TEST(a_file_cut_anywhere_is_refused),
          TEST(resealing_an_unchanged_file_changes_nothing),
          TEST(wrong_content_under_right_checksums_is_survived),
          TEST(a_later_format_is_told_from_damage),
          TEST(a_damaged_page_is_found_when_touched_and_by_the_scrubber),
          TEST(a_file_can_be_marked_damaged), TEST(every_allocation_may_fail),
          TEST(threads_may_ask_at_once))
