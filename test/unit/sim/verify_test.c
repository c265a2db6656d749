/* Verification of whole directories: whatever is changed in one, the right file is named. */
#include "store/verify.h"

#include "store_story.h"
#include "core/packed_format.h"
#include "store/identity.h"
#include "store/internal.h"
#include "store/log_private.h"
#include "verify_look.h"

/* All files of a directory, to be put onto disks again and again. */
struct image {
    struct heap heap;
    struct image_file {
        char name[NAME_BYTES_MAX];
        struct buf bytes;
    } files[LOOK_FILES_MAX];
    size_t count;
    struct sim_disk *source;
    struct store_options options;
    struct look look;    /* Of the sound directory. */
    size_t last_segment; /* Of the log that is in use: its file. */
};

static enum status image_take(void *context, const char *name, bool is_file)
{
    struct image *image = context;
    struct slice content;
    EXPECT(is_file && image->count < LOOK_FILES_MAX);
    EXPECT(sim_disk_content(image->source, name, &content));
    struct image_file *file = &image->files[image->count++];
    snprintf(file->name, sizeof file->name, "%s", name);
    buf_init(&file->bytes, &image->heap);
    buf_append_slice(&file->bytes, content);
    return STATUS_OK;
}

static struct sim_disk *image_put(const struct image *image)
{
    struct sim_disk *disk = sim_disk_create(1);
    for (size_t i = 0; i < image->count; i++)
        sim_disk_put(disk, image->files[i].name, buf_slice(&image->files[i].bytes));
    return disk;
}

static void write_some(struct story *story, int batches)
{
    for (int i = 0; i < batches; i++) {
        EXPECT(story_write(story) == STATUS_OK);
        EXPECT(store_world_sync(&story->world) == STATUS_OK);
    }
}

/* A flush, and no compaction: what it replaces dies in other packed tries. */
static void flush(struct story *story)
{
    struct store_world *world = &story->world;
    EXPECT(story_finish_job(story) == STATUS_OK);
    EXPECT(store_flush_begin(world->store, &world->job) == STATUS_OK);
    world->stage = STORE_WORLD_BUILDING;
    EXPECT(story_finish_job(story) == STATUS_OK);
}

static struct image_file *image_find(struct image *image, enum name_kind kind)
{
    uint64_t number;
    for (size_t i = 0; i < image->count; i++)
        if (name_parse(image->files[i].name, &number) == kind) return &image->files[i];
    return NULL;
}

static const struct look_file *sound_file(const struct image *image, const char *name)
{
    for (size_t i = 0; i < image->look.file_count; i++)
        if (strcmp(image->look.files[i].name, name) == 0) return &image->look.files[i];
    return NULL;
}

/* A story's directory: packed tries with and without overlays, some words expired and hidden, a log
 * with batches to be replayed. */
static struct image *image_create(uint64_t seed, bool stopped)
{
    struct model *model = model_create();
    struct image *image = calloc(1, sizeof *image);
    struct story story;
    heap_init(&image->heap, 0);
    image->options = story_options(true);
    story_begin(&story, model, seed, &image->options, 40);
    EXPECT(story_tell(&story) == STATUS_OK);
    write_some(&story, 4);
    flush(&story);
    story.world.now_ms += 100;
    store_tick(story.world.store, story.world.now_ms);
    write_some(&story, 4);
    flush(&story);
    write_some(&story, 5);
    if (!stopped) EXPECT(story_write(&story) == STATUS_OK);

    struct sim_disk *disk = story.world.disk;
    store_world_reclaim(&story.world);
    store_world_close(&story.world);
    sim_disk_restart(disk, SIM_DISK_KILLED);
    image->source = disk;
    EXPECT(env_list(sim_disk_env(disk), image_take, image) == STATUS_OK);
    image->source = NULL;
    image->look = look_at(disk, false);
    for (size_t i = 0; i < image->count; i++) {
        const struct look_file *sound = sound_file(image, image->files[i].name);
        if (sound->kind == NAME_LOG && sound->role == VERIFY_LIVE &&
            (image->last_segment == 0 ||
             strcmp(image->files[image->last_segment].name, sound->name) < 0))
            image->last_segment = i;
    }
    store_world_deinit(&story.world);
    model_destroy(model);
    return image;
}

