#include "memtrie_model.h"

struct fixture {
    struct prng prng;
    struct heap heap;
    struct memtrie trie;
    memtrie_root root;
    struct model model;
};

static void setup(struct fixture *fixture)
{
    *fixture = (struct fixture){.prng = {.state = test_seed}};
    heap_init(&fixture->heap, 0);
    EXPECT(memtrie_init(&fixture->trie, &fixture->heap, model_seed) == STATUS_OK);
}

static void teardown(struct fixture *fixture)
{
    memtrie_deinit(&fixture->trie);
    free(fixture->model.items);
    model_pool_free();
    EXPECT(heap_used_bytes(&fixture->heap) == 0);
}

static struct random_record record_space;
static uint8_t key_space[MEMTRIE_KEY_BYTES_MAX + 1], other_key_space[MEMTRIE_KEY_BYTES_MAX + 1];

/* One random change to both; a key of the model or a new one. On STATUS_NOMEM the model is
 * left alone too. */
static enum status change_at_random(struct fixture *fixture, enum key_shape shape,
                                    unsigned remove_odds)
{
    struct prng *prng = &fixture->prng;
    struct model *model = &fixture->model;
    struct slice key = random_key(prng, shape, key_space);
    if (model->count > 0 && prng_one_in(prng, 3))
        key = model->items[prng_below(prng, (uint32_t)model->count)]->key;
    size_t index = model_find(model, key);
    bool known = model_has(model, index, key);
    enum status status;

    /* What a writer does: it warms the ways to some keys, and looks for this one first. */
    if (prng_one_in(prng, 4)) {
        struct slice keys[MEMTRIE_WARM_COUNT_MAX] = {key, {0}};
        for (size_t i = 2; i < MEMTRIE_WARM_COUNT_MAX; i++)
            keys[i] = model->count == 0
                          ? key
                          : model->items[prng_below(prng, (uint32_t)model->count)]->key;
        memtrie_warm(&fixture->trie, fixture->root, keys, MEMTRIE_WARM_COUNT_MAX);
    }
    if (prng_one_in(prng, 2)) {
        struct record record;
        bool hidden;
        status = memtrie_seek(&fixture->trie, fixture->root, key, &record, &hidden);
        EXPECT(status == (known ? STATUS_OK : STATUS_NOT_FOUND));
        if (known) EXPECT(hidden == model->items[index]->hidden);
        if (known) EXPECT(record_equal(&record, &model->items[index]->record));
    }

    if (prng_one_in(prng, remove_odds)) {
        if (!known && model->count > 0 && !prng_one_in(prng, 10)) {
            index = prng_below(prng, (uint32_t)model->count);
            key = model->items[index]->key;
            known = true;
        }
        status = memtrie_remove(&fixture->trie, &fixture->root, key);
        if (status == STATUS_NOMEM) return status;
        EXPECT(status == (known ? STATUS_OK : STATUS_NOT_FOUND));
        if (known) model_remove(model, index);
    } else if (prng_one_in(prng, 6)) {
        status = memtrie_hide(&fixture->trie, &fixture->root, key);
        if (status == STATUS_NOMEM) return status;
        EXPECT(status == (known ? STATUS_OK : STATUS_NOT_FOUND));
        if (known) model_put(model, model_entry_make(key, &model->items[index]->record, true));
    } else {
        const struct record *record = random_record(prng, &record_space);
        status = memtrie_put(&fixture->trie, &fixture->root, key, record);
        if (status == STATUS_NOMEM) return status;
        EXPECT(status == STATUS_OK);
        model_put(model, model_entry_make(key, record, false));
    }
    return STATUS_OK;
}

static void check_some(struct fixture *fixture, memtrie_root root, const struct model *model,
                       enum key_shape shape)
{
    const struct memtrie *trie = &fixture->trie;
    struct prng *prng = &fixture->prng;
    check_all(trie, root, model, &fixture->heap);
    for (int i = 0; i < 6; i++) {
        struct slice low = random_key(prng, shape, key_space);
        struct slice high = random_key(prng, shape, other_key_space);
        if (model->count > 0 && i % 2 == 0) {
            low = model->items[prng_below(prng, (uint32_t)model->count)]->key;
            low = slice_prefix(low, prng_below(prng, (uint32_t)low.size + 1));
        }
        check_key(trie, root, model, &fixture->heap, low);
        check_range(trie, root, model, &fixture->heap, low, high);
        check_range(trie, root, model, &fixture->heap, low, (struct slice){0});
        check_select(trie, root, model, &fixture->heap,
                     prng_below(prng, 2 + (uint32_t)model->count));
    }
}

