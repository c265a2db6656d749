/* Binds transfers to the store: ranges that this node is to own come as packed tries from one of their
 * owners. What was moved is compared afterwards like everything else (replica_moves.c): only that
 * makes a range synced.
 *
 * Files are the store's; what it is asked for is done by its jobs, and looked after here every
 * LOOK_MS while anything is. */
#include <xxhash.h>

#include "base/math.h"
#include "base/planted.h"
#include "node/replica_private.h"

enum {
    LOOK_MS = 20,
    FAILURES_MAX = 3, /* Then repair does it alone. */
};

/* --- What a transfer asks --- */

static enum status env_count(void *context, const struct key_range *range, uint64_t *count)
{
    struct query query = replica_query(context);
    return query_count_range(&query, *range, count);
}

/* Whether `test` holds of `peer` in every shard of the range. */
static bool holds_in(const struct replica *replica, node_id peer, const struct key_range *range,
                     bool (*test)(const struct replica *replica, node_id peer,
                                  const struct shard *shard))
{
    size_t first, end;
    rangemap_find_range(replica->map, range->low, range->high, &first, &end);
    for (size_t i = first; i < end; i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        if (!test(replica, peer, &shard)) return false;
    }
    return end > first;
}

static bool is_given(const struct replica *replica, node_id peer, const struct shard *shard)
{
    return replica_is_next_only(shard, peer) && owners_contain(&shard->owners, replica->self.id);
}

static bool is_taken(const struct replica *replica, node_id peer, const struct shard *shard)
{
    return replica_is_next_only(shard, replica->self.id) && owners_contain(&shard->owners, peer);
}

static bool env_gives(void *context, node_id peer, const struct key_range *range)
{
    return holds_in(context, peer, range, is_given);
}

static bool env_takes(void *context, node_id peer, const struct key_range *range)
{
    return holds_in(context, peer, range, is_taken);
}

static void look_soon(struct replica *replica)
{
    replica->transfer_look_ms = replica->time.now_ms + LOOK_MS;
}

static enum status env_export(void *context, uint64_t id, const struct key_range *range,
                              uint64_t bytes_max)
{
    struct replica *replica = context;
    look_soon(replica);
    return store_transfer_export(replica->store, id, range, bytes_max);
}

static enum status env_write(void *context, uint64_t id, uint64_t offset, struct slice bytes)
{
    struct replica *replica = context;
    look_soon(replica);
    return store_transfer_receive(replica->store, id, offset, bytes);
}

static enum status env_ingest(void *context, uint64_t id, const struct key_range *range)
{
    struct replica *replica = context;
    look_soon(replica);
    return store_transfer_ingest(replica->store, id, range);
}

static enum status env_read(void *context, uint64_t id, uint64_t offset, size_t size,
                            struct buf *out)
{
    struct replica *replica = context;
    return store_transfer_read(replica->store, id, offset, size, out);
}

static void env_remove_file(void *context, uint64_t id)
{
    struct replica *replica = context;
    store_transfer_remove(replica->store, id);
}

static void place_key(struct buf *key, enum transfer_side side, size_t place)
{
    local_key(key, LOCAL_TRANSFER);
    buf_append_u8(key, (uint8_t)side);
    buf_append_u8(key, (uint8_t)place);
}

static void env_keep(void *context, enum transfer_side side, size_t place, struct slice state)
{
    struct replica *replica = context;
    place_key(&replica->key, side, place);
    if (local_put(replica, buf_slice(&replica->key), state) != STATUS_OK)
        transfer_lost(&replica->transfer);
}

static void env_over(void *context, node_id peer, const struct key_range *range,
                     enum transfer_outcome outcome)
{
    struct replica *replica = context;
    size_t first, end;
    (void)peer;
    rangemap_find_range(replica->map, range->low, range->high, &first, &end);
    for (size_t i = first; i < end; i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        struct filling *filling = replica_filling(replica, shard.low);
        bool cut = range->high.size > 0 &&
                   (shard.high.size == 0 || slice_compare(range->high, shard.high) < 0);
        if (filling == NULL || cut) continue;
        if (outcome == TRANSFER_FAILED) filling->failures++;
        filling->moved = outcome != TRANSFER_FAILED || filling->failures >= FAILURES_MAX;
        if (outcome == TRANSFER_MOVED && planted(BUG_TRANSFER_IS_SYNCED)) filling->synced = true;
    }
    replica->topology.moves_ms = 0; /* The next one, or the comparison. */
}

/* --- Life --- */

void replica_transfer_init(struct replica *replica)
{
    struct transfer_env env = {
        .context = replica,
        .heap = replica->heap,
        .trace = replica->trace,
        .count = env_count,
        .gives = env_gives,
        .takes = env_takes,
        .export_range = env_export,
        .write = env_write,
        .ingest = env_ingest,
        .read = env_read,
        .remove = env_remove_file,
        .keep = env_keep,
        .over = env_over,
    };
    transfer_init(&replica->transfer, &env);
    replica->transfer_look_ms = UINT64_MAX;
}

struct find_file {
    uint64_t number, size_bytes;
};

static void find_file(void *context, uint64_t number, uint64_t size_bytes)
{
    struct find_file *find = context;
    if (number == find->number) find->size_bytes = size_bytes;
}

static void remove_unknown(void *context, uint64_t number, uint64_t size_bytes)
{
    struct replica *replica = context;
    (void)size_bytes;
    if (!transfer_knows(&replica->transfer, number)) store_transfer_remove(replica->store, number);
}

