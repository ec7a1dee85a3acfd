/* SPDX-License-Identifier: MIT */
/* One training run in a run directory. */
#ifndef FF_TRAIN_H
#define FF_TRAIN_H

#include "params.h"

struct ff_train_options {
    const char *out;    /* run directory, made if missing */
    const char *from;   /* checkpoint to start from where out holds none; or NULL */
    int64_t stop_after; /* stop with a checkpoint after so many iterations; 0 = no */
};

/* Trains to the end of the run or from the checkpoint in `out` on. Writes params.yaml,
 * record.yaml, engines.txt (on cuda), curve.csv, telemetry.csv, log.txt, checkpoint.h5, model.h5,
 * summary.yaml, and DONE last. 0 when done (also if it was done before); FF_ESTOPPED
 * with a checkpoint; FF_EDIVERGED with DIVERGED written; FF_EBUSY where another process
 * holds the directory; FF_EUSAGE where it holds another run. */
int ff_train_run(const struct ff_params *params, const struct ff_train_options *options,
                 struct ff_err *err);

#endif
