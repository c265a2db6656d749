#include "store/frame.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/math.h"

uint32_t frame_seed(const uint8_t store_id[16], uint64_t number)
{
    uint8_t bytes[24];
    memcpy(bytes, store_id, 16);
    store_u64le(bytes + 16, number);
    return crc32c(0, bytes, sizeof bytes);
}

static uint32_t payload_crc(uint32_t seed, struct slice payload)
{
    static const uint8_t zeros[FRAME_ALIGN_BYTES];
    uint32_t crc = payload.size == 0 ? seed : crc32c(seed, payload.data, payload.size);
    return crc32c(crc, zeros, -payload.size & (FRAME_ALIGN_BYTES - 1));
}

void frame_encode_header(const struct frame *frame, uint32_t seed, uint8_t out[FRAME_HEADER_BYTES])
{
    CHECK(frame->payload.size <= FRAME_PAYLOAD_BYTES_MAX);
    memset(out, 0, FRAME_HEADER_BYTES);
    store_u32le(out + 4, payload_crc(seed, frame->payload));
    store_u32le(out + 8, (uint32_t)frame->payload.size);
    out[12] = (uint8_t)frame->kind;
    store_u64le(out + 16, frame->sequence);
    store_u64le(out + 24, frame->durable);
    store_u32le(out, crc32c(seed, out + 4, FRAME_HEADER_BYTES - 4));
}

/* Reads the header alone: the payload may lie beyond the end of `bytes`. */
static bool decode_header(struct slice bytes, uint64_t offset, uint32_t seed, struct frame *out)
{
    if (offset > bytes.size || bytes.size - offset < FRAME_HEADER_BYTES) return false;
    const uint8_t *at = bytes.data + offset;

    uint32_t size = load_u32le(at + 8);
    uint64_t sequence = load_u64le(at + 16);
    if (at[12] < FRAME_BATCH || at[12] > FRAME_NEXT || size > FRAME_PAYLOAD_BYTES_MAX) return false;
    if (sequence > FRAME_SEQUENCE_MAX || load_u64le(at + 24) > sequence) return false;
    if (load_u32le(at) != crc32c(seed, at + 4, FRAME_HEADER_BYTES - 4)) return false;

    *out = (struct frame){
        .kind = at[12],
        .sequence = sequence,
        .durable = load_u64le(at + 24),
        .payload = {at + FRAME_HEADER_BYTES, size},
        .size_bytes = frame_size_bytes(size),
    };
    return true;
}

/* The zeros are compared, not only summed: a set bit there would be a bit that we did not write. */
static bool payload_is_whole(struct slice bytes, uint64_t offset, uint32_t seed,
                             const struct frame *frame)
{
    if (frame->size_bytes > bytes.size - offset) return false;
    const uint8_t *end = bytes.data + offset + frame->size_bytes;
    for (const uint8_t *at = frame->payload.data + frame->payload.size; at < end; at++)
        if (*at != 0) return false;
    return load_u32le(bytes.data + offset + 4) == payload_crc(seed, frame->payload);
}

enum status frame_decode(struct slice bytes, uint64_t offset, uint32_t seed, struct frame *out)
{
    struct frame frame;
    if (!decode_header(bytes, offset, seed, &frame)) return STATUS_CORRUPT;
    if (!payload_is_whole(bytes, offset, seed, &frame)) return STATUS_CORRUPT;
    *out = frame;
    return STATUS_OK;
}

void frame_search(struct slice bytes, uint64_t offset, uint32_t seed, uint64_t sequence,
                  struct frame_tail *tail)
{
    while (offset < bytes.size && bytes.size - offset >= FRAME_HEADER_BYTES) {
        struct frame frame;
        uint64_t step = FRAME_ALIGN_BYTES;
        if (load_u64le(bytes.data + offset + 16) + 1 >= sequence &&
            decode_header(bytes, offset, seed, &frame)) {
            tail->durable = u64_max(tail->durable, frame.durable);
            bool counts = frame.kind == FRAME_BATCH || frame.kind == FRAME_EDIT;
            if (counts && frame.sequence >= sequence) {
                tail->frame_count++;
                tail->frame_bytes += frame.size_bytes;
            }
            if (payload_is_whole(bytes, offset, seed, &frame)) step = frame.size_bytes;
        }
        offset += step;
    }
}
