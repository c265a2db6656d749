#include "cluster/data_message.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "cluster/token.h"
#include "core/key.h"

/* --- Writing --- */

static void put_slice(struct buf *out, struct slice slice)
{
    buf_append_varint(out, slice.size);
    buf_append_slice(out, slice);
}

static void put_double(struct buf *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    buf_append_u64le(out, bits);
}

static void put_version(struct buf *out, struct version version)
{
    buf_append_u64le(out, version.time);
    buf_append_u16le(out, version.node);
}

static void put_record(struct buf *out, const struct record *record)
{
    struct buf encoded;
    buf_init(&encoded, out->heap);
    record_encode(record, &encoded);
    if (encoded.failed) out->failed = true;
    put_slice(out, buf_slice(&encoded));
    buf_deinit(&encoded);
}

static void put_operation(struct buf *out, const struct request_operation *operation)
{
    buf_append_varint(out, operation->client);
    if (operation->client == 0) return;
    buf_append_varint(out, operation->number);
    buf_append_u8(out, (uint8_t)operation->attempt);
    buf_append_u8(out, operation->moves);
    buf_append_varint(out, operation->map_number);
}

static void put_value(struct buf *out, const struct request *request)
{
    put_double(out, request->score);
    if (request->kind == REQUEST_INCREMENT) put_operation(out, &request->operation);
    if (request->kind == REQUEST_INCREMENT) return;
    buf_append_varint(out, request->expires_at);
    buf_append_u8(out, request->has_payload);
    if (request->has_payload) put_slice(out, request->payload);
    put_slice(out, request->tags);
}

static struct version best_created(struct best best)
{
    return (struct version){best.created_time, best.created_node};
}

static void put_place(struct buf *out, const struct request *request)
{
    buf_append_varint(out, request->limit);
    if (request->kind == REQUEST_BEST) {
        buf_append_u8(out, request->has_after);
        if (!request->has_after) return;
        buf_append_u64le(out, request->after.best.score_order);
        put_version(out, best_created(request->after.best));
        put_slice(out, request->after.key);
    } else {
        buf_append_u8(out, (uint8_t)(request->from.inclusive + 2 * request->from.descending));
        put_slice(out, request->from.key);
    }
}

static void put_request(struct buf *out, const struct request *request)
{
    buf_append_u8(out, (uint8_t)request->kind);
    if (request->kind == REQUEST_LOAD) {
        buf_append_varint(out, request->set_count);
        buf_append_slice(out, request->sets);
        return;
    }
    put_slice(out, request->key);
    if (request->kind == REQUEST_SET || request->kind == REQUEST_INCREMENT) put_value(out, request);
    if (request->kind == REQUEST_BEST || request->kind == REQUEST_SCAN) put_place(out, request);
}

static void put_reply(struct buf *out, const struct data_message *message)
{
    const struct request_reply *reply = &message->reply;
    buf_append_u8(out, (uint8_t)reply->outcome);
    buf_append_u8(out, (uint8_t)reply->status);
    put_version(out, reply->version);
    put_double(out, reply->score);
    buf_append_u8(out, (uint8_t)(reply->was_live + 2 * reply->sloppy));
    buf_append_u8(out, reply->ack_count);
    put_slice(out, reply->token);
    buf_append_varint(out, reply->count);
    buf_append_varint(out, message->version_count);
    buf_append_slice(out, message->versions);
}

static void put_entries(struct buf *out, const struct data_message *message)
{
    buf_append_u8(out, message->reply.more);
    buf_append_varint(out, message->entry_count);
    buf_append_slice(out, message->entries);
}

/* What is to be applied or held. */
static void put_records(struct buf *out, const struct data_message *message)
{
    if (message->entry_count > 0) {
        buf_append_varint(out, message->entry_count);
        buf_append_slice(out, message->entries);
        return;
    }
    buf_append_varint(out, 1);
    put_slice(out, message->key);
    put_record(out, &message->record);
}

