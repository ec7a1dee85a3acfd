/* SPDX-License-Identifier: MIT */
/* The ROC curve to CSV, PNG and SVG; see roc_curve.h.
 *
 * A set of 15 million pairs has as many points, but between two genuine pairs the curve
 * is a straight line: what is left is a few vertices for each genuine pair. The figure
 * leaves out those that fall on the same spot as the one before. */
#include "roc_curve.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "eval_yaml.h"
#include "figure.h"
#include "figure_text.h"

#define FAR_DECADES 6 /* the axis begins at 1e-6 */
#define LEFT 62       /* points */
#define RIGHT 20
#define TOP 38
#define WIDTH 460
#define HEIGHT 300
#define BOTTOM 46
#define TICK 10
#define SCALE 2       /* pixels a point */
#define SAME_SPOT 0.1 /* points: nearer vertices are not drawn */
#define CLEAR 1.5     /* points between a value and the middle of the curve */
#define LABEL_HEIGHT 12

/* Whether b lies on the line from a to c; counts stay below 2^31. */
static bool between(const struct ff_roc_vertex *a, const struct ff_roc_vertex *b,
                    const struct ff_roc_vertex *c)
{
    return (b->false_accepts - a->false_accepts) *
               (c->true_accepts - a->true_accepts) ==
           (c->false_accepts - a->false_accepts) * (b->true_accepts - a->true_accepts);
}

int ff_roc_vertices(struct ff_roc_vertex **vertex, int64_t *count,
                    const struct ff_roc *roc, struct ff_err *err)
{
    int64_t capacity = 1024, n = 1;
    struct ff_roc_vertex *v = malloc((size_t)capacity * sizeof *v), now;
    *vertex = NULL;
    if (!v)
        return ff_err_set(err, FF_ENOMEM, "no memory for the curve");
    v[0] = now = (struct ff_roc_vertex){.threshold = INFINITY};
    for (int64_t i = 0; i < roc->count;) {
        uint64_t key = roc->sorted[i] >> 32;
        now.threshold = (double)ff_roc_score(roc->sorted[i]);
        for (; i < roc->count && roc->sorted[i] >> 32 == key; i++) {
            now.true_accepts += ff_roc_genuine(roc->sorted[i]);
            now.false_accepts += !ff_roc_genuine(roc->sorted[i]);
        }
        if (n >= 2 && between(&v[n - 2], &v[n - 1], &now))
            n--;
        if (n == capacity) {
            capacity *= 2;
            struct ff_roc_vertex *more = realloc(v, (size_t)capacity * sizeof *v);
            if (!more) {
                free(v);
                return ff_err_set(err, FF_ENOMEM, "no memory for the curve");
            }
            v = more;
        }
        v[n++] = now;
    }
    *vertex = v;
    *count = n;
    return 0;
}

enum kind { NO_KIND, CSV, PNG, SVG };

static enum kind kind_of(const char *path)
{
    static const char *const ends[] = {[CSV] = ".csv", [PNG] = ".png", [SVG] = ".svg"};
    size_t length = strlen(path);
    for (int kind = CSV; kind <= SVG; kind++)
        if (length > 4 && !strcmp(path + length - 4, ends[kind]))
            return (enum kind)kind;
    return NO_KIND;
}

int ff_roc_check_path(const char *path, struct ff_err *err)
{
    return kind_of(path) != NO_KIND
               ? 0
               : ff_err_set(err, FF_EUSAGE,
                            "--roc: \"%s\" ends in none of .csv, .png and .svg", path);
}

struct figure {
    const struct ff_roc *roc;
    const struct ff_roc_vertex *vertex;
    int64_t count;
    const struct ff_roc_point *tar;
    int tar_count;
    const char *title;
    double low; /* percent at the lower edge */
};

static double place_x(double far)
{
    double decades = far > 0 ? log10(far) + FAR_DECADES : -1;
    return LEFT + WIDTH * fmax(decades, -0.01) / FAR_DECADES;
}

static double place_y(const struct figure *f, double percent)
{
    return TOP + HEIGHT * (100 - percent) / (100 - f->low);
}

/* The axis begins at a multiple of 10 below the curve's start. */
static double lower_edge(const struct figure *f)
{
    double first = 100;
    for (int64_t i = 0; i < f->count; i++) {
        if ((double)f->vertex[i].false_accepts > 1e-6 * (double)f->roc->impostors)
            break;
        first = 100.0 * (double)f->vertex[i].true_accepts / (double)f->roc->genuine;
    }
    return fmin(90, fmax(0, 10 * floor(first / 10 - 0.2)));
}

static void grid_line(cairo_t *cr, double x0, double y0, double x1, double y1,
                      double level)
{
    cairo_set_source_rgb(cr, level, level, level);
    cairo_set_line_width(cr, 0.6);
    cairo_move_to(cr, x0, y0);
    cairo_line_to(cr, x1, y1);
    cairo_stroke(cr);
}

