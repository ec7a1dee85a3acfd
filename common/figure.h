/* SPDX-License-Identifier: MIT */
/* Writes a cairo figure as PNG or SVG, whole or not at all. */
#ifndef FF_FIGURE_H
#define FF_FIGURE_H

#include <cairo.h>
#include <stdbool.h>

#include "err.h"

/* Paints `what`; one user unit is a point. */
typedef void ff_figure_paint(cairo_t *cr, const void *what);

/* Draws width x height points to path (a temporary file, renamed); a PNG has `scale`
 * pixels a point. FF_EFAIL, FF_ENOMEM. */
int ff_figure_write(const char *path, bool png, double width, double height,
                    double scale, ff_figure_paint *paint, const void *what,
                    struct ff_err *err);

#endif
