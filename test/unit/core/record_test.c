#include "core/record.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "base/prng.h"
#include "core/write.h"
#include "test.h"

static struct heap heap;

static struct buf empty_buf(void)
{
    struct buf buf;
    heap_init(&heap, 0);
    buf_init(&buf, &heap);
    return buf;
}

static struct version version_at(uint64_t time)
{
    return (struct version){.time = time, .node = 1};
}

/* A record of our own: its canonical bytes. */
struct held {
    uint8_t bytes[1024];
    size_t size;
};

static struct record view(const struct held *held)
{
    struct record record;
    EXPECT(record_decode(slice_of(held->bytes, held->size), &record) == STATUS_OK);
    return record;
}

static void hold(struct held *held, const struct record *record)
{
    struct buf bytes = empty_buf();
    record_encode(record, &bytes);
    EXPECT(buf_status(&bytes) == STATUS_OK);
    EXPECT(bytes.size <= sizeof held->bytes);
    memcpy(held->bytes, bytes.data, bytes.size);
    held->size = bytes.size;
    buf_deinit(&bytes);
    struct record again = view(held);
    EXPECT(record_equal(&again, record));
}

static void join(const struct held *a, const struct held *b, struct held *out)
{
    struct buf scratch = empty_buf();
    struct record left = view(a);
    struct record right = view(b);
    struct record joined;
    EXPECT(record_join(&left, &right, &scratch, &joined) == STATUS_OK);
    hold(out, &joined);
    buf_deinit(&scratch);
}

static bool same(const struct held *a, const struct held *b)
{
    return slice_equal(slice_of(a->bytes, a->size), slice_of(b->bytes, b->size));
}

/* --- Histories of three owners --- */

enum { OWNER_COUNT = 3, WRITE_COUNT = 8, TIME_MAX = 30, POOL_MAX = 64 };

struct history {
    struct prng prng;
    bool with_expiry;
    struct held owners[OWNER_COUNT];
    bool known[OWNER_COUNT];
    struct held pool[POOL_MAX];
    size_t pool_count;

    /* The oracle: what happened at each time, and what was added since. */
    char kind[TIME_MAX + 1];
    double added[TIME_MAX + 1];
    bool added_any[TIME_MAX + 1];
};

static void remember(struct history *history, const struct held *held)
{
    CHECK(history->pool_count < POOL_MAX);
    history->pool[history->pool_count++] = *held;
}

/* The value that belongs to a set at `time`, so that a mixed-up one is seen. */
static struct write_value value_of(const struct history *history, uint64_t time, uint8_t *payload)
{
    *payload = (uint8_t)time;
    return (struct write_value){
        .score = (double)time * 100,
        .has_payload = time % 2 == 0,
        .payload = slice_of(payload, time % 2 == 0 ? 1 : 0),
        .tags = time % 3 == 0 ? SLICE_LITERAL("\1a") : SLICE_LITERAL(""),
        .expires_at = history->with_expiry && time % 4 == 0 ? time + 5 : 0,
    };
}

static void expect_value_of_its_set(const struct history *history, const struct record *record)
{
    uint8_t payload;
    if (record->tombstone) return;
    struct write_value value = value_of(history, record->set.time, &payload);
    if (version_equal(record->set, record->since)) value = (struct write_value){0};
    EXPECT(record->score == value.score);
    EXPECT(record->has_payload == value.has_payload);
    EXPECT(slice_equal(record->payload, value.payload));
    EXPECT(slice_equal(record->tags, value.tags));
    EXPECT(record->expires_at == value.expires_at);
}

static void note_increment(struct history *history, const struct record *current, double by)
{
    uint64_t epoch = 0;
    if (current != NULL) epoch = current->tombstone ? current->version.time : current->set.time;
    history->added[epoch] += by;
    history->added_any[epoch] = true;
}

