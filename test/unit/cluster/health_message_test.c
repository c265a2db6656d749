/* The bytes of health: each kind there and back, every damage, and the example of the page. */
#include "cluster/health_message.h"

#include "base/prng.h"
#include "cluster/health_rewrite.h"
#include "guard.h"
#include "test.h"

static struct health_card random_card(struct prng *prng, node_id id)
{
    uint64_t known = prng_u32(prng) >> prng_below(prng, 32);
    return (struct health_card){.id = id,
                                .incarnation = prng_u64(prng),
                                .boot = 1 + (prng_u64(prng) >> (1 + prng_below(prng, 63))),
                                .sequence = prng_u32(prng) >> (1 + prng_below(prng, 31)),
                                .rebuttal = prng_u32(prng) >> (1 + prng_below(prng, 31)),
                                .zone = prng_u32(prng),
                                .address_tag = prng_u32(prng),
                                .known = known,
                                .acknowledged = known - prng_below(prng, (uint32_t)known + 1),
                                .depth_code = (uint8_t)prng_below(prng, HEALTH_CODE_MAX + 1),
                                .p95_code = (uint8_t)prng_below(prng, HEALTH_CODE_MAX + 1)};
}

static void append_facts(struct prng *prng, struct buf *out)
{
    unsigned count = prng_below(prng, 5);
    node_id previous = 0;
    buf_append_varint(out, count);
    for (unsigned i = 0; i < count; i++) {
        struct health_opinion opinion = {.subject = (node_id)(previous + 1 + prng_below(prng, 999)),
                                         .boot = prng_below(prng, 300),
                                         .rebuttal = prng_below(prng, 300),
                                         .accuser = (node_id)(1 + prng_below(prng, 65535)),
                                         .down = prng_one_in(prng, 2)};
        health_append_opinion(out, &previous, &opinion);
    }
    count = prng_below(prng, 5);
    previous = 0;
    buf_append_varint(out, count);
    for (unsigned i = 0; i < count; i++) {
        node_id id = (node_id)(previous + 1 + prng_below(prng, 999));
        struct health_card card = random_card(prng, id);
        health_append_card(out, &previous, &card, prng_one_in(prng, 2));
    }
}

static void append_stamps(struct prng *prng, struct buf *out)
{
    unsigned bits = HEALTH_BUCKET_BITS_MIN + prng_below(prng, 3), count = prng_below(prng, 9);
    node_id previous = 0;
    buf_append_u8(out, (uint8_t)bits);
    for (size_t i = 0; i < health_bucket_bytes(bits); i++) buf_append_u8(out, 0xff);
    buf_append_varint(out, count);
    for (unsigned i = 0; i < count; i++) {
        struct health_stamp stamp = {.id = (node_id)(previous + 1 + prng_below(prng, 99)),
                                     .boot = prng_below(prng, 3),
                                     .down = prng_one_in(prng, 2)};
        if (stamp.boot == 0)
            stamp.down = true;
        else
            stamp.sequence = prng_below(prng, 1000);
        health_append_stamp(out, &previous, &stamp);
    }
}

static void append_wants(struct prng *prng, struct buf *out)
{
    unsigned count = prng_below(prng, 9);
    node_id previous = 0;
    buf_append_varint(out, count);
    for (unsigned i = 0; i < count; i++) {
        node_id id = (node_id)(previous + 1 + prng_below(prng, 999));
        health_append_want(out, &previous, id, prng_one_in(prng, 2));
    }
}

static void random_message(struct prng *prng, enum health_kind kind, struct buf *out)
{
    struct health_card sender = random_card(prng, (node_id)(1 + prng_below(prng, NODE_ID_MAX)));
    buf_clear(out);
    buf_append_u8(out, PROTOCOL_HEALTH);
    health_append_head(out, kind, prng_u64(prng), prng_u64(prng), &sender, prng_u32(prng));
    if (kind == HEALTH_STAMPS) {
        append_stamps(prng, out);
        return;
    }
    if (kind == HEALTH_CARDS)
        append_wants(prng, out);
    else
        buf_append_u32le(out, prng_u32(prng));
    if (kind == HEALTH_DIGEST) {
        buf_append_u8(out, HEALTH_BUCKET_BITS_MIN);
        for (size_t i = 0; i < 1 << HEALTH_BUCKET_BITS_MIN; i++) buf_append_u16le(out, 7);
        return;
    }
    bool about = kind == HEALTH_RELAY || kind == HEALTH_RELAYED || kind == HEALTH_SILENT;
    if (about) buf_append_varint(out, 1 + prng_below(prng, NODE_ID_MAX));
    append_facts(prng, out);
}

