/* What the replica would answer from its own view, for threads that must not ask it: own_ranges.h.
 *
 * The conditions are those of a read at `one` (replica_read.c: this node is asked first where it is one of the
 * owners that readers ask; replica_serve.c: what it then may tell), and nothing of the replica changes. */
#include <xxhash.h>

#include "node/own_ranges.h"
#include "node/replica_private.h"

static bool is_here(const struct replica *replica)
{
    return replica->start_durable && !replica_is_kept_out(replica) && replica_serves(replica);
}

static bool may_answer(const void *context, const struct shard *shard)
{
    const struct replica *replica = context;
    return owners_contain(shard_read_owners(shard), replica->self.id) &&
           replica_may_tell(replica, shard, false) == DATA_OK;
}

enum status own_ranges_of(const struct replica *replica, struct own_ranges **out)
{
    *out = NULL;
    if (!is_here(replica)) return STATUS_OK;
    return own_ranges_create(replica->heap, replica->map, replica->self.id, may_answer, replica,
                             out);
}

static uint64_t mix(uint64_t mark, const void *bytes, size_t size)
{
    return size == 0 ? mark + 1 : XXH3_64bits_withSeed(bytes, size, mark + size);
}

/* All that replica_may_tell() looks at: the map, what is filled, what is complete. */
uint64_t own_ranges_mark(const struct replica *replica)
{
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    const struct replica_moves *moves = &replica->moves;
    const struct purge_ranges *purged = &replica->purge.purge.ranges;
    bool here = is_here(replica);
    uint64_t mark = mix(here, &identity->hash, sizeof identity->hash);
    mark = mix(mark, &identity->generation_id, sizeof identity->generation_id);
    for (size_t i = 0; i < moves->filling_count; i++) {
        const struct filling *filling = &moves->filling[i];
        mark = mix(mark, (uint64_t[]){filling->low_hash, filling->synced}, 2 * sizeof(uint64_t));
    }
    for (size_t i = 0; i < purged->count; i++) {
        const struct purge_piece *piece = &purged->pieces[i];
        mark = mix(mark, piece->low, piece->low_size);
        mark = mix(mark, piece->times.at, sizeof piece->times.at);
    }
    return mark == 0 ? 1 : mark;
}

int64_t own_clock_offset_ms(const struct replica *replica)
{
    return (int64_t)(replica->time.wall_ms - replica->time.now_ms);
}