/* "10⁻⁴" */
static void draw_power(cairo_t *cr, double x, double y, int exponent)
{
    static const char *const digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶"};
    char text[32];
    if (exponent == 0)
        snprintf(text, sizeof text, "1");
    else
        snprintf(text, sizeof text, "10⁻%s", digits[-exponent]);
    ff_text_draw(cr, x, y, 0.5, text, TICK, FF_TEXT_PLAIN);
}

static void draw_axes(cairo_t *cr, const struct figure *f)
{
    double bottom = TOP + HEIGHT, right = LEFT + WIDTH;
    double x = place_x(1 / (double)f->roc->impostors);
    if (x > LEFT) {
        cairo_set_source_rgb(cr, 0.955, 0.955, 0.955);
        cairo_rectangle(cr, LEFT, TOP, fmin(x, right) - LEFT, HEIGHT);
        cairo_fill(cr);
    }
    for (int d = -FAR_DECADES; d <= 0; d++) {
        for (int m = 2; m <= 9 && d < 0; m++) {
            x = place_x(m * pow(10, d));
            grid_line(cr, x, TOP, x, bottom, 0.95);
        }
        x = place_x(pow(10, d));
        grid_line(cr, x, TOP, x, bottom, 0.86);
        cairo_set_source_rgb(cr, 0, 0, 0);
        draw_power(cr, x, bottom + 12, d);
    }
    double step = ff_figure_tick_step(100 - f->low, 10);
    for (double k = ceil(f->low / step); k * step <= 100; k++) {
        char text[32];
        double y = place_y(f, k * step);
        grid_line(cr, LEFT, y, right, y, 0.86);
        snprintf(text, sizeof text, "%g", k * step);
        cairo_set_source_rgb(cr, 0, 0, 0);
        ff_text_draw(cr, LEFT - 6, y, 1, text, TICK, FF_TEXT_PLAIN);
    }
}

struct spot {
    double x, y;
};

static struct spot spot_of(const struct figure *f, int64_t vertex)
{
    const struct ff_roc_vertex *v = &f->vertex[vertex];
    return (struct spot){
        place_x((double)v->false_accepts / (double)f->roc->impostors),
        place_y(f, 100.0 * (double)v->true_accepts / (double)f->roc->genuine)};
}

static void draw_curve(cairo_t *cr, const struct figure *f)
{
    struct spot last = {0, 0};
    for (int64_t i = 0; i < f->count; i++) {
        struct spot at = spot_of(f, i);
        if (i == 0)
            cairo_move_to(cr, at.x, at.y);
        else if (i + 1 < f->count && fabs(at.x - last.x) < SAME_SPOT &&
                 fabs(at.y - last.y) < SAME_SPOT)
            continue;
        else
            cairo_line_to(cr, at.x, at.y);
        last = at;
    }
    cairo_set_source_rgb(cr, 0.12, 0.35, 0.55);
    cairo_set_line_width(cr, 1.4);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
    cairo_stroke(cr);
}

struct box {
    double x, y, width; /* upper left corner */
};

/* Does the curve pass through a label's box, or touch it? */
static bool curve_meets(const struct figure *f, const struct box *b)
{
    double left = b->x - CLEAR, right = b->x + b->width + CLEAR;
    for (int64_t i = 1; i < f->count; i++) {
        struct spot from = spot_of(f, i - 1), to = spot_of(f, i);
        if (to.x < left || from.x > right)
            continue;
        double slope = to.x > from.x ? (to.y - from.y) / (to.x - from.x) : 0;
        from.y += slope * fmax(0, left - from.x);
        to.y -= slope * fmax(0, to.x - right);
        if (from.y > b->y - CLEAR && to.y < b->y + LABEL_HEIGHT + CLEAR)
            return true;
    }
    return false;
}

static bool boxes_meet(const struct box *a, const struct box *b)
{
    return a->x < b->x + b->width && b->x < a->x + a->width &&
           fabs(a->y - b->y) < LABEL_HEIGHT;
}

static bool clear_box(const struct figure *f, const struct box *before, int count,
                      const struct box *b)
{
    for (int k = 0; k < count; k++)
        if (boxes_meet(b, &before[k]))
            return false;
    return b->x > LEFT && b->x + b->width < LEFT + WIDTH && b->y > TOP &&
           b->y + LABEL_HEIGHT < TOP + HEIGHT && !curve_meets(f, b);
}

/* Where a dot's value stands, within the panel and clear of the curve and of the
 * `count` values before it: below to the right or above to the left, where a curve that
 * never falls does not come, else on the other sides, else farther up or down. */
