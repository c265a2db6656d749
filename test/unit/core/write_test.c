#include "core/write.h"

#include <float.h>
#include <math.h>

#include "test.h"

enum { NOW_MS = 1000 };

static struct heap heap;
static struct buf scratch;

static void begin(void)
{
    heap_init(&heap, 0);
    buf_init(&scratch, &heap);
}

static struct version version_at(uint64_t time)
{
    return (struct version){.time = time, .node = 1};
}

static struct write_value value_of(double score)
{
    return (struct write_value){.score = score};
}

static struct record set(const struct record *current, uint64_t now_ms, uint64_t time, double score,
                         struct write_outcome *outcome)
{
    struct record out;
    struct write_value value = value_of(score);
    EXPECT(write_set(current, now_ms, version_at(time), &value, &out, outcome) == STATUS_OK);
    EXPECT(outcome->score == score);
    return out;
}

static void expect_joins_to_itself(const struct record *current, const struct record *result)
{
    struct buf own;
    struct record joined;
    buf_init(&own, &heap);
    EXPECT(record_join(current, result, &own, &joined) == STATUS_OK);
    EXPECT(record_equal(&joined, result));
    buf_deinit(&own);
}

TEST_CASE(a_first_set_makes_a_plain_record)
{
    struct write_outcome outcome;
    struct record record = set(NULL, NOW_MS, 5, 2, &outcome);
    EXPECT(record_is_plain(&record));
    EXPECT(!outcome.was_live);
}

TEST_CASE(creation_survives_updates_and_ends_with_a_removal)
{
    begin();
    struct write_outcome outcome;
    struct record first = set(NULL, NOW_MS, 5, 2, &outcome);
    struct record second = set(&first, NOW_MS, 6, 3, &outcome);
    EXPECT(outcome.was_live);
    EXPECT(second.created.time == 5 && second.set.time == 6);
    expect_joins_to_itself(&first, &second);

    struct record removed;
    EXPECT(write_remove(&second, NOW_MS, version_at(7), &removed, &outcome) == STATUS_OK);
    EXPECT(outcome.was_live && removed.tombstone);
    expect_joins_to_itself(&second, &removed);
    struct record third = set(&removed, NOW_MS, 8, 4, &outcome);
    EXPECT(!outcome.was_live);
    EXPECT(third.created.time == 8 && third.since.time == 7);
    expect_joins_to_itself(&removed, &third);
    struct record fourth = set(&third, NOW_MS, 9, 5, &outcome);
    EXPECT(fourth.created.time == 8 && fourth.since.time == 7);
    EXPECT(write_remove(NULL, NOW_MS, version_at(7), &removed, &outcome) == STATUS_OK);
    EXPECT(!outcome.was_live && removed.tombstone);
}

TEST_CASE(an_expired_record_is_replaced_as_if_deleted)
{
    begin();
    struct write_outcome outcome;
    struct record current = set(NULL, 10, 5, 2, &outcome);
    current.expires_at = 100;

    struct record early = set(&current, 99, 6, 3, &outcome);
    EXPECT(outcome.was_live && early.created.time == 5 && version_is_none(early.since));
    struct record late = set(&current, 100, 6, 3, &outcome);
    EXPECT(!outcome.was_live && late.created.time == 6 && late.since.time == 5);
    EXPECT(late.expires_at == 0);
    expect_joins_to_itself(&current, &late);

    struct record counted;
    EXPECT(write_increment(&current, 100, version_at(7), 4, 1, 0, &scratch, &counted, &outcome) ==
           STATUS_OK);
    EXPECT(!outcome.was_live && outcome.score == 4);
    EXPECT(counted.since.time == 5 && counted.set.time == 5 && counted.created.time == 7);
    expect_joins_to_itself(&current, &counted);
    struct record removed;
    EXPECT(write_remove(&current, 100, version_at(7), &removed, &outcome) == STATUS_OK);
    EXPECT(!outcome.was_live);
    buf_deinit(&scratch);
}

TEST_CASE(increments_keep_the_value_and_add_to_their_own_slot)
{
    begin();
    struct buf other;
    buf_init(&other, &heap);
    struct write_outcome outcome;
    struct write_value value = value_of(10);
    value.has_payload = true;
    value.payload = SLICE_LITERAL("p");
    struct record first;
    EXPECT(write_set(NULL, NOW_MS, version_at(1), &value, &first, &outcome) == STATUS_OK);

    struct record second;
    struct record third;
    EXPECT(write_increment(&first, NOW_MS, version_at(2), 2, 7, 0, &scratch, &second, &outcome) ==
           STATUS_OK);
    EXPECT(outcome.was_live && outcome.score == 12);
    EXPECT(write_increment(&second, NOW_MS, version_at(3), 1, 3, 0, &other, &third, &outcome) ==
           STATUS_OK);
    EXPECT(write_increment(&third, NOW_MS, version_at(4), 5, 7, 0, &scratch, &second, &outcome) ==
           STATUS_OK);
    EXPECT(outcome.score == 18);
    EXPECT(second.slots.size == 2 * RECORD_SLOT_BYTES);
    EXPECT(record_slot_at(second.slots, 0).owner == 3);
    struct record_slot slot = record_slot_at(second.slots, 1);
    EXPECT(slot.owner == 7 && slot.sequence == 2 && slot.sum == 7);
    EXPECT(second.created.time == 1 && second.set.time == 1);
    EXPECT(second.has_payload && slice_equal(second.payload, SLICE_LITERAL("p")));
    expect_joins_to_itself(&third, &second);

    struct record last = set(&second, NOW_MS, 5, 1, &outcome);
    EXPECT(last.slots.size == 0 && last.created.time == 1);
    expect_joins_to_itself(&second, &last);
    buf_deinit(&other);
    buf_deinit(&scratch);
}

