/* What the programs that measure one structure share: time, words, a dictionary, a file. They
 * end where something fails. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "core/dictionary.h"
#include "core/packed.h"

/* Time of the processor. */
double engine_now_s(void);

struct engine_word {
    struct slice key;
    double score;
    uint64_t line; /* When it was added, from 0. */
};

struct engine_words {
    struct buf keys;
    struct engine_word *items; /* In key order, each once. */
    size_t count;
    size_t key_bytes;
};

enum engine_key { ENGINE_KEY_PLAIN, ENGINE_KEY_ENCODED };

/* Reads lines of a word, a tab and a score (1 where there is none). A key is the word as it is,
 * or as core/key.h encodes it. */
void engine_words_read(struct engine_words *words, struct heap *heap, const char *path,
                       enum engine_key kind);

/* The same by hand: init, add each, sort once. */
void engine_words_init(struct engine_words *words, struct heap *heap);
void engine_words_add(struct engine_words *words, struct slice key, double score);
void engine_words_sort(struct engine_words *words);

void engine_words_deinit(struct engine_words *words);

/* The numbers below `count` in a random order, always the same; free() it. */
uint32_t *engine_shuffled(size_t count);

/* Trains on runs of neighbouring keys spread evenly over all. */
struct dictionary *engine_train(const struct engine_words *words, struct heap *heap,
                                size_t sample_bytes);

/* A packed trie in memory that is aligned as a file's would be. */
struct engine_file {
    uint8_t *bytes;
    size_t size;
    struct packed *packed;
};

/* Finishes and destroys the builder, and opens what it made. */
void engine_file_open(struct engine_file *file, struct heap *heap, struct packed_builder *builder);
void engine_file_close(struct engine_file *file);
