/* A dumb model of a packed trie: sorted keys with their records, and its file. */
#pragma once

#include <string.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/prng.h"
#include "core/dictionary.h"
#include "core/packed.h"

enum { MODEL_SEED = 77, MODEL_KEY_BYTES_MAX = 40 };

struct model_entry {
    uint8_t key[MODEL_KEY_BYTES_MAX];
    size_t key_size;
    struct record record;
};

struct model {
    struct heap *heap;
    struct model_entry *entries;
    size_t count;
    struct buf bodies; /* What the records borrow from; never grows past its first capacity. */
};

/* What records a model has; a set of bits. */
enum model_shape {
    MODEL_TOMBSTONES = 1 << 0,
    MODEL_EXTRAS = 1 << 1,      /* Payloads, tags, slots, expiry, since, created, set. */
    MODEL_NODES = 1 << 2,       /* Several node ids. */
    MODEL_OVERWRITTEN = 1 << 3, /* Half of the words: created before version. */
    MODEL_SCORES_EQUAL = 1 << 4,
    MODEL_SCORES_WILD = 1 << 5, /* Negative, fractional, huge. */
    MODEL_TIMES_WILD = 1 << 6,
    MODEL_SCORES_SKEWED = 1 << 7, /* Mostly small, a few large integers. */
};

static inline struct slice model_key(const struct model *model, size_t index)
{
    return slice_of(model->entries[index].key, model->entries[index].key_size);
}

static inline const struct record *model_record(const struct model *model, size_t index)
{
    return &model->entries[index].record;
}

static inline int model_compare(const void *left, const void *right)
{
    const struct model_entry *a = left, *b = right;
    return slice_compare(slice_of(a->key, a->key_size), slice_of(b->key, b->key_size));
}

static inline double model_score(struct prng *prng, unsigned shape)
{
    if (shape & MODEL_SCORES_EQUAL) return 1;
    if (shape & MODEL_SCORES_WILD) {
        static const double wild[] = {0, -1, 0.5, -0.25, 1e300, -1e300, 9007199254740992.0, 5e-324};
        return prng_one_in(prng, 3) ? wild[prng_below(prng, 8)] : prng_below(prng, 1000) / 7.0;
    }
    if (shape & MODEL_SCORES_SKEWED)
        return prng_one_in(prng, 15) ? prng_below(prng, 1u << 30) : prng_below(prng, 60);
    return (double)prng_below(prng, 100000) - 10;
}

static inline struct version model_version(struct prng *prng, unsigned shape)
{
    uint64_t ms = 1700000000000 + prng_below(prng, 10000);
    if (shape & MODEL_TIMES_WILD) ms = prng_u64(prng) >> 17;
    uint16_t node = 3;
    if (shape & MODEL_NODES) node = (uint16_t)(prng_below(prng, 5) * 13000);
    return (struct version){ms << HLC_COUNTER_BITS | prng_below(prng, 200), node};
}

/* A version before `version`. */
static inline struct version model_older(struct prng *prng, struct version version)
{
    version.time -= 1 + (prng_u64(prng) >> 20) % (version.time / 2 + 1);
    return version;
}

static inline struct slice model_bytes(struct model *model, struct prng *prng, size_t size)
{
    struct slice bytes = {model->bodies.data + model->bodies.size, size};
    for (size_t i = 0; i < size; i++) buf_append_u8(&model->bodies, (uint8_t)prng_u32(prng));
    return bytes;
}

static inline struct slice model_tags(struct model *model, struct prng *prng)
{
    static const char *names[] = {"alpha", "beta", "gamma", "delta", "x"};
    struct slice tags[5];
    size_t count = 0;
    for (size_t i = 0; i < 5; i++) {
        if (prng_one_in(prng, 2)) tags[count++] = slice_from_text(names[i]);
    }
    size_t before = model->bodies.size;
    CHECK(record_tags_build(tags, count, &model->bodies) == STATUS_OK);
    return slice_of(model->bodies.data + before, model->bodies.size - before);
}

static inline struct slice model_slots(struct model *model, struct prng *prng)
{
    size_t before = model->bodies.size;
    uint32_t count = 1 + prng_below(prng, 3);
    for (uint32_t i = 0; i < count; i++) {
        struct record_slot slot = {100 + i, 1 + prng_below(prng, 9), prng_below(prng, 50) + 0.5};
        record_slot_append(&model->bodies, &slot);
    }
    return slice_of(model->bodies.data + before, model->bodies.size - before);
}

