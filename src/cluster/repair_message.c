#include "cluster/repair_message.h"

#include "base/bytes.h"
#include "core/key.h"

/* --- Writing --- */

static void put_slice(struct buf *out, struct slice slice)
{
    buf_append_varint(out, slice.size);
    buf_append_slice(out, slice);
}

void repair_message_encode(const struct repair_message *message, struct buf *out)
{
    buf_append_u8(out, (uint8_t)message->kind);
    buf_append_varint(out, message->session);
    buf_append_varint(out, message->step);
    switch (message->kind) {
    case REPAIR_ROOT:
        buf_append_u64le(out, message->shared.low);
        buf_append_u64le(out, message->shared.high);
        buf_append_u64le(out, message->purged);
        buf_append_u8(out, (uint8_t)message->scope);
        buf_append_u64le(out, message->sum.low);
        buf_append_u64le(out, message->sum.high);
        return;
    case REPAIR_ROOTED:
        buf_append_u8(out, (uint8_t)message->verdict);
        buf_append_u8(out, (uint8_t)message->knows);
        return;
    case REPAIR_PUSHED:
        buf_append_u8(out, (uint8_t)message->verdict);
        return;
    case REPAIR_COMPARED:
    case REPAIR_FETCHED:
        buf_append_u8(out, (uint8_t)message->verdict);
        break;
    case REPAIR_COMPARE:
        buf_append_u64le(out, message->purged);
        buf_append_u8(out, (uint8_t)message->scope);
        break;
    case REPAIR_PUSH:
    case REPAIR_FETCH:
    case REPAIR_KIND_END:
        break;
    }
    buf_append_varint(out, message->count);
    buf_append_slice(out, message->list);
}

void repair_range_append(struct buf *list, const struct key_range *range, uint64_t sum)
{
    put_slice(list, range->low);
    put_slice(list, range->high);
    buf_append_u64le(list, sum);
}

void repair_finding_append(struct buf *list, enum repair_finding finding, size_t count)
{
    buf_append_u8(list, (uint8_t)finding);
    if (finding != REPAIR_EQUAL) buf_append_u8(list, (uint8_t)count);
}

void repair_part_append(struct buf *list, struct slice key, uint64_t sum)
{
    put_slice(list, key);
    buf_append_u64le(list, sum);
}

void repair_record_append(struct buf *list, struct slice key, const struct record *record)
{
    struct buf encoded = {.heap = list->heap};
    record_encode(record, &encoded);
    if (encoded.failed) list->failed = true;
    put_slice(list, key);
    put_slice(list, buf_slice(&encoded));
    buf_deinit(&encoded);
}

void repair_key_append(struct buf *list, struct slice key)
{
    put_slice(list, key);
}

/* --- Reading --- */

static struct slice get_slice(struct reader *reader, size_t size_max)
{
    uint64_t size = reader_varint(reader);
    if (size > size_max) reader->failed = true;
    return reader_bytes(reader, reader->failed ? 0 : (size_t)size);
}

/* Of a client's word: what a node holds for itself never travels. */
static struct slice get_key(struct reader *reader)
{
    struct slice key = get_slice(reader, KEY_BYTES_MAX);
    if (key.size == 0 || key.data[0] == 0) reader->failed = true;
    return key;
}

static bool took(const struct reader *reader, struct slice *rest)
{
    if (reader->failed) return false;
    *rest = slice_of(reader->at, reader_left(reader));
    return true;
}

bool repair_range_next(struct slice *rest, struct key_range *range, uint64_t *sum)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    range->low = get_key(&reader);
    range->high = get_slice(&reader, KEY_BYTES_MAX);
    *sum = reader_u64le(&reader);
    if (range->high.size != 0 && slice_compare(range->low, range->high) >= 0) reader.failed = true;
    return took(&reader, rest);
}

bool repair_finding_next(struct slice *rest, enum repair_finding *finding, size_t *count)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    unsigned value = reader_u8(&reader);
    *count = 0;
    if (value >= REPAIR_FINDING_END) reader.failed = true;
    *finding = (enum repair_finding)value;
    if (!reader.failed && *finding != REPAIR_EQUAL) *count = reader_u8(&reader);
    unsigned count_max = *finding == REPAIR_CUT ? REPAIR_PIECES_MAX : REPAIR_LEAF_MAX;
    /* One piece would be the range itself, asked about for ever. */
    if (*count > count_max || (*finding == REPAIR_CUT && *count < 2)) reader.failed = true;
    return took(&reader, rest);
}

bool repair_part_next(struct slice *rest, struct slice *key, uint64_t *sum)
{
    struct reader reader = reader_of(*rest);
    *key = get_key(&reader);
    *sum = reader_u64le(&reader);
    return took(&reader, rest);
}

bool repair_record_next(struct slice *rest, struct slice *key, struct record *record)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    *key = get_key(&reader);
    struct slice bytes = get_slice(&reader, RECORD_BYTES_MAX);
    if (!reader.failed && record_decode(bytes, record) != STATUS_OK) reader.failed = true;
    return took(&reader, rest);
}

