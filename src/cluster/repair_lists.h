/* Lists of repair's messages as they travel.
 *
 * Keys of a list ascend and have much in common: each is sent as the number of bytes that are those of the key
 * before it, and the rest of it. Inside a node lists have whole keys (repair_message.h). Bytes: docs/format/peer.md. */
#pragma once

#include "base/bytes.h"
#include "cluster/repair_message.h"

/* A list comes to no more in a node's memory: what is sent takes a part of this. */
enum { REPAIR_LIST_BYTES_MAX = 64 << 20 };

/* Up to what is not sound. */
void repair_pack_ranges(struct buf *out, struct slice list);
void repair_pack_findings(struct buf *out, struct slice list);
void repair_pack_records(struct buf *out, struct slice list);
void repair_pack_wants(struct buf *out, struct slice list);

/* Appends `count` entries to `list`. Sets reader->failed where the bytes are not what is packed, the list would
 * be too long, or memory ends. Whether keys are sound and ascend is not looked at. */
void repair_unpack_ranges(struct reader *reader, uint64_t count, struct buf *list);
void repair_unpack_findings(struct reader *reader, uint64_t count, struct buf *list);
void repair_unpack_records(struct reader *reader, uint64_t count, struct buf *list);
void repair_unpack_wants(struct reader *reader, uint64_t count, struct buf *list);
