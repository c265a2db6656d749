#include "core/packed.h"

#include "test.h"

#include "base/math.h"
#include "core/column_present.h"
#include "core/column_row.h"
#include "core/packed_format.h"
#include "packed_model.h"

static struct heap heap;
static struct model model;
static struct buf file;
static struct packed *packed;

static void setup(size_t count, unsigned shape)
{
    struct prng prng = {.state = test_seed * 1000003 + count * 31 + shape};
    heap_init(&heap, 0);
    model_init(&model, &heap, &prng, count, shape);
    buf_init(&file, &heap);
    EXPECT(model_build(&model, &file) == STATUS_OK);
    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_OK);
}

static void teardown(void)
{
    EXPECT(!packed_is_damaged(packed));
    packed_close(packed);
    buf_deinit(&file);
    model_deinit(&model);
    EXPECT(heap_used_bytes(&heap) == 0);
}

static bool best_equal(struct best a, struct best b)
{
    return best_compare(a, b) == 0;
}

/* --- One check for each group of functions, all against the model --- */

static void check_info(void)
{
    const struct packed_info *info = packed_info(packed);
    struct packed_info want = {.count = model.count, .file_bytes = file.size};
    for (size_t i = 0; i < model.count; i++) {
        const struct record *record = model_record(&model, i);
        want.tombstone_count += record->tombstone;
        want.present_count += record_is_present(record);
        want.key_bytes += model_key(&model, i).size;
        if (i == 0 || version_compare(record->version, want.oldest) < 0)
            want.oldest = record->version;
        if (version_compare(record->version, want.newest) > 0) want.newest = record->version;
        want.sum = sum_add(want.sum, record_hash(model_key(&model, i), record, MODEL_SEED));
        if (!record_is_present(record) || record->expires_at == 0) continue;
        if (want.expires_first == 0 || record->expires_at < want.expires_first)
            want.expires_first = record->expires_at;
    }
    EXPECT(info->count == want.count && info->file_bytes == want.file_bytes);
    EXPECT(info->tombstone_count == want.tombstone_count);
    EXPECT(info->present_count == want.present_count);
    EXPECT(info->key_bytes == want.key_bytes);
    EXPECT(info->expires_first == want.expires_first);
    EXPECT(version_equal(info->oldest, want.oldest) && version_equal(info->newest, want.newest));
    EXPECT(sum_equal(info->sum, want.sum));
    EXPECT(slice_equal(info->key_first, model_key(&model, 0)));
    EXPECT(slice_equal(info->key_last, model_key(&model, model.count - 1)));
}

static void check_records(void)
{
    for (size_t i = 0; i < model.count; i++) {
        struct record record;
        EXPECT(packed_record(packed, i, &record) == STATUS_OK);
        EXPECT(record_equal(&record, model_record(&model, i)));
        EXPECT(record_is_plain(&record) == record_is_plain(model_record(&model, i)));
    }
}

static void check_keys(struct prng *prng)
{
    struct buf key;
    buf_init(&key, &heap);
    size_t step = 1 + model.count / 2000;
    for (size_t i = 0; i < model.count; i += step) {
        struct slice want = model_key(&model, i);
        uint64_t ordinal = UINT64_MAX;
        bool exact = false;
        EXPECT(packed_key(packed, i, &key) == STATUS_OK);
        EXPECT(slice_equal(buf_slice(&key), want));
        packed_prefetch(packed, packed_key_hash(want));
        EXPECT(packed_find(packed, want, &ordinal) == STATUS_OK && ordinal == i);
        EXPECT(packed_rank(packed, want, &ordinal, &exact) == STATUS_OK && ordinal == i && exact);

        buf_append_u8(&key, (uint8_t)prng_u32(prng));
        bool known = i + 1 < model.count && slice_equal(buf_slice(&key), model_key(&model, i + 1));
        enum status status = packed_find(packed, buf_slice(&key), &ordinal);
        EXPECT(status == (known ? STATUS_OK : STATUS_NOT_FOUND));

        struct slice prefix = slice_prefix(want, prng_below(prng, (uint32_t)want.size + 1));
        uint64_t low = 0, high = 0;
        EXPECT(packed_prefix(packed, prefix, &low, &high) == STATUS_OK);
        EXPECT(low <= i && i < high && high <= model.count);
        EXPECT(low == 0 || !slice_starts_with(model_key(&model, low - 1), prefix));
        EXPECT(slice_starts_with(model_key(&model, low), prefix));
        EXPECT(slice_starts_with(model_key(&model, high - 1), prefix));
        EXPECT(high == model.count || !slice_starts_with(model_key(&model, high), prefix));
    }
    buf_deinit(&key);
}

