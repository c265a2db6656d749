/* What a node keeps for itself, of what peers are owed, and of what it has to tell: values of many pieces when memory
 * ends, numbers that end, hints that are damaged or many, lists that no message has room for. */
#include "cluster/topology_message.h"
#include "node/replica_private.h"
#include "replica_bench.h"

static struct replica *replica_of(const struct bench *bench, node_id id)
{
    return bench->nodes[id].replica;
}

static struct slice any_key(struct buf *key)
{
    local_key(key, LOCAL_TRANSFER);
    buf_append_text(key, "any");
    return buf_slice(key);
}

static void fill_value(struct buf *value, size_t size, uint8_t byte)
{
    buf_clear(value);
    for (size_t i = 0; i < size; i++) buf_append_u8(value, byte);
}

/* Memory ends here and there in it; the batch is committed all the same. */
TEST_CASE(a_value_of_many_pieces_is_there_whole_or_the_one_before_it_is)
{
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    struct bench *bench = bench_create(1, &settings, NULL);
    struct replica *replica = replica_of(bench, 1);
    struct heap *heap = &bench->nodes[1].world.heap;
    struct buf key = {.heap = &bench->heap}, value = {.heap = &bench->heap};
    struct buf found = {.heap = &bench->heap};
    static const size_t sizes[] = {100000, 70000, 40000, 100, 200000};
    fill_value(&value, 100000, 0);
    EXPECT(local_put(replica, any_key(&key), buf_slice(&value)) == STATUS_OK);
    bench_settle(bench);
    uint8_t stands = 0;
    size_t failed = 0;
    for (uint8_t turn = 1; turn <= 5; turn++) {
        bool done = false;
        for (int at = 0; !done; at++) {
            EXPECT(at < 2000);
            fill_value(&value, sizes[turn - 1], turn);
            heap->limit_bytes = heap_used_bytes(heap) + (size_t)at * 4096;
            done = local_put(replica, any_key(&key), buf_slice(&value)) == STATUS_OK;
            heap->limit_bytes = 0;
            bench_settle(bench);
            failed += !done;
            if (done) stands = turn;
            EXPECT(local_get(replica, any_key(&key), &found) == STATUS_OK);
            EXPECT(found.size == (stands == 0 ? 100000 : sizes[stands - 1]));
            for (size_t i = 0; i < found.size; i++) EXPECT(found.data[i] == stands);
        }
    }
    EXPECT(failed > 100);
    EXPECT(local_forget(replica, any_key(&key)));
    bench_settle(bench);
    EXPECT(local_get(replica, any_key(&key), &found) == STATUS_NOT_FOUND);
    buf_deinit(&key);
    buf_deinit(&value);
    buf_deinit(&found);
    bench_destroy(bench);
}

static void expect_kept(struct bench *bench, node_id id, const char *expected)
{
    struct buf key = {.heap = &bench->heap}, found = {.heap = &bench->heap};
    EXPECT(local_get(replica_of(bench, id), any_key(&key), &found) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&found), slice_from_text(expected)));
    buf_deinit(&key);
    buf_deinit(&found);
}

static void put_value(struct bench *bench, node_id id, const char *value)
{
    struct buf key = {.heap = &bench->heap};
    EXPECT(local_put(replica_of(bench, id), any_key(&key), slice_from_text(value)) == STATUS_OK);
    bench_settle(bench);
    buf_deinit(&key);
}

TEST_CASE(a_start_whose_numbers_are_used_up_counts_as_another_one)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    uint64_t boot = replica_of(bench, 2)->self.boot;
    replica_of(bench, 2)->local_count = LOCAL_WRITES_MAX - 1;
    put_value(bench, 2, "first");
    EXPECT(replica_of(bench, 2)->self.boot == boot + 1);
    EXPECT(replica_of(bench, 2)->local_count < 1000);
    put_value(bench, 2, "second");
    expect_kept(bench, 2, "second");
    bench_pass(bench, 3000);
    EXPECT(health_card_of(replica_of(bench, 1)->health, 2)->boot == boot + 1);
    /* The next start is one more, and its writes come after all of these. */
    bench_kill(bench, 2, SIM_DISK_KILLED);
    bench_restart(bench, 2);
    EXPECT(replica_of(bench, 2)->self.boot == boot + 2);
    put_value(bench, 2, "third");
    expect_kept(bench, 2, "third");
    bench_pass(bench, 3000);
    EXPECT(!replica_of(bench, 2)->starts.rolled_back && replica_serves(replica_of(bench, 2)));
    bench_destroy(bench);
}

