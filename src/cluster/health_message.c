#include "cluster/health_message.h"

#include "base/check.h"
#include "cluster/outbox.h"

uint8_t health_code(uint32_t value)
{
    if (value == 0) return 0;
    unsigned octave = 31 - (unsigned)__builtin_clz(value);
    unsigned half = octave == 0 ? 0 : value >> (octave - 1) & 1;
    return (uint8_t)(1 + 2 * octave + half);
}

uint32_t health_code_value(uint8_t code)
{
    if (code == 0) return 0;
    unsigned octave = (code - 1U) / 2;
    uint32_t value = UINT32_C(1) << octave;
    return (code - 1U) % 2 == 0 ? value : value + value / 2;
}

/* The distance to the entry before, and one bit. */
static void append_gap(struct buf *out, node_id *previous, node_id id, bool bit)
{
    CHECK(id > *previous);
    buf_append_varint(out, (uint64_t)(id - *previous) << 1 | bit);
    *previous = id;
}

void health_append_card(struct buf *out, node_id *previous, const struct health_card *card,
                        bool full)
{
    append_gap(out, previous, card->id, full);
    buf_append_varint(out, card->boot);
    buf_append_varint(out, card->sequence);
    buf_append_varint(out, card->rebuttal);
    if (full) {
        buf_append_u64le(out, card->incarnation);
        buf_append_u32le(out, card->zone);
        buf_append_u32le(out, card->address_tag);
    }
    buf_append_varint(out, card->known);
    buf_append_varint(out, card->known - card->acknowledged);
    buf_append_u8(out, card->depth_code);
    buf_append_u8(out, card->p95_code);
}

void health_append_opinion(struct buf *out, node_id *previous, const struct health_opinion *opinion)
{
    append_gap(out, previous, opinion->subject, opinion->down);
    buf_append_varint(out, opinion->boot);
    buf_append_varint(out, opinion->rebuttal);
    buf_append_varint(out, opinion->accuser);
}

void health_append_stamp(struct buf *out, node_id *previous, const struct health_stamp *stamp)
{
    append_gap(out, previous, stamp->id, stamp->down);
    buf_append_varint(out, stamp->boot);
    buf_append_varint(out, stamp->sequence);
}

void health_append_want(struct buf *out, node_id *previous, node_id id, bool full)
{
    append_gap(out, previous, id, full);
}

enum { ID_BYTES = 3, FULL_BYTES = 16, CODES_BYTES = 2 };

static size_t varint_bytes(uint64_t value)
{
    return (70 - (size_t)__builtin_clzll(value | 1)) / 7;
}

size_t health_card_bytes(const struct health_card *card, bool full)
{
    return ID_BYTES + varint_bytes(card->boot) + varint_bytes(card->sequence) +
           varint_bytes(card->rebuttal) + (full ? FULL_BYTES : 0) + varint_bytes(card->known) +
           varint_bytes(card->known - card->acknowledged) + CODES_BYTES;
}

size_t health_opinion_bytes(const struct health_opinion *opinion)
{
    return ID_BYTES + varint_bytes(opinion->boot) + varint_bytes(opinion->rebuttal) + ID_BYTES;
}

size_t health_stamp_bytes(const struct health_stamp *stamp)
{
    return ID_BYTES + varint_bytes(stamp->boot) + varint_bytes(stamp->sequence);
}

void health_append_head(struct buf *out, enum health_kind kind, uint64_t cluster,
                        uint64_t generation, const struct health_card *sender, uint32_t depth)
{
    node_id previous = 0;
    buf_append_u8(out, (uint8_t)kind);
    buf_append_u64le(out, cluster);
    buf_append_u64le(out, generation);
    health_append_card(out, &previous, sender, true);
    buf_append_varint(out, depth);
}

static uint64_t read_up_to(struct reader *reader, uint64_t max)
{
    uint64_t value = reader_varint(reader);
    if (value > max) reader->failed = true;
    return value;
}

