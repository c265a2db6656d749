#include "cluster/register_message.h"

#include "cluster/outbox.h"
#include "cluster/register_state.h"
#include "strict.h"
#include "test.h"

static struct heap heap;

static const struct generation generation = {1, UINT64_C(0x0807060504030201)};
static const struct ballot ballot = {3, 5, UINT64_C(0x1817161514131211)};
static const struct ballot lower = {2, 9, UINT64_C(0x2827262524232221)};
static const struct ballot higher = {300, 2, 7};
static const struct hash128 hash = {UINT64_C(0x3837363534333231), UINT64_C(0x4847464544434241)};

static struct register_message message_of(enum register_kind kind)
{
    struct register_message message = {.kind = kind, .generation = generation, .instance = 8};
    if (kind <= REGISTER_REFUSED) message.ballot = ballot;
    if (kind == REGISTER_PROMISE) message.other = lower;
    if (kind == REGISTER_REFUSED) message.other = higher;
    if (kind == REGISTER_PROMISE || kind == REGISTER_ACCEPT || kind == REGISTER_DECIDED) {
        message.value = (struct register_value){hash, SLICE_LITERAL("trie")};
    }
    return message;
}

static void encode(const struct register_message *message, struct buf *out)
{
    buf_append_u8(out, PROTOCOL_REGISTER);
    register_message_encode(message, out);
}

static bool decode_message(struct slice bytes, struct buf *again)
{
    struct register_message message;
    buf_clear(again);
    if (register_message_decode(bytes, &message) != STATUS_OK) return false;
    encode(&message, again);
    return true;
}

static bool decode_state(struct slice bytes, struct buf *again)
{
    struct register_state state;
    buf_clear(again);
    if (register_state_decode(bytes, &state) != STATUS_OK) return false;
    register_state_encode(&state, again);
    return true;
}

static struct buf empty_buf(void)
{
    heap_init(&heap, 0);
    return (struct buf){.heap = &heap};
}

static bool taken(const struct register_message *message)
{
    struct buf bytes = empty_buf();
    struct register_message again;
    encode(message, &bytes);
    enum status status = register_message_decode(buf_slice(&bytes), &again);
    EXPECT(status == STATUS_OK || status == STATUS_INVALID);
    buf_deinit(&bytes);
    return status == STATUS_OK;
}

TEST_CASE(each_kind_comes_back_as_it_was)
{
    for (int kind = REGISTER_PREPARE; kind <= REGISTER_PLACE; kind++) {
        struct register_message message = message_of((enum register_kind)kind);
        struct register_message again;
        struct buf bytes = empty_buf();
        encode(&message, &bytes);
        EXPECT(register_message_decode(buf_slice(&bytes), &again) == STATUS_OK);
        EXPECT(again.kind == message.kind && again.instance == message.instance);
        EXPECT(generation_equal(again.generation, generation));
        EXPECT(ballot_equal(again.ballot, message.ballot));
        EXPECT(ballot_equal(again.other, message.other));
        EXPECT(register_value_equal(again.value, message.value));
        buf_deinit(&bytes);
    }
}

TEST_CASE(each_bit_flip_and_truncation_is_refused_or_another_message)
{
    for (int kind = REGISTER_PREPARE; kind <= REGISTER_PLACE; kind++) {
        struct register_message message = message_of((enum register_kind)kind);
        struct buf bytes = empty_buf();
        encode(&message, &bytes);
        expect_strict(decode_message, buf_slice(&bytes));
        buf_deinit(&bytes);
    }
}

/* The bytes of docs/format/peer.md. */
TEST_CASE(an_accept_has_these_bytes)
{
    static const uint8_t expected[] = {
        2,    3,                                              /* register, accept */
        1,    1,    2,    3,    4,    5,    6,    7,    8,    /* generation */
        8,                                                    /* instance */
        3,    5,    0,    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, /* ballot */
        0x17, 0x18,                                           /* */
        0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38,       /* predecessor */
        0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,       /* */
        4,    't',  'r',  'i',  'e',                          /* delta */
    };
    struct register_message message = message_of(REGISTER_ACCEPT);
    struct buf bytes = empty_buf();
    encode(&message, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));
    buf_deinit(&bytes);
}

