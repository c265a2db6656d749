#include "cluster/repair_message.h"

#include <xxhash.h>

#include "base/bytes.h"
#include "cluster/repair_lists.h"
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
    case REPAIR_COMPARED:
        buf_append_u8(out, (uint8_t)message->verdict);
        break;
    case REPAIR_EXCHANGED:
        buf_append_u8(out, (uint8_t)message->verdict);
        buf_append_varint(out, message->want_count);
        buf_append_slice(out, message->found);
        break;
    case REPAIR_COMPARE:
        buf_append_u64le(out, message->purged);
        buf_append_u8(out, (uint8_t)message->scope);
        break;
    case REPAIR_EXCHANGE:
    case REPAIR_KIND_END:
        break;
    }
    buf_append_varint(out, message->count);
    if (message->kind == REPAIR_COMPARE)
        repair_pack_ranges(out, message->list);
    else if (message->kind == REPAIR_COMPARED)
        repair_pack_findings(out, message->list);
    else
        repair_pack_records(out, message->list);
    if (message->kind != REPAIR_EXCHANGE) return;
    buf_append_varint(out, message->want_count);
    repair_pack_wants(out, message->wants);
}

void repair_range_append(struct buf *list, const struct key_range *range, uint64_t sum)
{
    put_slice(list, range->low);
    put_slice(list, range->high);
    buf_append_u64le(list, sum);
}

void repair_finding_append(struct buf *list, const struct repair_part_list *parts)
{
    buf_append_u8(list, (uint8_t)parts->finding);
    if (parts->finding != REPAIR_EQUAL) buf_append_u8(list, (uint8_t)parts->count);
    if (parts->finding > REPAIR_CUT) buf_append_u48le(list, parts->sum);
}

void repair_part_append(struct buf *list, struct slice key, uint64_t sum)
{
    put_slice(list, key);
    buf_append_u48le(list, sum);
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

uint16_t repair_tag(uint64_t session, struct slice key, uint64_t record_hash)
{
    unsigned record_bits = REPAIR_TAG_BITS - REPAIR_TAG_KEY_BITS;
    uint64_t of_key = XXH3_64bits_withSeed(key.data, key.size, session) >>
                      (64 - REPAIR_TAG_KEY_BITS);
    uint64_t of_record = XXH3_64bits_withSeed(&record_hash, sizeof record_hash, session) >>
                         (64 - record_bits);
    return (uint16_t)(of_key << record_bits | of_record);
}

void repair_want_append(struct buf *list, const struct repair_want *want)
{
    put_slice(list, want->range.low);
    buf_append_u8(list, (uint8_t)(want->tags.size / sizeof(uint16_t)));
    if (want->tags.size == 0)
        put_slice(list, want->range.high);
    else
        buf_append_u48le(list, want->sum);
    buf_append_slice(list, want->tags);
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

bool repair_finding_next(struct slice *rest, struct repair_part_list *parts)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    unsigned value = reader_u8(&reader);
    if (value >= REPAIR_FINDING_END) reader.failed = true;
    *parts = (struct repair_part_list){.finding = (enum repair_finding)value};
    if (!reader.failed && value != REPAIR_EQUAL) parts->count = reader_u8(&reader);
    if (!reader.failed && value > REPAIR_CUT) parts->sum = reader_u48le(&reader);
    unsigned count_max = value == REPAIR_CUT ? REPAIR_PIECES_MAX : REPAIR_LEAF_MAX;
    /* One piece would be the range itself, asked about for ever. */
    if (parts->count > count_max || (value == REPAIR_CUT && parts->count < 2)) reader.failed = true;
    return took(&reader, rest);
}

bool repair_part_next(struct slice *rest, struct slice *key, uint64_t *sum)
{
    struct reader reader = reader_of(*rest);
    *key = get_key(&reader);
    *sum = reader_u48le(&reader);
    return took(&reader, rest);
}

bool repair_encoded_next(struct slice *rest, struct slice *key, struct slice *encoded)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    *key = get_key(&reader);
    *encoded = get_slice(&reader, RECORD_BYTES_MAX);
    return took(&reader, rest);
}

bool repair_record_next(struct slice *rest, struct slice *key, struct record *record)
{
    struct slice after = *rest, encoded;
    if (!repair_encoded_next(&after, key, &encoded)) return false;
    if (record_decode(encoded, record) != STATUS_OK) return false;
    *rest = after;
    return true;
}

bool repair_record_find(struct slice *rest, struct slice key, struct record *record)
{
    struct slice next, before = *rest;
    while (repair_record_next(rest, &next, record)) {
        int order = slice_compare(next, key);
        if (order == 0) return true;
        if (order > 0) {
            *rest = before;
            return false;
        }
        before = *rest;
    }
    return false;
}

