#include "cluster/data_message.h"

#include <math.h>

#include "cluster/outbox.h"
#include "core/key.h"
#include "message_make.h"
#include "strict.h"
#include "test.h"

static struct heap heap = {.failure_after = -1};

static struct buf empty_buf(void)
{
    return (struct buf){.heap = &heap};
}

static const struct slice keys[] = {SLICE_INITIALIZER("w"), SLICE_INITIALIZER("w\0abc"),
                                    SLICE_INITIALIZER("w\0abd"), SLICE_INITIALIZER("x\0\1\1"),
                                    SLICE_INITIALIZER("x\0\xff")};
enum { KEY_COUNT = sizeof keys / sizeof *keys };

/* --- One message of each kind and shape --- */

static void fill_sets(struct request *request, struct prng *prng, struct buf *list)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        struct request set = {.kind = REQUEST_SET, .key = keys[i], .score = (double)i};
        if (i + 1 < KEY_COUNT && prng_one_in(prng, 3)) continue;
        if (prng_one_in(prng, 2)) set.tags = SLICE_LITERAL("\1a\2bc");
        if (request->set_count++ == 0) request->key = set.key;
        data_set_append(list, &set);
    }
    request->sets = buf_slice(list);
}

static void fill_request(struct request *request, enum request_kind kind, struct prng *prng)
{
    request->kind = kind;
    request->key = keys[prng_below(prng, KEY_COUNT)];
    if (kind == REQUEST_SET || kind == REQUEST_INCREMENT)
        request->score = prng_below(prng, 100) / 8.0 - 4;
    if (kind == REQUEST_INCREMENT && prng_one_in(prng, 2))
        request->operation = (struct request_operation){
            .client = 1 + prng_u64(prng) / 2,
            .number = 1 + prng_below(prng, 3000),
            .attempt = (enum operation_attempt)prng_below(prng, OPERATION_ATTEMPT_END),
            .moves = (uint8_t)prng_below(prng, 256),
            .map_number = prng_below(prng, 300)};
    if (kind == REQUEST_SET && prng_one_in(prng, 2)) {
        request->expires_at = prng_below(prng, 1000);
        request->has_payload = true;
        request->payload = prng_one_in(prng, 2) ? SLICE_LITERAL("payload") : (struct slice){0};
        request->tags = SLICE_LITERAL("\1a\2bc");
    }
    if (kind != REQUEST_BEST && kind != REQUEST_SCAN) return;
    if (prng_one_in(prng, 3)) request->key = (struct slice){0};
    request->limit = 1 + prng_below(prng, REQUEST_LIMIT_MAX);
    if (kind == REQUEST_BEST && prng_one_in(prng, 2)) {
        request->has_after = true;
        request->after.best =
            (struct best){.score_order = score_order_of(prng_below(prng, 9) - 4.0),
                          .created_time = prng_u64(prng),
                          .created_node = (uint16_t)prng_u32(prng)};
        request->after.key = keys[prng_below(prng, KEY_COUNT)];
    }
    if (kind == REQUEST_SCAN) {
        request->from.inclusive = prng_one_in(prng, 2);
        request->from.descending = prng_one_in(prng, 2);
        if (prng_one_in(prng, 2)) request->from.key = keys[prng_below(prng, KEY_COUNT)];
    }
}

static void append_entry(struct buf *list, struct slice key, const struct record *record)
{
    struct buf encoded = {.heap = list->heap};
    record_encode(record, &encoded);
    data_entry_append(list, key, buf_slice(&encoded));
    buf_deinit(&encoded);
}

static void fill_entries(struct data_message *message, struct prng *prng, struct buf *list)
{
    message->entry_count = prng_below(prng, KEY_COUNT + 1);
    message->reply.more = message->entry_count > 0 && prng_one_in(prng, 2);
    for (size_t i = 0; i < message->entry_count; i++) {
        struct record record = made_record(prng, (unsigned)i % MADE_RECORD_SHAPES);
        append_entry(list, keys[i], &record);
    }
    message->entries = buf_slice(list);
}

