/* Sets of many words at once, as imports bring them.
 *
 *     the node asked     cuts the load where shards end; each piece is a flow of its own
 *     piece              coordinated here or forwarded, like a write of one word: stamped set by set
 *                        into one batch, sent in one message to each owner, acknowledged as a whole
 *     all pieces ended   the reply: of each set what became of it
 *
 * An owner may take all but some: those are stamped again, the others are sent once more as they
 * are. docs/design/coordinating.md, "Loads". */
#include "base/check.h"
#include "base/math.h"
#include "cluster/token.h"
#include "node/replica_private.h"

/* --- The whole --- */

void replica_load_free(struct replica *replica, struct flow *flow)
{
    heap_free(replica->heap, flow->load.results);
    flow->load.results = NULL;
    buf_deinit(&flow->load.token);
}

static void finish(struct replica *replica, struct flow *flow)
{
    struct flow_load *load = &flow->load;
    struct request_reply reply = {.results = load->results,
                                  .result_count = flow->request.set_count,
                                  .sloppy = load->sloppy,
                                  .token = buf_slice(&load->token)};
    for (size_t i = load->begun; i < reply.result_count; i++)
        load->results[i] =
            (struct request_result){.outcome = REQUEST_REFUSED, .status = STATUS_TIMEOUT};
    for (size_t i = 0; i < reply.result_count; i++) {
        const struct request_result *result = &load->results[i];
        if (result->outcome == REQUEST_DONE) {
            reply.count++;
        } else if (reply.outcome == REQUEST_DONE) {
            reply.outcome = result->outcome;
            reply.status = result->status;
        }
    }
    replica_reply(replica, flow, &reply);
    replica_flow_end(replica, flow);
}

static void piece_over(struct replica *replica, struct flow *flow)
{
    if (--flow->load.open > 0) return;
    bool rests = flow->load.begun < flow->request.set_count;
    if (rests && replica->time.now_ms < flow->deadline_ms)
        replica->load_rests = true; /* Not from here: a piece that ends may not begin others. */
    else
        finish(replica, flow);
}

static void add_token(struct replica *replica, struct flow *flow, struct slice bytes)
{
    struct token all = {0}, added;
    struct buf *kept = &flow->load.token;
    if (bytes.size == 0 || token_decode(bytes, &added) != STATUS_OK) return;
    if (kept->size > 0 && token_decode(buf_slice(kept), &all) != STATUS_OK) return;
    for (size_t i = 0; i < added.count; i++) token_add(&all, &added.groups[i]);
    buf_clear(kept);
    token_encode(&all, kept);
    if (buf_status(kept) != STATUS_OK) buf_clear(kept);
}

static void piece_told(struct replica *replica, uint64_t label, size_t first, size_t count,
                       const struct request_reply *reply)
{
    struct flow *flow = replica_flow_find(replica, label);
    if (flow == NULL) return;
    for (size_t i = 0; i < count; i++) {
        struct request_result *result = &flow->load.results[first + i];
        *result = (struct request_result){
            .outcome = reply->outcome, .status = reply->status, .ack_count = reply->ack_count};
        if (i < reply->result_count) result->version = reply->results[i].version;
    }
    flow->load.sloppy = flow->load.sloppy || reply->sloppy;
    add_token(replica, flow, reply->token);
    piece_over(replica, flow);
}

void replica_load_told(struct replica *replica, const struct flow *piece,
                       const struct request_reply *reply)
{
    piece_told(replica, piece->load_label, piece->load_first, piece->request.set_count, reply);
}

/* As many sets as lie in one shard. May move the flows. */
static void begin_piece(struct replica *replica, struct flow *flow)
{
    struct flow_load *load = &flow->load;
    struct slice all = slice_from(flow->request.sets, load->at), rest = all, next = all;
    struct request piece = flow->request, set;
    struct shard shard = {0};
    uint64_t label = flow_label(flow, 0);
    size_t first = load->begun;
    piece.set_count = 0;
    while (data_set_next(&next, &set)) {
        if (piece.set_count == 0)
            shard = rangemap_shard(replica->map, rangemap_find(replica->map, set.key));
        else if (shard.high.size > 0 && slice_compare(set.key, shard.high) >= 0)
            break;
        rest = next;
        piece.set_count++;
    }
    piece.sets = slice_prefix(all, all.size - rest.size);
    piece.has_consistency = true;
    piece.consistency = flow->consistency;
    /* It may be too late by now, which the piece finds out itself. */
    piece.timeout_ms =
        (uint32_t)(u64_max(flow->deadline_ms, replica->time.now_ms + 1) - replica->time.now_ms);
    piece.token = (struct slice){0}; /* It is added to that of all. */
    load->at += piece.sets.size;
    load->begun += (size_t)piece.set_count;
    load->open++;

    struct flow *begun = replica_flow_start(replica, &piece);
    if (begun == NULL) {
        struct request_reply busy = {.outcome = REQUEST_REFUSED, .status = STATUS_BUSY};
        piece_told(replica, label, first, (size_t)piece.set_count, &busy);
        return;
    }
    begun->from_client = true;
    begun->load_label = label;
    begun->load_first = first;
    replica_flow_begin(replica, begun);
}

