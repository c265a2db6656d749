#include "cluster/repair_lists.h"

#include "core/key.h"

/* --- Packing --- */

static void put_sized(struct buf *out, struct slice bytes)
{
    buf_append_varint(out, bytes.size);
    buf_append_slice(out, bytes);
}

static void put_key(struct buf *out, struct slice *last, struct slice key)
{
    size_t common = slice_common_prefix(*last, key);
    buf_append_varint(out, common);
    put_sized(out, slice_from(key, common));
    *last = key;
}

void repair_pack_ranges(struct buf *out, struct slice list)
{
    struct key_range range;
    struct slice last = {0};
    uint64_t sum;
    while (repair_range_next(&list, &range, &sum)) {
        put_key(out, &last, range.low);
        put_key(out, &last, range.high);
        buf_append_u48le(out, sum);
    }
}

void repair_pack_findings(struct buf *out, struct slice list)
{
    struct repair_part_list parts;
    struct slice key, last = {0};
    uint64_t sum;
    uint16_t tag;
    while (repair_finding_next(&list, &parts)) {
        repair_finding_append(out, &parts);
        for (size_t i = 0; i < parts.count; i++) {
            if (parts.finding == REPAIR_CUT) {
                if (!repair_part_next(&list, &key, &sum)) return;
                put_key(out, &last, key);
                buf_append_u48le(out, sum);
            } else {
                if (!repair_tag_next(&list, &tag)) return;
                buf_append_u16le(out, tag);
            }
        }
    }
}

void repair_pack_records(struct buf *out, struct slice list)
{
    struct slice key, encoded, last = {0};
    while (repair_encoded_next(&list, &key, &encoded)) {
        put_key(out, &last, key);
        put_sized(out, encoded);
    }
}

void repair_pack_wants(struct buf *out, struct slice list)
{
    struct repair_want want;
    struct slice last = {0};
    while (repair_want_next(&list, &want)) {
        put_key(out, &last, want.range.low);
        buf_append_u8(out, (uint8_t)(want.tags.size / sizeof(uint16_t)));
        if (want.tags.size == 0)
            put_key(out, &last, want.range.high);
        else
            buf_append_u48le(out, want.sum);
        buf_append_slice(out, want.tags);
    }
}

/* --- Unpacking --- */

/* The key before, which the next one replaces. */
struct unpacking {
    struct reader *reader;
    struct buf *list;
    struct buf key, low;
};

static struct unpacking unpacking_of(struct reader *reader, struct buf *list)
{
    return (struct unpacking){reader, list, {.heap = list->heap}, {.heap = list->heap}};
}

static void unpacking_end(struct unpacking *unpacking)
{
    struct buf *list = unpacking->list;
    bool good = buf_status(list) == STATUS_OK && buf_status(&unpacking->key) == STATUS_OK &&
                buf_status(&unpacking->low) == STATUS_OK && list->size <= REPAIR_LIST_BYTES_MAX;
    if (!good) unpacking->reader->failed = true;
    buf_deinit(&unpacking->key);
    buf_deinit(&unpacking->low);
}

static bool goes_on(const struct unpacking *unpacking)
{
    return !unpacking->reader->failed && unpacking->list->size <= REPAIR_LIST_BYTES_MAX;
}

static struct slice get_key(struct unpacking *unpacking)
{
    struct reader *reader = unpacking->reader;
    struct buf *key = &unpacking->key;
    uint64_t common = reader_varint(reader), size = reader_varint(reader);
    if (common > key->size || size > KEY_BYTES_MAX - common) reader->failed = true;
    struct slice rest = reader_bytes(reader, reader->failed ? 0 : size);
    if (reader->failed) return (struct slice){0};
    /* Or more of it would be common. */
    if (common < key->size && rest.size > 0 && rest.data[0] == key->data[common])
        reader->failed = true;
    key->size = common;
    buf_append_slice(key, rest);
    return buf_slice(key);
}

/* Two keys at once. */
static struct key_range get_range(struct unpacking *unpacking)
{
    struct slice low = get_key(unpacking);
    buf_clear(&unpacking->low);
    buf_append_slice(&unpacking->low, low);
    return (struct key_range){buf_slice(&unpacking->low), get_key(unpacking)};
}

void repair_unpack_ranges(struct reader *reader, uint64_t count, struct buf *list)
{
    struct unpacking unpacking = unpacking_of(reader, list);
    for (; count > 0 && goes_on(&unpacking); count--) {
        struct key_range range = get_range(&unpacking);
        repair_range_append(list, &range, reader_u48le(reader));
    }
    unpacking_end(&unpacking);
}

void repair_unpack_findings(struct reader *reader, uint64_t count, struct buf *list)
{
    struct unpacking unpacking = unpacking_of(reader, list);
    for (; count > 0 && goes_on(&unpacking); count--) {
        struct slice rest = slice_of(reader->at, reader_left(reader));
        struct repair_part_list parts;
        size_t before = rest.size;
        if (!repair_finding_next(&rest, &parts)) {
            reader->failed = true;
            break;
        }
        (void)reader_bytes(reader, before - rest.size);
        repair_finding_append(list, &parts);
        for (size_t i = 0; i < parts.count && goes_on(&unpacking); i++) {
            if (parts.finding != REPAIR_CUT) {
                buf_append_u16le(list, reader_u16le(reader));
                continue;
            }
            struct slice key = get_key(&unpacking);
            repair_part_append(list, key, reader_u48le(reader));
        }
    }
    unpacking_end(&unpacking);
}

void repair_unpack_records(struct reader *reader, uint64_t count, struct buf *list)
{
    struct unpacking unpacking = unpacking_of(reader, list);
    for (; count > 0 && goes_on(&unpacking); count--) {
        struct slice key = get_key(&unpacking);
        uint64_t size = reader_varint(reader);
        if (size > RECORD_BYTES_MAX) reader->failed = true;
        put_sized(list, key);
        put_sized(list, reader_bytes(reader, reader->failed ? 0 : size));
    }
    unpacking_end(&unpacking);
}

void repair_unpack_wants(struct reader *reader, uint64_t count, struct buf *list)
{
    struct unpacking unpacking = unpacking_of(reader, list);
    for (; count > 0 && goes_on(&unpacking); count--) {
        struct slice low = get_key(&unpacking);
        buf_clear(&unpacking.low);
        buf_append_slice(&unpacking.low, low);
        unsigned tags = reader_u8(reader);
        if (tags > REPAIR_LEAF_MAX) reader->failed = true;
        struct repair_want want = {.range.low = buf_slice(&unpacking.low)};
        if (tags == 0) want.range.high = get_key(&unpacking);
        if (tags > 0) want.sum = reader_u48le(reader);
        want.tags = reader_bytes(reader, reader->failed ? 0 : tags * sizeof(uint16_t));
        repair_want_append(list, &want);
    }
    unpacking_end(&unpacking);
}
