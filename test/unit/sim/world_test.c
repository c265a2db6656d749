#include "sim/world.h"

#include "sim/minimise.h"
#include "story.h"
#include "test.h"
#include "toy.h"

/* All own everything, all must acknowledge, any one answers. */
static struct sim_options toy_options(uint64_t seed)
{
    struct sim_options options;
    sim_options_draw(&options, seed);
    sim_options_keep_map(&options);
    options.node_count = 3;
    options.spare_count = 0;
    options.shard_count = 1;
    options.settings.replication_factor = 3;
    options.settings.write_quorum = 3;
    options.settings.read_quorum = 1;
    options.network.duplicate_ppm = seed % 2 * 20000;
    options.faults.jump_ms = 3600000;
    options.faulty_ms = 60000;
    options.served_ms = 10000;
    options.converges = true;
    options.program = &toy_ops;
    return options;
}

static struct sim_finding run_toy(uint64_t seed, enum toy_bug bug, uint64_t *hash,
                                  struct sim_stats *stats)
{
    toy_bug = bug;
    struct sim_options options = toy_options(seed);
    struct sim *sim = sim_create(&options);
    sim_run(sim);
    struct sim_finding finding = *sim_finding(sim);
    *hash = sim_hash(sim);
    *stats = sim_stats(sim);
    sim_destroy(sim);
    return finding;
}

TEST_CASE(nothing_is_found_in_a_program_that_is_right)
{
    struct sim_stats sum = {0};
    for (uint64_t seed = test_seed; seed < test_seed + 40; seed++) {
        uint64_t hash;
        struct sim_stats stats;
        struct sim_finding finding = run_toy(seed, TOY_IS_RIGHT, &hash, &stats);
        if (finding.check != SIM_CHECK_NONE)
            fprintf(stderr, "seed %llu: %s: %s\n", (unsigned long long)seed,
                    sim_check_name(finding.check), finding.text);
        EXPECT(finding.check == SIM_CHECK_NONE);
        sum.faults += stats.faults;
        sum.done += stats.done;
        sum.unknown += stats.unknown;
        sum.starts += stats.starts;
        sum.looks += stats.looks;
        sum.checked += stats.checked;
    }
    printf("%llu faults, %llu starts, %llu operations done, %llu unknown; %llu looks\n",
           (unsigned long long)sum.faults, (unsigned long long)sum.starts,
           (unsigned long long)sum.done, (unsigned long long)sum.unknown,
           (unsigned long long)sum.looks);
    EXPECT(sum.faults > 100 && sum.starts > 200 && sum.done > 10000);
    EXPECT(sum.unknown > 100 && sum.looks > 100000 && sum.checked > 10000);
}

/* What is found of each way in which the toy can be broken: one of two checks, as the one or the
 * other comes first. */
static const enum sim_check found_by[TOY_BUG_COUNT][2] = {
    [TOY_ACKNOWLEDGES_EARLY] = {SIM_CHECK_LOST},
    [TOY_WAITS_FOR_TOO_FEW] = {SIM_CHECK_LOST},
    [TOY_DROPS_WRITES] = {SIM_CHECK_LOST},
    [TOY_ANSWERS_TWICE] = {SIM_CHECK_ANSWER},
    [TOY_NEVER_ANSWERS] = {SIM_CHECK_ANSWER},
    [TOY_READS_THE_PAST] = {SIM_CHECK_STALE},
    [TOY_INVENTS] = {SIM_CHECK_INVENTED, SIM_CHECK_COUNTER},
    [TOY_COUNTS_TWICE] = {SIM_CHECK_COUNTER},
    [TOY_MISCOUNTS] = {SIM_CHECK_COUNT},
    [TOY_SKIPS] = {SIM_CHECK_SCAN, SIM_CHECK_ORDER},
    [TOY_SWAPS] = {SIM_CHECK_ORDER},
    [TOY_NEVER_REPAIRS] = {SIM_CHECK_DIVERGED},
    [TOY_REFUSES] = {SIM_CHECK_UNSERVED},
    [TOY_SAYS_DONE_TOO_MUCH] = {SIM_CHECK_LOST, SIM_CHECK_HIDDEN},
    [TOY_QUEUES_WITHOUT_END] = {SIM_CHECK_BOUND},
    [TOY_HAS_A_MAP_OF_ITS_OWN] = {SIM_CHECK_MAP},
};

