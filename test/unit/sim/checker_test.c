/* Histories made by hand, each wrong in one way or just right. */
#include "sim/checker.h"

#include "test.h"

enum { WORDS = 16, VALUE = 0, OTHER = 1, COUNTER = 3, MIXED = 5, EXPIRING = 7 };

struct history {
    struct checker checker;
    uint64_t now_us;
};

static void history_init(struct history *history)
{
    history->now_us = 1000;
    checker_init(&history->checker,
                 &(struct checker_options){.word_count = WORDS, .writes_meet = true});
}

static void history_deinit(struct history *history)
{
    checker_deinit(&history->checker);
}

static bool found(const struct history *history, enum sim_check check)
{
    if (history->checker.finding.check != check)
        fprintf(stderr, "found %s: %s\n", sim_check_name(history->checker.finding.check),
                history->checker.finding.text);
    return history->checker.finding.check == check;
}

static uint32_t invoke(struct history *history, enum request_kind kind, uint32_t word, double score)
{
    return checker_invoke(
        &history->checker, history->now_us++,
        &(struct operation){.kind = kind, .word = word, .score = score, .strict = true});
}

static struct version at(uint64_t ms)
{
    return (struct version){ms << HLC_COUNTER_BITS, 1};
}

static void told(struct history *history, uint32_t operation, uint64_t version_ms)
{
    struct request_reply reply = {.outcome = REQUEST_DONE, .version = at(version_ms)};
    if (version_ms == 0) reply.version = (struct version){0};
    checker_reply(&history->checker, history->now_us++, operation, &(struct request){0}, &reply);
}

static uint32_t write_done(struct history *history, enum request_kind kind, uint32_t word,
                           double score, uint64_t version_ms)
{
    uint32_t operation = invoke(history, kind, word, score);
    told(history, operation, version_ms);
    return operation;
}

/* A record as the set `operation` made it, with increments of `added` since. */
static struct record record_of(uint32_t operation, double score, uint64_t set_ms, double added,
                               struct buf *bytes)
{
    struct record record = record_of_set(at(set_ms), score);
    char payload[24];
    size_t size = checker_payload(operation, payload);
    EXPECT(buf_reserve(bytes, 256) != NULL);
    record.has_payload = true;
    record.payload = slice_of(bytes->data + bytes->size, size);
    buf_append(bytes, payload, size);
    if (added != 0) {
        record.slots = slice_of(bytes->data + bytes->size, RECORD_SLOT_BYTES);
        record_slot_append(bytes, &(struct record_slot){1, 1, added});
    }
    return record;
}

static struct record counter_of(double sum, uint64_t version_ms, struct buf *bytes)
{
    struct record record = {.version = at(version_ms), .created = at(version_ms)};
    EXPECT(buf_reserve(bytes, 256) != NULL);
    record.slots = slice_of(bytes->data + bytes->size, RECORD_SLOT_BYTES);
    record_slot_append(bytes, &(struct record_slot){1, 1, sum});
    return record;
}

static void read_record(struct history *history, uint32_t get, const struct record *record)
{
    uint32_t word = history->checker.operations[get].word;
    struct request request = {.kind = REQUEST_GET, .key = history->checker.words[word].key};
    struct request_entry entry = {request.key, *record};
    struct request_reply reply = {.outcome = REQUEST_DONE, .entries = &entry, .entry_count = 1};
    checker_reply(&history->checker, history->now_us++, get, &request, &reply);
}

static void read_absent(struct history *history, uint32_t get)
{
    struct request request = {.kind = REQUEST_GET};
    struct request_reply reply = {.outcome = REQUEST_ABSENT};
    checker_reply(&history->checker, history->now_us++, get, &request, &reply);
}

TEST_CASE(words_are_found_by_their_keys_and_are_prefixes_of_others)
{
    struct history history;
    history_init(&history);
    for (uint32_t word = 0; word < WORDS; word++)
        EXPECT(checker_find(&history.checker, history.checker.words[word].key) == word);
    EXPECT(checker_find(&history.checker, SLICE_LITERAL("w")) == NO_WORD);
    EXPECT(slice_equal(history.checker.words[0].text, SLICE_LITERAL("a")));
    EXPECT(slice_equal(history.checker.words[3].text, SLICE_LITERAL("aa")));
    EXPECT(slice_equal(history.checker.words[12].text, SLICE_LITERAL("aaa")));
    history_deinit(&history);
}