static void put_ranges(struct buf *out, const struct data_message *message)
{
    buf_append_varint(out, message->range_count);
    buf_append_slice(out, message->ranges);
}

static bool has_version(enum data_verdict verdict)
{
    return verdict == DATA_STALE || verdict == DATA_PROMISED;
}

static bool has_ranges(enum data_verdict verdict)
{
    return verdict == DATA_NOT_OWNER || verdict == DATA_INCOMPLETE || verdict == DATA_UNFILLED;
}

void data_message_encode(const struct data_message *message, struct buf *out)
{
    buf_append_u8(out, (uint8_t)message->kind);
    buf_append_varint(out, message->flow);
    buf_append_varint(out, message->generation);
    buf_append_varint(out, message->map_number);
    switch (message->kind) {
    case DATA_FORWARD:
        buf_append_varint(out, message->boot);
        buf_append_varint(out, message->serial);
        buf_append_u8(out, (uint8_t)(message->request.has_consistency
                                         ? 1 + (int)message->request.consistency
                                         : 0));
        buf_append_varint(out, message->request.timeout_ms);
        put_request(out, &message->request);
        break;
    case DATA_FORWARDED:
        put_reply(out, message);
        put_entries(out, message);
        break;
    case DATA_APPLY:
        buf_append_u8(out, (uint8_t)message->apply);
        put_records(out, message);
        break;
    case DATA_APPLIED:
        buf_append_u8(out, (uint8_t)message->verdict);
        if (has_version(message->verdict)) put_version(out, message->version);
        buf_append_u8(out, message->was_live);
        buf_append_varint(out, message->sequence);
        if (message->verdict != DATA_PARTLY) break;
        buf_append_varint(out, message->refusal_count);
        buf_append_slice(out, message->refusals);
        break;
    case DATA_ASK:
        buf_append_u8(out, message->of_all);
        buf_append_u8(out, message->with_dead);
        buf_append_varint(out, message->sequence);
        put_request(out, &message->request);
        put_ranges(out, message);
        break;
    case DATA_TOLD:
        buf_append_u8(out, (uint8_t)message->verdict);
        buf_append_u8(out, message->with_dead);
        buf_append_varint(out, message->count_count);
        buf_append_slice(out, message->counts);
        if (has_ranges(message->verdict))
            put_ranges(out, message);
        else
            put_entries(out, message);
        break;
    case DATA_HOLD:
        buf_append_u16le(out, message->owner);
        put_records(out, message);
        break;
    case DATA_HELD:
        buf_append_u8(out, (uint8_t)message->verdict);
        break;
    case DATA_KIND_END:
        break;
    }
}

void data_entry_append(struct buf *out, struct slice key, struct slice encoded_record)
{
    put_slice(out, key);
    put_slice(out, encoded_record);
}

void data_range_append(struct buf *out, const struct key_range *range)
{
    put_slice(out, range->low);
    put_slice(out, range->high);
}

void data_version_append(struct buf *out, struct version version)
{
    put_version(out, version);
}

void data_refusal_append(struct buf *out, const struct data_refusal *refusal)
{
    buf_append_varint(out, refusal->place);
    buf_append_u8(out, refusal->promised);
    put_version(out, refusal->version);
}

void data_set_append(struct buf *out, const struct request *set)
{
    put_slice(out, set->key);
    put_value(out, set);
}

/* --- Reading --- */

static struct slice get_slice(struct reader *reader, size_t size_max)
{
    uint64_t size = reader_varint(reader);
    if (size > size_max) reader->failed = true;
    return reader_bytes(reader, reader->failed ? 0 : (size_t)size);
}

/* A value below `end`. */
static unsigned get_choice(struct reader *reader, unsigned end)
{
    unsigned value = reader_u8(reader);
    if (value >= end) reader->failed = true;
    return reader->failed ? 0 : value;
}

static bool get_bool(struct reader *reader)
{
    return get_choice(reader, 2) == 1;
}

