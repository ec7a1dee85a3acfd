/* SPDX-License-Identifier: MIT */
/* Five facial points to an aligned crop: similarity transform and bilinear warp. */
#ifndef FF_ALIGN_H
#define FF_ALIGN_H

#include <stdint.h>

#include "err.h"
#include "image.h"

/* (5) eyes, nose, mouth corners in px of a 112 x 112 crop (insightface's template). */
extern const double ff_align_template[5][2];

/* Least-squares similarity (rotation, uniform scale, translation, no mirroring) from
 * `point` (5) to the template scaled by side_px / 112: m = [a -b tx; b a ty] maps loose
 * crop px to aligned px. Umeyama 1991, eq. 40-43 in closed form for two dimensions, in
 * double; matches scikit-image's SimilarityTransform.estimate. FF_EDATA if the points
 * coincide or are not finite. */
int ff_align_similarity(double m[2][3], const float point[5][2], int side_px,
                        struct ff_err *err);

/* dst (side, side, 3) u8 = image warped by m, bilinear, black outside. Equals OpenCV
 * 4.6's warpAffine(image, m, (side, side), borderValue=0) sample by sample: coordinates
 * in 10-bit fixed point rounded to 1/32 px, 15-bit weights. */
void ff_align_warp(uint8_t *dst, int side_px, const struct ff_image *image,
                   const double m[2][3]);

/* Both steps. */
int ff_align_face(uint8_t *dst, int side_px, const struct ff_image *image,
                  const float point[5][2], struct ff_err *err);

#endif
