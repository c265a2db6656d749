/* A progress bar on standard error, when that is a terminal: lines or bytes, rate, time left. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown;
    uint64_t total; /* Of `done`; 0: unknown. */
    uint64_t done;  /* Bytes or lines, whichever `total` counts. */
    uint64_t lines;
    bool counts_bytes; /* Shows `done`, bytes, instead of `lines`. */
    uint64_t start_ms, drawn_ms;
};

void progress_begin(struct progress *progress, uint64_t total);

/* Draws it anew, ten times a second at most. */
void progress_draw(struct progress *progress);

/* Takes the bar off the terminal. */
void progress_end(struct progress *progress);
