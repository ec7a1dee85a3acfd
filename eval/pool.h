/* SPDX-License-Identifier: MIT */
/* Image features to template features. */
#ifndef FF_POOL_H
#define FF_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "ijb_meta.h"

/* The three switches of the protocol; all true by default. */
struct ff_pool_switches {
    bool flip; /* original + flipped; off = original alone */
    bool norm; /* keep the length as a quality weight; off = unit length per image */
    bool det;  /* times the detector score; off = 1 */
};

/* templates (T, D) f32: mean over the images of one (template, media), sum over media,
 * L2-normalised; a template of zero length stays zero. features (rows, 2 * D) f32;
 * row[i] is the features row of meta image i. An image whose row is all zero has no
 * picture: it counts in *missing and not in the mean. Sums run in double in a fixed
 * order, so any number of threads gives the same bits. Matches image2template_feature
 * of insightface's eval_ijbc.py. FF_EDATA for a feature that is not finite, naming the
 * image. */
int ff_pool_templates(float *templates, int64_t *missing, const float *features,
                      int dim, const int64_t *row, const struct ff_ijb_meta *meta,
                      struct ff_pool_switches switches, int threads,
                      struct ff_err *err);

#endif
