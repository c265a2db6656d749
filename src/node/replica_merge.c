/* Many owners' answers into one. */
#include <stdlib.h>

#include "base/planted.h"
#include "node/replica_private.h"

static int compare_reports(const void *a, const void *b)
{
    const struct report *left = a;
    const struct report *right = b;
    int order = slice_compare(left->key, right->key);
    if (order != 0) return order;
    return (left->node > right->node) - (left->node < right->node);
}

static size_t count_entries(const struct asks *asks)
{
    size_t count = 0;
    for (size_t i = 0; i < asks->count; i++) count += asks->list[i].entry_count;
    return count;
}

static void collect(struct merge *merge, const struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++) {
        const struct ask *ask = &asks->list[i];
        struct slice rest = buf_slice(&ask->entries);
        struct request_entry entry;
        struct slice encoded;
        while (data_encoded_next(&rest, &entry, &encoded))
            merge->reports[merge->report_count++] =
                (struct report){entry.key, encoded, entry.record, ask->node};
    }
}

/* Joins what was told of one word. What all told alike stands as it is; else the record is encoded at the
 * end of merge->joined, which may move: until join_all() is done, candidate->encoded has its size alone. */
static enum status join_reports(struct merge *merge, struct candidate *candidate,
                                struct buf scratch[2])
{
    const struct report *first = &merge->reports[candidate->first];
    struct record record = first->record;
    bool is_joined = false;
    for (size_t i = 1; i < candidate->count; i++) {
        const struct report *report = &first[i];
        struct record joined;
        if (!is_joined && slice_equal(report->encoded, first->encoded)) continue;
        is_joined = true;
        enum status status = record_join(&record, &report->record, &scratch[i % 2], &joined);
        if (status != STATUS_OK) return status;
        record = joined;
    }
    candidate->record = record;
    candidate->encoded = first->encoded;
    if (!is_joined) return STATUS_OK;
    size_t before = merge->joined.size;
    record_encode(&record, &merge->joined);
    candidate->encoded = (struct slice){NULL, merge->joined.size - before};
    return buf_status(&merge->joined);
}

static enum status join_all(struct merge *merge, struct heap *heap)
{
    struct buf scratch[2] = {{.heap = heap}, {.heap = heap}};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < merge->report_count;) {
        struct candidate *candidate = &merge->candidates[merge->candidate_count++];
        *candidate = (struct candidate){.key = merge->reports[i].key, .first = i};
        while (i < merge->report_count && slice_equal(merge->reports[i].key, candidate->key)) {
            candidate->count++;
            i++;
        }
        status = join_reports(merge, candidate, scratch);
    }
    const uint8_t *at = merge->joined.data;
    for (size_t i = 0; status == STATUS_OK && i < merge->candidate_count; i++) {
        struct candidate *candidate = &merge->candidates[i];
        if (candidate->encoded.data != NULL) continue;
        candidate->encoded.data = at;
        at += candidate->encoded.size;
        status = record_decode(candidate->encoded, &candidate->record);
    }
    buf_deinit(&scratch[0]);
    buf_deinit(&scratch[1]);
    return status;
}

enum status merge_build(struct merge *merge, struct heap *heap, const struct flow_read *read)
{
    size_t count = count_entries(&read->lists) + count_entries(&read->confirms);
    *merge = (struct merge){.joined = {.heap = heap}};
    merge->reports = heap_alloc(heap, (count + 1) * sizeof *merge->reports);
    merge->candidates = heap_alloc(heap, (count + 1) * sizeof *merge->candidates);
    if (merge->reports == NULL || merge->candidates == NULL) return STATUS_NOMEM;
    collect(merge, &read->lists);
    collect(merge, &read->confirms);
    qsort(merge->reports, merge->report_count, sizeof *merge->reports, compare_reports);
    return join_all(merge, heap);
}

void merge_free(struct merge *merge, struct heap *heap)
{
    heap_free(heap, merge->reports);
    heap_free(heap, merge->candidates);
    buf_deinit(&merge->joined);
}

int merge_compare(const struct request *request, struct best a, struct slice a_key, struct best b,
                  struct slice b_key)
{
    if (request->kind == REQUEST_BEST) {
        int order = best_compare(a, b);
        if (order != 0) return order;
    }
    int order = slice_compare(a_key, b_key);
    return request->kind == REQUEST_SCAN && request->from.descending ? -order : order;
}

static int compare_candidates(const void *a, const void *b, void *request)
{
    const struct candidate *left = a;
    const struct candidate *right = b;
    return merge_compare(request, record_best(&left->record), left->key,
                         record_best(&right->record), right->key);
}

/* Whether the candidate belongs to the page. What one owner told of it may come after the page before this
 * one, and what is newer at another no more. */
static bool belongs(const struct candidate *candidate, const struct request *request,
                    uint64_t now_ms)
{
    const struct record *record = &candidate->record;
    if (!record_is_present(record) || record_is_expired(record, now_ms)) return false;
    if (!request->has_after || planted(BUG_PAGE_GOES_BACK)) return true;
    return merge_compare(request, request->after.best, request->after.key, record_best(record),
                         candidate->key) < 0;
}

void merge_order(struct merge *merge, const struct request *request, uint64_t now_ms)
{
    size_t kept = 0;
    for (size_t i = 0; i < merge->candidate_count; i++)
        if (belongs(&merge->candidates[i], request, now_ms))
            merge->candidates[kept++] = merge->candidates[i];
    merge->candidate_count = kept;
    struct request order = *request;
    qsort_r(merge->candidates, kept, sizeof *merge->candidates, compare_candidates, &order);
}