static void check_presence(void)
{
    uint64_t present = 0, got = 0;
    for (size_t i = 0; i < model.count; i++) {
        EXPECT(packed_present_below(packed, i, &got) == STATUS_OK && got == present);
        if (!record_is_present(model_record(&model, i))) continue;
        EXPECT(packed_present_select(packed, present, &got) == STATUS_OK && got == i);
        present++;
    }
    EXPECT(packed_present_below(packed, model.count, &got) == STATUS_OK && got == present);
    EXPECT(packed_present_select(packed, present, &got) == STATUS_NOT_FOUND);
    EXPECT(packed_present_select(packed, UINT64_MAX, &got) == STATUS_NOT_FOUND);
}

static struct best model_best(uint64_t low, uint64_t high)
{
    struct best best = {0};
    for (uint64_t i = low; i < u64_min(high, model.count); i++)
        best = best_first(best, record_best(model_record(&model, i)));
    return best;
}

/* Checks that what was found of `count` bests are those that do not come after `last`. */
static void check_upto(const struct best *all, unsigned count, uint32_t among, struct best last,
                       const struct best *bests, uint32_t found)
{
    for (unsigned i = 0; i < count; i++) {
        bool wanted = among >> i & 1 && !best_is_none(all[i]) && best_compare(all[i], last) <= 0;
        EXPECT((found >> i & 1) == wanted);
        if (wanted) EXPECT(best_equal(bests[i], all[i]));
    }
}

/* A bound near the bests: none, one of them, or a little before or behind one of them. */
static struct best some_bound(struct prng *prng, const struct best *all, unsigned count)
{
    struct best last = all[prng_below(prng, count)];
    if (best_is_none(last) || prng_one_in(prng, 8)) return (struct best){0};
    if (prng_one_in(prng, 3)) last.score_order += prng_below(prng, 3) - 1;
    if (prng_one_in(prng, 3)) last.created_time += prng_below(prng, 3) - 1;
    if (prng_one_in(prng, 16)) last.score_order = prng_one_in(prng, 2) ? 1 : UINT64_MAX;
    return last;
}

static void check_bests_upto(struct prng *prng)
{
    struct best all[PACKED_BLOCK], bests[PACKED_BLOCK];
    uint32_t found;
    for (unsigned level = 0; level < packed_info(packed)->level_count; level++) {
        for (uint64_t first = 0; first < packed_best_count(packed, level); first += 16) {
            EXPECT(packed_bests(packed, level, first, PACKED_FAN_OUT, all) == STATUS_OK);
            struct best last = some_bound(prng, all, PACKED_FAN_OUT);
            EXPECT(packed_bests_upto(packed, level, first, last, bests, &found) == STATUS_OK);
            check_upto(all, PACKED_FAN_OUT, UINT32_MAX, last, bests, found);
        }
    }
    for (uint64_t block = 0; block < packed_best_count(packed, 0); block++) {
        EXPECT(packed_block_bests(packed, block, all) == STATUS_OK);
        struct best last = some_bound(prng, all, PACKED_BLOCK);
        uint32_t among = prng_one_in(prng, 2) ? UINT32_MAX : prng_below(prng, UINT32_MAX);
        EXPECT(packed_block_bests_upto(packed, block, among, last, bests, &found) == STATUS_OK);
        check_upto(all, PACKED_BLOCK, among, last, bests, found);
    }
}

