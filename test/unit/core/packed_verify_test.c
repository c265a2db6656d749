/* Verification of packed tries and overlays: nothing that changes an answer goes unnoticed. */
#include "core/overlay_verify.h"

#include "packed_ask.h"
#include "packed_file.h"
#include "packed_model.h"

enum { SHAPE_ALL = MODEL_TOMBSTONES | MODEL_EXTRAS | MODEL_NODES, HASH_SEED = 99 };

/* What a verification told. */
struct told {
    unsigned count;
    uint64_t offset; /* Of the first. */
    uint64_t progress;
};

static void take_flaw(void *context, uint64_t offset, const char *text)
{
    struct told *told = context;
    EXPECT(text[0] != '\0');
    if (told->count++ == 0) told->offset = offset;
}

static bool take_progress(void *context, uint64_t ordinal)
{
    struct told *told = context;
    told->progress = ordinal + 1;
    return true;
}

static enum status verify(struct slice bytes, struct heap *heap, struct told *told)
{
    struct packed *packed = NULL;
    struct packed_verify content = {take_flaw, take_progress, told};
    *told = (struct told){0};
    enum status status = packed_verify_frame(bytes, take_flaw, told);
    if (status != STATUS_OK) {
        EXPECT(status == STATUS_NEWER || told->count > 0);
        return status;
    }
    status = packed_open(heap, bytes, &packed);
    if (status != STATUS_OK) return status;
    status = packed_verify_content(packed, heap, &content);
    EXPECT((status == STATUS_CORRUPT) == (told->count > 0));
    packed_close(packed);
    return status;
}

static struct heap heap;
static struct buf file;
static struct packed_footer footer;

static void build(size_t count)
{
    struct prng prng = {.state = test_seed + count};
    struct model model;
    heap_init(&heap, 0);
    buf_init(&file, &heap);
    model_init(&model, &heap, &prng, count, SHAPE_ALL);
    EXPECT(model_build(&model, &file) == STATUS_OK);
    EXPECT(packed_footer_read(buf_slice(&file), &footer) == STATUS_OK);
    model_deinit(&model);
}