/* What is to be applied or held, one or more. */
static void fill_records(struct data_message *message, unsigned shape, struct prng *prng,
                         struct buf *list)
{
    size_t count = shape % 2 == 0 ? 1 : 2 + prng_below(prng, 3);
    for (size_t i = 0; i < count; i++) {
        struct slice key = keys[prng_below(prng, KEY_COUNT)];
        struct record record = made_record(prng, (shape + (unsigned)i) % MADE_RECORD_SHAPES);
        append_entry(list, key, &record);
        if (i > 0) continue;
        message->key = key;
        message->record = record;
    }
    message->entries = buf_slice(list);
    message->entry_count = count;
}

static void fill_refusals(struct data_message *message, struct prng *prng, struct buf *list)
{
    for (uint32_t place = prng_below(prng, 4); message->refusal_count < 3;
         message->refusal_count++) {
        struct data_refusal refusal = {place, prng_one_in(prng, 2), {prng_u64(prng) / 2, 3}};
        data_refusal_append(list, &refusal);
        place += 1 + prng_below(prng, 300);
    }
    message->refusals = buf_slice(list);
}

static void fill_ranges(struct data_message *message, struct prng *prng, struct buf *list)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (prng_one_in(prng, 3)) continue;
        struct key_range range = {i == 0 ? (struct slice){0} : keys[i],
                                  i + 1 == KEY_COUNT ? (struct slice){0} : keys[i + 1]};
        data_range_append(list, &range);
        message->range_count++;
    }
    message->ranges = buf_slice(list);
}

static void fill_counts(struct data_message *message, struct prng *prng)
{
    enum { COUNT_BYTES = 17 };
    static const uint8_t packed[2 * COUNT_BYTES] = {5, 1, 2, 3, [COUNT_BYTES] = 0, [33] = 9};
    message->count_count = prng_below(prng, 3);
    message->counts = slice_of(packed, (size_t)message->count_count * COUNT_BYTES);
}

/* `shape` counts the kinds of requests and verdicts up. `list` is what the message borrows. */
static struct data_message message_of(enum data_kind kind, unsigned shape, struct prng *prng,
                                      struct buf *list)
{
    struct data_message message = {.kind = kind,
                                   .flow = prng_u64(prng) >> prng_below(prng, 64),
                                   .generation = 1 + prng_below(prng, 3),
                                   .map_number = prng_below(prng, 1000)};
    buf_clear(list);
    switch (kind) {
    case DATA_FORWARD:
        message.boot = 1 + prng_below(prng, 300);
        message.serial = 1 + prng_u32(prng);
        fill_request(&message.request, (enum request_kind)(1 + shape % (REQUEST_KIND_END - 1)),
                     prng);
        if (message.request.kind == REQUEST_LOAD) fill_sets(&message.request, prng, list);
        message.request.timeout_ms = 1 + prng_below(prng, REQUEST_TIMEOUT_MS_MAX);
        message.request.has_consistency = prng_one_in(prng, 2);
        if (message.request.has_consistency)
            message.request.consistency = (enum consistency)prng_below(prng, 1 + CONSISTENCY_ALL);
        break;
    case DATA_FORWARDED:
        message.reply = (struct request_reply){
            .outcome = (enum request_outcome)(shape % REQUEST_OUTCOME_END),
            .status = (enum status)prng_below(prng, STATUS_COUNT),
            .version = {prng_u64(prng) / 2, 3},
            .score = prng_below(prng, 100) - 50.5,
            .was_live = prng_one_in(prng, 2),
            .sloppy = prng_one_in(prng, 2),
            .count = prng_u32(prng) >> prng_below(prng, 32),
            .ack_count = (uint8_t)prng_below(prng, 8),
            .token = prng_one_in(prng, 2) ? SLICE_LITERAL("\0\1\1\2\0\1\2\3\4\5\6\7\10\11")
                                          : (struct slice){0},
        };
        message.version_count = prng_below(prng, 3);
        message.versions = slice_prefix(SLICE_LITERAL("\1\2\3\4\5\6\7\0\1\0"
                                                      "\1\2\3\4\5\6\7\1\1\0"),
                                        10 * (size_t)message.version_count);
        fill_entries(&message, prng, list);
        break;
    case DATA_HOLD:
        message.owner = (node_id)(1 + prng_below(prng, NODE_ID_MAX));
        fill_records(&message, shape, prng, list);
        break;
    case DATA_APPLY:
        message.apply = (enum data_apply)prng_below(prng, DATA_APPLY_END);
        fill_records(&message, shape, prng, list);
        break;
    case DATA_APPLIED:
    case DATA_HELD:
        message.verdict = (enum data_verdict)(shape % DATA_VERDICT_END);
        if (kind == DATA_APPLIED) {
            message.was_live = prng_one_in(prng, 2);
            message.sequence = prng_below(prng, 1000);
        }
        if (kind == DATA_APPLIED &&
            (message.verdict == DATA_STALE || message.verdict == DATA_PROMISED))
            message.version = (struct version){prng_u64(prng) / 2, 3};
        if (kind == DATA_APPLIED && message.verdict == DATA_PARTLY)
            fill_refusals(&message, prng, list);
        break;
    case DATA_ASK:
        message.of_all = prng_one_in(prng, 2);
        message.with_dead = prng_one_in(prng, 2);
        message.sequence = prng_below(prng, 1000);
        fill_request(&message.request, (enum request_kind)(REQUEST_GET + shape % 4), prng);
        fill_ranges(&message, prng, list);
        break;
    case DATA_TOLD:
        message.verdict = (enum data_verdict)(shape % DATA_VERDICT_END);
        message.with_dead = prng_one_in(prng, 2);
        fill_counts(&message, prng);
        if (message.verdict == DATA_NOT_OWNER || message.verdict == DATA_INCOMPLETE ||
            message.verdict == DATA_UNFILLED)
            fill_ranges(&message, prng, list);
        else
            fill_entries(&message, prng, list);
        break;
    case DATA_KIND_END:
        break;
    }
    return message;
}