static void image_destroy(struct image *image)
{
    for (size_t i = 0; i < image->count; i++) buf_deinit(&image->files[i].bytes);
    EXPECT(heap_used_bytes(&image->heap) == 0);
    free(image);
}

/* What trifecta itself says of the directory. */
static enum status open_store(const struct image *image, struct sim_disk *disk)
{
    static const uint8_t identity[16] = "another one";
    struct heap heap;
    struct store *store = NULL;
    struct store_report report;
    heap_init(&heap, 0);
    enum status status =
        store_open(sim_disk_env(disk), &heap, &image->options, identity, 2000000, &store, &report);
    store_close(store);
    EXPECT(heap_used_bytes(&heap) == 0);
    return status;
}

static enum status skip_batch(void *context, uint64_t sequence, struct slice payload)
{
    (void)context;
    EXPECT(sequence > 0 && payload.size > 0);
    return STATUS_OK;
}

TEST_CASE(a_sound_directory_is_described)
{
    struct image *image = image_create(test_seed, true);
    const struct verify_report *report = &image->look.report;
    EXPECT(image->look.status == STATUS_OK);
    EXPECT(report->damage_count == 0);
    EXPECT(report->run_count >= 3 && report->overlay_count >= 2);
    EXPECT(report->word_count > 0 && report->word_count <= MODEL_KEY_COUNT);
    EXPECT(report->tombstone_count > 0 && report->dead_count > 0 && report->hidden_count > 0);
    EXPECT(report->entry_count >= report->word_count + report->dead_count);
    EXPECT(report->log.replay_batches >= 5 && report->log.replay_records >= 5);
    EXPECT(report->log.torn_bytes == 0 && report->edit_count >= 1);
    EXPECT(image->look.file_count == image->count);
    EXPECT(image->look.progress <= report->total_bytes);
    image_destroy(image);
}

/* Words in packed tries, and in what is replayed onto them, are what a node then counts. */
TEST_CASE(the_counts_are_those_of_the_store)
{
    struct model *model = model_create();
    struct story story;
    struct store_options options = story_options(true);
    story_begin(&story, model, test_seed, &options, 40);
    EXPECT(story_tell(&story) == STATUS_OK);
    write_some(&story, 3);
    flush(&story);
    store_tick(story.world.store, story.world.now_ms);
    EXPECT(story_settle(&story) == STATUS_OK);
    struct store_stats stats;
    store_stats(story.world.store, &stats);
    store_world_close(&story.world);
    sim_disk_restart(story.world.disk, SIM_DISK_KILLED);
    struct look look = look_at(story.world.disk, false);
    EXPECT(look.report.damage_count == 0 && look.report.log.replay_records == 0);
    EXPECT(look.report.word_count == stats.live_count);
    store_world_deinit(&story.world);
    model_destroy(model);
}

/* Bytes that nothing depends on: zeros kept back, and segments or their ends without a batch. */
static bool is_without_meaning(const struct image *image, const struct image_file *file, size_t at)
{
    const struct look_file *sound = sound_file(image, file->name);
    uint64_t number;
    enum name_kind kind = name_parse(file->name, &number);
    if (kind == NAME_RESERVE || kind == NAME_LOCK) return true;
    if (sound->role == VERIFY_LEFTOVER) return true;
    return kind == NAME_LOG && (sound->role != VERIFY_LIVE || at >= sound->used_bytes);
}

/* A batch that was the last before a crash looks as one that was torn by it. */
static bool may_be_torn(const struct image *image, const struct look *look,
                        const struct image_file *file)
{
    const struct verify_report *sound = &image->look.report;
    const struct look_finding *finding = look_find(look, file->name);
    uint64_t number;
    enum name_kind kind = name_parse(file->name, &number);
    if (kind == NAME_MANIFEST)
        return look->report.torn_edit_bytes > sound->torn_edit_bytes && finding != NULL;
    return kind == NAME_LOG && look->report.log.last_sequence < sound->log.last_sequence &&
           (finding != NULL || look->report.log.trailing_bytes > sound->log.trailing_bytes);
}

static void expect_place(const struct image_file *file, const struct look_finding *finding,
                         size_t at)
{
    uint64_t number;
    if (finding->offset == VERIFY_NOWHERE) return;
    EXPECT(finding->offset < file->bytes.size);
    enum name_kind kind = name_parse(file->name, &number);
    bool in_order = kind == NAME_MANIFEST || kind == NAME_LOG;
    if (in_order) EXPECT(finding->offset <= at);
    if (kind != NAME_RUN) return;

    struct packed_footer footer;
    if (packed_footer_read(buf_slice(&file->bytes), &footer) != STATUS_OK) return;
    if (at < footer.sections[PACKED_CHECKSUMS].offset)
        EXPECT(finding->offset / PACKED_PAGE_BYTES == at / PACKED_PAGE_BYTES);
}