/* Finite, and no -0.0, which is stored as 0.0. */
static double get_double(struct reader *reader)
{
    uint64_t bits = reader_u64le(reader);
    double value;
    memcpy(&value, &bits, sizeof value);
    if (!isfinite(value) || (value == 0 && bits != 0)) reader->failed = true;
    return reader->failed ? 0 : value;
}

static struct version get_version(struct reader *reader)
{
    struct version version;
    version.time = reader_u64le(reader);
    version.node = reader_u16le(reader);
    return version;
}

/* Of a write: somebody may be about to stamp above it. */
static struct version get_stamp(struct reader *reader)
{
    struct version version = get_version(reader);
    if (version.time > VERSION_TIME_MAX) reader->failed = true;
    return version;
}

/* What a node holds for itself is nobody's to ask for, to tell or to write. */
static bool is_own(struct slice key)
{
    return key.size > 0 && key.data[0] == 0;
}

static struct slice get_key(struct reader *reader)
{
    struct slice key = get_slice(reader, KEY_BYTES_MAX);
    if (key.size == 0 || is_own(key)) reader->failed = true;
    return key;
}

/* Also as it is encoded. */
static struct record get_record(struct reader *reader, struct slice *encoded)
{
    struct record record = {0};
    *encoded = get_slice(reader, RECORD_BYTES_MAX);
    if (!reader->failed && record_decode(*encoded, &record) != STATUS_OK) reader->failed = true;
    return record;
}

static bool tags_are_canonical(struct slice tags)
{
    struct record probe = record_of_set((struct version){1, 1}, 0);
    probe.tags = tags;
    return record_is_canonical(&probe);
}

static void get_operation(struct reader *reader, struct request_operation *operation)
{
    operation->client = reader_varint(reader);
    if (operation->client == 0) return;
    operation->number = reader_varint(reader);
    if (operation->number == 0) reader->failed = true;
    operation->attempt = (enum operation_attempt)get_choice(reader, OPERATION_ATTEMPT_END);
    operation->moves = reader_u8(reader);
    operation->map_number = reader_varint(reader);
}

static void get_value(struct reader *reader, struct request *request)
{
    request->score = get_double(reader);
    if (request->kind == REQUEST_INCREMENT) get_operation(reader, &request->operation);
    if (request->kind == REQUEST_INCREMENT) return;
    request->expires_at = reader_varint(reader);
    request->has_payload = get_bool(reader);
    if (request->has_payload) request->payload = get_slice(reader, PAYLOAD_BYTES_MAX);
    request->tags = get_slice(reader, RECORD_TAGS_BYTES_MAX);
    if (!reader->failed && !tags_are_canonical(request->tags)) reader->failed = true;
}

/* The place of a finite score, and never that of none. */
static struct best get_best(struct reader *reader)
{
    struct best best = {.score_order = reader_u64le(reader)};
    double score = score_of_order(best.score_order);
    if (!isfinite(score) || score_order_of(score) != best.score_order) reader->failed = true;
    if (score == 0 && signbit(score)) reader->failed = true;
    struct version created = get_version(reader);
    best.created_time = created.time;
    best.created_node = created.node;
    return best;
}

static void get_place(struct reader *reader, struct request *request)
{
    request->limit = reader_varint(reader);
    if (request->limit == 0 || request->limit > REQUEST_LIMIT_MAX) reader->failed = true;
    if (request->kind == REQUEST_BEST) {
        request->has_after = get_bool(reader);
        if (!request->has_after) return;
        request->after.best = get_best(reader);
        request->after.key = get_key(reader);
    } else {
        unsigned flags = get_choice(reader, 4);
        request->from.inclusive = (flags & 1) != 0;
        request->from.descending = (flags & 2) != 0;
        request->from.key = get_slice(reader, KEY_BYTES_MAX);
    }
}

bool data_set_next(struct slice *rest, struct request *set)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    *set = (struct request){.kind = REQUEST_SET};
    set->key = get_key(&reader);
    get_value(&reader, set);
    if (reader.failed) return false;
    *rest = slice_of(reader.at, reader_left(&reader));
    return true;
}

