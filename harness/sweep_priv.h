/* SPDX-License-Identifier: MIT */
/* Inside of the sweep, shared by sweep.c (what to do next) and sweep_open.c (taking
 * hold of a sweep directory and of run directories). */
#ifndef FF_SWEEP_PRIV_H
#define FF_SWEEP_PRIV_H

#include "sweep.h"

#define FF_PHASE_TRAIN (-1)

struct ff_sweep {
    struct ff_plan *plan;
    struct ff_exec *exec;
    const struct ff_programs *programs;
    const struct ff_sweep_options *options;
    struct ff_sweep_view view; /* its grid is the plan's: not freed here */
    struct ff_event_log log;
    int lock_fd;
    bool *selected;   /* (cells) by --only */
    uint8_t *rescore; /* (cells) bit e: entry e is to be scored anew */
    int current;      /* cell whose child runs, -1 = none */
    int phase;        /* FF_PHASE_TRAIN or an eval index */
    double child_since, began;
    int64_t first_iteration; /* of the running child, where progress was first seen */
    double first_seen;
    int resumed_cell;   /* cell of the last stop that was not asked for, -1 */
    int64_t resumed_at; /* the farthest iteration it had reached then */
    int outside_stops;  /* since it got that far */
    int busy_tries;
    char busy[400];    /* what the last child could not have, and who has it; "" */
    double busy_retry; /* ff_now() of the next try; 0 = the sweep stops */
    double busy_since; /* first try of this wait; 0 = none */
    int busy_wait_ms;  /* from the last try to the next */
    int64_t ended;     /* cells that ended in this run */
    bool failed_one;
};

/* Appends an event, applies it, frees its fields. */
int ff_sweep_event(struct ff_sweep *sweep, struct ff_event *event, struct ff_err *err);
/* Reads one cell; a damaged directory is set aside. */
int ff_sweep_refresh(struct ff_sweep *sweep, int index, struct ff_err *err);
/* Waits for, then ends, a program that still holds the run directory of this key.
 * FF_ESTOPPED if a stop is asked for meanwhile. */
int ff_sweep_wait_holder(struct ff_sweep *sweep, const char *dir, const char *key,
                         struct ff_err *err);
/* Renames a broken run directory to <dir>.broken-N and says so in the log. */
int ff_sweep_set_aside(struct ff_sweep *sweep, const char *dir, const char *key,
                       const char *reason, struct ff_err *err);

#endif
