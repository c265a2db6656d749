#include "core/pages.h"

#include <pthread.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "test.h"

enum { PAGE_COUNT = 130, SIZE = PAGES_BYTES * (PAGE_COUNT - 1) + 77 };

static uint8_t data[SIZE];
static uint8_t checksums[4 * PAGE_COUNT];
static struct heap heap;
static struct pages pages;

static void setup(void)
{
    for (size_t i = 0; i < SIZE; i++) data[i] = (uint8_t)(i * 31 + i / 4096);
    for (size_t i = 0; i < PAGE_COUNT; i++) {
        size_t size = i + 1 < PAGE_COUNT ? PAGES_BYTES : SIZE % PAGES_BYTES;
        store_u32le(checksums + 4 * i, crc32c(0, data + i * PAGES_BYTES, size));
    }
    heap_init(&heap, 0);
    EXPECT(pages_init(&pages, &heap, slice_of(data, SIZE), checksums) == STATUS_OK);
}

static void teardown(void)
{
    pages_deinit(&pages, &heap);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(whole_pages_may_be_read)
{
    setup();
    EXPECT(pages_count(&pages) == PAGE_COUNT);
    EXPECT(pages_touch(&pages, 0, SIZE) == STATUS_OK);
    for (size_t at = 0; at < SIZE; at += 1000)
        EXPECT(pages_touch(&pages, at, at + 5000 < SIZE ? 5000 : SIZE - at) == STATUS_OK);
    EXPECT(!atomic_load(&pages.damaged));
    teardown();
}

TEST_CASE(bytes_outside_are_refused)
{
    setup();
    EXPECT(pages_touch(&pages, SIZE, 0) == STATUS_OK);
    EXPECT(pages_touch(&pages, SIZE, 1) == STATUS_CORRUPT);
    EXPECT(pages_touch(&pages, SIZE - 1, 2) == STATUS_CORRUPT);
    EXPECT(pages_touch(&pages, 0, SIZE_MAX) == STATUS_CORRUPT);
    EXPECT(pages_touch(&pages, SIZE_MAX, 2) == STATUS_CORRUPT);
    EXPECT(!atomic_load(&pages.damaged)); /* A wrong offset is not a damaged page. */
    teardown();
}

TEST_CASE(a_damaged_page_is_refused_and_its_neighbours_are_not)
{
    setup();
    data[70 * PAGES_BYTES + 4095] ^= 1;
    EXPECT(pages_touch(&pages, 69 * PAGES_BYTES, PAGES_BYTES) == STATUS_OK);
    EXPECT(pages_touch(&pages, 71 * PAGES_BYTES, PAGES_BYTES) == STATUS_OK);
    EXPECT(!atomic_load(&pages.damaged));
    EXPECT(pages_touch(&pages, 71 * PAGES_BYTES - 1, 2) == STATUS_CORRUPT);
    EXPECT(atomic_load(&pages.damaged));
    EXPECT(pages_touch(&pages, 68 * PAGES_BYTES, 5 * PAGES_BYTES) == STATUS_CORRUPT);
    EXPECT(pages_touch(&pages, 70 * PAGES_BYTES, 1) == STATUS_CORRUPT);
    teardown();
}

TEST_CASE(verify_finds_damage_that_came_after_the_first_touch)
{
    setup();
    EXPECT(pages_touch(&pages, SIZE - 1, 1) == STATUS_OK);
    data[SIZE - 1] ^= 0x80;
    EXPECT(pages_touch(&pages, SIZE - 1, 1) == STATUS_OK);
    EXPECT(pages_verify(&pages, PAGE_COUNT - 1) == STATUS_CORRUPT);
    EXPECT(pages_verify(&pages, PAGE_COUNT - 2) == STATUS_OK);
    teardown();
}

static void *touch_all(void *context)
{
    size_t *failures = context;
    for (size_t at = 0; at + 3000 < SIZE; at += 3000)
        *failures += pages_touch(&pages, at, 3000) != STATUS_OK;
    return NULL;
}

TEST_CASE(readers_may_race_on_the_first_touch)
{
    setup();
    pthread_t threads[4];
    size_t failures[4] = {0};
    for (size_t i = 0; i < 4; i++)
        EXPECT(pthread_create(&threads[i], NULL, touch_all, &failures[i]) == 0);
    for (size_t i = 0; i < 4; i++) {
        EXPECT(pthread_join(threads[i], NULL) == 0);
        EXPECT(failures[i] == 0);
    }
    teardown();
}

TEST_MAIN(TEST(whole_pages_may_be_read), TEST(bytes_outside_are_refused),
          TEST(a_damaged_page_is_refused_and_its_neighbours_are_not),
          TEST(verify_finds_damage_that_came_after_the_first_touch),
          TEST(readers_may_race_on_the_first_touch))