static void write_once(struct history *history, uint64_t time)
{
    unsigned owner = prng_below(&history->prng, OWNER_COUNT);
    struct record known;
    struct record *current = NULL;
    if (history->known[owner]) {
        known = view(&history->owners[owner]);
        current = &known;
    }

    struct buf scratch = empty_buf();
    struct record record;
    struct write_outcome outcome;
    enum status status;
    uint8_t payload;
    struct version version = version_at(time);
    uint32_t kind = prng_below(&history->prng, 5);
    double by = (double)prng_below(&history->prng, 4) - 1;
    if (kind < 2) {
        struct write_value value = value_of(history, time, &payload);
        status = write_set(current, time, version, &value, &record, &outcome);
        if (status == STATUS_OK) history->kind[time] = 's';
    } else if (kind < 4) {
        status = write_increment(current, time, version, by, owner, 0, &scratch, &record, &outcome);
        if (status == STATUS_OK) note_increment(history, current, by);
    } else {
        status = write_remove(current, time, version, &record, &outcome);
        if (status == STATUS_OK) history->kind[time] = 't';
    }
    EXPECT(status == (current != NULL && current->version.time >= time ? STATUS_STALE : STATUS_OK));

    if (status == STATUS_OK) {
        struct held made;
        struct held joined;
        hold(&made, &record);
        if (current != NULL) {
            join(&history->owners[owner], &made, &joined);
            EXPECT(same(&joined, &made));
        }
        history->owners[owner] = made;
        history->known[owner] = true;
        remember(history, &made);
    }
    buf_deinit(&scratch);
}

static void exchange(struct history *history)
{
    unsigned to = prng_below(&history->prng, OWNER_COUNT);
    unsigned from = (to + 1 + prng_below(&history->prng, OWNER_COUNT - 1)) % OWNER_COUNT;
    if (!history->known[from]) return;
    if (history->known[to]) {
        struct held joined;
        join(&history->owners[to], &history->owners[from], &joined);
        history->owners[to] = joined;
    } else {
        history->owners[to] = history->owners[from];
    }
    history->known[to] = true;
    remember(history, &history->owners[to]);
}

static void run_history(struct history *history)
{
    history->kind[0] = 'n';
    bool used[TIME_MAX + 1] = {false};
    for (int i = 0; i < WRITE_COUNT; i++) {
        uint64_t time = 1 + prng_below(&history->prng, TIME_MAX);
        if (used[time]) continue;
        used[time] = true;
        write_once(history, time);
        if (prng_one_in(&history->prng, 2)) exchange(history);
    }
}

/* Merges all that was ever seen, some of it twice, in a random tree. */
static struct held merge_at_random(struct history *history)
{
    struct held pool[POOL_MAX + 3];
    size_t count = history->pool_count;
    memcpy(pool, history->pool, count * sizeof *pool);
    for (int i = 0; i < 3; i++) {
        pool[count++] = history->pool[prng_below(&history->prng, (uint32_t)history->pool_count)];
    }
    while (count > 1) {
        size_t a = prng_below(&history->prng, (uint32_t)count);
        struct held left = pool[a];
        pool[a] = pool[--count];
        size_t b = prng_below(&history->prng, (uint32_t)count);
        struct held joined;
        join(&left, &pool[b], &joined);
        pool[b] = joined;
    }
    return pool[0];
}

static void expect_oracle(const struct history *history, const struct record *record)
{
    size_t epoch = TIME_MAX;
    while (history->kind[epoch] == 0) epoch--;
    bool live = history->kind[epoch] == 's' || history->added_any[epoch];
    EXPECT(record_is_present(record) == live);
    if (!live) return;
    double sum = 0;
    for (size_t i = 0; i < record->slots.size / RECORD_SLOT_BYTES; i++) {
        sum += record_slot_at(record->slots, i).sum;
    }
    EXPECT(sum == history->added[epoch]);
    double score = history->kind[epoch] == 's' ? (double)epoch * 100 : 0;
    EXPECT(record_score(record) == score + sum);
}

static void histories_converge(bool with_expiry, int round_count)
{
    static struct history history;
    for (int round = 0; round < round_count; round++) {
        memset(&history, 0, sizeof history);
        history.prng.state = test_seed + (uint64_t)round;
        history.with_expiry = with_expiry;
        run_history(&history);
        if (history.pool_count == 0) continue;

        struct held first = merge_at_random(&history);
        for (int i = 0; i < 6; i++) {
            struct held again = merge_at_random(&history);
            EXPECT(same(&first, &again));
        }
        struct held twice;
        join(&first, &first, &twice);
        EXPECT(same(&first, &twice));

        struct record record = view(&first);
        expect_value_of_its_set(&history, &record);
        if (!with_expiry) expect_oracle(&history, &record);
    }
}

TEST_CASE(replicas_agree_with_the_oracle_whatever_the_order)
{
    histories_converge(false, 3000);
}

TEST_CASE(replicas_agree_when_words_expire)
{
    histories_converge(true, 3000);
}

/* --- Join --- */