TEST_CASE(a_word_made_by_increments_alone_has_no_set)
{
    begin();
    struct write_outcome outcome;
    struct record record;
    EXPECT(write_increment(NULL, NOW_MS, version_at(2), 0, 7, 0, &scratch, &record, &outcome) ==
           STATUS_OK);
    EXPECT(!outcome.was_live && outcome.score == 0);
    EXPECT(record_is_present(&record) && version_is_none(record.set));
    EXPECT(record.created.time == 2);
    buf_deinit(&scratch);
}

/* Though removals up to later than the set are forgotten. */
TEST_CASE(what_was_added_to_a_value_ends_when_that_expires)
{
    begin();
    enum { FIRST = 7, SECOND = 9 };
    const uint64_t at = 2 * RECORD_SEQUENCE_TIME_MIN;
    struct buf other;
    struct write_outcome outcome;
    struct record current, counted, again;
    struct write_value value = value_of(10);
    buf_init(&other, &heap);
    value.expires_at = NOW_MS + 10;
    EXPECT(write_set(NULL, NOW_MS, version_at(at), &value, &current, &outcome) == STATUS_OK);
    EXPECT(write_increment(&current, NOW_MS, version_at(at + 100), 2, FIRST, at + 50, &scratch,
                           &counted, &outcome) == STATUS_OK);
    EXPECT(outcome.score == 12 && record_slot_at(counted.slots, 0).sequence == 1);
    EXPECT(write_increment(&counted, NOW_MS + 20, version_at(at + 200), 4, SECOND, at + 150, &other,
                           &again, &outcome) == STATUS_OK);
    EXPECT(!outcome.was_live && outcome.score == 4);
    EXPECT(record_slot_at(again.slots, 0).sequence == at + 151);
    expect_joins_to_itself(&counted, &again);
    buf_deinit(&other);
    buf_deinit(&scratch);
}

TEST_CASE(what_cannot_be_stored_is_refused_and_changes_nothing)
{
    begin();
    struct write_outcome outcome = {true, 77};
    struct record current = record_of_set(version_at(5), DBL_MAX);
    struct record out = record_of_tombstone(version_at(77));
    struct write_value value = value_of(NAN);
    EXPECT(write_set(NULL, NOW_MS, version_at(6), &value, &out, &outcome) == STATUS_INVALID);
    value.score = -INFINITY;
    EXPECT(write_set(NULL, NOW_MS, version_at(6), &value, &out, &outcome) == STATUS_INVALID);
    value = value_of(1);
    EXPECT(write_set(&current, NOW_MS, version_at(5), &value, &out, &outcome) == STATUS_STALE);
    EXPECT(write_remove(&current, NOW_MS, version_at(4), &out, &outcome) == STATUS_STALE);
    EXPECT(write_increment(&current, NOW_MS, version_at(5), 1, 1, 0, &scratch, &out, &outcome) ==
           STATUS_STALE);
    EXPECT(write_increment(&current, NOW_MS, version_at(6), INFINITY, 1, 0, &scratch, &out,
                           &outcome) == STATUS_INVALID);
    EXPECT(write_increment(&current, NOW_MS, version_at(6), 1e308, 1, 0, &scratch, &out,
                           &outcome) == STATUS_INVALID);
    buf_deinit(&scratch);
    heap.failure_after = 0;
    EXPECT(write_increment(&current, NOW_MS, version_at(6), 1, 1, 0, &scratch, &out, &outcome) ==
           STATUS_NOMEM);
    EXPECT(out.version.time == 77 && outcome.score == 77 && outcome.was_live);
    buf_deinit(&scratch);
}

TEST_CASE(negative_zero_is_stored_as_zero)
{
    struct write_outcome outcome;
    struct record out;
    struct write_value value = value_of(-0.0);
    EXPECT(write_set(NULL, NOW_MS, version_at(6), &value, &out, &outcome) == STATUS_OK);
    EXPECT(!signbit(out.score) && !signbit(outcome.score));
}

TEST_MAIN(TEST(a_first_set_makes_a_plain_record),
          TEST(creation_survives_updates_and_ends_with_a_removal),
          TEST(an_expired_record_is_replaced_as_if_deleted),
          TEST(increments_keep_the_value_and_add_to_their_own_slot),
          TEST(a_word_made_by_increments_alone_has_no_set),
          TEST(what_was_added_to_a_value_ends_when_that_expires),
          TEST(what_cannot_be_stored_is_refused_and_changes_nothing),
          TEST(negative_zero_is_stored_as_zero))
