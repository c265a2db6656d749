/* Runs simulations of a cluster and says what they found.
 *
 *   simulate --seed N [--trace] [--map-stays] [--keep I,J,...] [--nodes N] [--spares N] [--clients N]
 *   simulate --seconds S [--map-stays] [--first N] [--count N] [--stop]
 *
 * The first runs one seed, the second fresh seeds for so long, or to the first that fails; a seed that fails is made smaller and
 * run once more for its trace. Ends with `N passed, N failed`, of seeds. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/minimise.h"
#include "sim/world.h"

enum { FAULTS_MAX = 4096, MINIMISING_RUNS_MAX = 80, TRACE_LINES = 60 };

struct arguments {
    uint64_t seed, first, count;
    bool has_seed, has_spares, trace, stop;
    bool map_stays;
    double seconds;
    uint32_t nodes, spares, clients;
    const char *keep;
};

struct sums {
    uint64_t passed, failed;
    struct sim_stats stats;
};

static double processor_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void add(struct sim_stats *sum, const struct sim_stats *stats)
{
    sum->virtual_ms += stats->virtual_ms;
    sum->events += stats->events;
    sum->messages += stats->messages;
    sum->operations += stats->operations;
    sum->done += stats->done;
    sum->failed += stats->failed;
    sum->unknown += stats->unknown;
    sum->faults += stats->faults;
    sum->starts += stats->starts;
}

static void print_trace(const struct sim *sim, bool whole)
{
    struct slice trace = sim_trace(sim);
    size_t lines = 0, from = trace.size;
    while (from > 0 && (whole || lines <= TRACE_LINES)) lines += trace.data[--from] == '\n';
    fwrite(trace.data + from, 1, trace.size - from, stdout);
}

static void print_dropped(const struct minimised *minimised)
{
    struct sim *sim = sim_create(&minimised->options);
    const char *separator = "";
    printf(" --keep ");
    for (uint32_t i = 0; i < sim_fault_count(sim) && i < FAULTS_MAX; i++) {
        if (minimised->dropped[i] || sim_fault(sim, i)->at_us > minimised->finding.at_us) continue;
        printf("%s%u", separator, i);
        separator = ",";
    }
    if (separator[0] == 0) printf("none");
    sim_destroy(sim);
}

/* How to see it again, and the last of what was said. */
static void explain(const struct sim_options *options)
{
    struct minimised minimised;
    minimise(options, MINIMISING_RUNS_MAX, &minimised);
    printf("smaller: simulate --seed %llu --nodes %u --spares %u --clients %u",
           (unsigned long long)options->seed, minimised.options.node_count,
           minimised.options.spare_count, minimised.options.client_count);
    print_dropped(&minimised);
    printf("%s --trace\n", options->map_stays ? " --map-stays" : "");

    minimised.options.traced = true;
    struct sim *sim = sim_create(&minimised.options);
    sim_run(sim);
    print_trace(sim, false);
    sim_destroy(sim);
    minimised_deinit(&minimised);
    fflush(stdout);
}

static bool keeps(const char *list, uint32_t number)
{
    char *end;
    for (const char *at = list; at != NULL && *at != 0; at = *end == ',' ? end + 1 : NULL) {
        unsigned long kept = strtoul(at, &end, 10);
        if (end == at) return false;
        if (kept == number) return true;
    }
    return false;
}

static struct sim_options options_of(const struct arguments *arguments, uint64_t seed)
{
    static bool dropped[FAULTS_MAX];
    struct sim_options options;
    sim_options_draw(&options, seed);
    options.traced = arguments->trace;
    if (arguments->map_stays) sim_options_keep_map(&options);
    if (arguments->nodes != 0) options.node_count = arguments->nodes;
    if (arguments->has_spares) options.spare_count = arguments->spares;
    if (arguments->clients != 0) options.client_count = arguments->clients;
    if (arguments->keep != NULL) {
        for (uint32_t i = 0; i < FAULTS_MAX; i++) dropped[i] = !keeps(arguments->keep, i);
        options.dropped_faults = dropped;
        options.dropped_count = FAULTS_MAX;
    }
    return options;
}