static struct record join_views(const struct record *a, const struct record *b)
{
    struct buf scratch = empty_buf();
    struct record out;
    EXPECT(record_join(a, b, &scratch, &out) == STATUS_OK);
    EXPECT(scratch.size == 0); /* So that `out` may outlive it here. */
    buf_deinit(&scratch);
    return out;
}

TEST_CASE(the_newer_tombstone_wins_and_an_older_one_ends_the_value)
{
    struct record tombstone = record_of_tombstone(version_at(5));
    struct record older = record_of_set(version_at(4), 1);
    struct record newer = record_of_set(version_at(6), 2);
    struct record same_version = record_of_set(version_at(5), 3);

    struct record out = join_views(&older, &tombstone);
    EXPECT(record_equal(&out, &tombstone));
    out = join_views(&same_version, &tombstone);
    EXPECT(record_equal(&out, &tombstone));
    out = join_views(&tombstone, &newer);
    EXPECT(record_is_present(&out) && record_score(&out) == 2);
    EXPECT(out.since.time == 5 && record_created(&out).time == 6);
}

TEST_CASE(a_tombstone_between_set_and_increment_makes_the_word_read_as_deleted)
{
    struct record counted = record_of_set(version_at(3), 1);
    counted.version = version_at(9); /* As an increment at 9 would leave it, slots aside. */
    struct record tombstone = record_of_tombstone(version_at(5));

    struct record out = join_views(&counted, &tombstone);
    EXPECT(!out.tombstone && !record_is_present(&out));
    EXPECT(best_is_none(record_best(&out)));
    EXPECT(out.score == 0 && out.version.time == 9);
}

TEST_CASE(creation_is_the_least_known_under_the_same_since)
{
    struct record a = record_of_set(version_at(8), 1);
    struct record b = record_of_set(version_at(9), 2);
    a.created = version_at(2);
    b.created = (struct version){0};

    struct record out = join_views(&a, &b);
    EXPECT(out.created.time == 2 && out.version.time == 9 && out.score == 2);
    EXPECT(record_created(&b).time == 9);
    a.since = version_at(1);
    b.since = version_at(3);
    out = join_views(&a, &b);
    EXPECT(version_is_none(out.created) && record_created(&out).time == 9);
}

TEST_CASE(the_score_shown_is_always_finite)
{
    struct buf slots = empty_buf();
    struct record record = record_of_set(version_at(1), 1e308);
    record_slot_append(&slots, &(struct record_slot){1, 1, 1.7e308});
    record_slot_append(&slots, &(struct record_slot){2, 1, 1.7e308});
    record.slots = buf_slice(&slots);
    EXPECT(isfinite(record_score(&record)));
    EXPECT(record_score(&record) > 1.7e308);
    buf_deinit(&slots);
}

TEST_CASE(too_many_slots_are_refused)
{
    struct buf even = empty_buf();
    struct buf odd = empty_buf();
    struct buf scratch = empty_buf();
    for (uint64_t i = 0; i < RECORD_SLOT_COUNT_MAX / 2 + 1; i++) {
        record_slot_append(&even, &(struct record_slot){2 * i, 1, 1});
        record_slot_append(&odd, &(struct record_slot){2 * i + 1, 1, 1});
    }
    struct record a = {.version = version_at(1), .slots = buf_slice(&even)};
    struct record b = {.version = version_at(2), .slots = buf_slice(&odd)};
    struct record out = record_of_tombstone(version_at(7));
    EXPECT(record_join(&a, &b, &scratch, &out) == STATUS_LIMIT);
    EXPECT(out.tombstone);

    heap.failure_after = 0;
    buf_deinit(&scratch);
    EXPECT(record_join(&a, &b, &scratch, &out) == STATUS_NOMEM);
    heap.failure_after = -1;
    buf_deinit(&even);
    buf_deinit(&odd);
    buf_deinit(&scratch);
}

/* --- Bytes --- */

static void expect_bytes(const struct record *record, struct slice want)
{
    struct buf out = empty_buf();
    record_encode(record, &out);
    EXPECT(slice_equal(buf_slice(&out), want));
    struct record decoded;
    EXPECT(record_decode(want, &decoded) == STATUS_OK);
    EXPECT(record_equal(&decoded, record));
    buf_deinit(&out);
}

/* 2026-01-01T00:00:00Z, counter 1, node 3. */
static const struct version documented = {.time = UINT64_C(0x19b76daa800) << 16 | 1, .node = 3};

