/* What a store should hold after each batch, and the check that a view shows just that.
 *
 * A story is told once without faults; after each batch the record that then stands for
 * each of its words is noted under the batch's sequence (store_find() sees the tip, so no
 * sync is needed). Told again with the same seed the story is the same up to the fault,
 * and what must be there after a recovery up to sequence s is, for each word, the newest
 * note up to s. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/prng.h"
#include "sim/store_world.h"
#include "store/internal.h"
#include "test.h"

enum { MODEL_KEY_COUNT = 60, MODEL_KEY_BYTES = 32, MODEL_BATCH_MAX = 12 };

/* What may be known of the one ingest of a story. */
enum model_ingest { MODEL_NOT_INGESTED, MODEL_MAYBE_INGESTED, MODEL_INGESTED };

struct model_note {
    uint64_t sequence;
    uint32_t key;
    size_t start, size; /* Of the encoded record, in `bytes`. */
};

struct model {
    struct heap heap;
    struct buf bytes;
    struct model_note notes[4096];
    size_t note_count;
    struct buf ingested[MODEL_KEY_COUNT]; /* Encoded records of the file; empty: none. */
};

static inline struct slice model_key(uint32_t number, char text[MODEL_KEY_BYTES])
{
    int size = snprintf(text, MODEL_KEY_BYTES, "ns%c%o", 0, number * 7919u % 100000);
    return slice_of(text, (size_t)size);
}

static inline struct model *model_create(void)
{
    struct model *model = calloc(1, sizeof *model);
    heap_init(&model->heap, 0);
    buf_init(&model->bytes, &model->heap);
    for (int i = 0; i < MODEL_KEY_COUNT; i++) buf_init(&model->ingested[i], &model->heap);
    return model;
}

static inline void model_destroy(struct model *model)
{
    buf_deinit(&model->bytes);
    for (int i = 0; i < MODEL_KEY_COUNT; i++) buf_deinit(&model->ingested[i]);
    free(model);
}

/* Notes what the tip holds for `key` now. */
static inline void model_note_tip(struct model *model, struct store *store, uint32_t key,
                                  uint64_t sequence)
{
    char text[MODEL_KEY_BYTES];
    struct place place;
    struct record record;
    EXPECT(store_find(store, model_key(key, text), &place, &record) == STATUS_OK);
    if (place.kind == PLACE_NOWHERE) return;

    EXPECT(model->note_count < sizeof model->notes / sizeof *model->notes);
    size_t start = model->bytes.size;
    record_encode(&record, &model->bytes);
    model->notes[model->note_count++] =
        (struct model_note){sequence, key, start, model->bytes.size - start};
}

/* What should stand for `key` after the batches up to `sequence`; false: nothing. */
static inline bool model_find(const struct model *model, uint32_t key, uint64_t sequence,
                              struct record *out)
{
    const struct model_note *newest = NULL;
    for (size_t i = 0; i < model->note_count; i++)
        if (model->notes[i].key == key && model->notes[i].sequence <= sequence)
            newest = &model->notes[i];
    if (newest == NULL) return false;
    EXPECT(record_decode(slice_of(model->bytes.data + newest->start, newest->size), out) ==
           STATUS_OK);
    return true;
}

static inline bool model_is_live(const struct record *record, uint64_t now_ms)
{
    return record_is_present(record) && !record_is_expired(record, now_ms);
}

/* True if the store shows `expected` (NULL: nothing live). What is not live may be gone. */
static inline bool model_shows(const struct query *query, const struct query_hit *hit,
                               const struct record *expected)
{
    bool live = expected != NULL && model_is_live(expected, query->now_ms);
    if (live) return hit != NULL && hit->live && record_equal(&hit->record, expected);
    if (hit == NULL) return true;
    return expected != NULL && !hit->live && record_equal(&hit->record, expected);
}

static inline bool model_shows_joined(const struct model *model, uint32_t key,
                                      const struct query *query, const struct query_hit *hit,
                                      const struct record *base)
{
    struct record other, joined;
    struct buf scratch;
    if (model->ingested[key].size == 0) return false;
    EXPECT(record_decode(buf_slice(&model->ingested[key]), &other) == STATUS_OK);
    if (base == NULL) return model_shows(query, hit, &other);

    buf_init(&scratch, query->heap);
    EXPECT(record_join(base, &other, &scratch, &joined) == STATUS_OK);
    bool shows = model_shows(query, hit, &joined);
    buf_deinit(&scratch);
    return shows;
}

