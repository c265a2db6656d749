#include "cluster/repair_message.h"

#include <math.h>

#include "cluster/outbox.h"
#include "core/key.h"
#include "message_make.h"
#include "strict.h"
#include "test.h"

static struct heap heap = {.failure_after = -1};

static const struct slice keys[] = {SLICE_INITIALIZER("w"), SLICE_INITIALIZER("w\0abc"),
                                    SLICE_INITIALIZER("w\0abd"), SLICE_INITIALIZER("x\0\1\1"),
                                    SLICE_INITIALIZER("x\0\xff")};
enum { KEY_COUNT = sizeof keys / sizeof *keys };

static struct buf empty_buf(void)
{
    return (struct buf){.heap = &heap};
}

/* --- One message of each kind --- */

static size_t fill_list(struct buf *list, enum repair_kind kind, struct prng *prng)
{
    size_t count = 0;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (prng_one_in(prng, 3)) continue;
        struct key_range range = {keys[i], i + 1 < KEY_COUNT ? keys[i + 1] : (struct slice){0}};
        struct record record = made_record(prng, (unsigned)i % MADE_RECORD_SHAPES);
        count++;
        if (kind == REPAIR_COMPARE)
            repair_range_append(list, &range, repair_sum_cut(prng_u64(prng)));
        if (kind == REPAIR_EXCHANGE || kind == REPAIR_EXCHANGED)
            repair_record_append(list, keys[i], &record);
        if (kind != REPAIR_COMPARED) continue;
        struct repair_part_list parts = {
            .finding = (enum repair_finding)prng_below(prng, REPAIR_FINDING_END)};
        if (parts.finding != REPAIR_EQUAL) parts.count = 2 + prng_below(prng, KEY_COUNT - 1);
        if (parts.finding > REPAIR_CUT) parts.sum = repair_sum_cut(prng_u64(prng));
        repair_finding_append(list, &parts);
        for (size_t j = 0; j < parts.count; j++) {
            if (parts.finding == REPAIR_CUT)
                repair_part_append(list, keys[j], repair_sum_cut(prng_u64(prng)));
            else
                buf_append_u16le(list, (uint16_t)prng_u32(prng));
        }
    }
    return count;
}

/* Some of tags, some of whole ranges. */
static size_t fill_wants(struct buf *list, struct prng *prng)
{
    size_t count = 0;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (prng_one_in(prng, 3)) continue;
        struct buf tags = empty_buf();
        struct repair_want want = {.range.low = keys[i]};
        for (uint32_t left = prng_below(prng, 4); left > 0; left--)
            buf_append_u16le(&tags, (uint16_t)prng_u32(prng));
        want.tags = buf_slice(&tags);
        if (tags.size > 0) want.sum = repair_sum_cut(prng_u64(prng));
        if (tags.size == 0 && i + 1 < KEY_COUNT) want.range.high = keys[i + 1];
        repair_want_append(list, &want);
        count++;
        buf_deinit(&tags);
    }
    return count;
}

static bool has_verdict(enum repair_kind kind)
{
    return kind % 2 == 0;
}

static bool has_list(enum repair_kind kind)
{
    return kind != REPAIR_ROOT && kind != REPAIR_ROOTED;
}

