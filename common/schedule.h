/* SPDX-License-Identifier: MIT */
/* The learning-rate schedules: FastFace and its baselines.
 *
 * One object holds one run's scheduler. Use, for iteration t = 0 .. T-1:
 *     lr = ff_schedule_lr(s);             used by iteration t
 *     ... forward; loss = L_t (fp32 batch mean) ...
 *     ff_schedule_observe(s, loss);       decides the LR of iteration t + 1 (+ lr_lag)
 *     slope = ff_schedule_slope(s);       D^E_t, for curve.csv
 * All state and arithmetic is double. */
#ifndef FF_SCHEDULE_H
#define FF_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "params.h"

struct ff_schedule;

/* total_iterations = T >= 1. Reads the scheduler parameters of params, which must have
 * been resolved. Caller destroys *out. FF_ENOMEM, FF_EUSAGE. */
int ff_schedule_create(struct ff_schedule **out, const struct ff_params *params,
                       int64_t total_iterations, struct ff_err *err);
void ff_schedule_destroy(struct ff_schedule *schedule);

/* LR of the next iteration, t = number of losses observed so far. */
double ff_schedule_lr(const struct ff_schedule *schedule);
/* Takes L_t. A skipped (Inf-gradient) step is observed like any other. O(1). */
void ff_schedule_observe(struct ff_schedule *schedule, double loss);
/* Smoothed slope D^E_t after the last observe, loss units per iteration; 0 before. For
 * haar: kernel response scaled by 4/m^2. For the loss-blind schedules: FastFace's D^E
 * all the same, so that curves can be compared. */
double ff_schedule_slope(const struct ff_schedule *schedule);

/* Changes of the LR by decision (drops and raises; fastface, haar, plateau, multistep):
 * *count first iterations with the changed LR, increasing; a change due at or after T
 * is listed by ff_schedule but never used. Borrowed until the next observe. */
const int64_t *ff_schedule_changes(const struct ff_schedule *schedule, size_t *count);

/* State as doubles for a checkpoint: returns the number of doubles; fills state if not
 * NULL. load takes what save gave, on an object created with the same parameters and T;
 * FF_EDATA if the length or header does not fit. Bit-exact round trip. */
size_t ff_schedule_save(const struct ff_schedule *schedule, double *state);
int ff_schedule_load(struct ff_schedule *schedule, const double *state, size_t count,
                     struct ff_err *err);

#endif
