#include "core/front.h"

#include "base/prng.h"
#include "core/key.h"
#include "test.h"

#include "core/front_image.h"

/* --- The model: sorted strings --- */

struct set {
    struct slice *keys;
    size_t count;
};

static int compare_slices(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static void set_sort(struct set *set)
{
    qsort(set->keys, set->count, sizeof *set->keys, compare_slices);
    size_t to = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (to != 0 && slice_equal(set->keys[to - 1], set->keys[i])) {
            free((void *)(uintptr_t)set->keys[i].data);
            continue;
        }
        set->keys[to++] = set->keys[i];
    }
    set->count = to;
}

static void set_free(struct set *set)
{
    for (size_t i = 0; i < set->count; i++) free((void *)(uintptr_t)set->keys[i].data);
    free(set->keys);
}

/* How keys are made: `shared` bytes in common with all, then up to `tail` bytes below
 * `alphabet`, sometimes continuing the key before. */
struct recipe {
    size_t count;
    size_t shared;
    size_t tail;
    unsigned alphabet;
};

static struct set set_make(struct prng *prng, struct recipe recipe)
{
    struct set set = {calloc(recipe.count, sizeof(struct slice)), recipe.count};
    for (size_t i = 0; i < recipe.count; i++) {
        struct slice before = i == 0 ? (struct slice){NULL, 0} : set.keys[i - 1];
        size_t shared = recipe.shared;
        if (before.size > shared && prng_one_in(prng, 2))
            shared += prng_below(prng, (uint32_t)(before.size - shared) + 1);
        size_t size = shared + prng_below(prng, (uint32_t)recipe.tail + 1);
        size = size_min(size, KEY_BYTES_MAX);
        uint8_t *bytes = malloc(size + 1);
        for (size_t j = 0; j < size; j++) {
            uint8_t byte = (uint8_t)prng_below(prng, recipe.alphabet);
            if (j < recipe.shared)
                byte = (uint8_t)(j * 7);
            else if (j < shared && j < before.size)
                byte = before.data[j];
            bytes[j] = recipe.alphabet <= 26 && j >= recipe.shared && j >= shared
                           ? (uint8_t)('a' + byte)
                           : byte;
        }
        set.keys[i] = (struct slice){bytes, size};
    }
    set_sort(&set);
    return set;
}

