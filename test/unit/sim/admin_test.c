/* Commands to a member that others ask for at the same time, or that find no room for their job. */
#include "node/admin.h"
#include "replica_bench.h"

static void question_of(struct bench *bench, enum node_endpoint endpoint, node_id node,
                        struct node_question *out)
{
    node_question_init(out, &bench->heap);
    out->endpoint = endpoint;
    out->params.node = node;
}

static enum admin_step begin(struct bench *bench, struct jobs *jobs, struct node_question *question)
{
    return admin_begin(jobs, bench->nodes[1].replica, bench_time(bench, 1), question);
}

/* Turns of node 1, until the command has its answer. */
static bool ends(struct bench *bench, struct jobs *jobs, struct node_question *question)
{
    for (int turn = 0; turn < 500; turn++) {
        struct replica_time time = bench_time(bench, 1);
        if (admin_go_on(jobs, bench->nodes[1].replica, time, question) == ADMIN_ENDED) return true;
        bench_pass(bench, 20);
    }
    return false;
}

static bool has(const struct node_question *question, const char *text)
{
    return memmem(question->entries.data, question->entries.size, text, strlen(text)) != NULL;
}

static void keep_from_deciding(struct bench *bench, bool kept)
{
    for (node_id id = 2; id <= bench->node_count; id++) bench->deaf[id][PROTOCOL_REGISTER] = kept;
}

/* Both wait for one wish; the deadline of the first takes it away. */
TEST_CASE(a_command_outlives_another_one_for_the_same_that_gave_up)
{
    struct rangemap_settings settings = bench_settings(2, 1, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct jobs jobs = {0};
    struct node_question first, second;
    question_of(bench, NODE_ADMIN_DRAIN, 3, &first);
    question_of(bench, NODE_ADMIN_DRAIN, 3, &second);
    keep_from_deciding(bench, true);
    EXPECT(begin(bench, &jobs, &first) == ADMIN_WAITS);
    EXPECT(begin(bench, &jobs, &second) == ADMIN_WAITS);
    bench_pass(bench, 1000);
    admin_give_up(bench->nodes[1].replica, &first);
    EXPECT(first.refused && first.refusal == PROBLEM_TIMEOUT);
    keep_from_deciding(bench, false);
    EXPECT(ends(bench, &jobs, &second));
    EXPECT(!second.refused && second.http_status == 202 && has(&second, "\"id\":\"drain-3\""));
    node_question_deinit(&first);
    node_question_deinit(&second);
    bench_destroy(bench);
}

/* A refusal for want of room is one only as long as there is none: the map tells of the job. */
TEST_CASE(a_job_that_found_no_room_is_told_once_there_is_some)
{
    struct rangemap_settings settings = bench_settings(2, 1, 2);
    struct bench *bench = bench_prepare(3, &settings, NULL);
    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 3, .leaving = true}};
    struct node_question full, told;
    bench_change(bench, &leave);
    keep_from_deciding(bench, true); /* It does not get away. */
    bench_start_all(bench);
    const struct rangemap_identity *map = rangemap_identity(replica_map(bench->nodes[1].replica));
    struct jobs jobs = {.count = JOBS_MAX, .map = map->number, .generation = map->generation};
    for (uint32_t i = 0; i < JOBS_MAX; i++)
        jobs.list[i] = (struct job){.id = {JOB_JOIN, 1000 + i, 0}, .state = JOB_RUNNING};
    question_of(bench, NODE_ADMIN_DRAIN, 3, &full);
    question_of(bench, NODE_ADMIN_DRAIN, 3, &told);
    EXPECT(begin(bench, &jobs, &full) == ADMIN_ENDED);
    EXPECT(full.refused && full.refusal == PROBLEM_OVERLOADED);
    jobs_end(&jobs.list[5], bench_time(bench, 1), JOB_DONE, NULL);
    EXPECT(begin(bench, &jobs, &told) == ADMIN_ENDED);
    EXPECT(!told.refused && told.http_status == 202 && has(&told, "\"id\":\"drain-3\""));
    node_question_deinit(&full);
    node_question_deinit(&told);
    bench_destroy(bench);
}

TEST_MAIN(TEST(a_command_outlives_another_one_for_the_same_that_gave_up),
          TEST(a_job_that_found_no_room_is_told_once_there_is_some))
