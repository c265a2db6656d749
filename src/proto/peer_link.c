#include "proto/peer_link.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/math.h"

enum frame_kind {
    FRAME_HELLO = 1,
    FRAME_REFUSE,
    FRAME_URGENT,
    FRAME_BULK,
    FRAME_CREDIT,
};

enum {
    HEAD_BYTES = 12,   /* Size of the body, kind, flags, nothing, CRC. */
    CHECKED_BYTES = 8, /* Of the head, under the CRC. */
    FLAG_LAST = 1,     /* The message ends with this frame. */
    SIZE_BYTES = 4,    /* Before a message that waits. */
};

static const size_t message_bytes_max[PEER_LANES] = {PEER_MESSAGE_BYTES_MAX, PEER_BULK_BYTES_MAX};

static const uint8_t magic[8] = {'t', 'r', 'i', 'p', 'e', 'e', 'r', '\n'};

/* --- Frames --- */

static void put_head(uint8_t *head, size_t size, enum frame_kind kind, uint8_t flags,
                     const uint8_t *body)
{
    store_u32le(head, (uint32_t)size);
    head[4] = (uint8_t)kind;
    head[5] = flags;
    head[6] = head[7] = 0;
    store_u32le(head + CHECKED_BYTES, crc32c(crc32c(0, head, CHECKED_BYTES), body, size));
}

/* Appends a frame. False, and nothing is appended: no memory. */
static bool put_frame(struct buf *out, enum frame_kind kind, uint8_t flags, struct slice body)
{
    if (!buf_ensure(out, HEAD_BYTES + body.size)) return false;
    uint8_t head[HEAD_BYTES];
    put_head(head, body.size, kind, flags, body.data);
    buf_append(out, head, sizeof head);
    buf_append_slice(out, body);
    return true;
}

static void put_hello(struct peer_link *link)
{
    const struct peer_hello *ours = &link->ours;
    struct buf body = {.heap = link->heap};
    buf_append(&body, magic, sizeof magic);
    buf_append_u16le(&body, ours->version_min);
    buf_append_u16le(&body, ours->version_max);
    buf_append_u64le(&body, ours->cluster);
    buf_append_u64le(&body, ours->generation);
    buf_append_u16le(&body, ours->id);
    buf_append_u64le(&body, ours->incarnation);
    buf_append_u64le(&body, ours->boot);
    buf_append_u16le(&body, ours->to);
    buf_append_u32le(&body, ours->window);
    buf_append_u64le(&body, ours->process);
    if (body.failed || !put_frame(&link->control, FRAME_HELLO, FLAG_LAST, buf_slice(&body)))
        link->control.failed = true; /* peer_link_write() says so. */
    buf_deinit(&body);
}

static void put_credit(struct peer_link *link)
{
    uint8_t body[8];
    store_u64le(body, link->bulk_granted);
    put_frame(&link->control, FRAME_CREDIT, FLAG_LAST, slice_of(body, sizeof body));
}

/* --- Life --- */

void peer_link_init(struct peer_link *link, struct heap *heap, const struct peer_hello *ours)
{
    *link = (struct peer_link){.heap = heap, .ours = *ours, .in.heap = heap, .control.heap = heap};
    for (int lane = 0; lane < PEER_LANES; lane++)
        link->parts[lane].heap = link->queues[lane].bytes.heap = heap;
    link->ours.version_min = PEER_VERSION_MIN;
    link->ours.version_max = PEER_VERSION_MAX;
    CHECK(ours->window >= PEER_BULK_BYTES_MAX && ours->window <= PEER_WINDOW_BYTES_MAX);
    link->bulk_granted = ours->window;
    put_hello(link);
}

void peer_link_deinit(struct peer_link *link)
{
    buf_deinit(&link->in);
    buf_deinit(&link->control);
    for (int lane = 0; lane < PEER_LANES; lane++) {
        buf_deinit(&link->parts[lane]);
        buf_deinit(&link->queues[lane].bytes);
    }
}

/* --- The end --- */

/* Reasons go into logs. */
static bool is_printable(char c)
{
    return c >= 0x20 && c < 0x7f;
}

static void give_reason(struct peer_link *link, struct slice words)
{
    size_t size = size_min(words.size, PEER_REASON_BYTES_MAX);
    memcpy(link->reason, words.data, size);
    link->reason[size] = 0;
}

static void break_rule(struct peer_link *link, const char *rule)
{
    link->state = PEER_STATE_BROKEN;
    link->refusal = PEER_REFUSED_NOT;
    give_reason(link, slice_from_text(rule));
}

