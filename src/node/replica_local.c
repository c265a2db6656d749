/* What a node keeps for itself lies in the store, under keys no client can name: 00, a byte for the
 * kind, what names the thing, and at last the number of the piece. The first piece, number 0, begins with how
 * many there are and the half in which the others lie, 1 or 2, which ends their keys. A value is written to the
 * other half than the one that stands, its first piece last: it is there whole, or the one before it is. */
#include "base/bytes.h"
#include "core/key.h"
#include "node/replica_private.h"

enum { PIECE_BYTES = 32 << 10, PIECES_MAX = 255, HEAD_BYTES = 2 };

void local_key(struct buf *key, enum local_kind kind)
{
    buf_clear(key);
    buf_append_u8(key, 0);
    buf_append_u8(key, (uint8_t)kind);
}

/* Versions of these count starts and writes, so that they need no clock, which may be wrong. */
static struct record local_record(struct replica *replica, struct slice value)
{
    replica->local_count++;
    struct version version = {.time = local_time(replica), .node = replica->self.id};
    struct record record = record_of_set(version, 0);
    record.has_payload = true;
    record.payload = value;
    return record;
}

static void name_piece(struct buf *name, struct slice key, size_t piece, unsigned half)
{
    buf_clear(name);
    buf_append_slice(name, key);
    buf_append_u8(name, (uint8_t)piece);
    if (piece > 0) buf_append_u8(name, (uint8_t)half);
}

/* `*was_there`: the piece replaced another. */
static enum status piece_put(struct replica *replica, struct slice key, size_t piece, unsigned half,
                             struct slice value, bool is_upkeep, bool *was_there)
{
    struct record record = local_record(replica, value);
    struct buf name;
    struct store_outcome outcome = {.status = STATUS_NOMEM};
    buf_init(&name, replica->heap);
    name_piece(&name, key, piece, half);
    if (buf_status(&name) == STATUS_OK)
        replica_store_write(replica,
                            &(struct store_write){.kind = STORE_MERGE,
                                                  .key = buf_slice(&name),
                                                  .record = &record,
                                                  .is_upkeep = is_upkeep},
                            &outcome);
    buf_deinit(&name);
    *was_there = outcome.was_live;
    return outcome.status;
}

/* The half in which the value that stands does not lie. */
static enum status find_free_half(struct replica *replica, struct slice key, unsigned *half)
{
    struct record record;
    struct buf name = {.heap = replica->heap};
    name_piece(&name, key, 0, 0);
    enum status status = buf_status(&name);
    if (status == STATUS_OK) status = store_current(replica->store, buf_slice(&name), &record);
    buf_deinit(&name);
    *half = 1;
    if (status == STATUS_NOT_FOUND) return STATUS_OK;
    bool first = status == STATUS_OK && record.payload.size >= HEAD_BYTES &&
                 record.payload.data[1] == 1;
    if (first) *half = 2;
    return status;
}

static enum status put(struct replica *replica, struct slice key, struct slice value,
                       bool is_upkeep, bool *is_new)
{
    size_t count = value.size / PIECE_BYTES + 1;
    struct buf piece;
    unsigned half = 0;
    enum status status = count <= PIECES_MAX ? STATUS_OK : STATUS_LIMIT;
    if (status == STATUS_OK && count > 1) status = find_free_half(replica, key, &half);
    buf_init(&piece, replica->heap);
    for (size_t i = count; status == STATUS_OK && i-- > 0;) {
        buf_clear(&piece);
        if (i == 0) {
            buf_append_u8(&piece, (uint8_t)count);
            buf_append_u8(&piece, (uint8_t)half);
        }
        struct slice rest = slice_from(value, i * PIECE_BYTES);
        buf_append_slice(&piece,
                         slice_prefix(rest, rest.size < PIECE_BYTES ? rest.size : PIECE_BYTES));
        status = buf_status(&piece);
        bool was_there = false;
        if (status == STATUS_OK)
            status = piece_put(replica, key, i, half, buf_slice(&piece), is_upkeep, &was_there);
        if (i == 0) *is_new = !was_there;
    }
    buf_deinit(&piece);
    return status;
}

/* Without it the node could not even start, on a disk that is nearly full. */
enum status local_put(struct replica *replica, struct slice key, struct slice value)
{
    bool is_new;
    return put(replica, key, value, true, &is_new);
}

enum status local_put_new(struct replica *replica, struct slice key, struct slice value,
                          bool *is_new)
{
    return put(replica, key, value, false, is_new);
}

