#include "cluster/token.h"

#include <limits.h>
#include <string.h>

#include "base/prng.h"
#include "strict.h"
#include "test.h"

static struct heap heap = {.failure_after = -1};

static struct token_group group_of(node_id a, node_id b, uint64_t sequence)
{
    struct token_group group = {0};
    EXPECT(token_group_put(&group, (struct token_place){a, 100 + a, sequence}));
    if (b != 0) EXPECT(token_group_put(&group, (struct token_place){b, 100 + b, sequence + 1}));
    return group;
}

static struct token token_of(const struct token_group *groups, size_t count)
{
    struct token token = {0};
    for (size_t i = 0; i < count; i++) token_add(&token, &groups[i]);
    return token;
}

static bool decode(struct slice bytes, struct buf *again)
{
    struct token token;
    buf_clear(again);
    if (token_decode(bytes, &token) != STATUS_OK) return false;
    token_encode(&token, again);
    return true;
}

/* The bytes of docs/format/peer.md. */
TEST_CASE(a_token_has_these_bytes)
{
    static const uint8_t expected[] = {
        0, 1,                                                          /* not lost, one group */
        2,                                                             /* places */
        1, 0, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0xac, 2, /* node 1 */
        3, 0, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 7,       /* node 3 */
    };
    struct buf bytes = {.heap = &heap}, again = {.heap = &heap};
    struct token_group group = {0};
    EXPECT(token_group_put(&group, (struct token_place){3, 0x2827262524232221, 7}));
    EXPECT(token_group_put(&group, (struct token_place){1, 0x1817161514131211, 300}));
    struct token token = token_of(&group, 1);
    token_encode(&token, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));
    expect_strict(decode, buf_slice(&bytes));
    buf_deinit(&bytes);
    buf_deinit(&again);
}

TEST_CASE(any_token_comes_back_as_it_was)
{
    struct prng prng = {.state = test_seed};
    struct buf bytes = {.heap = &heap}, again = {.heap = &heap};
    for (int round = 0; round < 300; round++) {
        struct token token = {.lost = prng_one_in(&prng, 20)};
        uint32_t count = token.lost ? 0 : prng_below(&prng, 12);
        for (uint32_t i = 0; i < count; i++) {
            struct token_group group = {0};
            for (uint32_t j = 0; j <= prng_below(&prng, 4); j++)
                EXPECT(token_group_put(
                    &group, (struct token_place){(node_id)(1 + prng_below(&prng, 60000)),
                                                 prng_u64(&prng), 1 + prng_below(&prng, 1000)}));
            token_add(&token, &group);
        }
        buf_clear(&bytes);
        token_encode(&token, &bytes);
        EXPECT(bytes.size <= TOKEN_BYTES_MAX);
        EXPECT(decode(buf_slice(&bytes), &again));
        EXPECT(slice_equal(buf_slice(&bytes), buf_slice(&again)));
    }
    buf_deinit(&bytes);
    buf_deinit(&again);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(groups_that_share_a_place_become_what_they_share)
{
    struct token_group groups[] = {group_of(1, 2, 10), group_of(5, 6, 20), group_of(2, 3, 30)};
    struct token token = token_of(groups, 3);
    EXPECT(token.count == 2 && !token.lost);
    EXPECT(token_sequence(&token, 2) == 30 && token_sequence(&token, 1) == 0);
    EXPECT(token_sequence(&token, 3) == 0 && token_sequence(&token, 6) == 21);

    /* One that joins two. */
    struct token_group both = group_of(2, 6, 40);
    token_add(&token, &both);
    EXPECT(token.count >= 1);

    /* Of another disk it is another place. */
    struct token_group other = {0};
    EXPECT(token_group_put(&other, (struct token_place){2, 999, 50}));
    token_add(&token, &other);
    EXPECT(token.count >= 2);
}

TEST_CASE(only_places_of_all_groups_that_matter_fit)
{
    static const node_id owner_ids[] = {1, 2, 3}, others_ids[] = {7, 8};
    struct owners owners = {owner_ids, 3, 2, 2}, others = {others_ids, 2, 2, 1};
    struct token_group groups[] = {group_of(1, 2, 10), group_of(5, 6, 20)};
    struct token token = token_of(groups, 2);
    node_id ids[] = {3, 2, 1};
    EXPECT(token_fit(&token, &owners, ids, 3) == 2);
    EXPECT(ids[0] == 2 && ids[1] == 1 && ids[2] == 3);
    EXPECT(token_fit(&token, &owners, (node_id[]){3}, 1) == 0); /* The others are down. */
    EXPECT(token_fit(&token, &others, (node_id[]){7, 8}, 2) == UINT_MAX);

    /* What was written to 1 and 3 and to 2 and 5 has nobody who has both. */
    struct token_group apart[] = {group_of(1, 3, 10), group_of(2, 5, 20)};
    token = token_of(apart, 2);
    EXPECT(token_fit(&token, &owners, ids, 3) == 0);
}

TEST_CASE(a_token_that_is_too_small_is_lost)
{
    struct token token = {0};
    static const node_id owner_ids[] = {1};
    struct owners owners = {owner_ids, 1, 1, 1};
    for (unsigned id = 10; id < 10 + 2 * TOKEN_GROUPS_MAX; id += 2) {
        struct token_group group = group_of((node_id)id, id + 1, 1);
        token_add(&token, &group);
    }
    EXPECT(!token.lost && token.count == TOKEN_GROUPS_MAX);
    struct token_group one = group_of(1, 0, 1);
    token_add(&token, &one);
    EXPECT(token.lost && token.count == 0);
    token_add(&token, &one);
    EXPECT(token.lost && token.count == 0);
    EXPECT(token_fit(&token, &owners, (node_id[]){1}, 1) == 0);
}

TEST_MAIN(TEST(a_token_has_these_bytes), TEST(any_token_comes_back_as_it_was),
          TEST(groups_that_share_a_place_become_what_they_share),
          TEST(only_places_of_all_groups_that_matter_fit), TEST(a_token_that_is_too_small_is_lost))
