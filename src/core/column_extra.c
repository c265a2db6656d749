#include "core/column_extra.h"

#include "core/column_bits.h"

enum extra_created { EXTRA_CREATED_VERSION, EXTRA_CREATED_NONE, EXTRA_CREATED_CODED };

enum extra_set { EXTRA_SET_VERSION, EXTRA_SET_SINCE, EXTRA_SET_CREATED, EXTRA_SET_CODED };

enum {
    SHAPE_CREATED = 0x07,
    SHAPE_SET_SHIFT = 3,
    SHAPE_SET = 0x18,
    SHAPE_SINCE = 0x20,
    SHAPE_EXPIRES = 0x40,
    SHAPE_BODY = 0x80,

    PART_PAYLOAD = 1,
    PART_TAGS = 2,
    PART_SLOTS = 4,
};

/* --- Writing --- */

static void append_version(struct version version, struct version own,
                           struct node_table_builder *nodes, struct buf *out)
{
    bool another = version.node != own.node;
    uint64_t counter = version.time & bits_mask(HLC_COUNTER_BITS);
    buf_append_varint(out, hlc_wall_ms(own.time) - hlc_wall_ms(version.time));
    buf_append_varint(out, counter << 1 | another);
    if (another) buf_append_varint(out, node_table_index(nodes, version.node));
}

static unsigned shape_of(const struct record *record)
{
    unsigned created = EXTRA_CREATED_CODED, set = EXTRA_SET_CODED, shape = 0;
    if (version_equal(record->created, record->version))
        created = EXTRA_CREATED_VERSION;
    else if (version_is_none(record->created))
        created = EXTRA_CREATED_NONE;
    if (version_equal(record->set, record->version))
        set = EXTRA_SET_VERSION;
    else if (version_equal(record->set, record->since))
        set = EXTRA_SET_SINCE;
    else if (version_equal(record->set, record->created))
        set = EXTRA_SET_CREATED;

    if (!version_is_none(record->since)) shape |= SHAPE_SINCE;
    if (record->expires_at != 0) shape |= SHAPE_EXPIRES;
    if (record->has_payload || record->tags.size > 0 || record->slots.size > 0) shape |= SHAPE_BODY;
    return shape | created | set << SHAPE_SET_SHIFT;
}

static void append_body(const struct record *record, struct buf *out, struct buf *bodies)
{
    unsigned parts = (record->has_payload ? PART_PAYLOAD : 0) |
                     (record->tags.size > 0 ? PART_TAGS : 0) |
                     (record->slots.size > 0 ? PART_SLOTS : 0);
    buf_append_u8(out, (uint8_t)parts);
    if (parts & PART_PAYLOAD) buf_append_varint(out, record->payload.size);
    if (parts & PART_TAGS) buf_append_varint(out, record->tags.size);
    if (parts & PART_SLOTS) buf_append_varint(out, record->slots.size / RECORD_SLOT_BYTES);
    buf_append_slice(bodies, record->payload);
    buf_append_slice(bodies, record->tags);
    buf_append_slice(bodies, record->slots);
}

void extra_append(const struct record *record, struct node_table_builder *nodes, struct buf *out,
                  struct buf *bodies)
{
    unsigned shape = shape_of(record);
    buf_append_u8(out, (uint8_t)shape);
    if (shape & SHAPE_SINCE) append_version(record->since, record->version, nodes, out);
    if ((shape & SHAPE_CREATED) == EXTRA_CREATED_CODED)
        append_version(record->created, record->version, nodes, out);
    if ((shape & SHAPE_SET) >> SHAPE_SET_SHIFT == EXTRA_SET_CODED)
        append_version(record->set, record->version, nodes, out);
    if (shape & SHAPE_EXPIRES) buf_append_varint(out, record->expires_at);
    if (shape & SHAPE_BODY) append_body(record, out, bodies);
}

/* --- Reading --- */

static struct version read_version(struct reader *reader, struct version own,
                                   struct node_table nodes)
{
    struct version version = {.node = own.node};
    uint64_t ms = hlc_wall_ms(own.time) - reader_varint(reader);
    uint64_t counter = reader_varint(reader);
    version.time = ms << HLC_COUNTER_BITS | (counter >> 1 & bits_mask(HLC_COUNTER_BITS));
    if (counter & 1) {
        uint64_t index = reader_varint(reader);
        if (index < nodes.count) {
            version.node = load_u16le(nodes.data + 2 * index);
        } else {
            reader->failed = true;
        }
    }
    return version;
}

static uint32_t read_size(struct reader *reader, unsigned unit, uint64_t count_max)
{
    uint64_t count = reader_varint(reader);
    if (count > count_max) reader->failed = true;
    return reader->failed ? 0 : (uint32_t)count * unit;
}

static void read_body(struct reader *reader, struct extra *extra)
{
    unsigned parts = reader_u8(reader);
    if (parts == 0 || parts > (PART_PAYLOAD | PART_TAGS | PART_SLOTS)) reader->failed = true;
    extra->has_payload = (parts & PART_PAYLOAD) != 0;
    if (parts & PART_PAYLOAD) extra->payload_bytes = read_size(reader, 1, PAYLOAD_BYTES_MAX);
    if (parts & PART_TAGS) extra->tags_bytes = read_size(reader, 1, RECORD_TAGS_BYTES_MAX);
    if (parts & PART_SLOTS)
        extra->slots_bytes = read_size(reader, RECORD_SLOT_BYTES, RECORD_SLOT_COUNT_MAX);
}

bool extra_read(struct reader *reader, struct version version, struct node_table nodes,
                struct extra *out)
{
    struct extra extra = {.created = version, .set = version};
    unsigned shape = reader_u8(reader);
    unsigned created = shape & SHAPE_CREATED, set = (shape & SHAPE_SET) >> SHAPE_SET_SHIFT;

    if (created > EXTRA_CREATED_CODED) return false;
    if (shape & SHAPE_SINCE) extra.since = read_version(reader, version, nodes);
    if (created == EXTRA_CREATED_NONE) extra.created = (struct version){0};
    if (created == EXTRA_CREATED_CODED) extra.created = read_version(reader, version, nodes);
    if (set == EXTRA_SET_SINCE) extra.set = extra.since;
    if (set == EXTRA_SET_CREATED) extra.set = extra.created;
    if (set == EXTRA_SET_CODED) extra.set = read_version(reader, version, nodes);
    if (shape & SHAPE_EXPIRES) extra.expires_at = reader_varint(reader);
    if (shape & SHAPE_BODY) read_body(reader, &extra);
    if (reader->failed) return false;
    *out = extra;
    return true;
}

/* Over a varint of whatever value. */
static void skip_varint(struct reader *reader)
{
    while (reader_u8(reader) >= 0x80) {
    }
}

static void skip_version(struct reader *reader)
{
    skip_varint(reader);
    if (reader_varint(reader) & 1) skip_varint(reader);
}

bool extra_skip(struct reader *reader, size_t *body)
{
    unsigned shape = reader_u8(reader);
    if (shape & SHAPE_SINCE) skip_version(reader);
    if ((shape & SHAPE_CREATED) == EXTRA_CREATED_CODED) skip_version(reader);
    if ((shape & SHAPE_SET) >> SHAPE_SET_SHIFT == EXTRA_SET_CODED) skip_version(reader);
    if (shape & SHAPE_EXPIRES) skip_varint(reader);
    if (shape & SHAPE_BODY) {
        struct extra extra = {0};
        read_body(reader, &extra);
        *body += extra_body_bytes(&extra);
    }
    return !reader->failed;
}
