#include "cluster/split.h"

#include "base/prng.h"
#include "rangemap_make.h"
#include "test.h"

enum { KEYS_MAX = 4000, KEY_SIZE_MAX = 40, KEY_BYTES = 1000 };

/* Keys in a sorted array: what they are counted and selected from, and checked against. */
struct words {
    size_t count;
    struct slice keys[KEYS_MAX];
    uint8_t bytes[KEYS_MAX][KEY_SIZE_MAX];
};

static int compare_slices(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static void words_add(struct words *words, const void *key, size_t size)
{
    EXPECT(words->count < KEYS_MAX && size <= KEY_SIZE_MAX);
    memcpy(words->bytes[words->count], key, size);
    words->keys[words->count] = slice_of(words->bytes[words->count], size);
    words->count++;
}

/* In order, without repetitions unless `all`. */
static void words_sort(struct words *words, bool all)
{
    qsort(words->keys, words->count, sizeof words->keys[0], compare_slices);
    size_t kept = 0;
    for (size_t i = 0; i < words->count; i++) {
        if (!all && kept > 0 && slice_equal(words->keys[i], words->keys[kept - 1])) continue;
        words->keys[kept++] = words->keys[i];
    }
    words->count = kept;
}

static bool in_range(struct slice key, struct key_range range)
{
    return slice_compare(key, range.low) >= 0 &&
           (range.high.size == 0 || slice_compare(key, range.high) < 0);
}

static enum status words_count(void *context, struct key_range range, uint64_t *count)
{
    const struct words *words = context;
    *count = 0;
    for (size_t i = 0; i < words->count; i++) *count += in_range(words->keys[i], range);
    return STATUS_OK;
}

static enum status words_select(void *context, struct key_range range, uint64_t rank,
                                struct buf *key)
{
    const struct words *words = context;
    buf_clear(key);
    for (size_t i = 0; i < words->count; i++) {
        if (!in_range(words->keys[i], range)) continue;
        if (rank-- > 0) continue;
        buf_append_slice(key, words->keys[i]);
        return buf_status(key);
    }
    return STATUS_NOT_FOUND;
}

static struct split_keys keys_of(struct words *words)
{
    return (struct split_keys){words, words_count, words_select};
}

static const struct key_range all_keys = {SLICE_INITIALIZER("\x01"), {NULL, 0}};

/* Words that share much, in one or two namespaces. */
static void random_words(struct words *words, struct prng *prng)
{
    words->count = 0;
    size_t count = 2 + prng_below(prng, 300);
    uint32_t letters = 2 + prng_below(prng, 8);
    for (size_t i = 0; i < count; i++) {
        uint8_t key[KEY_SIZE_MAX] = "ns";
        size_t size = 2;
        key[1] = prng_one_in(prng, 5) ? 't' : 's';
        key[size++] = 0;
        if (!prng_one_in(prng, 4)) {
            memcpy(key + size, "https://", 8);
            size += 8;
        }
        uint32_t more = 1 + prng_below(prng, 12);
        for (uint32_t j = 0; j < more; j++)
            key[size++] = (uint8_t)('a' + prng_below(prng, letters));
        words_add(words, key, size);
    }
    words_sort(words, false);
}

/* The cut between two neighbours. */
static size_t cut_size(const struct words *words, size_t rank)
{
    return slice_common_prefix(words->keys[rank - 1], words->keys[rank]) + 1;
}

TEST_CASE(a_chain_of_single_children_is_skipped)
{
    static struct words words;
    struct prng prng = {.state = test_seed};
    words.count = 0;
    for (int i = 0; i < 900; i++) {
        char key[KEY_SIZE_MAX] = "default";
        int size = snprintf(key + 8, sizeof key - 8, "https://www.%c%06u",
                            (char)('a' + prng_below(&prng, 12)), prng_below(&prng, 1000000));
        words_add(&words, key, 8 + (size_t)size);
    }
    for (int i = 0; i < 100; i++) {
        char key[KEY_SIZE_MAX] = "default";
        int size = snprintf(key + 8, sizeof key - 8, "%c%u", (char)('a' + i % 26), i);
        words_add(&words, key, 8 + (size_t)size);
    }
    words_sort(&words, false);
    struct heap heap;
    struct buf cut;
    uint64_t before;
    heap_init(&heap, 0);
    buf_init(&cut, &heap);
    struct split_keys keys = keys_of(&words);
    EXPECT(split_find_cut(&keys, all_keys, &heap, &cut, &before) == STATUS_OK);
    EXPECT(slice_starts_with(buf_slice(&cut), slice_of("default\0https://www.", 20)));
    EXPECT(cut.size == 21);
    EXPECT(before * 100 >= 40 * words.count && before * 100 <= 60 * words.count);
    buf_deinit(&cut);
    EXPECT(heap_used_bytes(&heap) == 0);
}

static size_t distance(size_t a, size_t b)
{
    return a > b ? a - b : b - a;
}

static bool is_boundary(const struct words *words, size_t rank)
{
    return !slice_equal(words->keys[rank - 1], words->keys[rank]);
}

/* Against all boundaries, tried one by one. */
static void check_cut(struct words *words, enum status status, struct slice cut, uint64_t before)
{
    size_t total = words->count;
    size_t low = (total * 2 + 4) / 5;
    size_t high = total - low;
    if (low > high) low = high = total / 2;
    size_t inside = 0;
    size_t lesser = 0; /* Of the most even boundary. */
    for (size_t rank = 1; rank < total; rank++) {
        if (!is_boundary(words, rank)) continue;
        inside += rank >= low && rank <= high;
        size_t less = rank < total - rank ? rank : total - rank;
        if (less > lesser) lesser = less;
    }
    if (status == STATUS_NOT_FOUND) {
        EXPECT(inside == 0 && lesser * 100 < total * 15);
        return;
    }
    EXPECT(status == STATUS_OK && before > 0 && before < total);
    EXPECT(slice_compare(words->keys[before - 1], cut) < 0);
    EXPECT(slice_starts_with(words->keys[before], cut));
    EXPECT(cut.size == cut_size(words, before));
    EXPECT(inside == 0 || (before >= low && before <= high));
    EXPECT((before < total - before ? before : total - before) * 100 >= total * 15);
    for (size_t rank = low; rank <= high; rank++) {
        if (!is_boundary(words, rank)) continue;
        EXPECT(cut_size(words, rank) >= cut.size);
        if (cut_size(words, rank) > cut.size) continue;
        EXPECT(distance(2 * rank, total) >= distance(2 * before, total));
    }
}

TEST_CASE(a_cut_is_even_and_as_shallow_as_can_be)
{
    static struct words words;
    static struct words repeated;
    struct prng prng = {.state = test_seed};
    struct heap heap;
    struct buf cut;
    heap_init(&heap, 0);
    buf_init(&cut, &heap);
    for (int round = 0; round < 2000; round++) {
        random_words(&words, &prng);
        uint64_t before = 0;
        struct split_keys keys = keys_of(&words);
        enum status status = split_find_cut(&keys, all_keys, &heap, &cut, &before);
        check_cut(&words, status, buf_slice(&cut), before);

        /* As requests are: with repetitions, some of one word, or of the beginning of others. */
        repeated.count = 0;
        size_t hot = prng_below(&prng, (uint32_t)words.count);
        for (size_t i = 2 + prng_below(&prng, 60); i > 0; i--) {
            bool any = prng_one_in(&prng, 2);
            struct slice key = words.keys[any ? prng_below(&prng, (uint32_t)words.count) : hot];
            if (prng_one_in(&prng, 4)) key.size -= prng_below(&prng, (uint32_t)key.size - 2);
            words_add(&repeated, key.data, key.size);
        }
        words_sort(&repeated, true);
        keys = keys_of(&repeated);
        status = split_find_cut(&keys, all_keys, &heap, &cut, &before);
        check_cut(&repeated, status, buf_slice(&cut), before);
    }
    buf_deinit(&cut);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(a_query_gives_the_keys_by_rank)
{
    static struct words words;
    struct prng prng = {.state = test_seed};
    struct heap heap;
    struct memtrie trie;
    memtrie_root root = 0;
    struct query query = {.layer_count = 1, .now_ms = 1000, .settled_ms = 1000, .heap = &heap};
    heap_init(&heap, 0);
    EXPECT(memtrie_init(&trie, &heap, 1) == STATUS_OK);
    EXPECT(query_scratch_create(&heap, &query.scratch) == STATUS_OK);
    do {
        random_words(&words, &prng);
    } while (words.count < 100);
    for (size_t i = 0; i < words.count; i++) {
        struct record record = record_of_set((struct version){5, 1}, 1);
        EXPECT(memtrie_put(&trie, &root, words.keys[i], &record) == STATUS_OK);
    }
    struct layer layer = {.memtrie = &trie, .root = root};
    query.layers = &layer;

    struct buf cut, expected;
    buf_init(&cut, &heap);
    buf_init(&expected, &heap);
    struct key_range range = {words.keys[words.count / 8], words.keys[words.count / 8 * 7]};
    struct split_keys of_query = split_keys_of_query(&query);
    struct split_keys of_array = keys_of(&words);
    uint64_t before, expected_before;
    EXPECT(split_find_cut(&of_query, range, &heap, &cut, &before) == STATUS_OK);
    EXPECT(split_find_cut(&of_array, range, &heap, &expected, &expected_before) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&cut), buf_slice(&expected)) && before == expected_before);
    buf_deinit(&cut);
    buf_deinit(&expected);
    query_scratch_destroy(query.scratch);
    memtrie_deinit(&trie);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* --- Plans, carried out --- */

struct splits {
    struct maker maker;
    struct words *words; /* KEY_BYTES each. */
    struct words *requests;
    struct split_view views[512];
    struct split_limits limits;
    uint64_t request_load;
    uint32_t noise_percent;
    struct prng prng;
};

static void splits_init(struct splits *splits, const struct rangemap_settings *settings,
                        struct words *words)
{
    *splits = (struct splits){.words = words, .limits = {.load_max = 1000}, .prng = {test_seed}};
    maker_init(&splits->maker, settings);
}

static uint64_t noisy(struct splits *splits, uint64_t value)
{
    if (splits->noise_percent == 0) return value;
    uint64_t percent = 100 - splits->noise_percent +
                       prng_below(&splits->prng, 2 * splits->noise_percent + 1);
    return value * percent / 100;
}

static void look(struct splits *splits)
{
    const struct rangemap *map = splits->maker.map;
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        struct key_range range = {shard.low, shard.high};
        uint64_t count;
        EXPECT(i < 512);
        EXPECT(words_count(splits->words, range, &count) == STATUS_OK);
        splits->views[i] = (struct split_view){.known = true};
        splits->views[i].bytes = noisy(splits, count * KEY_BYTES);
        if (splits->requests == NULL) continue;
        EXPECT(words_count(splits->requests, range, &count) == STATUS_OK);
        splits->views[i].load = noisy(splits, count * splits->request_load);
    }
}

