#include "cmd/progress.h"

#include "cmd/cli.h"

#include <stdio.h>
#include <unistd.h>

enum { DRAW_INTERVAL_MS = 100, BAR_WIDTH = 30 };

void progress_begin(struct progress *progress, uint64_t total)
{
    *progress = (struct progress){
        .shown = isatty(STDERR_FILENO),
        .total = total,
        .start_ms = cli_now_ms(),
    };
}

static void draw_bar(const struct progress *progress, uint64_t elapsed_ms)
{
    uint64_t done = progress->done < progress->total ? progress->done : progress->total;
    unsigned filled = (unsigned)((double)done / (double)progress->total * BAR_WIDTH);
    char bar[BAR_WIDTH + 1];
    for (unsigned i = 0; i < BAR_WIDTH; i++) bar[i] = i < filled ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "[%s] %3u%%  ", bar, filled * 100 / BAR_WIDTH);
    if (done > 0) {
        double left_s = (double)(progress->total - done) / (double)done * (double)elapsed_ms / 1000;
        fprintf(stderr, "%.0f s left  ", left_s);
    }
}

void progress_draw(struct progress *progress)
{
    uint64_t now_ms = cli_now_ms();
    if (!progress->shown || now_ms - progress->drawn_ms < DRAW_INTERVAL_MS) return;
    progress->drawn_ms = now_ms;
    uint64_t elapsed_ms = now_ms - progress->start_ms + 1;
    fputs("\r\033[K", stderr);
    if (progress->total > 0) draw_bar(progress, elapsed_ms);
    unsigned long long count = progress->counts_bytes ? progress->done >> 20 : progress->lines;
    const char *unit = progress->counts_bytes ? "MiB" : "lines";
    fprintf(stderr, "%llu %s, %llu a second", count, unit, count * 1000 / elapsed_ms);
}

void progress_end(struct progress *progress)
{
    if (progress->shown && progress->drawn_ms > 0) fputs("\r\033[K", stderr);
}