void peer_link_refuse(struct peer_link *link, enum peer_refusal refusal, const char *reason)
{
    if (link->state == PEER_STATE_BROKEN) return;
    link->state = PEER_STATE_BROKEN;
    link->refusal = refusal;
    give_reason(link, slice_from_text(reason));
    uint8_t body[1 + PEER_REASON_BYTES_MAX];
    size_t size = strlen(link->reason);
    body[0] = (uint8_t)refusal;
    for (size_t i = 0; i < size; i++)
        body[1 + i] = (uint8_t)(is_printable(link->reason[i]) ? link->reason[i] : '?');
    put_frame(&link->control, FRAME_REFUSE, FLAG_LAST, slice_of(body, 1 + size));
}

/* --- Arriving --- */

/* Whether the peer is one to speak with. */
static bool fits(struct peer_link *link)
{
    const struct peer_hello *ours = &link->ours, *peer = &link->peer;
    char reason[PEER_REASON_BYTES_MAX + 1];
    enum peer_refusal refusal = PEER_REFUSED_NOT;
    link->version = peer->version_max < ours->version_max ? peer->version_max : ours->version_max;
    if (link->version < peer->version_min || link->version < ours->version_min) {
        refusal = PEER_REFUSED_VERSION;
        snprintf(reason, sizeof reason,
                 "no common version: this node speaks %u to %u, the peer %u to %u",
                 ours->version_min, ours->version_max, peer->version_min, peer->version_max);
    } else if (peer->cluster != ours->cluster && peer->cluster != 0 && ours->cluster != 0) {
        refusal = PEER_REFUSED_CLUSTER;
        snprintf(reason, sizeof reason,
                 "another cluster: this node is of %016llx, the peer of %016llx",
                 (unsigned long long)ours->cluster, (unsigned long long)peer->cluster);
    } else if (peer->generation != ours->generation && peer->generation != 0 &&
               ours->generation != 0) {
        refusal = PEER_REFUSED_GENERATION;
        snprintf(reason, sizeof reason,
                 "another generation: this node is of %llu, the peer of %llu; what is of the lower "
                 "one was left behind by a recovery and has to join anew",
                 (unsigned long long)ours->generation, (unsigned long long)peer->generation);
    } else if (peer->to != 0 && peer->to != ours->id) {
        refusal = PEER_REFUSED_TO;
        snprintf(reason, sizeof reason, "another node: the peer looks for n%u, this is n%u",
                 peer->to, ours->id);
    } else if (peer->id != 0 && peer->id == ours->id) {
        refusal = PEER_REFUSED_TWIN;
        snprintf(reason, sizeof reason,
                 "the same node twice: both are n%u; is one data directory a copy of the other?",
                 ours->id);
    }
    if (refusal != PEER_REFUSED_NOT) peer_link_refuse(link, refusal, reason);
    return refusal == PEER_REFUSED_NOT;
}

static bool read_hello(struct slice body, struct peer_hello *hello)
{
    struct reader reader = reader_of(body);
    struct slice mark = reader_bytes(&reader, sizeof magic);
    if (reader.failed || memcmp(mark.data, magic, sizeof magic) != 0) return false;
    *hello = (struct peer_hello){
        .version_min = reader_u16le(&reader),
        .version_max = reader_u16le(&reader),
    };
    hello->cluster = reader_u64le(&reader);
    hello->generation = reader_u64le(&reader);
    hello->id = reader_u16le(&reader);
    hello->incarnation = reader_u64le(&reader);
    hello->boot = reader_u64le(&reader);
    hello->to = reader_u16le(&reader);
    hello->window = reader_u32le(&reader);
    if (reader_left(&reader) >= 8) hello->process = reader_u64le(&reader);
    /* A newer version may say more behind it. */
    bool makes_sense = hello->version_min > 0 && hello->version_min <= hello->version_max &&
                       hello->window >= PEER_BULK_BYTES_MAX &&
                       hello->window <= PEER_WINDOW_BYTES_MAX;
    return !reader.failed && makes_sense;
}

static enum peer_event take_hello(struct peer_link *link, struct slice body)
{
    if (link->state != PEER_STATE_HELLO || !read_hello(body, &link->peer)) {
        break_rule(link, "expected one HELLO of trifecta's peer protocol");
        return PEER_BROKEN;
    }
    if (!fits(link)) return PEER_BROKEN;
    link->state = PEER_STATE_READY;
    link->bulk_credit = link->peer.window;
    return PEER_READY;
}

static void take_refuse(struct peer_link *link, struct slice body)
{
    bool valid = body.size >= 1 && body.size <= 1 + PEER_REASON_BYTES_MAX && body.data[0] > 0;
    for (size_t i = 1; valid && i < body.size; i++) valid = is_printable((char)body.data[i]);
    if (!valid) {
        break_rule(link, "expected a reason in printable characters behind a refusal");
        return;
    }
    link->state = PEER_STATE_BROKEN;
    link->refused_by_peer = true;
    /* A newer version may know more reasons; the words are there. */
    link->refusal = body.data[0] < PEER_REFUSED_END ? (enum peer_refusal)body.data[0]
                                                    : PEER_REFUSED_MEMBER;
    give_reason(link, slice_from(body, 1));
}