TEST_CASE(a_read_of_what_was_written_is_right)
{
    struct history history;
    struct buf bytes = {.heap = &history.checker.heap};
    history_init(&history);
    uint32_t set = write_done(&history, REQUEST_SET, VALUE, 5, 10);
    struct record record = record_of(set, 5, 10, 0, &bytes);
    read_record(&history, invoke(&history, REQUEST_GET, VALUE, 0), &record);
    write_done(&history, REQUEST_REMOVE, VALUE, 0, 11);
    read_absent(&history, invoke(&history, REQUEST_GET, VALUE, 0));
    EXPECT(found(&history, SIM_CHECK_NONE));
    buf_deinit(&bytes);
    history_deinit(&history);
}

TEST_CASE(a_read_older_than_what_was_acknowledged_before_it_began_is_stale)
{
    struct history history;
    struct buf bytes = {.heap = &history.checker.heap};
    history_init(&history);
    uint32_t old = write_done(&history, REQUEST_SET, VALUE, 5, 10);
    struct record record = record_of(old, 5, 10, 0, &bytes);
    uint32_t early = invoke(&history, REQUEST_GET, VALUE, 0);
    write_done(&history, REQUEST_SET, VALUE, 6, 11);
    read_record(&history, early, &record); /* It began before. */
    EXPECT(found(&history, SIM_CHECK_NONE));
    read_record(&history, invoke(&history, REQUEST_GET, VALUE, 0), &record);
    EXPECT(found(&history, SIM_CHECK_STALE));
    buf_deinit(&bytes);
    history_deinit(&history);
}

TEST_CASE(a_deleted_word_is_not_read_again)
{
    struct history history;
    struct buf bytes = {.heap = &history.checker.heap};
    history_init(&history);
    uint32_t set = write_done(&history, REQUEST_SET, VALUE, 5, 10);
    write_done(&history, REQUEST_REMOVE, VALUE, 0, 11);
    struct record record = record_of(set, 5, 10, 0, &bytes);
    read_record(&history, invoke(&history, REQUEST_GET, VALUE, 0), &record);
    EXPECT(found(&history, SIM_CHECK_STALE));
    buf_deinit(&bytes);
    history_deinit(&history);
}

TEST_CASE(a_word_is_absent_only_if_somebody_may_have_removed_it)
{
    struct history history;
    history_init(&history);
    write_done(&history, REQUEST_SET, VALUE, 5, 10);
    uint32_t remove = invoke(&history, REQUEST_REMOVE, VALUE, 0);
    read_absent(&history, invoke(&history, REQUEST_GET, VALUE, 0));
    checker_give_up(&history.checker, history.now_us++, remove, false);
    read_absent(&history, invoke(&history, REQUEST_GET, VALUE, 0));
    EXPECT(found(&history, SIM_CHECK_NONE));
    write_done(&history, REQUEST_SET, VALUE, 6, 12);
    checker_settle(&history.checker, VALUE, history.now_us);
    read_absent(&history, invoke(&history, REQUEST_GET, VALUE, 0));
    EXPECT(found(&history, SIM_CHECK_STALE));
    history_deinit(&history);
}

static const struct request scan = {.kind = REQUEST_SCAN, .key = {(const uint8_t *)"w", 1}};

/* A removal that may have happened is settled by a set after it: the walk that began before that set
 * may do without the word. */
TEST_CASE(a_removal_nobody_knows_of_leaves_a_doubt_about_what_was_before)
{
    struct history history;
    bool seen[WORDS] = {0};
    history_init(&history);
    write_done(&history, REQUEST_SET, VALUE, 5, 10);
    uint32_t remove = invoke(&history, REQUEST_REMOVE, VALUE, 0);
    checker_give_up(&history.checker, history.now_us++, remove, false);
    uint64_t since_us = history.now_us++;
    write_done(&history, REQUEST_SET, VALUE, 6, 12);
    checker_settle(&history.checker, VALUE, history.now_us);
    checker_walked(&history.checker, history.now_us, since_us, &scan, seen);
    EXPECT(found(&history, SIM_CHECK_NONE));
    history_deinit(&history);

    /* Without the removal it must give it. */
    history_init(&history);
    write_done(&history, REQUEST_SET, VALUE, 5, 10);
    since_us = history.now_us++;
    write_done(&history, REQUEST_SET, VALUE, 6, 12);
    checker_walked(&history.checker, history.now_us, since_us, &scan, seen);
    EXPECT(found(&history, SIM_CHECK_SCAN));
    history_deinit(&history);
}