bool repair_key_next(struct slice *rest, struct slice *key)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    *key = get_key(&reader);
    return took(&reader, rest);
}

/* Ascending keys, each once. */
static bool follows(struct slice key, struct slice *last)
{
    bool ascends = last->size == 0 || slice_compare(*last, key) < 0;
    *last = key;
    return ascends;
}

static bool ranges_are_sound(struct slice rest, uint64_t *count)
{
    struct key_range range;
    struct slice end = {0};
    uint64_t sum;
    for (*count = 0; repair_range_next(&rest, &range, &sum); ++*count) {
        if (*count > 0 && (end.size == 0 || slice_compare(range.low, end) < 0)) return false;
        end = range.high;
    }
    return rest.size == 0 && *count <= REPAIR_RANGES_MAX;
}

static bool findings_are_sound(struct slice rest, uint64_t *count)
{
    enum repair_finding finding;
    size_t parts;
    uint64_t sum;
    for (*count = 0; repair_finding_next(&rest, &finding, &parts); ++*count) {
        struct slice key, last = {0};
        for (; parts > 0; parts--)
            if (!repair_part_next(&rest, &key, &sum) || !follows(key, &last)) return false;
    }
    return rest.size == 0 && *count <= REPAIR_RANGES_MAX;
}

static bool records_are_sound(struct slice rest, uint64_t *count)
{
    struct slice key, last = {0};
    struct record record;
    for (*count = 0; repair_record_next(&rest, &key, &record); ++*count)
        if (!follows(key, &last)) return false;
    return rest.size == 0;
}

static bool keys_are_sound(struct slice rest, uint64_t *count)
{
    struct slice key, last = {0};
    for (*count = 0; repair_key_next(&rest, &key); ++*count)
        if (!follows(key, &last)) return false;
    return rest.size == 0 && *count <= REPAIR_KEYS_MAX;
}

static bool list_is_sound(const struct repair_message *message, uint64_t *count)
{
    switch (message->kind) {
    case REPAIR_COMPARE:
        return ranges_are_sound(message->list, count);
    case REPAIR_COMPARED:
        return findings_are_sound(message->list, count);
    case REPAIR_PUSH:
    case REPAIR_FETCHED:
        return records_are_sound(message->list, count);
    case REPAIR_FETCH:
        return keys_are_sound(message->list, count);
    default:
        return false;
    }
}

static void get_list(struct reader *reader, struct repair_message *message)
{
    message->count = reader_varint(reader);
    if (reader->failed) return;
    message->list = reader_bytes(reader, reader_left(reader));
    uint64_t count;
    if (!list_is_sound(message, &count) || count != message->count) reader->failed = true;
}

static void get_verdict(struct reader *reader, struct repair_message *message)
{
    unsigned value = reader_u8(reader);
    if (value >= REPAIR_VERDICT_END) reader->failed = true;
    message->verdict = (enum repair_verdict)value;
}

static void get_knowledge(struct reader *reader, struct repair_message *message)
{
    unsigned knows = reader_u8(reader);
    if (knows >= REPAIR_KNOWLEDGE_END) reader->failed = true;
    message->knows = (enum repair_knowledge)knows;
}

static void get_scope(struct reader *reader, struct repair_message *message)
{
    unsigned scope = reader_u8(reader);
    if (scope >= REPAIR_SCOPE_END) reader->failed = true;
    message->scope = (enum repair_scope)scope;
}

enum status repair_message_decode(struct slice bytes, struct repair_message *message)
{
    struct reader reader = reader_of(bytes);
    unsigned kind = reader_u8(&reader);
    if (kind == 0 || kind >= REPAIR_KIND_END) return STATUS_INVALID;
    struct repair_message decoded = {.kind = (enum repair_kind)kind};
    decoded.session = reader_varint(&reader);
    uint64_t step = reader_varint(&reader);
    if (step > UINT32_MAX) reader.failed = true;
    decoded.step = (uint32_t)step;
    switch (decoded.kind) {
    case REPAIR_ROOT:
        decoded.shared.low = reader_u64le(&reader);
        decoded.shared.high = reader_u64le(&reader);
        decoded.purged = reader_u64le(&reader);
        get_scope(&reader, &decoded);
        decoded.sum.low = reader_u64le(&reader);
        decoded.sum.high = reader_u64le(&reader);
        break;
    case REPAIR_ROOTED:
        get_verdict(&reader, &decoded);
        get_knowledge(&reader, &decoded);
        break;
    case REPAIR_PUSHED:
        get_verdict(&reader, &decoded);
        break;
    case REPAIR_COMPARED:
    case REPAIR_FETCHED:
        get_verdict(&reader, &decoded);
        get_list(&reader, &decoded);
        break;
    case REPAIR_COMPARE:
        decoded.purged = reader_u64le(&reader);
        get_scope(&reader, &decoded);
        get_list(&reader, &decoded);
        break;
    case REPAIR_PUSH:
    case REPAIR_FETCH:
        get_list(&reader, &decoded);
        break;
    case REPAIR_KIND_END:
        break;
    }
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    *message = decoded;
    return STATUS_OK;
}