/* One version: false when nothing was to be done. */
static bool step(struct splits *splits)
{
    look(splits);
    struct split_input input = {
        .map = splits->maker.map,
        .views = splits->views,
        .limits = &splits->limits,
        .keys = keys_of(splits->words),
        .requests = splits->requests == NULL ? NULL : splits->requests->keys,
        .request_count = splits->requests == NULL ? 0 : splits->requests->count,
        .heap = &splits->maker.heap,
    };
    size_t count;
    EXPECT(split_plan(&input, &splits->maker.delta, &count) == STATUS_OK);
    if (count == 0) return false;
    EXPECT(maker_commit(&splits->maker) == STATUS_OK);
    return true;
}

static void settle(struct splits *splits, int rounds_max)
{
    int rounds = 0;
    while (step(splits)) EXPECT(++rounds < rounds_max);
}

static struct rangemap_settings small_settings(void)
{
    struct rangemap_settings settings = rangemap_settings_default;
    settings.shard_min_bytes = 20 * KEY_BYTES;
    settings.shard_split_bytes = 100 * KEY_BYTES;
    settings.k_factor = 0;
    return settings;
}

TEST_CASE(large_shards_are_cut_and_small_ones_merge_when_words_go)
{
    static struct words words;
    static struct splits splits;
    struct prng prng = {.state = test_seed};
    struct rangemap_settings settings = small_settings();
    words.count = 0;
    for (int i = 0; i < 3000; i++) {
        char key[KEY_SIZE_MAX];
        int size = snprintf(key, sizeof key, "n%chttps://%07u", 0, prng_below(&prng, 10000000));
        words_add(&words, key, (size_t)size);
    }
    words_sort(&words, false);
    splits_init(&splits, &settings, &words);
    settle(&splits, 4);
    look(&splits);
    size_t shards = rangemap_shard_count(splits.maker.map);
    EXPECT(shards >= 30 && shards < 80);
    for (size_t i = 0; i < shards; i++) EXPECT(splits.views[i].bytes <= 100 * KEY_BYTES);

    words.count = 15; /* Nearly all go. */
    settle(&splits, 4);
    EXPECT(rangemap_shard_count(splits.maker.map) == 1);
    maker_deinit(&splits.maker);
}