TEST_CASE(a_write_under_an_older_version_is_hidden)
{
    struct history history;
    history_init(&history);
    uint32_t early = invoke(&history, REQUEST_SET, VALUE, 1);
    write_done(&history, REQUEST_SET, VALUE, 5, 10);
    told(&history, early, 9); /* At the same time: either may win. */
    EXPECT(found(&history, SIM_CHECK_NONE));
    write_done(&history, REQUEST_REMOVE, VALUE, 0, 10);
    EXPECT(found(&history, SIM_CHECK_HIDDEN));
    history_deinit(&history);
}

/* What is read of `word`, and how it is wrong. */
static enum sim_check read_finds(uint32_t written, uint32_t read, double score, uint64_t version_ms)
{
    struct history history;
    struct buf bytes = {.heap = &history.checker.heap};
    history_init(&history);
    uint32_t set = write_done(&history, REQUEST_SET, written, 5, 10);
    uint32_t refused = invoke(&history, REQUEST_SET, written, 6);
    checker_give_up(&history.checker, history.now_us++, refused, true);
    struct record record = record_of(score == 6 ? refused : set, score, version_ms, 0, &bytes);
    if (score == 7) record.payload = SLICE_LITERAL("x");
    checker_look_at(&history.checker, history.now_us, read, &record);
    enum sim_check check = history.checker.finding.check;
    buf_deinit(&bytes);
    history_deinit(&history);
    return check;
}

TEST_CASE(a_value_that_nobody_wrote_is_invented)
{
    EXPECT(read_finds(VALUE, VALUE, 5, 10) == SIM_CHECK_NONE);
    EXPECT(read_finds(VALUE, VALUE, 4, 10) == SIM_CHECK_INVENTED);
    EXPECT(read_finds(VALUE, VALUE, 5, 11) == SIM_CHECK_INVENTED); /* Not the version told. */
    EXPECT(read_finds(VALUE, VALUE, 6, 10) == SIM_CHECK_INVENTED); /* It failed. */
    EXPECT(read_finds(VALUE, VALUE, 7, 10) == SIM_CHECK_INVENTED); /* A strange payload. */
    EXPECT(read_finds(VALUE, OTHER, 5, 10) == SIM_CHECK_INVENTED);
}

static enum sim_check counter_finds(double sum)
{
    struct history history;
    struct buf bytes = {.heap = &history.checker.heap};
    history_init(&history);
    write_done(&history, REQUEST_INCREMENT, COUNTER, 2, 10);
    uint32_t unknown = invoke(&history, REQUEST_INCREMENT, COUNTER, 3);
    checker_give_up(&history.checker, history.now_us++, unknown, false);
    uint32_t refused = invoke(&history, REQUEST_INCREMENT, COUNTER, 4);
    checker_give_up(&history.checker, history.now_us++, refused, true);
    struct record record = counter_of(sum, 12, &bytes);
    read_record(&history, invoke(&history, REQUEST_GET, COUNTER, 0), &record);
    enum sim_check check = history.checker.finding.check;
    buf_deinit(&bytes);
    history_deinit(&history);
    return check;
}

TEST_CASE(a_counter_lies_between_what_was_acknowledged_and_what_was_attempted)
{
    EXPECT(counter_finds(1) == SIM_CHECK_COUNTER);
    EXPECT(counter_finds(2) == SIM_CHECK_NONE);
    EXPECT(counter_finds(5) == SIM_CHECK_NONE);
    EXPECT(counter_finds(6) == SIM_CHECK_COUNTER);
}

