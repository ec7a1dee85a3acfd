/* SPDX-License-Identifier: MIT */
/* The heatmap as a figure; see draw.h.
 *
 * plan() measures every text and fixes where all things stand; the rest paints. From
 * the top: title, panels with their tick labels, name of the column axis, colour bar
 * where it lies flat, legend of the marks in use, note on the seeds. The colour bar
 * stands to the right of panels that are high enough. All other text is centred on the
 * panels, and the figure wide enough for that. Lengths are points; cells have whole
 * points, so that their edges fall on pixels. A figure without a value has no colour
 * bar; its metric stands under the title, as it does over a single cell. */
#include "draw.h"

#include <cairo.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "figure.h"
#include "figure_text.h"

#define MARGIN 14
#define TITLE 15 /* font sizes */
#define LABEL 12
#define TICK 11
#define NOTE 9
#define CELL_TEXT_MAX 14
#define CELL_TEXT_MIN 4.5 /* smaller is not readable in print: cells are left bare */
#define STD_SIZE 0.66     /* of the second line, to the first */
#define PANEL_GAP 16
#define BAR 13 /* thickness of the colour bar */
#define BAR_GAP 16
#define STANDING_MIN 150 /* panels lower than this get a lying bar */
#define LYING_BAR_MIN 140
#define LYING_BAR_MAX 220
#define PNG_SCALE 2 /* pixels a point: 144 dpi */
#define PNG_SIDE_MAX 16000

struct plan {
    const struct ff_sheet *sheet;
    struct ff_draw_layout at;
    const struct ff_sheet_axis *row, *column; /* NULL where there is none */
    double low, high;
    bool has_values;
    enum { BAR_NONE, BAR_STANDING, BAR_LYING } bar;
    int decimals;
    long best;
    double text_size; /* of cell values, 0 = none */
    bool second_line; /* std or count of seeds under the value */
    double row_tick_width, column_tick_size, column_tick_height;
    bool column_ticks_up;
    double panels_width, panels_height;
    double centre; /* of the panels, from the left */
    double bar_length, bar_label_x;
    double column_label_y, lying_bar_y, legend_y, note_y;
    bool used[FF_SHEET_STATE_COUNT];
    bool partial;
    char note[160];
};

static void grey(cairo_t *cr, double level)
{
    cairo_set_source_rgb(cr, level, level, level);
}

static double widest_tick(cairo_t *cr, const struct ff_sheet_axis *axis, double size)
{
    double widest = 0;
    char text[128];
    for (int i = 0; axis && i < axis->count; i++)
        widest = fmax(widest, ff_text_width(cr, ff_sheet_typeset(text, axis->texts[i]),
                                            size, FF_TEXT_PLAIN));
    return widest;
}

/* Greek letters are slanted, names of other parameters are not. */
static enum ff_text_style symbol_style(const char *name)
{
    return (unsigned char)ff_sheet_symbol(name)[0] >= 0x80 ? FF_TEXT_ITALIC
                                                           : FF_TEXT_PLAIN;
}

static void split_axes(struct plan *p)
{
    const struct ff_sheet *s = p->sheet;
    struct ff_draw_layout *at = &p->at;
    p->row = s->axis_count >= 2 ? &s->axes[0] : NULL;
    p->column = s->axis_count >= 2   ? &s->axes[1]
                : s->axis_count == 1 ? &s->axes[0]
                                     : NULL;
    at->rows = p->row ? p->row->count : 1;
    at->columns = p->column ? p->column->count : 1;
    at->panel_rows = at->panel_columns = 1;
    if (s->axis_count == 3) {
        int n = s->axes[2].count;
        at->panel_columns = n <= 3 ? n : (int)ceil(sqrt(n));
        at->panel_rows = (n + at->panel_columns - 1) / at->panel_columns;
    } else if (s->axis_count == 4) {
        at->panel_rows = s->axes[2].count;
        at->panel_columns = s->axes[3].count;
    }
}

static double clamp(double value, double low, double high)
{
    return fmin(fmax(value, low), high);
}

