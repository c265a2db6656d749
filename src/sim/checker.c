#include "sim/checker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "core/key.h"

#define NO_OPERATION UINT32_MAX

enum { INCREMENTS_LOOKED_AT = 64 };

/* Words */

size_t checker_word_text(uint32_t index, char text[24])
{
    size_t size = 0;
    for (uint32_t rest = index + 1; rest > 0; rest = (rest - 1) / 3)
        text[size++] = (char)('a' + (rest - 1) % 3);
    for (size_t i = 0; i < size / 2; i++) {
        char c = text[i];
        text[i] = text[size - 1 - i];
        text[size - 1 - i] = c;
    }
    return size;
}

static enum word_class class_of(uint32_t index)
{
    switch (index % 8) {
    case 3:
        return WORD_COUNTER;
    case 5:
        return WORD_MIXED;
    case 7:
        return WORD_EXPIRING;
    default:
        return WORD_VALUE;
    }
}

static void order_words(struct checker *checker)
{
    uint32_t count = checker->options.word_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        struct slice key = checker->words[i].key;
        for (; at > 0; at--) {
            uint32_t before = checker->by_key[at - 1];
            if (slice_compare(checker->words[before].key, key) < 0) break;
            checker->by_key[at] = before;
        }
        checker->by_key[at] = i;
    }
}

void checker_init(struct checker *checker, const struct checker_options *options)
{
    enum { WORD_BYTES = 24, KEY_BYTES = 32 };
    *checker = (struct checker){.options = *options};
    heap_init(&checker->heap, 0);
    checker->words = calloc(options->word_count, sizeof *checker->words);
    checker->by_key = calloc(options->word_count, sizeof *checker->by_key);
    CHECK(checker->words != NULL);
    CHECK(checker->by_key != NULL);
    buf_init(&checker->bytes, &checker->heap);
    CHECK(buf_reserve(&checker->bytes, options->word_count * (WORD_BYTES + KEY_BYTES)) != NULL);

    struct buf key;
    buf_init(&key, &checker->heap);
    for (uint32_t i = 0; i < options->word_count; i++) {
        struct word *word = &checker->words[i];
        char text[WORD_BYTES];
        size_t size = checker_word_text(i, text);
        CHECK(key_encode(SLICE_LITERAL("w"), slice_of(text, size), FOLD_NONE, &key) == STATUS_OK);
        word->class = class_of(i);
        word->text = slice_of(checker->bytes.data + checker->bytes.size, size);
        buf_append(&checker->bytes, text, size);
        word->key = slice_of(checker->bytes.data + checker->bytes.size, key.size);
        buf_append_slice(&checker->bytes, buf_slice(&key));
        word->unsettled_first = NO_OPERATION;
    }
    buf_deinit(&key);
    order_words(checker);
}

void checker_deinit(struct checker *checker)
{
    buf_deinit(&checker->bytes);
    free(checker->words);
    free(checker->by_key);
    free(checker->operations);
}

