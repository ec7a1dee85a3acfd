/* SPDX-License-Identifier: MIT */
/* A picture of one run's course; see curves.h.
 *
 * Long runs have far more iterations than the picture has columns, so every series is
 * cut into at most BINS bins: the range inside a bin is drawn as a light band, its mean
 * as a line. The slope's axis is held to some times lambda where lambda is known, since
 * its first swing is far larger than what decides. */
#include "curves.h"

#include <cairo.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "figure.h"
#include "figure_text.h"
#include "sheet.h"

#define BINS 400
#define LEFT 78 /* points */
#define RIGHT 16
#define TOP 38
#define WIDTH 460 /* of a panel */
#define GAP 14
#define BOTTOM 42
#define TICK 10
#define SCALE 2

enum { LOSS, SLOPE, LR, SERIES };
static const char *const columns[SERIES] = {"loss", "slope", "lr"};
static const char *const labels[SERIES] = {"loss", "smoothed slope", "learning rate"};
static const double heights[SERIES] = {130, 90, 80};

struct curve {
    size_t count, capacity;
    double *iteration;     /* (count) increasing */
    double *value[SERIES]; /* (count) */
};

struct axis {
    double low, high;
    bool logarithmic;
};

static void free_curve(struct curve *curve)
{
    free(curve->iteration);
    for (int s = 0; s < SERIES; s++)
        free(curve->value[s]);
}

static int grow(double **values, size_t capacity)
{
    double *more = realloc(*values, capacity * sizeof *more);
    if (!more)
        return -1;
    *values = more;
    return 0;
}

static int append(struct curve *curve, const double row[SERIES + 1], struct ff_err *err)
{
    if (curve->count == curve->capacity) {
        size_t capacity = curve->capacity ? 2 * curve->capacity : 1024;
        int rc = grow(&curve->iteration, capacity);
        for (int s = 0; s < SERIES; s++)
            rc |= grow(&curve->value[s], capacity);
        if (rc)
            return ff_err_set(err, FF_ENOMEM, "out of memory for %zu iterations",
                              capacity);
        curve->capacity = capacity;
    }
    curve->iteration[curve->count] = row[SERIES];
    for (int s = 0; s < SERIES; s++)
        curve->value[s][curve->count] = row[s];
    curve->count++;
    return 0;
}

/* Field `index` of a line as a number ("nan" and "inf" too); 0 or -1. */
static int field(double *out, const char *line, int index)
{
    for (; index > 0; index--) {
        line = strchr(line, ',');
        if (!line++)
            return -1;
    }
    char *end;
    *out = strtod(line, &end);
    return end == line || !strchr(",\r\n", *end) ? -1 : 0;
}

static int column_of(const char *header, const char *name)
{
    size_t length = strlen(name);
    for (int index = 0;; index++) {
        size_t n = strcspn(header, ",\r\n");
        if (n == length && !strncmp(header, name, n))
            return index;
        if (header[n] != ',')
            return -1;
        header += n + 1;
    }
}

static int read_curve(struct curve *curve, const char *path, struct ff_err *err)
{
    int at[SERIES + 1], rc = 0;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    FILE *f = fopen(path, "re");
    if (!f)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot open", path);
    if (getline(&line, &capacity, f) < 0) {
        rc = ff_err_set(err, FF_EDATA, "%s: empty", path);
        goto done;
    }
    at[SERIES] = column_of(line, "iteration");
    for (int s = 0; s < SERIES; s++)
        at[s] = column_of(line, columns[s]);
    for (int s = 0; s <= SERIES; s++)
        if (at[s] < 0) {
            rc = ff_err_set(err, FF_EDATA, "%s:1: no column %s", path,
                            s < SERIES ? columns[s] : "iteration");
            goto done;
        }
    for (long number = 2; (length = getline(&line, &capacity, f)) > 0; number++) {
        double row[SERIES + 1];
        if (line[length - 1] != '\n')
            break; /* being written */
        for (int s = 0; s <= SERIES; s++)
            if (field(&row[s], line, at[s])) {
                rc = ff_err_set(err, FF_EDATA, "%s:%ld: no number in column %s", path,
                                number, s < SERIES ? columns[s] : "iteration");
                goto done;
            }
        if ((rc = append(curve, row, err)))
            goto done;
    }
    if (curve->count < 2)
        rc = ff_err_set(err, FF_EDATA, "%s: %zu iterations, at least 2 are needed",
                        path, curve->count);
done:
    free(line);
    fclose(f);
    return rc;
}

static struct axis axis_of(const struct curve *curve, int series, double lambda)
{
    struct axis axis = {INFINITY, -INFINITY, series == LR};
    for (size_t i = 0; i < curve->count; i++) {
        double value = curve->value[series][i];
        if (!isfinite(value))
            continue;
        axis.low = fmin(axis.low, value);
        axis.high = fmax(axis.high, value);
        axis.logarithmic &= value > 0;
    }
    if (!(axis.low <= axis.high))
        axis.low = axis.high = 0;
    if (series == SLOPE && lambda > 0) {
        axis.low = fmin(fmax(axis.low, -6 * lambda), 0);
        axis.high = fmax(fmin(axis.high, 12 * lambda), 2 * lambda);
    }
    if (axis.logarithmic) {
        axis.low /= 1.5;
        axis.high *= 1.5;
    } else {
        double margin = axis.high > axis.low ? 0.05 * (axis.high - axis.low) : 0.5;
        axis.low -= margin;
        axis.high += margin;
    }
    return axis;
}