TEST_CASE(each_way_to_be_broken_is_found)
{
    for (unsigned bug = TOY_IS_RIGHT + 1; bug < TOY_BUG_COUNT; bug++) {
        struct sim_finding finding = {0};
        uint64_t seed = test_seed, hash;
        struct sim_stats stats;
        for (; finding.check == SIM_CHECK_NONE && seed < test_seed + 20; seed++)
            finding = run_toy(seed, (enum toy_bug)bug, &hash, &stats);
        if (finding.check != found_by[bug][0] && finding.check != found_by[bug][1])
            fprintf(stderr, "bug %u: %s: %s\n", bug, sim_check_name(finding.check), finding.text);
        EXPECT(finding.check != SIM_CHECK_NONE);
        EXPECT(finding.check == found_by[bug][0] || finding.check == found_by[bug][1]);
    }
}

TEST_CASE(the_same_seed_gives_the_same_run)
{
    for (uint64_t seed = test_seed; seed < test_seed + 5; seed++) {
        uint64_t hash, again, other;
        struct sim_stats stats;
        run_toy(seed, TOY_IS_RIGHT, &hash, &stats);
        run_toy(seed, TOY_IS_RIGHT, &again, &stats);
        run_toy(seed + 100, TOY_IS_RIGHT, &other, &stats);
        EXPECT(hash == again);
        EXPECT(hash != other);
    }
}

TEST_CASE(a_failing_run_is_made_smaller)
{
    toy_bug = TOY_WAITS_FOR_TOO_FEW;
    struct sim_options options = toy_options(test_seed);
    options.faults.gap_ms = 1000;
    options.faults.kinds = FAULT_BIT(FAULT_KIND_COUNT) - 1;
    struct minimised minimised;
    minimise(&options, 60, &minimised);
    EXPECT(minimised.finding.check == SIM_CHECK_LOST);
    EXPECT(minimised.fault_count == 0); /* It takes none. */
    EXPECT(minimised.options.client_count < options.client_count || options.client_count == 1);

    struct sim *sim = sim_create(&minimised.options);
    EXPECT(!sim_run(sim));
    EXPECT(sim_finding(sim)->check == SIM_CHECK_LOST);
    sim_destroy(sim);
    minimised_deinit(&minimised);
}

/* A world without clients and faults, for a story. */
static struct sim *quiet_sim(const struct sim_program_ops *program)
{
    struct sim_options options = toy_options(test_seed);
    options.program = program;
    options.client_count = 0;
    options.faults.kinds = 0;
    options.network = (struct network_options){.delay_us = 2000};
    options.traced = true;
    return sim_create(&options);
}

TEST_CASE(a_trace_tells_the_story)
{
    toy_bug = TOY_IS_RIGHT;
    struct sim *sim = quiet_sim(&toy_ops);
    sim_run_for(sim, 100);
    sim_forget_trace(sim);

    struct request set = {.kind = REQUEST_SET, .key = sim_key(sim, "a"), .score = 7};
    uint32_t ask = sim_ask(sim, 0, &set);
    sim_run_for(sim, 100);
    enum request_outcome outcome;
    EXPECT(sim_answered(sim, ask, &outcome) && outcome == REQUEST_DONE);
    EXPECT_STORY(sim, "c0 asks n1, operation 0: set a\n"
                      "c0 is told of operation 0: done 1800000000100.0@1 score 7, 0 entries\n");

    sim_crash(sim, 1, true);
    struct request get = {.kind = REQUEST_GET, .key = sim_key(sim, "a")};
    sim_ask(sim, 1, &get);
    sim_run_for(sim, 10);
    sim_start(sim, 1);
    sim_ask(sim, 1, &get);
    sim_run_for(sim, 10);
    EXPECT_STORY(sim, "n2 is without power\n"
                      "c1 asks n2, operation 1: get a\n"
                      "c1 gets no answer to operation 1\n"
                      "n2 starts, boot 2\n"
                      "c2 asks n2, operation 2: get a\n"
                      "c2 is told of operation 2: done 0.0@0 score 0, 1 entries\n");
    sim_destroy(sim);
}

