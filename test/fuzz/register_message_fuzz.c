/* Any bytes as a message of the register or of boot counters, and as what both keep on disk:
 * what decodes encodes to the same bytes. The first byte says as what, messages have it as
 * theirs. */
#include "base/check.h"
#include "cluster/boots_message.h"
#include "cluster/outbox.h"
#include "cluster/register_state.h"

enum { AS_STATE = 100, AS_BOOT = 101, AS_STARTS = 102 };

static void as_register_message(struct slice input, struct buf *again)
{
    struct register_message message;
    if (register_message_decode(input, &message) != STATUS_OK) return;
    buf_append_u8(again, PROTOCOL_REGISTER);
    register_message_encode(&message, again);
    CHECK(slice_equal(buf_slice(again), input));
}

static void as_boots_message(struct slice input, struct buf *again)
{
    struct boots_message message;
    if (boots_message_decode(input, &message) != STATUS_OK) return;
    buf_append_u8(again, PROTOCOL_BOOTS);
    boots_message_encode(&message, again);
    CHECK(slice_equal(buf_slice(again), input));
}

static void as_state(struct slice input, struct buf *again)
{
    struct register_state state;
    if (register_state_decode(input, &state) != STATUS_OK) return;
    register_state_encode(&state, again);
    CHECK(slice_equal(buf_slice(again), input));
}

static void as_boot(struct slice input, struct buf *again)
{
    struct boot boot;
    if (boot_decode(input, &boot) != STATUS_OK) return;
    boot_encode(boot, again);
    CHECK(slice_equal(buf_slice(again), input));
}

static void as_starts(struct slice input, struct buf *again)
{
    struct starts starts;
    if (starts_decode(input, &starts) != STATUS_OK) return;
    starts_encode(&starts, again);
    CHECK(slice_equal(buf_slice(again), input));
    starts_next(&starts, 5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_of(data, size);
    struct heap heap;
    heap_init(&heap, 0);
    struct buf again = {.heap = &heap};
    if (size == 0) return 0;
    if (data[0] == PROTOCOL_REGISTER) as_register_message(input, &again);
    if (data[0] == PROTOCOL_BOOTS) as_boots_message(input, &again);
    if (data[0] == AS_STATE) as_state(slice_from(input, 1), &again);
    if (data[0] == AS_BOOT) as_boot(slice_from(input, 1), &again);
    if (data[0] == AS_STARTS) as_starts(slice_from(input, 1), &again);
    buf_deinit(&again);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
