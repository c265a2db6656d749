/* Any bytes as the entries of one batch of the log: what is read is written as the same bytes; and
 * as a batch that recovery reads back under right checksums: a store opens with its records, or
 * refuses them and changes nothing. What was opened opens again. */
#include <string.h>

#include "base/check.h"
#include "sim/disk.h"
#include "store/batch.h"
#include "store/frame.h"
#include "store/identity.h"
#include "store/log_private.h"
#include "store/names.h"
#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Entry by entry, written again. True if all are entries. */
static bool read_entries(struct slice payload, struct heap *heap)
{
    struct reader reader = reader_of(payload);
    struct batch_entry entry;
    struct buf again, encoded;
    enum status status;
    buf_init(&again, heap);
    buf_init(&encoded, heap);
    while ((status = batch_next(&reader, &entry)) == STATUS_OK) {
        if (entry.kind == BATCH_CEILING) {
            batch_append_ceiling(&again, entry.ceiling);
            continue;
        }
        if (entry.kind == BATCH_FORGET) {
            batch_append_forget(&again, entry.key, entry.version);
            continue;
        }
        CHECK(record_is_canonical(&entry.record));
        buf_clear(&encoded);
        record_encode(&entry.record, &encoded);
        batch_append_record(&again, entry.key, buf_slice(&encoded));
    }
    CHECK(status == STATUS_END || status == STATUS_CORRUPT);
    CHECK(slice_starts_with(payload, buf_slice(&again)));
    CHECK(status == STATUS_CORRUPT || again.size == payload.size);
    buf_deinit(&again);
    buf_deinit(&encoded);
    return status == STATUS_END;
}

static enum status open_once(struct sim_disk *disk, uint64_t *records)
{
    static const uint8_t identity[16] = "sixteen bytes i";
    struct heap heap;
    struct store *store = NULL;
    struct store_report report;
    struct store_options options = store_options_default();
    heap_init(&heap, 0);
    options.log_segment_bytes = 4096;
    options.reserve_bytes = options.low_water_bytes = 0;
    enum status status =
        store_open(sim_disk_env(disk), &heap, &options, identity, 1000000, &store, &report);
    *records = report.replayed_records;
    CHECK(status == STATUS_OK || report.detail[0] != '\0');
    store_close(store);
    CHECK(heap_used_bytes(&heap) == 0);
    return status;
}

/* The directory of a new store whose log has one batch. */
static struct sim_disk *disk_of(struct slice payload, struct heap *heap)
{
    struct sim_disk *disk = sim_disk_create(1);
    uint64_t records;
    struct slice identity;
    struct segment_header header = {.number = 9, .first = 1};
    uint8_t bytes[SEGMENT_HEADER_BYTES], frame_bytes[FRAME_HEADER_BYTES];
    CHECK(open_once(disk, &records) == STATUS_OK);
    CHECK(sim_disk_content(disk, NAME_IDENTITY_TEXT, &identity));
    CHECK(identity_decode(identity, header.store_id) == STATUS_OK);

    struct buf file;
    buf_init(&file, heap);
    segment_header_encode(&header, bytes);
    buf_append(&file, bytes, sizeof bytes);
    struct frame frame = {.kind = FRAME_BATCH, .sequence = 1, .payload = payload};
    frame_encode_header(&frame, frame_seed(header.store_id, header.number), frame_bytes);
    buf_append(&file, frame_bytes, sizeof frame_bytes);
    buf_append_slice(&file, payload);
    while (file.size % FRAME_ALIGN_BYTES != 0) buf_append_u8(&file, 0);
    sim_disk_put(disk, name_of(NAME_LOG, header.number).text, buf_slice(&file));
    buf_deinit(&file);
    return disk;
}

static void recover(struct slice payload, bool sound, struct heap *heap)
{
    uint64_t first, second;
    struct sim_disk *disk = disk_of(payload, heap);
    enum status status = open_once(disk, &first);
    CHECK((status == STATUS_OK) == sound);
    if (sound) {
        CHECK(open_once(disk, &second) == STATUS_OK);
        CHECK(first == second);
    }
    sim_disk_destroy(disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    heap_init(&heap, 64 << 20);
    struct slice payload = slice_of(data, size);
    bool sound = read_entries(payload, &heap);
    /* What is no batch is refused by the same reader: once in a while is enough. */
    if (sound || size % 16 == 0) recover(payload, sound, &heap);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