static void teardown(void)
{
    buf_deinit(&file);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(what_was_built_has_no_flaw)
{
    static const size_t counts[] = {1, 31, 32, 33, 512, 513, 1500, 9000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct told told;
        build(counts[i]);
        EXPECT(verify(buf_slice(&file), &heap, &told) == STATUS_OK);
        EXPECT(told.count == 0 && told.progress > counts[i] / 4096 * 4096);
        teardown();
    }
}

/* The flaw is told at the page, or at the structure that the byte belongs to. */
static void expect_near(const struct told *told, uint64_t at)
{
    uint64_t checksums = footer.sections[PACKED_CHECKSUMS].offset;
    uint64_t footer_at = checksums + footer.sections[PACKED_CHECKSUMS].size;
    uint64_t expected = at < checksums   ? at / PACKED_PAGE_BYTES * PACKED_PAGE_BYTES
                        : at < footer_at ? checksums
                                         : told->offset;
    EXPECT(told->offset == expected);
    EXPECT(at < footer_at || told->offset >= footer_at);
}

TEST_CASE(every_flipped_bit_is_found_in_its_page)
{
    build(300);
    for (size_t bit = 0; bit < 8 * file.size; bit++) {
        struct told told;
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        EXPECT(verify(buf_slice(&file), &heap, &told) == STATUS_CORRUPT);
        expect_near(&told, bit / 8);
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    teardown();
}

TEST_CASE(a_cut_file_is_told)
{
    build(40);
    for (size_t size = 0; size < file.size; size++) {
        struct told told;
        EXPECT(verify(slice_of(file.data, size), &heap, &told) == STATUS_CORRUPT);
    }
    teardown();
}

/* Of all that a record has, its hash leaves out `since` alone. */
static void expect_alike_but_for_since(struct slice original)
{
    struct packed *before = NULL, *after = NULL;
    struct buf key_before = {.heap = &heap}, key_after = {.heap = &heap};
    EXPECT(packed_open(&heap, original, &before) == STATUS_OK);
    EXPECT(packed_open(&heap, buf_slice(&file), &after) == STATUS_OK);
    for (uint64_t i = 0; i < packed_info(before)->count; i++) {
        struct record a, b;
        EXPECT(packed_key(before, i, &key_before) == STATUS_OK);
        EXPECT(packed_key(after, i, &key_after) == STATUS_OK);
        EXPECT(slice_equal(buf_slice(&key_before), buf_slice(&key_after)));
        EXPECT(packed_record(before, i, &a) == STATUS_OK);
        EXPECT(packed_record(after, i, &b) == STATUS_OK);
        b.since = a.since;
        EXPECT(record_equal(&a, &b));
    }
    buf_deinit(&key_before);
    buf_deinit(&key_after);
    packed_close(before);
    packed_close(after);
}

/* Under right checksums: what verification lets pass answers everything as before. */
static void flip_sealed(struct slice original, size_t at, unsigned bit, uint64_t want)
{
    struct packed_extent checksums = footer.sections[PACKED_CHECKSUMS];
    struct told told;
    uint64_t digest = 0;
    file.data[at] ^= (uint8_t)(1u << bit);
    ask_reseal(file.data, file.size, checksums);
    enum status status = verify(buf_slice(&file), &heap, &told);
    EXPECT(status == STATUS_OK || status == STATUS_CORRUPT || status == STATUS_NEWER);
    if (status == STATUS_OK) {
        EXPECT(ask_file(buf_slice(&file), &heap, &digest) == STATUS_OK);
        if (digest != want) expect_alike_but_for_since(original);
    }
    file.data[at] ^= (uint8_t)(1u << bit);
}

TEST_CASE(wrong_content_under_right_checksums_is_found_or_harmless)
{
    static const size_t counts[] = {700, 40, 36, 45, 52};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct prng prng = {.state = test_seed};
        uint64_t want = 0;
        build(counts[i]);
        EXPECT(ask_file(buf_slice(&file), &heap, &want) == STATUS_OK);
        struct packed_extent checksums = footer.sections[PACKED_CHECKSUMS];
        struct buf original = {.heap = &heap};
        buf_append_slice(&original, buf_slice(&file));
        for (size_t at = 0; at < file.size - PACKED_TAIL_BYTES; at += i == 0 ? 2 : i) {
            if (at >= checksums.offset && at < checksums.offset + checksums.size) continue;
            flip_sealed(buf_slice(&original), at, prng_below(&prng, 8), want);
        }
        /* Rows are where forms are chosen bit by bit. */
        struct packed_extent rows = footer.sections[PACKED_ROWS];
        for (size_t bit = 8 * rows.offset; bit < 8 * (rows.offset + rows.size);
             bit += i == 0 ? 16 : 1)
            flip_sealed(buf_slice(&original), bit / 8, bit % 8, want);
        buf_deinit(&original);
        teardown();
    }
}

/* Each of these sections holds no bit that may be wrong. */
TEST_CASE(sums_bests_filter_expiry_and_presence_hold_no_harmless_bit)
{
    static const enum packed_section sections[] = {PACKED_BESTS, PACKED_SUMS, PACKED_FILTER,
                                                   PACKED_EXPIRY, PACKED_POSTINGS};
    build(700);
    struct packed_extent checksums = footer.sections[PACKED_CHECKSUMS];
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        struct packed_extent extent = footer.sections[sections[i]];
        EXPECT(extent.size > 0);
        for (size_t at = extent.offset; at < extent.offset + extent.size; at++) {
            struct told told;
            unsigned bit = (unsigned)(at * 5 % 8);
            file.data[at] ^= (uint8_t)(1u << bit);
            ask_reseal(file.data, file.size, checksums);
            EXPECT(verify(buf_slice(&file), &heap, &told) == STATUS_CORRUPT);
            EXPECT(told.offset >= extent.offset && told.offset < extent.offset + extent.size);
            file.data[at] ^= (uint8_t)(1u << bit);
        }
    }
    teardown();
}

static void expect_found_sealed(size_t at, unsigned bit)
{
    struct told told;
    file.data[at] ^= (uint8_t)(1u << bit);
    ask_reseal(file.data, file.size, footer.sections[PACKED_CHECKSUMS]);
    EXPECT(verify(buf_slice(&file), &heap, &told) != STATUS_OK);
    file.data[at] ^= (uint8_t)(1u << bit);
}

static bool is_in_a_section(size_t at)
{
    for (size_t i = 0; i < PACKED_SECTION_COUNT; i++)
        if (at - footer.sections[i].offset < footer.sections[i].size) return true;
    return false;
}

/* Bytes of the footer that say nothing: milliseconds beyond the 48 bits of a version, the least
 * score where scores are whole doubles, and how much of the zeros after a section is its own. */
static bool is_unused(size_t at)
{
    enum { EPOCH = 76, SCORE_MIN = 88, TIME_MIN = 96, TABLE = 118 };
    if (at == EPOCH + 6 || at == EPOCH + 7 || at == TIME_MIN + 6 || at == TIME_MIN + 7) return true;
    if (at >= SCORE_MIN && at < TIME_MIN) return footer.bests.score_bytes == 8;
    bool in_table = at >= TABLE && at < TABLE + 16 * PACKED_SECTION_COUNT;
    return in_table && (at - TABLE) % 16 == 8;
}

