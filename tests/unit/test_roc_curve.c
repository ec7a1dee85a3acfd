/* SPDX-License-Identifier: MIT */
/* The whole curve: vertices against every point of it, and the three files. */
#include <cairo.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "rng.h"
#include "roc_curve.h"

enum { PAIRS = 4000 };
static float score[PAIRS];
static uint8_t genuine[PAIRS];
static double lift = 2; /* of genuine scores */

static struct ff_roc *make(double step)
{
    struct ff_roc *roc;
    for (int i = 0; i < PAIRS; i++) {
        genuine[i] = i % 40 == 0;
        double v = ff_rng_normal(4, 1, (uint64_t)i) + lift * genuine[i];
        score[i] = (float)(step > 0 ? step * floor(v / step) : v);
    }
    cr_assert(eq(int, ff_roc_create(&roc, score, genuine, PAIRS, 1, NULL), 0));
    return roc;
}

TestSuite(roc_curve);

/* Counts with a score of at least `threshold`. */
static void count(int64_t *wrong, int64_t *right, double threshold)
{
    *wrong = *right = 0;
    for (int i = 0; i < PAIRS; i++) {
        *right += genuine[i] && (double)score[i] >= threshold;
        *wrong += !genuine[i] && (double)score[i] >= threshold;
    }
}

Test(roc_curve, vertices_are_points_and_lines_between_hold_all_others)
{
    for (int ties = 0; ties < 2; ties++) {
        struct ff_roc *roc = make(ties ? 0.125 : 0);
        struct ff_roc_vertex *v;
        int64_t n, wrong, right;
        cr_assert(eq(int, ff_roc_vertices(&v, &n, roc, NULL), 0));
        cr_assert(lt(i64, n, ties ? 80 : 3 * PAIRS / 40));
        cr_assert(eq(i64, v[0].false_accepts + v[0].true_accepts, 0));
        cr_assert(eq(i64, v[n - 1].false_accepts, roc->impostors));
        cr_assert(eq(i64, v[n - 1].true_accepts, roc->genuine));
        for (int64_t k = 0; k < n; k++) {
            count(&wrong, &right, v[k].threshold);
            cr_assert(eq(i64, v[k].false_accepts, wrong));
            cr_assert(eq(i64, v[k].true_accepts, right));
        }
        for (int i = 0, k = 0; i < PAIRS; i++) {
            count(&wrong, &right, (double)ff_roc_score(roc->sorted[i]));
            while (v[k + 1].false_accepts + v[k + 1].true_accepts < wrong + right)
                k++;
            int64_t dx = v[k + 1].false_accepts - v[k].false_accepts;
            int64_t dy = v[k + 1].true_accepts - v[k].true_accepts;
            cr_assert(eq(i64, (wrong - v[k].false_accepts) * dy,
                         (right - v[k].true_accepts) * dx));
        }
        free(v);
        ff_roc_destroy(roc);
    }
}

static void write_all(const char *folder, const struct ff_roc *roc)
{
    static const char *const names[3] = {"c.csv", "c.png", "c.svg"};
    static const double far[4] = {1e-6, 1e-4, 1e-2, 1};
    struct ff_roc_point tar[4];
    struct ff_err err = FF_ERR_INIT;
    char path[FF_PATH_MAX];
    ff_roc_tar(tar, roc, far, 4);
    for (int k = 0; k < 3; k++) {
        ff_path(path, NULL, "%s/%s", folder, names[k]);
        cr_assert(eq(int, ff_roc_write(path, roc, "a curve", tar, 4, &err), 0), "%s",
                  err.text);
    }
}

/* Pixels of the curve's blue in the panel, by column. */
static int blue_columns(const char *path)
{
    cairo_surface_t *surface = cairo_image_surface_create_from_png(path);
    cr_assert(eq(int, cairo_surface_status(surface), CAIRO_STATUS_SUCCESS));
    int stride = cairo_image_surface_get_stride(surface), columns = 0;
    const unsigned char *data = cairo_image_surface_get_data(surface);
    for (int x = 0; x < cairo_image_surface_get_width(surface); x++) {
        int found = 0;
        for (int y = 0; y < cairo_image_surface_get_height(surface); y++) {
            const unsigned char *p = data + (size_t)y * (size_t)stride + 4 * x;
            found |= p[0] > p[2] + 60 && p[0] < 180; /* stored blue, green, red */
        }
        columns += found;
    }
    cairo_surface_destroy(surface);
    return columns;
}

