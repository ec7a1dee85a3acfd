/* SPDX-License-Identifier: MIT */
/* A picture of one run's course: loss, smoothed slope and learning rate over the
 * iterations of its curve.csv, with the changes of the learning rate marked. */
#ifndef FF_CURVES_H
#define FF_CURVES_H

#include "err.h"

/* Draws csv_path to png_path and svg_path (either NULL = left out; each written to a
 * temporary file and renamed). lambda: threshold drawn into the slope, NaN = none.
 * Columns are found by name (iteration, loss, lr, slope); values that are not finite
 * are left out. FF_EDATA with the line for a bad number or fewer than two lines,
 * FF_EFAIL, FF_ENOMEM. */
int ff_curves_draw(const char *png_path, const char *svg_path, const char *csv_path,
                   const char *title, double lambda, struct ff_err *err);

#endif