bool repair_tag_next(struct slice *rest, uint16_t *tag)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    *tag = reader_u16le(&reader);
    return took(&reader, rest);
}

bool repair_want_next(struct slice *rest, struct repair_want *want)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    struct key_range *range = &want->range;
    range->low = get_key(&reader);
    range->high = (struct slice){0};
    unsigned count = reader_u8(&reader);
    if (count > REPAIR_LEAF_MAX) reader.failed = true;
    want->sum = count == 0 ? 0 : reader_u48le(&reader);
    if (count == 0) range->high = get_slice(&reader, KEY_BYTES_MAX);
    if (range->high.size != 0 && slice_compare(range->low, range->high) >= 0) reader.failed = true;
    want->tags = reader_bytes(&reader, reader.failed ? 0 : count * sizeof(uint16_t));
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
    struct repair_part_list parts;
    uint64_t sum;
    uint16_t tag;
    for (*count = 0; repair_finding_next(&rest, &parts); ++*count) {
        struct slice key, last = {0};
        for (size_t i = 0; i < parts.count; i++) {
            bool good = parts.finding == REPAIR_CUT
                            ? repair_part_next(&rest, &key, &sum) && follows(key, &last)
                            : repair_tag_next(&rest, &tag);
            if (!good) return false;
        }
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

static bool wants_are_sound(struct slice rest, uint64_t *count)
{
    struct repair_want want;
    struct slice last = {0};
    for (*count = 0; repair_want_next(&rest, &want); ++*count)
        if (!follows(want.range.low, &last)) return false;
    return rest.size == 0 && *count <= REPAIR_WANTS_MAX;
}

/* Memory may move while there is more to come. */
static struct slice list_from(const struct buf *lists, size_t start)
{
    return slice_from(buf_slice(lists), start);
}

static void get_list(struct reader *reader, struct buf *lists, struct repair_message *message)
{
    uint64_t count = 0;
    bool sound = false;
    message->count = reader_varint(reader);
    switch (message->kind) {
    case REPAIR_COMPARE:
        repair_unpack_ranges(reader, message->count, lists);
        sound = !reader->failed && ranges_are_sound(buf_slice(lists), &count);
        break;
    case REPAIR_COMPARED:
        repair_unpack_findings(reader, message->count, lists);
        sound = !reader->failed && findings_are_sound(buf_slice(lists), &count);
        break;
    default:
        repair_unpack_records(reader, message->count, lists);
        sound = !reader->failed && records_are_sound(buf_slice(lists), &count);
        break;
    }
    if (!sound || count != message->count) reader->failed = true;
}

/* Bits behind the last are 0. */
static void get_found(struct reader *reader, struct repair_message *message)
{
    message->want_count = reader_varint(reader);
    if (message->want_count > REPAIR_WANTS_MAX) reader->failed = true;
    if (reader->failed) return;
    size_t size = (size_t)(message->want_count + 7) / 8, used = message->want_count % 8;
    message->found = reader_bytes(reader, size);
    if (reader->failed || used == 0) return;
    if (message->found.data[size - 1] >> used != 0) reader->failed = true;
}

static void get_wants(struct reader *reader, struct buf *lists, struct repair_message *message)
{
    size_t start = lists->size;
    uint64_t count = 0;
    message->want_count = reader_varint(reader);
    repair_unpack_wants(reader, message->want_count, lists);
    message->wants = list_from(lists, start);
    bool sound = !reader->failed && wants_are_sound(message->wants, &count);
    if (!sound || count != message->want_count) reader->failed = true;
    message->list = slice_prefix(buf_slice(lists), start);
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

enum status repair_message_decode(struct slice bytes, struct buf *lists,
                                  struct repair_message *message)
{
    struct reader reader = reader_of(bytes);
    buf_clear(lists);
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
    case REPAIR_COMPARED:
        get_verdict(&reader, &decoded);
        get_list(&reader, lists, &decoded);
        break;
    case REPAIR_EXCHANGED:
        get_verdict(&reader, &decoded);
        get_found(&reader, &decoded);
        get_list(&reader, lists, &decoded);
        break;
    case REPAIR_COMPARE:
        decoded.purged = reader_u64le(&reader);
        get_scope(&reader, &decoded);
        get_list(&reader, lists, &decoded);
        break;
    case REPAIR_EXCHANGE:
        get_list(&reader, lists, &decoded);
        get_wants(&reader, lists, &decoded);
        break;
    case REPAIR_KIND_END:
        break;
    }
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    if (decoded.kind != REPAIR_EXCHANGE) decoded.list = buf_slice(lists);
    *message = decoded;
    return STATUS_OK;
}
