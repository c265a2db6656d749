#include "cluster/transfer_message.h"

#include "base/prng.h"
#include "core/key.h"
#include "strict.h"
#include "test.h"

static struct heap heap = {.failure_after = -1};

static struct transfer_message message_of(enum transfer_kind kind, struct prng *prng)
{
    static uint8_t bytes[300];
    struct transfer_message message = {.kind = kind, .id = 1 + prng_u64(prng) / 2};
    switch (kind) {
    case TRANSFER_ASK:
        message.range.low = SLICE_LITERAL("w\0abc");
        if (prng_one_in(prng, 2)) message.range.high = SLICE_LITERAL("w\0m");
        message.count = prng_u64(prng) >> prng_below(prng, 64);
        break;
    case TRANSFER_OFFER:
        message.verdict = (enum transfer_verdict)prng_below(prng, TRANSFER_VERDICT_END);
        if (message.verdict != TRANSFER_READY) break;
        message.size_bytes = prng_below(prng, TRANSFER_FILE_BYTES_MAX + 1);
        if (message.size_bytes > 0 && prng_one_in(prng, 2)) message.end = SLICE_LITERAL("w\0k");
        break;
    case TRANSFER_PIECE:
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)prng_u32(prng);
        message.bytes = slice_of(bytes, 1 + prng_below(prng, sizeof bytes));
        message.checksum = prng_u64(prng);
        message.offset = (uint64_t)prng_below(prng, 9) * TRANSFER_PIECE_BYTES;
        break;
    case TRANSFER_WANT:
        message.offset = (uint64_t)prng_below(prng, 2048) * TRANSFER_PIECE_BYTES;
        break;
    case TRANSFER_DROP:
    case TRANSFER_GONE:
    case TRANSFER_KIND_END:
        break;
    }
    return message;
}

static bool decode(struct slice bytes, struct buf *again)
{
    struct transfer_message message;
    buf_clear(again);
    if (transfer_message_decode(bytes, &message) != STATUS_OK) return false;
    transfer_message_encode(&message, again);
    return true;
}

TEST_CASE(every_kind_comes_back_as_it_was_and_has_one_form)
{
    struct prng prng = {.state = test_seed};
    struct buf bytes = {.heap = &heap};
    for (unsigned round = 0; round < 12 * (TRANSFER_KIND_END - 1); round++) {
        enum transfer_kind kind = (enum transfer_kind)(1 + round % (TRANSFER_KIND_END - 1));
        struct transfer_message message = message_of(kind, &prng), again;
        buf_clear(&bytes);
        transfer_message_encode(&message, &bytes);
        EXPECT(transfer_message_decode(buf_slice(&bytes), &again) == STATUS_OK);
        EXPECT(again.kind == kind && again.id == message.id && again.count == message.count);
        EXPECT(slice_equal(again.range.low, message.range.low));
        EXPECT(slice_equal(again.range.high, message.range.high));
        EXPECT(again.verdict == message.verdict && again.size_bytes == message.size_bytes);
        EXPECT(slice_equal(again.end, message.end) && again.offset == message.offset);
        EXPECT(again.checksum == message.checksum && slice_equal(again.bytes, message.bytes));
        expect_strict(decode, buf_slice(&bytes));
    }
    buf_deinit(&bytes);
    EXPECT(heap_used_bytes(&heap) == 0);
}

static bool taken(const struct transfer_message *message)
{
    struct buf bytes = {.heap = &heap};
    struct transfer_message again = {.id = 77};
    transfer_message_encode(message, &bytes);
    enum status status = transfer_message_decode(buf_slice(&bytes), &again);
    EXPECT(status == STATUS_OK || (status == STATUS_INVALID && again.id == 77));
    buf_deinit(&bytes);
    return status == STATUS_OK;
}

