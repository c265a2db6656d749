/* Keys and records for the messages that carry them. */
#pragma once

#include "base/check.h"
#include "base/prng.h"
#include "core/record.h"

static const uint8_t made_slots[2 * RECORD_SLOT_BYTES] = {
    1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f,
    9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0x40,
};

enum { MADE_RECORD_SHAPES = 4 };

/* A set, a tombstone, a set after a tombstone, one with everything. */
static inline struct record made_record(struct prng *prng, unsigned shape)
{
    struct version version = {1000 + prng_below(prng, 100000), (uint16_t)(1 + prng_below(prng, 9))};
    struct version before = {version.time - 1 - prng_below(prng, 99), 5};
    struct record record = record_of_set(version, prng_below(prng, 1000) / 4.0);
    if (shape == 1) record = record_of_tombstone(version);
    if (shape == 2) record.since = before;
    if (shape == 3) {
        record.since = (struct version){before.time - 1, 7};
        record.created = before;
        record.set = before;
        record.expires_at = 1 + prng_u64(prng) % 100000;
        record.has_payload = true;
        record.payload = SLICE_LITERAL("payload");
        record.tags = SLICE_LITERAL("\1a\2bc");
        record.slots = slice_of(made_slots, sizeof made_slots);
    }
    CHECK(record_is_canonical(&record));
    return record;
}