struct snapshot {
    uint64_t view;
    memtrie_root root;
    struct model model;
};

/* TEST_ROUNDS in the environment makes the random histories that many times as long. */
static int rounds(void)
{
    const char *text = getenv("TEST_ROUNDS");
    return text == NULL ? 1 : (int)strtol(text, NULL, 10);
}

/* Property: after random changes in batches every question gets the model's answer, and
 * so does every old root until it is reclaimed. */
static void run_against_model(enum key_shape shape, int steps, unsigned check_odds)
{
    enum { SNAPSHOT_COUNT = 4 };
    struct fixture fixture;
    setup(&fixture);
    struct snapshot snapshots[SNAPSHOT_COUNT] = {0};
    uint64_t view = 1;
    unsigned remove_odds = 4;
    for (int step = 0; step < steps * rounds(); step++) {
        if (step % 400 == 0) remove_odds = prng_one_in(&fixture.prng, 3) ? 2 : 8;
        EXPECT(change_at_random(&fixture, shape, remove_odds) == STATUS_OK);
        if (prng_one_in(&fixture.prng, check_odds))
            check_some(&fixture, fixture.root, &fixture.model, shape);
        if (!prng_one_in(&fixture.prng, 20)) continue;

        /* Publish; the oldest view goes. */
        struct snapshot *oldest = &snapshots[view % SNAPSHOT_COUNT];
        check_all(&fixture.trie, oldest->root, &oldest->model, &fixture.heap);
        free(oldest->model.items);
        *oldest = (struct snapshot){view, fixture.root, model_copy(&fixture.model)};
        memtrie_begin_batch(&fixture.trie);
        EXPECT(arena_seal(&fixture.trie.arena, view) == STATUS_OK);
        if (view >= SNAPSHOT_COUNT) arena_reclaim(&fixture.trie.arena, view - SNAPSHOT_COUNT);
        view++;
    }
    for (int i = 0; i < SNAPSHOT_COUNT; i++) {
        check_some(&fixture, snapshots[i].root, &snapshots[i].model, shape);
        free(snapshots[i].model.items);
    }

    memtrie_begin_batch(&fixture.trie);
    while (fixture.model.count > 0) {
        size_t index = prng_below(&fixture.prng, (uint32_t)fixture.model.count);
        struct slice key = fixture.model.items[index]->key;
        EXPECT(memtrie_remove(&fixture.trie, &fixture.root, key) == STATUS_OK);
        model_remove(&fixture.model, index);
    }
    EXPECT(fixture.root == 0);
    EXPECT(fixture.trie.arena.used_bytes == 0);
    EXPECT(arena_seal(&fixture.trie.arena, view) == STATUS_OK);
    arena_reclaim(&fixture.trie.arena, view);
    EXPECT(fixture.trie.arena.retired_bytes == 0);
    teardown(&fixture);
}

TEST_CASE(short_alphabets_agree_with_the_model)
{
    run_against_model(KEYS_BINARY_ALPHABET, 12000, 60);
}

TEST_CASE(keys_of_all_bytes_agree_with_the_model)
{
    run_against_model(KEYS_ALL_BYTES, 6000, 60);
}

TEST_CASE(shared_prefixes_agree_with_the_model)
{
    run_against_model(KEYS_SHARED_PREFIX, 6000, 60);
}

TEST_CASE(wide_nodes_agree_with_the_model)
{
    run_against_model(KEYS_WIDE, 12000, 120);
}

TEST_CASE(long_keys_agree_with_the_model)
{
    run_against_model(KEYS_LONG, 500, 60);
}

TEST_CASE(mixed_keys_agree_with_the_model)
{
    run_against_model(KEYS_MIXED, 3000, 100);
}