static void check_bests(struct prng *prng)
{
    uint64_t unit = PACKED_BLOCK, count = 0;
    for (unsigned level = 0; level < packed_info(packed)->level_count; level++) {
        count = (model.count + unit - 1) / unit;
        EXPECT(packed_best_count(packed, level) == count);
        for (uint64_t first = 0; first < count; first += 1 + prng_below(prng, PACKED_FAN_OUT)) {
            struct best bests[PACKED_FAN_OUT];
            size_t size = 1 + prng_below(prng, PACKED_FAN_OUT);
            EXPECT(packed_bests(packed, level, first, size, bests) == STATUS_OK);
            for (uint64_t i = 0; i < size; i++) {
                struct best want = model_best((first + i) * unit, (first + i + 1) * unit);
                EXPECT(best_equal(bests[i], want));
            }
        }
        unit *= PACKED_FAN_OUT;
    }
    EXPECT(count <= PACKED_FAN_OUT);

    for (uint64_t block = 0; block < packed_best_count(packed, 0); block++) {
        struct best bests[PACKED_BLOCK];
        EXPECT(packed_block_bests(packed, block, bests) == STATUS_OK);
        for (uint64_t i = 0; i < PACKED_BLOCK; i++) {
            uint64_t ordinal = block * PACKED_BLOCK + i;
            EXPECT(best_equal(bests[i], model_best(ordinal, ordinal + 1)));
        }
    }
    check_bests_upto(prng);
}

static struct sum model_sum(uint64_t low, uint64_t high)
{
    struct sum sum = {0};
    for (uint64_t i = low; i < high; i++) {
        struct slice key = model_key(&model, i);
        sum = sum_add(sum, record_hash(key, model_record(&model, i), MODEL_SEED));
    }
    return sum;
}

static void check_sums(struct prng *prng)
{
    struct sum sum;
    for (int round = 0; round < 40; round++) {
        uint64_t low = prng_below(prng, (uint32_t)model.count + 1);
        uint64_t high = low + prng_below(prng, (uint32_t)(model.count - low) + 1);
        if (round % 2) high = u64_min(model.count, low + prng_below(prng, 70));
        EXPECT(packed_sum(packed, low, high, &sum) == STATUS_OK);
        EXPECT(sum_equal(sum, model_sum(low, high)));
        if (low == model.count) continue;
        EXPECT(packed_hash(packed, low, &sum) == STATUS_OK);
        EXPECT(sum_equal(sum, model_sum(low, low + 1)));
    }
    EXPECT(packed_sum(packed, 0, model.count, &sum) == STATUS_OK);
    EXPECT(sum_equal(sum, packed_info(packed)->sum));
}

static void check_tags(void)
{
    static const char *names[] = {"alpha", "beta", "gamma", "delta", "x", "", "alph", "zz"};
    for (size_t t = 0; t < 8; t++) {
        struct packed_postings postings = {0};
        struct slice tag = slice_from_text(names[t]);
        enum status status = packed_tag(packed, tag, &postings);
        uint64_t ordinal = 0, count = 0;
        for (size_t i = 0; i < model.count; i++) {
            const struct record *record = model_record(&model, i);
            if (!record_is_present(record) || !record_has_tag(record, tag)) continue;
            EXPECT(status == STATUS_OK);
            EXPECT(packed_postings_next(&postings, &ordinal) == STATUS_OK && ordinal == i);
            count++;
        }
        if (count == 0) {
            EXPECT(status == STATUS_NOT_FOUND);
            continue;
        }
        EXPECT(packed_postings_next(&postings, &ordinal) == STATUS_END);
        EXPECT(postings.count == count);
    }
}

