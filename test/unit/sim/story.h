/* EXPECT_STORY: what a simulated world said since the last one, line by line, without the times. */
#pragma once

#include <stdio.h>
#include <string.h>

#include "sim/world.h"
#include "test.h"

/* Copies the trace without `[  12] ` before each line. */
static void story_of(struct sim *sim, char *story, size_t size)
{
    struct slice trace = sim_trace(sim);
    size_t at = 0;
    while (trace.size > 0) {
        const uint8_t *end = memchr(trace.data, '\n', trace.size);
        size_t line = end == NULL ? trace.size : (size_t)(end - trace.data) + 1;
        const uint8_t *text = memchr(trace.data, ']', line);
        size_t skipped = text == NULL ? 0 : (size_t)(text - trace.data) + 2;
        size_t shown = line - skipped < size - 1 - at ? line - skipped : size - 1 - at;
        memcpy(story + at, trace.data + skipped, shown);
        at += shown;
        trace = slice_from(trace, line);
    }
    story[at] = 0;
    sim_forget_trace(sim);
}

static bool story_is(struct sim *sim, const char *expected)
{
    static char story[1 << 16];
    story_of(sim, story, sizeof story);
    if (strcmp(story, expected) == 0) return true;
    fprintf(stderr, "--- the story was\n%s--- and should be\n%s", story, expected);
    return false;
}

#define EXPECT_STORY(sim, expected) EXPECT(story_is((sim), (expected)))
