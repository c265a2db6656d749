#include "core/fold.h"

#include <stdint.h>
#include <utf8proc.h>

#include "base/bytes.h"
#include "base/math.h"
#include "core/limits.h"

enum {
    POINT_BYTES_MAX = 4,
    /* The longest compatibility decomposition has 18 code points. */
    DECOMPOSED_COUNT_MAX = 32,
    ASCII_STEP = 8,
};

static const char *const names[FOLD_COUNT] = {
    [FOLD_NONE] = "none",
    [FOLD_CASE] = "case",
    [FOLD_FULL] = "full",
};

const char *fold_name(enum fold fold)
{
    return names[fold];
}

enum status fold_from_name(struct slice name, enum fold *out)
{
    for (int fold = 0; fold < FOLD_COUNT; fold++) {
        if (!slice_equal(name, slice_from_text(names[fold]))) continue;
        *out = (enum fold)fold;
        return STATUS_OK;
    }
    return STATUS_INVALID;
}

/* Size of the code point that `text` starts with, 0 if those bytes are not UTF-8. */
static size_t point_next(struct slice text, int32_t *point)
{
    utf8proc_ssize_t size = utf8proc_iterate(text.data, (utf8proc_ssize_t)text.size, point);
    return size > 0 ? (size_t)size : 0;
}

static int32_t fold_point(int32_t point)
{
    int32_t folded[DECOMPOSED_COUNT_MAX];
    int boundary = 0;
    utf8proc_ssize_t count =
        utf8proc_decompose_char(point, folded, DECOMPOSED_COUNT_MAX, UTF8PROC_CASEFOLD, &boundary);
    return count > 0 ? folded[0] : point;
}

/* Lower case of eight ASCII bytes at once. */
static uint64_t lower_ascii(uint64_t bytes)
{
    const uint64_t each = UINT64_C(0x0101010101010101);
    uint64_t from_a = bytes + each * (0x80 - 'A');      /* Top bit: >= 'A'. */
    uint64_t above_z = bytes + each * (0x80 - 'Z' - 1); /* Top bit: > 'Z'. */
    return bytes | ((from_a & ~above_z & each * 0x80) >> 2);
}

/* Number of leading bytes done; stops at the first that is not ASCII. */
static size_t fold_ascii(struct slice text, uint8_t *out)
{
    size_t done = 0;
    for (; text.size - done >= ASCII_STEP; done += ASCII_STEP) {
        uint64_t bytes = load_u64le(text.data + done);
        if ((bytes & UINT64_C(0x8080808080808080)) != 0) break;
        store_u64le(out + done, lower_ascii(bytes));
    }
    for (; done < text.size && text.data[done] < 0x80; done++) {
        uint8_t byte = text.data[done];
        out[done] = byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
    }
    return done;
}

/* Folds what `text` starts with, one code point or one stray byte, and moves past it.
 * Returns the number of bytes written to `out`, at most POINT_BYTES_MAX. */
static size_t fold_case_step(struct slice *text, uint8_t *out)
{
    int32_t point;
    size_t size = point_next(*text, &point);
    if (size == 0) {
        *out = text->data[0];
        *text = slice_from(*text, 1);
        return 1;
    }
    *text = slice_from(*text, size);
    return (size_t)utf8proc_encode_char(fold_point(point), out);
}

static void append_case(struct slice text, struct buf *out)
{
    while (text.size > 0) {
        /* No code point grows by more than half: 2 bytes to 3 is the most. */
        uint8_t *to = buf_reserve(out, text.size + text.size / 2 + POINT_BYTES_MAX);
        if (to == NULL) return;
        size_t done = fold_ascii(text, to);
        text = slice_from(text, done);
        while (text.size > 0 && text.data[0] >= 0x80) done += fold_case_step(&text, to + done);
        buf_commit(out, done);
    }
}

/* Diacritics are the nonspacing marks that say how a letter is pronounced: those above,
 * below and around it (combining class 200 and more) and Hebrew and Arabic points. Vowel
 * signs, nuktas, viramas and kana voicing make another letter and stay. */
static bool is_diacritic(int32_t point)
{
    const utf8proc_property_t *property = utf8proc_get_property(point);
    if (property->category != UTF8PROC_CATEGORY_MN) return false;
    return property->combining_class >= 200 ||
           (property->combining_class >= 10 && property->combining_class <= 36) ||
           property->combining_class == 1;
}