/* Share of the axis, 0 at its low end. */
static double share(const struct axis *axis, double value)
{
    if (axis->logarithmic)
        return log(fmax(value, 1e-300) / axis->low) / log(axis->high / axis->low);
    return (value - axis->low) / (axis->high - axis->low);
}

struct frame {
    const struct curve *curve;
    struct axis axis;
    double top, height, first, last; /* iterations at the left and right edge */
};

static double place_x(const struct frame *frame, double iteration)
{
    return LEFT + WIDTH * (iteration - frame->first) / (frame->last - frame->first);
}

static double place_y(const struct frame *frame, double value)
{
    return frame->top + frame->height * (1 - share(&frame->axis, value));
}

static void draw_y_tick(cairo_t *cr, const struct frame *frame, double value)
{
    char number[32], text[128];
    double y = place_y(frame, value);
    cairo_set_source_rgb(cr, 0.9, 0.9, 0.9);
    cairo_set_line_width(cr, 0.6);
    cairo_move_to(cr, LEFT, y);
    cairo_line_to(cr, LEFT + WIDTH, y);
    cairo_stroke(cr);
    cairo_set_source_rgb(cr, 0, 0, 0);
    ff_sheet_typeset(text, ff_sheet_number(number, value));
    ff_text_draw(cr, LEFT - 5, y, 1, text, TICK, FF_TEXT_PLAIN);
}

static void draw_y_ticks(cairo_t *cr, const struct frame *frame)
{
    const struct axis *axis = &frame->axis;
    if (!axis->logarithmic) {
        double step = ff_figure_tick_step(axis->high - axis->low, 5);
        for (double k = ceil(axis->low / step); k * step <= axis->high; k++) {
            char text[32]; /* through text, so that 3 * 0.1 is 0.3 */
            snprintf(text, sizeof text, "%.6g", k * step);
            draw_y_tick(cr, frame, k == 0 ? 0 : strtod(text, NULL));
        }
        return;
    }
    static const double factors[] = {1, 2, 5};
    bool wide = axis->high / axis->low > 300;
    for (int d = (int)floor(log10(axis->low)); d <= (int)ceil(log10(axis->high)); d++)
        for (int i = 0; i < (wide ? 1 : 3); i++) {
            char text[32];
            snprintf(text, sizeof text, "%ge%d", factors[i], d);
            double value = strtod(text, NULL);
            if (value >= axis->low && value <= axis->high)
                draw_y_tick(cr, frame, value);
        }
}

static void draw_series(cairo_t *cr, const struct frame *frame, int series)
{
    const struct curve *curve = frame->curve;
    size_t bins = curve->count < BINS ? curve->count : BINS;
    for (int pass = 0; pass < 2; pass++) { /* bands, then the line of means */
        bool open = false;
        for (size_t b = 0; b < bins; b++) {
            size_t from = b * curve->count / bins, to = (b + 1) * curve->count / bins;
            double low = INFINITY, high = -INFINITY, sum = 0;
            int n = 0;
            for (size_t i = from; i < to; i++) {
                double value = curve->value[series][i];
                if (!isfinite(value))
                    continue;
                low = fmin(low, value);
                high = fmax(high, value);
                sum += value;
                n++;
            }
            if (!n)
                continue;
            double left = place_x(frame, curve->iteration[from]);
            double right = place_x(frame, curve->iteration[to - 1]);
            if (pass == 0) {
                double y = place_y(frame, high);
                cairo_rectangle(cr, left, y, fmax(right - left, (double)WIDTH / BINS),
                                fmax(place_y(frame, low) - y, 0.5));
            } else if (open) {
                cairo_line_to(cr, (left + right) / 2, place_y(frame, sum / n));
            } else {
                cairo_move_to(cr, (left + right) / 2, place_y(frame, sum / n));
                open = true;
            }
        }
        if (pass == 0) {
            cairo_set_source_rgb(cr, 0.72, 0.82, 0.90);
            cairo_fill(cr);
        } else {
            cairo_set_source_rgb(cr, 0.12, 0.35, 0.55);
            cairo_set_line_width(cr, 1.2);
            cairo_stroke(cr);
        }
    }
}

/* Dashed lines at the iterations that first use another learning rate; none for a
 * schedule that changes it all the time. */
