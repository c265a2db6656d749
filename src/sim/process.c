#include "sim/process.h"

#include "base/check.h"
#include "base/math.h"

enum {
    UPKEEP_US = 100000,
    JOB_STEP_US = 2000,
    JOB_RETRY_US = 2000000,
};

void sim_process_init(struct sim_process *process, struct schedule *schedule, uint32_t node,
                      uint64_t seed, const struct store_options *options,
                      const struct sim_program_ops *ops, void *context)
{
    *process = (struct sim_process){
        .schedule = schedule,
        .ops = ops,
        .context = context,
        .node = node,
        .prng = {.state = seed},
        .options = *options,
        .sync_us = 300,
        .sync_slow = 1,
        .wake_us = UINT64_MAX,
    };
    heap_init(&process->heap, 0);
    process->disk = sim_disk_create(prng_u64(&process->prng));
    sim_clock_init(&process->clock, schedule->now_us);
}

uint64_t sim_process_now_ms(const struct sim_process *process)
{
    return sim_clock_monotonic_us(&process->clock, process->schedule->now_us) / 1000;
}

uint64_t sim_process_wall_ms(const struct sim_process *process)
{
    return sim_clock_wall_us(&process->clock, process->schedule->now_us) / 1000;
}

struct query sim_process_query(const struct sim_process *process)
{
    return store_query(store_view(process->store), sim_process_wall_ms(process),
                       (struct heap *)(uintptr_t)&process->heap, process->scratch);
}

static void add_event(struct sim_process *process, enum sim_process_event kind, uint64_t at_us)
{
    schedule_add(process->schedule, &(struct sim_event){
                                        .at_us = u64_max(at_us, process->schedule->now_us),
                                        .kind = kind,
                                        .node = process->node,
                                        .argument = process->boot,
                                    });
}

static void add_event_after(struct sim_process *process, enum sim_process_event kind,
                            uint32_t mean_us)
{
    uint32_t delay_us = mean_us / 2 + prng_below(&process->prng, mean_us + 1);
    add_event(process, kind, process->schedule->now_us + delay_us);
}

/* Some syncs are done when they begin and only reported late, others the other way round: what is
 * appended meanwhile is then durable as well, and nobody knows. */
static void run_sync(struct sim_process *process)
{
    process->sync_status = log_sync_run(&process->sync);
    process->sync_has_run = true;
}

static void begin_sync(struct sim_process *process)
{
    if (process->syncing) return;
    if (store_sync_begin(process->store, &process->sync) != STATUS_OK) return;
    process->syncing = true;
    process->sync_has_run = false;
    if (prng_one_in(&process->prng, 2)) run_sync(process);
    uint32_t mean_us = process->sync_us * process->sync_slow;
    if (prng_one_in(&process->prng, 64)) mean_us *= 32;
    add_event_after(process, PROCESS_SYNCED, mean_us);
}

static void end_sync(struct sim_process *process)
{
    if (!process->syncing) return;
    if (!process->sync_has_run) run_sync(process);
    process->syncing = false;
    store_sync_complete(process->store, &process->sync, process->sync_status);
    process->ops->synced(process->program);
}

/* One wake is on its way at a time, unless an earlier one is needed. */
static void plan_wake(struct sim_process *process)
{
    uint64_t wake_ms = process->ops->wake_ms(process->program);
    if (wake_ms > UINT64_MAX / 1000) return;
    uint64_t wake_us =
        sim_clock_true_us(&process->clock, process->schedule->now_us, wake_ms * 1000);
    if (wake_us >= process->wake_us) return;
    process->wake_us = wake_us;
    add_event(process, PROCESS_WAKE, wake_us);
}

/* What follows every step of the program or the store. */
static void after_step(struct sim_process *process)
{
    process->ops->commit(process->program);
    if (sim_disk_crashed(process->disk)) return;
    begin_sync(process);
    plan_wake(process);
}

static void close_all(struct sim_process *process)
{
    if (process->program != NULL) process->ops->stop(process->program);
    process->program = NULL;
    if (process->syncing)
        store_sync_complete(process->store, &process->sync,
                            process->sync_has_run ? process->sync_status : STATUS_IO);
    if (process->job != NULL) {
        enum status ignored = store_job_finish(process->store, process->job, STATUS_CANCELLED);
        (void)ignored;
        process->job = NULL;
    }
    store_close(process->store);
    process->store = NULL;
    query_scratch_destroy(process->scratch);
    process->scratch = NULL;
    process->syncing = false;
    process->wake_us = UINT64_MAX;
    process->state = PROCESS_DOWN;
    CHECK(heap_used_bytes(&process->heap) == 0);
}

enum status sim_process_start(struct sim_process *process)
{
    CHECK(process->state == PROCESS_DOWN);
    uint64_t identity[2] = {prng_u64(&process->prng), prng_u64(&process->prng)};
    process->boot++;
    process->disturbed_us = process->schedule->now_us;
    process->job_retry_us = 0;

