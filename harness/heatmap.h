/* SPDX-License-Identifier: MIT */
/* The sweep's outcome: heatmap.h5 ("ff-heatmap/1"), its pictures, and the same heatmap
 * in the terminal. All of it is derived from the grid and the cell results, and can be
 * made again at any time.
 *
 * In every function results is (count) = (grid->cell_count), in the order of
 * grid->cells. */
#ifndef FF_HEATMAP_H
#define FF_HEATMAP_H

#include <stddef.h>
#include <stdio.h>

#include "cell_result.h"
#include "err.h"
#include "grid.h"
#include "sheet.h"

/* Writes heatmap.h5: to a temporary file beside `path`, then renamed. Equal grid and
 * results give equal datasets but for the cost (seconds, samples_per_second, energy),
 * and equal root attributes but for created. FF_EFAIL, FF_ENOMEM. */
int ff_heatmap_write(const char *path, const struct ff_grid *grid,
                     const struct ff_cell_result *results, size_t count,
                     struct ff_err *err);

/* Draws heatmap.png and heatmap.svg, each to a temporary file and renamed; a path of
 * NULL is left out. FF_EFAIL, FF_ENOMEM. */
int ff_heatmap_draw(const char *png_path, const char *svg_path,
                    const struct ff_grid *grid, const struct ff_cell_result *results,
                    size_t count, struct ff_err *err);

/* The heatmap as a table of text, coloured if f is a terminal and NO_COLOR is not set.
 * Prints a line instead if there is no memory. */
void ff_heatmap_print(FILE *f, const struct ff_grid *grid,
                      const struct ff_cell_result *results, size_t count);

/* The sheet that the pictures show: mean and sample std over the seeds that have a
 * value. The caller frees by ff_sheet_fini, also after an error. FF_ENOMEM. */
int ff_heatmap_sheet(struct ff_sheet *sheet, const struct ff_grid *grid,
                     const struct ff_cell_result *results, size_t count,
                     struct ff_err *err);

#endif
