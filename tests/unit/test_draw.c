/* SPDX-License-Identifier: MIT */
/* Pictures of sheets: size, colours of cells, hatching, layout of one to four axes. */
#include <cairo.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "draw.h"

static const char *const values[] = {"0.01", "0.02", "0.05", "0.1", "0.2", "0.3",
                                     "0.4",  "0.5",  "0.6",  "0.7", "0.8", "0.9"};
static const char *const names[] = {"lambda", "tau", "gamma0", "delta"};

static void make(struct ff_sheet *sheet, int axes, const int *counts)
{
    int rc = ff_sheet_init(sheet, "demo", "TAR@FAR=1e-4 (%)", 1, NULL);
    for (int a = 0; a < axes; a++)
        rc |= ff_sheet_add_axis(sheet, names[a], counts[a], values, NULL);
    cr_assert(eq(int, rc, 0));
    for (size_t i = 0; i < sheet->cell_count; i++) {
        sheet->cells[i].state = FF_SHEET_VALUE;
        sheet->cells[i].mean = 90 + (double)i;
        sheet->cells[i].values = 1;
    }
}

struct picture {
    char dir[64], path[96];
    cairo_surface_t *surface;
    struct ff_draw_layout at;
    const struct ff_sheet *sheet;
};

static void draw(struct picture *p, const struct ff_sheet *sheet)
{
    struct ff_err err = FF_ERR_INIT;
    strcpy(p->dir, "/tmp/ff-draw-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(p->dir), NULL));
    snprintf(p->path, sizeof p->path, "%s/x.png", p->dir);
    int rc = ff_draw_png(p->path, sheet, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    ff_draw_layout(&p->at, sheet);
    p->sheet = sheet;
    p->surface = cairo_image_surface_create_from_png(p->path);
    cr_assert(eq(int, cairo_surface_status(p->surface), CAIRO_STATUS_SUCCESS));
}

static void discard(struct picture *p)
{
    cairo_surface_destroy(p->surface);
    ff_remove_tree(p->dir, NULL);
}

/* Colour at a point of a cell, given as a share of its width and height. */
static unsigned colour_at(const struct picture *p, size_t cell, double u, double v)
{
    double x, y;
    ff_draw_cell_corner(&x, &y, &p->at, p->sheet, cell);
    int px = (int)((x + u * p->at.cell_width) * p->at.scale);
    int py = (int)((y + v * p->at.cell_height) * p->at.scale);
    size_t stride = (size_t)cairo_image_surface_get_stride(p->surface);
    const unsigned char *row =
        cairo_image_surface_get_data(p->surface) + (size_t)py * stride;
    unsigned pixel;
    memcpy(&pixel, row + 4 * (size_t)px, sizeof pixel);
    return pixel & 0xffffff;
}

/* Colours seen along the diagonal of a cell: how many differ from the first. */
static int changes_in(const struct picture *p, size_t cell)
{
    int changes = 0;
    unsigned first = colour_at(p, cell, 0.04, 0.9);
    for (int i = 0; i <= 60; i++)
        changes += colour_at(p, cell, 0.04 + 0.92 * i / 60, 0.9) != first;
    return changes;
}

Test(draw, png_has_the_size_of_the_layout)
{
    static const int counts[] = {3, 4};
    struct ff_sheet sheet;
    struct picture p;
    make(&sheet, 2, counts);
    draw(&p, &sheet);
    cr_assert(eq(int, cairo_image_surface_get_width(p.surface),
                 (int)ceil(p.at.width * p.at.scale)));
    cr_assert(eq(int, cairo_image_surface_get_height(p.surface),
                 (int)ceil(p.at.height * p.at.scale)));
    cr_assert(eq(int, p.at.rows, 3));
    cr_assert(eq(int, p.at.columns, 4));
    discard(&p);
    ff_sheet_fini(&sheet);
}

/* First and last column, in points, that are not white. */
static void ink(double *first, double *last, const struct picture *p)
{
    int width = cairo_image_surface_get_width(p->surface);
    int height = cairo_image_surface_get_height(p->surface);
    int stride = cairo_image_surface_get_stride(p->surface);
    const unsigned char *data = cairo_image_surface_get_data(p->surface);
    int from = width, to = -1;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            unsigned pixel;
            memcpy(&pixel, data + y * stride + 4 * x, sizeof pixel);
            if ((pixel & 0xffffff) == 0xffffff)
                continue;
            from = x < from ? x : from;
            to = x > to ? x : to;
        }
    *first = from / p->at.scale;
    *last = (to + 1) / p->at.scale;
}

/* The metric is far wider than all else here: what is seen at both ends is its own. */
Test(draw, metric_is_whole_and_centred_on_the_smallest_panels)
{
    static const int counts[][2] = {{1, 1}, {2, 2}};
    for (int k = 0; k < 12; k++) {
        int axes = k % 3, holes = k / 3 % 2;
        struct ff_sheet sheet;
        struct picture p;
        double first, last;
        make(&sheet, axes, counts[k / 6]);
        snprintf(sheet.metric, sizeof sheet.metric, "%s",
                 "a metric whose name is wider than a few cells and their ticks (%)");
        for (size_t i = 0; holes && i < sheet.cell_count; i++)
            sheet.cells[i].state = FF_SHEET_HOLE;
        draw(&p, &sheet);
        ink(&first, &last, &p);
        double centre = p.at.left + p.at.columns * p.at.cell_width / 2;
        cr_expect(epsilon_eq(dbl, (first + last) / 2, centre, 1.5), "figure %d", k);
        cr_expect(le(dbl, 12, first), "figure %d", k);
        cr_expect(le(dbl, last, p.at.width - 12), "figure %d", k);
        discard(&p);
        ff_sheet_fini(&sheet);
    }
}

Test(draw, cells_have_the_colour_of_their_value)
{
    static const int counts[] = {2, 3};
    struct ff_sheet sheet;
    struct picture p;
    make(&sheet, 2, counts);
    draw(&p, &sheet);
    for (size_t i = 0; i < 6; i++) {
        double rgb[3];
        ff_sheet_colour(rgb, (double)i / 5);
        unsigned pixel = colour_at(&p, i, 0.06, 0.1);
        for (int c = 0; c < 3; c++) {
            double seen = (double)(pixel >> (16 - 8 * c) & 255);
            cr_assert(epsilon_eq(dbl, seen, 255 * rgb[c], 1.01), "cell %zu", i);
        }
        cr_assert(eq(int, changes_in(&p, i), 0)); /* plain below the value */
    }
    discard(&p);
    ff_sheet_fini(&sheet);
}

Test(draw, every_highest_value_is_bold)
{
    static const int counts[] = {2, 3};
    struct ff_sheet sheet;
    struct picture p;
    make(&sheet, 2, counts);
    sheet.cells[1].mean = sheet.cells[5].mean;
    draw(&p, &sheet);
    int other = 0, ink = 0;
    for (int v = 10; v < 90; v++)
        for (int u = 10; u < 90; u++) {
            unsigned a = colour_at(&p, 1, u / 100.0, v / 100.0);
            other += a != colour_at(&p, 5, u / 100.0, v / 100.0);
            ink += a != colour_at(&p, 1, 0.06, 0.1);
        }
    cr_assert(lt(int, 50, ink));
    cr_assert(eq(int, other, 0));
    discard(&p);
    ff_sheet_fini(&sheet);
}

Test(draw, lowest_label_of_a_bar_from_zero_has_no_sign)
{
    static const int counts[] = {5, 4};
    struct ff_sheet sheet;
    struct picture p;
    make(&sheet, 2, counts);
    for (size_t i = 0; i < sheet.cell_count; i++)
        sheet.cells[i].mean = 0.4 * (double)i;
    draw(&p, &sheet);
    /* "0" begins 6 points behind the bar, beside the lower edge of the cells. */
    double bar = p.at.left + 4 * p.at.cell_width + 16 + 13;
    int digit = 0, behind = 0;
    for (double y = -4; y < 4; y += 0.5)
        for (double x = 6; x < 20; x += 0.5) {
            double u = (bar + x - p.at.left) / p.at.cell_width;
            bool ink = (colour_at(&p, 0, u, 5 + y / p.at.cell_height) & 255) < 128;
            digit += ink && x < 14;
            behind += ink && x >= 14;
        }
    cr_assert(lt(int, 10, digit));
    cr_assert(eq(int, behind, 0));
    discard(&p);
    ff_sheet_fini(&sheet);
}

Test(draw, marks_are_hatched_each_in_its_way)
{
    static const int counts[] = {2, 4};
    static const enum ff_sheet_state states[] = {FF_SHEET_RUNNING, FF_SHEET_DIVERGED,
                                                 FF_SHEET_FAILED};
    struct ff_sheet sheet;
    struct picture p;
    make(&sheet, 2, counts);
    for (size_t i = 0; i < 3; i++)
        sheet.cells[i + 1].state = states[i];
    sheet.cells[4].state = FF_SHEET_HOLE;
    sheet.cells[5].state = FF_SHEET_EXCLUDED;
    draw(&p, &sheet);
    int changes[3];
    for (size_t i = 0; i < 3; i++) {
        changes[i] = changes_in(&p, i + 1);
        cr_assert(lt(int, 5, changes[i]), "state %d", (int)states[i]);
    }
    cr_assert(ne(int, changes[0], changes[1]));
    cr_assert(ne(int, changes[1], changes[2]));
    cr_assert(eq(int, changes_in(&p, 4), 0));
    cr_assert(eq(u32, colour_at(&p, 4, 0.1, 0.2), 0xffffff));
    double excluded = (double)(colour_at(&p, 5, 0.5, 0.1) & 255);
    cr_assert(epsilon_eq(dbl, excluded, 0.84 * 255, 1.5));
    discard(&p);
    ff_sheet_fini(&sheet);
}

Test(draw, legend_appears_with_the_marks)
{
    static const int counts[] = {3, 3};
    struct ff_sheet sheet;
    struct ff_draw_layout plain, marked;
    make(&sheet, 2, counts);
    ff_draw_layout(&plain, &sheet);
    sheet.cells[4].state = FF_SHEET_DIVERGED;
    ff_draw_layout(&marked, &sheet);
    cr_assert(lt(dbl, plain.height, marked.height));
    ff_sheet_fini(&sheet);
}

Test(draw, one_axis_is_a_row_and_none_a_cell)
{
    static const int counts[] = {5};
    struct ff_sheet sheet;
    struct ff_draw_layout at;
    make(&sheet, 1, counts);
    ff_draw_layout(&at, &sheet);
    cr_assert(eq(int, at.rows, 1));
    cr_assert(eq(int, at.columns, 5));
    ff_sheet_fini(&sheet);
    make(&sheet, 0, NULL);
    struct picture p;
    draw(&p, &sheet);
    cr_assert(eq(int, p.at.rows *p.at.columns, 1));
    discard(&p);
    ff_sheet_fini(&sheet);
}

Test(draw, further_axes_are_panels)
{
    static const int counts[] = {2, 3, 4, 2};
    struct ff_sheet sheet;
    struct ff_draw_layout at;
    double x0, y0, x1, y1;
    make(&sheet, 3, counts);
    ff_draw_layout(&at, &sheet);
    cr_assert(ge(int, at.panel_rows *at.panel_columns, 4));
    ff_draw_cell_corner(&x0, &y0, &at, &sheet, 0);
    ff_draw_cell_corner(&x1, &y1, &at, &sheet, 1); /* the next value of axis 2 */
    cr_assert(epsilon_eq(dbl, x1 - x0, at.panel_dx, 1e-9));
    cr_assert(epsilon_eq(dbl, y1, y0, 1e-9));
    ff_sheet_fini(&sheet);
    make(&sheet, 4, counts);
    ff_draw_layout(&at, &sheet);
    cr_assert(eq(int, at.panel_rows, 4));
    cr_assert(eq(int, at.panel_columns, 2));
    ff_draw_cell_corner(&x1, &y1, &at, &sheet, 2); /* axis 2 once up, axis 3 at 0 */
    cr_assert(epsilon_eq(dbl, x1, at.left, 1e-9));
    cr_assert(epsilon_eq(dbl, y1, at.top + at.panel_dy, 1e-9));
    ff_sheet_fini(&sheet);
}

Test(draw, twelve_by_twelve_keeps_readable_cells)
{
    static const int counts[] = {12, 12};
    struct ff_sheet sheet;
    struct ff_draw_layout at;
    make(&sheet, 2, counts);
    ff_draw_layout(&at, &sheet);
    cr_assert(le(dbl, 40, at.cell_width));
    cr_assert(le(dbl, at.width, 900));
    struct picture p;
    draw(&p, &sheet);
    int text = 0; /* pixels of the value in the middle line of a cell */
    unsigned ground = colour_at(&p, 77, 0.04, 0.5);
    for (int i = 0; i <= 80; i++)
        text += colour_at(&p, 77, 0.04 + 0.92 * i / 80, 0.5) != ground;
    cr_assert(lt(int, 10, text));
    discard(&p);
    ff_sheet_fini(&sheet);
}

Test(draw, svg_is_written_and_needs_no_fonts)
{
    static const int counts[] = {2, 2};
    struct ff_sheet sheet;
    struct ff_err err = FF_ERR_INIT;
    char dir[] = "/tmp/ff-draw-XXXXXX", path[64], *text;
    size_t bytes;
    cr_assert(ne(ptr, mkdtemp(dir), NULL));
    snprintf(path, sizeof path, "%s/x.svg", dir);
    make(&sheet, 2, counts);
    int rc = ff_draw_svg(path, &sheet, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    rc = ff_read_file(&text, &bytes, path, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(ne(ptr, strstr(text, "<svg"), NULL));
    cr_assert(ne(ptr, strstr(text, "</svg>"), NULL));
    cr_assert(eq(ptr, strstr(text, "font-family"), NULL)); /* glyphs are outlines */
    free(text);
    ff_remove_tree(dir, NULL);
    ff_sheet_fini(&sheet);
}

Test(draw, names_the_path_it_cannot_write)
{
    struct ff_sheet sheet;
    struct ff_err err = FF_ERR_INIT;
    make(&sheet, 0, NULL);
    int rc = ff_draw_png("/nonexistent/x.png", &sheet, &err);
    cr_assert(eq(int, rc, FF_EFAIL));
    cr_assert(ne(ptr, strstr(err.text, "/nonexistent/x.png"), NULL));
    rc = ff_draw_svg("/nonexistent/x.svg", &sheet, &err);
    cr_assert(eq(int, rc, FF_EFAIL));
    ff_sheet_fini(&sheet);
}
