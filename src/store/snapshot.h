/* Snapshot: all that the store held at one moment, for readers that take their time.
 *
 * A view has to be let go within 100 ms, because memory tries and overlays go on changing
 * under it. A snapshot lasts: what memory holds is flushed first, and from then on it
 * consists of files, which never change, and of its own copies of their overlays. Files that
 * are merged away meanwhile stay until the last snapshot that needs them ends.
 *
 * It belongs to the process: a restart ends it, and no file is lost or left by that.
 *
 * Invariants
 *   1. It holds exactly the batches up to store_snapshot_sequence(), all of them durable.
 *   2. Every key is current in at most one of its layers, as in a view.
 *   3. What is written, expires, is flushed, merged or swept later changes no answer but by
 *      the `now_ms` of a query.
 *
 * Design: docs/design/store.md. */
#pragma once

#include "store/store.h"

struct store_snapshot;

/* Takes the state of the tip, between two batches. `*job` is the flush that it waits for, to
 * be driven as any other; NULL when memory held nothing and the snapshot is ready at once.
 *
 * Errors: STATUS_BUSY while a job is under way or a memory trie waits for its flush, unless
 *         memory holds nothing; STATUS_READ_ONLY; STATUS_NOMEM. Nothing is then changed.
 * Cost:   O(dead entries), in memory too. */
enum status store_snapshot_begin(struct store *store, struct store_snapshot **out,
                                 struct store_job **job);

/* STATUS_PARTIAL while the flush is under way, STATUS_OK once it can be read; else why the
 * flush has failed. */
enum status store_snapshot_status(const struct store_snapshot *snapshot);

/* The last batch of the log that it contains. */
uint64_t store_snapshot_sequence(const struct store_snapshot *snapshot);

/* A query over a snapshot that is ready, of everything (any thread, until it ends). Words
 * that expire by `now_ms` are left out, as in a view. */
struct query store_snapshot_query(const struct store_snapshot *snapshot, uint64_t now_ms,
                                  struct heap *heap, struct query_scratch *scratch);

/* Lets go, whether it is ready or not; NULL is accepted. No query may be under way, and every
 * snapshot must have ended before store_close(). */
void store_snapshot_end(struct store *store, struct store_snapshot *snapshot);
