#include "sim/store_world.h"

#include <string.h>

#include "base/check.h"

static const uint8_t identity[16] = "a simulated one";

struct store_options store_world_options(void)
{
    struct store_options options = store_options_default();
    options.memtrie_bytes_max = 1 << 20; /* Less than an arena begins with: flush when asked. */
    options.log_bytes_max = 16 << 10;
    options.log_segment_bytes = 8 << 10;
    options.file_bytes = 8 << 10;
    options.tier_runs_max = 3;
    options.low_water_bytes = 0;
    options.reserve_bytes = 0;
    options.gc_age_ms = 1000;
    return options;
}

enum status store_world_open(struct store_world *world)
{
    return store_open(sim_disk_env(world->disk), &world->heap, &world->options, identity,
                      world->now_ms, &world->store, &world->report);
}

enum status store_world_init(struct store_world *world, uint64_t seed,
                             const struct store_options *options)
{
    *world = (struct store_world){.options = *options, .now_ms = 1000000};
    heap_init(&world->heap, 0);
    world->disk = sim_disk_create(seed);
    enum status status = query_scratch_create(&world->heap, &world->scratch);
    if (status == STATUS_OK) status = store_world_open(world);
    return status;
}

void store_world_close(struct store_world *world)
{
    if (world->job != NULL) {
        enum status ignored = store_job_finish(world->store, world->job, STATUS_CANCELLED);
        (void)ignored;
        world->job = NULL;
    }
    store_close(world->store);
    world->store = NULL;
}

void store_world_deinit(struct store_world *world)
{
    store_world_close(world);
    query_scratch_destroy(world->scratch);
    sim_disk_destroy(world->disk);
    CHECK(heap_used_bytes(&world->heap) == 0);
}

enum status store_world_write(struct store_world *world, const struct store_write *writes,
                              size_t count, struct store_outcome *outcomes, uint64_t *sequence)
{
    struct store_outcome outcome;
    store_batch_begin(world->store, world->now_ms);
    if (outcomes != NULL) store_write_all(world->store, writes, outcomes, count);
    for (size_t i = 0; i < count && outcomes == NULL; i++)
        store_write(world->store, &writes[i], &outcome);
    return store_batch_commit(world->store, sequence);
}

enum status store_world_sync(struct store_world *world)
{
    struct log_sync sync;
    enum status status = store_sync_begin(world->store, &sync);
    if (status == STATUS_END) return STATUS_OK;
    if (status != STATUS_OK) return status;
    status = log_sync_run(&sync);
    store_sync_complete(world->store, &sync, status);
    return status;
}

static enum status finish_job(struct store_world *world, enum status status)
{
    struct store_job *job = world->job;
    world->job = NULL;
    return store_job_finish(world->store, job, status);
}

static enum status prepare_log(struct store_world *world)
{
    struct log_prepare prepare;
    if (!store_prepare_begin(world->store, &prepare)) return STATUS_OK;
    enum status status = log_prepare_run(&prepare);
    store_prepare_complete(world->store, &prepare, status);
    /* Without room the log goes on in segments made on the spot. */
    return status == STATUS_FULL ? STATUS_OK : status;
}

enum status store_world_job_step(struct store_world *world)
{
    enum status status;
    uint64_t bytes;
    if (world->job == NULL) {
        status = prepare_log(world);
        if (status != STATUS_OK) return status;
        status = store_job_begin(world->store, &world->job);
        if (status != STATUS_OK) return status;
        world->stage = STORE_WORLD_BUILDING;
        return STATUS_PARTIAL;
    }
    switch (world->stage) {
    case STORE_WORLD_BUILDING:
        status = store_job_step(world->job, &bytes);
        if (status == STATUS_OK) world->stage = STORE_WORLD_RESOLVING;
        break;
    case STORE_WORLD_RESOLVING:
        status = store_job_resolve(world->store, world->job);
        if (status == STATUS_BUSY)
            status = store_world_sync(world);
        else if (status == STATUS_OK)
            world->stage = STORE_WORLD_COMMITTING;
        break;
    case STORE_WORLD_COMMITTING:
        status = store_job_commit(world->job);
        if (status == STATUS_OK) world->stage = STORE_WORLD_TAKING_IN;
        break;
    default:
        status = store_job_take_in(world->store, world->job);
        if (status == STATUS_OK) return finish_job(world, status);
        if (status == STATUS_NOMEM) return status;
        break;
    }
    if (status == STATUS_OK || status == STATUS_PARTIAL) return STATUS_PARTIAL;
    return finish_job(world, status);
}

enum status store_world_settle_down(struct store_world *world)
{
    enum status status;
    do {
        status = store_world_job_step(world);
    } while (status == STATUS_OK || status == STATUS_PARTIAL);
    if (status != STATUS_END) return status;

    status = store_flush_begin(world->store, &world->job);
    if (status == STATUS_END) return store_world_sync(world);
    if (status != STATUS_OK) return status;
    world->stage = STORE_WORLD_BUILDING;
    return store_world_settle_down(world);
}

void store_world_reclaim(struct store_world *world)
{
    store_reclaim(world->store, store_view_number(world->store) - 1);
}

enum status store_world_restart(struct store_world *world, enum sim_disk_restart how)
{
    store_world_close(world);
    sim_disk_restart(world->disk, how);
    return store_world_open(world);
}

struct query store_world_query(const struct store_world *world)
{
    return store_query(store_view(world->store), world->now_ms,
                       (struct heap *)(uintptr_t)&world->heap, world->scratch);
}
