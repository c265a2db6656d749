/* A sound data directory, one file of which is replaced by any bytes, or changed by them, with
 * checksums made right again or not: verification ends, changes nothing, keeps nothing, names a
 * file for all it finds; and what it calls sound, a node starts with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "core/packed_ask.h"
#include "sim/store_world.h"
#include "store/frame.h"
#include "store/identity.h"
#include "store/log_private.h"
#include "store/manifest_private.h"
#include "store/names.h"
#include "store/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES_MAX = 24 };

enum mode { REPLACE, CHANGE, CHANGE_SEALED, CUT_SEALED };

struct image_file {
    char name[NAME_BYTES_MAX];
    uint8_t *data;
    size_t size;
};

/* Made once. */
static struct image_file files[FILES_MAX];
static size_t file_count;
static struct sim_disk *source;
static struct store_options options;
static uint8_t store_id[16];

/* --- The directory --- */

static enum status take_file(void *context, const char *name, bool is_file)
{
    struct slice content;
    uint64_t number;
    enum name_kind kind = name_parse(name, &number);
    (void)context;
    CHECK(is_file);
    CHECK(sim_disk_content(source, name, &content));
    if (kind == NAME_RESERVE) return STATUS_OK;
    CHECK(file_count < FILES_MAX);
    struct image_file *file = &files[file_count++];
    strncpy(file->name, name, sizeof file->name - 1);
    file->data = malloc(content.size + 1);
    CHECK(file->data != NULL);
    memcpy(file->data, content.data, content.size);
    file->size = content.size;
    if (kind == NAME_IDENTITY) CHECK(identity_decode(content, store_id) == STATUS_OK);
    return STATUS_OK;
}

static void write_words(struct store_world *world, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        char key[16];
        uint64_t sequence;
        int length = snprintf(key, sizeof key, "ns%cw%u", 0, i);
        struct store_write write = {
            .kind = i % 7 == 3 ? STORE_REMOVE : STORE_SET,
            .key = slice_of(key, (size_t)length),
            .score = i % 5,
            .expires_at = i % 6 == 1 ? world->now_ms + 5 : 0,
        };
        if (i % 4 == 0 && write.kind == STORE_SET) write.tags = slice_of("\2de\2fr", 6);
        CHECK(store_world_write(world, &write, 1, NULL, &sequence) == STATUS_OK);
        CHECK(store_world_sync(world) == STATUS_OK);
    }
}

static void flush(struct store_world *world)
{
    CHECK(store_flush_begin(world->store, &world->job) == STATUS_OK);
    world->stage = STORE_WORLD_BUILDING;
    while (world->job != NULL) {
        enum status status = store_world_job_step(world);
        CHECK(status == STATUS_OK || status == STATUS_PARTIAL);
    }
}

static void make_image(void)
{
    struct store_world world;
    options = store_world_options();
    options.log_segment_bytes = 2048;
    CHECK(store_world_init(&world, 1, &options) == STATUS_OK);
    write_words(&world, 0, 60);
    flush(&world);
    world.now_ms += 100;
    store_tick(world.store, world.now_ms);
    write_words(&world, 40, 40);
    flush(&world);
    write_words(&world, 70, 20);
    source = world.disk;
    store_world_reclaim(&world);
    store_world_close(&world);
    sim_disk_restart(source, SIM_DISK_KILLED);
    CHECK(env_list(sim_disk_env(source), take_file, NULL) == STATUS_OK);
    store_world_deinit(&world);
}

/* --- Changes --- */

/* Each three bytes: where, from the start or the end, and what to write there. */
static void change(struct slice changes, uint8_t *data, size_t size)
{
    for (; changes.size >= 3 && size > 0; changes = slice_from(changes, 3)) {
        size_t at = load_u16le(changes.data);
        at = at & 1 ? size - 1 - (at >> 1) % size : (at >> 1) % size;
        data[at] = changes.data[2];
    }
}