/* --- Equal in every field --- */

static bool same_request(const struct request *a, const struct request *b)
{
    return a->kind == b->kind && a->has_consistency == b->has_consistency &&
           a->consistency == b->consistency && slice_equal(a->key, b->key) &&
           a->score == b->score && a->has_payload == b->has_payload &&
           slice_equal(a->payload, b->payload) && slice_equal(a->tags, b->tags) &&
           a->expires_at == b->expires_at && a->limit == b->limit && a->has_after == b->has_after &&
           best_compare(a->after.best, b->after.best) == 0 &&
           slice_equal(a->after.key, b->after.key) && slice_equal(a->from.key, b->from.key) &&
           a->from.inclusive == b->from.inclusive && a->from.descending == b->from.descending &&
           a->timeout_ms == b->timeout_ms && a->operation.client == b->operation.client &&
           a->operation.number == b->operation.number &&
           a->operation.attempt == b->operation.attempt &&
           a->operation.moves == b->operation.moves &&
           a->operation.map_number == b->operation.map_number && a->set_count == b->set_count &&
           slice_equal(a->sets, b->sets);
}

static bool same_reply(const struct request_reply *a, const struct request_reply *b)
{
    return a->outcome == b->outcome && a->status == b->status &&
           version_equal(a->version, b->version) && a->score == b->score &&
           a->was_live == b->was_live && a->sloppy == b->sloppy && a->ack_count == b->ack_count &&
           a->more == b->more && a->count == b->count && slice_equal(a->token, b->token);
}

static bool same_message(const struct data_message *a, const struct data_message *b)
{
    bool carries = a->kind == DATA_APPLY || a->kind == DATA_HOLD;
    return a->kind == b->kind && a->flow == b->flow && a->generation == b->generation &&
           a->map_number == b->map_number && a->boot == b->boot && a->serial == b->serial &&
           same_request(&a->request, &b->request) && same_reply(&a->reply, &b->reply) &&
           slice_equal(a->entries, b->entries) && a->entry_count == b->entry_count &&
           slice_equal(a->versions, b->versions) && a->version_count == b->version_count &&
           slice_equal(a->refusals, b->refusals) && a->refusal_count == b->refusal_count &&
           a->apply == b->apply && a->owner == b->owner && slice_equal(a->key, b->key) &&
           (!carries || record_equal(&a->record, &b->record)) && a->verdict == b->verdict &&
           a->was_live == b->was_live && a->sequence == b->sequence &&
           version_equal(a->version, b->version) && slice_equal(a->ranges, b->ranges) &&
           a->range_count == b->range_count && a->of_all == b->of_all &&
           a->with_dead == b->with_dead && slice_equal(a->counts, b->counts) &&
           a->count_count == b->count_count;
}

