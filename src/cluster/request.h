/* What is asked of a cluster, and what it answers: the data operations, in terms of keys. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "cluster/rangemap.h"
#include "core/query.h"
#include "core/record.h"
#include "core/version.h"

enum request_kind {
    REQUEST_SET = 1,
    REQUEST_REMOVE,
    REQUEST_INCREMENT,
    REQUEST_GET,
    REQUEST_BEST,  /* The first `limit` of the popularity order under a prefix, after `after`. */
    REQUEST_SCAN,  /* The same in alphabetical order, either way, from `from`. */
    REQUEST_COUNT, /* Live words under a prefix. */
    REQUEST_LOAD,  /* Sets of many words at once, as imports bring them. */
    REQUEST_KIND_END,
};

enum {
    REQUEST_LIMIT_MAX = 1000,
    REQUEST_SETS_MAX = REQUEST_LIMIT_MAX, /* Of one LOAD, */
    REQUEST_SETS_BYTES_MAX = 1 << 20,     /* packed; one alone always has room. */
    REQUEST_TIMEOUT_MS_MAX = 600000,
};

static inline bool request_is_write(enum request_kind kind)
{
    return kind <= REQUEST_INCREMENT || kind == REQUEST_LOAD;
}

enum operation_attempt {
    OPERATION_FIRST,  /* Nobody was asked before. */
    OPERATION_RETRY,  /* It may have been done: it is done unless it was. */
    OPERATION_RECALL, /* Whoever did it may be another than who is asked: say whether it was done. */
    OPERATION_ATTEMPT_END,
};

/* The name of one increment, by which a retry counts once (docs/design/coordinating.md). */
struct request_operation {
    uint64_t client; /* Drawn at random by each client; 0: the increment has no name. */
    uint64_t number; /* From 1, another for each operation, upwards. */
    enum operation_attempt attempt;
    uint8_t moves;       /* From owner to owner, until it came to where it is. */
    uint64_t map_number; /* Of a map that was heard of before the first attempt; 0: of none. */
};

/* Slices are borrowed. What a kind does not use is zero. */
struct request {
    enum request_kind kind;
    bool has_consistency; /* Else the map's setting for reads or writes. */
    enum consistency consistency;
    struct slice key; /* Of the word (core/key.h); BEST, SCAN, COUNT: what the keys begin with. */

    /* Writes. */
    double score; /* SET: the score; INCREMENT: by how much. */
    bool has_payload;
    struct slice payload, tags;         /* As in struct record. */
    uint64_t expires_at;                /* Unix ms; 0: never. */
    struct request_operation operation; /* INCREMENT */

    /* LOAD: packed (data_set_append()), ascending by key, none twice; `key` is that of the first. */
    struct slice sets;
    uint64_t set_count;

    /* BEST, SCAN. */
    uint64_t limit; /* 1 to REQUEST_LIMIT_MAX. */
    bool has_after;
    struct query_position after; /* BEST */
    struct query_from from;      /* SCAN */

    /* What the client knows to be written (cluster/token.h), from the replies to its writes; none:
     * empty. A read at `one` sees it; a write's reply adds to it. */
    struct slice token;

    uint32_t timeout_ms; /* From now; 1 to REQUEST_TIMEOUT_MS_MAX. */
};

enum request_outcome {
    REQUEST_DONE,
    REQUEST_ABSENT,           /* GET: there is no such word. */
    REQUEST_NO_HEALTHY_OWNER, /* Nothing was done. */
    REQUEST_QUORUM_NOT_MET,   /* Too few owners answer; nothing was done. */
    REQUEST_TIMED_OUT,        /* What a write did is unknown. */
    REQUEST_REFUSED,          /* `status` says why; nothing was done. */
    REQUEST_OUTCOME_END,
};

struct request_entry {
    struct slice key;
    struct record record;
};

/* What became of one set of a LOAD. */
struct request_result {
    enum request_outcome outcome;
    enum status status;
    struct version version; /* REQUEST_DONE: that it got, */
    uint8_t ack_count;      /* and at how many owners it is durable. */
};

struct request_reply {
    enum request_outcome outcome; /* LOAD: of the first set that was not done, if any was not. */
    enum status status;
    /* Writes: the record that now stands, as the coordinator knows it. */
    struct version version;
    double score;
    bool was_live;
    bool sloppy;         /* Hints were counted. */
    uint8_t ack_count;   /* Owners that have it durably. */
    struct slice token;  /* Of a write that was done; borrowed until the sink returns. */
    uint64_t map_number; /* Of the map that the node goes by that answers a client. */
    /* Reads. */
    const struct request_entry *entries; /* Borrowed until the sink returns. */
    size_t entry_count;
    bool more;      /* Entries follow the last one. */
    uint64_t count; /* COUNT; LOAD: sets that were done. */
    /* LOAD: one for each set, in their order; borrowed until the sink returns. */
    const struct request_result *results;
    size_t result_count;
};