static void take_credit(struct peer_link *link, struct slice body)
{
    uint64_t credit = body.size == 8 ? load_u64le(body.data) : 0;
    if (credit < link->bulk_credit || credit - link->bulk_sent > PEER_WINDOW_BYTES_MAX) {
        break_rule(link, "expected more credit than before, and no more than the largest window");
        return;
    }
    link->bulk_credit = credit;
}

/* One frame of a message. PEER_MESSAGE when it was the last. */
static enum peer_event take_part(struct peer_link *link, enum peer_lane lane, bool last,
                                 struct slice body, struct slice *message)
{
    struct buf *parts = &link->parts[lane];
    if (lane == PEER_BULK) link->bulk_received += body.size;
    if (link->bulk_received > link->bulk_granted) {
        break_rule(link, "expected no more bulk than there is credit for");
        return PEER_BROKEN;
    }
    if (body.size == 0 || body.size > message_bytes_max[lane] - parts->size) {
        break_rule(link, "expected frames with something in them, of messages within their bound");
        return PEER_BROKEN;
    }
    if (last && parts->size == 0) { /* As most are: it stays where it is. */
        *message = body;
        return PEER_MESSAGE;
    }
    buf_append_slice(parts, body);
    if (parts->failed) {
        break_rule(link, "no memory for a message");
        return PEER_BROKEN;
    }
    if (!last) return PEER_NOTHING;
    *message = buf_slice(parts);
    link->given[lane] = true;
    return PEER_MESSAGE;
}

enum status peer_link_receive(struct peer_link *link, struct slice bytes)
{
    if (link->state == PEER_STATE_BROKEN) return STATUS_OK;
    /* What the driver has looked at goes; a part of a frame is small. */
    buf_consume(&link->in, link->in_at);
    link->in_at = 0;
    buf_append_slice(&link->in, bytes);
    if (!link->in.failed) return STATUS_OK;
    break_rule(link, "no memory for what arrived");
    return STATUS_NOMEM;
}

/* The next whole frame; false: there is none, or its head breaks a rule. */
static bool next_frame(struct peer_link *link, uint8_t *kind, bool *last, struct slice *body)
{
    struct slice rest = slice_from(buf_slice(&link->in), link->in_at);
    if (rest.size < HEAD_BYTES) return false;
    uint32_t size = load_u32le(rest.data);
    uint8_t flags = rest.data[5];
    if (size > PEER_FRAME_BYTES_MAX || flags > FLAG_LAST || rest.data[6] != 0 ||
        rest.data[7] != 0) {
        break_rule(link, "expected the head of a frame of trifecta's peer protocol");
        return false;
    }
    if (rest.size - HEAD_BYTES < size) return false;
    *body = slice_of(rest.data + HEAD_BYTES, size);
    uint32_t crc = crc32c(crc32c(0, rest.data, CHECKED_BYTES), body->data, size);
    if (crc != load_u32le(rest.data + CHECKED_BYTES)) {
        break_rule(link, "a frame's checksum is wrong: bytes were changed on their way");
        return false;
    }
    *kind = rest.data[4];
    *last = flags == FLAG_LAST;
    link->in_at += HEAD_BYTES + size;
    return true;
}

static enum peer_event take_frame(struct peer_link *link, uint8_t kind, bool last,
                                  struct slice body, struct slice *message, enum peer_lane *lane)
{
    bool part = kind == FRAME_URGENT || kind == FRAME_BULK;
    if (!part && !last) {
        break_rule(link, "expected messages alone to have parts");
        return PEER_BROKEN;
    }
    if (kind == FRAME_HELLO) return take_hello(link, body);
    if (kind == FRAME_REFUSE) {
        take_refuse(link, body);
    } else if (link->state != PEER_STATE_READY) {
        break_rule(link, "expected a HELLO before anything else");
    } else if (part) {
        *lane = kind == FRAME_URGENT ? PEER_URGENT : PEER_BULK;
        return take_part(link, *lane, last, body, message);
    } else if (kind == FRAME_CREDIT) {
        take_credit(link, body);
    } else {
        break_rule(link, "expected a kind of frame that there is");
    }
    return link->state == PEER_STATE_BROKEN ? PEER_BROKEN : PEER_NOTHING;
}

