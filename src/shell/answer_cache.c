#include "shell/answer_cache.h"

#include <string.h>
#include <xxhash.h>

enum status answer_cache_init(struct answer_cache *cache, struct heap *heap, size_t bytes_max)
{
    cache->heap = heap;
    cache->bytes_max = bytes_max;
    cache->entries = heap_zalloc(heap, ANSWER_CACHE_COUNT * sizeof *cache->entries);
    return cache->entries == NULL ? STATUS_NOMEM : STATUS_OK;
}

void answer_cache_deinit(struct answer_cache *cache)
{
    for (int i = 0; cache->entries != NULL && i < ANSWER_CACHE_COUNT; i++)
        heap_free(cache->heap, cache->entries[i].bytes);
    heap_free(cache->heap, cache->entries);
    cache->entries = NULL;
}

bool answer_cache_get(const struct answer_cache *cache, struct slice target, uint64_t view,
                      struct slice *answer)
{
    uint64_t hash = XXH3_64bits(target.data, target.size);
    const struct answer_cache_entry *entry = &cache->entries[hash % ANSWER_CACHE_COUNT];
    if (entry->hash != hash || entry->view != view) return false;
    if (!slice_equal(target, slice_of(entry->bytes, entry->target_size))) return false;
    *answer = slice_of(entry->bytes + entry->target_size, entry->answer_size);
    return true;
}

void answer_cache_put(struct answer_cache *cache, struct slice target, uint64_t view,
                      struct slice answer)
{
    if (target.size + answer.size > ANSWER_CACHE_BYTES_MAX) return;

    uint64_t hash = XXH3_64bits(target.data, target.size);
    struct answer_cache_entry *entry = &cache->entries[hash % ANSWER_CACHE_COUNT];
    size_t before = (size_t)entry->target_size + entry->answer_size;
    size_t after = target.size + answer.size;
    if (cache->bytes - before + after > cache->bytes_max) return;
    uint8_t *bytes = heap_realloc(cache->heap, entry->bytes, target.size + answer.size);
    if (bytes == NULL) return;
    cache->bytes += after - before;
    memcpy(bytes, target.data, target.size);
    memcpy(bytes + target.size, answer.data, answer.size);
    *entry = (struct answer_cache_entry){
        hash, view, (uint32_t)target.size, (uint32_t)answer.size, bytes,
    };
}
