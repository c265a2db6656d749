/* Which increments were counted already, by the names that clients gave them.
 *
 *     key    00 'i' client (8, big-endian) number modulo REPLICA_OPERATIONS_MAX (2, big-endian)
 *     value  varint number, varint floor, hash of the word's key (8), version of the set and that of the
 *            increment, once it was acknowledged (8 + 2 each), state (1), moved to (2), moves (1)
 *     key    00 'i'
 *     value  nothing: a client was forgotten
 *
 * A note goes into the batch of its increment, so that one is durable exactly when the other is. A
 * later number takes the place of one that is 1,024 less, so the last 1,024 of each client are
 * known; so are the clients that came last. An increment counts once in each value: what a set
 * replaced is gone with all that counted in it.
 *
 * docs/design/coordinating.md has the reasons. */
#include <xxhash.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/planted.h"
#include "core/write.h"
#include "node/replica_private.h"

enum { CLIENT_KEY_BYTES = 10, NOTE_KEY_BYTES = 12 };

struct note {
    uint64_t number, floor, key_hash;
    struct operation_note told;
};

static void append_version(struct buf *out, struct version version)
{
    buf_append_u64le(out, version.time);
    buf_append_u16le(out, version.node);
}

static struct version read_version(struct reader *reader)
{
    struct version version = {.time = reader_u64le(reader)};
    version.node = reader_u16le(reader);
    return version;
}

static void note_encode(const struct note *note, struct buf *out)
{
    buf_append_varint(out, note->number);
    buf_append_varint(out, note->floor);
    buf_append_u64le(out, note->key_hash);
    append_version(out, note->told.set);
    append_version(out, note->told.version);
    buf_append_u8(out, (uint8_t)note->told.state);
    buf_append_u16le(out, note->told.moved_to);
    buf_append_u8(out, note->told.moves);
}

static enum status note_decode(struct slice bytes, struct note *note)
{
    struct reader reader = reader_of(bytes);
    note->number = reader_varint(&reader);
    note->floor = reader_varint(&reader);
    note->key_hash = reader_u64le(&reader);
    note->told.set = read_version(&reader);
    note->told.version = read_version(&reader);
    unsigned state = reader_u8(&reader);
    note->told.moved_to = reader_u16le(&reader);
    note->told.moves = reader_u8(&reader);
    bool valid = !reader.failed && reader_left(&reader) == 0 && note->number != 0 && state != 0 &&
                 state < OPERATION_STATE_END;
    note->told.state = (enum operation_state)state;
    return valid ? STATUS_OK : STATUS_CORRUPT;
}

static void append_be(struct buf *out, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--) buf_append_u8(out, (uint8_t)(value >> 8 * i));
}

static void client_key(struct buf *key, uint64_t client)
{
    local_key(key, LOCAL_OPERATION);
    append_be(key, client, 8);
}

static struct slice note_key(struct replica *replica, const struct request_operation *operation)
{
    client_key(&replica->key, operation->client);
    append_be(&replica->key, operation->number % REPLICA_OPERATIONS_MAX, 2);
    return buf_slice(&replica->key);
}

static uint64_t hash_of(struct slice key)
{
    return XXH3_64bits(key.data, key.size);
}

node_id replica_operation_owner(const struct owners *owners,
                                const struct request_operation *operation)
{
    node_id best = 0;
    uint64_t most = 0;
    for (size_t i = 0; i < owners->count; i++) {
        uint64_t name[3] = {operation->client, operation->number, owners->ids[i]};
        uint64_t hash = XXH3_64bits(name, sizeof name);
        if (best != 0 && hash <= most) continue;
        best = owners->ids[i];
        most = hash;
    }
    return best;
}

/* --- Clients --- */

/* Nothing is known of a client's numbers below the next one that is noted. */
#define FLOOR_AT_NEXT UINT64_MAX

static struct operation_client *client_of(struct replica *replica, uint64_t client)
{
    struct replica_operations *operations = &replica->operations;
    for (size_t i = 0; i < operations->count; i++)
        if (operations->clients[i].client == client) return &operations->clients[i];
    return NULL;
}