static enum status load_place(struct replica *replica, enum transfer_side side, size_t place)
{
    place_key(&replica->key, side, place);
    enum status status = local_get(replica, buf_slice(&replica->key), &replica->value);
    if (status != STATUS_OK) return status == STATUS_NOT_FOUND ? STATUS_OK : status;
    struct slice state = buf_slice(&replica->value);
    if (state.size == 0) return STATUS_OK;
    struct find_file find = {.number = transfer_state_id(state)};
    status = store_transfer_list(replica->store, find_file, &find);
    if (status != STATUS_OK) return status;
    status = transfer_restore(&replica->transfer, side, place, state, find.size_bytes,
                              replica->time.now_ms);
    /* What makes no sense any more is begun anew. */
    return status == STATUS_CORRUPT ? STATUS_OK : status;
}

enum status replica_transfer_load(struct replica *replica)
{
    enum status status = STATUS_OK;
    uint64_t start[2] = {replica->self.incarnation, replica->self.boot};
    /* Files of other starts and other nodes have other ids. */
    replica->transfer.id = XXH3_64bits(start, sizeof start);
    for (size_t i = 0; status == STATUS_OK && i < TRANSFER_TAKEN_MAX; i++)
        status = load_place(replica, TRANSFER_TAKES, i);
    for (size_t i = 0; status == STATUS_OK && i < TRANSFER_GIVEN_MAX; i++)
        status = load_place(replica, TRANSFER_GIVES, i);
    if (status != STATUS_OK) return status;
    return store_transfer_list(replica->store, remove_unknown, replica);
}

/* --- Beginning --- */

static bool is_due(const struct replica *replica, const struct shard *shard)
{
    if (!replica_is_next_only(shard, replica->self.id)) return false;
    if (shard->began > replica->topology.retired) return false;
    const struct filling *filling = replica_filling(replica, shard->low);
    return filling != NULL && !filling->moved && !filling->synced &&
           !transfer_takes(&replica->transfer, shard_first_key(shard));
}

bool replica_transfer_waits(const struct replica *replica, node_id peer)
{
    for (size_t i = 0; i < replica->shares.moving.count; i++) {
        struct shard shard = rangemap_shard(replica->map, replica->shares.moving.at[i]);
        if (!is_taken(replica, peer, &shard)) continue;
        const struct filling *filling = replica_filling(replica, shard.low);
        if (filling != NULL && !filling->moved && !filling->synced) return true;
    }
    return false;
}

/* An owner that is up; another one after each failure, and not the same one for all. */
static node_id choose_giver(const struct replica *replica, const struct shard *shard)
{
    const struct filling *filling = replica_filling(replica, shard->low);
    size_t first = (size_t)filling->failures + replica->self.id;
    for (size_t i = 0; i < shard->owners.count; i++) {
        node_id id = shard->owners.ids[(first + i) % shard->owners.count];
        if (!replica_is_down(replica, id)) return id;
    }
    return 0;
}

/* Neighbours that one owner can give go together. */
void replica_transfer_begin(struct replica *replica)
{
    const struct index_list *moving = &replica->shares.moving;
    for (size_t i = 0; i < moving->count; i++) {
        struct shard shard = rangemap_shard(replica->map, moving->at[i]);
        if (!is_due(replica, &shard)) continue;
        node_id giver = choose_giver(replica, &shard);
        if (giver == 0) continue;
        struct key_range range = {shard_first_key(&shard), shard.high};
        for (; i + 1 < moving->count && moving->at[i + 1] == moving->at[i] + 1; i++) {
            struct shard next = rangemap_shard(replica->map, moving->at[i + 1]);
            if (!is_due(replica, &next) || !owners_contain(&next.owners, giver)) break;
            range.high = next.high;
        }
        if (!transfer_begin(&replica->transfer, giver, &range, replica->time.now_ms,
                            &replica->outbox))
            return;
    }
}

/* --- Messages and time --- */

static void take_outcomes(struct replica *replica)
{
    uint64_t now_ms = replica->time.now_ms;
    struct store_transfer done;
    while (store_transfer_next(replica->store, &done)) {
        switch (done.kind) {
        case STORE_TRANSFER_EXPORT:
            transfer_exported(&replica->transfer, done.number, done.status, done.size_bytes,
                              done.end, now_ms, &replica->outbox);
            break;
        case STORE_TRANSFER_RECEIVE:
            transfer_written(&replica->transfer, done.number, done.status, now_ms,
                             &replica->outbox);
            break;
        case STORE_TRANSFER_INGEST:
            transfer_ingested(&replica->transfer, done.number, done.status, now_ms,
                              &replica->outbox);
            break;
        }
    }
}

void replica_transfer_tick(struct replica *replica)
{
    uint64_t now_ms = replica->time.now_ms;
    if (now_ms >= replica->transfer_look_ms) {
        take_outcomes(replica);
        replica->transfer_look_ms = transfer_is_waiting(&replica->transfer) ? now_ms + LOOK_MS
                                                                            : UINT64_MAX;
    }
    transfer_tick(&replica->transfer, now_ms, &replica->outbox);
    replica_take_outbox(replica);
}

void replica_transfer_message(struct replica *replica, node_id from, struct slice bytes)
{
    enum status status =
        transfer_receive(&replica->transfer, from, bytes, replica->time.now_ms, &replica->outbox);
    if (status != STATUS_OK) replica->stats.invalid_count++;
    replica_take_outbox(replica);
}

uint64_t replica_transfer_due_ms(const struct replica *replica)
{
    return u64_min(replica->transfer_look_ms, transfer_due_ms(&replica->transfer));
}