enum status data_sets_check(struct slice sets, uint64_t count)
{
    struct slice rest = sets, before = {0};
    struct request set;
    uint64_t found = 0;
    if (count == 0 || count > REQUEST_SETS_MAX) return STATUS_INVALID;
    if (sets.size > REQUEST_SETS_BYTES_MAX) return STATUS_INVALID;
    while (data_set_next(&rest, &set)) {
        if (found > 0 && slice_compare(before, set.key) >= 0) return STATUS_INVALID;
        before = set.key;
        found++;
    }
    return rest.size == 0 && found == count ? STATUS_OK : STATUS_INVALID;
}

/* Sets are the last thing in a message. */
static void get_sets(struct reader *reader, struct request *request)
{
    request->set_count = reader_varint(reader);
    request->sets = reader_bytes(reader, reader_left(reader));
    if (reader->failed) return;
    if (data_sets_check(request->sets, request->set_count) != STATUS_OK) {
        reader->failed = true;
        return;
    }
    struct slice rest = request->sets;
    struct request first;
    if (data_set_next(&rest, &first)) request->key = first.key;
}

static void get_request(struct reader *reader, struct request *request)
{
    request->kind = (enum request_kind)get_choice(reader, REQUEST_KIND_END);
    if (request->kind == 0) reader->failed = true;
    if (request->kind == REQUEST_LOAD) {
        get_sets(reader, request);
        return;
    }
    request->key = get_slice(reader, KEY_BYTES_MAX);
    bool prefix = request->kind >= REQUEST_BEST;
    if (request->key.size == 0 && !prefix) reader->failed = true;
    if (is_own(request->key)) reader->failed = true;
    if (request->kind == REQUEST_SET || request->kind == REQUEST_INCREMENT)
        get_value(reader, request);
    if (request->kind == REQUEST_BEST || request->kind == REQUEST_SCAN) get_place(reader, request);
}

bool data_encoded_next(struct slice *rest, struct request_entry *entry, struct slice *encoded)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    entry->key = get_key(&reader);
    entry->record = get_record(&reader, encoded);
    if (reader.failed) return false;
    *rest = slice_of(reader.at, reader_left(&reader));
    return true;
}

bool data_entry_next(struct slice *rest, struct request_entry *entry)
{
    struct slice encoded;
    return data_encoded_next(rest, entry, &encoded);
}

bool data_range_next(struct slice *rest, struct key_range *range)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    range->low = get_slice(&reader, KEY_BYTES_MAX);
    range->high = get_slice(&reader, KEY_BYTES_MAX);
    if (is_own(range->low) || is_own(range->high)) reader.failed = true;
    if (reader.failed) return false;
    *rest = slice_of(reader.at, reader_left(&reader));
    return true;
}

bool data_version_next(struct slice *rest, struct version *version)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    *version = get_stamp(&reader);
    if (reader.failed) return false;
    *rest = slice_of(reader.at, reader_left(&reader));
    return true;
}

static struct data_count get_count(struct reader *reader)
{
    struct data_count count = {.live = reader_varint(reader)};
    count.sum.low = reader_u64le(reader);
    count.sum.high = reader_u64le(reader);
    return count;
}

void data_count_append(struct buf *out, const struct data_count *count)
{
    buf_append_varint(out, count->live);
    buf_append_u64le(out, count->sum.low);
    buf_append_u64le(out, count->sum.high);
}

bool data_count_next(struct slice *rest, struct data_count *count)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    *count = get_count(&reader);
    if (reader.failed) return false;
    *rest = slice_of(reader.at, reader_left(&reader));
    return true;
}

