/* Where the replica's thread puts up what may be answered from the own view, and others look.
 *
 * The writer puts up what stands from now on, or that nothing does; a reader keeps a copy, and a look at it
 * costs one atomic load as long as nothing else was put up. A reader that takes a view between
 *
 *     own_copy_renew()     what is put up now
 *     store_view()         the newest view
 *     own_copy_stands()    and it is put up still
 *
 * has a view that was the newest one while that stood: what came first into view later, and what left it
 * before, was put up in its turn. docs/design/host.md, "Reads by the own view".
 *
 * Threads: own_board_put() and own_board_set_clock() by one, the others by any; a copy is one thread's. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "node/own_ranges.h"

struct own_board {
    _Atomic uint64_t number;   /* One more with all that is put up; from 1. */
    _Atomic int64_t offset_ms; /* From the monotonic time to the replica's. */
    pthread_mutex_t mutex;     /* Guards `ranges`, and all of `number` but looking at it. */
    struct own_ranges *ranges; /* NULL: nothing may be answered. */
};

struct own_copy {
    uint64_t number; /* 0: of nothing. */
    struct own_ranges *ranges;
};

void own_board_init(struct own_board *board);

/* Copies are dropped before. */
void own_board_deinit(struct own_board *board);

/* Takes the reference over; NULL: nothing stands. What stood before is nobody's by then who looks. */
void own_board_put(struct own_board *board, struct own_ranges *ranges);

void own_board_set_clock(struct own_board *board, int64_t offset_ms);

/* The time by which the replica would answer, of this monotonic one, both in milliseconds. */
uint64_t own_board_wall_ms(const struct own_board *board, uint64_t now_ms);

/* True if the copy is another one now. */
bool own_copy_renew(struct own_copy *copy, struct own_board *board);

bool own_copy_stands(const struct own_copy *copy, const struct own_board *board);

void own_copy_drop(struct own_copy *copy);
