/* SPDX-License-Identifier: MIT */
/* Text in figures: DejaVu Sans by its path, measured and placed; steps of ticks. */
#ifndef FF_FIGURE_TEXT_H
#define FF_FIGURE_TEXT_H

#include <cairo.h>

#ifndef FF_FONT_DIR
#define FF_FONT_DIR "/usr/share/fonts/truetype/dejavu"
#endif

enum ff_text_style {
    FF_TEXT_PLAIN,
    FF_TEXT_BOLD,
    FF_TEXT_ITALIC, /* the plain face, slanted */
};

/* Advance width of UTF-8 text at `size`, in user units. */
double ff_text_width(cairo_t *cr, const char *text, double size,
                     enum ff_text_style style);
/* Draws text in the current colour. `y` is the middle of its digits; `anchor` says
 * which part stands at x: 0 = left end, 0.5 = middle, 1 = right end. */
void ff_text_draw(cairo_t *cr, double x, double y, double anchor, const char *text,
                  double size, enum ff_text_style style);
/* The same, turned a quarter counter-clockwise about (x, y). */
void ff_text_draw_up(cairo_t *cr, double x, double y, double anchor, const char *text,
                     double size, enum ff_text_style style);

/* The smallest step of 1, 2 or 5 times a power of ten that puts at most about `most`
 * ticks on range > 0. */
double ff_figure_tick_step(double range, int most);

#endif
