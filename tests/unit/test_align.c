/* SPDX-License-Identifier: MIT */
/* Alignment: closed-form similarity, and the warp against crops made by OpenCV 4.6
 * (tests/tools/make_opencv_warp.py). */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "align.h"
#include "atomic_file.h"

#define SIDE 32

TestSuite(align);

/* The picture of make_opencv_warp.py. */
static struct ff_image make_picture(void)
{
    struct ff_image image = {70, 50, malloc(70 * 50 * 3)};
    for (int y = 0; y < 50; y++)
        for (int x = 0; x < 70; x++)
            for (int c = 0; c < 3; c++)
                image.rgb[3 * (70 * y + x) + c] =
                    (uint8_t)((x * 37 + y * 91 + c * 53 + x * y) % 251);
    return image;
}

Test(align, warp_equals_opencv_bit_for_bit)
{
    static const double m[3][2][3] = {
        {{0.61, -0.17, 3.25}, {0.17, 0.61, -6.5}},
        {{1.7312, 0.4021, -40.127}, {-0.4021, 1.7312, -21.73}},
        {{-0.45, 0.2, 34.0}, {0.2, 0.45, 2.0}},
    };
    const char *tests = getenv("FF_TESTS");
    char path[FF_PATH_MAX], *expected;
    size_t bytes;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/fixtures/opencv_warp.u8", tests ? tests : "tests");
    cr_assert(eq(int, ff_read_file(&expected, &bytes, path, &err), 0), "%s", err.text);
    cr_assert(eq(sz, bytes, 3 * SIDE * SIDE * 3));
    struct ff_image image = make_picture();
    for (int k = 0; k < 3; k++) {
        uint8_t crop[SIDE * SIDE * 3];
        int differ = 0;
        ff_align_warp(crop, SIDE, &image, m[k]);
        for (size_t i = 0; i < sizeof crop; i++)
            differ += crop[i] != (uint8_t)expected[(size_t)k * sizeof crop + i];
        cr_assert(eq(int, differ, 0), "matrix %d: %d samples differ", k, differ);
    }
    ff_image_fini(&image);
    free(expected);
}

Test(align, identity_copies_and_outside_is_black)
{
    static const double identity[2][3] = {{1, 0, 0}, {0, 1, 0}};
    static const double shifted[2][3] = {{1, 0, 5}, {0, 1, 7}};
    struct ff_image image = make_picture();
    uint8_t crop[SIDE * SIDE * 3];
    ff_align_warp(crop, SIDE, &image, identity);
    for (int y = 0; y < SIDE; y++)
        cr_assert(
            eq(int, memcmp(crop + 3 * SIDE * y, image.rgb + 3 * 70 * y, 3 * SIDE), 0));
    ff_align_warp(crop, SIDE, &image, shifted);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < 3; c++) {
                int want =
                    x < 5 || y < 7 ? 0 : image.rgb[3 * (70 * (y - 7) + x - 5) + c];
                cr_assert(eq(int, crop[3 * (SIDE * y + x) + c], want));
            }
    ff_image_fini(&image);
}

/* Points that the similarity (a, b, tx, ty) maps to the template of a side. */
static void points_for(float point[5][2], double a, double b, double tx, double ty,
                       int side)
{
    double det = a * a + b * b;
    for (int i = 0; i < 5; i++) {
        double u = ff_align_template[i][0] * side / 112 - tx;
        double v = ff_align_template[i][1] * side / 112 - ty;
        point[i][0] = (float)((a * u + b * v) / det);
        point[i][1] = (float)((a * v - b * u) / det);
    }
}

Test(align, similarity_is_recovered)
{
    static const int sides[] = {112, 64, 224};
    for (int k = 0; k < 3; k++) {
        float point[5][2];
        double m[2][3];
        points_for(point, 0.83, -0.31, 12.5, -40.25, sides[k]);
        cr_assert(eq(int, ff_align_similarity(m, point, sides[k], NULL), 0));
        cr_assert(epsilon_eq(dbl, m[0][0], 0.83, 1e-5));
        cr_assert(epsilon_eq(dbl, m[0][1], 0.31, 1e-5));
        cr_assert(epsilon_eq(dbl, m[1][0], -0.31, 1e-5));
        cr_assert(epsilon_eq(dbl, m[1][1], 0.83, 1e-5));
        cr_assert(epsilon_eq(dbl, m[0][2], 12.5, 2e-3));
        cr_assert(epsilon_eq(dbl, m[1][2], -40.25, 2e-3));
    }
}

/* Sum of squared distances to the template. */
static double residual(const double m[2][3], const float point[5][2])
{
    double sum = 0;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 2; k++) {
            double d = m[k][0] * (double)point[i][0] + m[k][1] * (double)point[i][1] +
                       m[k][2] - ff_align_template[i][k];
            sum += d * d;
        }
    return sum;
}

Test(align, similarity_is_the_least_squares_one)
{
    static const float point[5][2] = {{117.892f, 118.339f},
                                      {154.053f, 113.904f},
                                      {144.781f, 148.068f},
                                      {113.36f, 164.313f},
                                      {144.057f, 161.012f}};
    double m[2][3];
    cr_assert(eq(int, ff_align_similarity(m, point, 112, NULL), 0));
    double best = residual(m, point);
    for (int k = 0; k < 4; k++)
        for (int sign = -1; sign <= 1; sign += 2) {
            double other[2][3];
            memcpy(other, m, sizeof m);
            double step = sign * 1e-3;
            if (k == 0)
                other[0][0] += step, other[1][1] += step;
            else if (k == 1)
                other[0][1] -= step, other[1][0] += step;
            else
                other[k - 2][2] += step;
            cr_assert(lt(dbl, best, residual(other, point)));
        }
}

Test(align, degenerate_points_are_refused)
{
    static const float same[5][2] = {{7, 8}, {7, 8}, {7, 8}, {7, 8}, {7, 8}};
    float odd[5][2] = {{1, 2}, {3, 4}, {5, 6}, {7, 8}, {0, NAN}};
    double m[2][3];
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_align_similarity(m, same, 112, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "first point 7 8"), NULL));
    cr_assert(eq(int, ff_align_similarity(m, odd, 112, &err), FF_EDATA));
}

Test(align, far_away_points_give_black_not_a_crash)
{
    struct ff_image image = make_picture();
    uint8_t crop[SIDE * SIDE * 3];
    static const double huge[2][3] = {{1e-12, 0, 1e15}, {0, 1e-12, -1e15}};
    memset(crop, 9, sizeof crop);
    ff_align_warp(crop, SIDE, &image, huge);
    for (size_t i = 0; i < sizeof crop; i++)
        cr_assert(eq(int, crop[i], 0));
    ff_image_fini(&image);
}