TEST_CASE(what_no_node_says_is_refused)
{
    static uint8_t long_key[KEY_BYTES_MAX + 1], many[TRANSFER_PIECE_BYTES + 1];
    struct transfer_message ask = {
        .kind = TRANSFER_ASK, .id = 5, .range = {SLICE_LITERAL("b"), SLICE_LITERAL("d")}};
    EXPECT(taken(&ask));
    ask.id = 0;
    EXPECT(!taken(&ask));
    ask.id = 5;
    ask.range.high = SLICE_LITERAL("b"); /* Nothing lies in it. */
    EXPECT(!taken(&ask));
    ask.range = (struct key_range){SLICE_LITERAL("\0m"), {0}}; /* What a node has for itself. */
    EXPECT(!taken(&ask));
    ask.range = (struct key_range){0};
    EXPECT(!taken(&ask));
    memset(long_key, 'a', sizeof long_key);
    ask.range.low = slice_of(long_key, KEY_BYTES_MAX);
    EXPECT(taken(&ask));
    ask.range.low = slice_of(long_key, KEY_BYTES_MAX + 1);
    EXPECT(!taken(&ask));

    struct transfer_message offer = {
        .kind = TRANSFER_OFFER, .id = 5, .size_bytes = TRANSFER_FILE_BYTES_MAX};
    EXPECT(taken(&offer));
    offer.size_bytes++;
    EXPECT(!taken(&offer));
    offer.size_bytes = 0;
    offer.end = SLICE_LITERAL("c"); /* Of nothing there is no end on the way. */
    EXPECT(!taken(&offer));
    offer = (struct transfer_message){.kind = TRANSFER_OFFER, .id = 5};
    offer.verdict = TRANSFER_VERDICT_END;
    EXPECT(!taken(&offer));

    struct transfer_message want = {.kind = TRANSFER_WANT, .id = 5};
    want.offset = TRANSFER_FILE_BYTES_MAX - TRANSFER_PIECE_BYTES;
    EXPECT(taken(&want));
    want.offset += TRANSFER_PIECE_BYTES;
    EXPECT(!taken(&want));
    want.offset = 1;
    EXPECT(!taken(&want));

    struct transfer_message piece = {.kind = TRANSFER_PIECE, .id = 5};
    EXPECT(!taken(&piece)); /* Of no bytes. */
    piece.bytes = slice_of(many, TRANSFER_PIECE_BYTES);
    EXPECT(taken(&piece));
    piece.bytes.size++;
    EXPECT(!taken(&piece));
    for (unsigned kind = 0; kind < 256; kind += 255) {
        uint8_t bytes[9] = {(uint8_t)kind, 1};
        struct transfer_message again;
        EXPECT(transfer_message_decode(slice_of(bytes, 9), &again) == STATUS_INVALID);
    }
}

/* As docs/format/peer.md works them out, without the protocol's byte. */
TEST_CASE(messages_have_these_bytes)
{
    static const uint8_t ask[] = {0x01, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
                                  0x03, 0x77, 0x00, 0x6d, 0x03, 0x77, 0x00, 0x70, 0x07};
    static const uint8_t piece[] = {0x04, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
                                    0x80, 0x80, 0x04, 0x4c, 0x76, 0xff, 0xad, 0x10, 0x65,
                                    0x18, 0x17, 0x04, 0x74, 0x72, 0x69, 0x65};
    struct buf bytes = {.heap = &heap};
    struct transfer_message message = {
        .kind = TRANSFER_ASK,
        .id = UINT64_C(0x1817161514131211),
        .range = {SLICE_LITERAL("w\0m"), SLICE_LITERAL("w\0p")},
        .count = 7,
    };
    transfer_message_encode(&message, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(ask, sizeof ask)));
    message = (struct transfer_message){
        .kind = TRANSFER_PIECE,
        .id = message.id,
        .offset = TRANSFER_PIECE_BYTES,
        .bytes = SLICE_LITERAL("trie"),
    };
    message.checksum = transfer_checksum(message.id, message.offset, message.bytes);
    buf_clear(&bytes);
    transfer_message_encode(&message, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(piece, sizeof piece)));
    buf_deinit(&bytes);
}

TEST_MAIN(TEST(every_kind_comes_back_as_it_was_and_has_one_form),
          TEST(what_no_node_says_is_refused), TEST(messages_have_these_bytes))