TEST_CASE(what_no_registrar_says_is_refused)
{
    struct register_message promise = message_of(REGISTER_PROMISE);
    EXPECT(taken(&promise));
    promise.other = promise.ballot;
    EXPECT(!taken(&promise));
    promise.other = higher;
    EXPECT(!taken(&promise));

    struct register_message refusal = message_of(REGISTER_REFUSED);
    refusal.other = refusal.ballot;
    EXPECT(!taken(&refusal));
    refusal.other = (struct ballot){0};
    EXPECT(!taken(&refusal));

    struct register_message place = message_of(REGISTER_PLACE);
    place.instance = 1; /* The first map is nobody's decision. */
    EXPECT(!taken(&place));
    place.instance = 2;
    EXPECT(taken(&place));
    place.generation.number = 0;
    EXPECT(!taken(&place));

    struct register_message prepare = message_of(REGISTER_PREPARE);
    prepare.ballot.round = REGISTER_ROUND_MAX;
    EXPECT(taken(&prepare));
    prepare.ballot.round++;
    EXPECT(!taken(&prepare));
    prepare.ballot = (struct ballot){.round = 1, .node = 0};
    EXPECT(!taken(&prepare));
    prepare.ballot = (struct ballot){0};
    EXPECT(!taken(&prepare));
}

TEST_CASE(a_value_has_bounds)
{
    static uint8_t delta[REGISTER_DELTA_BYTES_MAX + 1];
    struct register_message accept = message_of(REGISTER_ACCEPT);
    accept.value.delta = slice_of(delta, REGISTER_DELTA_BYTES_MAX);
    EXPECT(taken(&accept));
    struct buf bytes = empty_buf();
    register_value_encode(accept.value, &bytes);
    EXPECT(bytes.size == REGISTER_VALUE_BYTES_MAX);
    buf_deinit(&bytes);
    accept.value.delta.size++;
    EXPECT(!taken(&accept));
    accept.value.delta.size = 0;
    EXPECT(!taken(&accept));
}

static struct register_state full_state(void)
{
    return (struct register_state){
        .generation = generation,
        .number = 7,
        .hash = hash,
        .promised = ballot,
        .accepted = lower,
        .value = {hash, SLICE_LITERAL("trie")},
        .has_decision = true,
        .decision = {{1, 2}, SLICE_LITERAL("before")},
    };
}

static enum status status_of(const struct register_state *state)
{
    struct buf bytes = empty_buf();
    struct register_state again;
    register_state_encode(state, &bytes);
    enum status status = register_state_decode(buf_slice(&bytes), &again);
    buf_deinit(&bytes);
    return status;
}

TEST_CASE(a_kept_state_comes_back_or_is_corrupt)
{
    for (int shape = 0; shape < 4; shape++) {
        struct register_state state = full_state();
        if (shape & 1) state.accepted = (struct ballot){0};
        if (shape & 1) state.value = (struct register_value){0};
        if (shape & 2) state.has_decision = false;
        struct register_state again;
        struct buf bytes = empty_buf();
        register_state_encode(&state, &bytes);
        EXPECT(register_state_decode(buf_slice(&bytes), &again) == STATUS_OK);
        EXPECT(ballot_equal(again.promised, state.promised));
        EXPECT(ballot_equal(again.accepted, state.accepted));
        EXPECT(register_value_equal(again.value, state.value));
        EXPECT(again.has_decision == state.has_decision);
        expect_strict(decode_state, buf_slice(&bytes));
        bytes.data[0] = 2;
        EXPECT(register_state_decode(buf_slice(&bytes), &again) == STATUS_NEWER);
        buf_deinit(&bytes);
    }
}

TEST_CASE(a_state_that_no_acceptor_has_is_corrupt)
{
    struct register_state state = full_state();
    EXPECT(status_of(&state) == STATUS_OK);
    state.accepted = higher;
    EXPECT(status_of(&state) == STATUS_CORRUPT);
    state = full_state();
    state.value.predecessor.low++;
    EXPECT(status_of(&state) == STATUS_CORRUPT);
    state = full_state();
    state.number = 1;
    EXPECT(status_of(&state) == STATUS_CORRUPT); /* Decided by nobody. */
    state.has_decision = false;
    EXPECT(status_of(&state) == STATUS_OK);
    state.number = 0;
    EXPECT(status_of(&state) == STATUS_CORRUPT);
}

TEST_MAIN(TEST(each_kind_comes_back_as_it_was),
          TEST(each_bit_flip_and_truncation_is_refused_or_another_message),
          TEST(an_accept_has_these_bytes), TEST(what_no_registrar_says_is_refused),
          TEST(a_value_has_bounds), TEST(a_kept_state_comes_back_or_is_corrupt),
          TEST(a_state_that_no_acceptor_has_is_corrupt))
