/* Any bytes as a packed trie, and a sound one changed by any bytes under right checksums: all
 * questions end, with an answer or STATUS_CORRUPT. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "core/packed.h"

#include "core/packed_ask.h"
#include "core/packed_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const uint8_t *bytes, size_t size, struct heap *heap)
{
    uint64_t digest = 0;
    enum status status = ask_file(slice_of(bytes, size), heap, &digest);
    CHECK(status == STATUS_OK || status == STATUS_CORRUPT || status == STATUS_NEWER);
}

/* Each three bytes: where, from the start or the end, and what to write there. */
static void change(struct slice changes, struct buf *file)
{
    size_t limit = file->size - PACKED_TAIL_BYTES;
    for (; changes.size >= 3; changes = slice_from(changes, 3)) {
        size_t at = load_u16le(changes.data);
        at = at & 1 ? limit - 1 - (at >> 1) % limit : (at >> 1) % limit;
        file->data[at] = changes.data[2];
    }
}

static void build_and_ask(const uint8_t *data, size_t size, struct heap *heap)
{
    struct prng prng = {.state = data[0]};
    struct model model;
    struct buf file;
    struct packed_footer footer;
    model_init(&model, heap, &prng, 1 + data[1] % 100, data[2]);
    buf_init(&file, heap);
    CHECK(model_build(&model, &file) == STATUS_OK);
    CHECK(packed_footer_read(buf_slice(&file), &footer) == STATUS_OK);
    change(slice_of(data + 3, size - 3), &file);
    ask_reseal(file.data, file.size, footer.sections[PACKED_CHECKSUMS]);
    ask(file.data, file.size, heap);
    buf_deinit(&file);
    model_deinit(&model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    heap_init(&heap, 64 << 20); /* Nothing small may ask for much. */
    ask(data, size, &heap);
    if (size >= 3) build_and_ask(data, size, &heap);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
