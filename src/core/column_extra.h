/* What a record that is not plain has beside its version and score.
 *
 *   u8       shape       bits 0-2: enum extra_created; 3-4: enum extra_set; 5: SINCE;
 *                        6: EXPIRES; 7: BODY
 *   coded    since       SINCE
 *   coded    created     EXTRA_CREATED_CODED
 *   coded    set         EXTRA_SET_CODED
 *   varint   expires     EXPIRES: Unix ms
 *   u8       parts       BODY: bit 0 payload, 1 tags, 2 slots
 *   varint   size of each part that is there; slots by their count
 *
 * A coded version is relative to the record's own: varint (its ms - ms), varint
 * (counter << 1 | another node), and then varint index of the node. The parts themselves
 * lie in the section of bodies, one after another: payload, tags, slots. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "core/column_version.h"
#include "core/record.h"

/* Shape, three coded versions, expiry, parts, three sizes. */
enum { EXTRA_BYTES_MAX = 1 + 3 * 16 + 10 + 1 + 3 * 3 };

struct extra {
    struct version since, created, set;
    uint64_t expires_at;
    bool has_payload;
    uint32_t payload_bytes, tags_bytes, slots_bytes;
};

static inline size_t extra_body_bytes(const struct extra *extra)
{
    return (size_t)extra->payload_bytes + extra->tags_bytes + extra->slots_bytes;
}

/* Appends a live record's fields to `out`, its parts to `bodies`. */
void extra_append(const struct record *record, struct node_table_builder *nodes, struct buf *out,
                  struct buf *bodies);

/* Reads what was appended for a record of `version`. False when it breaks a rule. */
bool extra_read(struct reader *reader, struct version version, struct node_table nodes,
                struct extra *out);

/* Reads over one and only adds the bytes of its parts to `*body`. */
bool extra_skip(struct reader *reader, size_t *body);