static node_id read_gap(struct reader *reader, node_id *previous, bool *bit)
{
    uint64_t value = read_up_to(reader, (uint64_t)NODE_ID_MAX << 1 | 1);
    uint64_t gap = value >> 1;
    if (gap == 0 || gap > (uint64_t)(NODE_ID_MAX - *previous)) reader->failed = true;
    if (reader->failed) return 0;
    *bit = (value & 1) != 0;
    return *previous = (node_id)(*previous + gap);
}

static struct health_card read_card(struct reader *reader, node_id *previous, bool *full)
{
    struct health_card card = {.id = read_gap(reader, previous, full)};
    card.boot = reader_varint(reader);
    card.sequence = (uint32_t)read_up_to(reader, HEALTH_COUNTER_MAX);
    card.rebuttal = (uint32_t)read_up_to(reader, HEALTH_COUNTER_MAX);
    if (*full) {
        card.incarnation = reader_u64le(reader);
        card.zone = reader_u32le(reader);
        card.address_tag = reader_u32le(reader);
    }
    card.known = reader_varint(reader);
    card.acknowledged = card.known - read_up_to(reader, card.known);
    card.depth_code = reader_u8(reader);
    card.p95_code = reader_u8(reader);
    if (card.boot == 0) reader->failed = true;
    if (card.depth_code > HEALTH_CODE_MAX || card.p95_code > HEALTH_CODE_MAX) reader->failed = true;
    return card;
}

static struct health_opinion read_opinion(struct reader *reader, node_id *previous)
{
    struct health_opinion opinion = {0};
    opinion.subject = read_gap(reader, previous, &opinion.down);
    opinion.boot = reader_varint(reader);
    opinion.rebuttal = (uint32_t)read_up_to(reader, HEALTH_COUNTER_MAX);
    opinion.accuser = (node_id)read_up_to(reader, NODE_ID_MAX);
    if (opinion.accuser == 0) reader->failed = true;
    return opinion;
}

/* Boot 0 is a node of which nothing was ever heard: that it is down is all there is to say. */
static struct health_stamp read_stamp(struct reader *reader, node_id *previous)
{
    struct health_stamp stamp = {0};
    stamp.id = read_gap(reader, previous, &stamp.down);
    stamp.boot = reader_varint(reader);
    stamp.sequence = (uint32_t)read_up_to(reader, HEALTH_COUNTER_MAX);
    if (stamp.boot == 0 && (stamp.sequence != 0 || !stamp.down)) reader->failed = true;
    return stamp;
}

bool health_next_card(struct health_list *list, struct health_card *card, bool *full)
{
    if (list->left == 0) return false;
    list->left--;
    *full = false;
    *card = read_card(&list->reader, &list->previous, full);
    return true;
}

bool health_next_opinion(struct health_list *list, struct health_opinion *opinion)
{
    if (list->left == 0) return false;
    list->left--;
    *opinion = read_opinion(&list->reader, &list->previous);
    return true;
}

bool health_next_stamp(struct health_list *list, struct health_stamp *stamp)
{
    if (list->left == 0) return false;
    list->left--;
    *stamp = read_stamp(&list->reader, &list->previous);
    return true;
}

bool health_next_want(struct health_list *list, node_id *id, bool *full)
{
    if (list->left == 0) return false;
    list->left--;
    *full = false;
    *id = read_gap(&list->reader, &list->previous, full);
    return true;
}

/* The length of a list; each entry takes a byte at least. */
static struct health_list read_list(struct reader *reader)
{
    size_t count = read_up_to(reader, reader_left(reader));
    return (struct health_list){*reader, reader->failed ? 0 : count, 0};
}

static struct health_list read_cards(struct reader *reader)
{
    struct health_list list = read_list(reader), walk = list;
    struct health_card card;
    bool full;
    while (!walk.reader.failed && health_next_card(&walk, &card, &full)) {
    }
    if (!reader->failed) *reader = walk.reader;
    return list;
}