TEST_CASE(header_gaps_and_footer_hold_no_harmless_byte)
{
    build(700);
    struct packed_extent checksums = footer.sections[PACKED_CHECKSUMS];
    size_t footer_at = checksums.offset + checksums.size;
    size_t sealed = footer_at + ASK_FOOTER_FIXED - 20; /* The seal: checksums of checksums. */
    unsigned gap_bytes = 0;
    for (size_t at = 0; at < file.size - PACKED_TAIL_BYTES; at++) {
        if (is_in_a_section(at) || (at >= sealed && at < sealed + 20)) continue;
        if (at >= footer_at && is_unused(at - footer_at)) continue;
        for (unsigned bit = 0; bit < 8; bit += 1 + (at < footer_at)) expect_found_sealed(at, bit);
        gap_bytes += at >= PACKED_HEADER_BYTES && at < footer_at;
    }
    EXPECT(gap_bytes > 100);
    teardown();
}

/* Keys that changed places with records alike: every sum is the same. */
TEST_CASE(keys_out_of_order_are_found)
{
    struct packed_file packed;
    struct record record = record_of_set((struct version){1000, 1}, 5);
    heap_init(&heap, 0);
    packed_file_begin(&packed, &heap, HASH_SEED);
    for (const char *key = "abcd"; *key != '\0'; key++)
        packed_file_add(&packed, slice_of(key, 1), &record);
    packed_file_finish(&packed);
    buf_init(&file, &heap);
    buf_append(&file, packed.bytes, packed.size);
    packed_file_deinit(&packed);
    EXPECT(packed_footer_read(buf_slice(&file), &footer) == STATUS_OK);

    /* Without a sample each byte has its own code, one above it. */
    struct told told;
    struct packed_extent keys = footer.sections[PACKED_FRONT + FRONT_KEYS];
    uint8_t *b = memchr(file.data + keys.offset, 'b' + 1, keys.size);
    uint8_t *c = memchr(file.data + keys.offset, 'c' + 1, keys.size);
    EXPECT(b != NULL && c != NULL);
    *b = 'c' + 1;
    *c = 'b' + 1;
    ask_reseal(file.data, file.size, footer.sections[PACKED_CHECKSUMS]);
    EXPECT(verify(buf_slice(&file), &heap, &told) == STATUS_CORRUPT);
    EXPECT(told.count == 1 && told.offset == keys.offset);
    teardown();
}

/* What leads to the keys: any that is not found where it is would show. */
TEST_CASE(every_byte_of_the_index_is_found_or_harmless)
{
    static const enum front_section sections[] = {FRONT_HEADER, FRONT_DICTIONARY, FRONT_INDEX,
                                                  FRONT_OFFSETS};
    struct prng prng = {.state = test_seed};
    struct buf original = {.heap = &heap};
    uint64_t want = 0;
    build(1500);
    buf_append_slice(&original, buf_slice(&file));
    EXPECT(ask_file(buf_slice(&file), &heap, &want) == STATUS_OK);
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        struct packed_extent extent = footer.sections[PACKED_FRONT + sections[i]];
        for (size_t at = extent.offset; at < extent.offset + extent.size; at++)
            flip_sealed(buf_slice(&original), at, prng_below(&prng, 8), want);
    }
    buf_deinit(&original);
    teardown();
}

TEST_CASE(a_stopped_verification_says_so)
{
    struct packed *packed = NULL;
    build(40);
    EXPECT(packed_open(&heap, buf_slice(&file), &packed) == STATUS_OK);
    for (int64_t count = 0;; count++) {
        struct told told = {0};
        struct packed_verify content = {take_flaw, NULL, &told};
        heap.failure_after = count;
        enum status status = packed_verify_content(packed, &heap, &content);
        heap.failure_after = -1;
        EXPECT(told.count == 0);
        if (status == STATUS_OK) break;
        EXPECT(status == STATUS_NOMEM);
    }
    packed_close(packed);
    teardown();
}

/* --- Overlays --- */

enum { OVERLAY_COUNT = 1100 };

/* Every fifth word expires, every ninth is a tombstone. */
static void build_overlaid(struct packed_file *packed, struct prng *prng)
{
    packed_file_begin(packed, &heap, HASH_SEED);
    for (unsigned i = 0; i < OVERLAY_COUNT; i++) {
        char key[16];
        int size = snprintf(key, sizeof key, "key%05u", i);
        struct version version = {1000 + prng_below(prng, 50), 1};
        struct record record = record_of_set(version, prng_below(prng, 20));
        if (i % 5 == 0) record.expires_at = 7;
        if (i % 9 == 0) record = record_of_tombstone(version);
        packed_file_add(packed, slice_of(key, (size_t)size), &record);
    }
    packed_file_finish(packed);
}