static void check_expiry(struct prng *prng)
{
    for (int round = 0; round < 10; round++) {
        uint64_t after = prng_below(prng, 100000), upto = prng_below(prng, 120000);
        if (round == 0) after = 0, upto = UINT64_MAX;
        uint64_t first = 0, end = 0, count = 0, time_before = 0, ordinal_before = 0;
        EXPECT(packed_expiry_range(packed, after, upto, &first, &end) == STATUS_OK);
        for (size_t i = 0; i < model.count; i++) {
            const struct record *record = model_record(&model, i);
            count += record_is_present(record) && record->expires_at > after &&
                     record->expires_at <= upto;
        }
        EXPECT(end - first == count);
        for (uint64_t position = first; position < end; position++) {
            uint64_t time = 0, ordinal = 0;
            EXPECT(packed_expiry_at(packed, position, &time, &ordinal) == STATUS_OK);
            EXPECT(model_record(&model, ordinal)->expires_at == time);
            EXPECT(position == first || time > time_before ||
                   (time == time_before && ordinal > ordinal_before));
            time_before = time;
            ordinal_before = ordinal;
        }
    }
}

static void check_walks(struct prng *prng)
{
    struct packed_iterator iterator;
    EXPECT(packed_iterator_init(&iterator, packed, &heap) == STATUS_OK);
    EXPECT(packed_iterator_seek(&iterator, model.count) == STATUS_END);
    uint64_t at = 0;
    EXPECT(packed_iterator_seek(&iterator, 0) == STATUS_OK);
    for (;;) {
        EXPECT(iterator.ordinal == at);
        EXPECT(slice_equal(iterator.key, model_key(&model, at)));
        if (++at == model.count) break;
        EXPECT(packed_iterator_next(&iterator) == STATUS_OK);
    }
    EXPECT(packed_iterator_next(&iterator) == STATUS_END);

    at = prng_below(prng, (uint32_t)model.count);
    EXPECT(packed_iterator_seek(&iterator, at) == STATUS_OK);
    for (;; at--) {
        EXPECT(iterator.ordinal == at);
        EXPECT(slice_equal(iterator.key, model_key(&model, at)));
        if (at == 0) break;
        EXPECT(packed_iterator_previous(&iterator) == STATUS_OK);
    }
    EXPECT(packed_iterator_previous(&iterator) == STATUS_END);
    packed_iterator_deinit(&iterator);
}

static void check_pages(void)
{
    EXPECT(packed_page_count(packed) > 0);
    for (uint64_t page = 0; page < packed_page_count(packed); page++)
        EXPECT(packed_verify_page(packed, page) == STATUS_OK);
}

static void check_all(size_t count, unsigned shape)
{
    struct prng prng = {.state = test_seed + count};
    setup(count, shape);
    check_info();
    check_records();
    check_keys(&prng);
    check_presence();
    check_bests(&prng);
    check_sums(&prng);
    check_tags();
    check_expiry(&prng);
    check_walks(&prng);
    check_pages();
    teardown();
}

static const size_t sizes[] = {1, 2, 31, 32, 33, 127, 128, 129, 511, 512, 513, 1500};

TEST_CASE(plain_words_of_any_number_come_back)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_all(sizes[i], 0);
}

TEST_CASE(every_shape_of_record_comes_back)
{
    static const unsigned shapes[] = {
        MODEL_TOMBSTONES,
        MODEL_EXTRAS,
        MODEL_NODES,
        MODEL_OVERWRITTEN,
        MODEL_SCORES_EQUAL,
        MODEL_SCORES_WILD,
        MODEL_SCORES_SKEWED,
        MODEL_TIMES_WILD,
        MODEL_TOMBSTONES | MODEL_EXTRAS,
        MODEL_EXTRAS | MODEL_NODES | MODEL_TIMES_WILD,
        MODEL_TOMBSTONES | MODEL_EXTRAS | MODEL_NODES | MODEL_OVERWRITTEN | MODEL_SCORES_WILD,
        0xff & ~(unsigned)MODEL_SCORES_EQUAL,
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t j = 0; j < sizeof shapes / sizeof *shapes; j++) check_all(sizes[i], shapes[j]);
    }
}

