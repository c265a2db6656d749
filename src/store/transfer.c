/* What was asked for about ranges on their way: each becomes a job when its turn comes. */
#include "base/check.h"
#include "store/job_internal.h"

/* --- Asking --- */

static void task_free(struct store *store, struct transfer_task *task)
{
    buf_deinit(&task->low);
    buf_deinit(&task->high);
    buf_deinit(&task->bytes);
    buf_deinit(&task->end);
    heap_free(store->heap, task);
}

static void unlink_task(struct store *store, struct transfer_task *task)
{
    struct transfer_task **at = &store->transfers;
    while (*at != task) at = &(*at)->next;
    *at = task->next;
    task_free(store, task);
}

static enum status task_add(struct store *store, enum store_transfer_kind kind, uint64_t number,
                            struct transfer_task **out)
{
    struct transfer_task **last = &store->transfers;
    size_t count = 0;
    CHECK(number > 0);
    for (; *last != NULL; last = &(*last)->next) count++;
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (count >= STORE_TRANSFERS_MAX) return STATUS_BUSY;
    struct transfer_task *task = heap_zalloc(store->heap, sizeof *task);
    if (task == NULL) return STATUS_NOMEM;
    task->kind = kind;
    task->number = number;
    buf_init(&task->low, store->heap);
    buf_init(&task->high, store->heap);
    buf_init(&task->bytes, store->heap);
    buf_init(&task->end, store->heap);
    *last = *out = task;
    return STATUS_OK;
}

/* Takes back what could not be asked for in full. */
static enum status task_ready(struct store *store, struct transfer_task *task)
{
    bool failed = task->low.failed || task->high.failed || task->bytes.failed;
    if (!failed) return STATUS_OK;
    unlink_task(store, task);
    return STATUS_NOMEM;
}

static enum status ask_about_range(struct store *store, enum store_transfer_kind kind,
                                   uint64_t number, const struct key_range *range,
                                   uint64_t bytes_max)
{
    struct transfer_task *task;
    enum status status = task_add(store, kind, number, &task);
    if (status != STATUS_OK) return status;
    buf_append_slice(&task->low, range->low);
    buf_append_slice(&task->high, range->high);
    task->bytes_max = bytes_max;
    return task_ready(store, task);
}

enum status store_transfer_export(struct store *store, uint64_t number,
                                  const struct key_range *range, uint64_t bytes_max)
{
    return ask_about_range(store, STORE_TRANSFER_EXPORT, number, range, bytes_max);
}

enum status store_transfer_ingest(struct store *store, uint64_t number,
                                  const struct key_range *range)
{
    return ask_about_range(store, STORE_TRANSFER_INGEST, number, range, 0);
}

enum status store_transfer_receive(struct store *store, uint64_t number, uint64_t offset,
                                   struct slice bytes)
{
    struct transfer_task *task;
    enum status status = task_add(store, STORE_TRANSFER_RECEIVE, number, &task);
    if (status != STATUS_OK) return status;
    task->offset = offset;
    buf_append_slice(&task->bytes, bytes);
    return task_ready(store, task);
}

/* --- Doing --- */

enum status store_transfer_begin(struct store *store, struct store_job **out)
{
    if (store->transfer_waits) return STATUS_END;
    for (struct transfer_task *task = store->transfers; task != NULL; task = task->next) {
        if (task->state != TASK_WAITS) continue;
        enum status status = job_begin_task(store, task, out);
        if (status == STATUS_BUSY || status == STATUS_NOMEM) return status;
        task->state = status == STATUS_OK ? TASK_UNDER_WAY : TASK_DONE;
        task->status = status;
        if (status == STATUS_OK) return STATUS_OK;
    }
    return STATUS_END;
}

static void remove_file(struct store *store, uint64_t number)
{
    enum status ignored = env_remove(store->env, name_of(NAME_TRANSFER, number).text);
    (void)ignored; /* It was not there, or the next start removes it. */
}

void store_transfer_complete(struct store *store, struct transfer_task *task, enum status status)
{
    store->transfer_waits = true;
    task->state = TASK_DONE;
    task->status = status;
    if (!task->dropped) return;
    remove_file(store, task->number);
    unlink_task(store, task);
}

void store_free_transfers(struct store *store)
{
    while (store->transfers != NULL) unlink_task(store, store->transfers);
    buf_deinit(&store->transfer_end);
}

/* --- What became of it --- */

bool store_transfer_next(struct store *store, struct store_transfer *out)
{
    struct transfer_task *task = store->transfers;
    while (task != NULL && task->state != TASK_DONE) task = task->next;
    if (task == NULL) return false;
    bool made = task->status == STATUS_OK && task->kind == STORE_TRANSFER_EXPORT;
    buf_deinit(&store->transfer_end);
    store->transfer_end = task->end;
    buf_init(&task->end, store->heap);
    *out = (struct store_transfer){
        .kind = task->kind,
        .number = task->number,
        .status = task->status,
        .size_bytes = made ? task->size_bytes : 0,
        .end = buf_slice(&store->transfer_end),
    };
    unlink_task(store, task);
    return true;
}

enum status store_transfer_read(struct store *store, uint64_t number, uint64_t offset, size_t size,
                                struct buf *out)
{
    struct env_file *file;
    enum status status = env_open(store->env, name_of(NAME_TRANSFER, number).text, ENV_READ, &file);
    if (status != STATUS_OK) return status;
    status = buf_ensure(out, size) ? STATUS_OK : STATUS_NOMEM;
    if (status == STATUS_OK) status = env_file_read(file, offset, out->data + out->size, size);
    if (status == STATUS_OK) out->size += size;
    env_file_close(file);
    return status;
}

void store_transfer_remove(struct store *store, uint64_t number)
{
    bool under_way = false;
    for (struct transfer_task *task = store->transfers, *next; task != NULL; task = next) {
        next = task->next;
        if (task->number != number) continue;
        if (task->state == TASK_UNDER_WAY)
            task->dropped = under_way = true; /* Its job has the file. */
        else
            unlink_task(store, task);
    }
    if (!under_way) remove_file(store, number);
}

struct transfer_list {
    struct store *store;
    void (*visit)(void *context, uint64_t number, uint64_t size_bytes);
    void *context;
};

static enum status list_entry(void *context, const char *name, bool is_file)
{
    struct transfer_list *list = context;
    struct env_file *file;
    uint64_t number, size_bytes = 0;
    if (!is_file || name_parse(name, &number) != NAME_TRANSFER) return STATUS_OK;
    enum status status = env_open(list->store->env, name, ENV_READ, &file);
    if (status != STATUS_OK) return status;
    status = env_file_size(file, &size_bytes);
    env_file_close(file);
    if (status == STATUS_OK) list->visit(list->context, number, size_bytes);
    return status;
}

enum status store_transfer_list(struct store *store,
                                void (*visit)(void *context, uint64_t number, uint64_t size_bytes),
                                void *context)
{
    struct transfer_list list = {store, visit, context};
    return env_list(store->env, list_entry, &list);
}