/* Whatever led to a content, it takes the same memory: nodes shrink and merge back. */
TEST_CASE(structure_depends_on_content_alone)
{
    struct fixture fixture;
    setup(&fixture);
    for (int round = 0; round < 3 * rounds(); round++) {
        for (int step = 0; step < 600; step++) {
            EXPECT(change_at_random(&fixture, KEYS_WIDE, 2 + (unsigned)round % 3) == STATUS_OK);
            if (step % 100 == 0) memtrie_begin_batch(&fixture.trie);
        }
        uint64_t used_bytes = fixture.trie.arena.used_bytes;
        memtrie_root fresh = 0;
        for (size_t i = 0; i < fixture.model.count; i++) {
            const struct model_entry *entry = fixture.model.items[i];
            EXPECT(memtrie_put(&fixture.trie, &fresh, entry->key, &entry->record) == STATUS_OK);
            if (entry->hidden) EXPECT(memtrie_hide(&fixture.trie, &fresh, entry->key) == STATUS_OK);
        }
        EXPECT(fixture.trie.arena.used_bytes == 2 * used_bytes);
        for (size_t i = 0; i < fixture.model.count; i++)
            EXPECT(memtrie_remove(&fixture.trie, &fresh, fixture.model.items[i]->key) == STATUS_OK);
        EXPECT(fixture.trie.arena.used_bytes == used_bytes);
    }
    teardown(&fixture);
}

TEST_CASE(a_prefix_is_covered_by_one_subtree)
{
    struct fixture fixture;
    setup(&fixture);
    for (int step = 0; step < 1500; step++)
        EXPECT(change_at_random(&fixture, KEYS_ALL_BYTES, 8) == STATUS_OK);

    struct buf end;
    buf_init(&end, &fixture.heap);
    for (int i = 0; i < 100 * rounds(); i++) {
        struct slice prefix = random_key(&fixture.prng, KEYS_ALL_BYTES, key_space);
        prefix.size = prng_below(&fixture.prng, (uint32_t)prefix.size + 1);
        EXPECT(key_prefix_end(prefix, &end) == STATUS_OK);
        size_t parts = check_range(&fixture.trie, fixture.root, &fixture.model, &fixture.heap,
                                   prefix, buf_slice(&end));
        uint64_t count = memtrie_count_prefix(&fixture.trie, fixture.root, prefix);
        EXPECT(parts == (count > 0));
    }
    buf_deinit(&end);
    teardown(&fixture);
}

/* Torture: each allocation of a change fails once; the tree is then as it was, also what
 * this very batch has made, and the same change succeeds afterwards. */
TEST_CASE(a_change_without_memory_changes_nothing)
{
    struct fixture fixture;
    setup(&fixture);
    uint64_t failures = 0;
    for (int step = 0; step < 300 * rounds(); step++) {
        /* Full, so that each block needs the heap, or nearly so. */
        struct prng before = fixture.prng;
        memtrie_root root = fixture.root;
        for (int64_t failure = 0;; failure++) {
            fixture.prng = before;
            uint64_t used_bytes = fixture.trie.arena.used_bytes;
            fixture.trie.arena.failure_after = failure;
            enum status status = change_at_random(&fixture, KEYS_MIXED, 4);
            fixture.trie.arena.failure_after = -1;
            if (status == STATUS_OK) break;
            EXPECT(status == STATUS_NOMEM && fixture.root == root);
            EXPECT(fixture.trie.arena.used_bytes == used_bytes);
            check_all(&fixture.trie, fixture.root, &fixture.model, &fixture.heap);
            failures++;
        }
        if (step % 7 == 0) memtrie_begin_batch(&fixture.trie);
        if (fixture.model.count > 60) {
            while (fixture.model.count > 5) {
                struct slice key = fixture.model.items[0]->key;
                EXPECT(memtrie_remove(&fixture.trie, &fixture.root, key) == STATUS_OK);
                model_remove(&fixture.model, 0);
            }
        }
    }
    EXPECT(failures > 300);
    check_all(&fixture.trie, fixture.root, &fixture.model, &fixture.heap);
    teardown(&fixture);
}

TEST_MAIN(TEST(short_alphabets_agree_with_the_model), TEST(keys_of_all_bytes_agree_with_the_model),
          TEST(shared_prefixes_agree_with_the_model), TEST(wide_nodes_agree_with_the_model),
          TEST(long_keys_agree_with_the_model), TEST(mixed_keys_agree_with_the_model),
          TEST(structure_depends_on_content_alone), TEST(a_prefix_is_covered_by_one_subtree),
          TEST(a_change_without_memory_changes_nothing))
