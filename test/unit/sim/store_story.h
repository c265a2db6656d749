/* A story of a store: every kind of write, every kind of job, in an order that the seed
 * chooses, told up to its end or to the first failure. */
#pragma once

#include "core/dictionary.h"
#include "store_model.h"

struct story {
    struct store_world world;
    struct prng prng;
    struct model *model;
    bool learning; /* Notes go into the model. */
    unsigned step_count;
    uint64_t crash_at; /* The number of the change that is to fail; 0: none. */
    enum model_ingest ingest;
    hlc_time newest;  /* Of all versions given out in visible batches. */
    hlc_time pending; /* Of those given out at all. */
    uint64_t visible; /* As last seen. */
    uint64_t jobs[STORE_JOB_SCRUB + 1];
};

static inline struct store_options story_options(bool publish_after_sync)
{
    struct store_options options = store_world_options();
    options.publish_after_sync = publish_after_sync;
    options.tier_runs_max = 2;
    options.file_bytes = 2 << 10;
    options.log_segment_bytes = 4 << 10;
    options.manifest_rollover_bytes = 512;
    options.gc_age_ms = 1000;
    return options;
}

static inline struct name story_source(void)
{
    return name_of(NAME_TRANSFER, 1);
}

static inline struct name story_target(void)
{
    return name_of(NAME_TRANSFER, 2);
}

static inline void story_look(struct story *story)
{
    uint64_t visible = store_visible_sequence(story->world.store);
    EXPECT(visible >= story->visible);
    if (visible == log_last(story->world.store->log)) story->newest = story->pending;
    story->visible = visible;
}

/* Where the word is deleted, its tombstone goes: the model takes that for what may be gone. */
static inline void story_maybe_forget(struct story *story, struct store_write *write)
{
    struct place place;
    struct record record;
    enum status status = store_find(story->world.store, write->key, &place, &record);
    if (status != STATUS_OK || place.kind == PLACE_NOWHERE || !record.tombstone) return;
    *write = (struct store_write){.kind = STORE_FORGET, .key = write->key, .above = record.version};
}

static inline enum status story_write(struct story *story)
{
    struct prng *prng = &story->prng;
    struct store_write writes[MODEL_BATCH_MAX] = {0};
    struct store_outcome outcomes[MODEL_BATCH_MAX];
    uint32_t numbers[MODEL_BATCH_MAX];
    char keys[MODEL_BATCH_MAX][MODEL_KEY_BYTES];
    uint64_t sequence;
    size_t count = 1 + prng_below(prng, MODEL_BATCH_MAX);

    for (size_t i = 0; i < count; i++) {
        uint32_t dice = prng_below(prng, 10);
        numbers[i] = prng_below(prng, MODEL_KEY_COUNT);
        writes[i] = (struct store_write){
            .kind = dice < 5   ? STORE_SET
                    : dice < 8 ? STORE_REMOVE
                               : STORE_INCREMENT,
            .key = model_key(numbers[i], keys[i]),
            .score = prng_below(prng, 5),
        };
        if (dice == 9) story_maybe_forget(story, &writes[i]);
        if (writes[i].kind != STORE_SET) continue;
        if (prng_one_in(prng, 4))
            writes[i].expires_at = story->world.now_ms + 1 + prng_below(prng, 300);
        if (prng_one_in(prng, 4)) {
            writes[i].has_payload = true;
            writes[i].payload = slice_of("a payload of some bytes", prng_below(prng, 23));
        }
        if (prng_one_in(prng, 4)) writes[i].tags = slice_of("\2de\2fr", 6);
    }
    enum status status = store_world_write(&story->world, writes, count, outcomes, &sequence);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < count; i++) {
        if (outcomes[i].status != STATUS_OK) return outcomes[i].status;
        if (story->learning) model_note_tip(story->model, story->world.store, numbers[i], sequence);
        if (outcomes[i].changed && outcomes[i].version.time > story->pending)
            story->pending = outcomes[i].version.time;
    }
    return STATUS_OK;
}