static void size_cells(struct plan *p, cairo_t *cr)
{
    const struct ff_sheet *s = p->sheet;
    struct ff_draw_layout *at = &p->at;
    bool many = s->axis_count > 2;
    double room = many ? 860 : 600;
    at->cell_width = floor(clamp(room / (at->columns * at->panel_columns),
                                 many ? 12 : 30, many ? 72 : 92));
    double share = s->axis_count < 2 ? 0.62 : 0.72;
    at->cell_height =
        floor(clamp(520.0 / at->rows, many ? 10 : 22, share * at->cell_width));
    double widest = 0;
    char text[32];
    for (size_t i = 0; i < s->cell_count; i++)
        widest =
            fmax(widest,
                 ff_text_width(cr, ff_sheet_cell_text(text, &s->cells[i], p->decimals),
                               1, FF_TEXT_BOLD));
    p->second_line = s->seed_count > 1;
    double lines = p->second_line ? 1 + STD_SIZE + 0.75 : 1.7;
    p->text_size = fmin(CELL_TEXT_MAX,
                        fmin(0.82 * at->cell_width / widest, at->cell_height / lines));
    if (p->second_line && p->text_size * STD_SIZE < CELL_TEXT_MIN) {
        p->second_line = false;
        p->text_size = fmin(
            CELL_TEXT_MAX, fmin(0.82 * at->cell_width / widest, at->cell_height / 1.7));
    }
    if (p->text_size < CELL_TEXT_MIN)
        p->text_size = 0;
}

static void size_ticks(struct plan *p, cairo_t *cr)
{
    p->row_tick_width = widest_tick(cr, p->row, TICK);
    double width = widest_tick(cr, p->column, TICK), room = p->at.cell_width - 5;
    p->column_tick_size = TICK;
    if (width > room)
        p->column_tick_size = fmax(8, TICK * room / width);
    width *= p->column_tick_size / TICK;
    p->column_ticks_up = width > room;
    p->column_tick_height =
        !p->column ? 0 : 6 + (p->column_ticks_up ? width : p->column_tick_size);
}

static void find_states(struct plan *p)
{
    const struct ff_sheet *s = p->sheet;
    for (size_t i = 0; i < s->cell_count; i++) {
        p->used[s->cells[i].state] = true;
        p->partial |=
            s->cells[i].state == FF_SHEET_VALUE && s->cells[i].values < s->seed_count;
    }
    char seeds[64];
    size_t used =
        (size_t)snprintf(p->note, sizeof p->note, "%s", ff_sheet_seed_note(seeds, s));
    if (s->seed_count > 1 && p->second_line)
        used += (size_t)snprintf(p->note + used, sizeof p->note - used,
                                 " ± sample standard deviation");
    if (p->partial)
        used += (size_t)snprintf(p->note + used, sizeof p->note - used,
                                 "; k/%d: only k seeds have a value", s->seed_count);
    if (p->best >= 0 && s->cell_count > 1 && p->text_size > 0)
        snprintf(p->note + used, sizeof p->note - used, "; highest in bold");
}

static double legend_item_width(cairo_t *cr, int state)
{
    const char *meaning = ff_sheet_state_meaning((enum ff_sheet_state)state);
    return 22 + ff_text_width(cr, meaning, NOTE, FF_TEXT_PLAIN) + 16;
}

static double legend_width(cairo_t *cr, const struct plan *p)
{
    double width = 0;
    for (int k = 0; k < FF_SHEET_STATE_COUNT; k++)
        if (p->used[k] && k != FF_SHEET_VALUE)
            width += legend_item_width(cr, k);
    return width;
}

