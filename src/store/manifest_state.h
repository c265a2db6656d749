/* The state that the manifest's edits build, and the bytes of an edit.
 *
 * An edit is a list of fields: tag (varint), size (varint), bytes. A program that does not
 * know an even tag cannot open the directory (STATUS_NEWER); odd ones it may skip, and
 * forgets at the next snapshot.
 *
 *     tag  bytes
 *       2  which (varint), value (varint): a number
 *       4  number, overlay, level, group, size (varints), size of the first key (varint),
 *          first key, last key: a run is added
 *       6  number (varint): a run is removed
 *       8  number, overlay (varints): a run has another overlay
 *      10  size of the key (varint), key, value: a value is set
 *      12  key: a value is removed
 *
 * States are never changed once built: an edit makes a new one beside the old. */
#pragma once

#include "base/heap.h"
#include "store/manifest.h"

/* Owns: a block of `heap`; free it with state_destroy(). */
enum status state_create(struct heap *heap, const uint8_t store_id[16],
                         struct manifest_state **out);

/* NULL is accepted. */
void state_destroy(struct heap *heap, struct manifest_state *state);

/* The state after `edit`, beside the one before.
 *
 * Errors: STATUS_CORRUPT if the bytes are no edit, STATUS_INVALID if it does not fit the
 * state, STATUS_NEWER for a tag that must be known, STATUS_NOMEM. */
enum status state_apply(struct heap *heap, const struct manifest_state *before, struct slice edit,
                        struct manifest_state **out);

/* Appends one edit that makes `state` from an empty one. */
void state_snapshot(const struct manifest_state *state, struct manifest_edit *edit);
