/* SPDX-License-Identifier: MIT */
/* State of a training run: shared by train.c (set-up, loop), checkpoint.c and
 * train_files.c (what a run directory holds). */
#ifndef FF_TRAIN_PRIV_H
#define FF_TRAIN_PRIV_H

#include <stdio.h>

#include "atomic_file.h"
#include "dataset.h"
#include "loader.h"
#include "model.h"
#include "schedule.h"
#include "train.h"

#define FF_CHECKPOINT_SCHEMA "ff-checkpoint/1"
#define FF_MAX_CELLS 1 /* schedulers on one trunk */

struct ff_train {
    const struct ff_params *params;
    const struct ff_train_options *options;
    char train_key[65], fingerprint[65];
    char checkpoint[FF_PATH_MAX]; /* that the run goes on from; "" = none */
    const struct ff_ops *ops;
    struct ff_ops_ctx *ctx;
    const char *backend_reason;
    int threads, workers;
    struct ff_dataset *dataset;
    struct ff_loader *loader;
    struct ff_model *model;
    struct ff_head_plan *head;
    int64_t classes;
    struct ff_tensor head_weight, head_velocity; /* (CLS, D) */
    struct ff_tensor dembedding;                 /* (N, D) */
    struct ff_schedule *schedules[FF_MAX_CELLS];
    int schedule_count;
    int64_t iterations;       /* T */
    int64_t iterations_epoch; /* of one epoch */
    int64_t iteration;        /* steps taken */
    int64_t skipped_in_row, bad_samples;
    double seconds_before;              /* of earlier processes of this run */
    double energy_before, energy_start; /* J: of those; the counter at `started` */
    double power_since, power_energy;   /* ff_now() and counter at the last telemetry */
    double started;                     /* ff_now() at the first step of this process */
    int64_t first_iteration;            /* of this process */
    double waits_since, waited; /* ff_now() and loader waits at the last look at them */
    double last_loss;
    bool bit_equal;
    struct ff_validation *validation; /* NULL without `validate` */
    FILE *curve, *telemetry, *validation_csv;
};

/* -- checkpoint.c -- */
int ff_checkpoint_write(const struct ff_train *run, const char *path,
                        struct ff_err *err);
/* Gives the backend what the checkpoint's run had chosen; before the model is made. */
int ff_checkpoint_read_choices(struct ff_train *run, const char *path,
                               struct ff_err *err);
/* Restores everything else; another train key is FF_EUSAGE with both. */
int ff_checkpoint_read(struct ff_train *run, const char *path, struct ff_err *err);

/* -- train_files.c -- */
double ff_train_seconds(const struct ff_train *run);
/* Notes the device's energy at the first step of this process. */
void ff_train_energy_start(struct ff_train *run);
/* J of the device over all processes of this run; NaN where not known. */
double ff_train_energy(const struct ff_train *run);
/* params.yaml, record.yaml and, where the backend chooses, engines.txt. */
int ff_train_write_record(const struct ff_train *run, struct ff_err *err);
/* Opens curve.csv and telemetry.csv, cut back to the iterations before run->iteration,
 * and, with `validate`, validation.csv, cut back so that a validation which is due now
 * is written anew. */
int ff_train_open_curves(struct ff_train *run, struct ff_err *err);
int ff_train_sync_curves(struct ff_train *run, struct ff_err *err);
int ff_train_write_curve(struct ff_train *run, int64_t iteration, double loss,
                         double lr, double slope, const struct ff_step_result *result,
                         struct ff_err *err);
/* A line of validation.csv: steps taken so far, file, percent. */
int ff_train_write_validation(struct ff_train *run, const char *name, double accuracy,
                              double std, struct ff_err *err);
/* True, and a line for the log, if waiting for data (s) took over 5 % of a span (s). */
bool ff_train_wait_text(char text[160], double waited, double span, int workers);
/* DIVERGED: iteration, loss, reason. */
int ff_train_write_diverged(const struct ff_train *run, double loss, const char *reason,
                            struct ff_err *err);
/* model.h5, summary.yaml, DONE. */
int ff_train_finish(struct ff_train *run, struct ff_err *err);

/* -- validate.c -- */
/* Opens and checks the files of `validate`; *out NULL if there are none. FF_EUSAGE for
 * a file that is not there, FF_EDATA for a bad one. */
int ff_validation_create(struct ff_validation **out, const struct ff_train *run,
                         struct ff_err *err);
void ff_validation_destroy(struct ff_validation *validation);
/* Is it to be run at run->iteration steps? */
bool ff_validation_due(const struct ff_train *run);
/* Accuracy of the present weights on every file, into validation.csv and the log.
 * FF_ESTOPPED where a stop was asked for: the resumed run validates these weights anew.
 */
int ff_validation_run(struct ff_train *run, struct ff_err *err);

#endif
