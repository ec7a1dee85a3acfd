/* SPDX-License-Identifier: MIT */
/* Draws a sheet in the manner of a paper's figure, as PNG and SVG by cairo.
 *
 * Text is set in DejaVu Sans, loaded by its path (figure_text.h), so that no font
 * configuration is asked. */
#ifndef FF_DRAW_H
#define FF_DRAW_H

#include "err.h"
#include "sheet.h"

/* Where things stand in the figure, in points from the upper left corner; a PNG has
 * `scale` pixels a point. */
struct ff_draw_layout {
    double width, height, scale;
    double cell_width, cell_height;
    int rows, columns; /* of cells in a panel */
    int panel_rows, panel_columns;
    double left, top;          /* first cell of the first panel */
    double panel_dx, panel_dy; /* from a panel to the next */
};

/* Measures text, draws nothing. */
void ff_draw_layout(struct ff_draw_layout *layout, const struct ff_sheet *sheet);
/* Upper left corner of a cell (index into sheet->cells), in points. */
void ff_draw_cell_corner(double *x, double *y, const struct ff_draw_layout *layout,
                         const struct ff_sheet *sheet, size_t cell);

/* Writes the picture, whole or not at all. FF_EFAIL, FF_ENOMEM. */
int ff_draw_png(const char *path, const struct ff_sheet *sheet, struct ff_err *err);
int ff_draw_svg(const char *path, const struct ff_sheet *sheet, struct ff_err *err);

#endif