TEST_CASE(k_factor_cuts_down_to_prefixes_of_the_word)
{
    static struct words words;
    static struct splits splits;
    struct rangemap_settings settings = small_settings();
    settings.k_factor = 1;
    settings.shard_split_bytes = 10000 * KEY_BYTES;
    words.count = 0;
    const char *groups[] = {"a", "b", "c", "d"};
    size_t counts[] = {50, 5, 30, 100};
    for (size_t g = 0; g < 4; g++) {
        for (size_t i = 0; i < counts[g]; i++) {
            char key[KEY_SIZE_MAX];
            int size = snprintf(key, sizeof key, "ns%c%sword%03zu", 0, groups[g], i);
            words_add(&words, key, (size_t)size);
        }
    }
    for (size_t i = 0; i < 25; i++) { /* 01 stands for 00 and 01: the second byte belongs to it. */
        char key[KEY_SIZE_MAX];
        int size = snprintf(key, sizeof key, "nt%c\x01\x02word%03zu", 0, i);
        words_add(&words, key, (size_t)size);
        size = snprintf(key, sizeof key, "nt%c\x01\x01word%03zu", 0, i);
        words_add(&words, key, (size_t)size);
    }
    words_sort(&words, false);
    splits_init(&splits, &settings, &words);
    settle(&splits, 6);
    /* b is too small to be alone. */
    struct shard shard;
    const struct rangemap *map = splits.maker.map;
    static const struct slice lows[] = {SLICE_INITIALIZER(""), SLICE_INITIALIZER("ns\0c"),
                                        SLICE_INITIALIZER("ns\0d"), SLICE_INITIALIZER("nt"),
                                        SLICE_INITIALIZER("nt\0\x01\x02")};
    size_t count = rangemap_shard_count(map);
    for (size_t i = 0; i < count; i++) {
        shard = rangemap_shard(map, i);
        bool known = false;
        for (size_t j = 0; j < 5; j++) known = known || slice_equal(shard.low, lows[j]);
        known = known || slice_equal(shard.low, slice_of("ns\0b", 4));
        EXPECT(known);
    }
    EXPECT(count == 5);
    maker_deinit(&splits.maker);
}

