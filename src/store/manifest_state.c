#include "store/manifest_state.h"

#include "base/bytes.h"
#include "base/check.h"

enum tag {
    TAG_NUMBER = 2,
    TAG_RUN_ADD = 4,
    TAG_RUN_REMOVE = 6,
    TAG_RUN_OVERLAY = 8,
    TAG_VALUE_SET = 10,
    TAG_VALUE_REMOVE = 12,
};

/* Encoding */

void manifest_edit_init(struct manifest_edit *edit, struct heap *heap)
{
    buf_init(&edit->bytes, heap);
}

void manifest_edit_deinit(struct manifest_edit *edit)
{
    buf_deinit(&edit->bytes);
}

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    for (; value >= 0x80; value >>= 7) size++;
    return size;
}

/* A field of varints, then of `parts`, each but the last with its size before it. */
static void add_field(struct manifest_edit *edit, enum tag tag, const uint64_t *numbers,
                      size_t number_count, const struct slice *parts, size_t part_count)
{
    size_t size = 0;
    for (size_t i = 0; i < number_count; i++) size += varint_size(numbers[i]);
    for (size_t i = 0; i < part_count; i++)
        size += parts[i].size + (i + 1 < part_count ? varint_size(parts[i].size) : 0);

    buf_append_varint(&edit->bytes, tag);
    buf_append_varint(&edit->bytes, size);
    for (size_t i = 0; i < number_count; i++) buf_append_varint(&edit->bytes, numbers[i]);
    for (size_t i = 0; i < part_count; i++) {
        if (i + 1 < part_count) buf_append_varint(&edit->bytes, parts[i].size);
        buf_append_slice(&edit->bytes, parts[i]);
    }
}

void manifest_edit_set_number(struct manifest_edit *edit, enum manifest_number which,
                              uint64_t value)
{
    CHECK((unsigned)which < MANIFEST_NUMBER_COUNT);
    add_field(edit, TAG_NUMBER, (uint64_t[]){which, value}, 2, NULL, 0);
}

void manifest_edit_add_run(struct manifest_edit *edit, const struct manifest_run *run)
{
    CHECK(run->number > 0);
    CHECK(run->first.size <= MANIFEST_KEY_BYTES_MAX);
    CHECK(run->last.size <= MANIFEST_KEY_BYTES_MAX);
    uint64_t numbers[] = {run->number, run->overlay, run->level, run->group, run->size_bytes};
    add_field(edit, TAG_RUN_ADD, numbers, 5, (struct slice[]){run->first, run->last}, 2);
}

void manifest_edit_remove_run(struct manifest_edit *edit, uint64_t number)
{
    add_field(edit, TAG_RUN_REMOVE, &number, 1, NULL, 0);
}

void manifest_edit_set_overlay(struct manifest_edit *edit, uint64_t number, uint64_t overlay)
{
    add_field(edit, TAG_RUN_OVERLAY, (uint64_t[]){number, overlay}, 2, NULL, 0);
}

void manifest_edit_set_value(struct manifest_edit *edit, struct slice key, struct slice value)
{
    CHECK(key.size <= MANIFEST_KEY_BYTES_MAX);
    add_field(edit, TAG_VALUE_SET, NULL, 0, (struct slice[]){key, value}, 2);
}

void manifest_edit_remove_value(struct manifest_edit *edit, struct slice key)
{
    add_field(edit, TAG_VALUE_REMOVE, NULL, 0, &key, 1);
}

void state_snapshot(const struct manifest_state *state, struct manifest_edit *edit)
{
    for (unsigned i = 0; i < MANIFEST_NUMBER_COUNT; i++)
        if (state->numbers[i] != 0)
            manifest_edit_set_number(edit, (enum manifest_number)i, state->numbers[i]);
    for (size_t i = 0; i < state->run_count; i++) manifest_edit_add_run(edit, &state->runs[i]);
    for (size_t i = 0; i < state->value_count; i++)
        manifest_edit_set_value(edit, state->values[i].key, state->values[i].value);
}

/* States. The slices of a new one point into the old one and into the edit while it is
 * built; at the end all bytes are copied into one block behind it. */

