/* SPDX-License-Identifier: MIT */
/* A grid against its data: train and eval keys, iterations, order, needs, warnings.
 *
 * Everything that a sweep must know before its first run and that the grid file alone
 * does not say. Asks `ff-data info` for every training set and file of pairs named, and
 * reads the meta files of every other eval entry. */
#ifndef FF_PLAN_H
#define FF_PLAN_H

#include <stdint.h>
#include <stdio.h>

#include "exec.h"
#include "grid.h"

struct ff_plan_data {
    char path[FF_PARAM_TEXT];
    int64_t images, classes, height; /* height 0: not known before decoding */
    char fingerprint[128];
};

struct ff_plan_eval {
    int64_t images, pairs;
    /* Over the hashes of the three meta files, or the names and hashes of the files of
     * pairs. */
    char meta_hash[FF_SHA256_HEX];
    int64_t bin_pairs[FF_GRID_MAX_BINS]; /* of each file of pairs */
};

struct ff_plan {
    struct ff_grid *grid; /* borrowed; its train keys are filled in */
    int data_count;
    struct ff_plan_data *data; /* (data_count) */
    int *cell_data;            /* (cells) index into data */
    int64_t *iterations;       /* (cells) T; 0 where excluded */
    struct ff_plan_eval evals[FF_GRID_MAX_EVALS];
    char (*eval_keys)[FF_GRID_MAX_EVALS][FF_SHA256_HEX]; /* (cells) */
    int order_count;
    int *order; /* (order_count) cells to run: one seed's sheet after the other */
};

/* FF_EUSAGE for a path that is not there or a value that does not fit the data,
 * FF_EDATA for bad data. *plan is freed by ff_plan_destroy. */
int ff_plan_create(struct ff_plan **plan, struct ff_grid *grid, struct ff_exec *exec,
                   const struct ff_programs *programs, struct ff_err *err);
void ff_plan_destroy(struct ff_plan *plan);

/* Eval key: SHA-256 hex of "train=", "protocol=", "flip=", "norm=", "det=", "meta="
 * lines. */
void ff_plan_eval_key(char out[FF_SHA256_HEX], const char *train_key,
                      const struct ff_grid_eval *entry, const char *meta_hash);

/* The line count of one text file and the SHA-256 of its bytes. */
int ff_plan_hash_lines(char hash[FF_SHA256_HEX], int64_t *lines, const char *path,
                       struct ff_err *err);

/* Settings that cannot act, a line each to f: alpha T < 50, floor(tau T) + 1 >= T, no
 * impostors enough for the metric's FAR. Returns how many. */
int ff_plan_warnings(const struct ff_plan *plan, FILE *f);

struct ff_plan_needs {
    int64_t cell_bytes;     /* most that one finished cell keeps */
    int64_t total_bytes;    /* all cells, and one run's checkpoints */
    int64_t training_bytes; /* memory, most of any cell */
    int64_t eval_bytes;
};
void ff_plan_needs(struct ff_plan_needs *needs, const struct ff_plan *plan);

/* Bytes free where `path` (or its nearest existing parent) lies; -1 unknown. */
int64_t ff_plan_disk_free(const char *path);

#endif
