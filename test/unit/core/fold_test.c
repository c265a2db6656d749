#include "core/fold.h"

#include <string.h>
#include <utf8proc.h>

#include "base/prng.h"
#include "core/limits.h"
#include "test.h"

static struct heap heap;

static struct buf empty_buf(void)
{
    struct buf buf;
    heap_init(&heap, 0);
    buf_init(&buf, &heap);
    return buf;
}

static void expect_fold(enum fold fold, struct slice text, struct slice want)
{
    struct buf out = empty_buf();
    EXPECT(fold_append(fold, text, &out) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&out), want));
    buf_deinit(&out);
}

static void expect_fold_text(enum fold fold, const char *text, const char *want)
{
    expect_fold(fold, slice_from_text(text), slice_from_text(want));
}

TEST_CASE(none_keeps_the_bytes)
{
    expect_fold(FOLD_NONE, SLICE_LITERAL("Caf\xc3\x89\0\xff"), SLICE_LITERAL("Caf\xc3\x89\0\xff"));
}

TEST_CASE(case_folds_notable_code_points)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"abcXYZ@[`{09", "abcxyz@[`{09"},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"},
        {"Straße", "strase"},
        {"ẞ", "s"},
        {"CAFÉ", "café"},
        {"İ", "i"},
        {"ı", "ı"},
        {"Ⱥ", "ⱥ"},
        {"ΣΑΣς", "σασσ"},
        {"K", "k"}, /* KELVIN SIGN */
        {"ﬀ", "f"},
        {"ŉ", "ʼ"},
        {"ǅ", "ǆ"},
        {"ᾳ", "α"},
        {"ΐ", "ι"},
        {"Ა", "ა"},
        {"ꭰ", "Ꭰ"}, /* Cherokee folds to upper case. */
        {"𐐀", "𐐨"},
        {"𞤀", "𞤢"},
        {"東京", "東京"},
        {"abcdefgÉH", "abcdefgéh"},
        {"ABCDEFGHÉIJKLMNOPQ", "abcdefghéijklmnopq"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_fold_text(FOLD_CASE, cases[i][0], cases[i][1]);
    }
}

TEST_CASE(bytes_that_are_not_utf8_stand_for_themselves)
{
    struct slice cases[] = {
        SLICE_LITERAL("\xc1\x81"),         /* Overlong A. */
        SLICE_LITERAL("\xe0\x81\x81"),     /* Overlong A, longer. */
        SLICE_LITERAL("\xed\xa0\x80"),     /* Surrogate. */
        SLICE_LITERAL("\xf4\x90\x80\x80"), /* Above U+10FFFF. */
        SLICE_LITERAL("\xe2\x84"),         /* KELVIN SIGN, cut. */
        SLICE_LITERAL("\xff\xfe\x80"),     SLICE_LITERAL("\xc3"),
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_fold(FOLD_CASE, cases[i], cases[i]);
        expect_fold(FOLD_FULL, cases[i], cases[i]);
    }
    expect_fold(FOLD_CASE, SLICE_LITERAL("A\xe2\x84K\xc3\x89\xc3"),
                SLICE_LITERAL("a\xe2\x84k\xc3\xa9\xc3"));
}

TEST_CASE(full_folds_notable_words)
{
    static const char *const cases[][2] = {
        {"CAFÉ", "cafe"},
        {"Cafe\u0301", "cafe"},
        {"Straße", "strasse"},
        {"ﬁne", "fine"},
        {"Å", "a"},
        {"①", "1"},
        {"Ｆｕｌｌ", "full"},
        {"𝐀", "a"},
        {"İ", "i"},
        {"Łódź", "łodz"},
        {"Việt", "viet"},
        {"שָׁלוֹם", "שלום"},
        {"مُحَمَّد", "محمد"},
        {"か\u3099", "が"},
        {"한", "한"},
        {"हिन्दी", "हिन्दी"},
        {"\u0301\u0300", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_fold_text(FOLD_FULL, cases[i][0], cases[i][1]);
    }
}

static size_t encode(int32_t point, uint8_t *bytes)
{
    return (size_t)utf8proc_encode_char(point, bytes);
}

/* Unicode's own file, where Debian's unicode-data is installed: statuses C and F. */
TEST_CASE(case_conforms_to_the_unicode_file)
{
    FILE *file = fopen("/usr/share/unicode/CaseFolding.txt", "r");
    if (file == NULL) skip();
    char line[512];
    size_t count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned from;
        unsigned to;
        char kind;
        if (sscanf(line, "%x; %c; %x", &from, &kind, &to) != 3) continue;
        if (kind != 'C' && kind != 'F') continue;
        uint8_t text[4];
        uint8_t want[4];
        expect_fold(FOLD_CASE, slice_of(text, encode((int32_t)from, text)),
                    slice_of(want, encode((int32_t)to, want)));
        count++;
    }
    fclose(file);
    EXPECT(count > 1400);
}

TEST_CASE(folds_are_idempotent_on_every_code_point)
{
    struct buf once = empty_buf();
    struct buf twice = empty_buf();
    for (int32_t point = 0; point < 0x110000; point++) {
        uint8_t text[4];
        if (!utf8proc_codepoint_valid(point)) continue;
        size_t size = encode(point, text);
        for (int fold = FOLD_CASE; fold < FOLD_COUNT; fold++) {
            buf_clear(&once);
            buf_clear(&twice);
            EXPECT(fold_append((enum fold)fold, slice_of(text, size), &once) == STATUS_OK);
            EXPECT(fold_append((enum fold)fold, buf_slice(&once), &twice) == STATUS_OK);
            if (!slice_equal(buf_slice(&once), buf_slice(&twice))) {
                fail_msg("fold %d of U+%04X is not stable", fold, (unsigned)point);
            }
        }
    }
    buf_deinit(&once);
    buf_deinit(&twice);
}

