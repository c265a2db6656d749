#include "proto/peer_link.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/prng.h"
#include "test.h"

enum { HEAD = 12 };

struct wire {
    struct heap heap;
    struct peer_link ends[2];
    struct buf on_its_way[2]; /* From end 0, from end 1. */
};

static const struct peer_hello hello_1 = {
    .cluster = 7, .generation = 1, .id = 1, .incarnation = 11, .boot = 3, .window = 300000};
static const struct peer_hello hello_2 = {.cluster = 7,
                                          .generation = 1,
                                          .id = 2,
                                          .incarnation = 22,
                                          .boot = 5,
                                          .to = 1,
                                          .window = 300000,
                                          .process = 9};

static struct wire *wire_create(const struct peer_hello *a, const struct peer_hello *b)
{
    struct wire *wire = calloc(1, sizeof *wire);
    heap_init(&wire->heap, 0);
    peer_link_init(&wire->ends[0], &wire->heap, a);
    peer_link_init(&wire->ends[1], &wire->heap, b);
    for (int i = 0; i < 2; i++) buf_init(&wire->on_its_way[i], &wire->heap);
    return wire;
}

static void wire_destroy(struct wire *wire)
{
    for (int i = 0; i < 2; i++) {
        peer_link_deinit(&wire->ends[i]);
        buf_deinit(&wire->on_its_way[i]);
    }
    EXPECT(heap_used_bytes(&wire->heap) == 0);
    free(wire);
}

/* At most `size` bytes from end `from` arrive, at the end of readable memory. */
static void carry(struct wire *wire, int from, size_t size)
{
    struct buf *bytes = &wire->on_its_way[from];
    EXPECT(peer_link_write(&wire->ends[from], 1, bytes) == STATUS_OK);
    if (size > bytes->size) size = bytes->size;
    uint8_t *copy = malloc(size + (size == 0));
    memcpy(copy, bytes->data, size);
    EXPECT(peer_link_receive(&wire->ends[1 - from], slice_of(copy, size)) == STATUS_OK);
    free(copy);
    buf_consume(bytes, size);
}

static enum peer_event next(struct peer_link *link)
{
    struct slice message;
    enum peer_lane lane;
    return peer_link_next(link, &message, &lane);
}

static void shake_hands(struct wire *wire)
{
    carry(wire, 0, SIZE_MAX);
    carry(wire, 1, SIZE_MAX);
    EXPECT(next(&wire->ends[0]) == PEER_READY && next(&wire->ends[1]) == PEER_READY);
    EXPECT(wire->ends[0].peer.id == 2 && wire->ends[0].peer.boot == 5);
    EXPECT(wire->ends[0].peer.process == 9 && wire->ends[1].peer.process == 0);
    EXPECT(wire->ends[1].peer.id == 1 && wire->ends[1].version == PEER_VERSION_MAX);
}

static void expect_written(struct peer_link *link, struct slice expected)
{
    struct buf out = {.heap = link->heap};
    EXPECT(peer_link_write(link, 1, &out) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&out), expected));
    buf_deinit(&out);
}

/* The bytes of docs/format/peer_link.md. */
TEST_CASE(frames_are_as_the_page_says)
{
    static const uint8_t hello[] = {
        0x3c, 0x00, 0x00, 0x00, 0x01, 0x01, 0x00, 0x00, 0x8d, 0x62, 0x91, 0xa6, /* head */
        't',  'r',  'i',  'p',  'e',  'e',  'r',  '\n', 0x01, 0x00, 0x01, 0x00, /* versions */
        0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,                         /* cluster */
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,                         /* generation */
        0x02, 0x00,                                                             /* id */
        0x16, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,                         /* incarnation */
        0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,                         /* boot */
        0x01, 0x00,                                                             /* to */
        0xe0, 0x93, 0x04, 0x00,                                                 /* window */
        0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};                        /* process */
    static const uint8_t urgent[] = {0x03, 0x00, 0x00, 0x00, 0x03, 0x01, 0x00, 0x00,
                                     0xc6, 0x5a, 0xb5, 0x17, 'a',  'b',  'c'};
    static const uint8_t refuse[] = {0x06, 0x00, 0x00, 0x00, 0x02, 0x01, 0x00, 0x00, 0x5c,
                                     0x8a, 0xa7, 0xfe, 0x07, 't',  'w',  'i',  'c',  'e'};
    struct wire *wire = wire_create(&hello_1, &hello_2);
    struct peer_link again, *link = &wire->ends[0];
    peer_link_init(&again, &wire->heap, &hello_2);
    expect_written(&again, slice_of(hello, sizeof hello));
    peer_link_deinit(&again);

    shake_hands(wire);
    EXPECT(peer_link_send(link, PEER_URGENT, SLICE_LITERAL("abc")) == STATUS_OK);
    expect_written(link, slice_of(urgent, sizeof urgent));
    peer_link_refuse(link, PEER_REFUSED_DOUBLE, "twice");
    expect_written(link, slice_of(refuse, sizeof refuse));
    wire_destroy(wire);
}