static struct record record_at(const struct bench *bench, uint32_t number)
{
    return record_of_set((struct version){((1000000 + bench->now_ms) << 16) + number, 7}, 1);
}

/* Keeps hints for a node that hears nothing. */
static void keep_hints(struct bench *bench, node_id id, node_id peer, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "w%04u", i);
        struct record record = record_at(bench, i);
        EXPECT(replica_hint_keep(replica_of(bench, id), peer, slice_from_text(key), &record));
    }
    bench_settle(bench);
}

/* What it keeps of itself goes into what is left for removals; what others may send does not. */
TEST_CASE(a_member_starts_on_a_disk_that_is_nearly_full)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct bench_node *node = &bench->nodes[1];
    EXPECT(bench_put(bench, 2, "w", 1)->reply.outcome == REQUEST_DONE);
    bench_settle(bench);
    bench_kill(bench, 1, SIM_DISK_POWER_LOSS);
    node->world.options.low_water_bytes = 256 << 10;
    sim_disk_set_capacity(node->world.disk, sim_disk_used_bytes(node->world.disk) + (128 << 10));
    EXPECT(store_world_open(&node->world) == STATUS_OK);
    store_tick(node->world.store, node->world.now_ms);
    EXPECT(store_can_write(node->world.store) == STATUS_FULL);
    bench_start(bench, 1);
    bench_settle(bench);
    bench_pass(bench, 3000);
    EXPECT(store_can_write(node->world.store) == STATUS_FULL);
    EXPECT(bench_get(bench, 1, "w", CONSISTENCY_QUORUM)->scores[0] == 1);
    /* Others take what this one has no room for. */
    EXPECT(bench_put(bench, 1, "w", 2)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_peek(bench, 1, "w") == 1 && bench_peek(bench, 2, "w") == 2);
    struct record record = record_of_set((struct version){77, 2}, 1);
    EXPECT(!replica_hint_keep(node->replica, 2, SLICE_LITERAL("w"), &record));
    bench_destroy(bench);
}

TEST_CASE(a_hint_that_is_damaged_is_given_up)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    bench->deaf[2][PROTOCOL_DATA] = true;
    keep_hints(bench, 1, 2, 1);
    struct buf name = {.heap = &bench->heap};
    local_key(&name, LOCAL_HINT);
    for (unsigned i = 0; i < 28; i++) buf_append_u8(&name, i == 1 ? 2 : 1); /* Of node 2. */
    EXPECT(local_put(replica_of(bench, 1), buf_slice(&name), SLICE_LITERAL("\x05no")) == STATUS_OK);
    bench_settle(bench);
    bench_kill(bench, 1, SIM_DISK_KILLED);
    bench_restart(bench, 1);
    EXPECT(replica_hint_total(replica_of(bench, 1)) == 2);
    EXPECT(replica_hint_owes(replica_of(bench, 1), UINT64_MAX - 1));
    bench->deaf[2][PROTOCOL_DATA] = false;
    bench_pass(bench, 5000);
    EXPECT(replica_hint_total(replica_of(bench, 1)) == 0);
    EXPECT(!replica_hint_owes(replica_of(bench, 1), UINT64_MAX - 1));
    EXPECT(bench_peek(bench, 2, "w0000") == 1);
    buf_deinit(&name);
    bench_destroy(bench);
}

