/* Ids of jobs: what stands in a path, and nothing that only looks like it. */
#include <string.h>

#include "node/jobs.h"
#include "test.h"

static bool is_id(const char *text)
{
    struct job_id id;
    return job_id_read(slice_from_text(text), &id);
}

TEST_CASE(an_id_is_read_as_it_is_written)
{
    static const char *const ids[] = {"drain-1",     "drain-65535",
                                      "remove-3",    "join-40",
                                      "rebalance-1", "rebalance-999999999999999999",
                                      "repair-3-1",  "repair-65535-12"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct job_id id;
        char text[JOB_ID_BYTES_MAX];
        EXPECT(job_id_read(slice_from_text(ids[i]), &id));
        job_id_write(&id, text);
        EXPECT(strcmp(text, ids[i]) == 0);
    }
}

TEST_CASE(nothing_else_is_an_id)
{
    static const char *const texts[] = {
        "",
        "drain",
        "drain-",
        "drain-0",
        "drain-01",
        "drain-65536",
        "drain--1",
        "drain-1-1",
        "drain-1x",
        "drains-1",
        "Drain-1",
        "xdrain-1",
        "rebalance-",
        "rebalance-0",
        "rebalance-1-1",
        "repair-3",
        "repair-3-",
        "repair-3-0",
        "repair-3-1-1",
        "repair--1",
        "rebalance-1000000000000000000",
        "drain-1 ",
        "-1",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) EXPECT(!is_id(texts[i]));
}

TEST_MAIN(TEST(an_id_is_read_as_it_is_written), TEST(nothing_else_is_an_id))
