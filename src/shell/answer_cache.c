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

void answer_cache_forget(struct answer_cache *cache)
{
    for (int i = 0; cache->entries != NULL && i < ANSWER_CACHE_COUNT; i++)
        cache->entries[i].view = 0;
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

static size_t bytes_of(const struct answer_cache_entry *entry)
{
    return (size_t)entry->target_size + entry->answer_size;
}

/* Makes room for `size` bytes in place of `entry`. Others go in turn: most are of views that are
 * no more, and nobody will ask for them. */
static void make_room(struct answer_cache *cache, const struct answer_cache_entry *entry,
                      size_t size)
{
    while (cache->bytes - bytes_of(entry) + size > cache->bytes_max) {
        struct answer_cache_entry *other = &cache->entries[cache->hand++ % ANSWER_CACHE_COUNT];
        cache->bytes -= bytes_of(other);
        heap_free(cache->heap, other->bytes);
        *other = (struct answer_cache_entry){0};
    }
}

void answer_cache_put(struct answer_cache *cache, struct slice target, uint64_t view,
                      struct slice answer)
{
    size_t size = target.size + answer.size;
    if (size > ANSWER_CACHE_BYTES_MAX || size > cache->bytes_max) return;

    uint64_t hash = XXH3_64bits(target.data, target.size);
    struct answer_cache_entry *entry = &cache->entries[hash % ANSWER_CACHE_COUNT];
    make_room(cache, entry, size);
    uint8_t *bytes = heap_realloc(cache->heap, entry->bytes, size);
    if (bytes == NULL) return;
    cache->bytes += size - bytes_of(entry);
    memcpy(bytes, target.data, target.size);
    memcpy(bytes + target.size, answer.data, answer.size);
    *entry = (struct answer_cache_entry){
        hash, view, (uint32_t)target.size, (uint32_t)answer.size, bytes,
    };
}