static inline void model_add_extras(struct model *model, struct prng *prng, struct record *record)
{
    if (prng_one_in(prng, 3)) record->created = model_older(prng, record->version);
    if (prng_one_in(prng, 9)) record->created = (struct version){0};
    if (prng_one_in(prng, 4)) record->since = model_older(prng, record->version);
    if (prng_one_in(prng, 8)) {
        record->set = version_max(model_older(prng, record->version), record->since);
        if (version_is_none(record->set)) record->set = record->version;
    }
    if (prng_one_in(prng, 9)) record->set = record->since;
    if (prng_one_in(prng, 6)) record->slots = model_slots(model, prng);
    if (version_equal(record->set, record->since)) {
        record->score = 0;
        return;
    }
    if (prng_one_in(prng, 5)) record->expires_at = 1 + prng_below(prng, 100000);
    record->has_payload = prng_one_in(prng, 4);
    if (record->has_payload) record->payload = model_bytes(model, prng, prng_below(prng, 90));
    if (prng_one_in(prng, 3)) record->tags = model_tags(model, prng);
}

static inline void model_fill_record(struct model *model, struct prng *prng, unsigned shape,
                                     struct record *record)
{
    struct version version = model_version(prng, shape);
    if ((shape & MODEL_TOMBSTONES) && prng_one_in(prng, 5)) {
        *record = record_of_tombstone(version);
        return;
    }
    *record = record_of_set(version, model_score(prng, shape));
    if ((shape & MODEL_OVERWRITTEN) && prng_one_in(prng, 2))
        record->created = model_older(prng, version);
    if ((shape & MODEL_EXTRAS) && prng_one_in(prng, 3)) model_add_extras(model, prng, record);
    CHECK(record_is_canonical(record));
}

static inline void model_init(struct model *model, struct heap *heap, struct prng *prng,
                              size_t count, unsigned shape)
{
    enum { BODY_BYTES_MAX = 256 };
    *model = (struct model){.heap = heap, .count = count};
    model->entries = heap_zalloc(heap, count * sizeof *model->entries);
    CHECK(model->entries != NULL);
    buf_init(&model->bodies, heap);
    CHECK(buf_reserve(&model->bodies, count * BODY_BYTES_MAX) != NULL);

    /* Keys of few letters share prefixes; the number at the end keeps them distinct. */
    for (size_t i = 0; i < count; i++) {
        struct model_entry *entry = &model->entries[i];
        size_t letters = prng_below(prng, 12);
        for (size_t j = 0; j < letters; j++)
            entry->key[j] =
                (uint8_t)(prng_one_in(prng, 9) ? prng_u32(prng) : 'a' + prng_below(prng, 3));
        entry->key_size = letters + (size_t)snprintf((char *)entry->key + letters, 16, "%zu", i);
        model_fill_record(model, prng, shape, &entry->record);
    }
    qsort(model->entries, count, sizeof *model->entries, model_compare);
    for (size_t i = 1; i < count; i++) {
        struct model_entry *entry = &model->entries[i];
        if (model_compare(entry - 1, entry) == 0) entry->key[entry->key_size++] = 0xff;
    }
}

static inline void model_deinit(struct model *model)
{
    buf_deinit(&model->bodies);
    heap_free(model->heap, model->entries);
}

static inline enum status model_write(void *context, const void *data, size_t size)
{
    buf_append(context, data, size);
    return buf_status(context);
}

/* A dictionary trained on the model's keys. */
static inline enum status model_dictionary(const struct model *model, struct dictionary **out)
{
    struct dictionary_trainer *trainer = NULL;
    enum status status = dictionary_trainer_create(model->heap, 64 << 10, &trainer);
    for (size_t i = 0; i < model->count && i < 300 && status == STATUS_OK; i++)
        status = dictionary_trainer_add(trainer, model_key(model, i), i == 0);
    if (status == STATUS_OK) status = dictionary_train(trainer, out);
    dictionary_trainer_destroy(trainer);
    return status;
}

/* The file of the model into `file`. */
static inline enum status model_build(const struct model *model, struct buf *file)
{
    struct dictionary *dictionary = NULL;
    struct packed_builder *builder = NULL;
    enum status status = model_dictionary(model, &dictionary);
    if (status == STATUS_OK)
        status = packed_builder_create(model->heap, dictionary, MODEL_SEED, &builder);
    for (size_t i = 0; i < model->count && status == STATUS_OK; i++)
        status = packed_builder_add(builder, model_key(model, i), model_record(model, i));
    struct packed_sink sink = {model_write, file};
    if (status == STATUS_OK) status = packed_builder_finish(builder, &sink);
    packed_builder_destroy(builder);
    dictionary_destroy(dictionary);
    return status;
}