static void plan(struct plan *p, cairo_t *cr, const struct ff_sheet *s)
{
    memset(p, 0, sizeof *p);
    struct ff_draw_layout *at = &p->at;
    p->sheet = s;
    p->has_values = ff_sheet_range(&p->low, &p->high, s);
    p->decimals = ff_sheet_decimals(s);
    p->best = ff_sheet_best(s);
    split_axes(p);
    size_cells(p, cr);
    size_ticks(p, cr);
    find_states(p);
    if (p->high == p->low) { /* one value: it takes the middle of the bar */
        p->low -= 0.5;
        p->high += 0.5;
    }
    bool heading = s->axis_count > 2;
    double label = p->row ? 10 + LABEL : 0;
    double panel_height = at->rows * at->cell_height;
    at->left = ceil(MARGIN + label + (p->row ? p->row_tick_width + 8 : 0));
    at->panel_dx = at->columns * at->cell_width + PANEL_GAP;
    at->panel_dy = ceil(panel_height + p->column_tick_height + (heading ? 24 : 0) + 4);
    p->panels_width = at->panel_columns * at->panel_dx - PANEL_GAP;
    p->panels_height = (at->panel_rows - 1) * at->panel_dy + panel_height;
    p->bar = !p->has_values || s->axis_count == 0 ? BAR_NONE
             : p->panels_height >= STANDING_MIN   ? BAR_STANDING
                                                  : BAR_LYING;
    at->top =
        MARGIN + TITLE + 10 + (p->bar == BAR_NONE ? LABEL + 6 : 0) + (heading ? 20 : 0);
    double tick = ff_text_width(cr, "99.99", TICK, FF_TEXT_PLAIN), right = MARGIN;
    if (p->bar == BAR_STANDING)
        right += BAR_GAP + BAR + 6 + tick + 8 + LABEL;
    p->bar_length = p->bar == BAR_LYING
                        ? clamp(p->panels_width, LYING_BAR_MIN, LYING_BAR_MAX)
                    : p->panels_height <= 560 ? p->panels_height
                                              : 480;
    double centred[] = {
        legend_width(cr, p), ff_text_width(cr, p->note, NOTE, FF_TEXT_PLAIN),
        ff_text_width(cr, s->name, TITLE * 0.75, FF_TEXT_BOLD),
        p->bar == BAR_STANDING ? 0 : ff_text_width(cr, s->metric, LABEL, FF_TEXT_PLAIN),
        p->bar == BAR_LYING ? p->bar_length + tick : 0};
    double side = 0; /* from the centre to either edge */
    for (size_t i = 0; i < sizeof centred / sizeof *centred; i++)
        side = fmax(side, ceil(centred[i] / 2) + MARGIN);
    at->left = fmax(at->left, ceil(side - p->panels_width / 2));
    p->centre = at->left + p->panels_width / 2;
    p->bar_label_x = at->left + p->panels_width + right - MARGIN - LABEL / 2.0 + 2;
    at->width = ceil(fmax(at->left + p->panels_width + right, p->centre + side));
    double y = at->top + p->panels_height + p->column_tick_height;
    if (p->column) {
        p->column_label_y = y + 4 + LABEL / 2.0;
        y += 6 + LABEL;
    }
    if (p->bar == BAR_LYING) {
        p->lying_bar_y = y + 10;
        y += 10 + BAR + 6 + TICK + 5 + LABEL;
    }
    if (legend_width(cr, p) > 0) {
        p->legend_y = y + 12 + NOTE / 2.0;
        y += 14 + NOTE;
    }
    p->note_y = y + 8 + NOTE / 2.0;
    at->height = ceil(y + 8 + NOTE + MARGIN - 4);
    at->scale = fmin(PNG_SCALE, PNG_SIDE_MAX / fmax(at->width, at->height));
}

/* ---- cells ---- */

static void lines(cairo_t *cr, double x, double y, double w, double h, double dx,
                  double dy, double step)
{
    double reach = w + h;
    for (double d = -reach; d <= reach; d += step) {
        double cx = dy != 0 ? x + d : x, cy = dy != 0 ? y : y + d;
        cairo_move_to(cr, cx - dx * reach, cy - dy * reach);
        cairo_line_to(cr, cx + dx * reach, cy + dy * reach);
    }
    cairo_stroke(cr);
}

