/* The bytes of a manifest, and of an edit: accepted or refused, never trusted. */
#include <stdlib.h>

#include "sim/disk.h"
#include "store/identity.h"
#include "store/manifest_state.h"
#include "store/names.h"

static const uint8_t store_id[16] = "sixteen bytes i";

static void open_as_file(struct heap *heap, struct slice bytes)
{
    char identity[IDENTITY_BYTES + 1];
    struct manifest *manifest = NULL;
    struct manifest_report report;
    struct manifest_options options = {.create = true};
    struct sim_disk *disk = sim_disk_create(1);
    identity_encode(store_id, identity);
    sim_disk_put(disk, NAME_IDENTITY_TEXT, slice_of(identity, IDENTITY_BYTES));
    sim_disk_put(disk, name_of(NAME_MANIFEST, 1).text, bytes);
    enum status status = manifest_open(sim_disk_env(disk), heap, &options, &report, &manifest);
    if (status == STATUS_OK)
        manifest_close(manifest);
    else if (report.text[0] == 0 || sim_disk_change_count(disk) != 0)
        abort();
    sim_disk_destroy(disk);
}

/* A state that an edit made is made again by its own snapshot. */
static void apply_as_edit(struct heap *heap, struct slice bytes)
{
    struct manifest_state *empty;
    struct manifest_state *state;
    struct manifest_state *again;
    if (state_create(heap, store_id, &empty) != STATUS_OK) abort();
    if (state_apply(heap, empty, bytes, &state) == STATUS_OK) {
        struct manifest_edit edit;
        manifest_edit_init(&edit, heap);
        state_snapshot(state, &edit);
        if (state_apply(heap, empty, buf_slice(&edit.bytes), &again) != STATUS_OK) abort();
        manifest_edit_deinit(&edit);
        state_destroy(heap, again);
        state_destroy(heap, state);
    }
    state_destroy(heap, empty);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    heap_init(&heap, 0);
    open_as_file(&heap, slice_of(data, size));
    apply_as_edit(&heap, slice_of(data, size));
    if (heap_used_bytes(&heap) != 0) abort();
    return 0;
}