static void begin_pieces(struct replica *replica, uint64_t label)
{
    struct flow *flow = replica_flow_find(replica, label);
    flow->load.open++; /* Not over before the last of these has begun. */
    while (flow->load.begun < flow->request.set_count && flow->load.open <= LOAD_PIECES_MAX) {
        begin_piece(replica, flow);
        flow = replica_flow_find(replica, label);
    }
    piece_over(replica, flow);
}

void replica_load_begin(struct replica *replica, struct flow *flow)
{
    flow->kind = FLOW_LOAD;
    buf_init(&flow->load.token, replica->heap);
    flow->load.results =
        heap_zalloc(replica->heap, flow->request.set_count * sizeof *flow->load.results);
    if (flow->load.results == NULL)
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_NOMEM);
    else
        begin_pieces(replica, flow_label(flow, 0));
}

void replica_loads_go_on(struct replica *replica)
{
    if (!replica->load_rests) return;
    replica->load_rests = false;
    for (size_t i = 0; i < replica->flow_capacity; i++) {
        const struct flow *flow = &replica->flows[i];
        if (flow->kind == FLOW_LOAD && flow->load.open == 0)
            begin_pieces(replica, flow_label(flow, 0));
    }
}

/* --- A piece --- */

static bool same_sets(const struct shard *a, const struct shard *b)
{
    struct owners of_a[2], of_b[2];
    size_t count = shard_write_owners(a, of_a);
    if (shard_write_owners(b, of_b) != count) return false;
    for (size_t set = 0; set < count; set++)
        if (!owners_equal(&of_a[set], &of_b[set])) return false;
    return true;
}

bool replica_load_is_whole(const struct replica *replica, const struct request *request)
{
    struct slice rest = request->sets;
    struct request set;
    size_t first = rangemap_find(replica->map, request->key), at = first;
    struct shard shard = rangemap_shard(replica->map, first);
    while (data_set_next(&rest, &set)) {
        size_t found = rangemap_find(replica->map, set.key);
        if (found == at) continue;
        at = found;
        struct shard other = rangemap_shard(replica->map, at);
        if (!same_sets(&shard, &other)) return false;
    }
    return true;
}

static enum status stamp_set(struct replica *replica, const struct request *set,
                             struct version above, struct buf *entries)
{
    struct store_outcome outcome;
    struct version promised = {.time = replica_promised(replica, set->key)};
    replica_store_write(replica,
                        &(struct store_write){
                            .kind = STORE_SET,
                            .key = set->key,
                            .score = set->score,
                            .has_payload = set->has_payload,
                            .payload = set->payload,
                            .tags = set->tags,
                            .expires_at = set->expires_at,
                            .leave_tombstone = true,
                            .above = version_max(above, promised),
                        },
                        &outcome);
    if (outcome.status != STATUS_OK) return outcome.status;
    CHECK(outcome.changed);
    data_entry_append(entries, set->key, outcome.encoded);
    return buf_status(entries);
}

enum status replica_load_stamp(struct replica *replica, struct flow *flow, struct slice refusals,
                               size_t *stamped)
{
    struct flow_write *write = &flow->write;
    struct slice sets = flow->request.sets, before = buf_slice(&write->record);
    bool all = refusals.size == 0;
    struct data_refusal refusal = {.place = UINT32_MAX};
    struct buf entries = {.heap = replica->heap};
    enum status status = STATUS_OK;
    struct request set;
    *stamped = 0;
    if (!all) (void)data_refusal_next(&refusals, &refusal);
    for (uint32_t place = 0; status == STATUS_OK && data_set_next(&sets, &set); place++) {
        struct slice entry = before;
        struct request_entry stands;
        if (!all) CHECK(data_entry_next(&before, &stands));
        entry.size -= before.size;
        if (!all && place != refusal.place) {
            buf_append_slice(&entries, entry);
            status = buf_status(&entries);
            continue;
        }
        status = stamp_set(replica, &set, version_max(write->above, refusal.version), &entries);
        *stamped += status == STATUS_OK;
        if (!all && !data_refusal_next(&refusals, &refusal)) refusal.place = UINT32_MAX;
    }
    if (status == STATUS_OK) {
        struct buf record = write->record;
        write->record = entries;
        entries = record;
    }
    buf_deinit(&entries);
    return status;
}