static void expect_named(const struct image *image, const struct look *look,
                         const struct image_file *file, size_t at)
{
    if (look->status != STATUS_OK) {
        /* The identity alone decides whether it is ours to check. */
        EXPECT(strcmp(file->name, NAME_IDENTITY_TEXT) == 0);
        EXPECT(strstr(look->report.text, file->name) != NULL);
        return;
    }
    if (look->report.damage_count == 0) {
        EXPECT(may_be_torn(image, look, file));
        return;
    }
    const struct look_finding *finding = look_find(look, file->name);
    EXPECT(finding != NULL);
    EXPECT(finding->damage);
    expect_place(file, finding, at);
}

struct tally {
    unsigned flips, meaningless, torn, refused;
};

static void flip(struct image *image, struct image_file *file, size_t at, struct tally *tally)
{
    uint8_t bit = (uint8_t)(1u << (at * 7 + at / 8) % 8);
    file->bytes.data[at] ^= bit;
    struct sim_disk *disk = image_put(image);
    struct look look = look_at(disk, false);
    tally->flips++;
    if (is_without_meaning(image, file, at)) {
        EXPECT(look.status == STATUS_OK && look.report.damage_count == 0);
        tally->meaningless++;
    } else {
        expect_named(image, &look, file, at);
        tally->torn += look.status == STATUS_OK && look.report.damage_count == 0;
    }
    /* Verification calls sound only what a node starts with. */
    bool sound = look.status == STATUS_OK && look.report.damage_count == 0;
    if (sound || at % 16 == 0) {
        bool opens = open_store(image, disk) == STATUS_OK;
        EXPECT(opens || !sound);
        tally->refused += !opens;
    }
    sim_disk_destroy(disk);
    file->bytes.data[at] ^= bit;
}

/* Each byte at both ends of a file, where structures are dense, and a sample between. */
static void flip_all(struct image *image, struct image_file *file, size_t dense, size_t stride,
                     struct tally *tally)
{
    size_t size = file->bytes.size;
    for (size_t at = 0; at < size; at++) {
        bool end = at < dense || at + dense >= size;
        if (end || at % stride == 0) flip(image, file, at, tally);
    }
}

TEST_CASE(every_flipped_byte_is_named)
{
    struct image *image = image_create(test_seed, true);
    struct tally tally = {0};
    for (size_t i = 0; i < image->count; i++) flip_all(image, &image->files[i], 64, 29, &tally);
    printf("%u flips, %u of bytes without meaning, %u like a torn tail, %u no node starts with\n",
           tally.flips, tally.meaningless, tally.torn, tally.refused);
    EXPECT(tally.flips > 1000 && tally.refused > 50);
    EXPECT(tally.meaningless + tally.torn < tally.flips / 2);
    image_destroy(image);
}

/* The manifest decides what everything else is, and the log is what was acknowledged last. */
TEST_CASE(every_byte_of_manifest_and_log_is_named)
{
    struct image *image = image_create(test_seed + 1, false);
    struct tally tally = {0};
    flip_all(image, image_find(image, NAME_MANIFEST), SIZE_MAX / 2, 1, &tally);
    for (size_t i = 0; i < image->count; i++) {
        const struct look_file *sound = sound_file(image, image->files[i].name);
        if (sound->kind != NAME_LOG || sound->role != VERIFY_LIVE) continue;
        for (size_t at = 0; at < sound->used_bytes; at++) flip(image, &image->files[i], at, &tally);
    }
    printf("%u flips, %u like a torn tail\n", tally.flips, tally.torn);
    EXPECT(tally.flips > 1000 && tally.meaningless == 0);
    image_destroy(image);
}