/* --- Messages --- */

enum { SENT_MAX = 400 };

struct story {
    struct wire *wire;
    uint32_t seeds[2][PEER_LANES][SENT_MAX]; /* Of the messages, by who sent them. */
    size_t sent[2][PEER_LANES], got[2][PEER_LANES];
    size_t unconsumed[2]; /* Of bulk at the end that got it. */
};

static size_t size_of(uint32_t seed)
{
    return 1 + seed % (seed % 5 == 0 ? 100000 : 300);
}

static void fill(uint8_t *bytes, uint32_t seed)
{
    for (size_t i = 0; i < size_of(seed); i++) bytes[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static void look(struct story *story, int at)
{
    struct slice message;
    enum peer_lane lane;
    uint8_t *expected = malloc(100001);
    enum peer_event event;
    while ((event = peer_link_next(&story->wire->ends[at], &message, &lane)) == PEER_MESSAGE) {
        uint32_t seed = story->seeds[1 - at][lane][story->got[1 - at][lane]++];
        EXPECT(story->got[1 - at][lane] <= story->sent[1 - at][lane]);
        fill(expected, seed);
        EXPECT(slice_equal(message, slice_of(expected, size_of(seed))));
        if (lane == PEER_BULK) story->unconsumed[at] += message.size;
    }
    EXPECT(event == PEER_NOTHING);
    free(expected);
}

static void send_one(struct story *story, struct prng *prng, int from)
{
    enum peer_lane lane = prng_one_in(prng, 3) ? PEER_BULK : PEER_URGENT;
    size_t *count = &story->sent[from][lane];
    if (*count == SENT_MAX) return;
    uint32_t seed = prng_u32(prng);
    uint8_t *bytes = malloc(size_of(seed));
    fill(bytes, seed);
    EXPECT(peer_link_send(&story->wire->ends[from], lane, slice_of(bytes, size_of(seed))) ==
           STATUS_OK);
    story->seeds[from][lane][(*count)++] = seed;
    free(bytes);
}

TEST_CASE(messages_arrive_whole_and_in_order_whatever_the_pieces)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 20; round++) {
        struct story story = {.wire = wire_create(&hello_1, &hello_2)};
        shake_hands(story.wire);
        for (int step = 0; step < 3000; step++) {
            int from = (int)prng_below(&prng, 2);
            struct peer_link *to = &story.wire->ends[1 - from];
            if (step < 1000 && prng_one_in(&prng, 4)) send_one(&story, &prng, from);
            carry(story.wire, from, 1 + prng_below(&prng, 40000));
            look(&story, 1 - from);
            EXPECT(to->bulk_received - to->bulk_consumed <= to->ours.window);
            if (!prng_one_in(&prng, 3)) continue;
            peer_link_consumed(to, story.unconsumed[1 - from]);
            story.unconsumed[1 - from] = 0;
        }
        for (int turn = 0; turn < 8000; turn++) {
            int from = turn % 2;
            carry(story.wire, from, SIZE_MAX);
            look(&story, 1 - from);
            peer_link_consumed(&story.wire->ends[1 - from], story.unconsumed[1 - from]);
            story.unconsumed[1 - from] = 0;
        }
        for (int from = 0; from < 2; from++)
            for (int lane = 0; lane < PEER_LANES; lane++)
                EXPECT(story.got[from][lane] == story.sent[from][lane]);
        wire_destroy(story.wire);
    }
}

