/* Any bytes as two records, cut where the first byte says: what decodes encodes to the same
 * bytes, joins alike both ways, joins with itself to itself, and can be written over. */
#include "base/check.h"
#include "core/record.h"
#include "core/write.h"

static bool decode(struct slice bytes, struct record *out, struct heap *heap)
{
    if (record_decode(bytes, out) != STATUS_OK) return false;
    struct buf again;
    buf_init(&again, heap);
    record_encode(out, &again);
    CHECK(slice_equal(buf_slice(&again), bytes));
    CHECK(bytes.size <= RECORD_BYTES_MAX);
    buf_deinit(&again);

    struct slice tag;
    for (struct slice rest = out->tags; record_tag_next(&rest, &tag);) {
        CHECK(record_has_tag(out, tag));
    }
    CHECK(record_is_present(out) != best_is_none(record_best(out)));
    return true;
}

/* `b` joined into `a` gives the same as `a` into `b`, and keeps to the rules of the bytes. */
static void join(const struct record *a, const struct record *b, struct heap *heap)
{
    struct buf scratch[3], bytes;
    struct record left, right, again;
    for (int i = 0; i < 3; i++) buf_init(&scratch[i], heap);
    buf_init(&bytes, heap);

    enum status status = record_join(a, b, &scratch[0], &left);
    CHECK(record_join(b, a, &scratch[1], &right) == status);
    if (status == STATUS_OK) {
        CHECK(record_equal(&left, &right));
        CHECK(record_join(&left, a, &scratch[2], &again) == STATUS_OK);
        CHECK(record_equal(&left, &again));
        record_encode(&left, &bytes);
        CHECK(record_decode(buf_slice(&bytes), &again) == STATUS_OK);
    }
    for (int i = 0; i < 3; i++) buf_deinit(&scratch[i]);
    buf_deinit(&bytes);
}

static void write_over(const struct record *current, struct heap *heap)
{
    struct buf scratch, joined_slots;
    struct record made, joined;
    struct write_outcome outcome;
    struct version next = {.time = current->version.time + 1, .node = 1};
    if (next.time == 0) return;
    buf_init(&scratch, heap);
    buf_init(&joined_slots, heap);
    if (write_increment(current, 1000, next, 1, 5, 0, &scratch, &made, &outcome) == STATUS_OK) {
        CHECK(record_join(current, &made, &joined_slots, &joined) == STATUS_OK);
        CHECK(record_equal(&joined, &made));
    }
    struct write_value value = {.score = 1};
    CHECK(write_set(current, 1000, next, &value, &made, &outcome) == STATUS_OK);
    CHECK(record_join(current, &made, &joined_slots, &joined) == STATUS_OK);
    CHECK(record_equal(&joined, &made));
    buf_deinit(&scratch);
    buf_deinit(&joined_slots);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    struct slice input = slice_of(data + 1, size - 1);
    size_t cut = data[0] < input.size ? data[0] : input.size;
    struct heap heap;
    struct record a, b;
    heap_init(&heap, 0);
    bool has_a = decode(slice_prefix(input, cut), &a, &heap);
    bool has_b = decode(slice_from(input, cut), &b, &heap);
    if (has_a) write_over(&a, &heap);
    if (has_b) write_over(&b, &heap);
    if (has_a && has_b) join(&a, &b, &heap);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