static void cut(struct image *image, struct image_file *file, size_t size)
{
    size_t whole = file->bytes.size;
    file->bytes.size = size;
    struct sim_disk *disk = image_put(image);
    struct look look = look_at(disk, false);
    if (is_without_meaning(image, file, size))
        EXPECT(look.status == STATUS_OK && look.report.damage_count == 0);
    else if (look.status != STATUS_OK)
        EXPECT(strstr(look.report.text, file->name) != NULL);
    else if (look.report.damage_count > 0)
        EXPECT(look_find(&look, file->name) != NULL);
    else /* Cut between two frames, or within the last: as after a crash before it. */
        EXPECT(look.report.edit_count < image->look.report.edit_count ||
               look.report.torn_edit_bytes > 0 ||
               look.report.log.last_sequence < image->look.report.log.last_sequence);
    EXPECT(look.report.damage_count > 0 || look.status != STATUS_OK ||
           open_store(image, disk) == STATUS_OK);
    sim_disk_destroy(disk);
    file->bytes.size = whole;
}

TEST_CASE(cut_files_are_named)
{
    struct image *image = image_create(test_seed, true);
    for (size_t i = 0; i < image->count; i++) {
        struct image_file *file = &image->files[i];
        uint64_t number;
        /* A manifest that ends earlier is that of an earlier moment, whose files are gone. */
        if (name_parse(file->name, &number) == NAME_MANIFEST) continue;
        for (size_t size = 0; size < file->bytes.size; size += 1 + file->bytes.size / 40)
            cut(image, file, size);
        if (file->bytes.size > 0) cut(image, file, file->bytes.size - 1);
    }
    image_destroy(image);
}

static struct look look_without(struct image *image, size_t left_out, bool *opens)
{
    struct sim_disk *disk = sim_disk_create(1);
    for (size_t i = 0; i < image->count; i++)
        if (i != left_out)
            sim_disk_put(disk, image->files[i].name, buf_slice(&image->files[i].bytes));
    struct look look = look_at(disk, false);
    *opens = open_store(image, disk) == STATUS_OK;
    sim_disk_destroy(disk);
    return look;
}

TEST_CASE(missing_files_are_named)
{
    struct image *image = image_create(test_seed, true);
    unsigned missed = 0;
    for (size_t i = 0; i < image->count; i++) {
        const struct look_file *sound = sound_file(image, image->files[i].name);
        bool opens;
        struct look look = look_without(image, i, &opens);
        bool needed = sound->role == VERIFY_LIVE && sound->kind != NAME_RESERVE;
        EXPECT(look.status == STATUS_OK);
        EXPECT(opens == (look.report.damage_count == 0));
        EXPECT(opens != needed);
        missed += needed;
        if (needed && sound->kind != NAME_LOG && sound->kind != NAME_MANIFEST)
            EXPECT(look_find(&look, image->files[i].name) != NULL);
    }
    EXPECT(missed >= 6);
    image_destroy(image);
}

TEST_CASE(leftovers_are_notes_and_strangers_are_damage)
{
    struct image *image = image_create(test_seed, true);
    struct sim_disk *disk = image_put(image);
    struct name run = name_of(NAME_RUN, 999), overlay = name_of(NAME_OVERLAY, 998);
    struct name manifest = name_of_new_manifest(77);
    sim_disk_put(disk, run.text, SLICE_LITERAL("half a file"));
    sim_disk_put(disk, overlay.text, SLICE_LITERAL(""));
    sim_disk_put(disk, manifest.text, SLICE_LITERAL("x"));
    struct look look = look_at(disk, false);
    EXPECT(look.report.damage_count == 0);
    EXPECT(look.report.leftover_count == image->look.report.leftover_count + 3);
    EXPECT(look_find(&look, run.text) != NULL && look_find(&look, overlay.text) != NULL);
    EXPECT(look_find(&look, manifest.text) != NULL);

    sim_disk_put(disk, "notes.txt", SLICE_LITERAL("mine"));
    look = look_at(disk, false);
    EXPECT(look.status == STATUS_OK && look.report.damage_count == 1);
    EXPECT(look_find(&look, "notes.txt")->damage);
    sim_disk_destroy(disk);
    image_destroy(image);
}

