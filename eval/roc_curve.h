/* SPDX-License-Identifier: MIT */
/* The whole ROC curve: as numbers, and as a figure over a logarithmic FAR axis. */
#ifndef FF_ROC_CURVE_H
#define FF_ROC_CURVE_H

#include <stdint.h>

#include "err.h"
#include "roc.h"

struct ff_roc_vertex {
    int64_t false_accepts, true_accepts; /* pairs with score >= threshold */
    double threshold;                    /* of the first vertex: infinity */
};

/* *vertex (*count): the curve's vertices from (0, 0) to (impostors, genuine); the
 * straight lines between them run through every other point of the curve. The caller
 * frees. FF_ENOMEM. */
int ff_roc_vertices(struct ff_roc_vertex **vertex, int64_t *count,
                    const struct ff_roc *roc, struct ff_err *err);

/* 0 if path ends in .csv, .png or .svg, which say what is written; else FF_EUSAGE. */
int ff_roc_check_path(const char *path, struct ff_err *err);

/* Writes the curve. CSV: columns far, tar (0 .. 1) and threshold, a line a vertex. PNG
 * and SVG: TAR in percent over FAR from 1e-6 to 1, dots and values at tar (n), which
 * are ff_roc_tar's; left of 1 / impostors, where no pair decides, the ground is grey.
 * FF_EUSAGE, FF_EFAIL, FF_ENOMEM. */
int ff_roc_write(const char *path, const struct ff_roc *roc, const char *title,
                 const struct ff_roc_point *tar, int n, struct ff_err *err);

#endif
