/* Dictionary of a packed trie: what its front-coded blocks are written with.
 *
 * Symbols: up to 15 k strings of up to 48 bytes, the hottest with one-byte codes, the
 * rest with two. Headers: the 255 commonest pairs of (change of the shared length, coded
 * length), one byte each. Both are trained on a sample of keys in order. Any dictionary
 * can encode any key; a good one makes it short. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"

struct dictionary;
struct dictionary_trainer;

/* `sample_bytes_max` bounds the suffix bytes kept (a few MiB train well; 64 KiB in
 * milliseconds). */
enum status dictionary_trainer_create(struct heap *heap, size_t sample_bytes_max,
                                      struct dictionary_trainer **out);
void dictionary_trainer_destroy(struct dictionary_trainer *trainer);

/* Takes one key of the sample. Within a run keys ascend; `first` starts a run, whose
 * first key only gives the context of the second. Runs of 64 to 256 keys from evenly
 * spread places are a good sample.
 * Errors: STATUS_NOMEM; STATUS_LIMIT when the sample is full: train now. */
enum status dictionary_trainer_add(struct dictionary_trainer *trainer, struct slice key,
                                   bool first);

/* An empty sample gives the dictionary of single bytes. */
enum status dictionary_train(struct dictionary_trainer *trainer, struct dictionary **out);

/* An equal one. A dictionary never changes: threads may share it as it is. */
enum status dictionary_copy(const struct dictionary *dictionary, struct heap *heap,
                            struct dictionary **out);
void dictionary_destroy(struct dictionary *dictionary);

/* Appends its bytes to `out`; see buf_status(). Equal dictionaries have equal bytes. */
void dictionary_encode(const struct dictionary *dictionary, struct buf *out);

/* Reads what dictionary_encode() wrote. Errors: STATUS_CORRUPT, STATUS_NOMEM. */
enum status dictionary_decode(struct heap *heap, struct slice bytes, struct dictionary **out);
