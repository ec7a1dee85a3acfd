/* SPDX-License-Identifier: MIT */
/* What is known of one cell, gathered from its run directory and the event log.
 *
 * Everything here is derived: it can be read again at any time. Numbers that are not
 * known are NaN. */
#ifndef FF_CELL_RESULT_H
#define FF_CELL_RESULT_H

#include "grid.h"

/* The values of `status` in heatmap.h5. */
enum ff_cell_status {
    FF_CELL_PLANNED = 0, /* not begun, or stopped with a checkpoint */
    FF_CELL_RUNNING = 1,
    FF_CELL_DONE = 2, /* trained, and scored with the present eval keys */
    FF_CELL_FAILED = 3,
    FF_CELL_DIVERGED = 4,
    FF_CELL_EXCLUDED = 5,
    FF_CELL_STALE = 6, /* trained, but scores are missing or of another eval key */
};
#define FF_CELL_STATUS_COUNT 7

/* One word each, in the order of the enum: "planned" .. "stale". */
extern const char *const ff_cell_status_names[FF_CELL_STATUS_COUNT];

struct ff_eval_score {
    bool present;                 /* the eval file is there and names this model */
    char eval_key[FF_SHA256_HEX]; /* "" if absent */
    double tar[FF_FAR_COUNT];     /* percent at ff_fars, never above the target FAR */
    double compat[FF_FAR_COUNT];  /* percent, nearest-FAR kind of the usual script */
    double accuracy[FF_GRID_MAX_BINS]; /* percent, on each file of a pairs entry */
};

struct ff_cell_result {
    enum ff_cell_status status;
    bool trained;                     /* DONE is there */
    char train_key[FF_SHA256_HEX];    /* "" if not known; filled in by the caller */
    char model_sha256[FF_SHA256_HEX]; /* of DONE; "" if not trained */
    /* Of failed or diverged; of done where scoring again failed; "" else. */
    char reason[256];
    int64_t iteration; /* the last that was run; T when done; -1 unknown */
    double seconds;    /* training time over all attempts */
    double samples_per_second;
    double energy_joules; /* of the card while it trained; NaN on a CPU */
    double final_loss;
    double shared_iterations; /* taken over from a shared trunk: 0 */
    int drop_count;
    int64_t *drops;                /* (drop_count) first iterations with a changed LR */
    bool bit_equal;                /* false only where a resume changed its choices */
    char backend[32], device[128]; /* "" unknown */
    char damage[256]; /* what is wrong with a summary.yaml that is not used; "" else */
    struct ff_eval_score evals[FF_GRID_MAX_EVALS]; /* one an entry of grid->evals */
};

/* All unknown, status planned, nothing owned. */
void ff_cell_result_init(struct ff_cell_result *result);
/* Frees drops; result is as after init. */
void ff_cell_result_fini(struct ff_cell_result *result);

/* Iterations that were run, where iteration is known. */
int64_t ff_cell_result_iterations(const struct ff_cell_result *result);

/* The grid's metric of this cell in percent, NaN unless the cell is done. */
double ff_cell_result_metric(const struct ff_grid *grid,
                             const struct ff_cell_result *result);

/* Reads what the run directory `dir` says: DONE, DIVERGED, summary.yaml, curve.csv's
 * last line, eval-<name>.yaml. A score counts as present if it names the model of DONE.
 * `eval_keys` (eval_count) are the present keys, NULL = take what the files say; a
 * score with another key leaves status stale. Status: done, stale, diverged or planned;
 * the caller adds running, failed and excluded. A damaged DONE or DIVERGED, or
 * a damaged summary of a run that is not DONE, is FF_EDATA. A damaged eval file, and a
 * damaged summary beside DONE, count as missing, which is no error. */
int ff_cell_result_read(struct ff_cell_result *result, const struct ff_grid *grid,
                        const char *dir, const char (*eval_keys)[FF_SHA256_HEX],
                        struct ff_err *err);

/* The last whole line of a curve.csv. iteration -1 if there is none yet. */
struct ff_curve_tail {
    int64_t iteration;
    double loss, lr;
};
void ff_curve_tail_read(struct ff_curve_tail *tail, const char *path);

#endif
