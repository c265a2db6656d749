/* What a check found wrong. The first finding of a run ends it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The checks, numbered as in docs/design/simulator.md. */
enum sim_check {
    SIM_CHECK_NONE,
    SIM_CHECK_LOST,      /* 1: an acknowledged write is not where it must be. */
    SIM_CHECK_CAME_BACK, /* 2: what was purged, or an older copy of it, is there. */
    SIM_CHECK_STALE,     /* 3: a read older than a write acknowledged before it began. */
    SIM_CHECK_HIDDEN,    /* 4: a write acknowledged under an older version than stood before. */
    SIM_CHECK_INVENTED,  /* 5: a value that nobody wrote, or not there, or not yet. */
    SIM_CHECK_COUNTER,   /* 6: a counter outside [acknowledged, attempted]. */
    SIM_CHECK_ORDER,     /* 7: entries out of order, twice, or a better one left out. */
    SIM_CHECK_SCAN,      /* 8: a word that was there throughout is missing from a walk. */
    SIM_CHECK_COUNT,     /* 9: a count that a walk contradicts. */
    SIM_CHECK_DIGEST,    /* 10: a digest that a computation contradicts. */
    SIM_CHECK_BOUND,     /* 11: a queue beyond its bound. */
    SIM_CHECK_ANSWER,    /* 12: a request answered twice, or by a healthy node not at all. */
    SIM_CHECK_MAP,       /* 13: two contents of one version of the map. */
    SIM_CHECK_FORKED,    /* 14: two values set under one version. */
    SIM_CHECK_DIVERGED,  /* 15: after healing, replicas that differ. */
    SIM_CHECK_UNSERVED,  /* 16: after healing, a request refused. */
    SIM_CHECK_START,     /* 17: a process that does not start from a disk without damage. */
    SIM_CHECK_COUNT_OF_ALL,
};

struct sim_finding {
    enum sim_check check; /* SIM_CHECK_NONE: nothing is wrong. */
    uint64_t at_us;
    char text[512];
};

/* A short name, as documented. */
const char *sim_check_name(enum sim_check check);

/* Keeps the first. */
__attribute__((format(printf, 4, 5))) void sim_find(struct sim_finding *finding,
                                                    enum sim_check check, uint64_t at_us,
                                                    const char *format, ...);