/* --- Tests --- */

static bool decode(struct slice bytes, struct buf *again)
{
    struct data_message message;
    buf_clear(again);
    if (data_message_decode(bytes, &message) != STATUS_OK) return false;
    data_message_encode(&message, again);
    return true;
}

static bool taken(const struct data_message *message)
{
    struct buf bytes = empty_buf();
    struct data_message again = {.flow = 77};
    data_message_encode(message, &bytes);
    enum status status = data_message_decode(buf_slice(&bytes), &again);
    EXPECT(status == STATUS_OK || status == STATUS_INVALID);
    if (status != STATUS_OK) EXPECT(again.kind == 0 && again.flow == 77);
    buf_deinit(&bytes);
    return status == STATUS_OK;
}

TEST_CASE(every_kind_comes_back_as_it_was)
{
    struct prng prng = {.state = test_seed};
    struct buf bytes = empty_buf(), list = empty_buf();
    for (unsigned round = 0; round < 40 * (DATA_KIND_END - 1); round++) {
        enum data_kind kind = (enum data_kind)(1 + round % (DATA_KIND_END - 1));
        struct data_message message = message_of(kind, round / (DATA_KIND_END - 1), &prng, &list);
        struct data_message again;
        buf_clear(&bytes);
        data_message_encode(&message, &bytes);
        EXPECT(data_message_decode(buf_slice(&bytes), &again) == STATUS_OK);
        EXPECT(same_message(&message, &again));
    }
    buf_deinit(&bytes);
    buf_deinit(&list);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(each_bit_flip_and_truncation_is_refused_or_another_message)
{
    struct prng prng = {.state = test_seed};
    struct buf bytes = empty_buf(), list = empty_buf();
    for (unsigned round = 0; round < 8 * (DATA_KIND_END - 1); round++) {
        enum data_kind kind = (enum data_kind)(1 + round % (DATA_KIND_END - 1));
        struct data_message message = message_of(kind, round / (DATA_KIND_END - 1), &prng, &list);
        buf_clear(&bytes);
        data_message_encode(&message, &bytes);
        expect_strict(decode, buf_slice(&bytes));
    }
    buf_deinit(&bytes);
    buf_deinit(&list);
}

/* The bytes of docs/format/peer.md. */
TEST_CASE(an_apply_has_these_bytes)
{
    static const uint8_t expected[] = {
        4,  3,                                           /* data, apply */
        7,  1,   8,                                      /* flow, generation, map */
        0,                                               /* stamped for a set */
        1,                                               /* one record */
        5,  'w', 0, 'a', 'b', 'c',                       /* key */
        19, 0,   1, 0,   0,   0xa8, 0xda, 0x76, 0x9b, 1, /* record: flags, version */
        3,  0,   0, 0,   0,   0,    0,    0,    0xf0, 0x3f,
    };
    struct buf bytes = empty_buf();
    struct version version = {UINT64_C(0x019b76daa8000001), 3};
    struct data_message message = {.kind = DATA_APPLY,
                                   .flow = 7,
                                   .generation = 1,
                                   .map_number = 8,
                                   .key = SLICE_LITERAL("w\0abc"),
                                   .record = record_of_set(version, 1)};
    buf_append_u8(&bytes, PROTOCOL_DATA);
    data_message_encode(&message, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));
    buf_deinit(&bytes);
}