/* Each word is current in one layer at most. Returns whether it is live. */
static inline bool check_one_layer(const struct query *query, struct slice key)
{
    size_t places = 0;
    struct query_hit hit = {0};
    for (size_t i = 0; i < query->layer_count; i++) {
        struct query one = *query;
        one.layers = &query->layers[i];
        one.layer_count = 1;
        places += query_get(&one, key, &hit) == STATUS_OK;
    }
    EXPECT(places <= 1);
    enum status status = query_get(query, key, &hit);
    EXPECT(status == (places == 1 ? STATUS_OK : STATUS_NOT_FOUND));
    return places == 1 && hit.live;
}

struct model_walk {
    uint64_t count;
    struct best last;
    char last_key[MODEL_KEY_BYTES];
    size_t last_size;
    bool by_score;
};

static inline enum status check_walk(void *context, struct slice key, const struct record *record)
{
    struct model_walk *walk = context;
    struct best best = record_best(record);
    struct slice last = slice_of(walk->last_key, walk->last_size);
    if (walk->count++ > 0) {
        if (!walk->by_score) EXPECT(slice_compare(last, key) < 0);
        if (walk->by_score) EXPECT(best_compare(walk->last, best) <= 0);
        if (walk->by_score && best_compare(walk->last, best) == 0)
            EXPECT(slice_compare(last, key) < 0);
    }
    walk->last = best;
    walk->last_size = key.size;
    EXPECT(key.size <= MODEL_KEY_BYTES);
    memcpy(walk->last_key, key.data, key.size);
    return STATUS_OK;
}

/* The digest is the sum over all that is current. */
static inline void check_sum(const struct query *query, uint64_t hash_seed)
{
    struct sum expected = {0, 0}, sum;
    struct query_iterator *iterator;
    EXPECT(query_iterator_open(query, (struct slice){0}, QUERY_CURRENT, &iterator) == STATUS_OK);
    enum status status = query_iterator_seek(iterator, (struct slice){0});
    while (status == STATUS_OK) {
        struct record record;
        EXPECT(query_iterator_record(iterator, &record) == STATUS_OK);
        expected = sum_add(expected, record_hash(query_iterator_key(iterator), &record, hash_seed));
        status = query_iterator_next(iterator);
    }
    EXPECT(status == STATUS_END);
    query_iterator_close(iterator);
    EXPECT(query_sum(query, (struct slice){0}, &sum) == STATUS_OK);
    EXPECT(sum_equal(sum, expected));
}

/* What holds of any view: one layer a word, counts equal walks, both orders total, sums. */
static inline void check_view(const struct query *query, uint64_t hash_seed)
{
    char text[MODEL_KEY_BYTES];
    uint64_t live = 0, count;
    for (uint32_t i = 0; i < MODEL_KEY_COUNT; i++)
        live += check_one_layer(query, model_key(i, text));
    EXPECT(query_count(query, (struct slice){0}, &count) == STATUS_OK);
    EXPECT(count == live);
    struct model_walk walk = {0};
    struct query_from from = {0};
    EXPECT(query_scan(query, (struct slice){0}, &from, UINT64_MAX, check_walk, &walk) == STATUS_OK);
    EXPECT(walk.count == live);
    walk = (struct model_walk){.by_score = true};
    EXPECT(query_best(query, (struct slice){0}, UINT64_MAX, NULL, check_walk, &walk) == STATUS_OK);
    EXPECT(walk.count == live);
    check_sum(query, hash_seed);
}

/* The newest view shows exactly the notes up to `sequence`. */
static inline void model_check(const struct model *model, const struct store_world *world,
                               uint64_t sequence, enum model_ingest ingest)
{
    struct query query = store_world_query(world);
    for (uint32_t i = 0; i < MODEL_KEY_COUNT; i++) {
        char text[MODEL_KEY_BYTES];
        struct record base;
        struct query_hit hit;
        enum status status = query_get(&query, model_key(i, text), &hit);
        EXPECT(status == STATUS_OK || status == STATUS_NOT_FOUND);
        const struct query_hit *found = status == STATUS_OK ? &hit : NULL;
        const struct record *expected = model_find(model, i, sequence, &base) ? &base : NULL;
        bool right = ingest != MODEL_INGESTED || model->ingested[i].size == 0
                         ? model_shows(&query, found, expected)
                         : false;
        if (!right && ingest != MODEL_NOT_INGESTED)
            right = model_shows_joined(model, i, &query, found, expected);
        if (!right)
            fprintf(stderr, "word %u is wrong after batch %llu\n", i, (unsigned long long)sequence);
        EXPECT(right);
    }
    check_view(&query, world->options.hash_seed);
}
