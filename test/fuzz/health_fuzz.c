/* Any bytes as a message of health: what is taken has these bytes alone, and a node that gets it
 * as it is, or with a head it must listen to, keeps its invariants. */
#include "base/check.h"
#include "cluster/health.h"
#include "cluster/health_rewrite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEMBERS = 9, SELF = 4 };

static struct health *create(struct heap *heap, struct prng *prng)
{
    struct health_options options = {.self = {SELF, 1, 3}, .cluster = 77, .heap = heap};
    struct health_member members[MEMBERS];
    for (int i = 0; i < MEMBERS; i++)
        members[i] = (struct health_member){.id = (node_id)(i + 1), .incarnation = 1};
    struct health *health;
    CHECK(health_create(&options, prng, &health) == STATUS_OK);
    CHECK(health_set_members(health, members, MEMBERS, prng) == STATUS_OK);
    health_set_map(health, 5, 2, 2);
    return health;
}

static void give(struct health *health, struct slice bytes, struct prng *prng,
                 struct outbox *outbox)
{
    struct health_message message;
    node_id from = health_decode(bytes, &message) == STATUS_OK ? message.sender.id : 1;
    enum status status = health_receive(health, from, bytes, 1000, prng, outbox);
    CHECK(status == STATUS_OK || status == STATUS_INVALID);
    CHECK(health_of(health, SELF).state == HEALTH_ALIVE);
    struct health_event event;
    while (health_next_event(health, &event)) CHECK(event.peer != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    struct prng prng = {.state = size};
    struct health_message message;
    struct buf bytes;
    struct outbox outbox;
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    outbox_init(&outbox, &heap);
    if (health_decode(slice_of(data, size), &message) == STATUS_OK) {
        health_rewrite(&message, &bytes);
        CHECK(slice_equal(buf_slice(&bytes), slice_of(data, size)));
    }

    /* A head that is listened to, the kind and the rest from the input. */
    struct health *health = create(&heap, &prng);
    struct health_card sender = {.id = 2, .incarnation = 1, .boot = 1, .sequence = 1};
    give(health, slice_of(data, size), &prng, &outbox);
    if (size > 0) {
        buf_clear(&bytes);
        buf_append_u8(&bytes, PROTOCOL_HEALTH);
        health_append_head(&bytes, (enum health_kind)(data[0] % 8 + 1), 77, 5, &sender, 3);
        buf_append(&bytes, data + 1, size - 1);
        give(health, buf_slice(&bytes), &prng, &outbox);
    }
    for (uint64_t now_ms = 1000; now_ms < 4000; now_ms += HEALTH_TICK_MS)
        health_tick(health, now_ms, &prng, &outbox);
    for (size_t i = 0; i < outbox.count; i++)
        CHECK(health_decode(outbox_bytes(&outbox, i), &message) == STATUS_OK);
    health_destroy(health);
    outbox_deinit(&outbox);
    buf_deinit(&bytes);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
