/* Looks through a log without changing it: what log_open() would find, and all damage there is
 * instead of the first.
 *
 * Batches lie in a chain of segments, as store/log.h says. Where a batch that was durable is
 * not there as it was written the check tells of it and goes on with the next whole one. What
 * follows the last durable batch and is no batch is a torn tail: no damage, a write that was cut
 * off by a crash and never acknowledged. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/status.h"
#include "store/env.h"
#include "store/names.h"

/* Where a finding has no place in a file. */
#define LOG_CHECK_NOWHERE UINT64_MAX

struct log_check_options {
    uint8_t store_id[16];
    uint64_t replay_sequence; /* As log_open() takes them; 0: not known, all is read. */
    uint64_t durable_sequence;
    bool expect_segments;
};

enum log_check_role {
    LOG_CHECK_IN_USE,   /* Holds batches that a start reads. */
    LOG_CHECK_WAITING,  /* Written in advance, or to be recycled: no word in it counts. */
    LOG_CHECK_GIVEN_UP, /* All its batches are in packed tries. */
};

struct log_check_segment {
    uint64_t number;
    enum log_check_role role;
    uint64_t size_bytes;
    uint64_t used_bytes; /* Up to the end of the last batch. */
    uint64_t first;      /* Sequences of its batches; `last` = `first` - 1: none. */
    uint64_t last;
    uint64_t batch_count, record_count;
};

struct log_check_totals {
    uint64_t segment_count; /* In use. */
    uint64_t batch_count, record_count;
    uint64_t replay_batches, replay_records, replay_bytes; /* What a start replays. */
    uint64_t last_sequence;
    uint64_t torn_batches, torn_bytes; /* With a header behind the end, never known durable. */
    uint64_t trailing_bytes; /* Behind the end, not zero at the last: torn, or of an older life. */
};

struct log_check_visitor {
    /* Something is wrong in segment `number` at `offset`; `damage` false: worth telling. */
    void (*found)(void *context, bool damage, const char *name, uint64_t offset, const char *text);
    void (*segment)(void *context, const struct log_check_segment *segment);
    bool (*progress)(void *context, uint64_t bytes); /* So many more were read; false stops. */
    void *context;
};

/* Errors: STATUS_CANCELLED, STATUS_NOMEM, and those of listing the directory. Damage is none:
 * the visitor is told.
 * Cost:   one read of the segments in use; memory for a line a segment. */
enum status log_check(struct env *env, struct heap *heap, const struct log_check_options *options,
                      const struct log_check_visitor *visitor, struct log_check_totals *totals);