static size_t model_rank(const struct set *set, struct slice key)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (slice_compare(set->keys[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t model_prefix_end(const struct set *set, struct slice prefix, size_t from)
{
    while (from < set->count && slice_starts_with(set->keys[from], prefix)) from++;
    return from;
}

/* --- Building --- */

static struct dictionary *dictionary_of(struct heap *heap, const struct set *set)
{
    struct dictionary_trainer *trainer;
    EXPECT(dictionary_trainer_create(heap, 1 << 20, &trainer) == STATUS_OK);
    for (size_t i = 0; i < set->count; i++) {
        enum status status = dictionary_trainer_add(trainer, set->keys[i], i % 200 == 0);
        if (status == STATUS_LIMIT) break;
        EXPECT(status == STATUS_OK);
    }
    struct dictionary *dictionary;
    EXPECT(dictionary_train(trainer, &dictionary) == STATUS_OK);
    dictionary_trainer_destroy(trainer);
    return dictionary;
}

static enum status image_build(struct heap *heap, const struct dictionary *dictionary,
                               const struct set *set, struct front_image *image)
{
    struct front_builder *builder;
    struct slice sections[FRONT_SECTION_COUNT];
    enum status status = front_builder_create(heap, dictionary, &builder);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < set->count && status == STATUS_OK; i++)
        status = front_builder_add(builder, set->keys[i]);
    if (status == STATUS_OK) status = front_builder_finish(builder, sections);
    if (status == STATUS_OK) front_image_init(image, sections);
    front_builder_destroy(builder);
    return status;
}

/* --- Properties --- */

static void expect_query(const struct front *front, const struct set *set, struct slice query)
{
    uint64_t ordinal, low, high;
    bool exact;
    size_t rank = model_rank(set, query);
    EXPECT(front_rank(front, query, &ordinal, &exact) == STATUS_OK);
    EXPECT(ordinal == rank);
    EXPECT(exact == (rank < set->count && slice_equal(set->keys[rank], query)));
    EXPECT(front_prefix(front, query, &low, &high) == STATUS_OK);
    EXPECT(low == rank);
    EXPECT(high == model_prefix_end(set, query, rank));
}

/* The key, its prefixes, and what lies directly around it. */
static void expect_neighbours(const struct front *front, const struct set *set, struct slice key,
                              struct prng *prng)
{
    static uint8_t bytes[KEY_BYTES_MAX + 1];
    expect_query(front, set, key);
    memcpy(bytes, key.data, key.size);
    bytes[key.size] = (uint8_t)prng_below(prng, 256);
    expect_query(front, set, (struct slice){bytes, key.size + 1});
    if (key.size == 0) return;

    size_t cut = prng_below(prng, (uint32_t)key.size);
    expect_query(front, set, slice_prefix(key, cut));
    expect_query(front, set, slice_prefix(key, key.size - 1));
    bytes[cut] ^= (uint8_t)(1 + prng_below(prng, 255));
    expect_query(front, set, (struct slice){bytes, cut + 1});
    expect_query(front, set, (struct slice){bytes, key.size});
    bytes[key.size - 1]++;
    expect_query(front, set, (struct slice){bytes, key.size});
}

static void expect_walks(struct heap *heap, const struct front *front, const struct set *set,
                         struct prng *prng)
{
    struct front_iterator *iterator;
    EXPECT(front_iterator_create(heap, front, &iterator) == STATUS_OK);
    EXPECT(front_iterator_seek(iterator, set->count) == STATUS_END);
    EXPECT(front_iterator_seek(iterator, 0) == STATUS_OK);
    for (size_t i = 0; i < set->count; i++) {
        EXPECT(front_iterator_ordinal(iterator) == i);
        EXPECT(slice_equal(front_iterator_key(iterator), set->keys[i]));
        EXPECT(front_iterator_next(iterator) == (i + 1 < set->count ? STATUS_OK : STATUS_END));
    }
    EXPECT(front_iterator_seek(iterator, set->count - 1) == STATUS_OK);
    for (size_t i = set->count; i-- > 0;) {
        EXPECT(slice_equal(front_iterator_key(iterator), set->keys[i]));
        EXPECT(front_iterator_previous(iterator) == (i > 0 ? STATUS_OK : STATUS_END));
    }
    size_t at = prng_below(prng, (uint32_t)set->count);
    EXPECT(front_iterator_seek(iterator, at) == STATUS_OK);
    for (size_t i = 0; i < 200; i++) {
        bool forward = at == 0 || prng_one_in(prng, 2);
        if (forward && at + 1 == set->count) break;
        at = forward ? at + 1 : at - 1;
        EXPECT((forward ? front_iterator_next(iterator) : front_iterator_previous(iterator)) ==
               STATUS_OK);
        EXPECT(front_iterator_ordinal(iterator) == at);
        EXPECT(slice_equal(front_iterator_key(iterator), set->keys[at]));
    }
    front_iterator_destroy(iterator);
}

/* Keys of ascending ordinals that are read together: neighbours, some of a block, few of many. */
static void expect_batches(struct heap *heap, const struct front *front, const struct set *set,
                           struct prng *prng)
{
    enum { BATCH_MAX = 70 };
    uint64_t ordinals[BATCH_MAX];
    size_t ends[BATCH_MAX];
    struct buf key, keys;
    buf_init(&key, heap);
    buf_init(&keys, heap);
    for (int round = 0; round < 200; round++) {
        uint32_t step_max = UINT32_C(1) << prng_below(prng, 12);
        uint64_t ordinal = prng_below(prng, (uint32_t)set->count);
        size_t count = 0, start = 0;
        for (; count < BATCH_MAX && ordinal < set->count; ordinal += 1 + prng_below(prng, step_max))
            ordinals[count++] = ordinal;
        buf_clear(&keys);
        EXPECT(front_keys(front, ordinals, count, &key, &keys, ends) == STATUS_OK);
        for (size_t i = 0; i < count; start = ends[i++])
            EXPECT(slice_equal(slice_prefix(slice_from(buf_slice(&keys), start), ends[i] - start),
                               set->keys[ordinals[i]]));
    }
    buf_deinit(&key);
    buf_deinit(&keys);
}

static void expect_everything(struct heap *heap, const struct front *front, const struct set *set,
                              struct prng *prng)
{
    struct buf key;
    buf_init(&key, heap);
    EXPECT(front_count(front) == set->count);
    expect_query(front, set, (struct slice){NULL, 0});
    for (size_t i = 0; i < set->count; i++) {
        front_prefetch(front, i);
        EXPECT(front_key(front, i, &key) == STATUS_OK);
        EXPECT(slice_equal(buf_slice(&key), set->keys[i]));
        expect_neighbours(front, set, set->keys[i], prng);
    }
    expect_walks(heap, front, set, prng);
    expect_batches(heap, front, set, prng);
    buf_deinit(&key);
}

static void expect_set(struct set *set, struct prng *prng)
{
    struct heap heap;
    struct front_image image;
    struct pages pages;
    struct front *front;
    heap_init(&heap, 0);
    struct dictionary *dictionary = dictionary_of(&heap, set);
    EXPECT(image_build(&heap, dictionary, set, &image) == STATUS_OK);
    EXPECT(pages_init(&pages, &heap, front_image_slice(&image), image.checksums) == STATUS_OK);
    EXPECT(front_open(&heap, &pages, image.sections, &front) == STATUS_OK);
    expect_everything(&heap, front, set, prng);
    front_close(front);
    pages_deinit(&pages, &heap);
    dictionary_destroy(dictionary);
    front_image_deinit(&image);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(random_sets_answer_like_a_sorted_array)
{
    static const struct recipe recipes[] = {
        {1, 0, 0, 2},           {1, 0, 5, 256},
        {2, 0, 1, 2},           {40, 0, 4, 2},
        {500, 0, 12, 2},        {3000, 0, 8, 4},
        {3000, 9, 10, 26},      {2000, 0, 6, 256},
        {2000, 0, 9, 2},        {300, 700, 30, 3},
        {300, 300, 300, 20},    {40, 0, KEY_BYTES_MAX, 4},
        {60, 20000, 4642, 256}, {70, KEY_BYTES_MAX - 3, 3, 256},
    };
    struct prng prng = {.state = test_seed};
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        struct set set = set_make(&prng, recipes[i]);
        expect_set(&set, &prng);
        set_free(&set);
    }
}

TEST_CASE(any_number_of_keys_fills_its_levels)
{
    static const size_t counts[] = {1,   31,  32,   33,   63,   64,   65,   511,  512,
                                    513, 992, 1023, 1024, 1025, 1056, 1057, 32769};
    struct prng prng = {.state = test_seed};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct set set = {calloc(counts[i], sizeof(struct slice)), counts[i]};
        for (size_t j = 0; j < counts[i]; j++) {
            uint8_t *bytes = malloc(12);
            int size = snprintf((char *)bytes, 12, "k%06zu", j * 3);
            set.keys[j] = (struct slice){bytes, (size_t)size};
        }
        expect_set(&set, &prng);
        set_free(&set);
    }
}

/* --- Damage and shortage --- */

/* What a damaged image answers is right or refused, for some keys all over it. */
static void expect_batch_right_or_refused(const struct front *front, const struct set *set,
                                          bool must_be_right, struct buf *key)
{
    enum { BATCH_MAX = 60 };
    uint64_t ordinals[BATCH_MAX];
    size_t ends[BATCH_MAX], count = 0, start = 0;
    struct buf keys;
    buf_init(&keys, key->heap);
    for (size_t i = 3; i < front_count(front) && i < set->count && count < BATCH_MAX; i += 7)
        ordinals[count++] = i;
    if (front_keys(front, ordinals, count, key, &keys, ends) == STATUS_OK)
        for (size_t i = 0; i < count; start = ends[i++])
            EXPECT(!must_be_right || slice_equal(slice_of(keys.data + start, ends[i] - start),
                                                 set->keys[ordinals[i]]));
    buf_deinit(&keys);
}

static void expect_right_or_refused(struct heap *heap, const struct front_image *image,
                                    const struct set *set, bool must_be_right)
{
    struct pages pages;
    struct front *front;
    struct buf key;
    buf_init(&key, heap);
    EXPECT(pages_init(&pages, heap, front_image_slice(image), image->checksums) == STATUS_OK);
    if (front_open(heap, &pages, image->sections, &front) == STATUS_OK) {
        for (size_t i = 0; i < set->count; i += 29) {
            uint64_t ordinal, low, high;
            bool exact;
            bool ranked = front_rank(front, set->keys[i], &ordinal, &exact) == STATUS_OK;
            if (ranked && must_be_right) EXPECT(exact && ordinal == i);
            bool found = front_prefix(front, set->keys[i], &low, &high) == STATUS_OK;
            if (found && must_be_right) EXPECT(low == i && high > low);
            if (i >= front_count(front)) break;
            bool read = front_key(front, i, &key) == STATUS_OK;
            if (read && must_be_right) EXPECT(slice_equal(buf_slice(&key), set->keys[i]));
        }
        expect_batch_right_or_refused(front, set, must_be_right, &key);
        front_close(front);
    }
    pages_deinit(&pages, heap);
    buf_deinit(&key);
}

TEST_CASE(every_bit_flip_is_survived_and_found_by_the_checksum)
{
    struct heap heap;
    struct front_image image;
    struct prng prng = {.state = test_seed};
    struct set set = set_make(&prng, (struct recipe){120, 5, 6, 20});
    heap_init(&heap, 0);
    struct dictionary *dictionary = dictionary_of(&heap, &set);
    EXPECT(image_build(&heap, dictionary, &set, &image) == STATUS_OK);
    for (size_t bit = 0; bit < image.size * 8; bit++) {
        image.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        expect_right_or_refused(&heap, &image, &set, true);
        front_image_seal(&image); /* Now the checksum hides the flip. */
        expect_right_or_refused(&heap, &image, &set, false);
        image.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        front_image_seal(&image);
    }
    expect_right_or_refused(&heap, &image, &set, true);
    dictionary_destroy(dictionary);
    front_image_deinit(&image);
    set_free(&set);
    EXPECT(heap_used_bytes(&heap) == 0);
}

static enum status train_build_open(struct heap *heap, const struct set *set)
{
    struct dictionary_trainer *trainer;
    struct dictionary *dictionary = NULL;
    struct front_image image;
    enum status status = dictionary_trainer_create(heap, 1 << 16, &trainer);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < set->count && status == STATUS_OK; i++)
        status = dictionary_trainer_add(trainer, set->keys[i], i == 0);
    if (status == STATUS_OK) status = dictionary_train(trainer, &dictionary);
    dictionary_trainer_destroy(trainer);
    if (status != STATUS_OK) return status;

    status = image_build(heap, dictionary, set, &image);
    dictionary_destroy(dictionary);
    if (status != STATUS_OK) return status;

    struct pages pages;
    struct front *front;
    status = pages_init(&pages, heap, front_image_slice(&image), image.checksums);
    if (status == STATUS_OK) {
        status = front_open(heap, &pages, image.sections, &front);
        if (status == STATUS_OK) front_close(front);
        pages_deinit(&pages, heap);
    }
    front_image_deinit(&image);
    return status;
}