/* The face of a cell without a value, also in the legend. */
static void paint_mark(cairo_t *cr, enum ff_sheet_state state, double x, double y,
                       double w, double h)
{
    double step = fmax(4, fmin(7, h / 4));
    cairo_save(cr);
    cairo_rectangle(cr, x, y, w, h);
    cairo_clip(cr);
    grey(cr, state == FF_SHEET_EXCLUDED ? 0.84 : state == FF_SHEET_HOLE ? 1.0 : 0.97);
    cairo_paint(cr);
    cairo_set_line_width(cr, 0.8);
    switch (state) {
    case FF_SHEET_DIVERGED:
        cairo_set_source_rgb(cr, 0.80, 0.25, 0.22);
        lines(cr, x, y, w, h, 1, -1, step);
        break;
    case FF_SHEET_FAILED:
        grey(cr, 0.35);
        lines(cr, x, y, w, h, 1, -1, step);
        lines(cr, x, y, w, h, 1, 1, step);
        break;
    case FF_SHEET_RUNNING:
        cairo_set_source_rgb(cr, 0.25, 0.48, 0.76);
        lines(cr, x, y, w, h, 1, 1, 1.4 * step);
        break;
    case FF_SHEET_UNSCORED:
        grey(cr, 0.6);
        lines(cr, x, y, w, h, 1, 0, step);
        break;
    case FF_SHEET_EXCLUDED:
        grey(cr, 0.68);
        cairo_move_to(cr, x, y);
        cairo_line_to(cr, x + w, y + h);
        cairo_move_to(cr, x + w, y);
        cairo_line_to(cr, x, y + h);
        cairo_stroke(cr);
        break;
    default: break;
    }
    cairo_restore(cr);
    cairo_rectangle(cr, x + 0.25, y + 0.25, w - 0.5, h - 0.5);
    cairo_set_line_width(cr, 0.5);
    grey(cr, 0.75);
    cairo_stroke(cr);
}

/* A word over hatching, on a plate of its own. */
static void plate_text(cairo_t *cr, double x, double y, const char *text, double size)
{
    double w = ff_text_width(cr, text, size, FF_TEXT_PLAIN) + 0.5 * size;
    cairo_rectangle(cr, x - w / 2, y - 0.62 * size, w, 1.24 * size);
    cairo_set_source_rgba(cr, 1, 1, 1, 0.92);
    cairo_fill(cr);
    grey(cr, 0.2);
    ff_text_draw(cr, x, y, 0.5, text, size, FF_TEXT_PLAIN);
}

static void draw_value(cairo_t *cr, const struct plan *p, size_t index, double x,
                       double y)
{
    const struct ff_sheet_cell *cell = &p->sheet->cells[index];
    double w = p->at.cell_width, h = p->at.cell_height, rgb[3];
    ff_sheet_colour(rgb, ff_sheet_position(cell->mean, p->low, p->high));
    cairo_set_source_rgb(cr, rgb[0], rgb[1], rgb[2]);
    cairo_rectangle(cr, x, y, w, h);
    cairo_set_antialias(cr, CAIRO_ANTIALIAS_NONE); /* no hairlines between cells */
    cairo_fill(cr);
    cairo_set_antialias(cr, CAIRO_ANTIALIAS_DEFAULT);
    if (p->text_size <= 0)
        return;
    char text[32], second[48] = "";
    grey(cr, ff_sheet_white_text(rgb) ? 1 : 0);
    double middle = y + h / 2, shift = 0;
    if (p->second_line) {
        if (cell->values < p->sheet->seed_count)
            snprintf(second, sizeof second, "%d/%d", cell->values,
                     p->sheet->seed_count);
        else
            snprintf(second, sizeof second, "±%.*f", p->decimals, cell->std);
        shift = 0.55 * p->text_size;
        ff_text_draw(cr, x + w / 2, middle + 0.8 * shift + 0.1 * p->text_size, 0.5,
                     second, STD_SIZE * p->text_size, FF_TEXT_PLAIN);
    }
    ff_text_draw(cr, x + w / 2, middle - 0.8 * shift, 0.5,
                 ff_sheet_cell_text(text, cell, p->decimals), p->text_size,
                 p->sheet->cell_count > 1 &&
                         ff_sheet_is_highest(p->sheet, p->best, index)
                     ? FF_TEXT_BOLD
                     : FF_TEXT_PLAIN);
}

