#include "store/run.h"

#include "store/names.h"

enum status run_open(struct env *env, struct heap *heap, uint64_t number, unsigned level,
                     struct run **out)
{
    enum status status;
    struct env_file *file = NULL;

    struct run *run = heap_zalloc(heap, sizeof *run);
    if (run == NULL) return STATUS_NOMEM;
    *run =
        (struct run){.env = env, .heap = heap, .number = number, .level = level, .group = number};

    status = env_open(env, name_of(NAME_RUN, number).text, ENV_READ, &file);
    if (status != STATUS_OK) goto done;
    status = env_file_map(file, &run->map);
    if (status != STATUS_OK) goto done;
    status = packed_open(heap, run->map->bytes, &run->packed);

done:
    env_file_close(file);
    if (status == STATUS_OK)
        *out = run;
    else
        run_close(run);
    return status;
}

void run_close(struct run *run)
{
    if (run == NULL) return;
    packed_close(run->packed);
    env_unmap(run->map);
    heap_free(run->heap, run);
}

void run_remove_files(struct env *env, uint64_t number, uint64_t overlay_number)
{
    enum status ignored = env_remove(env, name_of(NAME_RUN, number).text);
    if (overlay_number != 0) ignored = env_remove(env, name_of(NAME_OVERLAY, overlay_number).text);
    (void)ignored;
}

enum status run_copy_overlay(const struct run *run, const struct overlay_space *overlays,
                             struct overlay_space *space, overlay_root *out)
{
    return overlay_copy(overlays, run->overlay, packed_info(run->packed)->count, space, out);
}

bool run_is_damaged(const struct run *run)
{
    return run->unreadable || packed_is_damaged(run->packed) || env_map_damaged(run->map);
}