static void draw_changes(cairo_t *cr, const struct frame *frame)
{
    const struct curve *curve = frame->curve;
    const double *lr = curve->value[LR];
    const double dash[] = {3, 3};
    size_t changes = 0;
    for (size_t i = 1; i < curve->count; i++)
        changes += lr[i] != lr[i - 1];
    if (changes > 64)
        return;
    cairo_save(cr);
    cairo_set_dash(cr, dash, 2, 0);
    cairo_set_line_width(cr, 0.8);
    cairo_set_source_rgb(cr, 0.5, 0.5, 0.5);
    for (size_t i = 1; i < curve->count; i++) {
        if (lr[i] == lr[i - 1])
            continue;
        cairo_move_to(cr, place_x(frame, curve->iteration[i]), frame->top);
        cairo_rel_line_to(cr, 0, frame->height);
        cairo_stroke(cr);
    }
    cairo_restore(cr);
}

static void draw_lambda(cairo_t *cr, const struct frame *frame, double lambda)
{
    double y = place_y(frame, lambda);
    cairo_set_source_rgb(cr, 0.70, 0.09, 0.17);
    cairo_set_line_width(cr, 0.9);
    cairo_move_to(cr, LEFT, y);
    cairo_line_to(cr, LEFT + WIDTH, y);
    cairo_stroke(cr);
    cairo_reset_clip(cr);
    ff_text_draw(cr, LEFT + WIDTH + 4, y, 0, "λ", TICK + 1, FF_TEXT_ITALIC);
}

static void draw_x_axis(cairo_t *cr, const struct frame *frame)
{
    double step = fmax(1, ff_figure_tick_step(frame->last - frame->first, 6));
    double bottom = frame->top + frame->height;
    cairo_set_source_rgb(cr, 0, 0, 0);
    cairo_set_line_width(cr, 0.8);
    for (double k = ceil(frame->first / step); k * step <= frame->last; k++) {
        char text[32];
        snprintf(text, sizeof text, "%.0f", k * step);
        cairo_move_to(cr, place_x(frame, k * step), bottom);
        cairo_rel_line_to(cr, 0, 3);
        cairo_stroke(cr);
        ff_text_draw(cr, place_x(frame, k * step), bottom + 11, 0.5, text, TICK,
                     FF_TEXT_PLAIN);
    }
    ff_text_draw(cr, LEFT + WIDTH / 2.0, bottom + 28, 0.5, "iteration", TICK + 1,
                 FF_TEXT_PLAIN);
}

static double figure_height(void)
{
    double height = TOP + BOTTOM - GAP;
    for (int s = 0; s < SERIES; s++)
        height += heights[s] + GAP;
    return height;
}

static void draw_figure(cairo_t *cr, const struct curve *curve, const char *title,
                        double lambda)
{
    struct frame frame = {
        curve, {0, 1, false},       TOP,
        0,     curve->iteration[0], curve->iteration[curve->count - 1]};
    frame.last = fmax(frame.last, frame.first + 1);
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_paint(cr);
    cairo_set_source_rgb(cr, 0, 0, 0);
    double natural = ff_text_width(cr, title, 13, FF_TEXT_BOLD);
    ff_text_draw(cr, LEFT + WIDTH / 2.0, TOP / 2.0, 0.5, title,
                 fmin(13, 13 * (WIDTH - 8) / fmax(natural, 1)), FF_TEXT_BOLD);
    for (int s = 0; s < SERIES; s++, frame.top += GAP) {
        frame.height = heights[s];
        frame.axis = axis_of(curve, s, lambda);
        draw_y_ticks(cr, &frame);
        cairo_save(cr);
        cairo_rectangle(cr, LEFT, frame.top, WIDTH, frame.height);
        cairo_clip(cr);
        draw_changes(cr, &frame);
        draw_series(cr, &frame, s);
        if (s == SLOPE && isfinite(lambda))
            draw_lambda(cr, &frame, lambda);
        cairo_restore(cr);
        cairo_set_source_rgb(cr, 0, 0, 0);
        cairo_set_line_width(cr, 0.8);
        cairo_rectangle(cr, LEFT, frame.top, WIDTH, frame.height);
        cairo_stroke(cr);
        ff_text_draw_up(cr, 12, frame.top + frame.height / 2, 0.5, labels[s], TICK,
                        FF_TEXT_PLAIN);
        if (s + 1 == SERIES)
            draw_x_axis(cr, &frame);
        frame.top += frame.height;
    }
}

struct figure {
    const struct curve *curve;
    const char *title;
    double lambda;
};

static void paint(cairo_t *cr, const void *what)
{
    const struct figure *figure = what;
    draw_figure(cr, figure->curve, figure->title, figure->lambda);
}

static int draw_file(const char *path, bool png, const struct curve *curve,
                     const char *title, double lambda, struct ff_err *err)
{
    struct figure figure = {curve, title, lambda};
    if (!path)
        return 0;
    return ff_figure_write(path, png, LEFT + WIDTH + RIGHT, figure_height(), SCALE,
                           paint, &figure, err);
}

int ff_curves_draw(const char *png_path, const char *svg_path, const char *csv_path,
                   const char *title, double lambda, struct ff_err *err)
{
    struct curve curve = {0};
    int rc = read_curve(&curve, csv_path, err);
    if (!rc)
        rc = draw_file(png_path, true, &curve, title, lambda, err);
    if (!rc)
        rc = draw_file(svg_path, false, &curve, title, lambda, err);
    free_curve(&curve);
    return rc;
}