/* What the inspection of nodes finds when somebody tampers with them. */

static struct sim *sim_with_word(void)
{
    toy_bug = TOY_IS_RIGHT;
    struct sim *sim = quiet_sim(&toy_ops);
    struct request set = {.kind = REQUEST_SET, .key = sim_key(sim, "a"), .score = 7};
    sim_ask(sim, 0, &set);
    sim_run_for(sim, 100);
    sim_inspect(sim);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_NONE);
    return sim;
}

static void tamper(struct sim *sim, uint32_t node, const struct store_write *write)
{
    struct sim_process *process = sim_process(sim, node);
    struct store_outcome outcome;
    uint64_t sequence;
    struct log_sync sync;
    store_batch_begin(process->store, sim_process_wall_ms(process));
    store_write(process->store, write, &outcome);
    EXPECT(outcome.status == STATUS_OK);
    EXPECT(store_batch_commit(process->store, &sequence) == STATUS_OK);
    EXPECT(store_sync_begin(process->store, &sync) == STATUS_OK);
    store_sync_complete(process->store, &sync, log_sync_run(&sync));
}

static void forget(struct sim *sim, uint32_t node)
{
    tamper(sim, node, &(struct store_write){.kind = STORE_FORGET, .key = sim_key(sim, "a")});
}

TEST_CASE(a_write_that_a_node_lost_is_found)
{
    struct sim *sim = sim_with_word();
    forget(sim, 1);
    sim_inspect(sim);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_LOST);
    sim_destroy(sim);
}

TEST_CASE(a_write_that_a_disk_lost_is_found_when_the_node_starts)
{
    struct sim *sim = sim_with_word();
    sim_crash(sim, 2, false);
    sim_disk_restore(sim_process(sim, 2)->disk, NULL);
    sim_start(sim, 2);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_LOST);
    sim_destroy(sim);
}

/* Of operation 0, under a version that it never had. */
static struct record old_record(void)
{
    struct record record = record_of_set((struct version){UINT64_C(1) << 32, 1}, 7);
    record.has_payload = true;
    record.payload = SLICE_LITERAL("o0");
    return record;
}

static void remove_word(struct sim *sim)
{
    struct request remove = {.kind = REQUEST_REMOVE, .key = sim_key(sim, "a")};
    sim_ask(sim, 0, &remove);
    sim_run_for(sim, 100);
    sim_inspect(sim);
}

TEST_CASE(an_older_copy_of_what_was_purged_is_found)
{
    struct sim *sim = sim_with_word();
    remove_word(sim);
    for (uint32_t node = 0; node < 3; node++) forget(sim, node);
    sim_inspect(sim);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_NONE);
    struct record old = old_record();
    tamper(sim, 1,
           &(struct store_write){.kind = STORE_MERGE, .key = sim_key(sim, "a"), .record = &old});
    sim_inspect(sim);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_CAME_BACK);
    sim_destroy(sim);
}

TEST_CASE(a_purge_while_an_older_copy_lives_is_found)
{
    struct sim *sim = sim_with_word();
    remove_word(sim);
    struct record old = old_record();
    forget(sim, 1);
    tamper(sim, 1,
           &(struct store_write){.kind = STORE_MERGE, .key = sim_key(sim, "a"), .record = &old});
    forget(sim, 2);
    sim_inspect(sim);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_CAME_BACK);
    sim_destroy(sim);
}

TEST_CASE(two_values_of_one_version_are_found)
{
    struct sim *sim = sim_with_word();
    struct checker *checker = sim_checker(sim);
    struct operation set = {
        .kind = REQUEST_SET, .word = checker_find(checker, sim_key(sim, "b")), .score = 7};
    for (uint32_t node = 0; node < 2; node++) {
        char payload[24];
        size_t size = checker_payload(checker_invoke(checker, 1, &set), payload);
        struct record record = old_record();
        record.payload = slice_of(payload, size);
        tamper(sim, node,
               &(struct store_write){
                   .kind = STORE_MERGE, .key = sim_key(sim, "b"), .record = &record});
    }
    sim_inspect(sim);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_FORKED);
    sim_destroy(sim);
}