static void draw_cell(cairo_t *cr, const struct plan *p, size_t index)
{
    const struct ff_sheet_cell *cell = &p->sheet->cells[index];
    double x, y, w = p->at.cell_width, h = p->at.cell_height;
    ff_draw_cell_corner(&x, &y, &p->at, p->sheet, index);
    if (cell->state == FF_SHEET_VALUE) {
        draw_value(cr, p, index, x, y);
        return;
    }
    paint_mark(cr, cell->state, x, y, w, h);
    if (p->text_size <= 0 || cell->state == FF_SHEET_EXCLUDED)
        return;
    char text[32];
    ff_sheet_cell_text(text, cell, p->decimals);
    if (cell->state == FF_SHEET_HOLE) {
        grey(cr, 0.55);
        ff_text_draw(cr, x + w / 2, y + h / 2, 0.5, text, p->text_size, FF_TEXT_PLAIN);
    } else {
        plate_text(cr, x + w / 2, y + h / 2, text, fmin(0.9 * p->text_size, 11));
    }
}

/* ---- around the cells ---- */

static void panel_corner(double *x, double *y, const struct plan *p, int panel)
{
    *x = p->at.left + panel % p->at.panel_columns * p->at.panel_dx;
    *y = p->at.top + panel / p->at.panel_columns * p->at.panel_dy;
}

static void draw_ticks(cairo_t *cr, const struct plan *p, double x, double y,
                       bool with_rows)
{
    const struct ff_draw_layout *at = &p->at;
    char text[128];
    grey(cr, 0);
    cairo_set_line_width(cr, 0.8);
    double bottom = y + at->rows * at->cell_height;
    for (int j = 0; p->column && j < at->columns; j++) {
        double middle = x + (j + 0.5) * at->cell_width;
        cairo_move_to(cr, middle, bottom);
        cairo_line_to(cr, middle, bottom + 3);
        cairo_stroke(cr);
        ff_sheet_typeset(text, p->column->texts[j]);
        if (p->column_ticks_up)
            ff_text_draw_up(cr, middle, bottom + 6, 1, text, p->column_tick_size,
                            FF_TEXT_PLAIN);
        else
            ff_text_draw(cr, middle, bottom + 6 + p->column_tick_size / 2, 0.5, text,
                         p->column_tick_size, FF_TEXT_PLAIN);
    }
    double size = fmin(TICK, 0.95 * at->cell_height);
    for (int i = 0; with_rows && p->row && i < at->rows; i++) {
        double middle = y + (i + 0.5) * at->cell_height;
        cairo_move_to(cr, x - 3, middle);
        cairo_line_to(cr, x, middle);
        cairo_stroke(cr);
        ff_text_draw(cr, x - 6, middle, 1, ff_sheet_typeset(text, p->row->texts[i]),
                     size, FF_TEXT_PLAIN);
    }
}

/* "γ₀ = 0.02, δ = 2" over a panel. */
static void draw_heading(cairo_t *cr, const struct plan *p, int panel, double x,
                         double y)
{
    const struct ff_sheet *s = p->sheet;
    double width = p->at.columns * p->at.cell_width;
    char text[512], value[128];
    if (s->axis_count == 3) {
        snprintf(text, sizeof text, "%s = %s", ff_sheet_symbol(s->axes[2].name),
                 ff_sheet_typeset(value, s->axes[2].texts[panel]));
    } else {
        char other[128];
        snprintf(text, sizeof text, "%s = %s, %s = %s",
                 ff_sheet_symbol(s->axes[2].name),
                 ff_sheet_typeset(value, s->axes[2].texts[panel / s->axes[3].count]),
                 ff_sheet_symbol(s->axes[3].name),
                 ff_sheet_typeset(other, s->axes[3].texts[panel % s->axes[3].count]));
    }
    double natural = ff_text_width(cr, text, TICK, FF_TEXT_PLAIN);
    double size = fmin(TICK, TICK * (width + PANEL_GAP - 4) / natural);
    grey(cr, 0);
    ff_text_draw(cr, x + width / 2, y - 10, 0.5, text, size, FF_TEXT_PLAIN);
}