enum peer_event peer_link_next(struct peer_link *link, struct slice *message, enum peer_lane *lane)
{
    for (int i = 0; i < PEER_LANES; i++) {
        if (link->given[i]) buf_clear(&link->parts[i]);
        link->given[i] = false;
    }
    if (link->state == PEER_STATE_BROKEN) return PEER_BROKEN;
    uint8_t kind;
    bool last;
    struct slice body;
    while (next_frame(link, &kind, &last, &body)) {
        enum peer_event event = take_frame(link, kind, last, body, message, lane);
        if (event != PEER_NOTHING) return event;
    }
    return link->state == PEER_STATE_BROKEN ? PEER_BROKEN : PEER_NOTHING;
}

void peer_link_consumed(struct peer_link *link, size_t bytes)
{
    link->bulk_consumed += bytes;
    CHECK(link->bulk_consumed <= link->bulk_received);
    uint64_t may = link->bulk_consumed + link->ours.window;
    /* Told when it is worth a frame; sooner, a message could wait for ever that is as long. */
    uint64_t left = link->bulk_granted - link->bulk_received;
    bool told = may - link->bulk_granted < link->ours.window / 4 && left >= PEER_BULK_BYTES_MAX;
    if (link->state != PEER_STATE_READY || told || may == link->bulk_granted) return;
    link->bulk_granted = may;
    put_credit(link);
}

/* --- Leaving --- */

static size_t waiting(const struct peer_queue *queue)
{
    return queue->bytes.size - queue->at;
}

enum status peer_link_send(struct peer_link *link, enum peer_lane lane, struct slice message)
{
    struct peer_queue *queue = &link->queues[lane];
    CHECK(message.size > 0 && message.size <= message_bytes_max[lane]);
    enum status status = STATUS_OK;
    if (link->state == PEER_STATE_BROKEN)
        status = STATUS_CANCELLED;
    else if (waiting(queue) + SIZE_BYTES + message.size > PEER_QUEUE_BYTES_MAX)
        status = STATUS_BUSY;
    else if (!buf_ensure(&queue->bytes, SIZE_BYTES + message.size))
        status = STATUS_NOMEM;
    if (status != STATUS_OK) {
        link->dropped_count++;
        return status;
    }
    buf_append_u32le(&queue->bytes, (uint32_t)message.size);
    buf_append_slice(&queue->bytes, message);
    return STATUS_OK;
}

/* The rest of the first message that waits, or nothing. */
static struct slice first_rest(const struct peer_queue *queue)
{
    if (waiting(queue) == 0) return (struct slice){0};
    const uint8_t *at = queue->bytes.data + queue->at;
    uint32_t size = load_u32le(at);
    return slice_of(at + SIZE_BYTES + queue->part, size - queue->part);
}

/* Of the lane's next frame; 0: there is none, or no credit for it. */
static size_t next_part_size(const struct peer_link *link, enum peer_lane lane)
{
    size_t size = size_min(first_rest(&link->queues[lane]).size, PEER_FRAME_BYTES_MAX);
    uint64_t credit = link->bulk_credit - link->bulk_sent;
    if (lane == PEER_BULK && size > credit) size = (size_t)credit;
    return link->state == PEER_STATE_READY ? size : 0;
}

static bool put_part(struct peer_link *link, enum peer_lane lane, size_t size, struct buf *out)
{
    struct peer_queue *queue = &link->queues[lane];
    struct slice rest = first_rest(queue);
    bool last = rest.size == size;
    enum frame_kind kind = lane == PEER_URGENT ? FRAME_URGENT : FRAME_BULK;
    if (!put_frame(out, kind, last ? FLAG_LAST : 0, slice_prefix(rest, size))) return false;
    if (lane == PEER_BULK) link->bulk_sent += size;
    queue->part += size;
    if (!last) return true;
    queue->at += SIZE_BYTES + queue->part;
    queue->part = 0;
    if (queue->at >= queue->bytes.size / 2) { /* The rest is moved by less than it is long. */
        buf_consume(&queue->bytes, queue->at);
        queue->at = 0;
    }
    return true;
}

enum status peer_link_write(struct peer_link *link, size_t size, struct buf *out)
{
    size_t before = out->size;
    if (link->control.failed || !buf_ensure(out, link->control.size)) return STATUS_NOMEM;
    buf_append_slice(out, buf_slice(&link->control));
    buf_clear(&link->control);
    while (out->size - before < size) {
        enum peer_lane lane = PEER_URGENT;
        size_t part = next_part_size(link, lane);
        if (part == 0) part = next_part_size(link, lane = PEER_BULK);
        if (part == 0) break;
        if (!put_part(link, lane, part, out)) return STATUS_NOMEM;
    }
    return STATUS_OK;
}

bool peer_link_wants_to_write(const struct peer_link *link)
{
    return link->control.size > 0 || link->control.failed ||
           next_part_size(link, PEER_URGENT) > 0 || next_part_size(link, PEER_BULK) > 0;
}
