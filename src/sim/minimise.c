#include "sim/minimise.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { FAULTS_MAX = 4096 };

struct search {
    struct minimised *best;
    enum sim_check check;
    uint32_t run_count_max;
    bool dropped[FAULTS_MAX]; /* Of the run being tried. */
};

static struct sim_finding run(const struct sim_options *options)
{
    struct sim *sim = sim_create(options);
    sim_run(sim);
    struct sim_finding finding = *sim_finding(sim);
    sim_destroy(sim);
    return finding;
}

/* Takes the options over if the run fails as it did. */
static bool try(struct search *search, struct sim_options options)
{
    struct minimised *best = search->best;
    if (best->run_count >= search->run_count_max) return false;
    best->run_count++;
    options.dropped_faults = search->dropped;
    options.dropped_count = FAULTS_MAX;
    struct sim_finding finding = run(&options);
    if (finding.check != search->check) return false;
    memcpy(best->dropped, search->dropped, sizeof search->dropped);
    best->finding = finding;
    best->options = options;
    best->options.dropped_faults = best->dropped;
    return true;
}

/* The numbers of the faults that are left and begin before the finding. */
static uint32_t list_faults(const struct minimised *best, uint32_t numbers[FAULTS_MAX])
{
    struct sim *sim = sim_create(&best->options);
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim_fault_count(sim) && i < FAULTS_MAX; i++)
        if (!best->dropped[i] && sim_fault(sim, i)->at_us <= best->finding.at_us)
            numbers[count++] = i;
    sim_destroy(sim);
    return count;
}

static void keep_only(struct search *search, const uint32_t *numbers, uint32_t count, uint32_t from,
                      uint32_t to)
{
    memset(search->dropped, true, sizeof search->dropped);
    for (uint32_t i = 0; i < count; i++)
        if (i < from || i >= to) search->dropped[numbers[i]] = false;
}

/* Leaves out parts of `size` faults; true if one could be. */
static bool drop_parts(struct search *search, uint32_t size)
{
    static uint32_t numbers[FAULTS_MAX];
    uint32_t count = list_faults(search->best, numbers);
    bool any = false;
    for (uint32_t from = 0; from < count; from += size) {
        keep_only(search, numbers, count, from, from + size);
        if (!try(search, search->best->options)) continue;
        any = true;
        count = list_faults(search->best, numbers);
        from -= from < size ? from : size;
    }
    search->best->fault_count = count;
    return any;
}

static void drop_faults(struct search *search)
{
    static uint32_t numbers[FAULTS_MAX];
    uint32_t size = list_faults(search->best, numbers);
    search->best->fault_count = size;
    while (size > 0) {
        drop_parts(search, size);
        size /= 2;
    }
}

static void drop_clients(struct search *search)
{
    struct sim_options options = search->best->options;
    while (options.client_count > 1) {
        options.client_count /= 2;
        memcpy(search->dropped, search->best->dropped, sizeof search->dropped);
        if (!try(search, options)) return;
    }
}

static void drop_nodes(struct search *search)
{
    struct sim_options options = search->best->options;
    while (options.node_count > options.settings.replication_factor && options.node_count > 2) {
        options.node_count--;
        memcpy(search->dropped, search->best->dropped, sizeof search->dropped);
        if (!try(search, options)) return;
    }
}

static void drop_spares(struct search *search)
{
    struct sim_options options = search->best->options;
    while (options.spare_count > 0) {
        options.spare_count--;
        memcpy(search->dropped, search->best->dropped, sizeof search->dropped);
        if (!try(search, options)) return;
    }
}

void minimise(const struct sim_options *options, uint32_t run_count_max, struct minimised *out)
{
    static struct search search;
    *out = (struct minimised){.options = *options, .run_count = 1};
    out->dropped = calloc(FAULTS_MAX, sizeof *out->dropped);
    CHECK(out->dropped != NULL);
    for (uint32_t i = 0; i < options->dropped_count && i < FAULTS_MAX; i++)
        out->dropped[i] = options->dropped_faults[i];
    out->options.dropped_faults = out->dropped;
    out->options.dropped_count = FAULTS_MAX;
    out->options.traced = false;
    out->finding = run(&out->options);
    search = (struct search){out, out->finding.check, run_count_max, {false}};
    if (out->finding.check == SIM_CHECK_NONE) return;

    drop_nodes(&search);
    drop_spares(&search);
    drop_clients(&search);
    drop_faults(&search);
    drop_clients(&search);
}

void minimised_deinit(struct minimised *minimised)
{
    free(minimised->dropped);
    *minimised = (struct minimised){0};
}