TEST_CASE(a_node_neither_asks_for_nor_tells_what_another_holds_for_itself)
{
    static const struct slice own = SLICE_INITIALIZER("\0i");
    struct prng prng = {.state = test_seed};
    struct buf list = empty_buf();
    struct record record = made_record(&prng, 0);
    for (enum data_kind kind = DATA_APPLY; kind <= DATA_HOLD; kind++) {
        if (kind != DATA_APPLY && kind != DATA_HOLD) continue;
        struct data_message message = message_of(kind, 0, &prng, &list);
        EXPECT(taken(&message));
        message.entry_count = 0; /* What it says itself. */
        message.key = own;
        EXPECT(!taken(&message));
        message.key = (struct slice){0};
        EXPECT(!taken(&message));
    }
    for (unsigned shape = 0; shape < REQUEST_KIND_END - 1; shape++) {
        struct data_message message = message_of(DATA_FORWARD, shape, &prng, &list);
        if (message.request.kind == REQUEST_LOAD) continue;
        message.request.key = own;
        EXPECT(!taken(&message));
        message.request.key = (struct slice){0}; /* All, where a prefix is meant. */
        EXPECT(taken(&message) == (message.request.kind >= REQUEST_BEST));
    }
    for (enum data_kind kind = DATA_FORWARDED; kind <= DATA_TOLD; kind++) {
        if (kind != DATA_FORWARDED && kind != DATA_TOLD) continue;
        struct data_message message = message_of(kind, 0, &prng, &list);
        buf_clear(&list);
        append_entry(&list, own, &record);
        message.entries = buf_slice(&list);
        message.entry_count = 1;
        EXPECT(!taken(&message));
    }
    struct data_message stale = message_of(DATA_APPLIED, DATA_STALE, &prng, &list);
    stale.version.time = VERSION_TIME_MAX;
    EXPECT(taken(&stale));
    stale.version.time++; /* Whoever stamps above it would begin anew. */
    EXPECT(!taken(&stale));

    struct data_message ask = message_of(DATA_ASK, 0, &prng, &list);
    ask.range_count = 1;
    for (int side = 0; side < 4; side++) {
        struct key_range range = {side & 1 ? own : (struct slice){0},
                                  side & 2 ? SLICE_LITERAL("\0z") : SLICE_LITERAL("w")};
        buf_clear(&list);
        data_range_append(&list, &range);
        ask.ranges = buf_slice(&list);
        EXPECT(taken(&ask) == (side == 0));
    }
    buf_deinit(&list);
}

/* --- Loads --- */

static bool takes_sets(const struct request *sets, size_t count, uint64_t said)
{
    struct buf list = empty_buf();
    for (size_t i = 0; i < count; i++) data_set_append(&list, &sets[i]);
    struct data_message load = {.kind = DATA_FORWARD, .boot = 1, .serial = 1};
    load.request = (struct request){
        .kind = REQUEST_LOAD, .timeout_ms = 1, .sets = buf_slice(&list), .set_count = said};
    bool is_taken = taken(&load);
    EXPECT(is_taken == (data_sets_check(load.request.sets, said) == STATUS_OK));
    buf_deinit(&list);
    return is_taken;
}

TEST_CASE(sets_of_a_load_ascend_and_are_not_too_many)
{
    struct request sets[REQUEST_SETS_MAX + 1];
    uint8_t names[REQUEST_SETS_MAX + 1][3];
    for (size_t i = 0; i <= REQUEST_SETS_MAX; i++) {
        names[i][0] = 'w';
        names[i][1] = (uint8_t)(i / 256);
        names[i][2] = (uint8_t)i;
        sets[i] = (struct request){.kind = REQUEST_SET, .key = slice_of(names[i], 3)};
    }
    EXPECT(takes_sets(sets, REQUEST_SETS_MAX, REQUEST_SETS_MAX));
    EXPECT(!takes_sets(sets, REQUEST_SETS_MAX + 1, REQUEST_SETS_MAX + 1));
    EXPECT(takes_sets(sets, 3, 3) && !takes_sets(sets, 3, 2) && !takes_sets(sets, 3, 4));
    EXPECT(!takes_sets(sets, 0, 0));
    EXPECT(!takes_sets((struct request[]){sets[1], sets[0]}, 2, 2));
    EXPECT(!takes_sets((struct request[]){sets[1], sets[1]}, 2, 2));
    sets[1].key = SLICE_LITERAL("\0i");
    EXPECT(!takes_sets(&sets[1], 1, 1));

    /* The longest alone has room, and too many bytes have none. */
    static uint8_t payload[PAYLOAD_BYTES_MAX];
    sets[0].has_payload = sets[2].has_payload = true;
    sets[0].payload = slice_of(payload, PAYLOAD_BYTES_MAX);
    EXPECT(takes_sets(sets, 1, 1));
    for (size_t i = 0; i < 17; i++) {
        sets[i].key = slice_of(names[i], 3);
        sets[i].has_payload = true;
        sets[i].payload = sets[0].payload;
    }
    EXPECT(takes_sets(sets, 15, 15) && !takes_sets(sets, 17, 17));
}