static inline enum status story_job_step(struct story *story)
{
    struct store_world *world = &story->world;
    enum store_job_kind kind = world->job == NULL ? STORE_JOB_SCRUB : store_job_kind(world->job);
    bool ingest = world->job != NULL && kind == STORE_JOB_INGEST;
    enum status status = store_world_job_step(world);
    if (status == STATUS_OK) story->jobs[kind]++;
    if (status == STATUS_OK && ingest) story->ingest = MODEL_INGESTED;
    return status == STATUS_PARTIAL || status == STATUS_END ? STATUS_OK : status;
}

static inline enum status story_finish_job(struct story *story)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && story->world.job != NULL) status = story_job_step(story);
    return status;
}

static inline enum status begin_asked(struct story *story, bool ingest)
{
    struct store_world *world = &story->world;
    enum status status = story_finish_job(story);
    /* An export freezes what memory holds, so nothing may be frozen already. */
    while (status == STATUS_OK && world->store->frozen != NULL) {
        status = story_job_step(story);
        if (status == STATUS_OK) status = story_finish_job(story);
    }
    struct key_range range = {slice_of("ns", 2), {0}};
    if (status == STATUS_OK)
        status = ingest
                     ? store_ingest_begin(world->store, story_source().text, &world->job)
                     : store_export_begin(world->store, &range, story_target().text, &world->job);
    if (status != STATUS_OK) return status;
    world->stage = STORE_WORLD_BUILDING;
    if (ingest) story->ingest = MODEL_MAYBE_INGESTED;
    return STATUS_OK;
}

/* As after a million kills. */
static inline enum status begin_checkpoint(struct story *story)
{
    struct store_world *world = &story->world;
    enum status status = story_finish_job(story);
    while (status == STATUS_OK && world->store->frozen != NULL) {
        status = story_job_step(story);
        if (status == STATUS_OK) status = story_finish_job(story);
    }
    if (status != STATUS_OK) return status;
    world->store->kills_unstored = STORE_CHECKPOINT_KILLS;
    world->store->options.memtrie_bytes_max = UINT64_MAX; /* Else a flush would come first. */
    status = story_job_step(story);
    world->store->options.memtrie_bytes_max = world->options.memtrie_bytes_max;
    return status;
}

/* Everything into packed files, and those merged. */
static inline enum status story_settle(struct story *story)
{
    struct store_world *world = &story->world;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        bool under_way = world->job != NULL;
        status = story_job_step(story);
        if (status != STATUS_OK || under_way || world->job != NULL) continue;
        status = store_flush_begin(world->store, &world->job);
        world->stage = STORE_WORLD_BUILDING;
        if (status == STATUS_END) return store_world_sync(world);
    }
    return status;
}

/* A clean stop and a start; a crash that is planned stays so. */
static inline enum status story_restart(struct story *story)
{
    struct store_world *world = &story->world;
    store_world_close(world);
    if (sim_disk_crashed(world->disk)) return STATUS_IO;
    sim_disk_restart(world->disk, SIM_DISK_KILLED);
    if (story->crash_at != 0)
        sim_disk_crash_after(world->disk, story->crash_at - sim_disk_change_count(world->disk));
    return store_world_open(world);
}

static inline enum status story_act(struct story *story, unsigned step)
{
    struct store_world *world = &story->world;
    struct prng *prng = &story->prng;
    world->now_ms += prng_below(prng, step < story->step_count / 2 ? 10 : 60);
    if (step == story->step_count / 3) return begin_asked(story, false);
    if (step == story->step_count / 2) return begin_asked(story, true);
    if (step == story->step_count * 5 / 8) return begin_checkpoint(story);
    if (step == story->step_count * 3 / 4) {
        enum status status = story_settle(story);
        if (status != STATUS_OK) return status;
        return story_restart(story);
    }
    switch (prng_below(prng, 8)) {
    case 0:
        store_tick(world->store, world->now_ms);
        return STATUS_OK;
    case 1:
    case 2:
    case 3:
        return story_job_step(story);
    case 4:
        store_world_reclaim(world);
        return STATUS_OK;
    default:
        return story_write(story);
    }
}