static struct record documented_record(struct buf *slots)
{
    struct record record = record_of_set(documented, 2);
    record.version.time += 2;
    record.created.time -= 1;
    record.since = (struct version){documented.time - 2, 1};
    record.expires_at = 1798761600000;
    record.has_payload = true;
    record.payload = SLICE_LITERAL("hi");
    record.tags = SLICE_LITERAL("\4city\2eu");
    record_slot_append(slots, &(struct record_slot){.owner = 10, .sequence = 4, .sum = 0.5});
    record.slots = buf_slice(slots);
    return record;
}

/* The examples of docs/format/record.md. */
TEST_CASE(records_are_as_documented)
{
    struct record plain = record_of_set(documented, 1);
    struct record tombstone = record_of_tombstone(documented);
    struct buf slots = empty_buf();
    struct record full = documented_record(&slots);
    EXPECT(hlc_wall_ms(documented.time) == 1767225600000);
    EXPECT(record_is_plain(&plain) && !record_is_plain(&tombstone) && !record_is_plain(&full));

    expect_bytes(&plain, SLICE_LITERAL("\x00"
                                       "\x01\x00\x00\xa8\xda\x76\x9b\x01\x03\x00"
                                       "\x00\x00\x00\x00\x00\x00\xf0\x3f"));
    expect_bytes(&tombstone, SLICE_LITERAL("\x01"
                                           "\x01\x00\x00\xa8\xda\x76\x9b\x01\x03\x00"));
    expect_bytes(&full, SLICE_LITERAL("\xfe"
                                      "\x03\x00\x00\xa8\xda\x76\x9b\x01\x03\x00"
                                      "\xff\xff\xff\xa7\xda\x76\x9b\x01\x01\x00"
                                      "\x00\x00\x00\xa8\xda\x76\x9b\x01\x03\x00"
                                      "\x01\x00\x00\xa8\xda\x76\x9b\x01\x03\x00"
                                      "\x00\x00\x00\x00\x00\x00\x00\x40"
                                      "\x00\xd4\x8b\xce\xa2\x01\x00\x00"
                                      "\x02hi"
                                      "\x08\x04"
                                      "city\x02"
                                      "eu"
                                      "\x01"
                                      "\x0a\x00\x00\x00\x00\x00\x00\x00"
                                      "\x04\x00\x00\x00\x00\x00\x00\x00"
                                      "\x00\x00\x00\x00\x00\x00\xe0\x3f"));
    buf_deinit(&slots);
}

/* Copies `bytes` so that they end where the heap block ends: a read past it is seen by
 * the sanitizers. What decodes must encode to the same bytes. */
static bool decodes_to_itself(struct slice bytes)
{
    uint8_t *copy = malloc(bytes.size + (bytes.size == 0));
    memcpy(copy, bytes.data, bytes.size);
    struct record record = record_of_tombstone(version_at(77));
    enum status status = record_decode(slice_of(copy, bytes.size), &record);
    if (status == STATUS_OK) {
        struct buf again = empty_buf();
        record_encode(&record, &again);
        EXPECT(slice_equal(buf_slice(&again), bytes));
        buf_deinit(&again);
    } else {
        EXPECT(status == STATUS_CORRUPT && record.version.time == 77);
    }
    free(copy);
    return status == STATUS_OK;
}

TEST_CASE(damaged_bytes_are_refused_or_canonical)
{
    struct buf slots = empty_buf();
    struct buf bytes = empty_buf();
    struct record full = documented_record(&slots);
    record_encode(&full, &bytes);

    for (size_t size = 0; size < bytes.size; size++) {
        EXPECT(!decodes_to_itself(slice_prefix(buf_slice(&bytes), size)));
    }
    for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        decodes_to_itself(buf_slice(&bytes));
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    EXPECT(decodes_to_itself(buf_slice(&bytes)));
    buf_append_u8(&bytes, 0);
    EXPECT(!decodes_to_itself(buf_slice(&bytes)));
    buf_deinit(&bytes);
    buf_deinit(&slots);
}