uint32_t checker_find(const struct checker *checker, struct slice key)
{
    uint32_t low = 0, high = checker->options.word_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = slice_compare(checker->words[checker->by_key[middle]].key, key);
        if (order == 0) return checker->by_key[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NO_WORD;
}

/* Versions and words in messages */

#define VERSION_FORMAT "%llu.%u@%u"
#define VERSION_ARGUMENTS(version)                                                                 \
    (unsigned long long)hlc_wall_ms((version).time), (unsigned)((version).time & 0xFFFF),          \
        (unsigned)(version).node
#define WORD_ARGUMENTS(word) (int)(word)->text.size, (const char *)(word)->text.data

/* Operations */

size_t checker_payload(uint32_t operation, char payload[24])
{
    return (size_t)snprintf(payload, 24, "o%u", operation);
}

static bool payload_read(struct slice payload, uint32_t *operation)
{
    if (payload.size < 2 || payload.size > 10 || payload.data[0] != 'o') return false;
    uint64_t number = 0;
    for (size_t i = 1; i < payload.size; i++) {
        if (payload.data[i] < '0' || payload.data[i] > '9') return false;
        number = number * 10 + (uint64_t)(payload.data[i] - '0');
    }
    *operation = (uint32_t)number;
    return true;
}

static void unsettled_add(struct word *word, struct operation *operation, uint32_t index)
{
    operation->next_unsettled = word->unsettled_first;
    word->unsettled_first = index;
    word->unsettled_count++;
    word->unsettled_removals += operation->kind == REQUEST_REMOVE;
}

static void unsettled_drop(struct checker *checker, struct word *word, uint32_t *link)
{
    struct operation *operation = &checker->operations[*link];
    *link = operation->next_unsettled;
    word->unsettled_count--;
    word->unsettled_removals -= operation->kind == REQUEST_REMOVE;
}

static void unsettled_remove(struct checker *checker, struct word *word, uint32_t index)
{
    uint32_t *link = &word->unsettled_first;
    while (*link != NO_OPERATION && *link != index)
        link = &checker->operations[*link].next_unsettled;
    if (*link == index) unsettled_drop(checker, word, link);
}

void checker_settle(struct checker *checker, uint32_t index, uint64_t before_us)
{
    struct word *word = &checker->words[index];
    uint32_t *link = &word->unsettled_first;
    while (*link != NO_OPERATION) {
        struct operation *operation = &checker->operations[*link];
        if (operation->end != OPERATION_PENDING && operation->invoked_us < before_us) {
            /* Whether it happened nobody knows, only that it is older than what is acknowledged by
             * now: what was acknowledged before may be gone. */
            if (operation->kind == REQUEST_REMOVE) word->doubted_below = word->newest.version;
            unsettled_drop(checker, word, link);
        } else
            link = &operation->next_unsettled;
    }
}

uint32_t checker_invoke(struct checker *checker, uint64_t now_us, const struct operation *what)
{
    if (checker->operation_count == checker->operation_capacity) {
        checker->operation_capacity = checker->operation_capacity * 2 + 1024;
        checker->operations =
            realloc(checker->operations, checker->operation_capacity * sizeof *checker->operations);
        CHECK(checker->operations != NULL);
    }
    uint32_t index = checker->operation_count++;
    struct operation *operation = &checker->operations[index];
    *operation = *what;
    operation->invoked_us = now_us;
    operation->end = OPERATION_PENDING;
    operation->previous_increment = 0;
    if (operation->word == NO_WORD) return index;

    struct word *word = &checker->words[operation->word];
    operation->counter_floor = word->counter_acknowledged;
    if (!request_is_write(operation->kind)) return index;
    word->written_us = now_us;
    word->written = true;
    unsettled_add(word, operation, index);
    if (operation->kind != REQUEST_INCREMENT) return index;
    word->counter_attempted += operation->score;
    operation->previous_increment = word->last_increment;
    word->last_increment = index + 1;
    return index;
}

static void fail(struct checker *checker, uint64_t now_us, uint32_t index)
{
    struct operation *operation = &checker->operations[index];
    operation->end = OPERATION_FAILED;
    operation->ended_us = now_us;
    if (!request_is_write(operation->kind)) return;
    struct word *word = &checker->words[operation->word];
    unsettled_remove(checker, word, index);
    if (operation->kind == REQUEST_INCREMENT) word->counter_attempted -= operation->score;
}

void checker_give_up(struct checker *checker, uint64_t now_us, uint32_t index, bool nothing_done)
{
    struct operation *operation = &checker->operations[index];
    CHECK(operation->end == OPERATION_PENDING);
    if (nothing_done) {
        fail(checker, now_us, index);
        return;
    }
    operation->end = OPERATION_UNKNOWN;
    operation->ended_us = now_us;
}

/* What is certain of a word */

static struct acknowledgement newest_of(const struct word *word, uint64_t before_us,
                                        struct acknowledgement newest, bool increments)
{
    uint32_t kept = word->ack_count < WORD_ACKNOWLEDGEMENTS ? word->ack_count
                                                            : WORD_ACKNOWLEDGEMENTS;
    if (newest.at_us >= before_us) newest = (struct acknowledgement){0};
    for (uint32_t i = 0; i < kept; i++) {
        const struct acknowledgement *ack = &word->acks[i];
        if (ack->at_us >= before_us || (ack->increment && !increments)) continue;
        if (version_compare(ack->version, newest.version) > 0) newest = *ack;
    }
    return newest;
}

struct acknowledgement checker_required(const struct word *word, uint64_t before_us)
{
    return newest_of(word, before_us, word->evicted, true);
}

struct acknowledgement checker_required_value(const struct word *word, uint64_t before_us)
{
    return newest_of(word, before_us, word->evicted_value, false);
}

bool checker_is_there(const struct checker *checker, const struct word *word, uint64_t since_us)
{
    if (word->class == WORD_EXPIRING || word->unsettled_removals > 0) return false;
    struct acknowledgement required = checker_required(word, since_us);
    if (version_is_none(required.version) || required.removed) return false;
    if (version_compare(word->newest_removal, required.version) >= 0) return false;
    if (version_compare(required.version, word->doubted_below) < 0) return false;
    /* A removal takes increments of what it removed along, newer ones as well: those whose node
     * did not know of it. */
    const struct operation *operation = &checker->operations[required.operation];
    return operation->kind != REQUEST_INCREMENT ||
           (checker->options.writes_meet && word->removal_ended_us < operation->invoked_us);
}

/* Not there since then, certainly. */
static bool is_absent(const struct word *word, uint64_t since_us)
{
    if (!word->written) return true;
    if (word->unsettled_count > 0 || word->written_us >= since_us) return false;
    return word->newest.removed && word->newest.at_us < since_us &&
           version_equal(word->newest.version, word->newest_removal);
}

/* Its score, if nobody has changed it since then. */
static bool score_is_known(const struct checker *checker, const struct word *word,
                           uint64_t since_us, double *score)
{
    if (word->class != WORD_VALUE || !checker_is_there(checker, word, since_us)) return false;
    if (word->unsettled_count > 0 || word->written_us >= since_us || word->newest.at_us >= since_us)
        return false;
    const struct operation *operation = &checker->operations[word->newest.operation];
    if (!version_equal(word->newest.version, operation->version)) return false;
    *score = operation->score;
    return operation->kind == REQUEST_SET;
}

/* Records */

static double sum_of_increments(const struct checker *checker, const struct word *word,
                                const struct operation *set, const struct operation *read,
                                bool at_most, bool *known)
{
    double sum = 0;
    uint32_t at = word->last_increment;
    *known = true;
    for (unsigned i = 0; at != 0; i++) {
        if (i == INCREMENTS_LOOKED_AT) {
            *known = false; /* Older ones may count as well. */
            break;
        }
        const struct operation *increment = &checker->operations[at - 1];
        bool done = increment->end == OPERATION_DONE;
        bool counts = at_most ? increment->end != OPERATION_FAILED &&
                                    !(done && increment->ended_us < set->invoked_us)
                              : done && increment->strict && set->end == OPERATION_DONE &&
                                    increment->invoked_us > set->ended_us &&
                                    increment->ended_us < read->invoked_us;
        if (counts) sum += increment->score;
        at = increment->previous_increment;
    }
    return sum;
}

static void look_at_increments(struct checker *checker, uint64_t by_us, struct word *word,
                               const struct record *record, const struct operation *set,
                               const struct operation *read)
{
    bool known;
    double added = record_score(record) - set->score;
    double most = sum_of_increments(checker, word, set, read, true, &known);
    if (known && added > most)
        sim_find(&checker->finding, SIM_CHECK_COUNTER, by_us,
                 "%.*s: %g was added since it was set, though only %g can have been",
                 WORD_ARGUMENTS(word), added, most);
    /* Where writes do not meet, an increment may have gone to an older value. */
    if (read == NULL || !read->strict || !checker->options.writes_meet) return;
    double least = sum_of_increments(checker, word, set, read, false, &known);
    if (known && added < least)
        sim_find(&checker->finding, SIM_CHECK_COUNTER, by_us,
                 "%.*s: %g was added since it was set, though %g was acknowledged",
                 WORD_ARGUMENTS(word), added, least);
}

static void look_at_value(struct checker *checker, uint64_t by_us, uint32_t index,
                          const struct record *record, const struct operation *read)
{
    struct word *word = &checker->words[index];
    struct sim_finding *finding = &checker->finding;
    uint32_t by;
    if (!payload_read(record->payload, &by) || by >= checker->operation_count) {
        sim_find(finding, SIM_CHECK_INVENTED, by_us, "%.*s: a payload that nobody wrote",
                 WORD_ARGUMENTS(word));
        return;
    }
    const struct operation *set = &checker->operations[by];
    if (set->kind != REQUEST_SET || set->word != index || set->invoked_us > by_us)
        sim_find(finding, SIM_CHECK_INVENTED, by_us,
                 "%.*s: the payload of operation %u, which was no set of it", WORD_ARGUMENTS(word),
                 by);
    else if (set->end == OPERATION_FAILED)
        sim_find(finding, SIM_CHECK_INVENTED, by_us,
                 "%.*s: the value of operation %u, of which it was said that it did nothing",
                 WORD_ARGUMENTS(word), by);
    else if (record->score != set->score || record->expires_at != set->expires_at)
        sim_find(finding, SIM_CHECK_INVENTED, by_us, "%.*s: operation %u set %g, and here is %g",
                 WORD_ARGUMENTS(word), by, set->score, record->score);
    else if (set->end == OPERATION_DONE && version_compare(record->set, set->version) > 0)
        sim_find(finding, SIM_CHECK_INVENTED, by_us,
                 "%.*s: operation %u was told " VERSION_FORMAT " and stands under " VERSION_FORMAT,
                 WORD_ARGUMENTS(word), by, VERSION_ARGUMENTS(set->version),
                 VERSION_ARGUMENTS(record->set));
    else
        look_at_increments(checker, by_us, word, record, set, read);
}

static void look_at_record(struct checker *checker, uint64_t by_us, uint32_t index,
                           const struct record *record, const struct operation *read)
{
    struct word *word = &checker->words[index];
    checker->checked_count++;
    if (record->tombstone) return;
    double score = record_score(record);
    /* It began to be a word again after the newest of its removals. */
    if (!version_is_none(record->created) && version_compare(record->created, record->since) <= 0)
        sim_find(&checker->finding, SIM_CHECK_INVENTED, by_us,
                 "%.*s: created at " VERSION_FORMAT ", before it was removed at " VERSION_FORMAT,
                 WORD_ARGUMENTS(word), VERSION_ARGUMENTS(record->created),
                 VERSION_ARGUMENTS(record->since));
    if (record->has_payload) {
        look_at_value(checker, by_us, index, record, read);
    } else if (word->class == WORD_VALUE || word->class == WORD_EXPIRING) {
        if (record_is_present(record))
            sim_find(&checker->finding, SIM_CHECK_INVENTED, by_us,
                     "%.*s: a value without payload, which nobody wrote", WORD_ARGUMENTS(word));
    } else if (score > word->counter_attempted) {
        sim_find(&checker->finding, SIM_CHECK_COUNTER, by_us,
                 "%.*s: is at %g, though only %g was tried", WORD_ARGUMENTS(word), score,
                 word->counter_attempted);
    }
    if (read != NULL && read->strict && word->class == WORD_COUNTER && read->word == index &&
        score < read->counter_floor)
        sim_find(&checker->finding, SIM_CHECK_COUNTER, by_us,
                 "%.*s: is at %g, though %g was acknowledged", WORD_ARGUMENTS(word), score,
                 read->counter_floor);
}

void checker_look_at(struct checker *checker, uint64_t by_us, uint32_t word,
                     const struct record *record)
{
    look_at_record(checker, by_us, word, record, NULL);
}

static void check_absent(struct checker *checker, uint64_t now_us, const struct operation *read)
{
    const struct word *word = &checker->words[read->word];
    checker->checked_count++;
    if (!read->strict || !checker_is_there(checker, word, read->invoked_us)) return;
    struct acknowledgement required = checker_required(word, read->invoked_us);
    sim_find(&checker->finding, SIM_CHECK_STALE, now_us,
             "%.*s: read as absent, though " VERSION_FORMAT
             " of operation %u was acknowledged before and nothing removed it",
             WORD_ARGUMENTS(word), VERSION_ARGUMENTS(required.version), required.operation);
}

/* Writes */

static void acknowledge(struct checker *checker, uint64_t now_us, uint32_t index,
                        const struct request_reply *reply)
{
    struct operation *operation = &checker->operations[index];
    struct word *word = &checker->words[operation->word];
    bool removed = operation->kind == REQUEST_REMOVE;
    struct acknowledgement required = checker_required_value(word, operation->invoked_us);

    checker->checked_count++;
    operation->end = OPERATION_DONE;
    operation->ended_us = now_us;
    operation->version = reply->version;
    operation->strict = operation->strict && !reply->sloppy;
    struct acknowledgement ack = {now_us, reply->version, index, removed,
                                  operation->kind == REQUEST_INCREMENT};
    if (reply->sloppy) { /* It shows when hints are delivered, like what nobody was told of. */
        if (version_compare(ack.version, word->kept.version) > 0) word->kept = ack;
        return;
    }
    unsettled_remove(checker, word, index);
    if (removed && version_is_none(reply->version)) { /* There was nothing to remove. */
        check_absent(checker, now_us, operation);
        return;
    }
    if (operation->kind == REQUEST_INCREMENT) word->counter_acknowledged += operation->score;
    if (removed) {
        word->newest_removal = version_max(word->newest_removal, reply->version);
        word->removal_ended_us = now_us;
    }
    if (!operation->strict) return;

    if (checker->options.writes_meet && version_compare(reply->version, required.version) <= 0)
        sim_find(&checker->finding, SIM_CHECK_HIDDEN, now_us,
                 "%.*s: operation %u was acknowledged with " VERSION_FORMAT
                 ", though " VERSION_FORMAT " of operation %u was before it began",
                 WORD_ARGUMENTS(word), index, VERSION_ARGUMENTS(reply->version),
                 VERSION_ARGUMENTS(required.version), required.operation);

    struct acknowledgement *place = &word->acks[word->ack_count % WORD_ACKNOWLEDGEMENTS];
    if (word->ack_count >= WORD_ACKNOWLEDGEMENTS) {
        struct acknowledgement *evicted = &word->evicted;
        if (version_compare(place->version, evicted->version) > 0) *evicted = *place;
        evicted = &word->evicted_value;
        if (!place->increment && version_compare(place->version, evicted->version) > 0)
            *evicted = *place;
    }
    *place = ack;
    word->ack_count++;
    if (version_compare(ack.version, word->newest.version) > 0) word->newest = ack;
}

/* Reads */

static void check_entry(struct checker *checker, uint64_t now_us, const struct operation *read,
                        const struct request *request, const struct request_entry *entry)
{
    struct sim_finding *finding = &checker->finding;
    uint32_t index = checker_find(checker, entry->key);
    bool is_get = request->kind == REQUEST_GET;
    if (index == NO_WORD || (is_get ? !slice_equal(entry->key, request->key)
                                    : !slice_starts_with(entry->key, request->key))) {
        sim_find(finding, SIM_CHECK_INVENTED, now_us, "an entry that was not asked for");
        return;
    }
    struct word *word = &checker->words[index];
    look_at_record(checker, now_us, index, &entry->record, read);
    if (!record_is_present(&entry->record))
        sim_find(finding, SIM_CHECK_INVENTED, now_us, "%.*s: an entry that is no word",
                 WORD_ARGUMENTS(word));
    if (!read->strict) return;
    struct acknowledgement required = checker_required(word, read->invoked_us);
    if (version_compare(entry->record.version, required.version) < 0)
        sim_find(finding, SIM_CHECK_STALE, now_us,
                 "%.*s: read with version " VERSION_FORMAT ", though " VERSION_FORMAT
                 " of operation %u%s was acknowledged before",
                 WORD_ARGUMENTS(word), VERSION_ARGUMENTS(entry->record.version),
                 VERSION_ARGUMENTS(required.version), required.operation,
                 required.removed ? ", a removal," : "");
}

static int compare_best(const struct request_entry *a, const struct request_entry *b)
{
    int order = best_compare(record_best(&a->record), record_best(&b->record));
    return order != 0 ? order : slice_compare(a->key, b->key);
}

static void check_order(struct checker *checker, uint64_t now_us, const struct request *request,
                        const struct request_reply *reply)
{
    if (request->has_after && reply->entry_count > 0) {
        const struct request_entry *first = &reply->entries[0];
        int order = best_compare(request->after.best, record_best(&first->record));
        if (order == 0) order = slice_compare(request->after.key, first->key);
        if (order >= 0)
            sim_find(&checker->finding, SIM_CHECK_ORDER, now_us,
                     "a page does not begin after the one before it");
    }
    for (size_t i = 1; i < reply->entry_count; i++) {
        const struct request_entry *before = &reply->entries[i - 1], *entry = &reply->entries[i];
        int order = request->kind == REQUEST_BEST ? compare_best(before, entry)
                                                  : slice_compare(before->key, entry->key);
        if (request->kind == REQUEST_SCAN && request->from.descending) order = -order;
        if (order < 0) continue;
        sim_find(&checker->finding, SIM_CHECK_ORDER, now_us,
                 "entry %zu of a page does not come after the one before it", i);
    }
    if (reply->entry_count > request->limit)
        sim_find(&checker->finding, SIM_CHECK_ORDER, now_us, "%zu entries of %llu asked for",
                 reply->entry_count, (unsigned long long)request->limit);
}

static bool reply_holds(const struct request_reply *reply, struct slice key)
{
    for (size_t i = 0; i < reply->entry_count; i++)
        if (slice_equal(reply->entries[i].key, key)) return true;
    return false;
}

/* Words whose score is known and better than what a page ends with are in it. */
static void check_none_left_out(struct checker *checker, uint64_t now_us,
                                const struct operation *read, const struct request *request,
                                const struct request_reply *reply)
{
    double least = 0;
    bool full = reply->entry_count >= request->limit || reply->more;
    if (full && reply->entry_count == 0) return;
    if (full) least = record_score(&reply->entries[reply->entry_count - 1].record);
    for (uint32_t i = 0; i < checker->options.word_count; i++) {
        const struct word *word = &checker->words[i];
        double score;
        if (!slice_starts_with(word->key, request->key)) continue;
        if (!score_is_known(checker, word, read->invoked_us, &score)) continue;
        if (full && score <= least) continue;
        if (request->has_after && score >= score_of_order(request->after.best.score_order))
            continue;
        if (reply_holds(reply, word->key)) continue;
        sim_find(&checker->finding, SIM_CHECK_ORDER, now_us,
                 "%.*s: has score %g and is not among the best, which end with %g",
                 WORD_ARGUMENTS(word), score, least);
    }
}

static void check_count(struct checker *checker, uint64_t now_us, const struct operation *read,
                        const struct request *request, uint64_t count)
{
    uint64_t least = 0, most = 0;
    for (uint32_t i = 0; i < checker->options.word_count; i++) {
        const struct word *word = &checker->words[i];
        if (!slice_starts_with(word->key, request->key)) continue;
        least += checker_is_there(checker, word, read->invoked_us);
        most += !is_absent(word, read->invoked_us);
    }
    if (count < least || count > most)
        sim_find(&checker->finding, SIM_CHECK_COUNT, now_us,
                 "counted %llu words, though there were from %llu to %llu",
                 (unsigned long long)count, (unsigned long long)least, (unsigned long long)most);
}

static void check_read(struct checker *checker, uint64_t now_us, const struct operation *read,
                       const struct request *request, const struct request_reply *reply)
{
    if (reply->outcome == REQUEST_ABSENT) {
        if (request->kind == REQUEST_GET)
            check_absent(checker, now_us, read);
        else
            sim_find(&checker->finding, SIM_CHECK_INVENTED, now_us,
                     "absent, where many words were asked for");
        return;
    }
    if (request->kind == REQUEST_GET && reply->entry_count != 1)
        sim_find(&checker->finding, SIM_CHECK_INVENTED, now_us, "%zu entries for one word",
                 reply->entry_count);
    for (size_t i = 0; i < reply->entry_count; i++)
        check_entry(checker, now_us, read, request, &reply->entries[i]);
    if (request->kind == REQUEST_BEST || request->kind == REQUEST_SCAN)
        check_order(checker, now_us, request, reply);
    if (request->kind == REQUEST_BEST && read->strict)
        check_none_left_out(checker, now_us, read, request, reply);
    if (request->kind == REQUEST_COUNT && read->strict)
        check_count(checker, now_us, read, request, reply->count);
}

void checker_reply(struct checker *checker, uint64_t now_us, uint32_t index,
                   const struct request *request, const struct request_reply *reply)
{
    struct operation *operation = &checker->operations[index];
    CHECK(operation->end == OPERATION_PENDING);
    if (reply->outcome == REQUEST_TIMED_OUT) {
        checker_give_up(checker, now_us, index, false);
    } else if (reply->outcome != REQUEST_DONE && reply->outcome != REQUEST_ABSENT) {
        fail(checker, now_us, index);
    } else if (request_is_write(operation->kind)) {
        acknowledge(checker, now_us, index, reply);
    } else {
        operation->end = OPERATION_DONE;
        operation->ended_us = now_us;
        check_read(checker, now_us, operation, request, reply);
    }
}

/* Every word that had its place throughout. */
static bool must_be_met(const struct checker *checker, const struct word *word, uint64_t since_us,
                        enum request_kind walk)
{
    double score;
    if (walk == REQUEST_BEST) return score_is_known(checker, word, since_us, &score);
    return checker_is_there(checker, word, since_us);
}

void checker_walked(struct checker *checker, uint64_t now_us, uint64_t since_us,
                    const struct request *walk, const bool *seen)
{
    for (uint32_t i = 0; i < checker->options.word_count; i++) {
        const struct word *word = &checker->words[i];
        if (!slice_starts_with(word->key, walk->key)) continue;
        checker->checked_count++;
        if (!seen[i] && must_be_met(checker, word, since_us, walk->kind))
            sim_find(&checker->finding, SIM_CHECK_SCAN, now_us,
                     "%.*s: was there throughout a walk that did not give it",
                     WORD_ARGUMENTS(word));
        if (seen[i] && is_absent(word, since_us))
            sim_find(&checker->finding, SIM_CHECK_SCAN, now_us,
                     "%.*s: was not there throughout a walk that gave it", WORD_ARGUMENTS(word));
    }
}