TEST_CASE(any_allocation_may_fail)
{
    struct heap heap;
    struct prng prng = {.state = test_seed};
    struct set set = set_make(&prng, (struct recipe){1200, 0, 7, 10});
    enum status status = STATUS_NOMEM;
    heap_init(&heap, 0);
    for (int64_t after = 0; status != STATUS_OK; after++) {
        atomic_store(&heap.failure_after, after);
        status = train_build_open(&heap, &set);
        EXPECT(status == STATUS_OK || status == STATUS_NOMEM);
        EXPECT(heap_used_bytes(&heap) == 0);
    }
    set_free(&set);
}

/* The example of docs/format/front.md. */
TEST_CASE(the_worked_example_has_these_bytes)
{
    static const char *const texts[] = {"trial", "triathlon", "trie"};
    struct slice keys[3];
    for (int i = 0; i < 3; i++) keys[i] = slice_from_text(texts[i]);
    struct set set = {keys, 3};
    struct set nothing = {keys, 0};
    struct heap heap;
    struct front_image image;
    heap_init(&heap, 0);
    struct dictionary *dictionary = dictionary_of(&heap, &nothing);
    EXPECT(image_build(&heap, dictionary, &set, &image) == STATUS_OK);

    char hex[512];
    size_t size = 0;
    for (size_t i = 0; i < image.size; i++)
        size += (size_t)snprintf(hex + size, 4, "%02x", image.bytes[i]);
    static const char expected[] = "03000000000000000700000000000000" /* count, bytes of level 1 */
                                   "000000" /* dictionary: no headers, no listed symbols */
                                   "000000000000000000000000000000000000000000000000000000000000000"
                                   "000000000"      /* offsets of level 1 */
                                   "050075736a626d" /* level 1: "trial" whole */
                                   "000000000000000000000000000000000000000000000000000000000000000"
                                   "000000000" /* offsets of level 0 */
                                   "ffff040575696d706f030166" /* level 0 */;
    if (strcmp(hex, expected) != 0) fprintf(stderr, "%s\n", hex);
    EXPECT(strcmp(hex, expected) == 0);
    dictionary_destroy(dictionary);
    front_image_deinit(&image);
}

TEST_MAIN(TEST(random_sets_answer_like_a_sorted_array), TEST(any_number_of_keys_fills_its_levels),
          TEST(every_bit_flip_is_survived_and_found_by_the_checksum), TEST(any_allocation_may_fail),
          TEST(the_worked_example_has_these_bytes))
