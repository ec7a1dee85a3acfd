/* SPDX-License-Identifier: MIT */
/* report.html: one self-contained page with the heatmap, the table of cells, the
 * settings and what is known to depart from the published recipe. */
#ifndef FF_REPORT_H
#define FF_REPORT_H

#include "heatmap.h"

/* svg_path: the drawn heatmap, put into the page; NULL or a missing file leaves it out.
 * results (count) as in heatmap.h. Written to a temporary file and renamed. FF_EFAIL,
 * FF_ENOMEM. */
int ff_report_write(const char *path, const char *svg_path, const struct ff_grid *grid,
                    const struct ff_cell_result *results, size_t count,
                    struct ff_err *err);

#endif