/* Tells the story until its end, or until something fails. */
static inline enum status story_tell(struct story *story)
{
    enum status status = STATUS_OK;
    for (unsigned step = 0; status == STATUS_OK && step < story->step_count; step++) {
        status = story_act(story, step);
        if (status == STATUS_OK && !prng_one_in(&story->prng, 3))
            status = store_world_sync(&story->world);
        if (story->world.store != NULL) story_look(story);
        if (status != STATUS_OK) return status;
    }
    status = story_settle(story);
    if (status == STATUS_OK) story_look(story);
    return status;
}

static inline enum status sink_append(void *context, const void *data, size_t size)
{
    buf_append(context, data, size);
    return buf_status(context);
}

/* A packed trie with a record for every third word: some newer and some older than what
 * the story writes, tombstones and counters among them. Put on the disk, noted in the model. */
static inline void story_put_source(struct story *story)
{
    struct packed_builder *builder;
    struct prng prng = {.state = 7};
    struct heap *heap = &story->model->heap;
    char texts[MODEL_KEY_COUNT][MODEL_KEY_BYTES];
    uint32_t order[MODEL_KEY_COUNT];
    size_t count = 0;

    /* In the order of the keys. */
    for (uint32_t i = 0; i < MODEL_KEY_COUNT; i += 3) {
        struct slice key = model_key(i, texts[i]);
        size_t at = count++;
        for (; at > 0; at--) {
            char text[MODEL_KEY_BYTES];
            if (slice_compare(model_key(order[at - 1], text), key) < 0) break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    struct dictionary_trainer *trainer;
    struct dictionary *dictionary;
    EXPECT(dictionary_trainer_create(heap, 4096, &trainer) == STATUS_OK);
    EXPECT(dictionary_train(trainer, &dictionary) == STATUS_OK);
    dictionary_trainer_destroy(trainer);
    EXPECT(packed_builder_create(heap, dictionary, story->world.options.hash_seed, &builder) ==
           STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        struct version version = {(UINT64_C(999900) + prng_below(&prng, 600)) << HLC_COUNTER_BITS,
                                  9};
        struct record record = prng_one_in(&prng, 3) ? record_of_tombstone(version)
                                                     : record_of_set(version, prng_below(&prng, 5));
        struct buf slots;
        buf_init(&slots, heap);
        if (!record.tombstone && prng_one_in(&prng, 2)) {
            record_slot_append(&slots, &(struct record_slot){77, 1, 2.5});
            record.slots = buf_slice(&slots);
        }
        if (!record.tombstone && prng_one_in(&prng, 3)) record.expires_at = 1000200;
        uint32_t number = order[i];
        record_encode(&record, &story->model->ingested[number]);
        EXPECT(packed_builder_add(builder, model_key(number, texts[number]), &record) == STATUS_OK);
        buf_deinit(&slots);
    }
    struct buf file;
    buf_init(&file, heap);
    EXPECT(packed_builder_finish(builder, &(struct packed_sink){sink_append, &file}) == STATUS_OK);
    packed_builder_destroy(builder);
    dictionary_destroy(dictionary);
    sim_disk_put(story->world.disk, story_source().text, buf_slice(&file));
    buf_deinit(&file);
}

/* Opens an empty store with the source of the ingest beside it. */
static inline void story_begin(struct story *story, struct model *model, uint64_t seed,
                               const struct store_options *options, unsigned step_count)
{
    *story = (struct story){.prng.state = seed, .model = model, .step_count = step_count};
    EXPECT(store_world_init(&story->world, seed, options) == STATUS_OK);
    for (int i = 0; i < MODEL_KEY_COUNT; i++) buf_clear(&model->ingested[i]);
    story_put_source(story);
}