TEST_CASE(refusals_ascend_and_there_is_one)
{
    struct buf list = empty_buf();
    struct data_message applied = {.kind = DATA_APPLIED, .verdict = DATA_PARTLY};
    EXPECT(!taken(&applied));
    struct data_refusal refusal = {.place = 5, .version = {7, 1}};
    data_refusal_append(&list, &refusal);
    applied.refusals = buf_slice(&list);
    EXPECT(!taken(&applied));
    applied.refusal_count = 1;
    EXPECT(taken(&applied));
    data_refusal_append(&list, &refusal);
    applied.refusals = buf_slice(&list);
    applied.refusal_count = 2;
    EXPECT(!taken(&applied));
    buf_clear(&list);
    refusal.place = DATA_ENTRIES_MAX;
    data_refusal_append(&list, &refusal);
    applied.refusals = buf_slice(&list);
    applied.refusal_count = 1;
    EXPECT(!taken(&applied));
    buf_deinit(&list);
}

static bool takes_ranges(const struct key_range *ranges, size_t count)
{
    struct buf list = empty_buf();
    struct data_message ask = {.kind = DATA_ASK, .request = {.kind = REQUEST_COUNT}};
    for (size_t i = 0; i < count; i++) data_range_append(&list, &ranges[i]);
    ask.ranges = buf_slice(&list);
    ask.range_count = count;
    struct buf bytes = empty_buf();
    struct data_message again;
    data_message_encode(&ask, &bytes);
    enum status status = data_message_decode(buf_slice(&bytes), &again);
    buf_deinit(&bytes);
    buf_deinit(&list);
    return status == STATUS_OK;
}

TEST_CASE(ranges_ascend_and_are_disjoint)
{
    static const struct slice a = SLICE_INITIALIZER("a"), b = SLICE_INITIALIZER("b"),
                              c = SLICE_INITIALIZER("c"), none = {0};
    EXPECT(takes_ranges(NULL, 0));
    EXPECT(takes_ranges((struct key_range[]){{none, a}, {a, b}, {c, none}}, 3));
    EXPECT(!takes_ranges((struct key_range[]){{a, a}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{b, a}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{a, c}, {b, none}}, 2));
    EXPECT(!takes_ranges((struct key_range[]){{b, c}, {a, b}}, 2));
    EXPECT(!takes_ranges((struct key_range[]){{a, none}, {b, c}}, 2));

    struct key_range ranges[DATA_RANGES_MAX + 1];
    uint8_t bounds[DATA_RANGES_MAX + 2][2];
    for (size_t i = 0; i < DATA_RANGES_MAX + 2; i++) {
        bounds[i][0] = (uint8_t)(1 + i / 256);
        bounds[i][1] = (uint8_t)i;
        if (i > 0)
            ranges[i - 1] = (struct key_range){slice_of(bounds[i - 1], 2), slice_of(bounds[i], 2)};
    }
    EXPECT(takes_ranges(ranges, DATA_RANGES_MAX));
    EXPECT(!takes_ranges(ranges, DATA_RANGES_MAX + 1));
}

/* Best first or in alphabetical order, so that any order may come; but no more than may be asked
 * for, and none that is no record. */
TEST_CASE(entries_are_whole_and_not_too_many)
{
    struct prng prng = {.state = test_seed};
    struct buf list = empty_buf();
    struct record record = record_of_set((struct version){5, 1}, 1);
    struct data_message told = {.kind = DATA_TOLD};
    for (size_t i = 0; i < DATA_ENTRIES_MAX; i++)
        append_entry(&list, keys[prng_below(&prng, KEY_COUNT)], &record);
    told.entries = buf_slice(&list);
    told.entry_count = DATA_ENTRIES_MAX;
    EXPECT(taken(&told));
    told.entry_count--;
    EXPECT(!taken(&told));
    told.entry_count += 2;
    EXPECT(!taken(&told));

    struct buf more = empty_buf();
    append_entry(&list, keys[0], &record);
    data_entry_append(&more, keys[0], SLICE_LITERAL("no record"));
    told.entries = buf_slice(&list);
    EXPECT(!taken(&told)); /* One too many. */
    told.entries = buf_slice(&more);
    told.entry_count = 1;
    EXPECT(!taken(&told));
    buf_deinit(&more);
    buf_deinit(&list);
}