TEST_CASE(what_is_urgent_goes_before_the_bulk_that_waits)
{
    static uint8_t bulk[200000], urgent[50];
    struct wire *wire = wire_create(&hello_1, &hello_2);
    struct slice message;
    enum peer_lane lane;
    shake_hands(wire);
    for (int i = 0; i < 3; i++)
        EXPECT(peer_link_send(&wire->ends[0], PEER_BULK, slice_of(bulk, sizeof bulk)) == STATUS_OK);
    carry(wire, 0, SIZE_MAX); /* One frame is gone. */
    EXPECT(peer_link_send(&wire->ends[0], PEER_URGENT, slice_of(urgent, sizeof urgent)) ==
           STATUS_OK);
    carry(wire, 0, SIZE_MAX);
    EXPECT(peer_link_next(&wire->ends[1], &message, &lane) == PEER_MESSAGE);
    EXPECT(lane == PEER_URGENT && message.size == sizeof urgent);

    /* The window lets one of them through and a part of the second. */
    size_t whole = 0;
    for (int turn = 0; turn < 100; turn++) {
        carry(wire, 0, SIZE_MAX);
        while (peer_link_next(&wire->ends[1], &message, &lane) == PEER_MESSAGE) whole++;
    }
    EXPECT(whole == 1 && wire->ends[1].bulk_received == hello_2.window);
    EXPECT(!peer_link_wants_to_write(&wire->ends[0]));
    EXPECT(peer_link_send(&wire->ends[0], PEER_URGENT, slice_of(urgent, sizeof urgent)) ==
           STATUS_OK);
    EXPECT(peer_link_wants_to_write(&wire->ends[0]));

    peer_link_consumed(&wire->ends[1], sizeof bulk);
    carry(wire, 1, SIZE_MAX);
    EXPECT(next(&wire->ends[0]) == PEER_NOTHING);
    for (int turn = 0; turn < 100; turn++) {
        carry(wire, 0, SIZE_MAX);
        while (peer_link_next(&wire->ends[1], &message, &lane) == PEER_MESSAGE)
            whole += lane == PEER_BULK;
    }
    EXPECT(whole == 2);
    wire_destroy(wire);
}

/* --- Refusals --- */