static enum sim_check mixed_finds(double added)
{
    struct history history;
    struct buf bytes = {.heap = &history.checker.heap};
    history_init(&history);
    write_done(&history, REQUEST_INCREMENT, MIXED, 9, 8);
    uint32_t set = write_done(&history, REQUEST_SET, MIXED, 5, 10);
    write_done(&history, REQUEST_INCREMENT, MIXED, 2, 11);
    uint32_t unknown = invoke(&history, REQUEST_INCREMENT, MIXED, 1);
    checker_give_up(&history.checker, history.now_us++, unknown, false);
    struct record record = record_of(set, 5, 10, added, &bytes);
    record.version = at(12);
    read_record(&history, invoke(&history, REQUEST_GET, MIXED, 0), &record);
    enum sim_check check = history.checker.finding.check;
    buf_deinit(&bytes);
    history_deinit(&history);
    return check;
}

TEST_CASE(a_set_ends_what_was_added_before_and_keeps_what_comes_after)
{
    EXPECT(mixed_finds(1) == SIM_CHECK_COUNTER);
    EXPECT(mixed_finds(2) == SIM_CHECK_NONE);
    EXPECT(mixed_finds(3) == SIM_CHECK_NONE);
    EXPECT(mixed_finds(11) == SIM_CHECK_COUNTER); /* The nine of before live on. */
}

/* Pages and numbers over two words of 5 and 6. */
struct pages {
    struct history history;
    struct buf bytes;
    struct request_entry entries[2]; /* By score. */
};

static void pages_init(struct pages *pages)
{
    history_init(&pages->history);
    pages->bytes = (struct buf){.heap = &pages->history.checker.heap};
    EXPECT(buf_reserve(&pages->bytes, 4096) != NULL);
    const struct word *words = pages->history.checker.words;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t set = write_done(&pages->history, REQUEST_SET, i, 5 + i, 10 + i);
        pages->entries[1 - i] =
            (struct request_entry){words[i].key, record_of(set, 5 + i, 10 + i, 0, &pages->bytes)};
    }
}

static enum sim_check page_finds(enum request_kind kind, unsigned first, unsigned count,
                                 bool swapped, uint64_t counted)
{
    struct pages pages;
    pages_init(&pages);
    if (swapped) {
        struct request_entry entry = pages.entries[0];
        pages.entries[0] = pages.entries[1];
        pages.entries[1] = entry;
    }
    struct request request = {.kind = kind, .key = SLICE_LITERAL("w"), .limit = 10};
    struct request_reply reply = {.outcome = REQUEST_DONE,
                                  .entries = &pages.entries[first],
                                  .entry_count = count,
                                  .count = counted};
    uint32_t read = invoke(&pages.history, kind, NO_WORD, 0);
    checker_reply(&pages.history.checker, pages.history.now_us++, read, &request, &reply);
    enum sim_check check = pages.history.checker.finding.check;
    buf_deinit(&pages.bytes);
    history_deinit(&pages.history);
    return check;
}

TEST_CASE(the_best_come_in_order_and_none_is_left_out)
{
    EXPECT(page_finds(REQUEST_BEST, 0, 2, false, 0) == SIM_CHECK_NONE);
    EXPECT(page_finds(REQUEST_BEST, 0, 2, true, 0) == SIM_CHECK_ORDER);
    EXPECT(page_finds(REQUEST_BEST, 1, 1, false, 0) == SIM_CHECK_ORDER);
    EXPECT(page_finds(REQUEST_SCAN, 0, 2, true, 0) == SIM_CHECK_NONE);
    EXPECT(page_finds(REQUEST_SCAN, 0, 2, false, 0) == SIM_CHECK_ORDER);
}

TEST_CASE(a_count_lies_between_what_was_and_what_may_have_been_there)
{
    EXPECT(page_finds(REQUEST_COUNT, 0, 0, false, 1) == SIM_CHECK_COUNT);
    EXPECT(page_finds(REQUEST_COUNT, 0, 0, false, 2) == SIM_CHECK_NONE);
    EXPECT(page_finds(REQUEST_COUNT, 0, 0, false, 3) == SIM_CHECK_COUNT);
}

