/* Every state that one instance of the register can reach, for three registrars and two
 * proposers with a ballot each: with messages lost, doubled and out of order always, with crashes
 * and lost disks as each test says. REGISTER_EXPLORE (at the end) goes deeper. */
#include "register_explore.h"

static void expect_nothing(const struct explore_options *options, const char *name)
{
    struct explore_options telling = *options;
    telling.tells = true;
    struct explore_findings findings = explore_all(&telling, name);
    EXPECT(findings.two_chosen == 0);
    EXPECT(findings.learned_unchosen == 0);
    EXPECT(findings.promises_fallen == 0);
}

TEST_CASE(messages_alone)
{
    expect_nothing(&(struct explore_options){.ballots = {1, 1}}, "messages alone");
}

TEST_CASE(decisions_are_told_to_all)
{
    struct explore_options options = {.ballots = {1, 1}, .learners = 3};
    expect_nothing(&options, "all learn");
}

TEST_CASE(a_registrar_crashes)
{
    struct explore_options options = {.ballots = {1, 1}, .crashes = 2, .fragile = 1};
    expect_nothing(&options, "a registrar crashes twice");
}

/* It remembers nothing, begins with the first round again, and has another proposal. */
TEST_CASE(a_proposer_crashes)
{
    struct explore_options options = {.ballots = {1, 1}, .proposer_crashes = 1};
    expect_nothing(&options, "a proposer crashes");
}

TEST_CASE(a_disk_is_lost)
{
    struct explore_options options = {.ballots = {1, 1}, .losses = 1, .crashes = 1, .fragile = 1};
    expect_nothing(&options, "a disk is lost, and a crash");
}

/* The same without the rule that a majority of the others has to know the start: it bites. */
TEST_CASE(without_the_rule_two_values_are_chosen)
{
    struct explore_options options = {
        .ballots = {1, 1}, .losses = 1, .fragile = 1, .boots_rule_off = true};
    struct explore_findings findings = explore_all(&options, "a disk is lost, votes all the same");
    EXPECT(findings.two_chosen > 0);
}

/* REGISTER_EXPLORE="1 1 1 1 0 1 2": ballots of each proposer, crashes, lost disks, crashes of
 * proposers, registrars that are told decisions, registrars that crash. */
TEST_CASE(as_the_environment_says)
{
    const char *text = getenv("REGISTER_EXPLORE");
    struct explore_options options = {0};
    if (text == NULL) return;
    EXPECT(sscanf(text, "%u %u %u %u %u %u %u", &options.ballots[0], &options.ballots[1],
                  &options.crashes, &options.losses, &options.proposer_crashes, &options.learners,
                  &options.fragile) == 7);
    expect_nothing(&options, text);
}

TEST_MAIN(TEST(messages_alone), TEST(decisions_are_told_to_all), TEST(a_registrar_crashes),
          TEST(a_proposer_crashes), TEST(a_disk_is_lost),
          TEST(without_the_rule_two_values_are_chosen), TEST(as_the_environment_says))