/* Who asked would ask for the rest from where it began, without end. */
TEST_CASE(there_is_no_more_behind_nothing)
{
    struct data_message told = {.kind = DATA_TOLD, .reply.more = true};
    EXPECT(!taken(&told));
    told.reply.more = false;
    EXPECT(taken(&told));
}

TEST_CASE(scores_are_finite_and_zero_has_no_sign)
{
    static const double refused[] = {-0.0, NAN, INFINITY, -INFINITY};
    struct prng prng = {.state = test_seed};
    struct buf list = empty_buf();
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct data_message set = message_of(DATA_FORWARD, REQUEST_SET - 1, &prng, &list);
        struct data_message best = message_of(DATA_FORWARD, REQUEST_BEST - 1, &prng, &list);
        struct data_message apply = message_of(DATA_APPLY, 0, &prng, &list);
        apply.entry_count = 0; /* What it says itself. */
        struct data_message reply = message_of(DATA_FORWARDED, 0, &prng, &list);
        best.request.has_after = true;
        best.request.after.key = keys[0];
        best.request.after.best.score_order = score_order_of(0.0);
        set.request.score = reply.reply.score = apply.record.score = 0;
        EXPECT(taken(&set) && taken(&best) && taken(&reply) && taken(&apply));
        set.request.score = reply.reply.score = apply.record.score = refused[i];
        best.request.after.best.score_order = score_order_of(refused[i]);
        EXPECT(!taken(&set));
        EXPECT(!taken(&best));
        EXPECT(!taken(&reply));
        EXPECT(!taken(&apply));
    }
    buf_deinit(&list);
}

TEST_CASE(what_no_node_says_is_refused)
{
    struct prng prng = {.state = test_seed};
    struct buf list = empty_buf();
    struct data_message set = message_of(DATA_FORWARD, REQUEST_SET - 1, &prng, &list);
    set.request.timeout_ms = REQUEST_TIMEOUT_MS_MAX;
    set.request.tags = SLICE_LITERAL("\1a\1b");
    EXPECT(taken(&set));
    set.request.tags = SLICE_LITERAL("\1b\1a");
    EXPECT(!taken(&set));
    set.request.tags = (struct slice){0};
    set.request.timeout_ms++;
    EXPECT(!taken(&set));
    set.request.timeout_ms = 0;
    EXPECT(!taken(&set));

    struct data_message scan = message_of(DATA_FORWARD, REQUEST_SCAN - 1, &prng, &list);
    scan.request.limit = REQUEST_LIMIT_MAX;
    EXPECT(taken(&scan));
    scan.request.limit++;
    EXPECT(!taken(&scan));
    scan.request.limit = 0;
    EXPECT(!taken(&scan));

    static uint8_t bytes[KEY_BYTES_MAX + 1] = {'w'};
    struct data_message hold = message_of(DATA_HOLD, 0, &prng, &list);
    hold.entry_count = 0;
    hold.key = slice_of(bytes, KEY_BYTES_MAX);
    EXPECT(taken(&hold));
    hold.key.size++;
    EXPECT(!taken(&hold));
    hold.key = keys[0];
    hold.owner = 0;
    EXPECT(!taken(&hold));

    struct data_message ask = message_of(DATA_ASK, 0, &prng, &list);
    ask.request = (struct request){.kind = REQUEST_SET, .key = keys[0]};
    EXPECT(!taken(&ask)); /* A question writes nothing. */
    buf_deinit(&list);
}

TEST_MAIN(TEST(every_kind_comes_back_as_it_was),
          TEST(each_bit_flip_and_truncation_is_refused_or_another_message),
          TEST(an_apply_has_these_bytes),
          TEST(a_node_neither_asks_for_nor_tells_what_another_holds_for_itself),
          TEST(ranges_ascend_and_are_disjoint), TEST(sets_of_a_load_ascend_and_are_not_too_many),
          TEST(refusals_ascend_and_there_is_one), TEST(entries_are_whole_and_not_too_many),
          TEST(there_is_no_more_behind_nothing), TEST(scores_are_finite_and_zero_has_no_sign),
          TEST(what_no_node_says_is_refused))
