#include <pthread.h>
#include <stdatomic.h>

#include "memtrie_model.h"

enum { BATCH_COUNT = 300, BATCH_CHANGES = 40, READER_COUNT = 2 };

struct shared {
    struct memtrie trie;
    _Atomic memtrie_root root;
    _Atomic bool done;
};

/* Walks whatever root is the newest: the order of keys, the count and the sum must agree. */
static void *read_roots(void *context)
{
    struct shared *shared = context;
    struct heap heap;
    heap_init(&heap, 0);
    while (!atomic_load(&shared->done)) {
        memtrie_root root = atomic_load_explicit(&shared->root, memory_order_acquire);
        struct memtrie_totals totals = memtrie_totals(&shared->trie, root);
        struct memtrie_iterator iterator;
        memtrie_iterator_init(&iterator, &shared->trie, root, &heap);
        uint64_t count = 0;
        struct sum sum = {0};
        enum status status = memtrie_iterator_seek(&iterator, (struct slice){0});
        for (; status == STATUS_OK; status = memtrie_iterator_next(&iterator)) {
            count++;
            sum = sum_add(sum, record_hash(iterator.key, &iterator.record, model_seed));
        }
        if (count != totals.current_count || !sum_equal(sum, totals.sum)) abort();
        memtrie_iterator_deinit(&iterator);
    }
    return NULL;
}

/* Under ThreadSanitizer this shows that no block is written once a root reaches it. */
TEST_CASE(readers_see_whole_states_while_the_writer_goes_on)
{
    static struct shared shared;
    static struct random_record record;
    static uint8_t key_space[MEMTRIE_KEY_BYTES_MAX + 1];
    struct prng prng = {.state = test_seed};
    struct heap heap;
    heap_init(&heap, 0);
    EXPECT(memtrie_init(&shared.trie, &heap, model_seed) == STATUS_OK);

    pthread_t readers[READER_COUNT];
    for (int i = 0; i < READER_COUNT; i++)
        EXPECT(pthread_create(&readers[i], NULL, read_roots, &shared) == 0);
    memtrie_root root = 0;
    for (int batch = 0; batch < BATCH_COUNT; batch++) {
        memtrie_begin_batch(&shared.trie);
        for (int i = 0; i < BATCH_CHANGES; i++) {
            struct slice key = random_key(&prng, KEYS_WIDE, key_space);
            enum status status = STATUS_OK;
            if (prng_one_in(&prng, 3))
                status = memtrie_remove(&shared.trie, &root, key);
            else
                status = memtrie_put(&shared.trie, &root, key, random_record(&prng, &record));
            EXPECT(status == STATUS_OK || status == STATUS_NOT_FOUND);
        }
        atomic_store_explicit(&shared.root, root, memory_order_release);
    }
    atomic_store(&shared.done, true);
    for (int i = 0; i < READER_COUNT; i++) EXPECT(pthread_join(readers[i], NULL) == 0);
    memtrie_deinit(&shared.trie);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(readers_see_whole_states_while_the_writer_goes_on))
