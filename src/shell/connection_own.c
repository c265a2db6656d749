/* Reads of a member that its own view answers: which view, and by what right. */
#include "shell/clock.h"
#include "shell/connection_private.h"

bool connection_own_moment(struct connection *connection, struct moment *out)
{
    struct loop *loop = connection->loop;
    struct own_board *board = host_own_board(loop->server->options.cluster);
    /* An answer that is kept was good by what stood when it was made. */
    if (own_copy_renew(&loop->own, board)) answer_cache_forget(&loop->cache);
    if (loop->own.ranges == NULL) return false;
    *out = (struct moment){
        .view = engine_view(loop->server->engine),
        .wall_ms = own_board_wall_ms(board, clock_monotonic_us() / 1000),
        .own = loop->own.ranges,
    };
    /* Else what the view lacks may be what this node is not to answer about any more. */
    return own_copy_stands(&loop->own, board);
}
