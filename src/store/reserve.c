#include "store/reserve.h"

#include "store/names.h"

enum status reserve_held_bytes(struct env *env, uint64_t *out)
{
    struct env_file *file;
    enum status status = env_open(env, NAME_RESERVE_TEXT, ENV_READ, &file);
    if (status == STATUS_NOT_FOUND) {
        *out = 0;
        return STATUS_OK;
    }
    if (status != STATUS_OK) return status;
    status = env_file_size(file, out);
    env_file_close(file);
    return status;
}

static enum status open_or_create(struct env *env, struct env_file **out)
{
    enum status status = env_open(env, NAME_RESERVE_TEXT, ENV_WRITE, out);
    if (status != STATUS_NOT_FOUND) return status;
    return env_open(env, NAME_RESERVE_TEXT, ENV_CREATE, out);
}

static enum status resize(struct env_file *file, uint64_t wanted)
{
    uint64_t size;
    enum status status = env_file_size(file, &size);
    if (status != STATUS_OK) return status;
    if (size > wanted) return env_file_truncate(file, wanted);
    return env_file_write_zeros(file, size, wanted - size);
}

enum status reserve_restore(struct env *env, uint64_t size_bytes)
{
    struct env_file *file;
    enum status status = open_or_create(env, &file);
    if (status != STATUS_OK) return status;

    status = resize(file, size_bytes);
    if (status == STATUS_OK) status = env_file_sync(file);
    if (status == STATUS_FULL) {
        /* Half a reserve would take the room that somebody else needs now. */
        enum status emptied = env_file_truncate(file, 0);
        if (emptied != STATUS_OK) status = emptied;
    }
    env_file_close(file);
    if (status != STATUS_OK) return status;
    return env_sync_directory(env);
}

enum status reserve_release(struct env *env)
{
    struct env_file *file;
    enum status status = env_open(env, NAME_RESERVE_TEXT, ENV_WRITE, &file);
    if (status == STATUS_NOT_FOUND) return STATUS_OK;
    if (status != STATUS_OK) return status;
    status = env_file_truncate(file, 0);
    env_file_close(file);
    return status;
}