static void draw_frame(cairo_t *cr, double x, double y, double w, double h)
{
    grey(cr, 0);
    cairo_set_line_width(cr, 0.8);
    cairo_rectangle(cr, x, y, w, h);
    cairo_stroke(cr);
}

static void draw_names(cairo_t *cr, const struct plan *p)
{
    const struct ff_draw_layout *at = &p->at;
    const struct ff_sheet *s = p->sheet;
    double natural = ff_text_width(cr, s->name, TITLE, FF_TEXT_BOLD);
    double room = 2 * (fmin(p->centre, at->width - p->centre) - MARGIN);
    grey(cr, 0);
    ff_text_draw(cr, p->centre, MARGIN + TITLE / 2.0, 0.5, s->name,
                 fmin(TITLE, TITLE * room / natural), FF_TEXT_BOLD);
    if (p->bar == BAR_NONE)
        ff_text_draw(cr, p->centre, MARGIN + TITLE + 6 + LABEL / 2.0, 0.5, s->metric,
                     LABEL, FF_TEXT_PLAIN);
    if (p->column)
        ff_text_draw(cr, p->centre, p->column_label_y, 0.5,
                     ff_sheet_symbol(p->column->name), LABEL + 1,
                     symbol_style(p->column->name));
    if (!p->row)
        return;
    double x = at->left - 8 - p->row_tick_width - 5 - LABEL / 2.0;
    double y = at->top + p->panels_height / 2;
    const char *symbol = ff_sheet_symbol(p->row->name);
    enum ff_text_style style = symbol_style(p->row->name);
    if (style == FF_TEXT_ITALIC)
        ff_text_draw(cr, x, y, 0.5, symbol, LABEL + 1, style);
    else
        ff_text_draw_up(cr, x, y, 0.5, symbol, LABEL + 1, style);
}

static void fill_bar(cairo_t *cr, double x, double y, double w, double h)
{
    bool standing = h > w;
    cairo_pattern_t *ramp = standing ? cairo_pattern_create_linear(0, y + h, 0, y)
                                     : cairo_pattern_create_linear(x, 0, x + w, 0);
    for (int i = 0; i <= 40; i++) {
        double rgb[3];
        ff_sheet_colour(rgb, i / 40.0);
        cairo_pattern_add_color_stop_rgb(ramp, i / 40.0, rgb[0], rgb[1], rgb[2]);
    }
    cairo_set_source(cr, ramp);
    cairo_rectangle(cr, x, y, w, h);
    cairo_fill(cr);
    cairo_pattern_destroy(ramp);
    draw_frame(cr, x, y, w, h);
}

static void draw_bar(cairo_t *cr, const struct plan *p)
{
    const struct ff_draw_layout *at = &p->at;
    bool standing = p->bar == BAR_STANDING;
    double length = p->bar_length;
    double x = at->left + p->panels_width + BAR_GAP;
    double y = at->top + (p->panels_height - length) / 2;
    if (!standing) {
        x = p->centre - length / 2;
        y = p->lying_bar_y;
    }
    fill_bar(cr, x, y, standing ? BAR : length, standing ? length : BAR);
    double range = p->high - p->low;
    double step =
        ff_figure_tick_step(range, standing ? (int)clamp(length / 34, 5, 9) : 5);
    int decimals = (int)fmax(0, -floor(log10(step) + 1e-9));
    for (double k = ceil(p->low / step - 1e-9); k * step <= p->high + 1e-9 * range;
         k++) {
        char text[32];
        snprintf(text, sizeof text, "%.*f", decimals, k * step + 0.0); /* no -0 */
        double along = (k * step - p->low) / range * length;
        double tx = standing ? x + BAR : x + along;
        double ty = standing ? y + length - along : y + BAR;
        cairo_move_to(cr, tx, ty);
        cairo_rel_line_to(cr, standing ? 3 : 0, standing ? 0 : 3);
        cairo_stroke(cr);
        if (standing)
            ff_text_draw(cr, tx + 6, ty, 0, text, TICK - 1, FF_TEXT_PLAIN);
        else
            ff_text_draw(cr, tx, ty + 6 + TICK / 2.0, 0.5, text, TICK - 1,
                         FF_TEXT_PLAIN);
    }
    if (standing)
        ff_text_draw_up(cr, p->bar_label_x, y + length / 2, 0.5, p->sheet->metric,
                        LABEL, FF_TEXT_PLAIN);
    else
        ff_text_draw(cr, p->centre, y + BAR + 6 + TICK + 5 + LABEL / 2.0, 0.5,
                     p->sheet->metric, LABEL, FF_TEXT_PLAIN);
}

