/* Boot counters: a member finds out whether its disk is the one it had before, and a registrar votes
 * only if it is.
 *
 * An acceptor that forgot a promise can help a second value to be chosen, and an owner that forgot what
 * it acknowledged can answer without it. So each start of a node has a counter, kept on its disk, and
 * before it votes a majority of the other registrars has recorded that start; before it answers, that
 * many or all that are there. Any two majorities of them share one: whoever comes back with an
 * older disk meets a registrar that knows a start which this disk does not, and is refused. (Two times all that were
 * there share none, perhaps: docs/design/moves.md.) A
 * wiped disk is another incarnation, which is no registrar at all.
 *
 *     asking      a majority of the others recorded this start   → confirmed
 *     asking      one of them knows a start that the disk lacks  → rolled back, for good
 *     confirmed   a map with other registrars                    → asking, where they are too few
 *
 * Invariants
 *   1. boots_may_vote() only while this start is recorded, durably, by a majority of the other
 *      registrars of the node's map. There being none, at once.
 *   2. A record never falls: it is replaced by a later start of the same incarnation whose disk
 *      remembers the recorded one, and by nothing else.
 *   3. A start that was refused never votes, and no later one of the same disk.
 *
 * What a counter cannot tell: that a disk was brought back to an earlier moment of the newest
 * start. And with three registrars both others have to be there (docs/design/register.md). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/prng.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/boots_message.h"
#include "cluster/outbox.h"
#include "cluster/register_map.h"
#include "cluster/trace.h"

enum {
    BOOTS_RECORD_COUNT_MAX = 1024, /* As many as there may be members. */
    BOOTS_ASK_MS = 250,            /* To silent registrars, at first; doubles, ... */
    BOOTS_ASK_MAX_MS = 4000,       /* ... and grows no further. */
};

struct boots_record {
    node_id id;
    struct boot boot;
};

struct boots_news {
    bool store_starts;    /* `starts` has changed: make it durable. */
    node_id store_record; /* The record of this id has changed: make it durable. 0: none. */
    node_id newer;        /* This peer is of a later generation: fetch its map. 0: nobody. */
};

struct boots {
    struct heap *heap;
    const struct trace *trace; /* May be NULL. */
    struct starts starts;
    struct register_map map;
    bool confirmed[REGISTRAR_COUNT_MAX]; /* By the registrar at this place of the map. */
    struct boots_record *records;
    size_t record_count, record_capacity;
    unsigned waits;       /* How often the wait has doubled. */
    uint64_t deadline_ms; /* Of the next ask. */
    uint64_t invalid_count, foreign_count;
};

/* A node that starts. `starts` is durable already, with the start that is now (starts_next()). */
void boots_init(struct boots *boots, const struct starts *starts, struct heap *heap,
                const struct register_map *map, const struct trace *trace);
void boots_deinit(struct boots *boots);

/* A record that was kept, at the start. Errors: STATUS_CORRUPT, STATUS_NEWER, STATUS_LIMIT,
 * STATUS_NOMEM. */
enum status boots_restore(struct boots *boots, node_id id, struct slice bytes);

/* The record of a peer; NULL: none. */
const struct boot *boots_record(const struct boots *boots, node_id id);

/* The member is gone for good. Its id is never given again, so nobody will ask for it. */
void boots_forget(struct boots *boots, node_id id);

/* The node has a newer map: what the registrars that stay have confirmed still counts. */
void boots_set_map(struct boots *boots, const struct register_map *map, uint64_t now_ms);

/* Says the rule; nothing else decides who votes. */
bool boots_may_vote(const struct boots *boots);

/* A majority of the other registrars has this start on record: a disk from before it would be refused. */
bool boots_is_recorded(const struct boots *boots);

/* Whether this start is on record wherever it can be now, at a majority of the other registrars or at all of
 * them that are not down, or was refused. */
bool boots_is_known(const struct boots *boots, bool (*is_down)(const void *context, node_id id),
                    const void *context);

/* Takes a message of the peer `from`, the byte of the protocol first.
 *
 * Errors: STATUS_INVALID for one that breaks a rule: it is counted and changes nothing. */
enum status boots_receive(struct boots *boots, node_id from, struct slice bytes,
                          struct outbox *outbox, struct boots_news *news);

/* Asks who has not answered, when it is time; boots_next_ms() says when the next call is. */
void boots_tick(struct boots *boots, uint64_t now_ms, struct prng *prng, struct outbox *outbox);

/* UINT64_MAX: there is nothing to wait for. */
uint64_t boots_next_ms(const struct boots *boots);