/* `list` and `wants` are what the message borrows. */
static struct repair_message message_of(enum repair_kind kind, struct prng *prng, struct buf *list,
                                        struct buf *wants)
{
    struct repair_message message = {.kind = kind,
                                     .session = prng_u64(prng) >> prng_below(prng, 64),
                                     .step = prng_u32(prng) >> prng_below(prng, 32)};
    if (kind == REPAIR_ROOT) {
        message.shared = (struct hash128){prng_u64(prng), prng_u64(prng)};
        message.sum = (struct sum){prng_u64(prng), prng_u64(prng)};
    }
    if (kind == REPAIR_ROOT || kind == REPAIR_COMPARE) {
        message.purged = prng_u64(prng);
        message.scope = (enum repair_scope)prng_below(prng, REPAIR_SCOPE_END);
    }
    if (kind == REPAIR_ROOTED)
        message.knows = (enum repair_knowledge)prng_below(prng, REPAIR_KNOWLEDGE_END);
    if (has_verdict(kind))
        message.verdict = (enum repair_verdict)prng_below(prng, REPAIR_VERDICT_END);
    buf_clear(list);
    if (has_list(kind)) message.count = fill_list(list, kind, prng);
    message.list = buf_slice(list);
    buf_clear(wants);
    if (kind == REPAIR_EXCHANGE) {
        message.want_count = fill_wants(wants, prng);
        message.wants = buf_slice(wants);
    }
    if (kind == REPAIR_EXCHANGED) {
        message.want_count = prng_below(prng, 20);
        for (uint64_t i = 0; i < message.want_count; i += 8)
            buf_append_u8(wants, (uint8_t)(message.want_count - i < 8 ? 0 : prng_below(prng, 256)));
        message.found = buf_slice(wants);
    }
    return message;
}

/* --- Tests --- */

static bool decode(struct slice bytes, struct buf *again)
{
    struct repair_message message;
    struct buf lists = empty_buf();
    buf_clear(again);
    bool good = repair_message_decode(bytes, &lists, &message) == STATUS_OK;
    if (good) repair_message_encode(&message, again);
    buf_deinit(&lists);
    return good;
}

static bool taken(const struct repair_message *message)
{
    struct buf bytes = empty_buf(), lists = empty_buf();
    struct repair_message again = {.session = 77};
    repair_message_encode(message, &bytes);
    enum status status = repair_message_decode(buf_slice(&bytes), &lists, &again);
    buf_deinit(&lists);
    EXPECT(status == STATUS_OK || status == STATUS_INVALID);
    if (status != STATUS_OK) EXPECT(again.kind == 0 && again.session == 77);
    buf_deinit(&bytes);
    return status == STATUS_OK;
}