TEST_CASE(many_words_come_back)
{
    check_all(20000, 0);
    check_all(20000, MODEL_TOMBSTONES | MODEL_EXTRAS | MODEL_NODES | MODEL_SCORES_SKEWED);
}

TEST_CASE(a_file_of_tombstones_alone_has_no_best)
{
    heap_init(&heap, 0);
    struct prng prng = {.state = test_seed};
    model_init(&model, &heap, &prng, 100, 0);
    for (size_t i = 0; i < model.count; i++)
        model.entries[i].record = record_of_tombstone(model.entries[i].record.version);
    buf_init(&file, &heap);
    EXPECT(model_build(&model, &file) == STATUS_OK);
    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_OK);
    check_info();
    check_records();
    check_presence();
    check_bests(&prng);
    teardown();
}

TEST_CASE(absent_keys_rarely_pass_the_filter)
{
    setup(20000, 0);
    struct prng prng = {.state = test_seed};
    for (int i = 0; i < 10000; i++) {
        uint8_t key[16];
        for (size_t j = 0; j < sizeof key; j++) key[j] = (uint8_t)prng_u32(&prng);
        uint64_t ordinal = 0;
        struct slice slice = slice_of(key, sizeof key);
        EXPECT(packed_find(packed, slice, &ordinal) == STATUS_NOT_FOUND);
    }
    teardown();
}

TEST_CASE(a_dictionary_is_taken_over_by_the_next_file)
{
    setup(700, MODEL_EXTRAS);
    struct dictionary *dictionary = NULL;
    EXPECT(packed_dictionary(packed, &heap, &dictionary) == STATUS_OK);

    struct packed_builder *builder = NULL;
    EXPECT(packed_builder_create(&heap, dictionary, MODEL_SEED, &builder) == STATUS_OK);
    for (size_t i = 0; i < model.count; i++) {
        EXPECT(packed_builder_count(builder) == i);
        EXPECT(packed_builder_add(builder, model_key(&model, i), model_record(&model, i)) ==
               STATUS_OK);
    }
    uint64_t estimate = packed_builder_size_bytes(builder);
    struct buf again;
    buf_init(&again, &heap);
    struct packed_sink sink = {model_write, &again};
    EXPECT(packed_builder_finish(builder, &sink) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&again), buf_slice(&file)));
    EXPECT(estimate > again.size / 2 && estimate < again.size * 2);

    packed_builder_destroy(builder);
    dictionary_destroy(dictionary);
    buf_deinit(&again);
    teardown();
}

static enum status refuse(void *context, const void *data, size_t size)
{
    int *left = context;
    return (*left)-- > 0 ? STATUS_OK : STATUS_FULL;
}