/* Some of few versions, a tombstone or not, with slots that count from 1 or from a time. */
static void draw_record(struct prng *prng, struct held *out)
{
    enum { TIMES = 6 };
    uint64_t times[3], first = RECORD_SEQUENCE_TIME_MIN;
    for (int i = 0; i < 3; i++) times[i] = prng_below(prng, TIMES);
    uint64_t since = u64_min(times[0], times[1]), set = u64_max(times[0], times[1]);
    struct version version = {first + u64_max(set + 1, times[2]), 1};
    struct record record = record_of_tombstone(version);
    struct buf slots = empty_buf();
    if (!prng_one_in(prng, 4)) {
        record.tombstone = false;
        /* One version stands for one write: what is set then is alike wherever it stands. */
        record.since = since == 0 ? (struct version){0} : (struct version){first + since, 1};
        record.set = set == 0 ? (struct version){0} : (struct version){first + set, 1};
        record.created = version;
        if (set != since) record.score = (double)set;
        for (uint64_t owner = 1; owner <= 3; owner++) {
            struct record_slot slot = {.owner = owner};
            if (prng_one_in(prng, 2)) continue;
            bool timed = prng_one_in(prng, 2);
            slot.sequence = timed ? first + prng_below(prng, TIMES) : 1 + prng_below(prng, 3);
            if (timed && slot.sequence > version.time) slot.sequence = version.time;
            slot.sum = (double)(slot.sequence % 1024);
            record_slot_append(&slots, &slot);
        }
        record.slots = buf_slice(&slots);
    }
    hold(out, &record);
    buf_deinit(&slots);
}

static bool has_slot(const struct record *record, const struct record_slot *slot)
{
    for (size_t i = 0; i < record->slots.size / RECORD_SLOT_BYTES; i++) {
        struct record_slot other = record_slot_at(record->slots, i);
        if (other.owner == slot->owner && other.sequence == slot->sequence) return true;
    }
    return false;
}

/* Slots that none of the parts has whose set the joined record has. */
static uint64_t count_from_losers(const struct record *joined, const struct held parts[3])
{
    uint64_t count = 0;
    for (size_t i = 0; i < joined->slots.size / RECORD_SLOT_BYTES; i++) {
        struct record_slot slot = record_slot_at(joined->slots, i);
        bool won = false;
        for (int j = 0; j < 3; j++) {
            struct record part = view(&parts[j]);
            won = won || (version_equal(part.set, joined->set) && has_slot(&part, &slot));
        }
        count += !won;
    }
    return count;
}

TEST_CASE(slots_that_outlive_a_set_join_in_any_order)
{
    struct prng prng = {.state = test_seed};
    uint64_t outlived = 0;
    for (int round = 0; round < 50000; round++) {
        struct held parts[3], left, right, all[3];
        for (int i = 0; i < 3; i++) draw_record(&prng, &parts[i]);
        for (int i = 0; i < 3; i++) {
            join(&parts[i], &parts[(i + 1) % 3], &left);
            join(&left, &parts[(i + 2) % 3], &all[i]);
            join(&parts[(i + 1) % 3], &parts[i], &right);
            EXPECT(left.size == right.size && memcmp(left.bytes, right.bytes, left.size) == 0);
            join(&all[i], &parts[i], &right);
            EXPECT(all[i].size == right.size && memcmp(all[i].bytes, right.bytes, right.size) == 0);
            EXPECT(all[i].size == all[0].size &&
                   memcmp(all[i].bytes, all[0].bytes, all[0].size) == 0);
        }
        struct record joined = view(&all[0]);
        outlived += count_from_losers(&joined, parts);
    }
    EXPECT(outlived > 200);
}

static bool refused(const struct record *record)
{
    struct buf bytes = empty_buf();
    struct record out;
    record_encode(record, &bytes);
    bool result = record_decode(buf_slice(&bytes), &out) == STATUS_CORRUPT;
    buf_deinit(&bytes);
    return result;
}

TEST_CASE(records_that_break_a_rule_are_refused)
{
    struct record good = record_of_set(version_at(9), 1);
    struct record record = good;
    EXPECT(!refused(&record));
    struct buf slots = empty_buf();
    for (uint64_t ahead = 0; ahead < 2; ahead++) { /* It would outlive a set after it. */
        record = record_of_set(version_at(RECORD_SEQUENCE_TIME_MIN + 5), 1);
        buf_clear(&slots);
        record_slot_append(&slots, &(struct record_slot){1, record.version.time + ahead, 1});
        record.slots = buf_slice(&slots);
        EXPECT(refused(&record) == (ahead != 0));
    }
    buf_deinit(&slots);
    record = good;
    struct record late = record_of_tombstone((struct version){VERSION_TIME_MAX, 1});
    EXPECT(!refused(&late));
    late.version.time++;
    EXPECT(refused(&late));
    record.score = NAN;
    EXPECT(refused(&record));
    record.score = INFINITY;
    EXPECT(refused(&record));
    record.score = -0.0;
    EXPECT(refused(&record));
    record = good;
    record.since = version_at(9);
    EXPECT(refused(&record));
    record = good;
    record.set = version_at(10);
    EXPECT(refused(&record));
    record.set = version_at(2);
    record.since = version_at(3);
    EXPECT(refused(&record));
    record = good;
    record.created = version_at(10);
    EXPECT(refused(&record));
    record = good;
    record.set = record.since = version_at(4);
    EXPECT(refused(&record));
    record.score = 0;
    EXPECT(!refused(&record));
    record = good;
    record.tags = SLICE_LITERAL("\1b\1a");
    EXPECT(refused(&record));
    record.tags = SLICE_LITERAL("\1a\1a");
    EXPECT(refused(&record));
    record.tags = SLICE_LITERAL("\0");
    EXPECT(refused(&record));
    record.tags = SLICE_LITERAL("\2a");
    EXPECT(refused(&record));
    struct record none = record_of_tombstone((struct version){0});
    EXPECT(refused(&none));
}

