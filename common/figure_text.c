/* SPDX-License-Identifier: MIT */
/* Text in figures; see figure_text.h.
 *
 * The faces are opened by FreeType from FF_FONT_DIR, or ../share/fonts beside the
 * program (a bundle carries its own), once a process and kept: cairo caches scaled
 * fonts for its own life. Where a file is missing, cairo's own font stands in, with one
 * warning. Not thread-safe: figures are drawn by one thread. */
#include "figure_text.h"

#include <cairo-ft.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "log.h"

#define SLANT 0.21          /* tangent of a usual italic angle, 12 degrees */
#define DIGIT_MIDDLE 0.3645 /* half the height of DejaVu's digits, in em */

static cairo_font_face_t *open_face(FT_Library library, const char *file)
{
    char path[FF_PATH_MAX], bin[FF_PATH_MAX];
    FT_Face face;
    if (!library || ff_path(path, NULL, "%s/%s", FF_FONT_DIR, file))
        return NULL;
    ssize_t n = readlink("/proc/self/exe", bin, sizeof bin - 1);
    bin[n > 0 ? n : 0] = 0;
    char *slash = strrchr(bin, '/');
    if (access(path, R_OK) && slash)
        ff_path(path, NULL, "%.*s/../share/fonts/%s", (int)(slash - bin), bin, file);
    if (FT_New_Face(library, path, 0, &face))
        return NULL;
    return cairo_ft_font_face_create_for_ft_face(face, FT_LOAD_NO_HINTING);
}

static cairo_font_face_t *face_of(enum ff_text_style style)
{
    static bool tried;
    static FT_Library library;
    static cairo_font_face_t *plain, *bold;
    if (!tried) {
        tried = true;
        if (FT_Init_FreeType(&library))
            library = NULL;
        plain = open_face(library, "DejaVuSans.ttf");
        bold = open_face(library, "DejaVuSans-Bold.ttf");
        if (!plain || !bold)
            ff_warn(
                "no DejaVuSans.ttf or DejaVuSans-Bold.ttf in %s: figures use another "
                "font",
                FF_FONT_DIR);
    }
    return style == FF_TEXT_BOLD ? bold : plain;
}

static void set_font(cairo_t *cr, double size, enum ff_text_style style)
{
    cairo_font_face_t *face = face_of(style);
    if (face)
        cairo_set_font_face(cr, face);
    else
        cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                               style == FF_TEXT_BOLD ? CAIRO_FONT_WEIGHT_BOLD
                                                     : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_matrix_t matrix;
    cairo_matrix_init(&matrix, size, 0, style == FF_TEXT_ITALIC ? -SLANT * size : 0,
                      size, 0, 0);
    cairo_set_font_matrix(cr, &matrix);
}

double ff_text_width(cairo_t *cr, const char *text, double size,
                     enum ff_text_style style)
{
    cairo_text_extents_t extents;
    set_font(cr, size, style);
    cairo_text_extents(cr, text, &extents);
    return extents.x_advance;
}

void ff_text_draw(cairo_t *cr, double x, double y, double anchor, const char *text,
                  double size, enum ff_text_style style)
{
    double width = ff_text_width(cr, text, size, style);
    cairo_move_to(cr, x - anchor * width, y + DIGIT_MIDDLE * size);
    cairo_show_text(cr, text);
    cairo_new_path(cr);
}

void ff_text_draw_up(cairo_t *cr, double x, double y, double anchor, const char *text,
                     double size, enum ff_text_style style)
{
    cairo_save(cr);
    cairo_translate(cr, x, y);
    cairo_rotate(cr, -1.57079632679489662);
    ff_text_draw(cr, 0, 0, anchor, text, size, style);
    cairo_restore(cr);
}

double ff_figure_tick_step(double range, int most)
{
    static const double factors[] = {1, 2, 5};
    double unit = pow(10, floor(log10(range / most)));
    for (int i = 0; i < 3; i++)
        if (range / (factors[i] * unit) <= most)
            return factors[i] * unit;
    return 10 * unit;
}