/* A mix of ASCII, letters with odd folds, combining marks and bytes that are not UTF-8. */
static size_t random_text(struct prng *prng, uint8_t *out, size_t piece_count)
{
    static const char *const pieces[] = {"a", "B", "Zebra",  "É",        "ß",    "İ",    "Ⱥ",
                                         "𐐀", "Σ", "\u0301", "\u3099か", "\xe2", "\xff", "한"};
    size_t size = 0;
    for (size_t i = 0; i < piece_count; i++) {
        const char *piece = pieces[prng_below(prng, sizeof pieces / sizeof *pieces)];
        memcpy(out + size, piece, strlen(piece));
        size += strlen(piece);
    }
    return size;
}

/* Property: folding a part that ends between code points gives a prefix of the whole's
 * fold, and fold_match_end() finds that place again. */
TEST_CASE(the_fold_of_a_prefix_is_a_prefix_of_the_fold)
{
    struct prng prng = {.state = test_seed};
    struct buf whole = empty_buf();
    struct buf part = empty_buf();
    for (int round = 0; round < 20000; round++) {
        uint8_t text[200];
        size_t head = random_text(&prng, text, prng_below(&prng, 8));
        size_t size = head + random_text(&prng, text + head, prng_below(&prng, 8));
        buf_clear(&whole);
        buf_clear(&part);
        /* A stray byte at the end of the head may join with what follows: skip those. */
        if (head > 0 && text[head - 1] == 0xe2) continue;
        EXPECT(fold_append(FOLD_CASE, slice_of(text, size), &whole) == STATUS_OK);
        EXPECT(fold_append(FOLD_CASE, slice_of(text, head), &part) == STATUS_OK);
        EXPECT(slice_starts_with(buf_slice(&whole), buf_slice(&part)));

        size_t end;
        EXPECT(fold_match_end(FOLD_CASE, slice_of(text, size), part.size, &whole, &end) ==
               STATUS_OK);
        EXPECT(end == head);
    }
    buf_deinit(&whole);
    buf_deinit(&part);
}

TEST_CASE(a_match_ends_behind_a_code_point_or_cluster)
{
    struct buf scratch = empty_buf();
    size_t end;
    EXPECT(fold_match_end(FOLD_CASE, SLICE_LITERAL("Éa"), 1, &scratch, &end) == STATUS_OK);
    EXPECT(end == 2);
    EXPECT(fold_match_end(FOLD_CASE, SLICE_LITERAL("ßa"), 1, &scratch, &end) == STATUS_OK);
    EXPECT(end == 2);
    EXPECT(fold_match_end(FOLD_FULL, SLICE_LITERAL("xe\u0301a"), 2, &scratch, &end) == STATUS_OK);
    EXPECT(end == 4);
    EXPECT(fold_match_end(FOLD_FULL, SLICE_LITERAL("ßa"), 1, &scratch, &end) == STATUS_OK);
    EXPECT(end == 2);
    EXPECT(fold_match_end(FOLD_NONE, SLICE_LITERAL("ab"), 9, &scratch, &end) == STATUS_OK);
    EXPECT(end == 2);
    EXPECT(fold_match_end(FOLD_NONE, SLICE_LITERAL("ab"), 0, &scratch, &end) == STATUS_OK);
    EXPECT(end == 0);
    buf_deinit(&scratch);
}

TEST_CASE(a_folded_form_beyond_the_limit_is_refused_and_taken_back)
{
    struct buf out = empty_buf();
    buf_append_text(&out, "kept");
    static uint8_t text[WORD_BYTES_MAX];
    for (size_t i = 0; i + 3 <= sizeof text; i += 3) memcpy(text + i, "\uFDFA", 3);
    EXPECT(fold_append(FOLD_FULL, slice_of(text, sizeof text), &out) == STATUS_LIMIT);
    EXPECT(slice_equal(buf_slice(&out), SLICE_LITERAL("kept")));
    for (size_t i = 0; i + 2 <= sizeof text; i += 2) memcpy(text + i, "Ⱥ", 2);
    EXPECT(fold_append(FOLD_CASE, slice_of(text, sizeof text), &out) == STATUS_OK);
    EXPECT(out.size == 4 + sizeof text / 2 * 3);
    buf_deinit(&out);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(folds_have_names)
{
    enum fold fold = FOLD_NONE;
    EXPECT(fold_from_name(SLICE_LITERAL("full"), &fold) == STATUS_OK);
    EXPECT(fold == FOLD_FULL);
    EXPECT(fold_from_name(SLICE_LITERAL("Full"), &fold) == STATUS_INVALID);
    EXPECT(fold == FOLD_FULL);
    EXPECT(strcmp(fold_name(FOLD_CASE), "case") == 0);
}

TEST_MAIN(TEST(none_keeps_the_bytes), TEST(case_folds_notable_code_points),
          TEST(bytes_that_are_not_utf8_stand_for_themselves), TEST(full_folds_notable_words),
          TEST(case_conforms_to_the_unicode_file), TEST(folds_are_idempotent_on_every_code_point),
          TEST(the_fold_of_a_prefix_is_a_prefix_of_the_fold),
          TEST(a_match_ends_behind_a_code_point_or_cluster),
          TEST(a_folded_form_beyond_the_limit_is_refused_and_taken_back), TEST(folds_have_names))
