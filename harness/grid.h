/* SPDX-License-Identifier: MIT */
/* A grid file: the experiment as text, parsed, checked and spread out into cells.
 *
 * The axes span a box of cells, row-major in the order of `sweep:`, and every place is
 * repeated once a seed with the seed running fastest. So the cell at (i0, i1, ..., s)
 * is cells[((i0 * n1 + i1) * ...) * seed_count + s], which is also the order of the
 * arrays (axes..., seed) in heatmap.h5. Excluded places are cells too, marked so. */
#ifndef FF_GRID_H
#define FF_GRID_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "atomic_file.h"
#include "err.h"
#include "hash.h"
#include "pair_accuracy.h"
#include "params.h"

#define FF_GRID_MAX_AXES 4
#define FF_GRID_MAX_VALUES 64
#define FF_GRID_MAX_SEEDS 64
#define FF_GRID_MAX_EVALS 8
#define FF_GRID_MAX_BINS 16
#define FF_GRID_MAX_CELLS 20000
#define FF_GRID_NAME 64
#define FF_GRID_WHERE (FF_PATH_MAX + 16)
#define FF_GRID_BY_SET (-1) /* in place of a line */

/* The false-accept rates that ff-eval reports: 1e-6, 1e-5, ... 1e-1. */
#define FF_FAR_COUNT 6
extern const double ff_fars[FF_FAR_COUNT];

enum ff_axis_kind {
    FF_AXIS_NUMBER, /* float or int parameter: values[] */
    FF_AXIS_TEXT,   /* enumeration, bool or path: texts[] */
};

struct ff_axis {
    const struct ff_param_info *param; /* name, unit, help; static */
    enum ff_axis_kind kind;
    int line;       /* in the grid file */
    int count;      /* 1 .. FF_GRID_MAX_VALUES */
    double *values; /* (count); NULL for FF_AXIS_TEXT */
    char **texts;   /* (count) as in YAML, for both kinds */
};

/* One entry of `eval:`. */
struct ff_grid_eval {
    char protocol[16];        /* "ijbc", "ijbb" or "pairs" */
    char name[FF_GRID_NAME];  /* unique; letters, digits, _ and - */
    char root[FF_PARAM_TEXT]; /* folder with meta/ and loose_crop/, expanded */
    int root_line;            /* in the grid file */
    bool flip, norm, det;     /* switches, default on */
    int bin_count; /* above 0 for pairs alone, which has no root or switches */
    struct ff_grid_bin {
        char path[FF_PARAM_TEXT]; /* absolute */
        int line;                 /* in the grid file */
        char name[FF_PAIR_NAME];  /* ff_pair_name; unique in the grid */
    } bins[FF_GRID_MAX_BINS];
};

enum ff_metric_kind { FF_METRIC_TAR, FF_METRIC_TAR_COMPAT, FF_METRIC_ACCURACY };

struct ff_metric {
    char text[96]; /* as written: "tar@1e-4:name", "accuracy@lfw"; "none" */
    enum ff_metric_kind kind;
    int far_index;  /* into ff_fars */
    int bin_index;  /* of FF_METRIC_ACCURACY: into the entry's bins */
    int eval_index; /* into evals; -1 if the grid has no eval entry */
};

/* One rule of `exclude:`; -1 = any. */
struct ff_grid_rule {
    int at[FF_GRID_MAX_AXES];
    int seed_index;
};

struct ff_cell {
    int at[FF_GRID_MAX_AXES]; /* index on each axis; 0 beyond axis_count */
    int seed_index;
    bool excluded;
    struct ff_params params;       /* resolved: train parameters, axis values, seed */
    char train_key[FF_SHA256_HEX]; /* "" until known (ff_plan_keys, event log) */
};

struct ff_grid {
    char path[FF_PATH_MAX]; /* the file, for messages */
    char name[FF_GRID_NAME];
    char *text;            /* the grid as YAML, values resolved, paths absolute */
    struct ff_params base; /* train parameters without axes, not yet resolved */
    int train_line;        /* of train:; 0 = there is none */
    /* (parameters of the table) line under train:, FF_GRID_BY_SET; 0 = not given */
    int *given_line;
    int axis_count; /* 0 .. FF_GRID_MAX_AXES */
    struct ff_axis axes[FF_GRID_MAX_AXES];
    int seed_count; /* >= 1 */
    int64_t seeds[FF_GRID_MAX_SEEDS];
    int exclude_count;
    struct ff_grid_rule *excludes; /* (exclude_count) */
    int eval_count;
    struct ff_grid_eval evals[FF_GRID_MAX_EVALS];
    struct ff_metric metric;
    bool keep_model, keep_checkpoint, keep_features;
    int place_count;       /* product of the axis lengths; 1 without axes */
    int cell_count;        /* place_count * seed_count */
    struct ff_cell *cells; /* (cell_count) */
};

/* Reads and checks a grid file. `sets` are "name=value" texts that go on top of train:
 * (NULL with set_count 0). Messages are "<path>:<line>: ...". FF_EUSAGE,
 * also if the file is not there, FF_ENOMEM. *grid is freed by ff_grid_destroy. */
int ff_grid_load(struct ff_grid **grid, const char *path, const char *const *sets,
                 int set_count, struct ff_err *err);
/* The same from text; `name` stands in messages. */
int ff_grid_parse(struct ff_grid **grid, const char *name, const char *text,
                  const char *const *sets, int set_count, struct ff_err *err);
void ff_grid_destroy(struct ff_grid *grid);

/* Cell index of a place and seed. */
int ff_grid_cell_index(const struct ff_grid *grid, const int at[FF_GRID_MAX_AXES],
                       int seed_index);

/* "lambda=5.0e-05 tau=0.01 seed=3407" into out; the seed only if there are several or
 * no axes. Returns out. */
const char *ff_grid_cell_label(char *out, size_t capacity, const struct ff_grid *grid,
                               const struct ff_cell *cell);
/* "lambda=5.0e-05,tau=0.01,seed=3407": the cell's coordinates, sorted by name, always
 * with the seed; what the event log knows a cell by. Returns out. */
const char *ff_grid_cell_place(char *out, size_t capacity, const struct ff_grid *grid,
                               const struct ff_cell *cell);

/* Where a parameter of the cells is set: "grid.yaml:7", "--set", or the file alone
 * where it has its default. Returns out. */
const char *ff_grid_where(char out[FF_GRID_WHERE], const struct ff_grid *grid,
                          const char *name);

/* Does the cell agree with every "name=value" of a comma-separated list? Names are axes
 * or seed. 1 yes, 0 no, FF_EUSAGE for an unknown name or a value not on the axis. */
int ff_grid_cell_matches(const struct ff_grid *grid, const struct ff_cell *cell,
                         const char *list, struct ff_err *err);

/* A value as bare text ("5.0e-05", "r100", a path without quotes). Returns out. */
const char *ff_grid_value_text(char out[FF_PARAM_TEXT], const struct ff_params *params,
                               const struct ff_param_info *info);

/* grid->text anew from the other fields; `comments` = lines to stand in front. */
int ff_grid_compose(struct ff_grid *grid, const char *comments, struct ff_err *err);

#endif