TEST_CASE(every_kind_comes_back_as_it_was_and_has_one_form)
{
    struct prng prng = {.state = test_seed};
    struct buf bytes = empty_buf(), list = empty_buf(), wants = empty_buf(), lists = empty_buf();
    for (unsigned round = 0; round < 8 * (REPAIR_KIND_END - 1); round++) {
        enum repair_kind kind = (enum repair_kind)(1 + round % (REPAIR_KIND_END - 1));
        struct repair_message message = message_of(kind, &prng, &list, &wants), again;
        buf_clear(&bytes);
        repair_message_encode(&message, &bytes);
        EXPECT(repair_message_decode(buf_slice(&bytes), &lists, &again) == STATUS_OK);
        EXPECT(again.kind == kind && again.session == message.session);
        EXPECT(again.step == message.step && again.verdict == message.verdict);
        EXPECT(hash128_equal(again.shared, message.shared) && sum_equal(again.sum, message.sum));
        EXPECT(again.purged == message.purged && again.knows == message.knows);
        EXPECT(again.scope == message.scope);
        EXPECT(again.count == message.count && slice_equal(again.list, message.list));
        EXPECT(again.want_count == message.want_count && slice_equal(again.wants, message.wants));
        EXPECT(slice_equal(again.found, message.found));
        expect_strict(decode, buf_slice(&bytes));
    }
    buf_deinit(&lists);
    buf_deinit(&wants);
    buf_deinit(&bytes);
    buf_deinit(&list);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* The walks give back what the appenders took. */
TEST_CASE(lists_are_walked_to_their_end)
{
    struct prng prng = {.state = test_seed};
    struct buf list = empty_buf();
    struct slice rest, key;
    struct key_range range;
    struct record record, made[MADE_RECORD_SHAPES];
    uint64_t sum;
    repair_range_append(&list, &(struct key_range){keys[0], keys[1]}, 5);
    repair_range_append(&list, &(struct key_range){keys[1], {0}}, 6);
    rest = buf_slice(&list);
    EXPECT(repair_range_next(&rest, &range, &sum) && sum == 5);
    EXPECT(slice_equal(range.low, keys[0]) && slice_equal(range.high, keys[1]));
    EXPECT(repair_range_next(&rest, &range, &sum) && sum == 6 && range.high.size == 0);
    EXPECT(!repair_range_next(&rest, &range, &sum) && rest.size == 0);

    buf_clear(&list);
    for (unsigned i = 0; i < MADE_RECORD_SHAPES; i++) {
        made[i] = made_record(&prng, i);
        repair_record_append(&list, keys[i], &made[i]);
    }
    rest = buf_slice(&list);
    for (unsigned i = 0; i < MADE_RECORD_SHAPES; i++) {
        EXPECT(repair_record_next(&rest, &key, &record));
        EXPECT(slice_equal(key, keys[i]) && record_equal(&record, &made[i]));
    }
    EXPECT(!repair_record_next(&rest, &key, &record) && rest.size == 0);
    buf_deinit(&list);
}

/* The bytes of docs/format/peer.md. */
TEST_CASE(a_compared_has_these_bytes)
{
    static const uint8_t expected[] = {
        5,    4,                                                    /* repair, compared */
        2,    3,    0,                                              /* session, step, ok */
        3,                                                          /* findings */
        0,                                                          /* equal */
        1,    2,                                                    /* cut into two */
        0,    3,    'w',  0,    'm',  1,    2,    3,    4,    5, 6, /* */
        2,    1,    'p',  0x11, 0x12, 0x13, 0x14, 0x15, 0x16,       /* */
        2,    1,    0x21, 0x22, 0x23, 0x24, 0x25, 0x26,             /* listed, one, sum */
        0x31, 0x32,                                                 /* its tag */
    };
    struct buf bytes = empty_buf(), list = empty_buf();
    repair_finding_append(&list, &(struct repair_part_list){.finding = REPAIR_EQUAL});
    repair_finding_append(&list, &(struct repair_part_list){REPAIR_CUT, 2, 0});
    repair_part_append(&list, SLICE_LITERAL("w\0m"), UINT64_C(0x060504030201));
    repair_part_append(&list, SLICE_LITERAL("w\0p"), UINT64_C(0x161514131211));
    repair_finding_append(&list,
                          &(struct repair_part_list){REPAIR_LISTED, 1, UINT64_C(0x262524232221)});
    buf_append_u16le(&list, 0x3231);
    struct repair_message message = {
        .kind = REPAIR_COMPARED, .session = 2, .step = 3, .list = buf_slice(&list), .count = 3};
    buf_append_u8(&bytes, PROTOCOL_REPAIR);
    repair_message_encode(&message, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));
    buf_deinit(&bytes);
    buf_deinit(&list);
}

static bool takes_list(enum repair_kind kind, const struct buf *list, size_t count)
{
    struct repair_message message = {.kind = kind, .list = buf_slice(list), .count = count};
    return taken(&message);
}

/* A list of these keys in a message of `kind`. */
static bool takes_keys(enum repair_kind kind, const struct slice *from, size_t count)
{
    struct prng prng = {.state = test_seed};
    struct record record = made_record(&prng, 0);
    struct buf list = empty_buf();
    for (size_t i = 0; i < count; i++) repair_record_append(&list, from[i], &record);
    bool takes = takes_list(kind, &list, count);
    buf_deinit(&list);
    return takes;
}

/* So many of them are wanted whole, and with a tag. */
static bool takes_wants(const struct slice *from, size_t count, size_t tag_count)
{
    struct buf wants = empty_buf(), tags = empty_buf();
    for (size_t i = 0; i < tag_count; i++) buf_append_u16le(&tags, (uint16_t)i);
    for (size_t i = 0; i < count; i++)
        repair_want_append(&wants,
                           &(struct repair_want){.range.low = from[i], .tags = buf_slice(&tags)});
    struct repair_message message = {
        .kind = REPAIR_EXCHANGE, .wants = buf_slice(&wants), .want_count = count};
    bool takes = taken(&message);
    buf_deinit(&wants);
    buf_deinit(&tags);
    return takes;
}