bool data_refusal_next(struct slice *rest, struct data_refusal *refusal)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    uint64_t place = reader_varint(&reader);
    if (place >= DATA_ENTRIES_MAX) reader.failed = true;
    refusal->place = reader.failed ? 0 : (uint32_t)place;
    refusal->promised = get_bool(&reader);
    refusal->version = get_stamp(&reader);
    if (reader.failed) return false;
    *rest = slice_of(reader.at, reader_left(&reader));
    return true;
}

static void get_versions(struct reader *reader, struct data_message *message)
{
    enum { VERSION_BYTES = 10 };
    message->version_count = reader_varint(reader);
    if (message->version_count > REQUEST_SETS_MAX) reader->failed = true;
    if (reader->failed) return;
    message->versions = reader_bytes(reader, (size_t)message->version_count * VERSION_BYTES);
    struct slice rest = message->versions;
    struct version version;
    while (data_version_next(&rest, &version)) {
    }
    if (rest.size != 0) reader->failed = true;
}

static void get_counts(struct reader *reader, struct data_message *message)
{
    message->count_count = reader_varint(reader);
    if (message->count_count > DATA_RANGES_MAX) reader->failed = true;
    if (reader->failed) return;
    const uint8_t *begin = reader->at;
    for (uint64_t i = 0; i < message->count_count; i++) get_count(reader);
    if (!reader->failed) message->counts = slice_of(begin, (size_t)(reader->at - begin));
}

/* By ascending places; the last thing in a message. */
static void get_refusals(struct reader *reader, struct data_message *message)
{
    message->refusal_count = reader_varint(reader);
    message->refusals = reader_bytes(reader, reader_left(reader));
    struct slice rest = message->refusals;
    struct data_refusal refusal;
    uint64_t count = 0;
    uint32_t before = 0;
    while (!reader->failed && data_refusal_next(&rest, &refusal)) {
        if (count > 0 && refusal.place <= before) reader->failed = true;
        before = refusal.place;
        count++;
    }
    if (rest.size != 0 || count == 0 || count != message->refusal_count) reader->failed = true;
}

/* What is to be applied or held: the last thing in a message. */
static void get_records(struct reader *reader, struct data_message *message)
{
    message->entry_count = reader_varint(reader);
    if (message->entry_count == 0 || message->entry_count > DATA_ENTRIES_MAX) reader->failed = true;
    message->entries = reader_bytes(reader, reader_left(reader));
    struct slice rest = message->entries;
    struct request_entry entry = {0};
    uint64_t count = 0;
    while (!reader->failed && data_entry_next(&rest, &entry)) {
        if (count++ > 0) continue;
        message->key = entry.key;
        message->record = entry.record;
    }
    if (rest.size != 0 || count != message->entry_count) reader->failed = true;
}

/* Entries are the last thing in a message. */
static void get_entries(struct reader *reader, struct data_message *message)
{
    message->reply.more = get_bool(reader);
    message->entry_count = reader_varint(reader);
    if (message->entry_count > DATA_ENTRIES_MAX) reader->failed = true;
    /* More than nothing would be asked for without end. */
    if (message->reply.more && message->entry_count == 0) reader->failed = true;
    if (reader->failed) return;
    message->entries = reader_bytes(reader, reader_left(reader));

    struct slice rest = message->entries;
    struct request_entry entry;
    uint64_t count = 0;
    while (data_entry_next(&rest, &entry)) count++;
    if (rest.size != 0 || count != message->entry_count) reader->failed = true;
}

/* Ascending and disjoint, as queries want them. */
static void get_ranges(struct reader *reader, struct data_message *message)
{
    message->range_count = reader_varint(reader);
    if (message->range_count > DATA_RANGES_MAX) reader->failed = true;
    if (reader->failed) return;
    message->ranges = reader_bytes(reader, reader_left(reader));

    struct slice rest = message->ranges, end = {0};
    struct key_range range;
    uint64_t count = 0;
    while (data_range_next(&rest, &range)) {
        bool open = count > 0 && end.size == 0;
        if (open || slice_compare(range.low, end) < 0) reader->failed = true;
        if (range.high.size != 0 && slice_compare(range.low, range.high) >= 0)
            reader->failed = true;
        end = range.high;
        count++;
    }
    if (rest.size != 0 || count != message->range_count) reader->failed = true;
}