/* Taken or not, and if it was, from its only bytes. */
static bool taken(struct slice bytes, struct buf *again)
{
    struct health_message message;
    if (health_decode(bytes, &message) != STATUS_OK) return false;
    buf_clear(again);
    health_rewrite(&message, again);
    EXPECT(slice_equal(buf_slice(again), bytes));
    return true;
}

TEST_CASE(every_kind_comes_back_as_it_was_and_has_one_form)
{
    struct heap heap;
    struct prng prng = {.state = test_seed};
    struct buf bytes, again;
    struct guard guard = guard_create(HEALTH_MESSAGE_BYTES_MAX);
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    buf_init(&again, &heap);
    for (int round = 0; round < 40; round++) {
        enum health_kind kind = (enum health_kind)(1 + round % HEALTH_CARDS);
        random_message(&prng, kind, &bytes);
        EXPECT(taken(guard_copy(&guard, buf_slice(&bytes)), &again));
        for (size_t size = 0; size < bytes.size; size++)
            EXPECT(!taken(guard_copy(&guard, slice_prefix(buf_slice(&bytes), size)), &again));
        for (size_t bit = 0; bit < bytes.size * 8; bit++) {
            struct slice copy = guard_copy(&guard, buf_slice(&bytes));
            guard.map[guard.size - bytes.size + bit / 8] ^= (uint8_t)(1U << bit % 8);
            taken(copy, &again);
        }
        buf_append_u8(&bytes, 0);
        EXPECT(!taken(guard_copy(&guard, buf_slice(&bytes)), &again));
    }
    guard_destroy(&guard);
    buf_deinit(&bytes);
    buf_deinit(&again);
    EXPECT(heap_used_bytes(&heap) == 0);
}

static const struct health_card example_sender = {.id = 2,
                                                  .incarnation = UINT64_C(0x1122334455667788),
                                                  .boot = 3,
                                                  .sequence = 200,
                                                  .rebuttal = 1,
                                                  .zone = 7,
                                                  .address_tag = 0xa1b2c3d4,
                                                  .known = 300,
                                                  .acknowledged = 299,
                                                  .depth_code = 5,
                                                  .p95_code = 21};

static void append_example_head(enum health_kind kind, struct buf *out)
{
    buf_append_u8(out, PROTOCOL_HEALTH);
    health_append_head(out, kind, 77, 5, &example_sender, 4);
}

/* docs/format/peer.md. */
TEST_CASE(the_example_of_the_page_has_these_bytes)
{
    static const uint8_t expected[] = {
        0x01, 0x01, 77,   0,    0,    0,    0,    0,    0,    0,    5,    0,    0,
        0,    0,    0,    0,    0,    0x05, 0x03, 0xc8, 0x01, 0x01, 0x88, 0x77, 0x66,
        0x55, 0x44, 0x33, 0x22, 0x11, 0x07, 0x00, 0x00, 0x00, 0xd4, 0xc3, 0xb2, 0xa1,
        0xac, 0x02, 0x01, 0x05, 0x15, 0x04, 0x09, 0x00, 0x00, 0x00, 0x01, 0x0a, 0x01,
        0x00, 0x02, 0x01, 0x12, 0x04, 0x11, 0x00, 0xac, 0x02, 0x00, 0x00, 0x0b,
    };
    struct heap heap;
    struct buf bytes;
    node_id previous = 0;
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    append_example_head(HEALTH_PROBE, &bytes);
    buf_append_u32le(&bytes, 9);
    buf_append_varint(&bytes, 1);
    struct health_opinion opinion = {.subject = 5, .boot = 1, .accuser = 2};
    health_append_opinion(&bytes, &previous, &opinion);
    buf_append_varint(&bytes, 1);
    previous = 0;
    struct health_card card = {
        .id = 9, .boot = 4, .sequence = 17, .known = 300, .acknowledged = 300, .p95_code = 11};
    health_append_card(&bytes, &previous, &card, false);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));

    struct health_message message;
    EXPECT(health_decode(buf_slice(&bytes), &message) == STATUS_OK);
    EXPECT(message.kind == HEALTH_PROBE && message.cluster == 77 && message.generation == 5);
    EXPECT(message.sender.id == 2 && message.sender.boot == 3 && message.sender.sequence == 200);
    EXPECT(message.sender.incarnation == example_sender.incarnation && message.sender.zone == 7);
    EXPECT(message.sender.acknowledged == 299 && message.depth == 4 && message.nonce == 9);
    bool full;
    EXPECT(health_next_opinion(&message.opinions, &opinion));
    EXPECT(opinion.subject == 5 && opinion.accuser == 2 && !opinion.down);
    EXPECT(health_next_card(&message.cards, &card, &full) && !full);
    EXPECT(card.id == 9 && card.acknowledged == 300 && card.p95_code == 11);
    EXPECT(!health_next_card(&message.cards, &card, &full));
    buf_deinit(&bytes);
}