/* 60 words, but all except five begin alike: no cut leaves shard_min_bytes on both sides. */
TEST_CASE(k_factor_leaves_no_crumbs)
{
    static struct words words;
    static struct splits splits;
    struct rangemap_settings settings = small_settings();
    settings.k_factor = 1;
    words.count = 0;
    for (size_t i = 0; i < 60; i++) {
        char key[KEY_SIZE_MAX];
        int size = snprintf(key, sizeof key, "ns%c%cword%03zu", 0, i < 5 ? 'a' : 'b', i);
        words_add(&words, key, (size_t)size);
    }
    words_sort(&words, false);
    splits_init(&splits, &settings, &words);
    EXPECT(!step(&splits));
    maker_deinit(&splits.maker);
}

TEST_CASE(a_hot_range_is_cut_where_its_requests_are)
{
    static struct words words, requests;
    static struct splits splits;
    struct rangemap_settings settings = small_settings();
    settings.shard_split_bytes = 10000 * KEY_BYTES;
    struct prng prng = {.state = test_seed};
    words.count = requests.count = 0;
    for (int i = 0; i < 1000; i++) {
        char key[KEY_SIZE_MAX];
        int size = snprintf(key, sizeof key, "n%cw%04d", 0, i);
        words_add(&words, key, (size_t)size);
    }
    words_sort(&words, false);
    for (int i = 0; i < 1000; i++) { /* Nine in ten go to a twentieth of the words. */
        size_t at = prng_one_in(&prng, 10) ? prng_below(&prng, 1000) : 500 + prng_below(&prng, 50);
        words_add(&requests, words.keys[at].data, words.keys[at].size);
    }
    words_sort(&requests, true);
    splits_init(&splits, &settings, &words);
    splits.requests = &requests;
    splits.request_load = 10; /* 10,000 in all, ten times what one shard may have. */
    settle(&splits, 8);
    look(&splits);
    size_t shards = rangemap_shard_count(splits.maker.map);
    EXPECT(shards >= 10 && shards <= 25);
    for (size_t i = 0; i < shards; i++) EXPECT(splits.views[i].load <= 1000);

    /* One key that is all the load: no cut helps. */
    for (size_t i = 0; i < requests.count; i++) requests.keys[i] = words.keys[700];
    settle(&splits, 20);
    EXPECT(rangemap_shard_count(splits.maker.map) < shards);
    maker_deinit(&splits.maker);
}

enum { CUTS_MAX = 1024 };

/* All cuts that there ever were. */
struct history {
    size_t count;
    struct {
        uint8_t bytes[KEY_SIZE_MAX];
        size_t size;
        bool there;
        size_t made; /* Times. */
    } cuts[CUTS_MAX];
};

