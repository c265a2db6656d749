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

/* One of a few sound files, built when it is first wanted: training takes most of a build. */
static struct slice image(uint8_t choice)
{
    enum { IMAGES = 32 };
    static const unsigned shapes[] = {0,
                                      MODEL_TOMBSTONES,
                                      MODEL_EXTRAS,
                                      MODEL_NODES,
                                      MODEL_OVERWRITTEN,
                                      MODEL_SCORES_WILD,
                                      MODEL_SCORES_SKEWED,
                                      MODEL_TIMES_WILD | MODEL_TOMBSTONES | MODEL_EXTRAS};
    static struct heap heap;
    static struct buf images[IMAGES];
    struct buf *file = &images[choice % IMAGES];
    if (file->size > 0) return buf_slice(file);

    struct prng prng = {.state = choice % IMAGES};
    struct model model;
    buf_init(file, &heap);
    atomic_store(&heap.failure_after, -1);
    model_init(&model, &heap, &prng, 1 + 25 * (choice % IMAGES / 8), shapes[choice % 8]);
    CHECK(model_build(&model, file) == STATUS_OK);
    model_deinit(&model);
    return buf_slice(file);
}

static void change_and_ask(const uint8_t *data, size_t size, struct heap *heap)
{
    struct slice original = image(data[0]);
    struct packed_footer footer;
    struct buf file;
    buf_init(&file, heap);
    buf_append_slice(&file, original);
    CHECK(packed_footer_read(original, &footer) == STATUS_OK);
    change(slice_of(data + 1, size - 1), &file);
    ask_reseal(file.data, file.size, footer.sections[PACKED_CHECKSUMS]);
    ask(file.data, file.size, heap);
    buf_deinit(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    heap_init(&heap, 64 << 20); /* Nothing small may ask for much. */
    ask(data, size, &heap);
    if (size > 0) change_and_ask(data, size, &heap);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
