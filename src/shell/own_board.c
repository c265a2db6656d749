#include "shell/own_board.h"

void own_board_init(struct own_board *board)
{
    *board = (struct own_board){.ranges = NULL};
    atomic_init(&board->number, 1);
    atomic_init(&board->offset_ms, 0);
    pthread_mutex_init(&board->mutex, NULL);
}

void own_board_deinit(struct own_board *board)
{
    own_ranges_unref(board->ranges);
    pthread_mutex_destroy(&board->mutex);
}

/* Release: who sees what this thread does next, a view that lacks something above all, sees this too. */
void own_board_put(struct own_board *board, struct own_ranges *ranges)
{
    pthread_mutex_lock(&board->mutex);
    struct own_ranges *before = board->ranges;
    board->ranges = ranges;
    atomic_fetch_add_explicit(&board->number, 1, memory_order_release);
    pthread_mutex_unlock(&board->mutex);
    own_ranges_unref(before);
}

void own_board_set_clock(struct own_board *board, int64_t offset_ms)
{
    atomic_store_explicit(&board->offset_ms, offset_ms, memory_order_relaxed);
}

uint64_t own_board_wall_ms(const struct own_board *board, uint64_t now_ms)
{
    return now_ms + (uint64_t)atomic_load_explicit(&board->offset_ms, memory_order_relaxed);
}

bool own_copy_stands(const struct own_copy *copy, const struct own_board *board)
{
    return atomic_load_explicit(&board->number, memory_order_acquire) == copy->number;
}

bool own_copy_renew(struct own_copy *copy, struct own_board *board)
{
    if (own_copy_stands(copy, board)) return false;
    own_copy_drop(copy);
    pthread_mutex_lock(&board->mutex);
    copy->number = atomic_load_explicit(&board->number, memory_order_relaxed);
    if (board->ranges != NULL) copy->ranges = own_ranges_ref(board->ranges);
    pthread_mutex_unlock(&board->mutex);
    return true;
}

void own_copy_drop(struct own_copy *copy)
{
    own_ranges_unref(copy->ranges);
    *copy = (struct own_copy){0};
}