TEST_CASE(who_does_not_fit_is_told_why)
{
    static const struct {
        struct peer_hello peer;
        enum peer_refusal refusal;
        const char *words;
    } cases[] = {
        {{.cluster = 8, .generation = 1, .id = 2}, PEER_REFUSED_CLUSTER, "another cluster"},
        {{.cluster = 7, .generation = 2, .id = 2}, PEER_REFUSED_GENERATION, "another generation"},
        {{.cluster = 7, .generation = 1, .id = 2, .to = 3}, PEER_REFUSED_TO, "looks for n3"},
        {{.cluster = 7, .generation = 1, .id = 1}, PEER_REFUSED_TWIN, "same node twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peer_hello peer = cases[i].peer;
        peer.window = PEER_BULK_BYTES_MAX;
        struct wire *wire = wire_create(&hello_1, &peer);
        carry(wire, 1, SIZE_MAX);
        EXPECT(next(&wire->ends[0]) == PEER_BROKEN);
        EXPECT(wire->ends[0].refusal == cases[i].refusal && !wire->ends[0].refused_by_peer);
        EXPECT(strstr(wire->ends[0].reason, cases[i].words) != NULL);
        EXPECT(peer_link_send(&wire->ends[0], PEER_URGENT, SLICE_LITERAL("x")) == STATUS_CANCELLED);

        /* The other end reads the same words, whatever it thought of our HELLO. */
        struct buf *bytes = &wire->on_its_way[0];
        EXPECT(peer_link_write(&wire->ends[0], 1, bytes) == STATUS_OK);
        size_t hello = HEAD + load_u32le(bytes->data);
        buf_consume(bytes, hello);
        carry(wire, 0, SIZE_MAX);
        EXPECT(next(&wire->ends[1]) == PEER_BROKEN);
        EXPECT(wire->ends[1].refused_by_peer && wire->ends[1].refusal == cases[i].refusal);
        EXPECT(strcmp(wire->ends[1].reason, wire->ends[0].reason) == 0);
        wire_destroy(wire);
    }
}

/* Who has no cluster and no id yet may ask to join. */
TEST_CASE(a_node_of_no_cluster_may_speak)
{
    struct peer_hello peer = {.window = PEER_BULK_BYTES_MAX, .incarnation = 5};
    struct wire *wire = wire_create(&hello_1, &peer);
    carry(wire, 1, SIZE_MAX);
    EXPECT(next(&wire->ends[0]) == PEER_READY && wire->ends[0].peer.cluster == 0);
    wire_destroy(wire);
}

static struct buf frame(struct heap *heap, uint8_t kind, uint8_t flags, struct slice body)
{
    struct buf bytes = {.heap = heap};
    buf_append_u32le(&bytes, (uint32_t)body.size);
    buf_append_u8(&bytes, kind);
    buf_append_u8(&bytes, flags);
    buf_append_u16le(&bytes, 0);
    buf_append_u32le(&bytes, crc32c(crc32c(0, bytes.data, 8), body.data, body.size));
    buf_append_slice(&bytes, body);
    return bytes;
}

TEST_CASE(a_newer_peer_is_understood_as_far_as_both_go)
{
    struct wire *wire = wire_create(&hello_1, &hello_2);
    struct buf *bytes = &wire->on_its_way[1];
    EXPECT(peer_link_write(&wire->ends[1], 1, bytes) == STATUS_OK);
    for (unsigned least = PEER_VERSION_MAX; least <= PEER_VERSION_MAX + 1; least++) {
        struct peer_link link;
        struct buf body = {.heap = &wire->heap};
        buf_append(&body, bytes->data + HEAD, bytes->size - HEAD);
        store_u16le(body.data + 8, (uint16_t)least);
        store_u16le(body.data + 10, PEER_VERSION_MAX + 9);
        buf_append_text(&body, "more that it says");
        struct buf hello = frame(&wire->heap, 1, 1, buf_slice(&body));
        peer_link_init(&link, &wire->heap, &hello_1);
        EXPECT(peer_link_receive(&link, buf_slice(&hello)) == STATUS_OK);
        bool common = least == PEER_VERSION_MAX;
        EXPECT(next(&link) == (common ? PEER_READY : PEER_BROKEN));
        EXPECT(common ? link.version == PEER_VERSION_MAX : link.refusal == PEER_REFUSED_VERSION);
        peer_link_deinit(&link);
        buf_deinit(&hello);
        buf_deinit(&body);
    }
    wire_destroy(wire);
}

/* --- Bytes that break a rule --- */

TEST_CASE(what_breaks_a_rule_breaks_the_link_and_gives_nothing_out)
{
    static const struct {
        uint8_t kind, flags;
        const char *body;
        size_t size;
        bool before_hello;
    } cases[] = {
        {3, 1, "x", 1, true},                 /* A message before the HELLO. */
        {1, 1, "x", 1, true},                 /* No HELLO of ours. */
        {1, 1, "x", 1, false},                /* A second one. */
        {0, 1, "x", 1, false},                /* No such kind. */
        {6, 1, "x", 1, false},                /* No such kind yet. */
        {3, 2, "x", 1, false},                /* No such flag. */
        {3, 1, "", 0, false},                 /* A message of nothing. */
        {3, 0, "", 0, false},                 /* A part of nothing. */
        {2, 1, "", 0, false},                 /* A refusal without a reason. */
        {2, 1, "\x01\n", 2, false},           /* One that would break a log. */
        {5, 0, "\0\0\0\1\0\0\0\0", 8, false}, /* Credit in parts. */
        {5, 1, "\0\0\0\0\0\0\0\1", 8, false}, /* More than any window. */
        {5, 1, "\0\0\0\0\0\0\0\0", 8, false}, /* Less than before. */
        {5, 1, "\0\0\0\1\0\0\0", 7, false},   /* Not a number. */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wire *wire = wire_create(&hello_1, &hello_2);
        if (!cases[i].before_hello) shake_hands(wire);
        struct buf bytes = frame(&wire->heap, cases[i].kind, cases[i].flags,
                                 slice_of(cases[i].body, cases[i].size));
        EXPECT(peer_link_receive(&wire->ends[0], buf_slice(&bytes)) == STATUS_OK);
        EXPECT(next(&wire->ends[0]) == PEER_BROKEN && next(&wire->ends[0]) == PEER_BROKEN);
        EXPECT(wire->ends[0].reason[0] != 0 && !wire->ends[0].refused_by_peer);
        buf_deinit(&bytes);
        wire_destroy(wire);
    }
}

TEST_CASE(a_changed_byte_is_found_wherever_it_is)
{
    struct wire *wire = wire_create(&hello_1, &hello_2);
    struct buf *bytes = &wire->on_its_way[1];
    EXPECT(peer_link_write(&wire->ends[1], 1, bytes) == STATUS_OK);
    for (size_t i = 0; i < bytes->size * 8; i++) {
        struct peer_link link;
        bytes->data[i / 8] ^= (uint8_t)(1 << i % 8);
        peer_link_init(&link, &wire->heap, &hello_1);
        EXPECT(peer_link_receive(&link, buf_slice(bytes)) == STATUS_OK);
        /* A size that is too large, but not too large, waits for more. */
        EXPECT(next(&link) ==
               (i < 16 && link.state == PEER_STATE_HELLO ? PEER_NOTHING : PEER_BROKEN));
        peer_link_deinit(&link);
        bytes->data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    wire_destroy(wire);
}

TEST_CASE(bulk_without_credit_breaks_the_link)
{
    static uint8_t piece[PEER_FRAME_BYTES_MAX];
    struct wire *wire = wire_create(&hello_1, &hello_2);
    shake_hands(wire);
    size_t sent = 0;
    enum peer_event event = PEER_MESSAGE;
    for (int i = 0; i < 100 && event == PEER_MESSAGE; i++) {
        struct buf bytes = frame(&wire->heap, 4, 1, slice_of(piece, sizeof piece));
        EXPECT(peer_link_receive(&wire->ends[0], buf_slice(&bytes)) == STATUS_OK);
        event = next(&wire->ends[0]);
        sent += event == PEER_MESSAGE ? sizeof piece : 0;
        buf_deinit(&bytes);
    }
    EXPECT(event == PEER_BROKEN);
    EXPECT(sent <= hello_1.window && sent + sizeof piece > hello_1.window);
    wire_destroy(wire);
}

/* --- Bounds --- */

TEST_CASE(a_full_queue_takes_no_more)
{
    static uint8_t message[PEER_BULK_BYTES_MAX];
    struct wire *wire = wire_create(&hello_1, &hello_2);
    struct peer_link *link = &wire->ends[0];
    size_t count = 0;
    while (peer_link_send(link, PEER_BULK, slice_of(message, sizeof message)) == STATUS_OK) count++;
    EXPECT(count * sizeof message <= PEER_QUEUE_BYTES_MAX);
    EXPECT((count + 2) * sizeof message > PEER_QUEUE_BYTES_MAX);
    EXPECT(link->dropped_count == 1);
    EXPECT(peer_link_send(link, PEER_URGENT, SLICE_LITERAL("x")) == STATUS_OK);
    wire_destroy(wire);
}

/* Each allocation fails once: the link breaks, or says so and goes on. */
TEST_CASE(without_memory_nothing_is_given_out_that_was_not_sent)
{
    static uint8_t message[50000];
    for (uint64_t budget = 0; budget < 400000; budget += 1777) {
        struct heap heap;
        struct peer_link link;
        struct buf out;
        heap_init(&heap, 0);
        struct wire *wire = wire_create(&hello_1, &hello_2);
        shake_hands(wire);
        EXPECT(peer_link_send(&wire->ends[1], PEER_URGENT, slice_of(message, sizeof message)) ==
               STATUS_OK);
        struct buf bytes = {.heap = &wire->heap};
        struct peer_link again;
        peer_link_init(&again, &wire->heap, &hello_2);
        EXPECT(peer_link_write(&again, 1, &bytes) == STATUS_OK);
        EXPECT(peer_link_write(&wire->ends[1], SIZE_MAX, &bytes) == STATUS_OK);

        struct heap small;
        heap_init(&small, budget + 1);
        buf_init(&out, &small);
        peer_link_init(&link, &small, &hello_1);
        struct slice got;
        enum peer_lane lane;
        if (peer_link_receive(&link, buf_slice(&bytes)) == STATUS_OK) {
            enum peer_event event = peer_link_next(&link, &got, &lane);
            if (event == PEER_READY) event = peer_link_next(&link, &got, &lane);
            EXPECT(event == PEER_BROKEN || event == PEER_MESSAGE);
            if (event == PEER_MESSAGE) EXPECT(slice_equal(got, slice_of(message, sizeof message)));
        } else {
            EXPECT(next(&link) == PEER_BROKEN);
        }
        enum status status = peer_link_write(&link, 1, &out);
        EXPECT(status == STATUS_OK || status == STATUS_NOMEM);
        buf_deinit(&out);
        peer_link_deinit(&link);
        EXPECT(heap_used_bytes(&small) == 0);
        buf_deinit(&bytes);
        peer_link_deinit(&again);
        wire_destroy(wire);
    }
}

TEST_MAIN(TEST(frames_are_as_the_page_says),
          TEST(messages_arrive_whole_and_in_order_whatever_the_pieces),
          TEST(what_is_urgent_goes_before_the_bulk_that_waits), TEST(who_does_not_fit_is_told_why),
          TEST(a_node_of_no_cluster_may_speak), TEST(a_newer_peer_is_understood_as_far_as_both_go),
          TEST(what_breaks_a_rule_breaks_the_link_and_gives_nothing_out),
          TEST(a_changed_byte_is_found_wherever_it_is), TEST(bulk_without_credit_breaks_the_link),
          TEST(a_full_queue_takes_no_more),
          TEST(without_memory_nothing_is_given_out_that_was_not_sent))
