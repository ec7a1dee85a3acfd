/* SPDX-License-Identifier: MIT */
/* A heatmap as a plain table, ready to be drawn: what draw.c, terminal_map.c and
 * report.c see of a sweep. Nothing here knows grids, cells or files.
 *
 * Cells are row-major over the axes: axis 0 slowest. One axis is drawn as one row, two
 * as rows x columns, a third and fourth as small multiples, none as a single cell. */
#ifndef FF_SHEET_H
#define FF_SHEET_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

#define FF_SHEET_MAX_AXES 4

enum ff_sheet_state {
    FF_SHEET_HOLE,  /* no value yet */
    FF_SHEET_VALUE, /* mean is finite */
    FF_SHEET_RUNNING,
    FF_SHEET_UNSCORED, /* trained, no valid score */
    FF_SHEET_DIVERGED,
    FF_SHEET_FAILED,
    FF_SHEET_EXCLUDED,
    FF_SHEET_DONE, /* trained, and there is nothing to score */
};
#define FF_SHEET_STATE_COUNT 8

struct ff_sheet_cell {
    enum ff_sheet_state state;
    double mean; /* over the seeds that have a value; NaN unless state is VALUE */
    double std;  /* sample std; NaN with fewer than two values */
    int values;  /* seeds with a value */
    int lost;    /* seeds that diverged or failed */
};

struct ff_sheet_axis {
    char name[64];     /* parameter name */
    int count;         /* >= 1 */
    char (*texts)[64]; /* (count) values, plain: "5e-5", "r100" */
};

struct ff_sheet {
    char name[128];   /* of the sweep: the title */
    char metric[128]; /* "TAR@FAR=1e-4 (%)" */
    int seed_count;
    int axis_count; /* 0 .. FF_SHEET_MAX_AXES */
    struct ff_sheet_axis axes[FF_SHEET_MAX_AXES];
    size_t cell_count;
    struct ff_sheet_cell *cells; /* (axes...) */
};

/* Copies name and metric, sets axis_count 0 and one hole; then ff_sheet_add_axis for
 * each axis, with `texts` (count) copied. Every cell is a hole after each of these
 * calls. FF_ENOMEM. The caller frees by ff_sheet_fini, also after an error. */
int ff_sheet_init(struct ff_sheet *sheet, const char *name, const char *metric,
                  int seed_count, struct ff_err *err);
int ff_sheet_add_axis(struct ff_sheet *sheet, const char *name, int count,
                      const char *const *texts, struct ff_err *err);
void ff_sheet_fini(struct ff_sheet *sheet);

/* Smallest and largest mean; false (and both 0) if no cell has a value. */
bool ff_sheet_range(double *low, double *high, const struct ff_sheet *sheet);
/* Index of the highest mean, the first of several; -1 if no cell has a value. */
long ff_sheet_best(const struct ff_sheet *sheet);
/* Is this cell's mean the highest, or equal to it in every digit that scores have? */
bool ff_sheet_is_highest(const struct ff_sheet *sheet, long best, size_t cell);
/* Decimals that tell the values apart: 1 where they spread over 20 or more, else 2. */
int ff_sheet_decimals(const struct ff_sheet *sheet);

/* What stands for a cell: its mean, or "·" "run" "stale" "div" "fail" "-" "done". */
const char *ff_sheet_cell_text(char out[32], const struct ff_sheet_cell *cell,
                               int decimals);
/* Meaning of a state in a legend: "diverged", "not yet run". */
const char *ff_sheet_state_meaning(enum ff_sheet_state state);
/* "γ₀" for gamma0, "δ λ τ α β" likewise; any other name unchanged. */
const char *ff_sheet_symbol(const char *name);
/* Short text of a number: "0.05", "2.5e-5", "2000000" -> "2e6". */
const char *ff_sheet_number(char out[32], double value);
/* "2.5e-5" as "2.5×10⁻⁵" for print; any other text unchanged. */
const char *ff_sheet_typeset(char out[128], const char *text);
/* "one seed" or "mean of 3 seeds". */
const char *ff_sheet_seed_note(char out[64], const struct ff_sheet *sheet);

/* Colour of t in 0..1 (clamped) on a perceptually uniform dark blue - green - yellow
 * map, sRGB 0..1. */
void ff_sheet_colour(double rgb[3], double t);
/* Place of a mean between low and high as 0..1; 0.5 where low = high. */
double ff_sheet_position(double mean, double low, double high);
/* Does white text read better than black on this colour (WCAG contrast)? */
bool ff_sheet_white_text(const double rgb[3]);

#endif