static enum status verify_overlay(struct overlay_space *space, const struct packed *packed,
                                  overlay_root root, unsigned *count)
{
    struct told told = {0};
    struct packed_verify compare = {take_flaw, NULL, &told};
    enum status status = overlay_verify(space, packed, root, &heap, &compare);
    EXPECT((status == STATUS_CORRUPT) == (told.count > 0));
    *count = told.count;
    return status;
}

/* Kills some of the first `limit`, and hides all there that expires. */
static void change_overlay(struct overlay_space *space, const struct packed *packed,
                           struct prng *prng, uint32_t limit, overlay_root *root)
{
    for (uint64_t i = 0; i < limit / 6; i++) {
        uint64_t ordinal = prng_below(prng, limit);
        struct sum hash;
        EXPECT(packed_hash(packed, ordinal, &hash) == STATUS_OK);
        EXPECT(overlay_kill(space, packed, root, ordinal, hash) == STATUS_OK);
    }
    for (uint64_t ordinal = 0; ordinal < limit; ordinal += 5)
        EXPECT(overlay_hide(space, packed, root, ordinal) == STATUS_OK);
}

/* When something expired is not the overlay's to know: it may show one that is not hidden. */
static void expect_one_shown(struct overlay_space *space, const struct packed *packed,
                             overlay_root root, overlay_root copy)
{
    struct overlay_totals before, after;
    EXPECT(overlay_totals(space, packed, root, &before) == STATUS_OK);
    EXPECT(overlay_totals(space, packed, copy, &after) == STATUS_OK);
    EXPECT(after.hidden_count == before.hidden_count - 1);
    EXPECT(after.live_count == before.live_count + 1);
    EXPECT(after.dead_count == before.dead_count);
    EXPECT(sum_equal(after.sum, before.sum));
}

static void flip_overlay(uint32_t limit, unsigned decoded_min)
{
    struct prng prng = {.state = test_seed};
    struct packed_file packed;
    struct overlay_space space;
    struct buf bytes = {.heap = &heap};
    overlay_root root = 0, copy = 0;
    unsigned count;
    heap_init(&heap, 0);
    build_overlaid(&packed, &prng);
    EXPECT(overlay_space_init(&space, &heap) == STATUS_OK);
    EXPECT(verify_overlay(&space, packed.packed, root, &count) == STATUS_OK);
    change_overlay(&space, packed.packed, &prng, limit, &root);
    EXPECT(verify_overlay(&space, packed.packed, root, &count) == STATUS_OK);

    overlay_encode(&space, root, OVERLAY_COUNT, &bytes);
    EXPECT(overlay_decode(&space, buf_slice(&bytes), OVERLAY_COUNT, &copy) == STATUS_OK);
    EXPECT(verify_overlay(&space, packed.packed, copy, &count) == STATUS_OK);
    unsigned decoded = 0;
    for (size_t bit = 0; bit < (bytes.size - 4) * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        store_u32le(bytes.data + bytes.size - 4, crc32c(0, bytes.data, bytes.size - 4));
        if (overlay_decode(&space, buf_slice(&bytes), OVERLAY_COUNT, &copy) == STATUS_OK) {
            decoded++;
            if (verify_overlay(&space, packed.packed, copy, &count) == STATUS_OK)
                expect_one_shown(&space, packed.packed, root, copy);
            overlay_retire(&space, &copy, OVERLAY_COUNT);
        }
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    EXPECT(decoded > decoded_min);
    buf_deinit(&bytes);
    overlay_space_deinit(&space);
    packed_file_deinit(&packed);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* With changes all over, and with parts that stay as the packed trie has them. */
TEST_CASE(an_overlay_with_a_wrong_bit_is_told_from_a_right_one)
{
    flip_overlay(OVERLAY_COUNT, 1000);
    flip_overlay(96, 100);
}

TEST_MAIN(TEST(what_was_built_has_no_flaw), TEST(every_flipped_bit_is_found_in_its_page),
          TEST(a_cut_file_is_told), TEST(wrong_content_under_right_checksums_is_found_or_harmless),
          TEST(sums_bests_filter_expiry_and_presence_hold_no_harmless_bit),
          TEST(header_gaps_and_footer_hold_no_harmless_byte), TEST(keys_out_of_order_are_found),
          TEST(every_byte_of_the_index_is_found_or_harmless), TEST(a_stopped_verification_says_so),
          TEST(an_overlay_with_a_wrong_bit_is_told_from_a_right_one))