static struct box place_label(const struct figure *f, const struct box *before,
                              int count, struct spot dot, double width)
{
    double left = dot.x - 5 - width, right = dot.x + 5;
    double above = dot.y - 3 - LABEL_HEIGHT, below = dot.y + 3;
    const struct box places[] = {{right, below, width},
                                 {left, above, width},
                                 {right, above, width},
                                 {left, below, width}};
    for (int i = 0; i < 4; i++)
        if (clear_box(f, before, count, &places[i]))
            return places[i];
    struct box b = {fmin(right, LEFT + WIDTH - width - 1), 0, width};
    for (int away = 0; away < HEIGHT; away += 3) {
        b.y = above - away;
        if (clear_box(f, before, count, &b))
            return b;
        b.y = below + away;
        if (clear_box(f, before, count, &b))
            return b;
    }
    b.y = fmin(below, TOP + HEIGHT - LABEL_HEIGHT - 1);
    return b;
}

/* Dots, and their values where they cover no part of the curve. */
static void draw_values(cairo_t *cr, const struct figure *f)
{
    struct box boxes[FF_EVAL_MAX_FAR];
    int count = 0;
    for (int k = 0; k < f->tar_count; k++) {
        const struct ff_roc_point *p = &f->tar[k];
        struct spot dot = {place_x(p->far), place_y(f, 100 * p->tar)};
        char text[32];
        if (dot.x < LEFT || dot.y > TOP + HEIGHT + 1)
            continue;
        cairo_arc(cr, dot.x, dot.y, 2.6, 0, 6.283185307179586);
        cairo_set_source_rgb(cr, 0.70, 0.09, 0.17);
        cairo_fill(cr);
        snprintf(text, sizeof text, "%.2f", 100 * p->tar);
        double width = ff_text_width(cr, text, TICK, FF_TEXT_PLAIN) + 2;
        struct box b = boxes[count] = place_label(f, boxes, count, dot, width);
        count++;
        cairo_rectangle(cr, b.x, b.y, b.width, LABEL_HEIGHT);
        cairo_set_source_rgba(cr, 1, 1, 1, 0.8);
        cairo_fill(cr);
        cairo_set_source_rgb(cr, 0.15, 0.15, 0.15);
        ff_text_draw(cr, b.x + 1, b.y + LABEL_HEIGHT / 2.0, 0, text, TICK,
                     FF_TEXT_PLAIN);
    }
}

static void paint(cairo_t *cr, const void *what)
{
    const struct figure *f = what;
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_paint(cr);
    cairo_set_source_rgb(cr, 0, 0, 0);
    double natural = ff_text_width(cr, f->title, 13, FF_TEXT_BOLD);
    ff_text_draw(cr, LEFT + WIDTH / 2.0, TOP / 2.0, 0.5, f->title,
                 fmin(13, 13 * (WIDTH - 8) / fmax(natural, 1)), FF_TEXT_BOLD);
    draw_axes(cr, f);
    cairo_save(cr);
    cairo_rectangle(cr, LEFT, TOP - 2, WIDTH, HEIGHT + 4);
    cairo_clip(cr);
    draw_curve(cr, f);
    cairo_restore(cr);
    draw_values(cr, f);
    cairo_set_source_rgb(cr, 0, 0, 0);
    cairo_set_line_width(cr, 0.8);
    cairo_rectangle(cr, LEFT, TOP, WIDTH, HEIGHT);
    cairo_stroke(cr);
    ff_text_draw(cr, LEFT + WIDTH / 2.0, TOP + HEIGHT + 32, 0.5, "FAR", TICK + 1,
                 FF_TEXT_PLAIN);
    ff_text_draw_up(cr, 16, TOP + HEIGHT / 2.0, 0.5, "TAR (%)", TICK + 1,
                    FF_TEXT_PLAIN);
}

static int write_csv(const char *path, const struct figure *f, struct ff_err *err)
{
    struct ff_atomic_file file;
    int rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    fprintf(file.stream, "far,tar,threshold\n");
    for (int64_t i = 0; i < f->count; i++) {
        const struct ff_roc_vertex *v = &f->vertex[i];
        fprintf(file.stream, "%.9g,%.9g,%.9g\n",
                (double)v->false_accepts / (double)f->roc->impostors,
                (double)v->true_accepts / (double)f->roc->genuine, v->threshold);
    }
    rc = ff_atomic_commit(&file, err);
    if (rc)
        ff_atomic_abort(&file);
    return rc;
}

int ff_roc_write(const char *path, const struct ff_roc *roc, const char *title,
                 const struct ff_roc_point *tar, int n, struct ff_err *err)
{
    struct figure figure = {.roc = roc, .tar = tar, .tar_count = n, .title = title};
    struct ff_roc_vertex *vertex;
    enum kind kind = kind_of(path);
    int rc = ff_roc_check_path(path, err);
    if (!rc)
        rc = ff_roc_vertices(&vertex, &figure.count, roc, err);
    if (rc)
        return rc;
    figure.vertex = vertex;
    figure.low = lower_edge(&figure);
    if (kind == CSV)
        rc = write_csv(path, &figure, err);
    else
        rc = ff_figure_write(path, kind == PNG, LEFT + WIDTH + RIGHT,
                             TOP + HEIGHT + BOTTOM, SCALE, paint, &figure, err);
    free(vertex);
    return rc;
}