static struct operation_client *client_add(struct replica *replica, uint64_t client)
{
    struct replica_operations *operations = &replica->operations;
    if (operations->count == operations->capacity) {
        size_t capacity = operations->capacity == 0 ? 16 : 2 * operations->capacity;
        struct operation_client *clients =
            heap_realloc(replica->heap, operations->clients, capacity * sizeof *clients);
        if (clients == NULL) return NULL;
        operations->clients = clients;
        operations->capacity = capacity;
    }
    struct operation_client *added = &operations->clients[operations->count++];
    *added = (struct operation_client){.client = client};
    return added;
}

static enum status list_key(void *context, struct slice key, const struct record *record)
{
    struct buf *keys = context;
    (void)record;
    if (key.size == NOTE_KEY_BYTES + 1) buf_append_slice(keys, slice_prefix(key, NOTE_KEY_BYTES));
    return buf_status(keys);
}

/* Forgets the client that has gone longest without an increment. */
static enum status forget_oldest(struct replica *replica)
{
    struct replica_operations *operations = &replica->operations;
    struct operation_client *oldest = &operations->clients[0];
    for (size_t i = 1; i < operations->count; i++)
        if (operations->clients[i].used < oldest->used) oldest = &operations->clients[i];
    local_key(&replica->key, LOCAL_OPERATION);
    enum status status = operations->forgot
                             ? STATUS_OK
                             : local_put(replica, buf_slice(&replica->key), (struct slice){0});
    if (status != STATUS_OK) return status;
    operations->forgot = true;

    struct buf keys = {.heap = replica->heap};
    struct query query = replica_query(replica);
    struct query_from from = {0};
    client_key(&replica->key, oldest->client);
    status = query_scan(&query, buf_slice(&replica->key), &from, UINT64_MAX, list_key, &keys);
    for (size_t at = 0; status == STATUS_OK && at < keys.size; at += NOTE_KEY_BYTES)
        local_forget(replica, slice_of(keys.data + at, NOTE_KEY_BYTES));
    buf_deinit(&keys);
    if (status == STATUS_OK) *oldest = operations->clients[--operations->count];
    return status;
}

/* --- Notes --- */

/* Whether more of it may have been noted than is now. */
static bool is_forgotten(struct replica *replica, const struct request_operation *operation)
{
    const struct operation_client *client = client_of(replica, operation->client);
    return client == NULL ? replica->operations.forgot : operation->number < client->floor;
}

/* Of an increment that nothing is noted of. */
static enum operation_answer answer_unnoted(struct replica *replica,
                                            const struct request_operation *operation)
{
    if (operation->attempt == OPERATION_FIRST) return OPERATION_RUN;
    if (operation->attempt == OPERATION_RECALL) return OPERATION_UNKNOWN;
    return is_forgotten(replica, operation) ? OPERATION_UNKNOWN : OPERATION_RUN;
}

/* Whether what stands has slots that began before it was known here what ended the value they were added to. */
static bool has_outlived(const struct record *record)
{
    for (size_t i = 0; i < record->slots.size / RECORD_SLOT_BYTES; i++) {
        struct record_slot slot = record_slot_at(record->slots, i);
        if (record_slot_outlives(&slot, record->set)) return true;
    }
    return false;
}

/* Whether the record that stands is of the value it counted in. */
static bool counts_still(struct replica *replica, struct slice key, struct version set)
{
    struct record record;
    if (store_current(replica->store, key, &record) != STATUS_OK || !record_is_present(&record) ||
        record_is_expired(&record, replica->time.wall_ms))
        return false;
    return version_equal(record.set, set) || has_outlived(&record);
}

/* The one that has this number's place; none: number 0. */
static enum status look_up(struct replica *replica, const struct request_operation *operation,
                           struct note *note)
{
    struct slice bytes;
    *note = (struct note){0};
    enum status status = local_get_newest(replica, note_key(replica, operation), &bytes);
    if (status == STATUS_NOT_FOUND) return STATUS_OK;
    return status == STATUS_OK ? note_decode(bytes, note) : status;
}

enum status replica_operation_noted(struct replica *replica, const struct request *request,
                                    struct operation_note *out)
{
    struct note note;
    enum status status = look_up(replica, &request->operation, &note);
    if (status != STATUS_OK) return status;
    *out = note.told;
    bool known = note.number == request->operation.number &&
                 !is_forgotten(replica, &request->operation);
    return known ? STATUS_OK : STATUS_NOT_FOUND;
}