    enum status status = query_scratch_create(&process->heap, &process->scratch);
    if (status == STATUS_OK)
        status = store_open(sim_disk_env(process->disk), &process->heap, &process->options,
                            (const uint8_t *)identity, sim_process_wall_ms(process),
                            &process->store, &process->report);
    if (status == STATUS_OK) status = process->ops->start(process, &process->program);
    if (status != STATUS_OK) {
        bool power_lost = sim_disk_crashed(process->disk);
        sim_disk_crash(process->disk);
        close_all(process);
        sim_disk_restart(process->disk, power_lost ? SIM_DISK_POWER_LOSS : SIM_DISK_KILLED);
        return power_lost ? STATUS_CANCELLED : status;
    }
    process->state = PROCESS_RUNNING;
    add_event_after(process, PROCESS_UPKEEP, UPKEEP_US);
    after_step(process);
    return STATUS_OK;
}

void sim_process_crash(struct sim_process *process, bool power_lost)
{
    if (process->state == PROCESS_DOWN) return;
    sim_disk_crash(process->disk); /* Closing writes nothing. */
    close_all(process);
    sim_disk_restart(process->disk, power_lost ? SIM_DISK_POWER_LOSS : SIM_DISK_KILLED);
}

void sim_process_deinit(struct sim_process *process)
{
    sim_process_crash(process, false);
    sim_disk_destroy(process->disk);
}

void sim_process_pause(struct sim_process *process, uint64_t until_us)
{
    if (process->state != PROCESS_RUNNING) return;
    process->state = PROCESS_PAUSED;
    process->paused_until_us = until_us;
    process->disturbed_us = until_us;
}

bool sim_process_is_ready(struct sim_process *process, const struct sim_event *event)
{
    if (process->state == PROCESS_RUNNING) return true;
    if (process->state == PROCESS_DOWN) return false;
    if (process->schedule->now_us >= process->paused_until_us) {
        process->state = PROCESS_RUNNING;
        return true;
    }
    struct sim_event later = *event;
    later.at_us = process->paused_until_us;
    schedule_add(process->schedule, &later);
    return false;
}

static enum status advance_job(struct sim_process *process)
{
    uint64_t bytes;
    enum status status;
    switch (process->job_stage) {
    case SIM_JOB_BUILDING:
        status = store_job_step(process->job, &bytes);
        if (status != STATUS_OK) return status;
        process->job_stage = SIM_JOB_RESOLVING;
        return STATUS_PARTIAL;
    case SIM_JOB_RESOLVING:
        status = store_job_resolve(process->store, process->job);
        if (status == STATUS_BUSY) return STATUS_PARTIAL; /* A sync is on its way. */
        if (status != STATUS_OK) return status;
        process->job_stage = SIM_JOB_COMMITTING;
        return STATUS_PARTIAL;
    default:
        return store_job_commit(process->job);
    }
}

static void step_job(struct sim_process *process)
{
    if (process->job == NULL) return;
    enum status status = advance_job(process);
    if (status == STATUS_PARTIAL) {
        bool commits = process->job_stage == SIM_JOB_COMMITTING;
        add_event_after(process, PROCESS_JOB, JOB_STEP_US * (commits ? process->sync_slow : 1));
        return;
    }
    struct store_job *job = process->job;
    process->job = NULL;
    if (store_job_finish(process->store, job, status) != STATUS_OK)
        process->job_retry_us = process->schedule->now_us + JOB_RETRY_US;
}

static void begin_job(struct sim_process *process)
{
    if (process->job != NULL || process->schedule->now_us < process->job_retry_us) return;
    if (store_job_begin(process->store, &process->job) != STATUS_OK) return;
    process->job_stage = SIM_JOB_BUILDING;
    add_event_after(process, PROCESS_JOB, JOB_STEP_US);
}

static void prepare_log(struct sim_process *process)
{
    struct log_prepare prepare;
    if (!store_prepare_begin(process->store, &prepare)) return;
    store_prepare_complete(process->store, &prepare, log_prepare_run(&prepare));
}

static void do_upkeep(struct sim_process *process)
{
    store_tick(process->store, sim_process_wall_ms(process));
    prepare_log(process);
    begin_job(process);
    store_reclaim(process->store, store_view_number(process->store) - 1);
    add_event_after(process, PROCESS_UPKEEP, UPKEEP_US);
}

void sim_process_event(struct sim_process *process, const struct sim_event *event)
{
    if (event->argument != process->boot || !sim_process_is_ready(process, event)) return;
    switch ((enum sim_process_event)event->kind) {
    case PROCESS_WAKE:
        if (process->wake_us > process->schedule->now_us) return; /* An earlier one was needed. */
        process->wake_us = UINT64_MAX;
        process->ops->tick(process->program);
        break;
    case PROCESS_SYNCED:
        end_sync(process);
        break;
    case PROCESS_UPKEEP:
        do_upkeep(process);
        break;
    case PROCESS_JOB:
        step_job(process);
        break;
    default:
        CHECK(false);
    }
    after_step(process);
}

void sim_process_message(struct sim_process *process, uint32_t from, struct slice bytes)
{
    process->ops->message(process->program, from, bytes);
    after_step(process);
}

void sim_process_request(struct sim_process *process, uint64_t id, const struct request *request)
{
    process->ops->request(process->program, id, request);
    after_step(process);
}

bool sim_process_is_broken(const struct sim_process *process)
{
    if (process->state == PROCESS_DOWN) return false;
    return sim_disk_crashed(process->disk) || store_can_write(process->store) == STATUS_READ_ONLY;
}