static enum status piece_get(const struct query *query, struct slice key, size_t piece,
                             unsigned half, struct slice *out)
{
    struct buf name;
    struct query_hit hit;
    buf_init(&name, query->heap);
    name_piece(&name, key, piece, half);
    enum status status = buf_status(&name);
    if (status == STATUS_OK) status = query_get(query, buf_slice(&name), &hit);
    buf_deinit(&name);
    if (status == STATUS_OK) *out = hit.record.payload;
    return status;
}

enum status local_get(const struct replica *replica, struct slice key, struct buf *value)
{
    struct query query = replica_query(replica);
    struct slice piece;
    buf_clear(value);
    enum status status = piece_get(&query, key, 0, 0, &piece);
    if (status != STATUS_OK) return status;
    if (piece.size < HEAD_BYTES || piece.data[0] == 0) return STATUS_CORRUPT;
    size_t count = piece.data[0];
    unsigned half = piece.data[1];
    buf_append_slice(value, slice_from(piece, HEAD_BYTES));
    for (size_t i = 1; i < count; i++) {
        status = piece_get(&query, key, i, half, &piece);
        if (status != STATUS_OK) return status == STATUS_NOT_FOUND ? STATUS_CORRUPT : status;
        buf_append_slice(value, piece);
    }
    return buf_status(value);
}

enum status local_get_newest(struct replica *replica, struct slice key, struct slice *value)
{
    struct record record;
    struct buf name = {.heap = replica->heap};
    buf_append_slice(&name, key);
    buf_append_u8(&name, 0);
    enum status status = buf_status(&name);
    if (status == STATUS_OK) status = store_current(replica->store, buf_slice(&name), &record);
    buf_deinit(&name);
    if (status != STATUS_OK) return status;
    if (record.payload.size < HEAD_BYTES || record.payload.data[0] != 1) return STATUS_CORRUPT;
    *value = local_value_begin(&record);
    return STATUS_OK;
}

struct slice local_value_begin(const struct record *record)
{
    bool whole = record->has_payload && record->payload.size >= HEAD_BYTES;
    return whole ? slice_from(record->payload, HEAD_BYTES) : (struct slice){0};
}

uint64_t local_time(const struct replica *replica)
{
    return (replica->self.boot << 32) + replica->local_count;
}

bool local_is_used_up(const struct replica *replica)
{
    return replica->local_count >= LOCAL_WRITES_MAX;
}

static bool piece_forget(struct replica *replica, struct slice key, size_t piece, unsigned half)
{
    struct buf name = {.heap = replica->heap};
    struct store_outcome outcome = {.status = STATUS_NOMEM};
    name_piece(&name, key, piece, half);
    if (buf_status(&name) == STATUS_OK)
        replica_store_write(replica,
                            &(struct store_write){.kind = STORE_FORGET, .key = buf_slice(&name)},
                            &outcome);
    buf_deinit(&name);
    return outcome.changed;
}

/* Pieces beyond the last are forgotten in vain, which costs a look for each. */
bool local_forget(struct replica *replica, struct slice key)
{
    bool was_there = piece_forget(replica, key, 0, 0);
    for (size_t piece = 1; piece < PIECES_MAX; piece++) {
        bool first = piece_forget(replica, key, piece, 1);
        bool second = piece_forget(replica, key, piece, 2);
        if (!first && !second) break;
    }
    return was_there;
}

/* --- Identity --- */

enum status local_load_identity(struct replica *replica)
{
    local_key(&replica->key, LOCAL_STARTS);
    enum status status = local_get(replica, buf_slice(&replica->key), &replica->value);
    if (status == STATUS_OK) status = starts_decode(buf_slice(&replica->value), &replica->starts);
    return status;
}

enum status local_save_identity(struct replica *replica)
{
    local_key(&replica->key, LOCAL_STARTS);
    buf_clear(&replica->value);
    starts_encode(&replica->starts, &replica->value);
    return local_put(replica, buf_slice(&replica->key), buf_slice(&replica->value));
}

/* --- The map --- */

enum status local_load_map(struct replica *replica)
{
    struct rangemap *map;
    local_key(&replica->key, LOCAL_MAP);
    enum status status = local_get(replica, buf_slice(&replica->key), &replica->value);
    if (status != STATUS_OK) return status;
    status = rangemap_decode(replica->heap, buf_slice(&replica->value), &map);
    if (status == STATUS_INVALID) return STATUS_CORRUPT;
    if (status != STATUS_OK) return status;
    rangemap_unref(replica->map);
    replica->map = map;
    return STATUS_OK;
}

enum status local_save_map(struct replica *replica)
{
    local_key(&replica->key, LOCAL_MAP);
    buf_clear(&replica->value);
    rangemap_encode(replica->map, &replica->value);
    enum status status = buf_status(&replica->value);
    if (status != STATUS_OK) return status;
    return local_put(replica, buf_slice(&replica->key), buf_slice(&replica->value));
}