static void get_reply(struct reader *reader, struct data_message *message)
{
    struct request_reply *reply = &message->reply;
    reply->outcome = (enum request_outcome)get_choice(reader, REQUEST_OUTCOME_END);
    reply->status = (enum status)get_choice(reader, STATUS_COUNT);
    reply->version = get_stamp(reader);
    reply->score = get_double(reader);
    unsigned flags = get_choice(reader, 4);
    reply->was_live = (flags & 1) != 0;
    reply->sloppy = (flags & 2) != 0;
    reply->ack_count = reader_u8(reader);
    struct token token;
    reply->token = get_slice(reader, TOKEN_BYTES_MAX);
    reply->count = reader_varint(reader);
    get_versions(reader, message);
    if (reader->failed || reply->token.size == 0) return;
    if (token_decode(reply->token, &token) != STATUS_OK) reader->failed = true;
}

static void get_body(struct reader *reader, struct data_message *message)
{
    unsigned consistency;
    switch (message->kind) {
    case DATA_FORWARD:
        message->boot = reader_varint(reader);
        message->serial = reader_varint(reader);
        if (message->boot == 0 || message->serial == 0) reader->failed = true;
        consistency = get_choice(reader, 2 + CONSISTENCY_ALL);
        message->request.has_consistency = consistency != 0;
        if (consistency != 0) message->request.consistency = (enum consistency)(consistency - 1);
        uint64_t timeout_ms = reader_varint(reader);
        if (timeout_ms == 0 || timeout_ms > REQUEST_TIMEOUT_MS_MAX) reader->failed = true;
        message->request.timeout_ms = (uint32_t)timeout_ms;
        get_request(reader, &message->request);
        break;
    case DATA_FORWARDED:
        get_reply(reader, message);
        get_entries(reader, message);
        break;
    case DATA_APPLY:
        message->apply = (enum data_apply)get_choice(reader, DATA_APPLY_END);
        get_records(reader, message);
        break;
    case DATA_APPLIED:
        message->verdict = (enum data_verdict)get_choice(reader, DATA_VERDICT_END);
        if (has_version(message->verdict)) message->version = get_stamp(reader);
        message->was_live = get_bool(reader);
        message->sequence = reader_varint(reader);
        if (message->verdict == DATA_PARTLY) get_refusals(reader, message);
        break;
    case DATA_ASK:
        message->of_all = get_bool(reader);
        message->with_dead = get_bool(reader);
        message->sequence = reader_varint(reader);
        get_request(reader, &message->request);
        if (request_is_write(message->request.kind)) reader->failed = true;
        get_ranges(reader, message);
        break;
    case DATA_TOLD:
        message->verdict = (enum data_verdict)get_choice(reader, DATA_VERDICT_END);
        message->with_dead = get_bool(reader);
        get_counts(reader, message);
        if (has_ranges(message->verdict))
            get_ranges(reader, message);
        else
            get_entries(reader, message);
        break;
    case DATA_HOLD:
        message->owner = reader_u16le(reader);
        if (message->owner == 0) reader->failed = true;
        get_records(reader, message);
        break;
    case DATA_HELD:
        message->verdict = (enum data_verdict)get_choice(reader, DATA_VERDICT_END);
        break;
    case DATA_KIND_END:
        break;
    }
}

enum status data_message_decode(struct slice bytes, struct data_message *message)
{
    struct reader reader = reader_of(bytes);
    struct data_message decoded = {.kind = (enum data_kind)get_choice(&reader, DATA_KIND_END)};
    if (decoded.kind == 0) return STATUS_INVALID;
    decoded.flow = reader_varint(&reader);
    decoded.generation = reader_varint(&reader);
    decoded.map_number = reader_varint(&reader);
    get_body(&reader, &decoded);
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    *message = decoded;
    return STATUS_OK;
}
