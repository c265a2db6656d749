/* Writes on their way: taken from requests or lines, submitted together, answered in order.
 *
 * Everything a write needs is copied into the batch, so requests and lines may go. The
 * life of a batch: add, node_batch_seal(), submit `writes` and `outcomes` to the store's
 * writer, then read the outcomes; node_batch_clear() and again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/request.h"
#include "node/node.h"
#include "store/store.h"

enum {
    NODE_BATCH_WRITES_MAX = 4096,
    NODE_BATCH_BYTES_MAX = 1 << 20,
};

/* What the writer needs of one write, as offsets until the batch is sealed; and what the
 * answer to it needs. */
struct node_item {
    uint64_t line; /* Of an import; 0: a request. */
    uint32_t key_at, key_size;
    uint32_t payload_at, payload_size;
    uint32_t tags_at, tags_size;
    uint32_t word_at, word_size; /* For the answer; 0: not kept. */
    uint32_t reply_at;           /* A struct node_reply, of a request. */
    uint32_t token_at, token_size;
    uint32_t refusal_at, refusal_size; /* A request that was refused: its whole answer. */
    uint32_t write;                    /* Its place among `writes`. */
    bool refused;
    enum node_endpoint endpoint;
};

/* What a cluster needs of one write besides, and what it says to it. A node alone leaves it be. */
struct node_terms {
    bool has_consistency; /* Else what the cluster is set to. */
    enum consistency consistency;
    struct slice token; /* What its client knows to be written; once the batch is sealed. */
    enum request_outcome outcome; /* REQUEST_REFUSED: the store's outcome says why. */
    uint8_t ack_count;
    bool sloppy;
    struct buf told; /* The token that the client is given back. */
};

struct node_batch {
    struct heap *heap;
    struct buf bytes;
    struct buf key; /* Scratch. */
    struct node_item *items;
    struct store_write *writes;
    struct store_outcome *outcomes;
    struct node_terms *terms;
    size_t item_count, write_count, capacity;
};

void node_batch_init(struct node_batch *batch, struct heap *heap);
void node_batch_deinit(struct node_batch *batch);

/* Forgets what it holds; the memory is kept for reuse. */
void node_batch_clear(struct node_batch *batch);

static inline bool node_batch_is_full(const struct node_batch *batch)
{
    return batch->item_count >= NODE_BATCH_WRITES_MAX || batch->bytes.size >= NODE_BATCH_BYTES_MAX;
}

/* A word as clients give it, after parsing. */
struct node_word {
    struct slice ns, word;
    double score;
    bool has_payload;
    struct slice payload;
    struct slice tags; /* Canonical: see struct record. */
    uint64_t expires_at;
    bool has_consistency;
    enum consistency consistency;
    struct slice token; /* Decoded. */
};

/* Adds a write. `line` 0: `reply` says how its request is to be answered, else NULL.
 * Errors: STATUS_INVALID, STATUS_LIMIT (word or namespace), STATUS_NOMEM; nothing is added. */
enum status node_batch_add(struct node_batch *batch, enum store_write_kind kind,
                           enum node_endpoint endpoint, const struct node_word *word, uint64_t line,
                           const struct node_reply *reply);

/* Adds the request of a word route: parses it, and keeps its refusal if it is bad, so that
 * answers leave in the order of the requests. Errors: STATUS_NOMEM. */
enum status node_batch_add_request(struct node_batch *batch, struct node_reader *reader,
                                   enum node_endpoint endpoint, const struct http_request *request,
                                   struct slice body, uint64_t now_ms);

/* Whether an item of a batch with this status did not go in: the problem that it is to a client, and
 * words for it, NULL: those of the problem. */
bool node_batch_failed(const struct node_batch *batch, const struct node_item *item,
                       enum status status, enum problem_code *code, const char **detail);

/* Nothing is added from here on: `writes` is complete. */
void node_batch_seal(struct node_batch *batch);

/* Appends the answers to all requests of the batch. `status` is that of the whole batch. */
void node_batch_answer(const struct node_batch *batch, struct node_reader *reader,
                       enum status status, struct buf *out);