/* Pixels that are the curve's in one picture and of a light ground in the other. */
static int covered(const char *bare, const char *labelled)
{
    cairo_surface_t *a = cairo_image_surface_create_from_png(bare);
    cairo_surface_t *b = cairo_image_surface_create_from_png(labelled);
    int count = 0, curve = 0;
    for (int y = 0; y < cairo_image_surface_get_height(a); y++)
        for (int x = 0; x < cairo_image_surface_get_width(a); x++) {
            size_t at = (size_t)y * (size_t)cairo_image_surface_get_stride(a) + 4 * x;
            const unsigned char *p = cairo_image_surface_get_data(a) + at;
            const unsigned char *q = cairo_image_surface_get_data(b) + at;
            bool blue = p[0] > p[2] + 60 && p[0] < 180;
            curve += blue;
            count += blue && q[0] > 150 && q[1] > 150 && q[2] > 150;
        }
    cr_assert(lt(int, 1000, curve));
    cairo_surface_destroy(a);
    cairo_surface_destroy(b);
    return count;
}

Test(roc_curve, values_cover_no_part_of_it)
{
    static const double far[8] = {1e-6, 1e-5, 1e-4, 2.6e-4, 1e-3, 1e-2, 1e-1, 1};
    char folder[] = "/tmp/ff_curve_XXXXXX", bare[FF_PATH_MAX], labelled[FF_PATH_MAX];
    struct ff_roc_point tar[8];
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(bare, NULL, "%s/bare.png", folder);
    ff_path(labelled, NULL, "%s/labelled.png", folder);
    for (lift = 0; lift < 6; lift += 0.5)
        for (int ties = 0; ties < 2; ties++) {
            struct ff_roc *roc = make(ties ? 0.5 : 0);
            ff_roc_tar(tar, roc, far, 8);
            cr_assert(eq(int, ff_roc_write(bare, roc, "x", NULL, 0, NULL), 0));
            cr_assert(eq(int, ff_roc_write(labelled, roc, "x", tar, 8, NULL), 0));
            cr_assert(eq(int, covered(bare, labelled), 0), "lift %g, ties %d", lift,
                      ties);
            ff_roc_destroy(roc);
        }
    ff_remove_tree(folder, NULL);
}

Test(roc_curve, files_hold_the_curve)
{
    char folder[] = "/tmp/ff_curve_XXXXXX", path[FF_PATH_MAX], *text;
    size_t size;
    struct ff_roc *roc = make(0);
    struct ff_roc_vertex *v;
    int64_t n;
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    write_all(folder, roc);
    cr_assert(eq(int, ff_roc_vertices(&v, &n, roc, NULL), 0));
    ff_path(path, NULL, "%s/c.csv", folder);
    FILE *f = fopen(path, "r");
    char line[128];
    cr_assert(ne(ptr, fgets(line, sizeof line, f), NULL));
    cr_assert(eq(str, line, "far,tar,threshold\n"));
    for (int64_t k = 0; k < n; k++) {
        double x, y, t;
        cr_assert(eq(int, fscanf(f, "%lf,%lf,%lf\n", &x, &y, &t), 3));
        cr_assert(epsilon_eq(
            dbl, x, (double)v[k].false_accepts / (double)roc->impostors, 1e-9));
        cr_assert(
            epsilon_eq(dbl, y, (double)v[k].true_accepts / (double)roc->genuine, 1e-9));
        if (k == 0)
            cr_assert(isinf(t));
        else
            cr_assert(epsilon_eq(dbl, t, v[k].threshold, 1e-7));
    }
    fclose(f);
    /* The curve crosses the panel of 920 pixels. */
    ff_path(path, NULL, "%s/c.png", folder);
    cr_assert(ge(int, blue_columns(path), 800)); /* the rest lies under the frame */
    ff_path(path, NULL, "%s/c.svg", folder);
    cr_assert(eq(int, ff_read_file(&text, &size, path, NULL), 0));
    cr_assert(ne(ptr, strstr(text, "<svg"), NULL));
    cr_assert(ne(ptr, strstr(text, "glyph"), NULL)); /* letters as shapes, no font */
    free(text);
    free(v);
    ff_roc_destroy(roc);
    ff_remove_tree(folder, NULL);
}

Test(roc_curve, other_endings_and_folders_that_are_not_there_are_refused)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_roc *roc = make(0);
    static const char *const bad[4] = {"x.pdf", "csv", ".png", ""};
    for (int k = 0; k < 4; k++) {
        cr_assert(eq(int, ff_roc_check_path(bad[k], &err), FF_EUSAGE), "%s", bad[k]);
        cr_assert(eq(int, ff_roc_write(bad[k], roc, "x", NULL, 0, &err), FF_EUSAGE));
    }
    static const char *const nowhere[3] = {"/nowhere/x.csv", "/nowhere/x.png",
                                           "/nowhere/x.svg"};
    for (int k = 0; k < 3; k++)
        cr_assert(eq(int, ff_roc_write(nowhere[k], roc, "x", NULL, 0, &err), FF_EFAIL));
    ff_roc_destroy(roc);
}