TEST_CASE(a_walk_gives_each_word_that_was_there_throughout)
{
    struct history history;
    history_init(&history);
    write_done(&history, REQUEST_SET, VALUE, 5, 10);
    write_done(&history, REQUEST_SET, OTHER, 5, 10);
    uint64_t since_us = history.now_us++;
    write_done(&history, REQUEST_REMOVE, OTHER, 0, 11);
    bool seen[WORDS] = {[VALUE] = true};
    checker_walked(&history.checker, history.now_us, since_us, &scan, seen);
    EXPECT(found(&history, SIM_CHECK_NONE));
    seen[VALUE] = false;
    checker_walked(&history.checker, history.now_us, since_us, &scan, seen);
    EXPECT(found(&history, SIM_CHECK_SCAN));
    history_deinit(&history);
}

/* One that gets another score meanwhile may be met once, twice or never. */
TEST_CASE(a_walk_by_scores_gives_each_word_that_kept_its_place)
{
    struct request best = {.kind = REQUEST_BEST, .key = SLICE_LITERAL("w")};
    struct history history;
    history_init(&history);
    write_done(&history, REQUEST_SET, VALUE, 5, 10);
    write_done(&history, REQUEST_SET, OTHER, 5, 10);
    uint64_t since_us = history.now_us++;
    write_done(&history, REQUEST_SET, OTHER, 7, 11);
    bool seen[WORDS] = {[VALUE] = true};
    checker_walked(&history.checker, history.now_us, since_us, &best, seen);
    EXPECT(found(&history, SIM_CHECK_NONE));
    checker_walked(&history.checker, history.now_us, since_us, &scan, seen);
    EXPECT(found(&history, SIM_CHECK_SCAN));
    history_deinit(&history);

    history_init(&history);
    write_done(&history, REQUEST_SET, VALUE, 5, 10);
    seen[VALUE] = false;
    since_us = history.now_us++;
    checker_walked(&history.checker, history.now_us, since_us, &best, seen);
    EXPECT(found(&history, SIM_CHECK_SCAN));
    history_deinit(&history);
}

TEST_CASE(a_page_begins_after_the_one_before_it)
{
    for (unsigned first = 0; first < 2; first++) {
        struct pages pages;
        pages_init(&pages);
        const struct request_entry *before = &pages.entries[0];
        struct request request = {.kind = REQUEST_BEST,
                                  .key = SLICE_LITERAL("w"),
                                  .limit = 10,
                                  .has_after = true,
                                  .after = {record_best(&before->record), before->key}};
        struct request_reply reply = {
            .outcome = REQUEST_DONE, .entries = &pages.entries[first], .entry_count = 2 - first};
        uint32_t read = invoke(&pages.history, REQUEST_BEST, NO_WORD, 0);
        checker_reply(&pages.history.checker, pages.history.now_us++, read, &request, &reply);
        EXPECT(found(&pages.history, first == 0 ? SIM_CHECK_ORDER : SIM_CHECK_NONE));
        buf_deinit(&pages.bytes);
        history_deinit(&pages.history);
    }
}

TEST_CASE(a_walk_gives_no_word_that_was_never_there)
{
    struct history history;
    history_init(&history);
    bool seen[WORDS] = {[OTHER] = true};
    checker_walked(&history.checker, history.now_us, history.now_us, &scan, seen);
    EXPECT(found(&history, SIM_CHECK_SCAN));
    history_deinit(&history);
}

TEST_MAIN(TEST(words_are_found_by_their_keys_and_are_prefixes_of_others),
          TEST(a_read_of_what_was_written_is_right),
          TEST(a_read_older_than_what_was_acknowledged_before_it_began_is_stale),
          TEST(a_deleted_word_is_not_read_again),
          TEST(a_word_is_absent_only_if_somebody_may_have_removed_it),
          TEST(a_removal_nobody_knows_of_leaves_a_doubt_about_what_was_before),
          TEST(a_write_under_an_older_version_is_hidden),
          TEST(a_value_that_nobody_wrote_is_invented),
          TEST(a_counter_lies_between_what_was_acknowledged_and_what_was_attempted),
          TEST(a_set_ends_what_was_added_before_and_keeps_what_comes_after),
          TEST(the_best_come_in_order_and_none_is_left_out),
          TEST(a_count_lies_between_what_was_and_what_may_have_been_there),
          TEST(a_walk_gives_each_word_that_was_there_throughout),
          TEST(a_walk_by_scores_gives_each_word_that_kept_its_place),
          TEST(a_page_begins_after_the_one_before_it),
          TEST(a_walk_gives_no_word_that_was_never_there))