TEST_CASE(an_error_of_the_sink_ends_the_build)
{
    struct prng prng = {.state = test_seed};
    heap_init(&heap, 0);
    model_init(&model, &heap, &prng, 100, MODEL_EXTRAS);
    struct dictionary *dictionary = NULL;
    EXPECT(model_dictionary(&model, &dictionary) == STATUS_OK);
    for (int writes = 0;; writes++) {
        struct packed_builder *builder = NULL;
        EXPECT(packed_builder_create(&heap, dictionary, MODEL_SEED, &builder) == STATUS_OK);
        for (size_t i = 0; i < model.count; i++)
            EXPECT(packed_builder_add(builder, model_key(&model, i), model_record(&model, i)) ==
                   STATUS_OK);
        int left = writes;
        struct packed_sink sink = {refuse, &left};
        enum status status = packed_builder_finish(builder, &sink);
        packed_builder_destroy(builder);
        if (status == STATUS_OK) break;
        EXPECT(status == STATUS_FULL);
        EXPECT(writes < 100);
    }
    dictionary_destroy(dictionary);
    model_deinit(&model);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* The three words of docs/format/packed.md, built with the dictionary of an empty sample. */
static void build_example(void)
{
    const hlc_time time = UINT64_C(1767225600000) << HLC_COUNTER_BITS;
    struct record records[3] = {
        record_of_set((struct version){time, 3}, 5),
        record_of_set((struct version){time + 1, 3}, 12),
        record_of_tombstone((struct version){time + 2, 3}),
    };
    records[1].created.time = time - (UINT64_C(86400000) << HLC_COUNTER_BITS);
    static const char *const words[] = {"trial", "triathlon", "trie"};

    struct dictionary_trainer *trainer = NULL;
    struct dictionary *dictionary = NULL;
    struct packed_builder *builder = NULL;
    EXPECT(dictionary_trainer_create(&heap, 1, &trainer) == STATUS_OK);
    EXPECT(dictionary_train(trainer, &dictionary) == STATUS_OK);
    EXPECT(packed_builder_create(&heap, dictionary, MODEL_SEED, &builder) == STATUS_OK);
    for (size_t i = 0; i < 3; i++)
        EXPECT(packed_builder_add(builder, slice_from_text(words[i]), &records[i]) == STATUS_OK);
    struct packed_sink sink = {model_write, &file};
    EXPECT(packed_builder_finish(builder, &sink) == STATUS_OK);
    packed_builder_destroy(builder);
    dictionary_destroy(dictionary);
    dictionary_trainer_destroy(trainer);
}

static bool section_is(const struct packed_footer *footer, enum packed_section index,
                       const void *bytes, size_t size)
{
    struct packed_extent extent = footer->sections[index];
    return slice_equal(slice_of(file.data + extent.offset, (size_t)extent.size),
                       slice_of(bytes, size));
}

TEST_CASE(the_example_of_the_format_page_is_what_is_written)
{
    static const uint8_t header[] = {'p', 'a', 'k', 't', 'r', 'i', 'e', '1',
                                     0,   0,   0,   0,   0,   0,   0,   0};
    static const uint8_t nodes[] = {3, 0};
    static const uint8_t bests[] = {1};
    static const uint8_t present[PRESENT_GROUP_BYTES] = {[8] = 4};
    static const uint8_t directory[ROW_GROUP_BYTES] = {0};
    static const uint8_t rows[] = {0x0a, 0x0a, 0, 2, 3,    1,    2,    0x3f, 0x82, 0,
                                   0,    0x24, 0, 0, 0,    0,    0,    0,    0,    2,
                                   0,    0,    0, 2, 0x80, 0xb8, 0x99, 0x29, 0};
    heap_init(&heap, 0);
    buf_init(&file, &heap);
    build_example();

    struct packed_footer footer;
    EXPECT(packed_footer_read(buf_slice(&file), &footer) == STATUS_OK);
    EXPECT(file.size == 1265);
    EXPECT(memcmp(file.data, header, sizeof header) == 0);
    EXPECT(section_is(&footer, PACKED_NODES, nodes, sizeof nodes));
    EXPECT(section_is(&footer, PACKED_PRESENT, present, sizeof present));
    EXPECT(section_is(&footer, PACKED_DIRECTORY, directory, sizeof directory));
    EXPECT(section_is(&footer, PACKED_BESTS, bests, sizeof bests));
    EXPECT(footer.sections[PACKED_ROWS].offset == 768);
    EXPECT(section_is(&footer, PACKED_ROWS, rows, sizeof rows));
    buf_deinit(&file);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(plain_words_of_any_number_come_back), TEST(every_shape_of_record_comes_back),
          TEST(many_words_come_back), TEST(a_file_of_tombstones_alone_has_no_best),
          TEST(absent_keys_rarely_pass_the_filter),
          TEST(a_dictionary_is_taken_over_by_the_next_file),
          TEST(an_error_of_the_sink_ends_the_build),
          TEST(the_example_of_the_format_page_is_what_is_written))