static void run(const struct arguments *arguments, uint64_t seed, struct sums *sums)
{
    struct sim_options options = options_of(arguments, seed);
    struct sim *sim = sim_create(&options);
    bool passed = sim_run(sim);
    struct sim_stats stats = sim_stats(sim);
    add(&sums->stats, &stats);
    if (arguments->trace) print_trace(sim, true);
    if (passed)
        sums->passed++;
    else
        sums->failed++;
    if (!passed || arguments->has_seed)
        printf("seed %llu: %s%s%s; %llu s, hash %016llx\n", (unsigned long long)seed,
               passed ? "passed" : sim_check_name(sim_finding(sim)->check), passed ? "" : ": ",
               sim_finding(sim)->text, (unsigned long long)stats.virtual_ms / 1000,
               (unsigned long long)sim_hash(sim));
    fflush(stdout);
    sim_destroy(sim);
    if (!passed && !arguments->trace && !arguments->stop) explain(&options);
}

static bool parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},    {"trace", no_argument, NULL, 't'},
        {"keep", required_argument, NULL, 'k'},    {"nodes", required_argument, NULL, 'n'},
        {"clients", required_argument, NULL, 'c'}, {"seconds", required_argument, NULL, 'S'},
        {"first", required_argument, NULL, 'f'},   {"count", required_argument, NULL, 'C'},
        {"stop", no_argument, NULL, 'o'},          {"spares", required_argument, NULL, 'p'},
        {"map-stays", no_argument, NULL, 'm'},     {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            arguments->has_seed = true;
            arguments->seed = strtoull(optarg, NULL, 10);
            break;
        case 't':
            arguments->trace = true;
            break;
        case 'k':
            arguments->keep = optarg;
            break;
        case 'n':
            arguments->nodes = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            arguments->clients = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'S':
            arguments->seconds = strtod(optarg, NULL);
            break;
        case 'f':
            arguments->first = strtoull(optarg, NULL, 10);
            break;
        case 'C':
            arguments->count = strtoull(optarg, NULL, 10);
            break;
        case 'p':
            arguments->has_spares = true;
            arguments->spares = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'm':
            arguments->map_stays = true;
            break;
        case 'o':
            arguments->stop = true;
            break;
        default:
            return false;
        }
    }
    return arguments->has_seed || arguments->seconds > 0;
}

static void print_sums(const struct sums *sums, double seconds)
{
    const struct sim_stats *stats = &sums->stats;
    double hours = (double)stats->virtual_ms / 3600000;
    printf("%.2f virtual hours in %.1f s of processor time (%.0f an hour): %llu events, %llu "
           "messages, %llu operations (%llu done, %llu failed, %llu unknown), %llu faults, %llu "
           "starts\n",
           hours, seconds, hours / seconds * 3600, (unsigned long long)stats->events,
           (unsigned long long)stats->messages, (unsigned long long)stats->operations,
           (unsigned long long)stats->done, (unsigned long long)stats->failed,
           (unsigned long long)stats->unknown, (unsigned long long)stats->faults,
           (unsigned long long)stats->starts);
    printf("%llu passed, %llu failed\n", (unsigned long long)sums->passed,
           (unsigned long long)sums->failed);
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.first = (uint64_t)time(NULL) << 16, .count = UINT64_MAX};
    struct sums sums = {0};
    if (!parse(argc, argv, &arguments)) {
        fprintf(stderr,
                "usage: simulate --seed N [--trace] [--map-stays] [--keep I,J] [--nodes N] "
                "[--spares N] [--clients N]\n"
                "       simulate --seconds S [--map-stays] [--first N] [--count N] [--stop]\n");
        return 2;
    }
    double start = processor_seconds();
    if (arguments.has_seed) {
        run(&arguments, arguments.seed, &sums);
    } else {
        for (uint64_t seed = arguments.first; processor_seconds() - start < arguments.seconds &&
                                              seed - arguments.first < arguments.count;
             seed++) {
            if (arguments.stop) {
                printf("at seed %llu\n",
                       (unsigned long long)seed); /* Should it be the last word. */
                fflush(stdout);
            }
            run(&arguments, seed, &sums);
            if (arguments.stop && sums.failed > 0) break;
        }
    }
    print_sums(&sums, processor_seconds() - start);
    return sums.failed == 0 ? 0 : 1;
}
