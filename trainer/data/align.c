/* SPDX-License-Identifier: MIT */
/* Alignment of faces; see align.h.
 *
 * The warp repeats OpenCV's fixed-point arithmetic: the inverse map is evaluated per
 * axis in 1/1024 px, the sums are cut to 1/32 px, and the four neighbours are mixed
 * with weights that sum to 32768. A weight is a product of two multiples of 1/32, hence
 * an exact multiple of 1/1024: 32768 * weight needs no rounding. */
#include "align.h"

#include <math.h>
#include <string.h>

#define COORD_BITS 10                         /* fixed-point coordinates */
#define FRACTION_BITS 5                       /* kept for interpolation */
#define CUT_BITS (COORD_BITS - FRACTION_BITS) /* dropped */
#define FRACTION (1 << FRACTION_BITS)
#define WEIGHT_BITS (2 * FRACTION_BITS) /* of exact products */
#define COORD_LIMIT 1073741824.0        /* 2^30: sums of two stay far inside 64 bits */

/* The published script adds 8 px to a 96 px wide template in f32; so do we. */
#define WIDEN 8.0f

const double ff_align_template[5][2] = {
    {30.2946f + WIDEN, 51.6963f}, {65.5318f + WIDEN, 51.5014f},
    {48.0252f + WIDEN, 71.7366f}, {33.5493f + WIDEN, 92.3655f},
    {62.7299f + WIDEN, 92.2041f},
};

int ff_align_similarity(double m[2][3], const float point[5][2], int side_px,
                        struct ff_err *err)
{
    double scale = side_px / 112.0;
    double from[2] = {0, 0}, to[2] = {0, 0};
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 2; k++) {
            from[k] += point[i][k] / 5.0;
            to[k] += ff_align_template[i][k] * scale / 5;
        }
    }
    double spread = 0, cosine = 0, sine = 0;
    for (int i = 0; i < 5; i++) {
        double x = point[i][0] - from[0], y = point[i][1] - from[1];
        double u = ff_align_template[i][0] * scale - to[0];
        double v = ff_align_template[i][1] * scale - to[1];
        spread += x * x + y * y;
        cosine += x * u + y * v;
        sine += x * v - y * u;
    }
    double a = cosine / spread, b = sine / spread;
    if (!(spread > 0) || !isfinite(a) || !isfinite(b) || (a == 0 && b == 0)) {
        return ff_err_set(err, FF_EDATA,
                          "landmarks allow no alignment (first point %g %g)",
                          (double)point[0][0], (double)point[0][1]);
    }
    m[0][0] = a, m[0][1] = -b, m[0][2] = to[0] - a * from[0] + b * from[1];
    m[1][0] = b, m[1][1] = a, m[1][2] = to[1] - b * from[0] - a * from[1];
    return 0;
}

/* Fixed-point coordinate, half to even, limited. */
static int64_t fixed(double px)
{
    double value = px * (1 << COORD_BITS);
    return llrint(fmin(fmax(value, -COORD_LIMIT), COORD_LIMIT));
}

/* One sample position whose four neighbours may lie outside. */
static void sample_border(uint8_t *dst, const struct ff_image *image, int64_t x,
                          int64_t y, const int weight[4])
{
    int sum[3] = {0, 0, 0};
    for (int k = 0; k < 4; k++) {
        int64_t xx = x + (k & 1), yy = y + (k >> 1);
        if (xx < 0 || yy < 0 || xx >= image->width_px || yy >= image->height_px)
            continue;
        const uint8_t *src = image->rgb + 3 * (yy * image->width_px + xx);
        for (int c = 0; c < 3; c++)
            sum[c] += src[c] * weight[k];
    }
    for (int c = 0; c < 3; c++)
        dst[c] = (uint8_t)((sum[c] + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS);
}

void ff_align_warp(uint8_t *dst, int side_px, const struct ff_image *image,
                   const double m[2][3])
{
    double det = m[0][0] * m[1][1] - m[0][1] * m[1][0];
    det = det != 0 ? 1 / det : 0;
    double ixx = m[1][1] * det, iyy = m[0][0] * det;
    double ixy = m[0][1] * -det, iyx = m[1][0] * -det;
    double ix = -ixx * m[0][2] - ixy * m[1][2];
    double iy = -iyx * m[0][2] - iyy * m[1][2];
    size_t stride = 3 * (size_t)image->width_px;
    for (int row = 0; row < side_px; row++) {
        int64_t x0 = fixed(ixy * row + ix) + (1 << (CUT_BITS - 1));
        int64_t y0 = fixed(iyy * row + iy) + (1 << (CUT_BITS - 1));
        for (int col = 0; col < side_px; col++, dst += 3) {
            int64_t x = (x0 + fixed(ixx * col)) >> CUT_BITS;
            int64_t y = (y0 + fixed(iyx * col)) >> CUT_BITS;
            int fx = (int)(x & (FRACTION - 1)), fy = (int)(y & (FRACTION - 1));
            x >>= FRACTION_BITS;
            y >>= FRACTION_BITS;
            int weight[4] = {(FRACTION - fy) * (FRACTION - fx), (FRACTION - fy) * fx,
                             fy * (FRACTION - fx), fy * fx};
            if (x < 0 || y < 0 || x >= image->width_px - 1 ||
                y >= image->height_px - 1) {
                sample_border(dst, image, x, y, weight);
                continue;
            }
            const uint8_t *src = image->rgb + (size_t)y * stride + 3 * (size_t)x;
            for (int c = 0; c < 3; c++) {
                int sum = src[c] * weight[0] + src[c + 3] * weight[1] +
                          src[stride + (size_t)c] * weight[2] +
                          src[stride + (size_t)c + 3] * weight[3];
                dst[c] = (uint8_t)((sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS);
            }
        }
    }
}

int ff_align_face(uint8_t *dst, int side_px, const struct ff_image *image,
                  const float point[5][2], struct ff_err *err)
{
    double m[2][3];
    int rc = ff_align_similarity(m, point, side_px, err);
    if (!rc)
        ff_align_warp(dst, side_px, image, m);
    return rc;
}
