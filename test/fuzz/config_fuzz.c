/* Any bytes as a configuration file: what is taken prints to a file that gives the same. */
#include <string.h>

#include "base/check.h"
#include "shell/config.h"

static bool parse(struct slice file, struct config *config, struct heap *heap)
{
    static const char *const arguments[] = {"trifectad"};
    struct config_input input = {.file_name = "f", .file = file, .arguments = arguments};
    struct buf message;
    input.argument_count = 1;
    buf_init(&message, heap);
    enum status status = config_parse(&input, config, &message);
    CHECK(status == STATUS_OK || message.size > 0);
    buf_deinit(&message);
    return status == STATUS_OK;
}

/* Line separators of Unicode and C1 controls cannot stand in a quoted scalar as they are. */
static bool is_plain(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] >= 0x7f) return false;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config first, second;
    struct heap heap;
    struct buf printed, again;
    heap_init(&heap, 0);
    if (!parse(slice_of(data, size), &first, &heap)) return 0;

    buf_init(&printed, &heap);
    buf_init(&again, &heap);
    config_print(&first, "f", &printed);
    if (is_plain(buf_slice(&printed))) {
        CHECK(parse(buf_slice(&printed), &second, &heap));
        memcpy(second.places, first.places, sizeof first.places);
        config_print(&second, "f", &again);
        CHECK(slice_equal(buf_slice(&printed), buf_slice(&again)));
    }
    buf_deinit(&printed);
    buf_deinit(&again);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