static struct health_list read_opinions(struct reader *reader)
{
    struct health_list list = read_list(reader), walk = list;
    struct health_opinion opinion;
    while (!walk.reader.failed && health_next_opinion(&walk, &opinion)) {
    }
    if (!reader->failed) *reader = walk.reader;
    return list;
}

static struct health_list read_wants(struct reader *reader)
{
    struct health_list list = read_list(reader), walk = list;
    node_id id;
    bool full;
    while (!walk.reader.failed && health_next_want(&walk, &id, &full)) {
    }
    if (!reader->failed) *reader = walk.reader;
    return list;
}

static bool bucket_listed(struct slice buckets, unsigned bits, node_id id)
{
    unsigned bucket = id & ((1U << bits) - 1);
    return (buckets.data[bucket / 8] >> bucket % 8 & 1) != 0;
}

/* Stamps stand only in buckets that are listed, and some bucket is. */
static struct health_list read_stamps(struct reader *reader, struct slice buckets, unsigned bits)
{
    struct health_list list = read_list(reader), walk = list;
    struct health_stamp stamp;
    uint8_t any = 0;
    for (size_t i = 0; i < buckets.size; i++) any |= buckets.data[i];
    if (any == 0) reader->failed = true;
    while (!reader->failed && !walk.reader.failed && health_next_stamp(&walk, &stamp)) {
        if (walk.reader.failed) break;
        if (!bucket_listed(buckets, bits, stamp.id)) walk.reader.failed = true;
    }
    if (!reader->failed) *reader = walk.reader;
    return list;
}

static void read_bits(struct reader *reader, struct health_message *message)
{
    message->bits = reader_u8(reader);
    if (message->bits >= HEALTH_BUCKET_BITS_MIN && message->bits <= HEALTH_BUCKET_BITS_MAX) return;
    message->bits = HEALTH_BUCKET_BITS_MIN;
    reader->failed = true;
}

static void read_facts(struct reader *reader, struct health_message *message)
{
    message->opinions = read_opinions(reader);
    message->cards = read_cards(reader);
}

static void read_body(struct reader *reader, struct health_message *message)
{
    switch (message->kind) {
    case HEALTH_PROBE:
    case HEALTH_ANSWER:
        message->nonce = reader_u32le(reader);
        read_facts(reader, message);
        return;
    case HEALTH_RELAY:
    case HEALTH_RELAYED:
    case HEALTH_SILENT:
        message->nonce = reader_u32le(reader);
        message->target = (node_id)read_up_to(reader, NODE_ID_MAX);
        if (message->target == 0) reader->failed = true;
        read_facts(reader, message);
        return;
    case HEALTH_DIGEST:
        message->nonce = reader_u32le(reader);
        read_bits(reader, message);
        message->digest = reader_bytes(reader, (size_t)2 << message->bits);
        return;
    case HEALTH_STAMPS:
        read_bits(reader, message);
        message->buckets = reader_bytes(reader, health_bucket_bytes(message->bits));
        message->stamps = read_stamps(reader, message->buckets, message->bits);
        return;
    case HEALTH_CARDS:
        message->wants = read_wants(reader);
        read_facts(reader, message);
        return;
    }
    reader->failed = true;
}

enum status health_decode(struct slice bytes, struct health_message *out)
{
    if (bytes.size > HEALTH_MESSAGE_BYTES_MAX) return STATUS_INVALID;
    struct reader reader = reader_of(bytes);
    struct health_message message = {0};
    node_id previous = 0;
    bool full = false;

    if (reader_u8(&reader) != PROTOCOL_HEALTH) return STATUS_INVALID;
    message.kind = (enum health_kind)reader_u8(&reader);
    message.cluster = reader_u64le(&reader);
    message.generation = reader_u64le(&reader);
    message.sender = read_card(&reader, &previous, &full);
    message.depth = (uint32_t)read_up_to(&reader, UINT32_MAX);
    if (!full || reader.failed) return STATUS_INVALID;
    read_body(&reader, &message);
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    *out = message;
    return STATUS_OK;
}