TEST_CASE(a_digest_that_is_not_that_of_the_records_is_found)
{
    struct sim *sim = sim_with_word();
    sim_process(sim, 0)->options.hash_seed++;
    for (unsigned i = 0; i < 100; i++) sim_inspect(sim); /* Of prefixes drawn. */
    EXPECT(sim_finding(sim)->check == SIM_CHECK_DIGEST);
    sim_destroy(sim);
}

TEST_CASE(a_node_that_does_not_start_is_found)
{
    struct sim *sim = sim_with_word();
    sim_crash(sim, 1, false);
    sim_disk_put(sim_process(sim, 1)->disk, "MANIFEST", SLICE_LITERAL("nonsense"));
    sim_start(sim, 1);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_START);
    sim_destroy(sim);
}

/* Real nodes, one of which leaves while another joins: two owners of everything, in one shard. */
static struct sim *sim_of_replicas(void)
{
    struct sim_options options = toy_options(test_seed);
    options.program = NULL;
    options.settings.replication_factor = options.settings.write_quorum = 2;
    options.node_count = 2;
    options.spare_count = 1;
    options.map_stays = false;
    options.client_count = 0;
    options.faults.kinds = 0;
    options.network = (struct network_options){.delay_us = 2000};
    struct sim *sim = sim_create(&options);
    sim_run_for(sim, 5000);
    struct request set = {.kind = REQUEST_SET, .key = sim_key(sim, "a"), .score = 7};
    uint32_t ask = sim_ask(sim, 0, &set);
    sim_run_for(sim, 100);
    enum request_outcome outcome;
    EXPECT(sim_answered(sim, ask, &outcome) && outcome == REQUEST_DONE);
    EXPECT(sim_join(sim) == 2);
    EXPECT(sim_leave(sim, 0, true, 1));
    sim_run_for(sim, 60000);
    return sim;
}

TEST_CASE(a_machine_joins_and_one_leaves_and_ends)
{
    struct sim *sim = sim_of_replicas();
    char why[256] = "";
    bool converged = sim_has_converged(sim, why);
    if (!converged) fprintf(stderr, "%s\n", why);
    EXPECT(converged);
    EXPECT(!sim_is_member(sim, 0) && sim_is_member(sim, 2));
    EXPECT(sim_process(sim, 0)->state == PROCESS_DOWN);
    EXPECT(sim->machines[2].id == 3);
    EXPECT(sim_join(sim) == 0); /* It may come back, as somebody new. */
    sim_run_for(sim, 30000);
    EXPECT(sim->machines[0].id == 4 && sim_is_member(sim, 0));
    EXPECT(sim_finding(sim)->check == SIM_CHECK_NONE);
    sim_destroy(sim);
}

TEST_CASE(a_write_that_those_who_own_it_now_lost_is_found)
{
    struct sim *sim = sim_of_replicas();
    sim_inspect(sim);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_NONE);
    forget(sim, 2);
    sim_inspect(sim);
    EXPECT(sim_finding(sim)->check == SIM_CHECK_LOST);
    sim_destroy(sim);
}

TEST_MAIN(TEST(nothing_is_found_in_a_program_that_is_right), TEST(each_way_to_be_broken_is_found),
          TEST(the_same_seed_gives_the_same_run), TEST(a_failing_run_is_made_smaller),
          TEST(a_trace_tells_the_story), TEST(a_write_that_a_node_lost_is_found),
          TEST(a_write_that_a_disk_lost_is_found_when_the_node_starts),
          TEST(an_older_copy_of_what_was_purged_is_found),
          TEST(a_purge_while_an_older_copy_lives_is_found),
          TEST(two_values_of_one_version_are_found),
          TEST(a_digest_that_is_not_that_of_the_records_is_found),
          TEST(a_node_that_does_not_start_is_found), TEST(a_machine_joins_and_one_leaves_and_ends),
          TEST(a_write_that_those_who_own_it_now_lost_is_found))
