/* What every unit test uses: cmocka, one seed, and EXPECT.
 *
 * `test_seed` comes from the environment (TEST_SEED), else it is fixed; a failed
 * EXPECT prints it, so that any failure can be run again. */
#pragma once

/* cmocka.h wants these four first. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t test_seed __attribute__((unused)) = 1;

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "TEST_SEED=%llu\n", (unsigned long long)test_seed);                    \
            _assert_true(0, #condition, __FILE__, __LINE__);                                       \
        }                                                                                          \
    } while (0)

/* clang-format off */
#define TEST(function) {#function, test_run_##function, NULL, NULL, NULL}
/* clang-format on */

/* Wraps a test without arguments for cmocka. */
#define TEST_CASE(function)                                                                        \
    static void function(void);                                                                    \
    static void test_run_##function(void **state)                                                  \
    {                                                                                              \
        (void)state;                                                                               \
        function();                                                                                \
    }                                                                                              \
    static void function(void)

#define TEST_MAIN(...)                                                                             \
    int main(void)                                                                                 \
    {                                                                                              \
        const char *seed = getenv("TEST_SEED");                                                    \
        if (seed != NULL) test_seed = strtoull(seed, NULL, 10);                                    \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                                           \
        return cmocka_run_group_tests(tests, NULL, NULL);                                          \
    }