static void draw_legend(cairo_t *cr, const struct plan *p)
{
    double width = legend_width(cr, p) - 16;
    double x = p->centre - width / 2;
    for (int k = 0; k < FF_SHEET_STATE_COUNT; k++) {
        if (!p->used[k] || k == FF_SHEET_VALUE)
            continue;
        paint_mark(cr, (enum ff_sheet_state)k, x, p->legend_y - 6, 17, 12);
        grey(cr, 0.15);
        ff_text_draw(cr, x + 22, p->legend_y, 0,
                     ff_sheet_state_meaning((enum ff_sheet_state)k), NOTE,
                     FF_TEXT_PLAIN);
        x += legend_item_width(cr, k);
    }
}

static void draw_figure(cairo_t *cr, const void *what) /* a struct plan */
{
    const struct plan *p = what;
    const struct ff_draw_layout *at = &p->at;
    grey(cr, 1);
    cairo_paint(cr);
    for (size_t i = 0; i < p->sheet->cell_count; i++)
        draw_cell(cr, p, i);
    int panels = p->sheet->axis_count == 3 ? p->sheet->axes[2].count
                                           : at->panel_rows * at->panel_columns;
    for (int panel = 0; panel < panels; panel++) {
        double x, y;
        panel_corner(&x, &y, p, panel);
        if (p->sheet->axis_count > 2)
            draw_heading(cr, p, panel, x, y);
        draw_frame(cr, x, y, at->columns * at->cell_width, at->rows * at->cell_height);
        draw_ticks(cr, p, x, y, panel % at->panel_columns == 0);
    }
    draw_names(cr, p);
    if (p->bar != BAR_NONE)
        draw_bar(cr, p);
    if (p->legend_y > 0)
        draw_legend(cr, p);
    grey(cr, 0.4);
    ff_text_draw(cr, p->centre, p->note_y, 0.5, p->note, NOTE, FF_TEXT_PLAIN);
}

/* ---- outside ---- */

static void plan_sheet(struct plan *p, const struct ff_sheet *sheet)
{
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_A8, 1, 1);
    cairo_t *cr = cairo_create(surface);
    plan(p, cr, sheet);
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
}

void ff_draw_layout(struct ff_draw_layout *layout, const struct ff_sheet *sheet)
{
    struct plan p;
    plan_sheet(&p, sheet);
    *layout = p.at;
}

void ff_draw_cell_corner(double *x, double *y, const struct ff_draw_layout *layout,
                         const struct ff_sheet *sheet, size_t cell)
{
    size_t panels = 1;
    for (int a = 2; a < sheet->axis_count; a++)
        panels *= (size_t)sheet->axes[a].count;
    size_t panel = cell % panels, place = cell / panels;
    size_t panel_columns = (size_t)layout->panel_columns;
    size_t columns = (size_t)layout->columns;
    *x = layout->left + (double)(panel % panel_columns) * layout->panel_dx +
         (double)(place % columns) * layout->cell_width;
    *y = layout->top + (double)(panel / panel_columns) * layout->panel_dy +
         (double)(place / columns) * layout->cell_height;
}

static int write_figure(const char *path, bool png, const struct ff_sheet *sheet,
                        struct ff_err *err)
{
    struct plan p;
    plan_sheet(&p, sheet);
    return ff_figure_write(path, png, p.at.width, p.at.height, p.at.scale, draw_figure,
                           &p, err);
}

int ff_draw_png(const char *path, const struct ff_sheet *sheet, struct ff_err *err)
{
    return write_figure(path, true, sheet, err);
}

int ff_draw_svg(const char *path, const struct ff_sheet *sheet, struct ff_err *err)
{
    return write_figure(path, false, sheet, err);
}