/* --- Hash and tags --- */

TEST_CASE(the_hash_tells_everything_apart_but_since)
{
    struct buf slots = empty_buf();
    struct record full = documented_record(&slots);
    struct slice key = SLICE_LITERAL("n\0a");
    struct sum sum = record_hash(key, &full, 1);

    struct record other = full;
    other.since = (struct version){0};
    EXPECT(sum_equal(sum, record_hash(key, &other, 1)));
    EXPECT(!sum_equal(sum, record_hash(key, &full, 2)));
    EXPECT(!sum_equal(sum, record_hash(SLICE_LITERAL("n\0b"), &full, 1)));
    other = full;
    other.score = 3;
    EXPECT(!sum_equal(sum, record_hash(key, &other, 1)));
    other = full;
    other.payload = SLICE_LITERAL("ho");
    EXPECT(!sum_equal(sum, record_hash(key, &other, 1)));
    other = full;
    other.tags = SLICE_LITERAL("\4city");
    EXPECT(!sum_equal(sum, record_hash(key, &other, 1)));
    other = full;
    other.created.node++;
    EXPECT(!sum_equal(sum, record_hash(key, &other, 1)));
    other = record_of_tombstone(full.version);
    EXPECT(!sum_equal(sum, record_hash(key, &other, 1)));
    buf_deinit(&slots);
}

TEST_CASE(tags_are_built_sorted_and_once)
{
    struct buf out = empty_buf();
    struct slice tags[] = {SLICE_LITERAL("b"), SLICE_LITERAL("ab"), SLICE_LITERAL("b"),
                           SLICE_LITERAL("a")};
    EXPECT(record_tags_build(tags, 4, &out) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&out), SLICE_LITERAL("\1a\2ab\1b")));
    struct record record = record_of_set(version_at(1), 1);
    record.tags = buf_slice(&out);
    EXPECT(record_has_tag(&record, SLICE_LITERAL("ab")));
    EXPECT(!record_has_tag(&record, SLICE_LITERAL("abc")));
    buf_clear(&out);

    static uint8_t bytes[TAG_BYTES_MAX + 1];
    struct slice many[TAG_COUNT_MAX + 1];
    for (size_t i = 0; i < TAG_COUNT_MAX + 1; i++) many[i] = SLICE_LITERAL("x");
    EXPECT(record_tags_build(many, TAG_COUNT_MAX + 1, &out) == STATUS_LIMIT);
    many[1] = slice_of(bytes, sizeof bytes);
    EXPECT(record_tags_build(many, 2, &out) == STATUS_INVALID);
    many[1] = slice_of(bytes, 0);
    EXPECT(record_tags_build(many, 2, &out) == STATUS_INVALID);
    EXPECT(out.size == 0);
    buf_deinit(&out);
}

TEST_MAIN(TEST(replicas_agree_with_the_oracle_whatever_the_order),
          TEST(replicas_agree_when_words_expire),
          TEST(the_newer_tombstone_wins_and_an_older_one_ends_the_value),
          TEST(a_tombstone_between_set_and_increment_makes_the_word_read_as_deleted),
          TEST(creation_is_the_least_known_under_the_same_since),
          TEST(slots_that_outlive_a_set_join_in_any_order), TEST(the_score_shown_is_always_finite),
          TEST(too_many_slots_are_refused), TEST(records_are_as_documented),
          TEST(damaged_bytes_are_refused_or_canonical), TEST(records_that_break_a_rule_are_refused),
          TEST(the_hash_tells_everything_apart_but_since), TEST(tags_are_built_sorted_and_once))