TEST_CASE(keys_ascend_and_are_words_of_clients)
{
    static const enum repair_kind kinds[] = {REPAIR_EXCHANGE, REPAIR_EXCHANGED};
    static const struct slice a = SLICE_INITIALIZER("a"), b = SLICE_INITIALIZER("b"), none = {0},
                              own = SLICE_INITIALIZER("\0i");
    static uint8_t long_key[KEY_BYTES_MAX + 1] = {'w'};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        EXPECT(takes_keys(kinds[i], NULL, 0));
        EXPECT(takes_keys(kinds[i], (struct slice[]){a, b}, 2));
        EXPECT(!takes_keys(kinds[i], (struct slice[]){b, a}, 2));
        EXPECT(!takes_keys(kinds[i], (struct slice[]){a, a}, 2));
        EXPECT(!takes_keys(kinds[i], (struct slice[]){own}, 1));
        EXPECT(!takes_keys(kinds[i], (struct slice[]){none}, 1));
        EXPECT(takes_keys(kinds[i], (struct slice[]){slice_of(long_key, KEY_BYTES_MAX)}, 1));
        EXPECT(!takes_keys(kinds[i], (struct slice[]){slice_of(long_key, KEY_BYTES_MAX + 1)}, 1));
    }
    EXPECT(takes_wants((struct slice[]){a, b}, 2, 0) && takes_wants((struct slice[]){a, b}, 2, 3));
    EXPECT(!takes_wants((struct slice[]){b, a}, 2, 0) &&
           !takes_wants((struct slice[]){a, a}, 2, 1));
    EXPECT(!takes_wants((struct slice[]){own}, 1, 1) && !takes_wants((struct slice[]){none}, 1, 1));
}

static bool takes_ranges(const struct key_range *ranges, size_t count)
{
    struct buf list = empty_buf();
    for (size_t i = 0; i < count; i++) repair_range_append(&list, &ranges[i], 7);
    bool takes = takes_list(REPAIR_COMPARE, &list, count);
    buf_deinit(&list);
    return takes;
}

TEST_CASE(ranges_ascend_and_are_disjoint)
{
    static const struct slice a = SLICE_INITIALIZER("a"), b = SLICE_INITIALIZER("b"),
                              c = SLICE_INITIALIZER("c"), none = {0},
                              own = SLICE_INITIALIZER("\0i");
    EXPECT(takes_ranges((struct key_range[]){{a, b}, {b, c}, {c, none}}, 3));
    EXPECT(!takes_ranges((struct key_range[]){{none, a}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{own, a}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{a, a}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{b, a}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{a, c}, {b, none}}, 2));
    EXPECT(!takes_ranges((struct key_range[]){{b, c}, {a, b}}, 2));
    EXPECT(!takes_ranges((struct key_range[]){{a, none}, {b, c}}, 2));
}

