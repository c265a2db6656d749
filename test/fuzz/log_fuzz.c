/* The bytes of a log segment, whatever they are: opened, or refused without a change. What
 * was opened opens again with the same batches. */
#include <stdlib.h>

#include "sim/disk.h"
#include "store/log.h"
#include "store/names.h"

static enum status add_up(void *context, uint64_t sequence, struct slice payload)
{
    uint64_t *sum = context;
    *sum = *sum * 31 + sequence;
    for (size_t i = 0; i < payload.size; i++) *sum = *sum * 31 + payload.data[i];
    return STATUS_OK;
}

static enum status open_once(struct sim_disk *disk, uint64_t *sum)
{
    struct heap heap;
    struct log *log = NULL;
    struct log_report report;
    struct log_options options = {
        .store_id = "sixteen bytes i", .replay_sequence = 1, .segment_bytes = 4096};
    options.store_id[15] = 'd'; /* The seeds' store; a string would end in zero. */
    heap_init(&heap, 0);
    enum status status = log_open(sim_disk_env(disk), &heap, &options, add_up, sum, &report, &log);
    if (status == STATUS_OK) log_close(log);
    if (heap_used_bytes(&heap) != 0) abort();
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t first = 0;
    uint64_t second = 0;
    struct sim_disk *disk = sim_disk_create(1);
    sim_disk_put(disk, name_of(NAME_LOG, 1).text, slice_of(data, size));
    enum status status = open_once(disk, &first);
    if (status != STATUS_OK && sim_disk_change_count(disk) != 0) abort();
    if (status == STATUS_OK && (open_once(disk, &second) != STATUS_OK || first != second)) abort();
    sim_disk_destroy(disk);
    return 0;
}