/* One run names all damage. */
TEST_CASE(damage_in_every_file_is_named_at_once)
{
    struct image *image = image_create(test_seed, true);
    for (size_t i = 0; i < image->count; i++) {
        const struct look_file *sound = sound_file(image, image->files[i].name);
        size_t at = 70;
        if (sound->role != VERIFY_LIVE || sound->kind == NAME_RESERVE) continue;
        if (sound->kind == NAME_IDENTITY || sound->kind == NAME_OVERLAY) at = 40;
        if (at < image->files[i].bytes.size) image->files[i].bytes.data[at] ^= 4;
    }
    struct sim_disk *disk = image_put(image);
    struct look look = look_at(disk, false);
    EXPECT(look.status == STATUS_OK);
    for (size_t i = 0; i < image->count; i++) {
        const struct look_file *sound = sound_file(image, image->files[i].name);
        if (sound->role == VERIFY_LIVE && sound->kind != NAME_RESERVE && sound->kind != NAME_LOG)
            EXPECT(look_find(&look, image->files[i].name) != NULL);
    }
    sim_disk_destroy(disk);
    image_destroy(image);
}

/* Opens the log of a directory, and appends. */
static void append_batches(struct sim_disk *disk, const struct image *image, struct slice payload,
                           unsigned count, bool synced)
{
    struct heap heap;
    struct log *log;
    struct log_report report;
    struct log_sync sync;
    struct log_options options = {
        .replay_sequence = image->look.report.numbers[MANIFEST_REPLAY_SEQUENCE]};
    uint64_t sequence;
    memcpy(options.store_id, image->look.report.store_id, sizeof options.store_id);
    heap_init(&heap, 0);
    EXPECT(log_open(sim_disk_env(disk), &heap, &options, skip_batch, NULL, &report, &log) ==
           STATUS_OK);
    for (unsigned i = 0; i < count; i++) {
        EXPECT(log_append(log, payload, &sequence) == STATUS_OK);
        if (!synced) continue;
        EXPECT(log_sync_begin(log, &sync) == STATUS_OK);
        log_sync_complete(log, &sync, log_sync_run(&sync));
    }
    if (synced) EXPECT(log_append_mark(log) == STATUS_OK);
    log_close(log);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* The last log segment with bytes in it, as it is on the disk. */
static struct name last_log(struct sim_disk *disk, struct slice *content)
{
    struct name name = {.text = ""};
    for (uint64_t number = 1; number < 100; number++) {
        struct slice found;
        struct name candidate = name_of(NAME_LOG, number);
        if (!sim_disk_content(disk, candidate.text, &found) || found.size < 200) continue;
        name = candidate;
        *content = found;
    }
    EXPECT(name.text[0] != '\0');
    return name;
}

/* Where `text` is for the time after `skip` others; it must be there. */
static size_t find_text(struct slice content, const char *text, unsigned skip)
{
    size_t size = strlen(text), at = 0;
    for (; at + size <= content.size; at++)
        if (memcmp(content.data + at, text, size) == 0 && skip-- == 0) return at;
    EXPECT(false);
    return at;
}

TEST_CASE(a_batch_that_makes_no_sense_is_named)
{
    struct image *image = image_create(test_seed, true);
    struct sim_disk *disk = image_put(image);
    struct slice content;
    append_batches(disk, image, SLICE_LITERAL("no batch"), 1, true);
    struct look look = look_at(disk, false);
    EXPECT(look.report.damage_count == 1);
    EXPECT(look_find(&look, last_log(disk, &content).text)->damage);
    sim_disk_destroy(disk);
    image_destroy(image);
}

/* Ceilings: entries of a batch that every reader takes. */
static const char sound_batch[] = "\2ceiling!";

TEST_CASE(each_damaged_batch_is_named)
{
    struct image *image = image_create(test_seed, true);
    struct sim_disk *disk = image_put(image);
    struct slice content;
    append_batches(disk, image, slice_of(sound_batch, 9), 6, true);
    EXPECT(look_at(disk, false).report.damage_count == 0);
    struct name name = last_log(disk, &content);
    size_t first = find_text(content, sound_batch, 1), second = find_text(content, sound_batch, 3);
    sim_disk_flip_bit(disk, name.text, first * 8 + 9);
    sim_disk_flip_bit(disk, name.text, second * 8 + 9);
    struct look look = look_at(disk, false);
    EXPECT(look.report.damage_count == 2);
    EXPECT(look.findings[0].offset + 32 == first && look.findings[1].offset + 32 == second);
    EXPECT(look.report.log.last_sequence == image->look.report.log.last_sequence + 6);
    sim_disk_destroy(disk);
    image_destroy(image);
}

TEST_CASE(a_torn_batch_is_a_note)
{
    struct image *image = image_create(test_seed, true);
    struct sim_disk *disk = image_put(image);
    struct slice content;
    append_batches(disk, image, slice_of(sound_batch, 9), 2, false);
    struct name name = last_log(disk, &content);
    size_t second = find_text(content, sound_batch, 1);
    sim_disk_flip_bit(disk, name.text, second * 8 + 9);
    struct look look = look_at(disk, false);
    EXPECT(look.status == STATUS_OK && look.report.damage_count == 0);
    EXPECT(look.report.log.torn_batches == 1);
    EXPECT(look_find(&look, name.text)->offset + 32 == second);
    sim_disk_destroy(disk);
    image_destroy(image);
}

/* From its first start on a store has a log, even when there is nothing to be replayed. */
TEST_CASE(a_log_that_is_gone_is_named)
{
    struct sim_disk *disk = sim_disk_create(1);
    struct image image = {.options = story_options(true)};
    EXPECT(open_store(&image, disk) == STATUS_OK);
    EXPECT(look_at(disk, false).report.damage_count == 0);
    EXPECT(env_remove(sim_disk_env(disk), name_of(NAME_LOG, 1).text) == STATUS_OK);
    EXPECT(look_at(disk, false).report.damage_count == 1);
    EXPECT(open_store(&image, disk) == STATUS_CORRUPT);
    sim_disk_destroy(disk);
}

/* The one before it knows that it was there. */
TEST_CASE(a_newest_segment_that_is_gone_is_named)
{
    struct store_world world;
    struct image image = {.options = store_world_options()};
    EXPECT(store_world_init(&world, test_seed, &image.options) == STATUS_OK);
    for (unsigned i = 0; world.store->log->segment_count < 2 || i % 4 != 0; i++) {
        char text[32];
        uint64_t sequence;
        int size = snprintf(text, sizeof text, "ns%c%05u", 0, i);
        struct store_write write = {.kind = STORE_SET, .key = slice_of(text, (size_t)size)};
        EXPECT(store_world_write(&world, &write, 1, NULL, &sequence) == STATUS_OK);
        EXPECT(store_world_sync(&world) == STATUS_OK);
    }
    struct name before = name_of(NAME_LOG, world.store->log->segments[0].number);
    struct name newest = name_of(NAME_LOG, world.store->log->segments[1].number);
    store_world_close(&world);
    EXPECT(look_at(world.disk, false).report.damage_count == 0);
    EXPECT(env_remove(sim_disk_env(world.disk), newest.text) == STATUS_OK);
    struct look look = look_at(world.disk, false);
    EXPECT(look.report.damage_count == 1);
    EXPECT(look_find(&look, before.text)->damage);
    EXPECT(open_store(&image, world.disk) == STATUS_CORRUPT);
    store_world_deinit(&world);
}

/* One more edit of the manifest: without overlays, or with another moment of settling. */
static void edit_manifest(struct sim_disk *disk, bool forget_overlays, uint64_t settled_ms)
{
    struct heap heap;
    struct manifest *manifest;
    struct manifest_report report;
    struct manifest_edit edit;
    heap_init(&heap, 0);
    EXPECT(manifest_open(sim_disk_env(disk), &heap, &(struct manifest_options){0}, &report,
                         &manifest) == STATUS_OK);
    manifest_edit_init(&edit, &heap);
    for (size_t i = 0; i < manifest_state(manifest)->run_count; i++)
        if (forget_overlays && manifest_state(manifest)->runs[i].overlay != 0)
            manifest_edit_set_overlay(&edit, manifest_state(manifest)->runs[i].number, 0);
    manifest_edit_set_number(&edit, MANIFEST_SETTLED_MS, settled_ms);
    EXPECT(manifest_commit(manifest, &edit) == STATUS_OK);
    manifest_edit_deinit(&edit);
    manifest_close(manifest);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* A record that is current twice: an overlay that should have killed it is forgotten. */
TEST_CASE(a_key_that_is_current_twice_is_named)
{
    struct image *image = image_create(test_seed, true);
    struct sim_disk *disk = image_put(image);
    edit_manifest(disk, true, 0);
    struct look look = look_at(disk, false);
    EXPECT(look.status == STATUS_OK && look.report.damage_count > 0);
    uint64_t number;
    EXPECT(name_parse(look.findings[0].name, &number) == NAME_RUN);
    sim_disk_destroy(disk);
    image_destroy(image);
}

/* Words that are said to be settled, and are counted. */
TEST_CASE(an_expired_word_that_is_counted_is_named)
{
    struct image *image = image_create(test_seed, true);
    struct sim_disk *disk = image_put(image);
    edit_manifest(disk, false, 900000);
    EXPECT(look_at(disk, false).report.damage_count == 0);
    edit_manifest(disk, false, 9000000);
    struct look look = look_at(disk, false);
    EXPECT(look.status == STATUS_OK && look.report.damage_count > 0);
    sim_disk_destroy(disk);
    image_destroy(image);
}

TEST_CASE(what_is_no_store_is_refused)
{
    static const uint8_t zeros[16];
    char identity[IDENTITY_BYTES + 1];
    struct sim_disk *disk = sim_disk_create(1);
    EXPECT(look_at(disk, false).status == STATUS_NOT_FOUND);
    sim_disk_put(disk, "holiday.jpg", SLICE_LITERAL("jpg"));
    struct look look = look_at(disk, false);
    EXPECT(look.status == STATUS_FOREIGN && strstr(look.report.text, "holiday.jpg") != NULL);
    sim_disk_destroy(disk);

    disk = sim_disk_create(1);
    identity_encode(zeros, identity);
    identity[31] = '7';
    sim_disk_put(disk, NAME_IDENTITY_TEXT, slice_of(identity, IDENTITY_BYTES));
    look = look_at(disk, false);
    EXPECT(look.status == STATUS_NEWER && strstr(look.report.text, NAME_IDENTITY_TEXT) != NULL);
    sim_disk_destroy(disk);

    struct image *image = image_create(test_seed, true);
    disk = image_put(image);
    EXPECT(env_lock(sim_disk_env(disk)) == STATUS_OK);
    look = look_at(disk, false);
    EXPECT(look.status == STATUS_LOCKED && strstr(look.report.text, "runs") != NULL);
    env_unlock(sim_disk_env(disk));
    EXPECT(look_at(disk, false).status == STATUS_OK);
    sim_disk_destroy(disk);
    image_destroy(image);
}

/* Whatever fails while it looks: an error or damage, never a leak, never a change. */
TEST_CASE(every_failure_is_told)
{
    struct image *image = image_create(test_seed, true);
    struct sim_disk *disk = image_put(image);
    uint64_t before = sim_disk_operation_count(disk);
    EXPECT(look_at(disk, false).report.damage_count == 0);
    uint64_t count = sim_disk_operation_count(disk) - before;
    for (uint64_t i = 0; i < count; i++) {
        sim_disk_fail_after(disk, i, STATUS_IO);
        struct look look = look_at(disk, false);
        sim_disk_restart(disk, SIM_DISK_KILLED);
        if (look.status != STATUS_OK || look.report.damage_count > 0) continue;
        /* A size that could not be asked for costs the progress bar alone: all else was seen. */
        look.report.total_bytes = image->look.report.total_bytes;
        EXPECT(memcmp(&look.report, &image->look.report, sizeof look.report) == 0);
    }
    struct heap heap;
    struct verify_visitor visitor = {0};
    struct verify_report report;
    heap_init(&heap, 0);
    for (int64_t i = 0;; i++) {
        heap.failure_after = i;
        enum status status = verify_directory(sim_disk_env(disk), &heap, &visitor, &report);
        EXPECT(heap_used_bytes(&heap) == 0);
        if (status == STATUS_OK) break;
        EXPECT(status == STATUS_NOMEM);
    }
    EXPECT(report.damage_count == 0);
    sim_disk_destroy(disk);
    image_destroy(image);
}

TEST_MAIN(TEST(a_sound_directory_is_described), TEST(the_counts_are_those_of_the_store),
          TEST(every_flipped_byte_is_named), TEST(every_byte_of_manifest_and_log_is_named),
          TEST(cut_files_are_named), TEST(missing_files_are_named),
          TEST(leftovers_are_notes_and_strangers_are_damage),
          TEST(damage_in_every_file_is_named_at_once), TEST(a_key_that_is_current_twice_is_named),
          TEST(a_batch_that_makes_no_sense_is_named), TEST(each_damaged_batch_is_named),
          TEST(a_torn_batch_is_a_note), TEST(a_log_that_is_gone_is_named),
          TEST(a_newest_segment_that_is_gone_is_named),
          TEST(an_expired_word_that_is_counted_is_named), TEST(what_is_no_store_is_refused),
          TEST(every_failure_is_told))