TEST_CASE(lists_keep_to_their_limits)
{
    static uint8_t bytes[REPAIR_WANTS_MAX + 2][2];
    static struct slice many[REPAIR_WANTS_MAX + 2];
    struct key_range ranges[REPAIR_RANGES_MAX + 1];
    struct buf list = empty_buf();
    for (size_t i = 0; i < REPAIR_WANTS_MAX + 2; i++) {
        bytes[i][0] = (uint8_t)(1 + i / 256);
        bytes[i][1] = (uint8_t)i;
        many[i] = slice_of(bytes[i], 2);
    }
    for (size_t i = 0; i <= REPAIR_RANGES_MAX; i++)
        ranges[i] = (struct key_range){many[i], many[i + 1]};
    EXPECT(takes_ranges(ranges, REPAIR_RANGES_MAX));
    EXPECT(!takes_ranges(ranges, REPAIR_RANGES_MAX + 1));
    EXPECT(takes_wants(many, REPAIR_WANTS_MAX, 1) && !takes_wants(many, REPAIR_WANTS_MAX + 1, 1));
    EXPECT(takes_wants(many, 1, REPAIR_LEAF_MAX) && !takes_wants(many, 1, REPAIR_LEAF_MAX + 1));
    for (size_t tags = REPAIR_LEAF_MAX; tags <= REPAIR_LEAF_MAX + 1; tags++) {
        buf_clear(&list);
        repair_finding_append(&list, &(struct repair_part_list){REPAIR_LISTED, tags, 7});
        for (size_t i = 0; i < tags; i++) buf_append_u16le(&list, (uint16_t)i);
        EXPECT(takes_list(REPAIR_COMPARED, &list, 1) == (tags == REPAIR_LEAF_MAX));
    }

    /* A cut makes at least two of one. */
    for (size_t parts = 0; parts <= REPAIR_PIECES_MAX + 1; parts++) {
        buf_clear(&list);
        repair_finding_append(&list, &(struct repair_part_list){REPAIR_CUT, parts, 0});
        for (size_t i = 0; i < parts; i++) repair_part_append(&list, many[i], 7);
        EXPECT(takes_list(REPAIR_COMPARED, &list, 1) == (parts >= 2 && parts <= REPAIR_PIECES_MAX));
    }
    buf_clear(&list);
    for (size_t i = 0; i <= REPAIR_RANGES_MAX; i++) {
        if (i == REPAIR_RANGES_MAX) EXPECT(takes_list(REPAIR_COMPARED, &list, i));
        repair_finding_append(&list, &(struct repair_part_list){.finding = REPAIR_EQUAL});
    }
    EXPECT(!takes_list(REPAIR_COMPARED, &list, REPAIR_RANGES_MAX + 1));
    EXPECT(!takes_list(REPAIR_COMPARED, &list, REPAIR_RANGES_MAX));
    buf_deinit(&list);
}

TEST_CASE(what_no_node_says_is_refused)
{
    struct buf list = empty_buf();
    struct repair_message root = {.kind = REPAIR_ROOT, .scope = REPAIR_SCOPE_END - 1};
    EXPECT(taken(&root));
    root.scope = REPAIR_SCOPE_END;
    EXPECT(!taken(&root));
    for (enum repair_kind kind = REPAIR_ROOTED; kind < REPAIR_KIND_END; kind += 2) {
        struct repair_message message = {.kind = kind, .verdict = REPAIR_VERDICT_END - 1};
        EXPECT(taken(&message));
        message.verdict = REPAIR_VERDICT_END;
        EXPECT(!taken(&message));
    }
    repair_finding_append(&list, &(struct repair_part_list){.finding = REPAIR_FINDING_END - 1});
    EXPECT(takes_list(REPAIR_COMPARED, &list, 1));
    buf_clear(&list);
    repair_finding_append(&list, &(struct repair_part_list){.finding = REPAIR_FINDING_END});
    EXPECT(!takes_list(REPAIR_COMPARED, &list, 1));
    buf_deinit(&list);
}

TEST_CASE(records_are_canonical)
{
    static const double refused[] = {-0.0, NAN, INFINITY, -INFINITY};
    struct prng prng = {.state = test_seed};
    struct buf list = empty_buf();
    for (size_t i = 0; i <= sizeof refused / sizeof *refused; i++) {
        struct record record = made_record(&prng, 0);
        record.score = i == 0 ? 0 : refused[i - 1];
        buf_clear(&list);
        repair_record_append(&list, keys[0], &record);
        EXPECT(takes_list(REPAIR_EXCHANGE, &list, 1) == (i == 0));
        EXPECT(takes_list(REPAIR_EXCHANGED, &list, 1) == (i == 0));
    }
    struct record record = made_record(&prng, 2);
    record.since = record.version; /* The tombstone would have won. */
    buf_clear(&list);
    repair_record_append(&list, keys[0], &record);
    EXPECT(!takes_list(REPAIR_EXCHANGE, &list, 1));
    buf_deinit(&list);
}

TEST_MAIN(TEST(every_kind_comes_back_as_it_was_and_has_one_form),
          TEST(lists_are_walked_to_their_end), TEST(a_compared_has_these_bytes),
          TEST(keys_ascend_and_are_words_of_clients), TEST(ranges_ascend_and_are_disjoint),
          TEST(lists_keep_to_their_limits), TEST(what_no_node_says_is_refused),
          TEST(records_are_canonical))
