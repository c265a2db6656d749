/* Any messages to a node that votes and proposes, and records others' starts: each step leaves
 * states that decode, promises that do not fall, and messages that are taken.
 *
 * The input is a list: u8 kind, then for 0 to 3 a message of that peer (u8 size, bytes, without
 * the generation, which is put in), for 4 a proposal, for 5 time that goes by. */
#include "base/check.h"
#include "base/prng.h"
#include "cluster/boots.h"
#include "cluster/register.h"
#include "cluster/register_state.h"

struct steps {
    struct heap heap;
    struct prng prng;
    struct outbox outbox;
    struct register_map map;
    struct register_node node;
    struct boots boots;
    uint64_t now_ms;
};

static void check_messages(const struct steps *steps)
{
    for (size_t i = 0; i < steps->outbox.count; i++) {
        struct register_message message;
        struct boots_message boots_message;
        struct slice bytes = outbox_bytes(&steps->outbox, i);
        CHECK(register_message_decode(bytes, &message) == STATUS_OK ||
              boots_message_decode(bytes, &boots_message) == STATUS_OK);
    }
}

static void check_state(struct steps *steps)
{
    struct register_state state;
    struct starts starts;
    struct buf bytes = {.heap = &steps->heap};
    register_encode_state(&steps->node, &bytes);
    CHECK(register_state_decode(buf_slice(&bytes), &state) == STATUS_OK);
    buf_clear(&bytes);
    starts_encode(&steps->boots.starts, &bytes);
    CHECK(starts_decode(buf_slice(&bytes), &starts) == STATUS_OK);
    buf_deinit(&bytes);
}

/* The generation is written in, so that inputs need not guess it. */
static void put_message(struct slice input, struct buf *out)
{
    buf_append_slice(out, slice_prefix(input, 2));
    buf_append_varint(out, 3);
    buf_append_u64le(out, 33);
    buf_append_slice(out, slice_from(input, 2));
}

static void receive(struct steps *steps, node_id from, struct slice input)
{
    struct register_news news;
    struct boots_news boots_news;
    struct ballot before = steps->node.acceptor.promised;
    if (input.size < 2) return;
    struct buf bytes = {.heap = &steps->heap};
    put_message(input, &bytes);
    enum status status =
        input.data[0] == PROTOCOL_BOOTS
            ? boots_receive(&steps->boots, from, buf_slice(&bytes), &steps->outbox, &boots_news)
            : register_receive(&steps->node, from, buf_slice(&bytes), steps->now_ms, &steps->prng,
                               &steps->outbox, &news);
    CHECK(status == STATUS_OK || status == STATUS_INVALID);
    if (status == STATUS_INVALID) CHECK(steps->outbox.count == 0);
    CHECK(ballot_compare(steps->node.acceptor.promised, before) >= 0);
    buf_deinit(&bytes);
}

static void step(struct steps *steps, struct reader *reader)
{
    uint8_t kind = reader_u8(reader) % 6;
    outbox_clear(&steps->outbox);
    if (kind < 4) {
        struct slice input = reader_bytes(reader, reader_u8(reader));
        if (!reader->failed) receive(steps, kind + 1, input);
    } else if (kind == 4) {
        enum status status = register_propose(&steps->node, SLICE_LITERAL("own"), steps->now_ms,
                                              &steps->prng, &steps->outbox);
        CHECK(status == STATUS_OK || status == STATUS_BUSY || status == STATUS_STALE);
    } else {
        steps->now_ms += 100u * reader_u8(reader);
        register_tick(&steps->node, steps->now_ms, &steps->prng, &steps->outbox);
        boots_tick(&steps->boots, steps->now_ms, &steps->prng, &steps->outbox);
    }
    check_messages(steps);
    check_state(steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct steps steps = {.map = {.generation = {3, 33},
                                  .number = 7,
                                  .hash = {70, 71},
                                  .registrar_count = 3,
                                  .registrars = {{1, 11}, {2, 12}, {3, 13}}}};
    struct starts starts = {.id = 1, .boot = {.incarnation = 11}};
    heap_init(&steps.heap, 0);
    outbox_init(&steps.outbox, &steps.heap);
    starts_next(&starts, 5);
    CHECK(register_init(&steps.node, 1, &steps.heap, &steps.map, SLICE_LITERAL(""), &steps.prng,
                        NULL) == STATUS_OK);
    boots_init(&steps.boots, &starts, &steps.heap, &steps.map, NULL);
    register_set_voting(&steps.node, true);
    steps.node.proposer.ballot.salt = 0; /* So that an input can answer its ballots. */

    struct reader reader = reader_of(slice_of(data, size));
    while (!reader.failed && reader_left(&reader) > 0) step(&steps, &reader);

    register_deinit(&steps.node);
    boots_deinit(&steps.boots);
    outbox_deinit(&steps.outbox);
    CHECK(heap_used_bytes(&steps.heap) == 0);
    return 0;
}