enum status state_create(struct heap *heap, const uint8_t store_id[16], struct manifest_state **out)
{
    struct manifest_state *state = heap_zalloc(heap, sizeof *state);
    if (state == NULL) return STATUS_NOMEM;
    memcpy(state->store_id, store_id, sizeof state->store_id);
    *out = state;
    return STATUS_OK;
}

void state_destroy(struct heap *heap, struct manifest_state *state)
{
    heap_free(heap, state);
}

static struct manifest_run *find_run(struct manifest_state *state, uint64_t number)
{
    for (size_t i = 0; i < state->run_count; i++)
        if (state->runs[i].number == number) return &state->runs[i];
    return NULL;
}

/* Where `key` is, or would be. */
static size_t find_value(const struct manifest_state *state, struct slice key, bool *found)
{
    size_t low = 0;
    size_t high = state->value_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_compare(state->values[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < state->value_count && slice_equal(state->values[low].key, key);
    return low;
}

static enum status apply_number(struct manifest_state *state, struct reader *field)
{
    uint64_t which = reader_varint(field);
    uint64_t value = reader_varint(field);
    if (field->failed) return STATUS_CORRUPT;
    if (which >= MANIFEST_NUMBER_COUNT) return STATUS_NEWER;
    state->numbers[which] = value;
    return STATUS_OK;
}

static enum status apply_run_add(struct manifest_state *state, struct reader *field)
{
    struct manifest_run run;
    run.number = reader_varint(field);
    run.overlay = reader_varint(field);
    run.level = reader_varint(field);
    run.group = reader_varint(field);
    run.size_bytes = reader_varint(field);
    run.first = reader_bytes(field, reader_varint(field));
    run.last = reader_bytes(field, reader_left(field));
    if (field->failed || run.number == 0) return STATUS_CORRUPT;
    if (find_run(state, run.number) != NULL) return STATUS_INVALID;
    state->runs[state->run_count++] = run;
    return STATUS_OK;
}

static enum status apply_run_remove(struct manifest_state *state, struct reader *field)
{
    struct manifest_run *run = find_run(state, reader_varint(field));
    if (field->failed) return STATUS_CORRUPT;
    if (run == NULL) return STATUS_INVALID;
    size_t after = state->run_count - (size_t)(run - state->runs) - 1;
    memmove(run, run + 1, after * sizeof *run);
    state->run_count--;
    return STATUS_OK;
}

static enum status apply_run_overlay(struct manifest_state *state, struct reader *field)
{
    struct manifest_run *run = find_run(state, reader_varint(field));
    uint64_t overlay = reader_varint(field);
    if (field->failed) return STATUS_CORRUPT;
    if (run == NULL) return STATUS_INVALID;
    run->overlay = overlay;
    return STATUS_OK;
}

static enum status apply_value_set(struct manifest_state *state, struct reader *field)
{
    struct manifest_value value;
    value.key = reader_bytes(field, reader_varint(field));
    value.value = reader_bytes(field, reader_left(field));
    if (field->failed) return STATUS_CORRUPT;

    bool found;
    size_t at = find_value(state, value.key, &found);
    if (!found) {
        memmove(state->values + at + 1, state->values + at,
                (state->value_count - at) * sizeof *state->values);
        state->value_count++;
    }
    state->values[at] = value;
    return STATUS_OK;
}

/* Removing what is not there is no error: who does it need not look first. */
static enum status apply_value_remove(struct manifest_state *state, struct reader *field)
{
    bool found;
    size_t at = find_value(state, reader_bytes(field, reader_left(field)), &found);
    if (!found) return STATUS_OK;
    state->value_count--;
    memmove(state->values + at, state->values + at + 1,
            (state->value_count - at) * sizeof *state->values);
    return STATUS_OK;
}

static enum status apply_field(struct manifest_state *state, uint64_t tag, struct reader *field)
{
    switch (tag) {
    case TAG_NUMBER:
        return apply_number(state, field);
    case TAG_RUN_ADD:
        return apply_run_add(state, field);
    case TAG_RUN_REMOVE:
        return apply_run_remove(state, field);
    case TAG_RUN_OVERLAY:
        return apply_run_overlay(state, field);
    case TAG_VALUE_SET:
        return apply_value_set(state, field);
    case TAG_VALUE_REMOVE:
        return apply_value_remove(state, field);
    default:
        if (tag % 2 == 0) return STATUS_NEWER;
        *field = (struct reader){field->end, field->end, false};
        return STATUS_OK;
    }
}

static enum status apply_fields(struct manifest_state *state, struct slice edit)
{
    struct reader reader = reader_of(edit);
    while (reader_left(&reader) > 0) {
        uint64_t tag = reader_varint(&reader);
        struct reader field = reader_of(reader_bytes(&reader, reader_varint(&reader)));
        if (reader.failed) return STATUS_CORRUPT;
        enum status status = apply_field(state, tag, &field);
        if (status != STATUS_OK) return status;
        /* More than we know of in a field we know: somebody newer extended it. */
        if (reader_left(&field) > 0) return STATUS_NEWER;
    }
    return STATUS_OK;
}

/* How many fields of a tag there are, at most: what the arrays need room for. */
static size_t count_fields(struct slice edit, enum tag tag)
{
    struct reader reader = reader_of(edit);
    size_t count = 0;
    while (reader_left(&reader) > 0 && !reader.failed) {
        count += reader_varint(&reader) == tag;
        reader_bytes(&reader, reader_varint(&reader));
    }
    return count;
}

static uint8_t *copy_bytes(struct slice *slice, uint8_t *to)
{
    if (slice->size > 0) memcpy(to, slice->data, slice->size);
    slice->data = to;
    return to + slice->size;
}

/* One block: the struct, its arrays, their bytes. */
static enum status state_pack(struct heap *heap, const struct manifest_state *state,
                              struct manifest_state **out)
{
    size_t runs = state->run_count * sizeof *state->runs;
    size_t values = state->value_count * sizeof *state->values;
    size_t size = sizeof *state + runs + values;
    for (size_t i = 0; i < state->run_count; i++)
        size += state->runs[i].first.size + state->runs[i].last.size;
    for (size_t i = 0; i < state->value_count; i++)
        size += state->values[i].key.size + state->values[i].value.size;

    struct manifest_state *packed = heap_alloc(heap, size);
    if (packed == NULL) return STATUS_NOMEM;
    *packed = *state;
    packed->runs = (struct manifest_run *)(packed + 1);
    packed->values = (struct manifest_value *)(packed->runs + state->run_count);
    if (runs > 0) memcpy(packed->runs, state->runs, runs);
    if (values > 0) memcpy(packed->values, state->values, values);

    uint8_t *to = (uint8_t *)(packed->values + state->value_count);
    for (size_t i = 0; i < state->run_count; i++) {
        to = copy_bytes(&packed->runs[i].first, to);
        to = copy_bytes(&packed->runs[i].last, to);
    }
    for (size_t i = 0; i < state->value_count; i++) {
        to = copy_bytes(&packed->values[i].key, to);
        to = copy_bytes(&packed->values[i].value, to);
    }
    CHECK(to == (uint8_t *)packed + size);
    *out = packed;
    return STATUS_OK;
}

enum status state_apply(struct heap *heap, const struct manifest_state *before, struct slice edit,
                        struct manifest_state **out)
{
    struct manifest_state state = *before;
    size_t runs_max = before->run_count + count_fields(edit, TAG_RUN_ADD);
    size_t values_max = before->value_count + count_fields(edit, TAG_VALUE_SET);
    enum status status = STATUS_NOMEM;

    state.runs = heap_alloc(heap, runs_max * sizeof *state.runs);
    state.values = heap_alloc(heap, values_max * sizeof *state.values);
    if (state.runs == NULL || state.values == NULL) goto done;
    if (state.run_count > 0) memcpy(state.runs, before->runs, state.run_count * sizeof *state.runs);
    if (state.value_count > 0)
        memcpy(state.values, before->values, state.value_count * sizeof *state.values);

    status = apply_fields(&state, edit);
    if (status == STATUS_OK) status = state_pack(heap, &state, out);

done:
    heap_free(heap, state.runs);
    heap_free(heap, state.values);
    return status;
}