/* Frame by frame, as far as sizes lead. */
static void seal_frames(uint8_t *data, size_t size, uint64_t number)
{
    uint32_t seed = frame_seed(store_id, number);
    size_t at = 64;
    if (size < 64) return;
    store_u32le(data + 8, crc32c(0, data + 12, 52));
    while (at + FRAME_HEADER_BYTES <= size) {
        uint8_t *header = data + at;
        uint64_t payload = load_u32le(header + 8);
        if (header[12] == 0 || frame_size_bytes(payload) > size - at) return;
        frame_encode_header(&(struct frame){.kind = header[12],
                                            .sequence = load_u64le(header + 16),
                                            .durable = load_u64le(header + 24),
                                            .payload = {header + FRAME_HEADER_BYTES, payload}},
                            seed, header);
        at += frame_size_bytes(payload);
    }
}

static void seal(const char *name, uint8_t *data, size_t size, struct packed_extent checksums)
{
    uint64_t number;
    switch (name_parse(name, &number)) {
    case NAME_RUN:
        ask_reseal(data, size, checksums);
        return;
    case NAME_OVERLAY:
        if (size >= 4) store_u32le(data + size - 4, crc32c(0, data, size - 4));
        return;
    case NAME_MANIFEST:
    case NAME_LOG:
        seal_frames(data, size, number);
        return;
    default:
        return;
    }
}

/* The bytes of a file after the input had its way with it. */
static size_t spoil(const struct image_file *file, enum mode mode, struct slice input,
                    uint8_t *data)
{
    struct packed_footer footer = {0};
    size_t size = file->size;
    uint64_t number;
    if (mode == REPLACE) {
        memcpy(data, input.data, input.size);
        return input.size;
    }
    memcpy(data, file->data, size);
    bool is_trie = name_parse(file->name, &number) == NAME_RUN;
    /* The tail says where the rest is: damage there is for the other modes. */
    if (is_trie) {
        CHECK(packed_footer_read(slice_of(file->data, size), &footer) == STATUS_OK);
        change(input, data, mode == CHANGE ? size : size - PACKED_TAIL_BYTES);
    } else {
        change(input, data, size);
        if (mode == CUT_SEALED && input.size >= 2) size -= load_u16le(input.data) % (size + 1);
    }
    if (mode != CHANGE) seal(file->name, data, size, footer.sections[PACKED_CHECKSUMS]);
    return size;
}

/* --- What becomes of it --- */

static void take_finding(void *context, const struct verify_finding *finding)
{
    uint64_t *count = context;
    CHECK(finding->text[0] != '\0');
    *count += finding->damage;
}

static bool is_sound(struct sim_disk *disk)
{
    struct heap heap;
    struct verify_report report;
    uint64_t damage = 0;
    struct verify_visitor visitor = {.found = take_finding, .context = &damage};
    heap_init(&heap, 64 << 20); /* Nothing small may ask for much. */
    uint64_t changes = sim_disk_change_count(disk);
    enum status status = verify_directory(sim_disk_env(disk), &heap, &visitor, &report);
    CHECK(sim_disk_change_count(disk) == changes);
    CHECK(heap_used_bytes(&heap) == 0);
    CHECK(status == STATUS_OK || report.text[0] != '\0');
    CHECK(status == STATUS_OK || status == STATUS_FOREIGN || status == STATUS_NEWER);
    CHECK(damage == report.damage_count);
    return status == STATUS_OK && damage == 0;
}

static enum status open_store(struct sim_disk *disk)
{
    static const uint8_t identity[16] = "another one";
    struct heap heap;
    struct store *store = NULL;
    struct store_report report;
    heap_init(&heap, 0);
    enum status status =
        store_open(sim_disk_env(disk), &heap, &options, identity, 2000000, &store, &report);
    store_close(store);
    CHECK(heap_used_bytes(&heap) == 0);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (file_count == 0) make_image();
    if (size < 2) return 0;
    struct image_file *file = &files[data[0] % file_count];
    enum mode mode = (enum mode)(data[1] % 4);
    struct slice input = slice_of(data + 2, size - 2);

    uint8_t *spoilt = malloc(file->size + input.size + 1);
    CHECK(spoilt != NULL);
    size_t spoilt_size = spoil(file, mode, input, spoilt);
    struct sim_disk *disk = sim_disk_create(1);
    for (size_t i = 0; i < file_count; i++)
        if (&files[i] != file)
            sim_disk_put(disk, files[i].name, slice_of(files[i].data, files[i].size));
    sim_disk_put(disk, file->name, slice_of(spoilt, spoilt_size));
    if (is_sound(disk)) CHECK(open_store(disk) == STATUS_OK);
    sim_disk_destroy(disk);
    free(spoilt);
    return 0;
}