/* Node 4 is to own what node 2 is owed. */
TEST_CASE(many_hints_are_copied_some_at_a_time)
{
    enum { HINTS = 2500, AT_ONCE = 1024 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(4, &settings, NULL);
    struct change change = {.kind = CHANGE_BEGIN, .next = {1, 3, 4}, .next_count = 3};
    bench_change(bench, &change);
    for (node_id id = 1; id <= 4; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
    bench->deaf[2][PROTOCOL_DATA] = bench->deaf[4][PROTOCOL_DATA] = true;
    for (node_id id = 2; id <= 4; id++) bench->mute[id][PROTOCOL_TOPOLOGY] = true;
    bench_start_all(bench);
    struct replica *replica = replica_of(bench, 1);
    keep_hints(bench, 1, 2, HINTS);
    unsigned turns = 0;
    for (uint64_t before = HINTS, now; before < 2 * HINTS; before = now, turns++) {
        EXPECT(!replica_hint_clear(replica, 4));
        bench_settle(bench);
        now = replica_hint_total(replica);
        EXPECT(now > before && now - before <= AT_ONCE);
    }
    EXPECT(turns == 3);
    EXPECT(!replica_hint_clear(replica, 4)); /* They are on their way. */
    bench_settle(bench);
    EXPECT(replica_hint_total(replica) == 2 * HINTS);
    bench_destroy(bench);
}

static size_t count_heard(const struct replica *replica, node_id id)
{
    size_t count = 0;
    for (size_t i = 0; i < replica->moves.heard_count; i++)
        count += replica->moves.heard[i].node == id;
    return count;
}

/* Two thirds of the shards come to node 2, more than a message has room for; none goes on to its next stage. */
TEST_CASE(all_that_is_filled_is_told)
{
    enum { SHARDS = 450, COMING = 300 };
    static char texts[SHARDS][8];
    const char *cuts[SHARDS] = {0};
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    for (unsigned i = 0; i + 1 < SHARDS; i++) {
        snprintf(texts[i], sizeof texts[i], "c%03u", i);
        cuts[i] = texts[i];
    }
    struct bench *bench = bench_prepare(3, &settings, cuts);
    size_t coming = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard shard = rangemap_shard(bench->map, i);
        struct change change = {.kind = CHANGE_BEGIN, .next = {2}, .next_count = 1};
        char low[8] = {0};
        if (owners_contain(&shard.owners, 2)) continue;
        if (shard.low.size > 0) memcpy(low, shard.low.data, shard.low.size);
        change.low = slice_of(low, shard.low.size);
        bench_change(bench, &change);
        coming++;
    }
    EXPECT(coming == COMING);
    for (node_id id = 1; id <= 3; id++) {
        bench_start(bench, id);
        replica_of(bench, id)->map_stays = true;
    }
    bench_pass(bench, 12000);
    EXPECT(count_heard(replica_of(bench, 1), 2) == COMING);
    bench_destroy(bench);
}

TEST_CASE(only_members_say_that_nothing_is_owed_and_by_maps_that_are_known)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct replica *replica = replica_of(bench, 1);
    const struct rangemap_identity *map = rangemap_identity(replica_map(replica));
    struct topology_message message = {
        .kind = TOPOLOGY_CLEAR, .generation = map->generation, .number = map->number};
    replica_moves_clear(replica, 7, &message);
    EXPECT(replica->moves.clear_count == 0);
    message.number++;
    replica_moves_clear(replica, 2, &message);
    EXPECT(replica->moves.clear_count == 0);
    message.number--;
    replica_moves_clear(replica, 2, &message);
    EXPECT(replica->moves.clear_count == 1);
    bench_destroy(bench);
}

TEST_MAIN(TEST(a_value_of_many_pieces_is_there_whole_or_the_one_before_it_is),
          TEST(a_start_whose_numbers_are_used_up_counts_as_another_one),
          TEST(a_member_starts_on_a_disk_that_is_nearly_full),
          TEST(a_hint_that_is_damaged_is_given_up), TEST(many_hints_are_copied_some_at_a_time),
          TEST(all_that_is_filled_is_told),
          TEST(only_members_say_that_nothing_is_owed_and_by_maps_that_are_known))