/* Canonical order: marks behind a starter by combining class, equal ones as they came. */
static void order_marks(int32_t *points, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        int32_t point = points[i];
        unsigned rank = utf8proc_get_property(point)->combining_class;
        size_t at = i;
        while (rank != 0 && at > 0 &&
               (unsigned)utf8proc_get_property(points[at - 1])->combining_class > rank) {
            points[at] = points[at - 1];
            at--;
        }
        points[at] = point;
    }
}

/* Appends the composed form of `points` and empties them. */
static void flush_points(struct buf *points, struct buf *out)
{
    int32_t *at = (int32_t *)(void *)points->data;
    size_t count = points->size / sizeof *at;
    if (count == 0) return;

    order_marks(at, count);
    utf8proc_ssize_t composed =
        utf8proc_normalize_utf32(at, (utf8proc_ssize_t)count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < composed; i++) {
        uint8_t bytes[POINT_BYTES_MAX];
        buf_append(out, bytes, (size_t)utf8proc_encode_char(at[i], bytes));
    }
    points->size = 0;
}

static void append_decomposed(int32_t point, struct buf *points)
{
    int32_t parts[DECOMPOSED_COUNT_MAX];
    int boundary = 0;
    utf8proc_ssize_t count = utf8proc_decompose_char(
        point, parts, DECOMPOSED_COUNT_MAX,
        UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < count && i < DECOMPOSED_COUNT_MAX; i++) {
        if (!is_diacritic(parts[i])) buf_append(points, &parts[i], sizeof parts[i]);
    }
}

static void append_full(struct slice text, struct buf *out)
{
    struct buf points;
    buf_init(&points, out->heap);
    while (text.size > 0) {
        int32_t point;
        size_t size = point_next(text, &point);
        if (size != 0) {
            append_decomposed(point, &points);
        } else {
            flush_points(&points, out);
            buf_append_u8(out, text.data[0]);
            size = 1;
        }
        text = slice_from(text, size);
    }
    flush_points(&points, out);
    if (points.failed) out->failed = true;
    buf_deinit(&points);
}

enum status fold_append(enum fold fold, struct slice text, struct buf *out)
{
    size_t before = out->size;
    if (fold == FOLD_NONE) buf_append_slice(out, text);
    if (fold == FOLD_CASE) append_case(text, out);
    if (fold == FOLD_FULL) append_full(text, out);

    enum status status = buf_status(out);
    if (status == STATUS_OK && out->size - before > FOLDED_BYTES_MAX) status = STATUS_LIMIT;
    if (status != STATUS_OK) out->size = before;
    return status;
}

/* Size of the first grapheme cluster: what canonical composition may join. */
static size_t cluster_size(struct slice word)
{
    int32_t previous;
    int32_t point;
    int32_t state = 0;
    size_t size = point_next(word, &previous);
    if (size == 0) return 1;
    while (size < word.size) {
        size_t more = point_next(slice_from(word, size), &point);
        if (more == 0 || utf8proc_grapheme_break_stateful(previous, point, &state)) break;
        previous = point;
        size += more;
    }
    return size;
}

/* Moves past the first unit that folds on its own; `folded` is the size of what it folds to. */
static enum status match_step(enum fold fold, struct slice *word, struct buf *scratch,
                              size_t *folded)
{
    uint8_t bytes[POINT_BYTES_MAX];
    if (fold != FOLD_FULL) {
        size_t before = word->size;
        size_t size = fold_case_step(word, bytes);
        *folded = fold == FOLD_CASE ? size : before - word->size;
        return STATUS_OK;
    }
    size_t size = cluster_size(*word);
    buf_clear(scratch);
    enum status status = fold_append(fold, slice_prefix(*word, size), scratch);
    *word = slice_from(*word, size);
    *folded = scratch->size;
    return status;
}

enum status fold_match_end(enum fold fold, struct slice word, size_t folded_size,
                           struct buf *scratch, size_t *out)
{
    struct slice rest = word;
    for (size_t done = 0; done < folded_size && rest.size > 0;) {
        size_t folded;
        enum status status = match_step(fold, &rest, scratch, &folded);
        if (status != STATUS_OK) return status;
        done += folded;
    }
    *out = word.size - rest.size;
    return STATUS_OK;
}