static void note_cuts(struct history *history, const struct rangemap *map)
{
    for (size_t c = 0; c < history->count; c++) {
        struct slice cut = slice_of(history->cuts[c].bytes, history->cuts[c].size);
        struct shard shard = rangemap_shard(map, rangemap_find(map, cut));
        if (history->cuts[c].there) history->cuts[c].there = slice_equal(shard.low, cut);
    }
    for (size_t i = 1; i < rangemap_shard_count(map); i++) {
        struct slice low = rangemap_shard(map, i).low;
        size_t c = 0;
        while (c < history->count &&
               !slice_equal(low, slice_of(history->cuts[c].bytes, history->cuts[c].size))) {
            c++;
        }
        if (c == history->count) {
            EXPECT(history->count++ < CUTS_MAX && low.size <= KEY_SIZE_MAX);
            memcpy(history->cuts[c].bytes, low.data, low.size);
            history->cuts[c].size = low.size;
        }
        if (!history->cuts[c].there) history->cuts[c].made++;
        history->cuts[c].there = true;
    }
}

/* Property: whatever words and requests there are, a plan carried out leaves nothing to do after
 * some versions, and when figures tremble no cut is made a second time. */
TEST_CASE(nothing_oscillates)
{
    static struct words words;
    static struct words requests;
    static struct splits splits;
    static struct history history;
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 60; round++) {
        struct rangemap_settings settings = small_settings();
        settings.k_factor = (uint8_t)prng_below(&prng, 4);
        settings.shard_min_bytes = (2 + prng_below(&prng, 20)) * KEY_BYTES;
        settings.shard_split_bytes = settings.shard_min_bytes * (2 + prng_below(&prng, 4));
        random_words(&words, &prng);
        requests.count = 0;
        for (int i = 0; i < 200; i++) {
            struct slice key = words.keys[prng_below(&prng, (uint32_t)words.count)];
            if (prng_one_in(&prng, 2)) key = words.keys[words.count / 3];
            words_add(&requests, key.data, key.size);
        }
        words_sort(&requests, true);
        splits_init(&splits, &settings, &words);
        splits.requests = &requests;
        splits.request_load = 1 + prng_below(&prng, 100);
        settle(&splits, 20);
        splits.noise_percent = 10;
        memset(&history, 0, sizeof history);
        note_cuts(&history, splits.maker.map);
        for (int version = 0; version < 60; version++) {
            step(&splits);
            note_cuts(&history, splits.maker.map);
        }
        for (size_t c = 0; c < history.count; c++) EXPECT(history.cuts[c].made == 1);
        maker_deinit(&splits.maker);
    }
}

TEST_CASE(only_what_is_known_and_still_is_touched)
{
    static struct words words;
    static struct splits splits;
    struct rangemap_settings settings = small_settings();
    words.count = 0;
    for (int i = 0; i < 500; i++) {
        char key[KEY_SIZE_MAX];
        int size = snprintf(key, sizeof key, "n%cw%04d", 0, i);
        words_add(&words, key, (size_t)size);
    }
    splits_init(&splits, &settings, &words);
    splits.limits.split_after_ms = 1;
    EXPECT(!step(&splits));
    splits.limits.split_after_ms = 0;
    splits.limits.merge_after_ms = 1;
    settle(&splits, 5);
    size_t shards = rangemap_shard_count(splits.maker.map);
    EXPECT(shards > 4);
    words.count = 3;
    EXPECT(!step(&splits)); /* Small and cold, but not for long. */
    splits.limits.merge_after_ms = 0;

    /* One that moves stays, and so do its neighbours beside it. */
    maker_add_member(&splits.maker, 2, 0);
    struct shard shard = rangemap_shard(splits.maker.map, 1);
    struct change change = {
        .kind = CHANGE_BEGIN, .low = shard.low, .next_count = 2, .next = {1, 2}};
    rangemap_delta_add(&splits.maker.delta, &change);
    EXPECT(maker_commit(&splits.maker) == STATUS_OK);
    settle(&splits, 5);
    EXPECT(rangemap_shard_count(splits.maker.map) == 3);
    maker_deinit(&splits.maker);
}

TEST_MAIN(TEST(a_chain_of_single_children_is_skipped), TEST(a_cut_is_even_and_as_shallow_as_can_be),
          TEST(a_query_gives_the_keys_by_rank),
          TEST(large_shards_are_cut_and_small_ones_merge_when_words_go),
          TEST(k_factor_cuts_down_to_prefixes_of_the_word), TEST(k_factor_leaves_no_crumbs),
          TEST(a_hot_range_is_cut_where_its_requests_are), TEST(nothing_oscillates),
          TEST(only_what_is_known_and_still_is_touched))
