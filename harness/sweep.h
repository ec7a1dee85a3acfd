/* SPDX-License-Identifier: MIT */
/* The sweep: brings every cell of a plan to an end, one child process at a time.
 *
 * State is what events and run directories say; a decision is written to the event log
 * before it counts. act() looks at the state and does the next thing; killed at any
 * moment and opened again it goes on from there. */
#ifndef FF_SWEEP_H
#define FF_SWEEP_H

#include "plan.h"
#include "sweep_state.h"

struct ff_sweep_options {
    bool retry_failed, fail_fast;
    bool score_only;   /* never train */
    bool rescore;      /* score finished cells even where their scores are current */
    const char *only;  /* "name=value,..." or NULL */
    int64_t max_cells; /* cells ended in this run; 0 = no bound */
    double max_hours;  /* 0 = no bound */
    int poll_ms;       /* between looks at a child */
    int grace_ms;      /* from SIGTERM to SIGKILL */
    int busy_wait_ms;  /* before a busy program is tried again */
    bool wait_gpu;     /* a GPU that others use is waited for; else the sweep stops */
    int gpu_wait_ms;   /* before the second try; doubled up to gpu_wait_max_ms */
    int gpu_wait_max_ms;
    int holder_term_ms, holder_kill_ms; /* patience with a run left over */
    /* Called after the start and after every cell that ended (NULL = not). */
    int (*publish)(void *context, const struct ff_sweep_view *view, struct ff_err *err);
    void *publish_context;
};
#define FF_SWEEP_OPTIONS_INIT                                                          \
    {                                                                                  \
        .poll_ms = 500, .grace_ms = 600000, .busy_wait_ms = 10000,                     \
        .gpu_wait_ms = 15000, .gpu_wait_max_ms = 120000, .holder_term_ms = 5000,       \
        .holder_kill_ms = 120000                                                       \
    }

struct ff_sweep;

/* Takes the sweep directory: makes it, locks it (FF_EBUSY names the holder), replays
 * the log, refuses a change of meaning (FF_EUSAGE with the parameters), keeps
 * grid.yaml, notes new cells and reads what is finished. plan, exec, programs and
 * options must outlive *sweep; ff_sweep_close frees it and the lock. */
int ff_sweep_open(struct ff_sweep **sweep, const char *dir, struct ff_plan *plan,
                  struct ff_exec *exec, const struct ff_programs *programs,
                  const struct ff_sweep_options *options, struct ff_err *err);
void ff_sweep_close(struct ff_sweep *sweep);

/* One step: looks at the child, or starts the next one. Returns 1 if there is more to
 * do, 0 if not, negative on an error that ends the sweep. */
int ff_sweep_act(struct ff_sweep *sweep, struct ff_err *err);

/* Acts until nothing is left, a stop is asked for or a bound is met; then stops the
 * child and writes the end event. *exit_code is as design says: 0 every selected cell
 * done, diverged or excluded; 1 some failed; 4 stopped; 7 something that the next child
 * needs is in use (a warning names the holder). Negative on an error. */
int ff_sweep_run(int *exit_code, struct ff_sweep *sweep, struct ff_err *err);

const struct ff_sweep_view *ff_sweep_view_of(const struct ff_sweep *sweep);

#endif
