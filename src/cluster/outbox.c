#include "cluster/outbox.h"

#include "base/check.h"

void outbox_init(struct outbox *outbox, struct heap *heap)
{
    *outbox = (struct outbox){.bytes = {.heap = heap}};
}

void outbox_deinit(struct outbox *outbox)
{
    heap_free(outbox->bytes.heap, outbox->messages);
    buf_deinit(&outbox->bytes);
    *outbox = (struct outbox){0};
}

void outbox_clear(struct outbox *outbox)
{
    buf_clear(&outbox->bytes);
    outbox->count = 0;
}

/* Room for one more; false without memory. */
static bool grow(struct outbox *outbox)
{
    if (outbox->count < outbox->capacity) return true;
    size_t capacity = outbox->capacity == 0 ? 16 : outbox->capacity * 2;
    struct outbox_message *messages =
        heap_realloc(outbox->bytes.heap, outbox->messages, capacity * sizeof *messages);
    if (messages == NULL) return false;
    outbox->messages = messages;
    outbox->capacity = capacity;
    return true;
}

struct buf *outbox_begin(struct outbox *outbox, node_id to, enum protocol protocol)
{
    CHECK(to != 0);
    if (!grow(outbox)) outbox->bytes.failed = true;
    if (!outbox->bytes.failed) {
        outbox->messages[outbox->count] =
            (struct outbox_message){.to = to, .at = outbox->bytes.size};
    }
    buf_append_u8(&outbox->bytes, (uint8_t)protocol);
    return &outbox->bytes;
}

void outbox_end(struct outbox *outbox, bool durable)
{
    if (outbox->bytes.failed) {
        /* What was appended of this one goes; those before it are whole. */
        outbox->bytes.failed = false;
        outbox->bytes.size = outbox->count == 0 ? 0
                                                : outbox->messages[outbox->count - 1].at +
                                                      outbox->messages[outbox->count - 1].size;
        outbox->dropped_count++;
        return;
    }
    struct outbox_message *message = &outbox->messages[outbox->count++];
    message->durable = durable;
    message->size = outbox->bytes.size - message->at;
}

void outbox_drop_durable(struct outbox *outbox)
{
    size_t kept = 0;
    for (size_t i = 0; i < outbox->count; i++)
        if (!outbox->messages[i].durable) outbox->messages[kept++] = outbox->messages[i];
    outbox->count = kept;
}
