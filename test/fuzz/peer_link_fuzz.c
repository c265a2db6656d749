/* Any bytes as what a peer sends, in pieces of any size: nothing is given out before its HELLO fits,
 * bulk stays within its window, and a broken link says why. */
#include <string.h>

#include "base/check.h"
#include "proto/peer_link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct peer_hello ours = {.cluster = 7,
                                           .generation = 1,
                                           .id = 2,
                                           .incarnation = 9,
                                           .boot = 1,
                                           .window = PEER_BULK_BYTES_MAX};
    if (size == 0) return 0;
    size_t piece = 1 + data[0];
    struct slice rest = slice_of(data + 1, size - 1);
    struct heap heap;
    struct buf out;
    struct peer_link link;
    heap_init(&heap, 0);
    buf_init(&out, &heap);
    peer_link_init(&link, &heap, &ours);

    bool ready = false;
    size_t bulk = 0;
    while (rest.size > 0) {
        struct slice now = slice_prefix(rest, piece < rest.size ? piece : rest.size);
        struct slice message;
        enum peer_lane lane;
        rest = slice_from(rest, now.size);
        CHECK(peer_link_receive(&link, now) == STATUS_OK);
        for (;;) {
            enum peer_event event = peer_link_next(&link, &message, &lane);
            if (event == PEER_NOTHING) break;
            if (event == PEER_BROKEN) {
                CHECK(strlen(link.reason) > 0 || link.refused_by_peer);
                rest.size = 0;
                break;
            }
            CHECK(ready == (event == PEER_MESSAGE));
            ready = true;
            if (event != PEER_MESSAGE || lane != PEER_BULK) continue;
            bulk += message.size;
            CHECK(bulk <= PEER_BULK_BYTES_MAX);
            /* Every other one is worked off. */
            if (message.data[0] % 2 == 0) {
                peer_link_consumed(&link, message.size);
                bulk -= message.size;
            }
        }
        CHECK(peer_link_write(&link, 1 << 20, &out) == STATUS_OK);
    }
    peer_link_deinit(&link);
    buf_deinit(&out);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
