/* Which messages are farewells. */
#include "node/replica.h"
#include "shell/host_private.h"
#include "test.h"

/* A stranger's question begins with its kind and its incarnation, by chance, with no envelope before them: one in 256 has the
 * farewell's byte where that would end, and such a directory could never join. */
TEST_CASE(what_a_stranger_asks_is_no_farewell)
{
    struct heap heap;
    heap_init(&heap, 0);
    static struct host host;
    const struct peer_hello stranger = {.id = 0}, member = {.id = 3};
    const struct member joins = {.incarnation = UINT64_MAX,
                                 .capacity = 1,
                                 .zone = SLICE_LITERAL("z"),
                                 .address = SLICE_LITERAL("n:1")};
    struct buf ask = {.heap = &heap};
    replica_join_ask(&joins, 0, &ask);
    EXPECT(ask.data[8] == 0xff);
    EXPECT(!host_leave_message(&host, &stranger, buf_slice(&ask)));
    buf_deinit(&ask);
    static const uint8_t goes[] = {0, 0, 0, 0, 0, 0, 0, 0, 0xff, 1};
    EXPECT(host_leave_message(&host, &member, slice_of(goes, sizeof goes)));
}

TEST_MAIN(TEST(what_a_stranger_asks_is_no_farewell))