enum operation_answer replica_operation_look(struct replica *replica, const struct request *request,
                                             struct operation_note *out)
{
    const struct request_operation *operation = &request->operation;
    struct note note;
    if (look_up(replica, operation, &note) != STATUS_OK) return OPERATION_UNKNOWN;
    if (planted(BUG_RETRY_COUNTED_TWICE)) return OPERATION_RUN;
    if (note.number > operation->number) return OPERATION_UNKNOWN;
    if (note.number < operation->number) return answer_unnoted(replica, operation);
    if (note.key_hash != hash_of(request->key)) return OPERATION_MISUSED;
    *out = note.told;
    switch (note.told.state) {
    case OPERATION_MOVED:
        /* From where it went, or further on, it comes back: here is a value that is newer still, in which it has not
         * counted. What only took long on its way to here has moved less often. */
        if (operation->moves > note.told.moves) return answer_unnoted(replica, operation);
        return OPERATION_ELSEWHERE;
    case OPERATION_COUNTED:
        return counts_still(replica, request->key, out->set) ? OPERATION_AGAIN : OPERATION_RUN;
    case OPERATION_ACKNOWLEDGED:
    case OPERATION_STOOD_IN:
        return counts_still(replica, request->key, out->set) ? OPERATION_AGAIN : OPERATION_OVER;
    case OPERATION_NOTHING:
    case OPERATION_STATE_END:
        break;
    }
    return OPERATION_RUN;
}

enum status replica_operation_note(struct replica *replica, const struct request *request,
                                   const struct operation_note *told)
{
    const struct request_operation *operation = &request->operation;
    struct operation_client *client = client_of(replica, operation->client);
    if (client == NULL) {
        enum status status = STATUS_OK;
        if (replica->operations.count >= REPLICA_CLIENTS_MAX) status = forget_oldest(replica);
        if (status != STATUS_OK) return status;
        client = client_add(replica, operation->client);
        if (client == NULL) return STATUS_NOMEM;
        /* Whatever it did before it was forgotten, if it was, had a lower number. */
        if (replica->operations.forgot) client->floor = operation->number;
    }
    if (client->floor == FLOOR_AT_NEXT) client->floor = operation->number;
    struct note note = {operation->number, client->floor, hash_of(request->key), *told};
    struct buf bytes = {.heap = replica->heap};
    note_encode(&note, &bytes);
    enum status status = buf_status(&bytes);
    if (status == STATUS_OK)
        status = local_put(replica, note_key(replica, operation), buf_slice(&bytes));
    buf_deinit(&bytes);
    client->used = local_time(replica);
    return status;
}

/* --- After a start --- */

static enum status visit_note(void *context, struct slice key, const struct record *record)
{
    struct replica *replica = context;
    struct note note;
    if (key.size < CLIENT_KEY_BYTES) replica->operations.forgot = true;
    if (key.size != NOTE_KEY_BYTES + 1) return STATUS_OK;
    enum status status = note_decode(local_value_begin(record), &note);
    if (status != STATUS_OK) return status;
    uint64_t id = 0;
    for (size_t i = 2; i < CLIENT_KEY_BYTES; i++) id = id << 8 | key.data[i];
    /* Keys come in order, so that a client is the last one or new. */
    struct replica_operations *operations = &replica->operations;
    struct operation_client *client =
        operations->count == 0 ? NULL : &operations->clients[operations->count - 1];
    if (client == NULL || client->client != id) client = client_add(replica, id);
    if (client == NULL) return STATUS_NOMEM;
    if (note.floor > client->floor) client->floor = note.floor;
    if (record->version.time > client->used) client->used = record->version.time;
    return STATUS_OK;
}

void replica_operation_set_back(struct replica *replica)
{
    struct replica_operations *operations = &replica->operations;
    operations->forgot = true;
    for (size_t i = 0; i < operations->count; i++) operations->clients[i].floor = FLOOR_AT_NEXT;
}

enum status replica_operation_load(struct replica *replica)
{
    struct query query = replica_query(replica);
    struct query_from from = {0};
    local_key(&replica->key, LOCAL_OPERATION);
    enum status status =
        query_scan(&query, buf_slice(&replica->key), &from, UINT64_MAX, visit_note, replica);
    /* More than fit in: some were forgotten in a batch that still lay before them. */
    while (status == STATUS_OK && replica->operations.count > REPLICA_CLIENTS_MAX)
        status = forget_oldest(replica);
    return status;
}