/* Each breaks one rule that no bit flip of a whole message would meet alone. */
TEST_CASE(bytes_that_break_a_rule_are_refused)
{
    struct heap heap;
    struct buf bytes;
    struct health_message message;
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    for (int rule = 0; rule < 8; rule++) {
        buf_clear(&bytes);
        struct health_stamp stamp = {.id = 9, .boot = 1};
        struct health_opinion opinion = {.subject = 5, .accuser = 0};
        struct health_card card = {.id = 1, .boot = 0};
        node_id previous = 0;
        switch (rule) {
        case 0: /* A stamp in a bucket that is not listed. */
        case 1: /* No bucket is listed. */
        case 2: /* A stamp of nothing. */
            append_example_head(HEALTH_STAMPS, &bytes);
            buf_append_u8(&bytes, 3);
            buf_append_u8(&bytes, rule == 0 ? 0xfd : rule == 1 ? 0 : 0xff);
            buf_append_varint(&bytes, rule != 1);
            if (rule == 2) stamp.boot = 0;
            if (rule != 1) health_append_stamp(&bytes, &previous, &stamp);
            break;
        case 3: /* More buckets than there may be. */
            append_example_head(HEALTH_DIGEST, &bytes);
            buf_append_u32le(&bytes, 1);
            buf_append_u8(&bytes, HEALTH_BUCKET_BITS_MAX + 1);
            for (int i = 0; i < 1024; i++) buf_append_u8(&bytes, 0);
            break;
        case 4: /* An accuser that is nobody. */
        case 5: /* A card without a boot. */
            append_example_head(HEALTH_PROBE, &bytes);
            buf_append_u32le(&bytes, 1);
            buf_append_varint(&bytes, rule == 4);
            if (rule == 4) health_append_opinion(&bytes, &previous, &opinion);
            buf_append_varint(&bytes, rule == 5);
            if (rule == 5) health_append_card(&bytes, &previous, &card, true);
            break;
        case 6: /* A sender that keeps its incarnation to itself. */
            buf_append_u8(&bytes, PROTOCOL_HEALTH);
            buf_append_u8(&bytes, HEALTH_PROBE);
            buf_append_u64le(&bytes, 77);
            buf_append_u64le(&bytes, 5);
            health_append_card(&bytes, &previous, &example_sender, false);
            buf_append_varint(&bytes, 4);
            buf_append_u32le(&bytes, 1);
            buf_append_u16le(&bytes, 0);
            break;
        case 7: /* Ids beyond the last one. */
            append_example_head(HEALTH_CARDS, &bytes);
            buf_append_varint(&bytes, 2);
            health_append_want(&bytes, &previous, NODE_ID_MAX, false);
            buf_append_varint(&bytes, 2);
            buf_append_u16le(&bytes, 0);
            break;
        }
        EXPECT(health_decode(buf_slice(&bytes), &message) == STATUS_INVALID);
    }
    buf_deinit(&bytes);
}

TEST_CASE(codes_are_half_octaves)
{
    EXPECT(health_code(0) == 0 && health_code(1) == 1 && health_code(2) == 3);
    EXPECT(health_code(3) == 4 && health_code(4) == 5 && health_code(1000) == 20);
    EXPECT(health_code(UINT32_MAX) == HEALTH_CODE_MAX);
    for (uint32_t value = 1; value < 100000; value += 1 + value / 50) {
        uint8_t code = health_code(value);
        EXPECT(health_code_value(code) <= value);
        EXPECT(health_code_value((uint8_t)(code + 1)) > value || code < 3);
    }
}

TEST_MAIN(TEST(every_kind_comes_back_as_it_was_and_has_one_form),
          TEST(the_example_of_the_page_has_these_bytes), TEST(bytes_that_break_a_rule_are_refused),
          TEST(codes_are_half_octaves))
