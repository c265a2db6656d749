#include "shell/answer_cache.h"

#include "test.h"

enum { NAME_BYTES = 16 };

static struct slice target_of(unsigned number, char name[NAME_BYTES])
{
    return slice_of(name, (size_t)snprintf(name, NAME_BYTES, "q=%u", number));
}

static bool holds(const struct answer_cache *cache, unsigned number, uint64_t view)
{
    char name[NAME_BYTES];
    struct slice answer;
    return answer_cache_get(cache, target_of(number, name), view, &answer);
}

static void put(struct answer_cache *cache, unsigned number, uint64_t view, size_t size)
{
    char name[NAME_BYTES];
    static const uint8_t answer[ANSWER_CACHE_BYTES_MAX];
    answer_cache_put(cache, target_of(number, name), view, slice_of(answer, size));
}

TEST_CASE(an_answer_is_good_for_one_view)
{
    struct heap heap;
    struct answer_cache cache = {0};
    heap_init(&heap, 0);
    EXPECT(answer_cache_init(&cache, &heap, 1 << 20) == STATUS_OK);
    put(&cache, 1, 7, 100);
    EXPECT(holds(&cache, 1, 7));
    EXPECT(!holds(&cache, 1, 8));
    EXPECT(!holds(&cache, 2, 7));
    answer_cache_deinit(&cache);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* Answers of old views once kept all later ones out. */
TEST_CASE(what_is_new_finds_room)
{
    enum { BYTES_MAX = 64 << 10 };
    struct heap heap;
    struct answer_cache cache = {0};
    heap_init(&heap, 0);
    EXPECT(answer_cache_init(&cache, &heap, BYTES_MAX) == STATUS_OK);
    for (unsigned i = 0; i < 1000; i++) {
        put(&cache, i, 1 + i / 100, 10 + i * 7 % 2000);
        EXPECT(holds(&cache, i, 1 + i / 100));
        EXPECT(cache.bytes <= BYTES_MAX);
    }
    put(&cache, 1, 1, BYTES_MAX);
    answer_cache_deinit(&cache);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(without_memory_the_former_answer_stays)
{
    struct heap heap;
    struct answer_cache cache = {0};
    heap_init(&heap, 0);
    EXPECT(answer_cache_init(&cache, &heap, 1 << 20) == STATUS_OK);
    put(&cache, 1, 7, 100);
    atomic_store(&heap.failure_after, 0);
    put(&cache, 1, 8, 1000);
    EXPECT(holds(&cache, 1, 7));
    atomic_store(&heap.failure_after, -1);
    answer_cache_deinit(&cache);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(an_answer_is_good_for_one_view), TEST(what_is_new_finds_room),
          TEST(without_memory_the_former_answer_stays))
