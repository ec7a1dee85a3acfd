/* SPDX-License-Identifier: MIT */
/* Times of a grid by trying: a few training iterations and a few evaluation images. */
#ifndef FF_MEASURE_H
#define FF_MEASURE_H

#include "plan.h"

#define FF_MEASURE_ITERATIONS 200
#define FF_MEASURE_IMAGES 2000

struct ff_measure {
    double seconds_per_iteration;           /* of the first cell in the order */
    double eval_seconds[FF_GRID_MAX_EVALS]; /* whole evaluation, extrapolated */
};

/* Runs in a scratch directory made at `scratch` and removed at the end. FF_ESTOPPED if
 * a stop is asked for; FF_EFAIL with the program's last words. */
int ff_measure_run(struct ff_measure *measure, const struct ff_plan *plan,
                   struct ff_exec *exec, const struct ff_programs *programs,
                   const char *scratch, struct ff_err *err);

#endif
